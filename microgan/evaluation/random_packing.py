"""The baseline that a generator must beat: random packings of discs, seen with fitted blur and grain.

Nothing is learnt beyond a few distributions. Radii, volume fractions and grey levels are resampled from real
windows; discs are hard, placed at random and pushed apart; the image is a Gaussian blur of them plus coloured
Gaussian noise.

What is read from an image is not quite what was put into it: a detector shifts radii, a threshold shifts
volume fractions, noise softens rims. So each figure is read in real windows and in packed ones by the same
means, and what the reading adds to the packed ones is taken off (the method of simulated moments: McFadden,
Econometrica 57 (1989) 995-1026).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, field_validator
from scipy import fft
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.special import erfinv
from torch import Tensor

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.scan.disc_packing import place, relax
from microgan.statistics.point_patterns import radius_distribution
from microgan.validity.evidence import Evidence
from microgan.validity.judging import phase_image
from microgan.validity.reference import Reference
from microgan.validity.rules import edge_sharpness

GRAIN_PX = 8  # largest distance, in rows and in columns, at which grain may be correlated
BLOCK = 32  # samples that are packed together, for speed
PLACE_ROUNDS = 4  # of 16 tries for a disc: what is left after them is pushed apart
MOST_FILLED = 0.74  # fraction of the box for discs with half their gap around them: more takes long, or jams
CALM_PX = 2.0  # from a rim inwards and outwards, beyond which blur hardly reaches
MOST_RADII = 1000  # that are kept, at equal steps of their distribution
FRACTIONS = (0.01, 0.9)  # least and largest volume fraction of a window
FIT_ROUNDS = 6
FIT_SAMPLES = 64  # packed windows that are read in each round


class Look(Config):
    """What one window is like as a whole: its volume fraction, and the grey of discs and of matrix."""

    volume_fraction: float = Field(gt=0, lt=1)
    disc_grey: float
    matrix_grey: float


class Packing(Config):
    """Random packing of discs, with the look of one scan.

    Attributes
    ----------
    radius_px : radii that discs are drawn from, all alike
    looks : of windows that samples are drawn from; grey in [-1, 1]
    gap_px : least distance between the rims of two discs
    blur_px : standard deviation of the Gaussian blur
    grain : autocovariance of the noise by distance in rows and columns, both from -GRAIN_PX to GRAIN_PX
    """

    radius_px: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    looks: list[Look] = Field(min_length=1)
    gap_px: float = Field(ge=0)
    blur_px: float = Field(ge=0)
    grain: list[list[float]]

    @field_validator("grain")
    @classmethod
    def _has_all_distances(cls, grain: list[list[float]]) -> list[list[float]]:
        side = 2 * GRAIN_PX + 1
        if len(grain) != side or any(len(row) != side for row in grain):
            raise ValueError(f"must have {side} rows of {side} values")
        return grain

    def sample(
        self, count: int, size_px: tuple[int, int], seed: int, periodic: bool = False
    ) -> tuple[Tensor, list[Circles]]:
        """Draw images.

        Each sample has a random stream and a packing of its own, so that sample 7 is the same whatever the
        count. It is cut out of a periodic packing larger than itself, at the place where the volume fraction
        comes nearest to the one that was drawn.

        Parameters
        ----------
        count
            Number of images.
        size_px
            Rows and columns.
        seed
            Same seed, same bits.
        periodic
            Whether opposite borders fit together: the sample is the whole packing then.

        Returns
        -------
        images : Tensor of shape (count, 1, rows, cols), float32, in [-1, 1]
        circles : list of Circles
            The discs of each image in pixels, also those whose centre is beyond the border; in a periodic one
            each disc once.

        Raises
        ------
        UserError
            If ``count`` is below 1, or a sample is too small for the largest disc.
        """
        drawn = self._draw(count, size_px, seed, periodic)
        images = np.stack([one.image for one in drawn])[:, None]
        return torch.from_numpy(images), [one.circles for one in drawn]

    def _draw(self, count: int, size_px: tuple[int, int], seed: int, periodic: bool) -> list["_Drawn"]:
        if count < 1:
            raise UserError("count", count, "must be at least 1")
        largest_px = 2 * max(self.radius_px) + self.gap_px
        if min(size_px) <= largest_px:
            rule = f"must be more than the largest disc with its gap, {largest_px:.1f} px"
            raise UserError("size_px", f"{size_px[0]} {size_px[1]}", rule)
        margin_px = 0 if periodic else int(np.ceil(2 * largest_px))
        drawn: list[_Drawn] = []
        for first in range(0, count, BLOCK):
            streams = [np.random.default_rng([seed, index]) for index in range(first, first + BLOCK)]
            drawn += self._block(streams, size_px, margin_px)
        return drawn[:count]

    def _block(
        self, streams: Sequence[np.random.Generator], size_px: tuple[int, int], margin_px: int
    ) -> list["_Drawn"]:
        """Draw one sample from each stream; all are packed at once, each in a box of its own."""
        box_px = size_px[0] + margin_px, size_px[1] + margin_px
        looks = [self.looks[rng.integers(len(self.looks))] for rng in streams]
        radii = [self._radii(rng, look, box_px) for rng, look in zip(streams, looks, strict=True)]
        placed = [
            place(rng, some, box_px, self.gap_px, PLACE_ROUNDS)
            for rng, some in zip(streams, radii, strict=True)
        ]
        box = np.repeat(np.arange(len(streams)), [len(some) for some in radii])
        centres = relax(np.concatenate(placed), np.concatenate(radii), box_px, self.gap_px, box)
        return [
            self._seen(rng, look, np.column_stack([centres[box == index], some]), size_px, margin_px)
            for index, (rng, look, some) in enumerate(zip(streams, looks, radii, strict=True))
        ]

    def _radii(self, rng: np.random.Generator, look: Look, box_px: tuple[int, int]) -> np.ndarray:
        """Resample radii until the discs fill the box, the largest first."""
        radii = np.array(self.radius_px)
        filled = np.mean((radii + self.gap_px / 2) ** 2) / np.mean(radii**2)  # disc with gap over disc
        wanted_px2 = min(look.volume_fraction, MOST_FILLED / filled) * box_px[0] * box_px[1]
        most = int(np.ceil(wanted_px2 / (np.pi * radii.min() ** 2))) + 1
        drawn = rng.choice(radii, most)
        missing_px2 = np.abs(np.cumsum(np.pi * drawn**2) - wanted_px2)
        return np.sort(drawn[: 1 + int(missing_px2.argmin())])[::-1]

    def _seen(
        self,
        rng: np.random.Generator,
        look: Look,
        discs: np.ndarray,
        size_px: tuple[int, int],
        margin_px: int,
    ) -> "_Drawn":
        """Make an image of one box of discs (n, 3), and cut the sample out of it."""
        box_px = size_px[0] + margin_px, size_px[1] + margin_px
        coverage = _coverage(discs, box_px)
        corner = _corner(coverage, size_px, look.volume_fraction) if margin_px else (0, 0)
        blurred = gaussian_filter(coverage, self.blur_px, mode="wrap")
        grey = look.matrix_grey + (look.disc_grey - look.matrix_grey) * blurred + self._noise(rng, box_px)
        rows, cols = (
            np.arange(start, start + side) % of
            for start, side, of in zip(corner, size_px, box_px, strict=True)
        )
        window = np.ix_(rows, cols)
        image = np.clip(grey[window], -1, 1).astype(np.float32)
        shown = look.model_copy(update={"volume_fraction": float(coverage[window].mean())})
        return _Drawn(image, _circles(discs, corner, size_px, margin_px), shown)

    def _noise(self, rng: np.random.Generator, box_px: tuple[int, int]) -> np.ndarray:
        """Draw periodic Gaussian noise with the autocovariance of the grain: white noise, filtered."""
        white = fft.fft2(rng.standard_normal(box_px))
        return fft.ifft2(white * np.sqrt(_power(np.array(self.grain), box_px))).real


@dataclass(frozen=True)
class _Drawn:
    """A sample (rows, cols), its discs, and its look: the volume fraction that it really has."""

    image: np.ndarray
    circles: Circles
    look: Look


# The image of a packing ---------------------------------------------------------------------------------


def _coverage(discs: np.ndarray, box_px: tuple[int, int]) -> np.ndarray:
    """Fraction (rows, cols) of each pixel of a periodic box that discs (n, 3) cover; rims are 1 px wide."""
    reach = int(np.ceil(discs[:, 2].max())) + 1
    place_px = np.round(discs[:, :2]).astype(int)[..., None] + np.arange(-reach, reach + 1)  # (n, 2, K)
    row, col = np.moveaxis(place_px - discs[:, :2, None], 1, 0)
    inside = np.clip(discs[:, 2, None, None] - np.hypot(row[:, :, None], col[:, None]) + 0.5, 0, 1)
    pixel = place_px[:, 0, :, None] % box_px[0] * box_px[1] + place_px[:, 1, None] % box_px[1]
    total = np.bincount(pixel.ravel(), inside.ravel(), box_px[0] * box_px[1])
    return np.minimum(total, 1).reshape(box_px)


def _corner(coverage: np.ndarray, size_px: tuple[int, int], volume_fraction: float) -> tuple[int, int]:
    """First row and column of the window, in a periodic box, that comes nearest to a volume fraction."""
    middle = [-(side // 2) for side in size_px]  # where the filter puts a window's mean
    local = np.roll(uniform_filter(coverage, size_px, mode="wrap"), middle, (0, 1))
    row, col = np.unravel_index(np.abs(local - volume_fraction).argmin(), local.shape)
    return int(row), int(col)


def _power(grain: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """DetectionRate spectrum, of the given shape, of noise with this autocovariance; see `Packing.grain`."""
    lag = np.arange(-GRAIN_PX, GRAIN_PX + 1)
    covariance = np.zeros(shape)
    np.add.at(covariance, np.ix_(lag % shape[0], lag % shape[1]), grain)
    return np.maximum(fft.fft2(covariance).real, 0)


def _circles(discs: np.ndarray, corner: tuple[int, int], size_px: tuple[int, int], margin_px: int) -> Circles:
    """Discs (n, 3) of the box that reach into the window at ``corner``, in the window's pixels."""
    sides = np.array(size_px)
    before = margin_px / 2 + 0.5
    centre = (discs[:, :2] - corner + before) % (sides + margin_px) - before
    reach = discs[:, 2:] + 0.5
    seen = ((centre > -reach) & (centre < sides - 1 + reach)).all(axis=1)
    return Circles.from_table(np.column_stack([centre, discs[:, 2]])[seen])


