"""Whether two sets of images differ, by resampling: tests, intervals and equivalence.

A descriptor of a set is a ratio of sums over its images (`microgan.statistics.estimators.Curve`), so resampling them is a
matrix product. Real windows of one place are alike and overlap; they are resampled block by block,
and samples of a generator, which are independent, one by one (Kuensch, Ann. Statist. 17 (1989) 1217-1241).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from microgan.statistics.estimators import Curve

CONFIDENCE = 0.95  # of envelopes
TEST_LEVEL = 0.05  # of each of the two one-sided tests: their interval is one of 90 %


@dataclass(frozen=True)
class Resampled:
    """How often each image of a set is drawn in each of B resamples.

    Attributes
    ----------
    weights
        Shape (B, N), whole numbers.
    groups
        How many groups are drawn from, each with its images together.
    quantile
        Shape (B, 1), uniform from 0 to 1: of the variance that each resample takes for the true one; see
        `_widened_deviations`.
    """

    weights: np.ndarray
    groups: int
    quantile: np.ndarray

    @classmethod
    def of(cls, group: np.ndarray, repeats: int, seed: int) -> "Resampled":
        """Draw groups of images with putting back; ``group`` (N,) says which one an image belongs to."""
        rng = np.random.default_rng(seed)
        names, member = np.unique(group, return_inverse=True)
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), repeats)
        return cls(draws[:, member].astype(np.float64), len(names), rng.random((repeats, 1)))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the variance between groups."""
        return max(self.groups - 1, 1)

    def deviations(self, curve: Curve) -> np.ndarray:
        """Return (B, L): what the mean of each resample differs by from that of the set.

        Widened by the fraction by which resampling G groups makes too little of their variance, G / (G - 1).
        """
        widened = np.sqrt(self.groups / self.freedom)
        return widened * (curve.resampled(self.weights) - curve.mean())


@dataclass(frozen=True)
class GlobalTest:
    """Whether two mean curves differ anywhere.

    Attributes
    ----------
    p
        Of the largest studentised difference, over all places of the curve at once.
    half_width
        Of the global envelope of the difference, (L,): under equality it lies inside everywhere in 95 %.
    """

    p: float
    half_width: np.ndarray


@dataclass(frozen=True)
class Equivalence:
    """Relative difference of two means, its 90 % interval, and whether that lies within the margin."""

    difference: float
    low: float
    high: float
    margin: float

    @property
    def shown(self) -> bool:
        """Whether both one-sided tests at 5 % reject a difference as large as the margin."""
        return bool(-self.margin < self.low and self.high < self.margin)


def global_test(one: Curve, other: Curve, draws: Resampled, other_draws: Resampled) -> GlobalTest:
    """Test two mean curves for equality at all places at once, by the bootstrap.

    The largest difference in units of its own standard deviation is compared with those of resamples around
    their own means: one test for a whole curve, with an envelope to draw (Myllymaki, Mrkvicka, Grabarnik,
    Seijo and Hahn, J. R. Stat. Soc. B 79 (2017) 381-404, the studentised envelope). Places without any chance
    in a set are left out; p is NaN if none is left.
    """
    difference = one.mean() - other.mean()
    own, others = _widened_deviations(one, other, draws, other_draws)
    deviation = own - others
    spread = np.sqrt(np.mean(deviation**2, axis=0))
    half_width = np.full(len(difference), np.nan)
    told = np.isfinite(difference) & np.isfinite(spread) & ((spread > 0) | (difference != 0))
    if not told.any():
        return GlobalTest(1.0 if np.isfinite(difference).any() else float("nan"), half_width)
    scale = np.maximum(spread[told], 1e-300)
    largest = np.abs(deviation[:, told] / scale).max(axis=1)
    found = np.abs(difference[told] / scale).max()
    half_width[told] = np.quantile(largest, CONFIDENCE) * spread[told]
    return GlobalTest(float((1 + np.sum(largest >= found)) / (1 + len(largest))), half_width)


def equivalence(
    one: Curve, other: Curve, draws: Resampled, other_draws: Resampled, margin: float
) -> Equivalence:
    """Test whether means (curves of a single place) differ by less than ``margin`` of the second one.

    Two one-sided tests at 5 % (Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987) 657-680), by the interval
    of the bootstrap.
    """
    whole = float(other.mean()[0])
    difference = float(one.mean()[0]) / whole - 1
    own, others = _widened_deviations(one, other, draws, other_draws)
    ratios = (one.mean() + own) / (whole + others) - 1
    low, high = np.nanquantile(ratios, (TEST_LEVEL, 1 - TEST_LEVEL))
    return Equivalence(difference, float(low), float(high), margin)


def _widened_deviations(
    one: Curve, other: Curve, draws: Resampled, other_draws: Resampled
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the means of resamples of two sets differ by from those of the sets, (B, L) each.

    Resampling takes the variance between groups as known, and so makes means of few of them look more certain
    than they are. So both are scaled as Student's distribution is against the normal one, by a draw of the
    variance that may be the true one, with the degrees of freedom of Welch (Biometrika 34 (1947) 28-35).
    """
    found = draws.deviations(one), other_draws.deviations(other)
    variance, other_variance = (np.mean(each**2, axis=0) for each in found)
    total = variance + other_variance
    with np.errstate(invalid="ignore"):
        freedom = total**2 / (variance**2 / draws.freedom + other_variance**2 / other_draws.freedom)
    freedom = np.where(np.isfinite(freedom), freedom, 1)  # else nothing varies, and any will do
    scale = np.sqrt(freedom / chi2.ppf(draws.quantile, freedom))
    return scale * found[0], scale * found[1]
