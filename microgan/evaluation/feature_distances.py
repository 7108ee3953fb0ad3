"""How near a set of images comes to a set of real ones, on the features of an encoder.

Each measure stands beside its null distribution: its values when the images are assigned to the two sets at
random. Distances and neighbours are computed once; an exchange of images is an exchange of labels.

Windows that overlap, or lie in one plane, are more alike than windows of different planes. Where each image's
block is known, whole blocks are exchanged instead of images.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.linalg import solve
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from torch import Tensor

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.evaluation.encoder import Encoder, features

Statistic = Callable[[np.ndarray], np.ndarray]  # labels (P, n), true in the first set -> values (P,)

FIRST_NEIGHBOURS = 64  # columns read first; more only where these do not suffice
SIDES: Mapping[str, float] = {  # 1: large values are evidence against equal sets, -1: small ones
    "kernel_distance": 1,
    "density": -1,
    "coverage": -1,
    "precision": -1,
    "recall": -1,
    "classifier_auc": 1,
}


class FeatureDistancesConfig(Config):
    """Which measures on features, and how fine their nulls."""

    neighbours: int = Field(default=5, ge=1)
    folds: int = Field(default=5, ge=2)
    permutations: int = Field(default=199, ge=19)
    subsets: int = Field(default=50, ge=2)
    subset_size: int = Field(default=200, ge=2)


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    standard_error: float


def compare_images(
    real: Tensor,
    samples: Tensor,
    encoder: Encoder,
    control: Encoder,
    config: FeatureDistancesConfig,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Compare two sets of images by all measures, on the features of an encoder and of a control.

    Parameters
    ----------
    real
        Shape (N, 1, H, W), in [-1, 1].
    samples
        Shape (M, 1, H, W), in [-1, 1].
    encoder, control
        Trained and random, see `microgan.evaluation.encoder`.
    seed
        Of folds, subsets and permutations.
    groups
        Block of each image, the real ones first, shape (N + M,), each wholly real or wholly not. Blocks are
        exchanged as a whole; each image is one by default.

    Returns
    -------
    dict
        ``encoder/kernel_distance``, ``control/coverage`` ... -> ``value``, ``null_mean``, ``null_bound`` (the
        95 % quantile of the null on the side of unequal sets), ``p`` (one-sided).

    Raises
    ------
    UserError
        If a set has too few images, images have another shape, or a group has images of both sets.
    """
    labels = np.arange(len(real) + len(samples)) < len(real)
    permuted = permuted_labels(labels, groups, config.permutations, seed)
    metrics: dict[str, dict[str, float]] = {}
    for name, network in (("encoder", encoder), ("control", control)):
        x, y = features(network, real), features(network, samples)
        measures = compare_features(x, y, permuted, config, seed)
        metrics |= {f"{name}/{measure}": figures for measure, figures in measures.items()}
    return metrics


def compare_features(
    x: np.ndarray, y: np.ndarray, permuted: np.ndarray, config: FeatureDistancesConfig, seed: int
) -> dict[str, dict[str, float]]:
    """Compare features (N, D) and (M, D) by all measures; ``permuted`` (P, N + M) from `permuted_labels`.

    Features are standardised by mean and deviation of both sets together, which no exchange changes.
    """
    joined = standardised(np.concatenate([x, y]))
    labels = np.concatenate([np.arange(len(joined))[None] < len(x), permuted])
    values = {
        "kernel_distance": _kernel_statistic(joined)(labels),
        **density_coverage_precision_recall(joined, labels, config.neighbours),
        "classifier_auc": classifier_auc(joined, labels, config.folds, seed),
    }
    measures = {name: _beside_null(values[name], side) for name, side in SIDES.items()}
    size = min(config.subset_size, len(x), len(y))
    estimate = kernel_distance(joined[: len(x)], joined[len(x) :], config.subsets, size, seed)
    measures["kernel_distance"]["standard_error"] = estimate.standard_error
    return measures


def standardised(values: np.ndarray) -> np.ndarray:
    """Return features (n, D) with mean 0 and deviation 1 in each column; constant ones become 0."""
    centred = values - values.mean(0)
    deviation = centred.std(0)
    return centred / np.where(deviation > 1e-12, deviation, 1)


# Permutations ------------------------------------------------------------------------------------------


