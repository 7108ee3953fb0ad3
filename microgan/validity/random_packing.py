"""The baseline that a generator must beat: random packings of discs, with fitted blur and noise.

Nothing is learnt beyond a few distributions. Radii, volume fractions and grey levels are resampled from real
windows; discs are hard, placed at random and pushed apart; the image is a Gaussian blur of them plus coloured
Gaussian noise.

Figures measured in an image are not quite those it was made with: a detector shifts radii, a threshold shifts
volume fractions, noise softens edges. So each figure is measured in real windows and in packed ones by the
same means. The error of the measurement, known for packed ones, is subtracted (the method of simulated
moments: McFadden, Econometrica 57 (1989) 995-1026).
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
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.scan.disc_packing import place, relax
from microgan.statistics.point_patterns import radius_distribution
from microgan.validity.evidence import Evidence
from microgan.validity.phase import phase_image
from microgan.validity.rules import edge_sharpness
from microgan.validity.segmentation import Segmentation

NOISE_PX = 8  # largest distance, in rows and in columns, at which noise may be correlated
BLOCK = 32  # samples that are packed together, for speed
PLACE_ROUNDS = 4  # of 16 tries for a disc: discs that still overlap are pushed apart
MOST_FILLED = 0.74  # fraction of the box for discs with half their gap around them: more takes long, or jams
CALM_PX = 2.0  # from an edge inwards and outwards, beyond which blur hardly reaches
MOST_RADII = 1000  # that are kept, at equal steps of their distribution
FRACTIONS = (0.01, 0.9)  # least and largest volume fraction of a window
FITTED = 500  # training windows, at random, that a packing is fitted to
FIT_ROUNDS = 6
FIT_SAMPLES = 64  # packed windows that are measured in each round


class Appearance(Config):
    """One window as a whole: its volume fraction, and the grey of discs and of matrix."""

    volume_fraction: float = Field(gt=0, lt=1)
    disc_grey: float
    matrix_grey: float


class RandomPacking(Config):
    """Random packing of discs, with the appearance of one scan.

    Attributes
    ----------
    radius_px : radii that discs are drawn from, each with the same chance
    appearances : of windows, that samples are drawn from; grey in [-1, 1]
    gap_px : least distance between the edges of two discs
    blur_px : standard deviation of the Gaussian blur
    noise_autocovariance : by distance in rows and columns, both from -NOISE_PX to NOISE_PX
    """

    radius_px: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    appearances: list[Appearance] = Field(min_length=1)
    gap_px: float = Field(ge=0)
    blur_px: float = Field(ge=0)
    noise_autocovariance: list[list[float]]

    @field_validator("noise_autocovariance")
    @classmethod
    def _has_all_distances(cls, autocovariance: list[list[float]]) -> list[list[float]]:
        side = 2 * NOISE_PX + 1
        if len(autocovariance) != side or any(len(row) != side for row in autocovariance):
            raise ValueError(f"must have {side} rows of {side} values")
        return autocovariance

    def sample(self, count: int, domain: Domain, seed: int) -> tuple[Tensor, list[Circles]]:
        """Draw images.

        Each sample has a random stream and a packing of its own, so that sample 7 is the same whatever the
        count. It is cut out of a periodic packing larger than itself, at the place where the volume fraction
        comes nearest to that of a random appearance.

        Parameters
        ----------
        count
            Number of images.
        domain
            Size of an image, and whether opposite borders fit together: the sample is the whole packing then.
        seed
            Same seed, same bits.

        Returns
        -------
        images : Tensor of shape (count, 1, rows, cols), float32, in [-1, 1]
        circles : list of Circles
            The discs of each image in pixels, also those whose centre is beyond the border; each disc once in
            a periodic one.

        Raises
        ------
        UserError
            If ``count`` is below 1, or a sample is too small for the largest disc.
        """
        samples = self._draw(count, domain, seed)
        images = np.stack([sample.image for sample in samples])[:, None]
        return torch.from_numpy(images), [sample.circles for sample in samples]

    def _draw(self, count: int, domain: Domain, seed: int) -> list["_Sample"]:
        if count < 1:
            raise UserError("count", count, "must be at least 1")
        largest_px = 2 * max(self.radius_px) + self.gap_px
        if min(domain.size_px) <= largest_px:
            rule = f"must be more than the largest disc with its gap, {largest_px:.1f} px"
            raise UserError("size_px", f"{domain.rows} {domain.cols}", rule)
        margin_px = 0 if domain.periodic else int(np.ceil(2 * largest_px))
        samples: list[_Sample] = []
        for first in range(0, count, BLOCK):
            streams = [np.random.default_rng([seed, index]) for index in range(first, first + BLOCK)]
            samples += self._block(streams, domain.size_px, margin_px)
        return samples[:count]

    def _block(
        self, streams: Sequence[np.random.Generator], size_px: tuple[int, int], margin_px: int
    ) -> list["_Sample"]:
        """Draw one sample from each stream; all are packed at once, each in a box of its own."""
        box_px = size_px[0] + margin_px, size_px[1] + margin_px
        appearances = [self.appearances[rng.integers(len(self.appearances))] for rng in streams]
        radii = [self._radii(rng, each, box_px) for rng, each in zip(streams, appearances, strict=True)]
        placed = [
            place(rng, radius_px, box_px, self.gap_px, PLACE_ROUNDS)
            for rng, radius_px in zip(streams, radii, strict=True)
        ]
        box = np.repeat(np.arange(len(streams)), [len(radius_px) for radius_px in radii])
        centres = relax(np.concatenate(placed), np.concatenate(radii), box_px, self.gap_px, box)
        discs = [np.column_stack([centres[box == index], radii[index]]) for index in range(len(streams))]
        return [
            self._sample(rng, appearance, table, size_px, margin_px)
            for rng, appearance, table in zip(streams, appearances, discs, strict=True)
        ]

    def _radii(self, rng: np.random.Generator, appearance: Appearance, box_px: tuple[int, int]) -> np.ndarray:
        """Resample radii until the discs fill the box, the largest first."""
        radii = np.array(self.radius_px)
        filled = np.mean((radii + self.gap_px / 2) ** 2) / np.mean(radii**2)  # disc with gap over disc
        wanted_px2 = min(appearance.volume_fraction, MOST_FILLED / filled) * box_px[0] * box_px[1]
        most = int(np.ceil(wanted_px2 / (np.pi * radii.min() ** 2))) + 1
        resampled = rng.choice(radii, most)
        missing_px2 = np.abs(np.cumsum(np.pi * resampled**2) - wanted_px2)
        return np.sort(resampled[: 1 + int(missing_px2.argmin())])[::-1]

    def _sample(
        self,
        rng: np.random.Generator,
        appearance: Appearance,
        discs: np.ndarray,
        size_px: tuple[int, int],
        margin_px: int,
    ) -> "_Sample":
        """Make an image of one box of discs (n, 3), and cut the sample out of it."""
        box_px = size_px[0] + margin_px, size_px[1] + margin_px
        coverage = _coverage(discs, box_px)
        corner = _corner(coverage, size_px, appearance.volume_fraction) if margin_px else (0, 0)
        grey = self.grey_of(coverage, appearance, rng)
        rows, cols = (
            np.arange(start, start + side) % of
            for start, side, of in zip(corner, size_px, box_px, strict=True)
        )
        window = np.ix_(rows, cols)
        image = np.clip(grey[window], -1, 1).astype(np.float32)
        true = appearance.model_copy(update={"volume_fraction": float(coverage[window].mean())})
        return _Sample(image, _circles(discs, corner, size_px, margin_px), true)

    def grey_of(self, coverage: np.ndarray, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
        """Return the image (rows, cols) of a periodic box, blurred and with noise; grey is not clipped.

        Parameters
        ----------
        coverage
            Fraction (rows, cols) of each pixel that is disc.
        appearance
            Grey of discs and of matrix.
        rng
            Of the noise.
        """
        blurred = gaussian_filter(coverage, self.blur_px, mode="wrap")
        contrast = appearance.disc_grey - appearance.matrix_grey
        return appearance.matrix_grey + contrast * blurred + self._noise(rng, coverage.shape)

    def _noise(self, rng: np.random.Generator, box_px: tuple[int, ...]) -> np.ndarray:
        """Draw periodic Gaussian noise of the given autocovariance: white noise, filtered."""
        white = fft.fft2(rng.standard_normal(box_px))
        spectrum = _power_spectrum(np.array(self.noise_autocovariance), box_px)
        return fft.ifft2(white * np.sqrt(spectrum)).real


@dataclass(frozen=True)
class _Sample:
    """A sample (rows, cols), its discs, and its appearance, with the volume fraction that it really has."""

    image: np.ndarray
    circles: Circles
    appearance: Appearance


# The image of a packing ---------------------------------------------------------------------------------


def _coverage(discs: np.ndarray, box_px: tuple[int, int]) -> np.ndarray:
    """Fraction (rows, cols) of each pixel of a periodic box that discs (n, 3) cover; edges are 1 px wide."""
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


def _power_spectrum(autocovariance: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Power spectrum, of the given shape, of noise of `RandomPacking.noise_autocovariance`."""
    lag = np.arange(-NOISE_PX, NOISE_PX + 1)
    covariance = np.zeros(shape)
    np.add.at(covariance, np.ix_(lag % shape[0], lag % shape[1]), autocovariance)
    return np.maximum(fft.fft2(covariance).real, 0)