# The fit ------------------------------------------------------------------------------------------------


def fit_packing(windows: Tensor, circles: Sequence[Circles], reference: Reference) -> Packing:
    """Fit a random packing to real windows.

    Parameters
    ----------
    windows : Tensor of shape (N, 1, H, W)
        Of the training part, in [-1, 1].
    circles : sequence of N Circles
        The discs found in them.
    reference : Reference
        From calibration: phase threshold, polarity, radius band, detector.

    Raises
    ------
    UserError
        If there is not one set of circles a window, or no disc is whole, or no rim can be seen.
    """
    if len(windows) != len(circles):
        raise UserError("circles", len(circles), f"must be as many as windows, {len(windows)}")
    size_px = windows.shape[2], windows.shape[3]
    real = _read(windows, circles, reference)
    put_in = real
    for index in range(FIT_ROUNDS):
        drawn = _packing(put_in)._draw(FIT_SAMPLES, size_px, index, periodic=False)
        images = torch.from_numpy(np.stack([one.image for one in drawn])[:, None])
        found = detect_all(
            images, reference.radius_px, reference.polarity, reference.detector, progress=False
        )
        wanted = _corrected(put_in, real, _read(images, found, reference), drawn, reference)
        put_in = _halfway(put_in, wanted)  # the whole way overshoots: figures depend on each other
    return _packing(put_in)