def permuted_labels(
    labels: np.ndarray, groups: np.ndarray | None, permutations: int, seed: int
) -> np.ndarray:
    """Assign the images to the two sets at random, block by block.

    Parameters
    ----------
    labels
        Whether each image is in the first set, shape (n,) of bool.
    groups
        Block of each image, shape (n,); each image by itself when None. With blocks of unequal size the sets
        change in size.

    Returns
    -------
    ndarray of shape (permutations, n), bool

    Raises
    ------
    UserError
        If a group has images of both sets, or ``groups`` are not as many as images.
    """
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if groups.shape != labels.shape:
        raise UserError("groups", groups.shape, f"must have one block for each image, {labels.shape}")
    _, first, block = np.unique(groups, return_index=True, return_inverse=True)
    of_block = labels[first]
    if not np.array_equal(of_block[block], labels):
        mixed = groups[np.flatnonzero(of_block[block] != labels)[0]]
        raise UserError("groups", mixed, "must not hold images of both sets")
    rng = np.random.default_rng([seed, len(labels)])
    return np.stack([rng.permutation(of_block)[block] for _ in range(permutations)])


def permutation_p_value(value: float, null: np.ndarray, side: float = 1) -> float:
    """Return the probability of a value as extreme for equal sets: (1 + #{null as extreme}) / (1 + #null).

    ``side`` is 1 where large values are extreme, -1 where small ones are.

    References
    ----------
    Phipson, Smyth: Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9 (2010) 39.

    Examples
    --------
    >>> permutation_p_value(3.0, np.array([1.0, 2.0, 3.0, 0.0]))
    0.4
    """
    return float((1 + np.sum(side * null >= side * value)) / (1 + len(null)))


def _beside_null(values: np.ndarray, side: float) -> dict[str, float]:
    """Figures of one measure: ``values[0]`` is its value, the others are its null distribution."""
    value, null = values[0], values[1:]
    bound = side * np.quantile(side * null, 0.95)
    figures = {"value": value, "null_mean": null.mean(), "null_bound": bound}
    return {name: float(figure) for name, figure in figures.items()} | {
        "p": permutation_p_value(value, null, side)
    }


# Kernel distance ---------------------------------------------------------------------------------------


def kernel_distance(x: np.ndarray, y: np.ndarray, subsets: int, subset_size: int, seed: int) -> Estimate:
    """Return the unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, over subsets.

    Parameters
    ----------
    x, y
        Features (N, D) and (M, D).
    subsets
        Number of subsets, each drawn without replacement.
    subset_size
        Images of either set in a subset.
    seed
        Same seed, same subsets.

    Returns
    -------
    Estimate
        Mean over the subsets, and its standard error as if they shared no image: too small where
        ``subsets * subset_size`` is far above N or M.

    Raises
    ------
    UserError
        If the subsets are larger than a set or hold fewer than two images.

    References
    ----------
    Binkowski, Sutherland, Arbel, Gretton: Demystifying MMD GANs. ICLR 2018, arXiv:1801.01401.
    Gretton et al., J. Mach. Learn. Res. 13 (2012) 723-773, eq. 3 (the unbiased estimator).
    """
    if not 2 <= subset_size <= min(len(x), len(y)):
        raise UserError("subset_size", subset_size, f"must be 2 to {min(len(x), len(y))}, the smaller set")
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * subset_size) < subset_size
    values = []
    for _ in range(subsets):
        parts = [part[rng.choice(len(part), subset_size, replace=False)] for part in (x, y)]
        values.append(_kernel_statistic(np.concatenate(parts))(labels[None])[0])
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets)))


def _kernel_statistic(joined: np.ndarray) -> Statistic:
    """Squared maximum mean discrepancy of two sets, for any labels."""
    kernel = (joined @ joined.T / joined.shape[1] + 1) ** 3
    np.fill_diagonal(kernel, 0)  # pairs of an image with itself do not count
    rows, total = kernel.sum(1), kernel.sum()

    def distance(labels: np.ndarray) -> np.ndarray:
        first = labels.astype(float)
        n = first.sum(1)
        m = first.shape[1] - n
        within = np.einsum("pn,np->p", first, kernel @ first.T)
        across = first @ rows - within
        others = total - within - 2 * across
        return within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * across / (n * m)

    return distance


# Neighbours --------------------------------------------------------------------------------------------