def _circles(discs: np.ndarray, corner: tuple[int, int], size_px: tuple[int, int], margin_px: int) -> Circles:
    """Discs (n, 3) of the box that reach into the window at ``corner``, in the window's pixels."""
    sides = np.array(size_px)
    before = margin_px / 2 + 0.5
    centre = (discs[:, :2] - corner + before) % (sides + margin_px) - before
    reach = discs[:, 2:] + 0.5
    visible = ((centre > -reach) & (centre < sides - 1 + reach)).all(axis=1)
    return Circles.from_table(np.column_stack([centre, discs[:, 2]])[visible])


# The fit ------------------------------------------------------------------------------------------------


def fit_packing(windows: Tensor, circles: Sequence[Circles], segmentation: Segmentation) -> RandomPacking:
    """Fit a random packing to real windows.

    Parameters
    ----------
    windows : Tensor of shape (N, 1, H, W)
        Of the training part, in [-1, 1].
    circles : sequence of N Circles
        The discs detected in them.
    segmentation : Segmentation
        From calibration: phase threshold, polarity, radius band, detector.

    Raises
    ------
    UserError
        If ``circles`` are not as many as windows, no disc is whole, or no edge is free of neighbours.
    """
    if len(windows) != len(circles):
        raise UserError("circles", len(circles), f"must be as many as windows, {len(windows)}")
    size_px = windows.shape[2], windows.shape[3]
    real = _measured(windows, circles, segmentation)
    inputs = real
    for index in range(FIT_ROUNDS):
        samples = _packing(inputs)._draw(FIT_SAMPLES, Domain(size_px), index)
        images = torch.from_numpy(np.stack([sample.image for sample in samples])[:, None])
        sample_circles = detect_all(images, segmentation.detector, progress=False)
        measured = _measured(images, sample_circles, segmentation)
        corrected = _corrected(inputs, real, measured, samples, segmentation)
        inputs = _halfway(inputs, corrected)  # the whole way overshoots: figures depend on each other
    return _packing(inputs)


