"""The noise of the scanner, apart from the material: the last layer of a generator, without a network.

A network that must draw noise pixel by pixel draws stripes and a grid in its place. So the network draws the
specimen alone, and Gaussian noise is added to it before anything looks at the image: critic, physical loss,
validation, filter (as in AmbientGAN, where a model of the scanner stands between generator and critic).

The noise comes from random numbers of its own, one a pixel, which a filter colours. Its power spectrum is a
share of that of real windows, in each of a few bands of frequency. How much of what a scan shows is noise and
how much belongs to the material cannot be read off one scan, so the shares are learnt with the generator,
as is how far discs are noisier than the matrix: `BANDS` + 1 numbers. They begin where real windows have least
power: what is there at most of a noise that is equally strong at all frequencies.

References
----------
Bora, Price, Dimakis: AmbientGAN: generative models from lossy measurements, ICLR 2018.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle

from microgan.core.errors import UserError

BANDS = (
    8  # of frequency, from 0 to the corner of the spectrum, 0.71 a pixel; the share is linear between them
)
GRID_PX = 32  # of the spectrum
REACH_PX = 8  # of the filter: how far noise is correlated
SPEED = 10.0  # of learning, in units of the generator's: these few numbers must go far
SHARES = (3e-4, 0.9)  # of the power, at the start


class ScannerNoise(nn.Module):
    """Adds noise to clean images: (B, 1, H, W), and white noise (B, C^2, h, w) of C x C pixels a cell.

    Attributes
    ----------
    spectrum
        Power of real windows by frequency, (GRID_PX, GRID_PX); its mean is their variance.
    share
        For each band, the logit of noise over real power, over `SPEED`.
    contrast
        Logarithm of how much stronger noise is at a grey value of 1 than at 0, over `SPEED`.
    """

    spectrum: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spectrum", torch.zeros(GRID_PX, GRID_PX))
        self.register_buffer("bands", _bands(), persistent=False)
        self.share = nn.Parameter(torch.zeros(BANDS))
        self.contrast = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def begin(self, windows: Tensor) -> None:
        """Take the spectrum of real windows (N, 1, S, S), and the shares of a white noise below all of it."""
        self.spectrum.copy_(power_spectrum(windows))
        weight = self.bands / self.bands.sum((1, 2), keepdim=True)
        by_band = (weight * self.spectrum).sum((1, 2))
        share = (by_band.min() / by_band).clamp(*SHARES)
        self.share.copy_(share.logit() / SPEED)

    def forward(self, clean: Tensor, white: Tensor) -> Tensor:
        """Return images as scanned, (B, 1, H, W), in [-1, 1]; ``white`` reaches `REACH_PX` beyond them."""
        noise = conv2d(pixel_shuffle(white, _side(white)).contiguous(), self.filter()[None, None])
        return (clean + torch.exp(SPEED * self.contrast * clean) * noise).clamp(-1, 1)

    def filter(self) -> Tensor:
        """Return the filter that colours white noise, (2 REACH_PX + 1, 2 REACH_PX + 1)."""
        amplitude = self.power().clamp_min(1e-12).sqrt()
        taps = torch.fft.fftshift(torch.fft.ifft2(amplitude).real)
        middle = GRID_PX // 2
        return taps[middle - REACH_PX : middle + REACH_PX + 1, middle - REACH_PX : middle + REACH_PX + 1]

    def power(self) -> Tensor:
        """Return the power of the noise by frequency, (GRID_PX, GRID_PX), where the clean image is 0."""
        share = torch.sigmoid(SPEED * self.share)
        return self.spectrum * (share[:, None, None] * self.bands).sum(0)

    def figures(self) -> dict[str, float | list[float]]:
        """Return what was learnt: variance over that of windows, share by band, discs over matrix."""
        with torch.no_grad():
            return {
                "variance_share": float(self.filter().square().sum() / self.spectrum.mean()),
                "share_by_band": [float(share) for share in torch.sigmoid(SPEED * self.share)],
                "bright_over_dark": float(torch.exp(2 * SPEED * self.contrast)),
            }


def power_spectrum(windows: Tensor) -> Tensor:
    """Return the mean power of windows (N, 1, S, S) by frequency, (GRID_PX, GRID_PX), under a Hann window.

    Raises
    ------
    UserError
        If windows are smaller than the grid.
    """
    side = windows.shape[-1] // GRID_PX * GRID_PX
    if not side:
        raise UserError(
            "window_px", windows.shape[-1], f"must be at least {GRID_PX} with train.scanner_noise"
        )
    hann = torch.hann_window(side, periodic=True)
    taper = hann[:, None] * hann
    images = windows[:, 0, :side, :side]
    images = (images - images.mean((1, 2), keepdim=True)) * taper
    power = torch.fft.fft2(images).abs().square().mean(0) / taper.square().sum()
    return _coarser(_coarser(power, side // GRID_PX).T, side // GRID_PX).T.contiguous()


def _coarser(power: Tensor, step: int) -> Tensor:
    """Return every ``step``-th row, each a mean over its neighbours; the mean over all rows stays."""
    weighted = [(1 - abs(by) / step) / step * power.roll(by, 0) for by in range(1 - step, step)]
    return torch.stack(weighted).sum(0)[::step]


def _side(white: Tensor) -> int:
    return round(white.shape[1] ** 0.5)


def _bands() -> Tensor:
    """Weights of the bands by frequency, (BANDS, GRID_PX, GRID_PX): linear between them, 0 at frequency 0."""
    frequency = torch.fft.fftfreq(GRID_PX)
    place = torch.hypot(frequency[:, None], frequency) / (0.5 * 2**0.5) * BANDS
    return (1 - (place - torch.arange(1, BANDS + 1)[:, None, None]).abs()).clamp_min(0)