def density_coverage_precision_recall(
    joined: np.ndarray, labels: np.ndarray, k: int
) -> dict[str, np.ndarray]:
    """Return four measures of the balls round each image, which reach to the k-th neighbour in its set.

    ``precision``: fakes in a ball of a real image; ``recall``: real images in a ball of a fake one;
    ``density``: pairs of a fake and a real image's ball that contains it, over k times the fakes, may exceed
    1; ``coverage``: real images with a fake in their ball.

    Parameters
    ----------
    joined
        Features (n, D) of both sets.
    labels
        Which images are real, for P ways to assign them, shape (P, n) of bool.
    k
        Below the size of either set.

    Returns
    -------
    dict
        Measure -> values (P,).

    References
    ----------
    Kynkaanniemi et al.: Improved precision and recall metric, NeurIPS 2019, arXiv:1904.06991.
    Naeem et al.: Reliable fidelity and diversity metrics, ICML 2020, arXiv:2002.09797, section 3.

    Raises
    ------
    UserError
        If a set has no k-th neighbour.
    """
    smaller = int(np.minimum(labels.sum(1), (~labels).sum(1)).min())
    if not 1 <= k < smaller:
        raise UserError("neighbours", k, f"must be 1 to {smaller - 1}, below the smaller set's size")
    distance = cdist(joined, joined)
    np.fill_diagonal(distance, -1)  # first of its own row, also among duplicates
    neighbours = np.argsort(distance, axis=1, kind="stable")[:, 1:]
    rows = [_of_balls(neighbours, real, k) for real in labels]
    names = ("density", "coverage", "precision", "recall")
    return dict(zip(names, np.array(rows).T, strict=True))


def _of_balls(neighbours: np.ndarray, real: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Density, coverage, precision, recall. ``neighbours`` (n, n - 1): indices, the nearest first."""
    inside = np.zeros(len(real), bool)  # in a ball of the other set
    others = np.zeros(len(real), int)  # images of the other set in each image's ball
    width, waiting = FIRST_NEIGHBOURS, np.arange(len(real))
    while len(waiting):
        near = neighbours[waiting, :width]
        own = real[near] == real[waiting, None]
        before = np.cumsum(own, axis=1)  # of its own set, up to and with this neighbour
        complete = before[:, -1] >= k
        other = ~own[complete] & (before[complete] < k)
        inside[near[complete][other]] = True
        others[waiting[complete]] = other.sum(1)
        width, waiting = 4 * width, waiting[~complete]
    balls = others[real]
    # Over all pairs (real, fake), divided by k times the fakes (Naeem et al., section 3).
    density = balls.sum() / (k * (~real).sum())
    return density, (balls > 0).mean(), inside[~real].mean(), inside[real].mean()


# Classifier --------------------------------------------------------------------------------------------


def classifier_auc(joined: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return how well a linear classifier distinguishes two sets: the area under the curve, cross-validated.

    The classifier is Fisher's discriminant: least squares on the labels, with a little ridge. Its area under
    the curve on images left out, mean over the folds, is 0.5 for equal sets. All labels use the same folds.

    Parameters
    ----------
    joined
        `standardised` features (n, D) of both sets.
    labels
        Which images are in the first set, for P ways to assign them, shape (P, n) of bool.
    folds
        Of the cross-validation.
    seed
        Fixes the folds.

    Returns
    -------
    ndarray of shape (P,)

    References
    ----------
    Lopez-Paz, Oquab: Revisiting classifier two-sample tests, ICLR 2017, arXiv:1610.06545.
    """
    scores = _scores_of_left_out(joined, labels, folds, seed)
    return np.mean([_area_under_curve(score, labels[:, test].T) for test, score in scores], axis=0)


def given_away(
    real: Tensor, samples: Tensor, encoder: Encoder, config: FeatureDistancesConfig, seed: int, count: int
) -> np.ndarray:
    """Return the samples that the classifier of `classifier_auc` tells most surely from real images.

    Parameters
    ----------
    real, samples, encoder, config, seed
        As of `compare_images`.
    count
        How many samples, at most.

    Returns
    -------
    ndarray of indices into ``samples``, the surest first
    """
    x, y = features(encoder, real), features(encoder, samples)
    labels = (np.arange(len(x) + len(y)) < len(x))[None]
    score = np.zeros(labels.shape[1])
    for test, scores in _scores_of_left_out(standardised(np.concatenate([x, y])), labels, config.folds, seed):
        score[test] = scores[:, 0]
    return np.argsort(score[len(x) :], kind="stable")[:count]


def _scores_of_left_out(
    joined: np.ndarray, labels: np.ndarray, folds: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each fold which images it leaves out (n,), and their scores (n', P), high for true labels."""
    fold = np.random.default_rng([seed, folds]).permutation(len(joined)) % folds
    design = np.column_stack([joined, np.ones(len(joined))])
    ridge = np.diag([1.0] * joined.shape[1] + [0.0])  # columns have deviation 1; not on the constant
    for left_out in range(folds):
        test = fold == left_out
        train = design[~test]
        weights = solve(train.T @ train + ridge, train.T @ labels[:, ~test].T, assume_a="pos")
        yield test, design[test] @ weights


def _area_under_curve(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability that a true label scores above a false one, by column: (n, P) each -> (P,)."""
    true = labels.sum(0)
    false = len(labels) - true
    ranks = (rankdata(scores, axis=0) * labels).sum(0)
    return (ranks - true * (true + 1) / 2) / np.maximum(true * false, 1)
