"""Whether a generator repeats its training data: the nearest real window of each image, and a test.

The nearest window is the one of largest normalised cross-correlation, over all shifts and the 8 symmetries of
the square. Images are smoothed before by a third of the disc radius: the arrangement of discs could be
memorised, noise could not.

Generated images are smoother than real ones and sometimes more regular, and both raise the correlation with
any window. So each image is its own control: its nearest window is searched in the training part and in the
calibration part, which no generator learns from, and the margin is the difference of the two correlations.
Images without memory have margins like held-out windows, blurred or not; a copy has a far larger one. Samples
count only if their correlation with the training part exceeds that of held-out windows too: where held-out
planes lie beside calibration planes and show the same fibres, all margins of held-out windows are low. The
test counts samples beyond a threshold, because a few copies among many samples change no mean and no median.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import hypergeom

from microgan.core.errors import UserError
from microgan.core.tables import number, write_csv
from microgan.evaluation.nearest_windows import nearest_windows, smoothed
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.statistics.intervals import Interval, wilson_interval
from microgan.validity.measuring import read_image_table

CONTROL = "calibration"


@dataclass(frozen=True)
class NearestCorrelation:
    """Correlation of N images with their nearest training and nearest control window, shape (N,) each."""

    training: np.ndarray
    control: np.ndarray

    def __len__(self) -> int:
        return len(self.training)

    def take(self, images: np.ndarray) -> "NearestCorrelation":
        """Keep ``images`` (indices)."""
        return NearestCorrelation(self.training[images], self.control[images])

    def save(self, path: Path) -> None:
        """Write a CSV file with a row for each image."""
        rows = zip(range(len(self)), self.training.tolist(), self.control.tolist(), strict=True)
        write_csv(path, ("image", "training", "control"), rows)

    @classmethod
    def load(cls, path: Path) -> "NearestCorrelation":
        """Read what `save` wrote."""
        rows = read_image_table(path, {"training": number, "control": number})
        training, control = (np.array([row[key] for row in rows]) for key in ("training", "control"))
        return cls(training, control)

    @property
    def margin(self) -> np.ndarray:
        """How much nearer each image is to the training part than to the control, shape (N,)."""
        return self.training - self.control


@dataclass(frozen=True)
class NearestTrainingWindows:
    """The n images that come nearest to the training part, the nearest first.

    Attributes
    ----------
    images
        Shape (n, S, S), in [-1, 1].
    windows
        The training window nearest to each, turned as the image lies, shape (n, S, S).
    correlation
        Of these images.
    """

    images: np.ndarray
    windows: np.ndarray
    correlation: NearestCorrelation

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Memorisation:
    """How many samples are nearer to the training data than held-out windows are; see `memorisation_test`.

    Attributes
    ----------
    correlation, margin
        Thresholds: a fraction ``level`` of held-out windows exceeds each; samples that exceed both count.
    level
        That fraction.
    fraction, held_out_fraction
        Fraction of samples, and of held-out windows, that exceed both.
    excess, excess_interval
        Their difference, about the fraction of copies, and its 95 % interval, thresholds taken as fixed.
    p_value
        Probability of as many samples beyond the thresholds if both sets had the same distribution.
    flagged
        Whether ``p_value`` is at most the significance level.
    samples, held_out
        How many of each.
    """

    correlation: float
    margin: float
    level: float
    fraction: float
    held_out_fraction: float
    excess: float
    excess_interval: Interval
    p_value: float
    flagged: bool
    samples: int
    held_out: int


def nearest_correlation(
    images: np.ndarray, planes: Planes, most_px: int = 150_000, seed: int = 0
) -> NearestCorrelation:
    """Search the nearest window of images in the training part and in the control, as `nearest_windows`."""
    return NearestCorrelation(
        *(nearest_windows(images, planes, role, most_px, seed).correlation for role in ("train", CONTROL))
    )


def nearest_training_windows(
    images: np.ndarray,
    correlation: NearestCorrelation,
    planes: Planes,
    count: int,
    most_px: int = 150_000,
    seed: int = 0,
) -> NearestTrainingWindows:
    """Pick the ``count`` images that are nearest to the training part, each with its nearest window.

    ``correlation`` comes from `nearest_correlation`, with the same other parameters. All images are returned
    if there are fewer than ``count``.
    """
    first = np.argsort(-correlation.training, kind="stable")[:count]
    nearest = nearest_windows(images[first], planes, "train", most_px, seed)
    windows = nearest.windows(planes, images.shape[1])
    return NearestTrainingWindows(images[first], windows, correlation.take(first))


def memorisation_test(
    samples: NearestCorrelation,
    held_out: NearestCorrelation,
    level: float = 0.01,
    significance: float = 0.05,
) -> Memorisation:
    """Test, one-sided, whether samples are closer to the training data than held-out windows are.

    A threshold is the k-th largest value of the held-out windows, k = ``level`` times their number. If
    samples and held-out windows have the same distribution, all orders of their values are equally likely.
    Then the number of samples above it follows the negative hypergeometric law, whatever the distribution
    (precedence test, of largest values: Balakrishnan and Ng, part A). Correlations and margins are tested so.
    Both must be significant, and the larger p-value counts (intersection-union test: R. L. Berger,
    Technometrics 24 (1982) 295-300).

    Parameters
    ----------
    samples, held_out
        From `nearest_correlation`. Draw held-out windows at random, not turned. Windows that overlap are not
        independent: they count as fewer.
    level
        Fraction of held-out windows above each threshold.
    significance
        Of the test: largest chance of a false alarm.

    Raises
    ------
    UserError
        If a set is empty or ``level`` is not between 0 and 1.

    References
    ----------
    N. Balakrishnan and H. K. T. Ng, Precedence-Type Tests and Applications, Wiley 2006.
    """
    if not len(samples) or not len(held_out):
        raise UserError("samples, held_out", f"{len(samples)}, {len(held_out)}", "must both be 1 or more")
    if not 0 < level < 1:
        raise UserError("level", level, "must be between 0 and 1")
    above = max(1, round(level * len(held_out)))
    correlation, margin = (float(np.sort(values)[-above]) for values in (held_out.training, held_out.margin))
    p_value = max(
        _exceedance_p_value(int((samples.training > correlation).sum()), len(samples), above, len(held_out)),
        _exceedance_p_value(int((samples.margin > margin).sum()), len(samples), above, len(held_out)),
    )
    beyond, held_out_beyond = (
        int(((part.training > correlation) & (part.margin > margin)).sum()) for part in (samples, held_out)
    )
    fraction, held_out_fraction = beyond / len(samples), held_out_beyond / len(held_out)
    return Memorisation(
        correlation=correlation,
        margin=margin,
        level=above / len(held_out),
        fraction=fraction,
        held_out_fraction=held_out_fraction,
        excess=fraction - held_out_fraction,
        excess_interval=_difference_interval(beyond, len(samples), held_out_beyond, len(held_out)),
        p_value=p_value,
        flagged=p_value <= significance,
        samples=len(samples),
        held_out=len(held_out),
    )


def _exceedance_p_value(exceeding: int, count: int, above: int, held_out: int) -> float:
    """Probability that as many samples or more exceed the ``above``-th largest value of held-out windows."""
    # That is: of the largest values of both sets together, fewer than ``above`` are of held-out windows.
    return float(hypergeom.cdf(above - 1, count + held_out, held_out, exceeding + above - 1))


def _difference_interval(hits: int, count: int, real_hits: int, real_count: int) -> Interval:
    """Return the 95 % interval of the difference (R. G. Newcombe, Stat. Med. 17 (1998) 873-890)."""
    (low, high), (real_low, real_high) = wilson_interval(hits, count), wilson_interval(real_hits, real_count)
    fraction, real_fraction = hits / count, real_hits / real_count
    difference = fraction - real_fraction
    return (
        difference - math.hypot(fraction - low, real_high - real_fraction),
        difference + math.hypot(high - fraction, real_fraction - real_low),
    )


# The detection rate of the test ------------------------------------------------------------------------


def planted_copies(
    planes: Planes, size_px: int, count: int, seed: int, blur_px: float = 0.0, new_noise: bool = False
) -> np.ndarray:
    """Return training windows as a generator with memory would repeat them: random places and symmetries.

    Parameters
    ----------
    planes
        The scan.
    size_px
        Side of the windows.
    count
        Number of copies.
    seed
        Fixes places and symmetries.
    blur_px
        Standard deviation of a Gaussian blur.
    new_noise
        Replace the noise, all that the blur removes, by that of other training windows.

    Returns
    -------
    ndarray of shape (count, size_px, size_px), float32
    """
    windows = Windows(planes, "train", size_px)
    rng = np.random.default_rng(seed)
    copies = smoothed(windows.draw(rng, count, "all").numpy()[:, 0], blur_px)
    if not new_noise:
        return copies
    others = windows.draw(rng, count, "all").numpy()[:, 0]
    return np.clip(copies + others - smoothed(others, blur_px), -1, 1)


def detection_rate_of_copies(
    held_out: NearestCorrelation,
    copies: NearestCorrelation,
    fractions: Sequence[float] = (0.0, 0.01, 0.05, 0.1),
    repeats: int = 1000,
    level: float = 0.01,
    significance: float = 0.05,
    seed: int = 0,
) -> Mapping[float, float]:
    """Return how often the test flags real windows with a fraction of copies among them.

    Each time the held-out windows are split at random: one half serves as samples, a fraction of them
    replaced by copies, the other half as held-out windows. So the rates are those of sets of half the number.

    Parameters
    ----------
    held_out
        From real windows.
    copies
        From `planted_copies`.
    fractions
        Fractions of copies; 0 gives the rate of false alarms.
    repeats
        Number of splits.
    seed
        Fixes the splits.
    level, significance
        As in `memorisation_test`.

    Returns
    -------
    dict
        Fraction of copies -> fraction of repeats that are flagged.

    Raises
    ------
    UserError
        If there are fewer than 2 held-out windows or no copies.
    """
    if len(held_out) < 2 or not len(copies):
        rule = "must be 2 or more, and 1 or more"
        raise UserError("held_out, copies", f"{len(held_out)}, {len(copies)}", rule)
    rng = np.random.default_rng(seed)
    flagged = dict.fromkeys(fractions, 0)
    for _ in range(repeats):
        as_samples, rest = np.array_split(rng.permutation(len(held_out)), 2)
        for fraction in fractions:
            planted = round(fraction * len(as_samples))
            samples = _joined(
                held_out.take(as_samples[planted:]), copies.take(rng.integers(len(copies), size=planted))
            )
            result = memorisation_test(samples, held_out.take(rest), level, significance)
            flagged[fraction] += result.flagged
    return {fraction: count / repeats for fraction, count in flagged.items()}


def _joined(first: NearestCorrelation, second: NearestCorrelation) -> NearestCorrelation:
    return NearestCorrelation(
        np.append(first.training, second.training), np.append(first.control, second.control)
    )