@dataclass(frozen=True)
class _Figures:
    """The figures of N windows: measured in them, or those they are made with.

    Attributes
    ----------
    radius_px : of the m discs with centres a largest radius inside (m,)
    appearances : volume fraction, grey of discs, grey of matrix (N, 3)
    gap_px : median distance from a disc's edge to the nearest other disc
    edge_blur_px2 : variance of the Gaussian that blurs edges
    noise_autocovariance : (2 NOISE_PX + 1, 2 NOISE_PX + 1), as in `RandomPacking`
    """

    radius_px: np.ndarray
    appearances: np.ndarray
    gap_px: float
    edge_blur_px2: float
    noise_autocovariance: np.ndarray


def _measured(windows: Tensor, circles: Sequence[Circles], segmentation: Segmentation) -> _Figures:
    sign = np.float32(1 if segmentation.polarity == "bright" else -1)
    grey, phase = windows[:, 0].numpy() * sign, phase_image(windows, segmentation).numpy()
    evidence = [Evidence(*window) for window in zip(grey, phase, circles, strict=True)]
    radius_px = _whole_radii(circles, phase.shape[1:], segmentation)
    slopes = [slope for window in evidence if (slope := edge_sharpness(window)) > 0]
    several = [window for window in evidence if len(window.circles) > 1]
    gaps = [window.gap_px[window.between_pixel_centres].min(axis=1) for window in several]
    gap_px = np.concatenate(gaps) if gaps else np.empty(0)
    if not len(radius_px) or not slopes or not len(gap_px):
        raise UserError("circles", "none", "must be discs that are whole, with edges that can be measured")
    greys = sign * np.array([[window.disc_grey, window.matrix_grey] for window in evidence])
    return _Figures(
        radius_px=radius_px,
        appearances=np.column_stack([phase.mean(axis=(1, 2)), greys]),
        gap_px=float(np.median(gap_px)),
        edge_blur_px2=_variance_of_blur(float(np.mean(slopes))),
        noise_autocovariance=_autocovariance(evidence),
    )


def _whole_radii(
    circles: Sequence[Circles], shape: tuple[int, int], segmentation: Segmentation
) -> np.ndarray:
    return radius_distribution(circles, shape, segmentation.radius_px[1]).values


def _variance_of_blur(slope: float) -> float:
    """Variance, in px^2, of the Gaussian that blurs a step so that it falls by ``slope`` over 1 px."""
    return float((0.5 / np.sqrt(2) / erfinv(min(slope, 0.99))) ** 2)


