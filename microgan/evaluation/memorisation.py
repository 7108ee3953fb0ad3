"""Whether a generator repeats its training data: the nearest real window of each image, and a test.

The nearest window is the one of largest normalised cross-correlation, over all shifts and the 8 symmetries of
the square, of images smoothed by a third of the disc radius: where the discs lie is what could be remembered,
grain is not.

How near is too near? Generated images are smoother than real ones, some are more regular, and both raise the
correlation with anything. So each image is its own control: it is looked for in the training part and in the
calibration part, which the generator has never seen, and the margin between the two counts. Images without
memory have margins like held-out windows, blurred or not; a copy has one far beyond. Only samples count whose
correlation with the training part is beyond that of held-out windows too: where held-out planes lie beside
calibration planes and show the same fibres, all their margins are low. The test counts samples beyond a
threshold, because a few copies among many samples move no mean and no median.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from microgan.core.errors import UserError
from microgan.evaluation.nearest_windows import nearest_windows, smoothed
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.statistics.intervals import Interval, wilson_interval

CONTROL = "calibration"


@dataclass(frozen=True)
class Nearness:
    """Correlation of N images with their nearest training and nearest control window, shape (N,) each."""

    training: np.ndarray
    control: np.ndarray

    def __len__(self) -> int:
        return len(self.training)

    def take(self, images: np.ndarray) -> "Nearness":
        """Keep ``images`` (indices)."""
        return Nearness(self.training[images], self.control[images])

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
    nearness
        Of these images.
    """

    images: np.ndarray
    windows: np.ndarray
    nearness: Nearness

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Memorisation:
    """How many samples are nearer to the training data than held-out windows are.

    Attributes
    ----------
    correlation, margin
        Thresholds: held-out windows exceed each with the chance ``level``, samples that exceed both count.
    level
        That chance.
    fraction, held_out_fraction
        Fraction of samples, and of held-out windows, that exceed both.
    excess, excess_interval
        Their difference, about the fraction of copies, and its 95 % interval, thresholds taken as fixed.
    p_value
        Chance of as many samples beyond the thresholds, had samples and held-out windows been drawn alike.
    flagged
        Whether ``p_value`` is at most the significance asked for.
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


def nearness(images: np.ndarray, planes: Planes, most_px: int = 150_000, seed: int = 0) -> Nearness:
    """Look for images in the training part and in the control; parameters as in `nearest_windows`."""
    return Nearness(
        *(nearest_windows(images, planes, role, most_px, seed).correlation for role in ("train", CONTROL))
    )


def nearest_training_windows(
    images: np.ndarray, near: Nearness, planes: Planes, count: int, most_px: int = 150_000, seed: int = 0
) -> NearestTrainingWindows:
    """Pick the ``count`` images that are nearest to the training part, with the windows they are nearest to.

    Other parameters as in `nearness`, which ``near`` is from; there may be fewer images than asked for.
    """
    first = np.argsort(-near.training, kind="stable")[:count]
    found = nearest_windows(images[first], planes, "train", most_px, seed)
    return NearestTrainingWindows(images[first], found.windows(planes, images.shape[1]), near.take(first))


def memorised(
    samples: Nearness, held_out: Nearness, level: float = 0.01, significance: float = 0.05
) -> Memorisation:
    """Test, one-sided, whether samples are closer to the training data than held-out windows are.

    A threshold is the k-th largest value of the held-out windows, k = ``level`` times their number. Had
    samples and held-out windows been drawn alike, all orders of their values would be equally likely, and the
    number of samples above it would follow the negative hypergeometric law, whatever the distribution
    (precedence test, of largest values: Balakrishnan and Ng, part A). Correlations and margins are tested so;
    both must be significant, and the larger p-value holds (intersection-union test: R. L. Berger,
    Technometrics 24 (1982) 295-300).

    Parameters
    ----------
    samples, held_out
        From `nearness`. Draw held-out windows at random, not turned; as far as they overlap, they are worth
        fewer independent ones.
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
    fraction, held_out_fraction = (
        float(((part.training > correlation) & (part.margin > margin)).mean()) for part in (samples, held_out)
    )
    return Memorisation(
        correlation=correlation,
        margin=margin,
        level=above / len(held_out),
        fraction=fraction,
        held_out_fraction=held_out_fraction,
        excess=fraction - held_out_fraction,
        excess_interval=_difference_interval(fraction, len(samples), held_out_fraction, len(held_out)),
        p_value=p_value,
        flagged=p_value <= significance,
        samples=len(samples),
        held_out=len(held_out),
    )


def _exceedance_p_value(exceeding: int, count: int, above: int, held_out: int) -> float:
    """Chance that at least so many of ``count`` samples exceed the ``above``-th largest of the held-out."""
    # That is: of the largest values of both sets together, fewer than ``above`` are of held-out windows.
    return float(hypergeom.cdf(above - 1, count + held_out, held_out, exceeding + above - 1))


def _difference_interval(one: float, count: int, other: float, other_count: int) -> Interval:
    """Return the 95 % interval of a difference of fractions (R. G. Newcombe, Stat. Med. 17 (1998) 873-890)."""
    (low, high), (other_low, other_high) = wilson_interval(one, count), wilson_interval(other, other_count)
    difference = one - other
    return (
        difference - math.hypot(one - low, other_high - other),
        difference + math.hypot(high - one, other - other_low),
    )


# The power of the test ---------------------------------------------------------------------------------


def planted_copies(
    planes: Planes, size_px: int, count: int, seed: int, blur_px: float = 0.0, grain: bool = False
) -> np.ndarray:
    """Return training windows as a generator with memory would repeat them: anywhere, turned at random.

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
    grain
        Replace the grain, all that the blur takes away, by that of other training windows.

    Returns
    -------
    ndarray of shape (count, size_px, size_px), float32
    """
    windows = Windows(planes, "train", size_px)
    rng = np.random.default_rng(seed)
    copies = smoothed(windows.draw(rng, count, "all").numpy()[:, 0], blur_px)
    if not grain:
        return copies
    others = windows.draw(rng, count, "all").numpy()[:, 0]
    return np.clip(copies + others - smoothed(others, blur_px), -1, 1)


def power(
    held_out: Nearness,
    copies: Nearness,
    fractions: Sequence[float] = (0.0, 0.01, 0.05, 0.1),
    repeats: int = 1000,
    level: float = 0.01,
    significance: float = 0.05,
    seed: int = 0,
) -> Mapping[float, float]:
    """Return how often the test flags real windows with a fraction of copies among them.

    Each time the held-out windows are split at random: one half serves as samples, some of them replaced by
    copies, the other half as held-out windows. So the power is that of sets of half the number.

    Parameters
    ----------
    held_out
        From real windows.
    copies
        From `planted_copies`.
    fractions
        Fractions of copies; 0 gives the rate of false alarms.
    repeats, seed
        Number of splits and what fixes them.
    level, significance
        As in `memorised`.

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
        one, other = np.array_split(rng.permutation(len(held_out)), 2)
        for fraction in fractions:
            planted = round(fraction * len(one))
            samples = _joined(
                held_out.take(one[planted:]), copies.take(rng.integers(len(copies), size=planted))
            )
            flagged[fraction] += memorised(samples, held_out.take(other), level, significance).flagged
    return {fraction: count / repeats for fraction, count in flagged.items()}


def _joined(one: Nearness, other: Nearness) -> Nearness:
    return Nearness(np.append(one.training, other.training), np.append(one.control, other.control))
