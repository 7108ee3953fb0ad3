"""The circle Hough transform: an accumulator whose maxima are at the centres and radii of discs.

    n = grad(g_s * u) / sqrt(|grad|^2 + eps^2)      unit gradient; eps relative to the image's own contrast
    K_r(x) = -w_r(|x|) x / |x|                      ring kernel; w_r a unit-sum Gaussian annulus
    A_r = (n correlated with K_r) / (fraction of the ring inside the image)

A is near 1 at the centre of a bright disc of radius r.

`microgan.detection.ring` and `microgan.gan.soft_circles` look for the maxima; they call `unit_gradient` and
`correlate` one by one, as they also need what `smoothed` returns. The physical loss takes from the maxima
where its fits start, as constants: no derivative of the accumulator is used in training. `accumulate` is the
whole transform in one call, differentiable; no other module calls it.

Coordinates are (row, col) in pixels, pixel centres at integers.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.special import j0, j1
from torch import Tensor
from torch.nn import functional

from microgan.detection.detector import Polarity

CONTRAST_FRACTION = 0.5  # eps over the usual gradient on edges: weaker edges count less
GRADIENT_FLOOR = 1e-3  # grey per pixel, on [-1, 1]: what is fainter is no structure, and blank stays blank
LARGEST_CACHED_PX = 1 << 23  # of the accumulator: kernels of larger ones would fill the memory
TILE_PX = 96  # about the side of the parts of a large image; a window is one part
MIN_COVERAGE = 0.3  # fraction of a ring inside the image below which a disc cannot be judged


def accumulate(
    images: Tensor,
    radii_px: Tensor,
    polarity: Polarity = "bright",
    *,
    smoothing_px: float = 1.0,
    ring_width_px: float = 1.0,
    margin_px: int = 0,
    periodic: bool = False,
) -> Tensor:
    """Accumulate the evidence for discs, differentiably; near 1 at the centre of an ideal disc.

    Parameters
    ----------
    images : Tensor of shape (B, 1, H, W), float, grey values in [-1, 1]
    radii_px : Tensor of shape (R,)
    polarity : {"bright", "dark"}
        Of the discs; dark is bright of the negated image.
    smoothing_px, ring_width_px : float
        Standard deviations of the Gaussian before the gradient, and of the annulus.
    margin_px : int
        Also for centres up to this far outside the image.
    periodic : bool
        Opposite borders fit together; there is no outside then, and no margin.

    Returns
    -------
    Tensor of shape (B, R, H + 2 margin_px, W + 2 margin_px)

    Notes
    -----
    The correlation runs in Fourier space: measured twice as fast as `conv2d` at radii of 4 to 8 px, and its
    cost does not grow with the radius.

    References
    ----------
    .. [1] D. H. Ballard, "Generalizing the Hough transform to detect arbitrary shapes", Pattern
       Recognition 13 (1981) 111-122.
    .. [2] T. J. Atherton, D. J. Kerbyson, "Size invariant circle detection", Image and Vision Computing 17
       (1999) 795-803.
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images: shape {tuple(images.shape)}: must be (B, 1, H, W)")
    if periodic and margin_px:
        raise ValueError(f"margin_px: {margin_px}: must be 0 for periodic images")
    _, gradient = smoothed(images, smoothing_px, polarity, periodic)
    unit = unit_gradient(gradient)
    return correlate(unit, tuple(float(r) for r in radii_px), ring_width_px, margin_px, periodic)[0]


def smoothed(
    images: Tensor, sd_px: float, polarity: Polarity, periodic: bool = False
) -> tuple[Tensor, Tensor]:
    """Smooth by a Gaussian, discs bright (B, 1, H, W); and its gradient (B, 2, H, W), by row first."""
    reach = math.ceil(3 * sd_px)
    x = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    gauss = torch.exp(-0.5 * (x / sd_px) ** 2)
    gauss = gauss / gauss.sum()
    slope = x * gauss
    slope = slope / (slope * x).sum()  # a ramp of 1 grey per pixel has gradient 1
    grey = -images if polarity == "dark" else images
    grey = functional.pad(grey, (reach,) * 4, mode="circular" if periodic else "replicate")
    rows, cols = _along_axis(grey, gauss, -2), _along_axis(grey, gauss, -1)
    smooth = _along_axis(rows, gauss, -1)
    return smooth, torch.cat([_along_axis(cols, slope, -2), _along_axis(rows, slope, -1)], 1)


