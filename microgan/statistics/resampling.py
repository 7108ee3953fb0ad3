"""Whether two sets of images differ, by resampling: tests, intervals and equivalence.

A descriptor of a set is a ratio of sums over its images (see `microgan.statistics.estimators.Curve`), so
resampling them is a matrix product. Real windows of one place are alike and overlap; they are resampled block
by block. Samples of a generator are independent, so they are resampled one by one (Kuensch, Ann. Statist. 17
(1989) 1217-1241).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from microgan.statistics.estimators import Curve

CONFIDENCE = 0.95  # of envelopes
TEST_LEVEL = 0.05  # of each of the two one-sided tests: their interval is one of 90 %


@dataclass(frozen=True)
class Resamples:
    """How often each of B resamples contains each image of a set.

    Attributes
    ----------
    weights
        Shape (B, N), whole numbers.
    groups
        Number of groups; the images of a group are drawn together.
    quantile
        Shape (B, 1), uniform from 0 to 1: the quantile of the possible true variances that each resample
        assumes; see `_widened_deviations`. Of two compared sets, those of the first serve both.
    """

    weights: np.ndarray
    groups: int
    quantile: np.ndarray

    @classmethod
    def of(cls, group: np.ndarray, repeats: int, seed: int) -> "Resamples":
        """Draw groups of images with replacement; ``group`` (N,) is the group of each image."""
        rng = np.random.default_rng(seed)
        names, member = np.unique(group, return_inverse=True)
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), repeats)
        return cls(draws[:, member].astype(np.float64), len(names), rng.random((repeats, 1)))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the variance between groups."""
        return max(self.groups - 1, 1)

    def deviations(self, curve: Curve) -> np.ndarray:
        """Return the mean of each resample minus that of the set, (B, L).

        Resampling G groups underestimates their variance by the factor (G - 1) / G, which is corrected here.
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


def global_test(
    curve: Curve, reference: Curve, resamples: Resamples, reference_resamples: Resamples
) -> GlobalTest:
    """Test two mean curves for equality at all places at once, by the bootstrap.

    The largest difference in units of its own standard deviation is compared with those of resamples around
    their own means: one test for a whole curve, with an envelope to draw (Myllymaki, Mrkvicka, Grabarnik,
    Seijo and Hahn, J. R. Stat. Soc. B 79 (2017) 381-404, the studentised envelope). Places where a curve is
    unknown are left out, in one of the sets or in one of its resamples; p is NaN if none is left.
    """
    difference = curve.mean() - reference.mean()
    deviations, reference_deviations = _widened_deviations(curve, reference, resamples, reference_resamples)
    deviation = deviations - reference_deviations
    spread = np.sqrt(np.mean(deviation**2, axis=0))
    half_width = np.full(len(difference), np.nan)
    testable = np.isfinite(difference) & np.isfinite(spread) & ((spread > 0) | (difference != 0))
    if not testable.any():
        # Without variation both are the same; an unknown spread means that resamples had nothing to count.
        same = (difference == 0) & (spread == 0)
        return GlobalTest(1.0 if same.any() else float("nan"), half_width)
    scale = np.maximum(spread[testable], 1e-300)
    largest = np.abs(deviation[:, testable] / scale).max(axis=1)
    observed = np.abs(difference[testable] / scale).max()
    half_width[testable] = np.quantile(largest, CONFIDENCE) * spread[testable]
    return GlobalTest(float((1 + np.sum(largest >= observed)) / (1 + len(largest))), half_width)


def equivalence(
    curve: Curve, reference: Curve, resamples: Resamples, reference_resamples: Resamples, margin: float
) -> Equivalence:
    """Test whether means (curves of a single place) differ by less than ``margin`` of the reference's mean.

    Two one-sided tests at 5 % (Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987) 657-680), by the interval
    of the bootstrap.
    """
    reference_mean = float(reference.mean()[0])
    difference = float(curve.mean()[0]) / reference_mean - 1
    deviations, reference_deviations = _widened_deviations(curve, reference, resamples, reference_resamples)
    ratios = (curve.mean() + deviations) / (reference_mean + reference_deviations) - 1
    low, high = np.nanquantile(ratios, (TEST_LEVEL, 1 - TEST_LEVEL))
    return Equivalence(difference, float(low), float(high), margin)


def _widened_deviations(
    curve: Curve, reference: Curve, resamples: Resamples, reference_resamples: Resamples
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of resamples of two sets minus the means of the sets, (B, L) each.

    Resampling takes the variance between groups as known, and so makes means of few of them look more certain
    than they are. So both are scaled as Student's distribution is against the normal one: by a random value
    of the possible true variance, with the degrees of freedom of Welch (Biometrika 34 (1947) 28-35).
    """
    deviations = resamples.deviations(curve)
    reference_deviations = reference_resamples.deviations(reference)
    variance, reference_variance = np.mean(deviations**2, axis=0), np.mean(reference_deviations**2, axis=0)
    total = variance + reference_variance
    with np.errstate(invalid="ignore"):
        weighted = variance**2 / resamples.freedom + reference_variance**2 / reference_resamples.freedom
        freedom = total**2 / weighted
    freedom = np.where(np.isfinite(freedom), freedom, 1)  # else nothing varies, and any number will do
    scale = np.sqrt(freedom / chi2.ppf(resamples.quantile, freedom))
    return scale * deviations, scale * reference_deviations
