"""How large a cell must be: how far the volume fraction and the properties of a cell vary by chance.

The volume fraction of a cell is a mean over its pixels, so its variance is the sum of the covariance S2(r) -
phi^2 over all vectors r that fit into the cell, each counted as often as it fits, over the square of the
area. For large cells that is phi (1 - phi) A / area; A, the integral range, is the area that counts as one
independent pixel. This follows from one scan, without cutting cells out of it.

References
----------
A. Dahari, R. Docherty, S. Kench and S. J. Cooper, Prediction of microstructural representativity from a
single image, arXiv:2410.19568 (2024). C. Lantuejoul, Ergodicity and integral range, Journal of Microscopy 161
(1991) 387-403. T. Kanit et al., Determination of the size of the representative volume element for random
composites, International Journal of Solids and Structures 40 (2003) 3647-3679. Bias and degrees of freedom as
of the spectrum at frequency 0: M. B. Priestley, Spectral Analysis and Time Series, Academic Press 1981, 6.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.stats import t as student

from microgan.core.errors import UserError
from microgan.statistics.intervals import Interval

REACH = 4  # side of the scan over the largest lag: a quarter leaves 11 degrees of freedom to a plane
STILL_CORRELATED = (
    0.1  # correlation at the largest lags, from where on the scan is too small for its structure
)
LARGEST_SIDE_PX = 2**24
LEAST_WINDOWS = 10
CONFIDENCE = 0.95


@dataclass(frozen=True)
class FractionVariance:
    """What a scan says about the variance of the volume fraction.

    Attributes
    ----------
    volume_fraction
        Of the disc phase in the scan.
    covariance
        S2 minus the square of the volume fraction, by vector (2 R + 1, 2 R + 1), without the bias that comes
        of taking the fraction from the same scan; lag 0 is in the middle.
    taper
        Weight of each vector, shape as ``covariance``: 1 up to half of the largest lag, then falling to 0.
    scan_variance
        Of the scan's own volume fraction.
    independent_planes
        How many independent planes the planes of the scan count for.
    freedom
        Degrees of freedom of the estimated variance.
    """

    volume_fraction: float
    covariance: np.ndarray
    taper: np.ndarray
    scan_variance: float
    independent_planes: float
    freedom: float

    @property
    def integral_range_px2(self) -> float:
        """The area that counts as one independent pixel."""
        of_a_pixel = self.volume_fraction * (1 - self.volume_fraction)
        return float(self.variance(LARGEST_SIDE_PX) * LARGEST_SIDE_PX**2 / of_a_pixel)

    @property
    def scan_is_too_small(self) -> bool:
        """Whether pixels are still correlated at the largest lags: cells then vary more than is said."""
        largest = self.covariance.shape[0] // 2
        length = _lag_lengths(largest)
        outer = (length > largest / 2) & (length <= largest)
        return bool(self.covariance[outer].mean() > STILL_CORRELATED * self.covariance[largest, largest])

    def scan_interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return the interval of the material's volume fraction, by the scan."""
        half_width = self.quantile(confidence) * np.sqrt(self.scan_variance)
        low, high = self.volume_fraction - half_width, self.volume_fraction + half_width
        return float(max(low, 0)), float(min(high, 1))

    def variance(self, side_px: int) -> float:
        """Return the variance of the volume fraction of square cells with sides of ``side_px``."""
        reach = np.abs(np.arange(self.covariance.shape[0]) - self.covariance.shape[0] // 2)
        fitting = np.clip(1 - reach / side_px, 0, None)
        estimate = float(fitting @ (self.taper * self.covariance) @ fitting)
        return (estimate if estimate > 0 else _of_blocks(self.covariance)) / side_px**2

    def half_width(self, side_px: int, confidence: float = CONFIDENCE) -> float:
        """Return how far the volume fraction of a cell may be from the material's, at ``confidence``.

        It is Student's interval, as the variance is an estimate: that of cells cut at random out of the
        material, or of independent samples of it.
        """
        return float(self.quantile(confidence) * np.sqrt(self.variance(side_px)))

    def side_px(self, half_width: float, confidence: float = CONFIDENCE) -> int:
        """Return the side of the smallest square cell whose volume fraction is that near to the material's.

        Parameters
        ----------
        half_width
            Largest difference of volume fractions, such as 0.01.
        confidence
            Fraction of the cells that keep it.

        Raises
        ------
        UserError
            If ``half_width`` is not from 0 to 1, both excluded.
        """
        if not 0 < half_width < 1:
            raise UserError("half_width", half_width, "must be above 0 and below 1, such as 0.01")
        return smallest_side_px(lambda side: self.half_width(side, confidence), half_width)

    def quantile(self, confidence: float = CONFIDENCE) -> float:
        """Return the half width of an interval over its standard deviation."""
        if not 0 < confidence < 1:
            raise UserError("confidence", confidence, "must be above 0 and below 1, such as 0.95")
        return float(student.ppf((1 + confidence) / 2, self.freedom))


def fraction_variance(planes: Sequence[tuple[np.ndarray, np.ndarray]]) -> FractionVariance:
    """Measure how the volume fraction varies, by the two-point correlation of planes.

    Planes of one stack may show the same discs: the covariance between planes says how many independent ones
    they count for.

    Parameters
    ----------
    planes
        For each plane the phase image (H, W), bool, true in the discs, and where it shows the specimen (H,
        W), bool.

    Raises
    ------
    UserError
        If planes are too small or of unequal size, or have one phase only.

    Examples
    --------
    >>> noise = np.random.default_rng(0).random((256, 256)) < 0.4  # each pixel for itself
    >>> measured = fraction_variance([(noise, np.ones((256, 256), bool))])
    >>> bool(0.5 < measured.integral_range_px2 < 1.5)
    True
    """
    fraction, area_px = _checked(planes)
    reach = int(np.sqrt(area_px) / REACH)
    sums = _lag_sums(planes, fraction, reach)
    taper = np.clip(2 - 2 * _lag_lengths(reach) / reach, 0, 1)
    fits = (
        taper * sums.pairs / len(planes) / area_px**2
    )  # how often a vector fits into a plane, over its area
    within, between = float((fits * sums.within).sum()), float((fits * sums.between).sum())
    scan_variance, shared = _scan_variance(within, between, float(fits.sum()), len(planes))
    independent = len(planes) / (1 + (len(planes) - 1) * shared)
    return FractionVariance(
        volume_fraction=fraction,
        covariance=sums.within + scan_variance,
        taper=taper,
        scan_variance=scan_variance,
        independent_planes=independent,
        freedom=independent * area_px / float((taper**2).sum()),
    )


@dataclass(frozen=True)
class PropertyVariance:
    """How a property of cells, such as stiffness, varies with their size.

    A parabola over the volume fraction is fitted to windows. Its slope at the material's volume fraction
    carries the variance of the fraction over to the property. What the parabola leaves, how discs lie, has
    no long range: its variance goes with one over the area.

    Attributes
    ----------
    fraction
        Of the volume fraction.
    mean
        Of the property at the material's volume fraction.
    slope
        Of the property over the volume fraction, there.
    residual_variance_px2
        Variance of what the parabola leaves, times the area of a window.
    """

    fraction: FractionVariance
    mean: float
    slope: float
    residual_variance_px2: float

    @classmethod
    def of(
        cls, fraction: FractionVariance, fractions: np.ndarray, values: np.ndarray, window_px: int
    ) -> "PropertyVariance":
        """Fit windows of ``window_px``: their volume fractions (n,) and properties (n,).

        Raises
        ------
        UserError
            If there are fewer than `LEAST_WINDOWS`.
        """
        if len(values) < LEAST_WINDOWS:
            rule = f"must be at least {LEAST_WINDOWS}, to see how a property varies"
            raise UserError("windows", len(values), rule)
        powers = np.vander(fractions - fraction.volume_fraction, 3, increasing=True)
        parabola = np.linalg.lstsq(powers, values, rcond=None)[0]
        residuals = values - powers @ parabola
        spread = float(residuals @ residuals) / (len(values) - powers.shape[1])
        return cls(fraction, float(parabola[0]), float(parabola[1]), spread * window_px**2)

    def relative_half_width(self, side_px: int, confidence: float = CONFIDENCE) -> float:
        """Return how far the property of a cell may be from the material's, over the material's."""
        variance = self.slope**2 * self.fraction.variance(side_px)
        variance += self.residual_variance_px2 / side_px**2
        return float(self.fraction.quantile(confidence) * np.sqrt(variance) / abs(self.mean))

    def side_px(self, relative_half_width: float, confidence: float = CONFIDENCE) -> int:
        """Return the side of the smallest square cell whose property is that near to the material's."""
        if not 0 < relative_half_width < 1:
            raise UserError("relative_half_width", relative_half_width, "must be above 0 and below 1")
        return smallest_side_px(lambda side: self.relative_half_width(side, confidence), relative_half_width)


def smallest_side_px(half_width: Callable[[int], float], wanted: float) -> int:
    """Return the smallest side, px, whose ``half_width`` is at most ``wanted``; widths fall with the side."""
    low, high = 0, 1
    while half_width(high) > wanted:
        low, high = high, 2 * high
        if high > LARGEST_SIDE_PX:
            raise UserError(
                "half_width", wanted, f"no cell of up to {LARGEST_SIDE_PX} px has it: take a larger one"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if half_width(middle) > wanted else (low, middle)
    return high


# Sums over pixel pairs ------------------------------------------------------------------------------------


class _LagSums(NamedTuple):
    """By vector (2 R + 1, 2 R + 1): mean products of deviations in a plane and of two planes, and pairs."""

    within: np.ndarray
    between: np.ndarray
    pairs: np.ndarray


def _checked(planes: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the volume fraction of all planes, and the mean area (px^2) of the specimen in one."""
    if not planes:
        raise UserError("planes", "none", "must be one at least")
    shapes = {array.shape for pair in planes for array in pair}
    if len(shapes) != 1 or len(min(shapes)) != 2:
        raise UserError(
            "planes", f"shapes {sorted(shapes)}", "must be planes of one size, with masks of that size"
        )
    area_px = sum(int(inside.sum()) for _, inside in planes)
    side_px = np.sqrt(area_px / len(planes))
    if side_px < 4 * REACH:
        rule = f"must show {4 * REACH} x {4 * REACH} px of the specimen at least"
        raise UserError("planes", f"{side_px:.0f} x {side_px:.0f} px", rule)
    fraction = sum(int((phase & inside).sum()) for phase, inside in planes) / area_px
    if fraction in (0, 1):
        raise UserError("planes", f"volume fraction {fraction:g}", "must have both phases")
    return fraction, area_px / len(planes)


def _lag_sums(planes: Sequence[tuple[np.ndarray, np.ndarray]], fraction: float, reach: int) -> _LagSums:
    """Sum products of deviations from the volume fraction over all pairs of pixels, up to ``reach`` apart."""
    size = tuple(fft.next_fast_len(side + reach, True) for side in planes[0][0].shape)
    waves = [np.zeros((size[0], size[1] // 2 + 1), complex) for _ in range(2)]
    powers = [np.zeros((size[0], size[1] // 2 + 1)) for _ in range(2)]
    for phase, inside in planes:
        for index, values in enumerate((np.where(inside, phase - fraction, 0), inside.astype(float))):
            transformed = fft.rfft2(values, size)
            waves[index] += transformed
            powers[index] += np.abs(transformed) ** 2
    lags = np.arange(-reach, reach + 1)
    rows, cols = np.ix_(lags % size[0], lags % size[1])
    own, own_pairs = (fft.irfft2(power, size)[rows, cols] for power in powers)
    all_pairs = [fft.irfft2(np.abs(wave) ** 2, size)[rows, cols] for wave in waves]
    cross, cross_pairs = all_pairs[0] - own, np.rint(all_pairs[1] - own_pairs)
    pairs = np.rint(own_pairs)
    return _LagSums(_ratio(own, pairs), _ratio(cross, cross_pairs), pairs)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)


def _scan_variance(within: float, between: float, fits: float, planes: int) -> tuple[float, float]:
    """Return the variance of the volume fraction of all planes, and the correlation of two planes' fractions.

    Parameters
    ----------
    within, between
        Sums of the covariance in a plane and of two planes, too small by ``fits`` x the variance of the scan,
        as deviations are from the scan's own fraction.
    fits
        Sum of the weights of these covariances.
    planes
        Their number.
    """
    variance = (within + (planes - 1) * between) / planes / (1 - fits)
    plane, common = within + fits * variance, between + fits * variance
    if planes > 1 and common <= 0:  # as if independent
        return max(within / (planes - fits), 0.0), 0.0
    if common >= plane or planes == 1:  # as if all were one
        return max(within / (1 - fits), 0.0), 1.0
    return variance, common / plane


def _of_blocks(covariance: np.ndarray) -> float:
    """Bound the sum of the covariance by blocks as large as the largest lag, as in a regular arrangement."""
    reach = np.abs(np.arange(covariance.shape[0]) - covariance.shape[0] // 2)
    blocks = 1 - reach / (reach.max() + 1)
    return max(float(blocks @ covariance @ blocks), 0.0)


def _lag_lengths(reach: int) -> np.ndarray:
    lags = np.arange(-reach, reach + 1)
    return np.hypot(lags[:, None], lags)
