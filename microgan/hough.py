"""The circle Hough transform: one differentiable accumulator, and the detection of discs built on it.

    n = grad(g_s * u) / sqrt(|grad|^2 + eps^2)      unit gradient; eps relative to the image's own contrast
    K_r(x) = -w_r(|x|) x / |x|                      ring kernel; w_r a unit-sum Gaussian annulus
    A_r = (n correlated with K_r) / (share of the ring inside the image)

A is near 1 at the centre of a bright disc of radius r. `detect` takes the maxima of A as candidates, fits
their rims and keeps what proves itself (`microgan.circle_fit`). Coordinates are (row, col) in pixels, pixel
centres at integers.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import Field
from scipy.fft import next_fast_len
from scipy.special import j0, j1
from torch import Tensor
from torch.nn import functional

from microgan.circle_fit import (
    MIN_VISIBLE,
    Maps,
    fit_circles,
    halves,
    interior,
    inward,
    median_of_image,
    select,
    true_radius,
    usual_radius,
)
from microgan.config import Config
from microgan.errors import UserError
from microgan.watershed import watershed_circles

Polarity = Literal["bright", "dark"]

CONTRAST_SHARE = 0.5  # eps over the usual gradient on rims: weaker edges count less
GRADIENT_FLOOR = 1e-3  # grey per pixel, on [-1, 1]: what is fainter is no structure, and blank stays blank
MIN_COVERAGE = 0.3  # share of a ring inside the image below which a disc cannot be judged
RADIUS_STEP_PX = 0.6  # of the accumulator's planes; well below the ring width
RADIUS_SLACK_PX = 0.5  # the ends of the radius band are soft by this much
# Noise and touching neighbours pull the accumulator's maximum to smaller radii; the fit undoes it.
SEARCH_BELOW_PX, SEARCH_ABOVE_PX = 1.5, 1.0
VOTE_SPACING_PX = 1.5  # between the accumulator's pixels in detection; the fit makes up for it
WRAP_RADII = 4  # by which a periodic image is continued: a disc and its neighbours must be seen whole
PLANES_PER_GROUP = 4  # candidates are the maxima of each group: a bright fleck must not mask its disc
CANDIDATE_SHARE = 2 / 3  # of the threshold: the fit raises true circles
UNUSUAL_SPREADS, UNUSUAL = 2.5, 0.12  # in spreads of the radius and of itself: looked at again
MIN_OVAL = 0.12  # displacement of the rim over the usual radius: maybe two discs that overlap
MIN_EDGE = 0.4  # rim gradient over the image's median, once neighbours are subtracted
FILL_QUANTILE = 0.08  # of the grey inside a circle, which the interior test looks at
RANGE_VALUES = 1 << 12  # grey values of an image on which its range rests
BATCH_PX = 1 << 17  # pixels worked on at once on a CPU: the accumulator of more leaves the cache


class HoughConfig(Config):
    """How discs are detected. Scores run from 0 to 1 (an ideal disc)."""

    backend: Literal["ring", "opencv", "watershed"] = Field(
        default="ring", description="ring: ours; opencv: HoughCircles; watershed: an independent judge"
    )
    smoothing: float = Field(
        default=0.28, gt=0, le=1, description="Gaussian smoothing over the smallest radius; 0.7 to 1.5 px"
    )
    ring_width_px: float = Field(default=1.0, ge=0.5, le=5, description="sd of the ring kernels")
    threshold: float = Field(default=0.3, gt=0, lt=1, description="least score of a disc")
    min_separation: float = Field(
        default=0.55, gt=0, lt=1, description="circles closer than this x (r1 + r2) are one disc read twice"
    )
    min_fill: float = Field(
        default=0.3, ge=0, lt=1, description="grey inside a disc, 0: dark, 1: bright end of the image"
    )
    opencv_method: Literal["gradient", "gradient_alt"] = Field(default="gradient", description="HOUGH_...")
    opencv_scale: int = Field(default=4, ge=1, le=8, description="magnification before HoughCircles")
    opencv_threshold: float = Field(
        default=0.3, gt=0, lt=1, description="votes over the rim's pixels, or perfectness for gradient_alt"
    )


@dataclass(frozen=True)
class Circles:
    """Circles of one image: float arrays (n,) of row, col, radius in pixels, and score in [0, 1]."""

    row: np.ndarray
    col: np.ndarray
    radius: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def table(self) -> np.ndarray:
        """Return row, col, radius, score as an ndarray of shape (n, 4)."""
        return np.stack([self.row, self.col, self.radius, self.score], axis=1)

    @classmethod
    def from_table(cls, table: np.ndarray) -> "Circles":
        """Build from an array-like of shape (n, 4); (n, 3) has score 1."""
        table = np.asarray(table, float).reshape(-1, np.shape(table)[-1] if np.size(table) else 4)
        score = table[:, 3] if table.shape[1] > 3 else np.ones(len(table))
        return cls(table[:, 0], table[:, 1], table[:, 2], score)


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
    _, gradient = _smoothed(images, smoothing_px, polarity, periodic)
    unit = _unit_field(gradient)
    return _correlate(unit, tuple(float(r) for r in radii_px), ring_width_px, margin_px, periodic)[0]


def detect(
    images: Tensor,
    radius_px: tuple[float, float],
    polarity: Polarity = "bright",
    config: HoughConfig | None = None,
    *,
    periodic: bool = False,
) -> list[Circles]:
    """Find discs, those cut by the border too: centres may lie outside of the image.

    Parameters
    ----------
    images : Tensor of shape (B, 1, H, W), float, grey values in [-1, 1]
    radius_px : (smallest, largest)
        Band in which discs are searched; its ends are soft by half a pixel.
    polarity : {"bright", "dark"}
    config : HoughConfig
    periodic : bool
        Opposite borders fit together: no disc is cut, each is found once, with its centre inside.

    Returns
    -------
    list of B Circles, each ordered by falling score

    Raises
    ------
    UserError
        If the band is empty or below 1 px.

    Examples
    --------
    >>> axis = torch.arange(32.0)
    >>> distance = ((axis[:, None] - 15.0) ** 2 + (axis - 18.0) ** 2).sqrt()
    >>> (circles,) = detect((6.0 - distance).clamp(-0.5, 0.5)[None, None], (4, 8))
    >>> circles.table()[:, :3].round().tolist()
    [[15.0, 18.0, 6.0]]
    """
    config = config or HoughConfig()
    if not 1 <= radius_px[0] < radius_px[1]:
        raise UserError(
            "radius_px", tuple(radius_px), "must be (smallest, largest) with 1 <= smallest < largest"
        )
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images: shape {tuple(images.shape)}: must be (B, 1, H, W)")
    if periodic:
        return _detect_wrapped(images, radius_px, polarity, config)
    find = {"ring": _detect_ring, "opencv": _detect_opencv, "watershed": _detect_watershed}[config.backend]
    at_once = max(1, BATCH_PX * (16 if images.is_cuda else 1) // max(1, images.shape[-1] * images.shape[-2]))
    parts = images.split(at_once)

    def found(part: Tensor) -> list[Circles]:
        with torch.no_grad():
            return find(part.to(torch.float32), radius_px, polarity, config)

    # The arrays of one part are too small for the threads of torch's own operators.
    with ThreadPoolExecutor(1 if images.is_cuda else torch.get_num_threads()) as pool:
        return [circles for part in pool.map(found, parts) for circles in part]


def _detect_wrapped(
    images: Tensor, radius_px: tuple[float, float], polarity: Polarity, config: HoughConfig
) -> list[Circles]:
    """Detect in images continued beyond their borders, and keep one of each disc."""
    height, width = images.shape[-2:]
    margin_px = math.ceil(WRAP_RADII * radius_px[1])
    if margin_px > min(height, width):
        raise UserError("radius_px", tuple(radius_px), f"must be at most 1/{WRAP_RADII} of a periodic image")
    wrapped = functional.pad(images, (margin_px,) * 4, mode="circular")
    tables = [
        circles.table() - (margin_px, margin_px, 0, 0)
        for circles in detect(wrapped, radius_px, polarity, config)
    ]
    inside = [((t[:, :2] >= -0.5) & (t[:, :2] < (height - 0.5, width - 0.5))).all(1) for t in tables]
    return [Circles.from_table(table[keep]) for table, keep in zip(tables, inside, strict=True)]


# The accumulator ---------------------------------------------------------------------------------------


def _smoothed(
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


def _unit_field(gradient: Tensor) -> Tensor:
    # The root of the sum of squares, unlike |grad| + eps, has a derivative where the gradient vanishes.
    square = gradient.square().sum(1, keepdim=True)
    # The mean of g^2, weighted by g^2: the usual rim, however much of the image is empty.
    floor = GRADIENT_FLOOR**2
    rim_square = square.square().mean((1, 2, 3), keepdim=True) / (
        square.mean((1, 2, 3), keepdim=True) + floor
    )
    return gradient / (square + CONTRAST_SHARE**2 * rim_square + floor).sqrt()


class _Rings(NamedTuple):
    """In Fourier space: the ring kernels (R, h, w//2+1) and the inward divergence, by row and col.

    ``inverse_coverage`` (R, h', w') is 1 / the share of each ring inside the image. ``size`` is that of the
    padded image, ``grid`` that of the accumulator.
    """

    kernels: Tensor
    by_row: Tensor
    by_col: Tensor
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
    dtype: torch.dtype,
    device: torch.device,
) -> _Rings:
    """The transform of a ring of inward unit vectors is i k/|k| J1(|k| r), of a ring of ones J0(|k| r)."""
    reach = math.ceil(max(radii_px) + 3 * width_px)
    size = shape if periodic else _padded(shape, margin_px, reach)
    grid = (
        size
        if spacing == 1
        else (next_fast_len(round(size[0] / spacing), real=True), round(size[1] / spacing))
    )
    row, col = (2 * math.pi * np.fft.fftfreq(n) for n in size)
    row, col = (
        np.concatenate([row[: grid[0] - grid[0] // 2], row[size[0] - grid[0] // 2 :]])[:, None],
        np.abs(col[None, : grid[1] // 2 + 1]),
    )
    wave = np.hypot(row, col)
    phase = wave * np.reshape(radii_px, (-1, 1, 1))
    blur = np.exp(-0.5 * (wave * width_px) ** 2) * (grid[0] * grid[1] / (size[0] * size[1]))

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    image = torch.zeros(size, dtype=dtype, device=device)
    image[margin_px : margin_px + shape[0], margin_px : margin_px + shape[1]] = 1
    coverage = torch.fft.irfft2(_lowest(torch.fft.rfft2(image), grid) * tensor(j0(phase) * blur), s=grid)
    if periodic:
        coverage = torch.ones_like(coverage)
    steep = np.maximum(wave, 1e-9)
    return _Rings(
        tensor(j1(phase) * blur),
        tensor(row / steep),
        tensor(col / steep),
        1 / coverage.clamp_min(MIN_COVERAGE),
        size,
        grid,
    )


def _lowest(spectrum: Tensor, grid: tuple[int, int]) -> Tensor:
    """The lowest frequencies of a real transform (..., h, w//2+1): those that a coarser grid can hold."""
    half = grid[0] // 2
    if grid[0] < spectrum.shape[-2]:
        spectrum = torch.cat([spectrum[..., : grid[0] - half, :], spectrum[..., -half:, :]], -2)
    return spectrum[..., : grid[1] // 2 + 1]


def _padded(shape: tuple[int, int], margin_px: int, reach_px: int) -> tuple[int, int]:
    """Size at which the circular correlation wraps nothing into the result, and the transform is fast."""
    rows, cols = (next_fast_len(n + margin_px + max(margin_px, reach_px), real=True) for n in shape)
    return rows, cols


def _correlate(
    unit: Tensor,
    radii_px: tuple[float, ...],
    width_px: float,
    margin_px: int,
    periodic: bool = False,
    spacing: float = 1,
) -> tuple[Tensor, tuple[float, float]]:
    """Accumulator (B, R, h, w), and the distance of its rows and of its cols in px: about ``spacing``."""
    height, width = unit.shape[-2:]
    rings = _rings(radii_px, width_px, (height, width), margin_px, periodic, spacing, unit.dtype, unit.device)
    below, right = rings.size[0] - height - margin_px, rings.size[1] - width - margin_px
    spectrum = _lowest(
        torch.fft.rfft2(functional.pad(unit, (margin_px, right, margin_px, below))), rings.grid
    )
    # All rings need the same scalar, which spares most of the arithmetic of a vector correlation.
    inflow = -1j * (spectrum[:, :1] * rings.by_row + spectrum[:, 1:] * rings.by_col)
    votes = torch.fft.irfft2(inflow * rings.kernels, s=rings.grid) * rings.inverse_coverage
    row_px, col_px = (size / grid for size, grid in zip(rings.size, rings.grid, strict=True))
    rows, cols = (math.ceil((n + 2 * margin_px) / px) for n, px in ((height, row_px), (width, col_px)))
    return votes[..., :rows, :cols], (row_px, col_px)


# Detection ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Circles (n, 3) of a batch, the ``image`` (n,) of each, its score (n,) and ``oval_px`` (n, 2)."""

    image: Tensor
    circles: Tensor
    score: Tensor
    oval_px: Tensor

    def where(self, keep: Tensor) -> "_Found":
        return _Found(self.image[keep], self.circles[keep], self.score[keep], self.oval_px[keep])

    def joined(self, other: "_Found") -> "_Found":
        parts = [
            (getattr(self, name), getattr(other, name)) for name in ("image", "circles", "score", "oval_px")
        ]
        return _Found(*(torch.cat(part) for part in parts))


def smoothing_px(radius_px: tuple[float, float], config: HoughConfig) -> float:
    """Smoothing before the gradient: small discs need their gaps, large ones bear more against noise."""
    return float(np.clip(config.smoothing * radius_px[0], 0.7, 1.5))


@dataclass(frozen=True)
class _Fields:
    """What is read from images: smoothed grey (B, 1, H, W), gradients (B, 2, H, W), grey range (B,)."""

    grey: Maps
    gradient: Maps
    unit: Tensor
    dark: Tensor
    bright: Tensor

    @classmethod
    def of(cls, images: Tensor, sd_px: float, polarity: Polarity) -> "_Fields":
        grey, gradient = _smoothed(images, sd_px, polarity)
        flat = grey.flatten(1)
        flat = flat[:, :: flat.shape[1] // RANGE_VALUES + 1]
        dark, bright = torch.quantile(flat, flat.new_tensor([0.05, 0.95]), dim=1)
        return cls(Maps.of(grey), Maps.of(gradient), _unit_field(gradient), dark, bright)

    def fill(self, found: _Found) -> Tensor:
        """Grey inside each circle, between the dark (0) and the bright (1) end of its image."""
        inside = interior(self.grey, found.image, found.circles, FILL_QUANTILE)
        span = (self.bright - self.dark).clamp_min(1e-6)
        return (inside - self.dark[found.image]) / span[found.image]


def _detect_ring(
    images: Tensor, radius_px: tuple[float, float], polarity: Polarity, config: HoughConfig
) -> list[Circles]:
    sd_px, count = smoothing_px(radius_px, config), len(images)
    fields = _Fields.of(images, sd_px, polarity)
    # Candidates: maxima of the accumulator.
    lowest = max(radius_px[0] - SEARCH_BELOW_PX, 1.2)
    radii = tuple(np.arange(lowest, radius_px[1] + SEARCH_ABOVE_PX + RADIUS_STEP_PX, RADIUS_STEP_PX).tolist())
    margin_px = math.ceil(0.6 * radius_px[1])  # further out, less than MIN_COVERAGE of the ring is visible
    votes, pitch_px = _correlate(fields.unit, radii, config.ring_width_px, margin_px, spacing=VOTE_SPACING_PX)
    found = _maxima(votes, radii, pitch_px, margin_px, CANDIDATE_SHARE * config.threshold)
    # Rough fit, then the choice of what is there; ovals become pairs, what the neighbours explain goes.
    width_px = votes.new_full((count,), math.hypot(sd_px, 0.8))
    rims = fit_circles(
        fields.gradient, found.image, found.circles, rounds=1, width_px=width_px, explain=False
    )
    candidates = replace(found, circles=rims.circles)
    wide = (radius_px[0] - SEARCH_BELOW_PX, radius_px[1] + 2 * SEARCH_ABOVE_PX)
    found = _choose(candidates, fields, wide, config)
    found, width_px = _refined(found, fields, width_px, rounds=2)
    oval = _is_oval(found, radius_px[0], count)
    wrong = found.where(oval)
    if oval.any():
        found, width_px = _refined(found.where(~oval).joined(_halved(wrong)), fields, width_px, rounds=2)
    weak = _is_weak(found, count)
    # Second look at images with circles that proved wrong, without those: they had swallowed others.
    band = (radius_px[0] - RADIUS_SLACK_PX, radius_px[1] + RADIUS_SLACK_PX)
    wrong = wrong.joined(found.where(weak))
    doubtful = _with_usual_radius(found.where(~weak), fields, width_px)
    again = torch.zeros(count, dtype=torch.bool, device=images.device)
    again[wrong.image] = True
    candidates = candidates.where(again[candidates.image])
    candidates = candidates.where(~_resemble(candidates, wrong))
    found = _choose(
        found.where(~weak).joined(candidates).joined(doubtful), fields, (wide[0], band[1]), config
    )
    found, width_px = _refined(found, fields, width_px, rounds=6, overlapping=True)
    found = found.where(~_is_weak(found, count))
    found = replace(found, circles=true_radius(found.circles, found.image, width_px))
    return _per_image(_choose(found, fields, band, config), count)


def _refined(
    found: _Found, fields: _Fields, width_px: Tensor, rounds: int, overlapping: bool = False
) -> tuple[_Found, Tensor]:
    """Fit all circles of each image together; also returns the width of the rims."""
    rims = fit_circles(
        fields.gradient, found.image, found.circles, rounds=rounds, width_px=width_px, overlapping=overlapping
    )
    return _Found(found.image, rims.circles, rims.edge, rims.oval_px), rims.width_px


def _is_weak(found: _Found, count: int) -> Tensor:
    """No rim of its own, once what the neighbours add is subtracted. The score is the rim's gradient here."""
    usual = median_of_image(found.score, found.image, count)
    return found.score <= MIN_EDGE * usual[found.image]


def _is_oval(found: _Found, least_radius_px: float, count: int) -> Tensor:
    """Strongly overlapping discs make one maximum between them, and one large oval rim."""
    radius = found.circles[:, 2]
    usual = median_of_image(radius, found.image, count)[found.image]
    large = radius * 0.75 > least_radius_px - RADIUS_SLACK_PX
    return large & (found.oval_px.norm(dim=1) > MIN_OVAL * usual)


def _halved(found: _Found) -> _Found:
    two = halves(found.circles, found.oval_px)
    return _Found(found.image.repeat(2), two, found.score.repeat(2), torch.zeros_like(two[:, :2]))


def _with_usual_radius(found: _Found, fields: _Fields, width_px: Tensor) -> _Found:
    """Second readings of circles of an unusual radius: a bright fleck in a disc may have passed for it."""
    usual, spread = usual_radius(found.circles, found.image, len(width_px))
    unusual = (found.circles[:, 2] - usual).abs() > torch.maximum(UNUSUAL_SPREADS * spread, UNUSUAL * usual)
    again = found.where(unusual)
    start = torch.cat([again.circles[:, :2], usual[unusual, None]], 1)
    rims = fit_circles(fields.gradient, again.image, start, rounds=3, width_px=width_px, explain=False)
    return replace(again, circles=rims.circles)


def _resemble(found: _Found, others: _Found) -> Tensor:
    """Which circles are readings of much the same place and size as one of the others."""
    apart = torch.cdist(found.circles[:, :2], others.circles[:, :2])
    like = (apart < 0.3 * others.circles[:, 2]) & (found.circles[:, 2, None] > 0.8 * others.circles[:, 2])
    return (like & (found.image[:, None] == others.image)).any(1)


def _maxima(
    votes: Tensor,
    radii_px: tuple[float, ...],
    pitch_px: tuple[float, float],
    margin_px: int,
    threshold: float,
) -> _Found:
    """List the local maxima of the accumulator, refined by parabolas in radius, row and col."""
    # The noise of a ring's mean falls with its length: weigh by the root, so that planes compare.
    radii = votes.new_tensor(radii_px)
    weight = (radii / radii.mean()).sqrt()
    votes = votes * weight[:, None, None]
    parts = []
    for start in range(0, len(radii), PLANES_PER_GROUP):
        best, plane = votes[:, start : start + PLANES_PER_GROUP].max(1)
        peak = (best == _greatest_around(best)) & (best > threshold)
        image, row, col = torch.nonzero(peak, as_tuple=True)
        parts.append(torch.stack([image, start + plane[image, row, col], row, col]))
    image, plane, row, col = torch.cat(parts, 1)
    middle, below, above = _along(votes, 1, image, plane, row, col)
    # A true maximum along the radius, not the flank of one in the next group.
    true = (middle >= below) & (middle >= above)
    image, plane, row, col = (part[true] for part in (image, plane, row, col))
    offsets = [_vertex(*_along(votes, axis, image, plane, row, col)) for axis in (1, 2, 3)]
    step_px = radii_px[1] - radii_px[0]
    circles = torch.stack(
        [
            (row + offsets[1]) * pitch_px[0] - margin_px,
            (col + offsets[2]) * pitch_px[1] - margin_px,
            radii[plane] + step_px * offsets[0],
        ],
        1,
    )
    return _Found(image, circles, middle[true] / weight[plane], torch.zeros_like(circles[:, :2]))


def _greatest_around(maps: Tensor) -> Tensor:
    """Maximum over 3x3 pixels; shifted maxima are ten times as fast as `max_pool2d` on a CPU."""
    maps = functional.pad(maps, (1, 1, 1, 1), value=-math.inf)
    rows = torch.maximum(torch.maximum(maps[..., :-2, :], maps[..., 1:-1, :]), maps[..., 2:, :])
    return torch.maximum(torch.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def _along(votes: Tensor, axis: int, *index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Votes at the index, one before and one after it along ``axis`` (the same at the ends)."""
    before, after = list(index), list(index)
    before[axis] = (index[axis] - 1).clamp_min(0)
    after[axis] = (index[axis] + 1).clamp_max(votes.shape[axis] - 1)
    return votes[tuple(index)], votes[tuple(before)], votes[tuple(after)]


def _vertex(middle: Tensor, below: Tensor, above: Tensor) -> Tensor:
    bend = (2 * middle - below - above).clamp_min(1e-9)
    return (0.5 * (above - below) / bend).clamp(-0.5, 0.5)


def _choose(found: _Found, fields: _Fields, radius_px: tuple[float, float], config: HoughConfig) -> _Found:
    """Keep circles in the band that are bright inside, then those that `select` finds to be there."""
    radius = found.circles[:, 2]
    filled = fields.fill(found) >= config.min_fill  # not the dark gap between discs
    found = found.where((radius > radius_px[0]) & (radius < radius_px[1]) & filled)
    values, inside = inward(Maps.of(fields.unit), found.image, found.circles)
    chosen, score = select(
        found.image, found.circles, values[:, 0], inside[:, 0], config.threshold, config.min_separation
    )
    return replace(found, score=score).where(chosen)


def _per_image(found: _Found, count: int) -> list[Circles]:
    table = torch.cat([found.circles, found.score[:, None]], 1).double().cpu().numpy()
    table[:, 3] = np.clip(table[:, 3], 0, 1)
    order = np.argsort(-table[:, 3], kind="stable")
    table, image = table[order], found.image.cpu().numpy()[order]
    return [Circles.from_table(table[image == index]) for index in range(count)]


def _detect_watershed(
    images: Tensor, radius_px: tuple[float, float], polarity: Polarity, config: HoughConfig
) -> list[Circles]:
    tables = [
        watershed_circles(image, radius_px, polarity, threshold=config.threshold)
        for image in images[:, 0].cpu().numpy()
    ]
    return [Circles.from_table(table) for table in tables]


# OpenCV ------------------------------------------------------------------------------------------------


def _detect_opencv(
    images: Tensor, radius_px: tuple[float, float], polarity: Polarity, config: HoughConfig
) -> list[Circles]:
    """`cv2.HoughCircles`; it knows no polarity and gives no score, so both come from the unit gradient."""
    fields = _Fields.of(images, smoothing_px(radius_px, config), polarity)
    tables = [_hough_circles(image, radius_px, config) for image in images[:, 0].cpu().numpy()]
    image = torch.from_numpy(np.repeat(np.arange(len(tables)), [len(t) for t in tables])).to(images.device)
    circles = torch.from_numpy(np.concatenate(tables)).to(images)
    values, inside = inward(Maps.of(fields.unit), image, circles)
    values, inside = values[:, 0], inside[:, 0]
    score = (values * inside).sum(1) / inside.sum(1).clamp_min(1)
    found = _Found(image, circles, score, torch.zeros_like(circles[:, :2]))
    real = (found.score > 0) & (inside.float().mean(1) >= MIN_VISIBLE)
    return _per_image(found.where(real & (fields.fill(found) >= config.min_fill)), len(images))


def _hough_circles(image: np.ndarray, radius_px: tuple[float, float], config: HoughConfig) -> np.ndarray:
    low, high = np.percentile(image, (0.5, 99.5))
    if high - low < GRADIENT_FLOOR:
        return np.zeros((0, 3))
    k = config.opencv_scale
    levels = np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    levels = cv2.resize(levels, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC)
    alt = config.opencv_method == "gradient_alt"
    votes = config.opencv_threshold if alt else config.opencv_threshold * 2 * math.pi * radius_px[0] * k
    found = cv2.HoughCircles(
        levels,
        cv2.HOUGH_GRADIENT_ALT if alt else cv2.HOUGH_GRADIENT,
        dp=1.5 if alt else 1.0,
        minDist=2 * config.min_separation * radius_px[0] * k,
        param1=200.0 if alt else 60.0,  # Canny's upper limit, on Scharr and Sobel gradients
        param2=votes,
        minRadius=math.floor(radius_px[0] * k),
        maxRadius=math.ceil(radius_px[1] * k),
    )
    if found is None:
        return np.zeros((0, 3))
    col, row, radius = np.asarray(found, float).reshape(-1, np.shape(found)[-1])[:, :3].T
    return np.stack([(row + 0.5) / k - 0.5, (col + 0.5) / k - 0.5, radius / k], axis=1)
