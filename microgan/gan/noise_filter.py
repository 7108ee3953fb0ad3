"""The filter of the scanner's noise, measured inside the discs of a scan.

What fluctuates inside a disc, whose own mean is taken out, is noise and, in part, the material's texture. How
large the part of the noise is cannot be read off one scan; it is the parameter ``train.scanner_noise``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.gan.scanner_noise import REACH_PX

GRID_PX = 32  # of the spectrum
LAGS_PX = 5  # at which the noise inside a disc is measured
EDGE_PX = 1.5  # from the edge of a disc inwards, within which its edge is seen
LEAST_CORE_PX = 12  # pixels of a disc inside of that, for its mean


def noise_filter(windows: Tensor, circles: Sequence[Circles], share: float) -> Tensor:
    """Return the filter of `ScannerNoise` for a scan.

    Parameters
    ----------
    windows
        Real ones (N, 1, S, S), in [-1, 1].
    circles
        The discs of each.
    share
        Of the power inside discs that is noise; nowhere more than the power of whole windows.

    Raises
    ------
    UserError
        If windows are smaller than 32 px, or no disc is large enough to have an inside.
    """
    real = power_spectrum(windows)
    covariance = _covariance_inside(windows[:, 0], circles)
    placed = torch.zeros(GRID_PX, GRID_PX)
    lags = torch.arange(-LAGS_PX, LAGS_PX + 1)
    fading = (1 + torch.cos(torch.pi * lags / (LAGS_PX + 1))) / 2
    placed[lags[:, None] % GRID_PX, lags % GRID_PX] = covariance * fading[:, None] * fading
    power = torch.minimum((share * torch.fft.fft2(placed).real).clamp_min(0), real)
    taps = torch.fft.fftshift(torch.fft.ifft2(power.sqrt()).real)
    middle = slice(GRID_PX // 2 - REACH_PX, GRID_PX // 2 + REACH_PX + 1)
    return taps[middle, middle].contiguous()


def _covariance_inside(grey: Tensor, circles: Sequence[Circles]) -> Tensor:
    """Return the autocovariance inside discs less their means, (2 LAGS_PX + 1, 2 LAGS_PX + 1)."""
    side = grey.shape[-1]
    axis = torch.arange(float(side))
    label, residual = torch.zeros(grey.shape, dtype=torch.long), torch.zeros(grey.shape)
    for index, discs in enumerate(circles):
        for number, (row, col, radius) in enumerate(discs.table()[:, :3].tolist(), 1):
            core = torch.hypot(axis[:, None] - row, axis - col) < radius - EDGE_PX
            if int(core.sum()) >= LEAST_CORE_PX:
                residual[index][core] = grey[index][core] - grey[index][core].mean()
                label[index][core] = number
    if not (label > 0).any():
        rule = f"no disc has {LEAST_CORE_PX} pixels inside of its edge: give train.scanner_noise 0"
        raise UserError("scan", "discs too small to measure noise in", rule)
    covariance = torch.zeros(2 * LAGS_PX + 1, 2 * LAGS_PX + 1)
    for row in range(-LAGS_PX, LAGS_PX + 1):
        for col in range(-LAGS_PX, LAGS_PX + 1):
            moved = torch.roll(label, (row, col), (1, 2))
            same = (label > 0) & (moved == label)
            products = residual * torch.roll(residual, (row, col), (1, 2))
            covariance[row + LAGS_PX, col + LAGS_PX] = products[same].sum() / max(int(same.sum()), 1)
    return covariance


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