@dataclass(frozen=True)
class _Reading:
    """What is read in N windows, or put into them.

    Attributes
    ----------
    radius_px : of the m discs with centres a largest radius inside (m,)
    looks : volume fraction, grey of discs, grey of matrix (N, 3)
    gap_px : median distance from a disc's rim to the nearest
    rim_px2 : variance of the Gaussian that blurs rims
    grain : autocovariance (2 GRAIN_PX + 1, 2 GRAIN_PX + 1), as in `Packing`
    """

    radius_px: np.ndarray
    looks: np.ndarray
    gap_px: float
    rim_px2: float
    grain: np.ndarray


def _read(windows: Tensor, circles: Sequence[Circles], reference: Reference) -> _Reading:
    sign = np.float32(1 if reference.polarity == "bright" else -1)
    grey, phase = windows[:, 0].numpy() * sign, phase_image(windows, reference).numpy()
    seen = [Evidence(*one) for one in zip(grey, phase, circles, strict=True)]
    radius_px = _whole_radii(circles, phase.shape[1:], reference)
    rims = [fall for one in seen if (fall := edge_sharpness(one)) > 0]
    gaps = [one.gap_px[one.inside()].min(axis=1) for one in seen if len(one.circles) > 1]
    gap_px = np.concatenate(gaps) if gaps else np.empty(0)
    if not len(radius_px) or not rims or not len(gap_px):
        raise UserError("circles", "none", "must be discs that are whole, with rims that can be seen")
    greys = sign * np.array([[one.disc_grey, one.matrix_grey] for one in seen])
    return _Reading(
        radius_px=radius_px,
        looks=np.column_stack([phase.mean(axis=(1, 2)), greys]),
        gap_px=float(np.median(gap_px)),
        rim_px2=_variance_of_rim(float(np.mean(rims))),
        grain=_autocovariance(seen),
    )


def _whole_radii(circles: Sequence[Circles], shape: tuple[int, int], reference: Reference) -> np.ndarray:
    return radius_distribution(circles, shape, reference.radius_px[1]).values


