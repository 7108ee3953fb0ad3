"""The noise of the scanner, apart from the material: the last layer of a generator, without weights.

A network that must draw noise pixel by pixel draws stripes and a grid in its place. So the network draws the
specimen alone, and Gaussian noise is added before anything looks at the image: critic, physical loss,
validation, filter (AmbientGAN: a model of the scanner stands between generator and critic).

The noise comes from random numbers of its own, one a pixel, which a fixed filter colours:
`microgan.gan.noise_filter` measures it.

References
----------
Bora, Price, Dimakis: AmbientGAN: generative models from lossy measurements, ICLR 2018.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle

REACH_PX = 8  # of the filter: how far noise is correlated


class ScannerNoise(nn.Module):
    """Adds noise to clean images: (B, 1, H, W), and white noise (B, C^2, h, w) of C x C pixels a cell.

    Attributes
    ----------
    filter
        Colours white noise, (2 REACH_PX + 1, 2 REACH_PX + 1); the sum of its squares is the variance.
    """

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        side = 2 * REACH_PX + 1
        self.register_buffer("filter", torch.zeros(side, side))

    def forward(self, clean: Tensor, white: Tensor) -> Tensor:
        """Return images as scanned, (B, 1, H, W), in [-1, 1]; ``white`` reaches `REACH_PX` beyond them."""
        cell_px = round(white.shape[1] ** 0.5)
        noise = conv2d(pixel_shuffle(white, cell_px).contiguous(), self.filter[None, None])
        return (clean + noise).clamp(-1, 1)