def _autocovariance(evidence: Sequence[Evidence]) -> np.ndarray:
    """Autocovariance of grey inside discs and inside the matrix, away from edges, over all windows."""
    products, pairs = np.zeros((2, 2 * NOISE_PX + 1, 2 * NOISE_PX + 1))
    for window in evidence:
        disc = window.phase & (window.edge_distance_px < -CALM_PX)
        matrix = ~window.phase & (window.edge_distance_px > CALM_PX)
        in_matrix = np.where(matrix, window.grey - window.matrix_grey, 0)
        residual = np.where(disc, window.grey - window.disc_grey, in_matrix)
        products = products + _sums_of_products(residual)
        pairs = pairs + _sums_of_products(disc | matrix)
    return products / np.maximum(np.round(pairs), 1)


def _sums_of_products(image: np.ndarray) -> np.ndarray:
    """Sum the products of all pairs of pixels by distance, up to NOISE_PX in rows and in columns."""
    padded = [fft.next_fast_len(side + NOISE_PX, real=True) for side in image.shape]
    products = fft.irfft2(np.abs(fft.rfft2(image.astype(float), padded)) ** 2, padded)
    lag = np.arange(-NOISE_PX, NOISE_PX + 1)
    return products[np.ix_(lag % padded[0], lag % padded[1])]


def _corrected(
    inputs: _Figures,
    real: _Figures,
    measured: _Figures,
    samples: Sequence[_Sample],
    segmentation: Segmentation,
) -> _Figures:
    """Return better inputs: figures of real windows, less the error of the measurement in packed ones."""
    radii = _whole_radii([sample.circles for sample in samples], samples[0].image.shape, segmentation)
    spread = (real.radius_px.var() + radii.var() - measured.radius_px.var()) / real.radius_px.var()
    mean_px = real.radius_px.mean()
    radius_px = (real.radius_px - mean_px) * np.sqrt(max(spread, 0)) + mean_px
    true = np.array([list(sample.appearance.model_dump().values()) for sample in samples])
    error = _measurement_error(true, measured.appearances, inputs.appearances)
    fitted = _packing(inputs)
    noise = real.noise_autocovariance + np.array(fitted.noise_autocovariance)
    return _Figures(
        radius_px=np.maximum(radius_px + radii.mean() - measured.radius_px.mean(), 0.5),
        appearances=real.appearances - error,
        gap_px=max(real.gap_px + fitted.gap_px - measured.gap_px, 0.0),
        edge_blur_px2=max(real.edge_blur_px2 + fitted.blur_px**2 - measured.edge_blur_px2, 0.0),
        noise_autocovariance=noise - measured.noise_autocovariance,
    )


def _measurement_error(true: np.ndarray, measured: np.ndarray, appearances: np.ndarray) -> np.ndarray:
    """What measuring adds to appearances (N, 3), learnt from n whose true and measured values are known.

    It depends on the appearance: with a brighter matrix the threshold counts more of it as discs. So it is an
    affine function of the appearance, fitted by least squares; a constant would leave windows too different.
    """
    known, design = (np.column_stack([table, np.ones(len(table))]) for table in (true, appearances))
    return design @ np.linalg.lstsq(known, measured - true)[0]


def _halfway(inputs: _Figures, corrected: _Figures) -> _Figures:
    return _Figures(*((getattr(inputs, name) + getattr(corrected, name)) / 2 for name in vars(inputs)))


def _packing(inputs: _Figures) -> RandomPacking:
    count = min(len(inputs.radius_px), MOST_RADII)
    radii = np.quantile(inputs.radius_px, (np.arange(count) + 0.5) / count)
    appearances = inputs.appearances.copy()
    appearances[:, 0] = np.clip(appearances[:, 0], *FRACTIONS)
    return RandomPacking(
        radius_px=radii.round(4).tolist(),
        appearances=[
            Appearance(volume_fraction=fraction, disc_grey=disc, matrix_grey=matrix)
            for fraction, disc, matrix in appearances.round(5).tolist()
        ],
        gap_px=max(inputs.gap_px, 0.0),
        blur_px=float(np.sqrt(max(inputs.edge_blur_px2, 0.0))),
        noise_autocovariance=_possible(inputs.noise_autocovariance).tolist(),
    )


def _possible(autocovariance: np.ndarray) -> np.ndarray:
    """Return the nearest autocovariance that noise can have; it fades towards the largest distances."""
    lag = np.arange(-NOISE_PX, NOISE_PX + 1)
    fade = (1 + np.cos(np.pi * lag / (NOISE_PX + 1))) / 2
    shape = (8 * NOISE_PX, 8 * NOISE_PX)
    possible = fft.ifft2(_power_spectrum(autocovariance * fade * fade[:, None], shape)).real
    return possible[np.ix_(lag, lag)]