def _along_axis(grey: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Correlate along one axis; a sum of shifted images is twice as fast as `conv2d` of one channel."""
    length = grey.shape[axis] - len(weights) + 1
    total = grey.narrow(axis, 0, length) * weights[0]
    for shift, weight in enumerate(weights[1:].tolist(), 1):
        total = torch.add(total, grey.narrow(axis, shift, length), alpha=weight)
    return total


def unit_gradient(gradient: Tensor, usual_square: Tensor | None = None) -> Tensor:
    """Divide the gradient (B, 2, H, W) by about its length, faint ones by more.

    Against ``usual_square`` (B, 1, 1, 1), the usual squared gradient on edges; by default that of each image.
    """
    # The root of the sum of squares, unlike |grad| + eps, has a derivative where the gradient vanishes.
    square = gradient.square().sum(1, keepdim=True)
    usual_square = _edge_square(square) if usual_square is None else usual_square
    return gradient / (square + CONTRAST_FRACTION**2 * usual_square + GRADIENT_FLOOR**2).sqrt()


def _edge_square(square: Tensor, tiles: tuple[int, int] = (1, 1)) -> Tensor:
    """Return the usual squared gradient on edges (B, 1, h, w) of each tile, from that of pixels (B, 1, H, W).

    That is their mean weighted by themselves: the same however much of the image is empty.
    """
    if tiles == (1, 1):
        mean, mean_square = (values.mean((1, 2, 3), keepdim=True) for values in (square, square.square()))
    else:
        mean, mean_square = (
            functional.adaptive_avg_pool2d(values, tiles) for values in (square, square.square())
        )
    return mean_square / (mean + GRADIENT_FLOOR**2)


def usual_edge_square(gradient: Tensor) -> Tensor:
    """Return the usual squared gradient on edges (B, 1, 1, 1) of large images: the median of their parts.

    Else the edge of the field of view, against the black around it, would decide for a whole slice.
    """
    rows, cols = (max(1, n // TILE_PX) for n in gradient.shape[-2:])
    parts = _edge_square(gradient.square().sum(1, keepdim=True), (rows, cols)).flatten(1)
    parts = torch.where(parts > GRADIENT_FLOOR**2, parts, torch.nan)
    return parts.nanmedian(1).values.nan_to_num(0.0)[:, None, None, None]


class Lines(NamedTuple):
    """Rows or columns of the accumulator: where the first is in the image, their distance, and how many."""

    first_px: float
    pitch_px: float
    number: int


class _Rings(NamedTuple):
    """In Fourier space: the ring kernels (R, h, w//2+1) and the inward divergence, by row and col.

    ``shift`` (h, w//2+1) moves the accumulator's grid to the middle of the image. ``inverse_coverage``
    (R, h', w') is 1 / the fraction of each ring inside the image. ``size`` is that of the padded image,
    ``grid`` that of the accumulator.
    """

    kernels: Tensor
    by_row: Tensor
    by_col: Tensor
    shift: Tensor
    inverse_coverage: Tensor
    size: tuple[int, int]
    grid: tuple[int, int]


@lru_cache(maxsize=32)
def _rings(
    radii_px: tuple[float, ...],
    width_px: float,
    shape: tuple[int, int],
    margin_px: int,
    periodic: bool,
    spacing: float,
    reach_px: int,
    dtype: torch.dtype,
    device: torch.device,
) -> _Rings:
    """The transform of a ring of inward unit vectors is i k/|k| J1(|k| r), of a ring of ones J0(|k| r)."""
    size = shape if periodic else _padded(shape, margin_px, reach_px)
    grid = size if spacing == 1 else _fast(*(round(n / spacing) for n in size))
    lines = _lines(shape, margin_px, size, grid)
    row, col = (2 * math.pi * np.fft.fftfreq(n) for n in size)
    row, col = (
        np.concatenate([row[: grid[0] - grid[0] // 2], row[size[0] - grid[0] // 2 :]])[:, None],
        np.abs(col[None, : grid[1] // 2 + 1]),
    )
    shift = np.exp(
        1j * sum(k * (axis.first_px + margin_px) for k, axis in zip((row, col), lines, strict=True))
    )
    shift *= _has_both_signs(size, grid)
    wave = np.hypot(row, col)
    phase = wave * np.reshape(radii_px, (-1, 1, 1))
    blur = np.exp(-0.5 * (wave * width_px) ** 2) * (grid[0] * grid[1] / (size[0] * size[1]))

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device, dtype.to_complex() if np.iscomplexobj(values) else dtype)

    image = torch.zeros(size, dtype=dtype, device=device)
    image[margin_px : margin_px + shape[0], margin_px : margin_px + shape[1]] = 1
    spectrum = _lowest(torch.fft.rfft2(image), grid) * tensor(shift)
    coverage = torch.fft.irfft2(spectrum * tensor(j0(phase) * blur), s=grid)
    if periodic:
        coverage = torch.ones_like(coverage)
    steep = np.maximum(wave, 1e-9)
    return _Rings(
        tensor(j1(phase) * blur),
        tensor(row / steep),
        tensor(col / steep),
        tensor(-1j * shift),
        1 / coverage.clamp_min(MIN_COVERAGE),
        size,
        grid,
    )


def _lowest(spectrum: Tensor, grid: tuple[int, int]) -> Tensor:
    """The lowest frequencies of a real transform (..., h, w//2+1): those that a coarser grid has."""
    half = grid[0] // 2
    if grid[0] < spectrum.shape[-2]:
        spectrum = torch.cat([spectrum[..., : grid[0] - half, :], spectrum[..., -half:, :]], -2)
    return spectrum[..., : grid[1] // 2 + 1]


def _padded(shape: tuple[int, int], margin_px: int, reach_px: int) -> tuple[int, int]:
    """Size at which the circular correlation wraps nothing into the result, and the transform is fast."""
    return _fast(*(n + margin_px + max(margin_px, reach_px) for n in shape))


def _fast(rows: int, cols: int) -> tuple[int, int]:
    return next_fast_len(rows, real=True), next_fast_len(cols, real=True)


def _lines(
    shape: tuple[int, int], margin_px: int, size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Lines, Lines]:
    """Rows and columns of the accumulator, symmetric about the middle of the image.

    From a grid that begins in a corner, an image and its mirror image would get other candidates.
    """

    def along(extent: int, pitch_px: float) -> Lines:
        span_px = extent - 1 + 2 * margin_px
        count = math.floor(span_px / pitch_px + 1e-9) + 1
        return Lines((span_px - (count - 1) * pitch_px) / 2 - margin_px, pitch_px, count)

    return along(shape[0], size[0] / grid[0]), along(shape[1], size[1] / grid[1])


def _has_both_signs(size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Which frequencies of a coarser grid (h, w//2+1) have their opposite too.

    The highest of an even grid has none, so that a mirror image would lack what the image has.
    """
    row, col = np.ones(grid[0], bool), np.ones(grid[1] // 2 + 1, bool)
    row[grid[0] - grid[0] // 2] = grid[0] % 2 == 1 or grid[0] == size[0]
    col[grid[1] // 2] = grid[1] % 2 == 1 or grid[1] == size[1]
    return row[:, None] & col


def correlate(
    unit: Tensor,
    radii_px: tuple[float, ...],
    width_px: float,
    margin_px: int,
    periodic: bool = False,
    spacing: float = 1,
    largest_px: float | None = None,
) -> tuple[Tensor, tuple[Lines, Lines]]:
    """Accumulator (B, R, h, w), and its rows and columns, about ``spacing`` px apart.

    Parts of an accumulator have the same rows and columns if ``largest_px`` is the largest radius of all.
    """
    height, width = unit.shape[-2:]
    reach_px = math.ceil((largest_px or max(radii_px)) + 3 * width_px)
    is_small = len(radii_px) * height * width < LARGEST_CACHED_PX * spacing**2
    find_rings = _rings if is_small else _rings.__wrapped__
    rings = find_rings(
        radii_px, width_px, (height, width), margin_px, periodic, spacing, reach_px, unit.dtype, unit.device
    )
    below, right = rings.size[0] - height - margin_px, rings.size[1] - width - margin_px
    spectrum = _lowest(
        torch.fft.rfft2(functional.pad(unit, (margin_px, right, margin_px, below))), rings.grid
    )
    # All rings need the same scalar, which spares most of the arithmetic of a vector correlation.
    inflow = rings.shift * (spectrum[:, :1] * rings.by_row + spectrum[:, 1:] * rings.by_col)
    votes = torch.fft.irfft2(inflow * rings.kernels, s=rings.grid) * rings.inverse_coverage
    rows, cols = _lines((height, width), margin_px, rings.size, rings.grid)
    return votes[..., : rows.number, : cols.number], (rows, cols)