def _variance_of_rim(fall: float) -> float:
    """Variance, in px^2, of the Gaussian that blurs a step so that it falls by ``fall`` over 1 px."""
    return float((0.5 / np.sqrt(2) / erfinv(min(fall, 0.99))) ** 2)


def _autocovariance(seen: Sequence[Evidence]) -> np.ndarray:
    """Autocovariance of grey inside discs and inside the matrix, away from rims, over all windows."""
    products, pairs = np.zeros((2, 2 * GRAIN_PX + 1, 2 * GRAIN_PX + 1))
    for one in seen:
        disc, matrix = one.phase & (one.rim_px < -CALM_PX), ~one.phase & (one.rim_px > CALM_PX)
        residual = np.where(disc, one.grey - one.disc_grey, np.where(matrix, one.grey - one.matrix_grey, 0))
        products = products + _sums_of_products(residual)
        pairs = pairs + _sums_of_products(disc | matrix)
    return products / np.maximum(np.round(pairs), 1)


def _sums_of_products(image: np.ndarray) -> np.ndarray:
    """Sum the products of all pairs of pixels by distance, up to GRAIN_PX in rows and in columns."""
    padded = [fft.next_fast_len(side + GRAIN_PX, real=True) for side in image.shape]
    products = fft.irfft2(np.abs(fft.rfft2(image.astype(float), padded)) ** 2, padded)
    lag = np.arange(-GRAIN_PX, GRAIN_PX + 1)
    return products[np.ix_(lag % padded[0], lag % padded[1])]


def _corrected(
    put_in: _Reading, real: _Reading, seen: _Reading, drawn: Sequence[_Drawn], reference: Reference
) -> _Reading:
    """Return what to put in: what is read in real windows, less what the reading added to packed ones."""
    radii = _whole_radii([one.circles for one in drawn], drawn[0].image.shape, reference)
    spread = (real.radius_px.var() + radii.var() - seen.radius_px.var()) / real.radius_px.var()
    middle_px = real.radius_px.mean()
    radius_px = (real.radius_px - middle_px) * np.sqrt(max(spread, 0)) + middle_px
    looks = np.array([list(one.look.model_dump().values()) for one in drawn])
    fitted = _packing(put_in)
    return _Reading(
        radius_px=np.maximum(radius_px + radii.mean() - seen.radius_px.mean(), 0.5),
        looks=real.looks - _added(looks, seen.looks, put_in.looks),
        gap_px=max(real.gap_px + fitted.gap_px - seen.gap_px, 0.0),
        rim_px2=max(real.rim_px2 + fitted.blur_px**2 - seen.rim_px2, 0.0),
        grain=real.grain + np.array(fitted.grain) - seen.grain,
    )


def _added(put_in: np.ndarray, seen: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """What the reading adds to looks (N, 3), from n looks that were put in and seen again.

    It depends on the look: a brighter matrix lets the threshold count more of it as discs. So it is fitted as
    an affine function of the look, by least squares; its mean alone would leave windows too different.
    """
    one, other = (np.column_stack([table, np.ones(len(table))]) for table in (put_in, looks))
    return other @ np.linalg.lstsq(one, seen - put_in)[0]


def _halfway(one: _Reading, other: _Reading) -> _Reading:
    return _Reading(*((getattr(one, name) + getattr(other, name)) / 2 for name in vars(one)))


def _packing(wanted: _Reading) -> Packing:
    count = min(len(wanted.radius_px), MOST_RADII)
    radii = np.quantile(wanted.radius_px, (np.arange(count) + 0.5) / count)
    looks = wanted.looks.copy()
    looks[:, 0] = np.clip(looks[:, 0], *FRACTIONS)
    return Packing(
        radius_px=radii.round(4).tolist(),
        looks=[
            Look(volume_fraction=fraction, disc_grey=disc, matrix_grey=matrix)
            for fraction, disc, matrix in looks.round(5).tolist()
        ],
        gap_px=max(wanted.gap_px, 0.0),
        blur_px=float(np.sqrt(max(wanted.rim_px2, 0.0))),
        grain=_possible(wanted.grain).tolist(),
    )


def _possible(grain: np.ndarray) -> np.ndarray:
    """Return the autocovariance, fading towards its ends, that is nearest to one that noise can have."""
    lag = np.arange(-GRAIN_PX, GRAIN_PX + 1)
    fade = (1 + np.cos(np.pi * lag / (GRAIN_PX + 1))) / 2
    shape = (8 * GRAIN_PX, 8 * GRAIN_PX)
    possible = fft.ifft2(_power(grain * fade * fade[:, None], shape)).real
    return possible[np.ix_(lag, lag)]
