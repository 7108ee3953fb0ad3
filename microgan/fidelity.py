"""How near generated microstructures come to real ones, each descriptor beside its noise floor.

Two sets of real windows differ too, by chance and from place to place. The floor is that difference,
between training windows and calibration windows; ``error / floor`` near 1 is as good as real. Samples are
compared with held-out windows, which nothing else ever uses.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field
from scipy.stats import wasserstein_distance
from torch import Tensor

from microgan.config import Config
from microgan.descriptors import radial_lags, two_point_correlation, volume_fraction
from microgan.errors import UserError
from microgan.estimates import Distribution
from microgan.planes import ROLES, Planes
from microgan.point_patterns import Discs, nearest_neighbour_distribution, radius_distribution
from microgan.validity import Reference, detect_all, phase_image
from microgan.windows import Windows

DESCRIPTORS = ("volume_fraction", "two_point_correlation", "radius", "nearest_neighbour_distance")
HISTOGRAM_BINS = 32
BAND_QUANTILE = 0.95


class FidelityConfig(Config):
    """How much is compared, and in which part of the windows."""

    windows: int = Field(
        default=1000,
        ge=2,
        description="real windows of each kind, and at most as many samples; also the floor's",
    )
    floor_repeats: int = Field(default=100, ge=1, description="draws that the noise floor is the mean of")
    max_lag_px: int | None = Field(
        default=None, ge=1, description="largest distance of the two-point correlation; none: half a window"
    )
    margin_px: float | None = Field(
        default=None, ge=0, description="radii count of centres that far inside; none: the largest radius"
    )
    seed: int = Field(default=0, ge=0, description="of the real windows and of the floor's draws")


@dataclass(frozen=True)
class Description:
    """The descriptors of a set of N images, image by image.

    Attributes
    ----------
    volume_fraction
        Shape (N,).
    two_point_correlation
        Shape (N, n_lags), at the distances ``lags_px``.
    lags_px
        Shape (n_lags,).
    radius, nearest_neighbour_distance
        Of the circles, in pixels.
    """

    volume_fraction: np.ndarray
    two_point_correlation: np.ndarray
    lags_px: np.ndarray
    radius: Distribution
    nearest_neighbour_distance: Distribution

    def __len__(self) -> int:
        return len(self.volume_fraction)

    def take(self, images: np.ndarray) -> "Description":
        """Keep ``images`` (indices, none twice)."""
        return Description(
            self.volume_fraction[images],
            self.two_point_correlation[images],
            self.lags_px,
            self.radius.take(images),
            self.nearest_neighbour_distance.take(images),
        )

    def summary(self) -> dict[str, float]:
        """Return one figure a descriptor: the mean, or of a correlation its length; NaN for no values."""
        if not len(self):
            return dict.fromkeys(DESCRIPTORS, float("nan"))
        curve = self.two_point_correlation.mean(axis=0)
        return {
            "volume_fraction": float(self.volume_fraction.mean()),
            "two_point_correlation": correlation_length(self.lags_px, curve),
            "radius": self.radius.mean(),
            "nearest_neighbour_distance": self.nearest_neighbour_distance.mean(),
        }


@dataclass(frozen=True)
class Fidelity:
    """What `evaluate` found: figures for ``fidelity.json`` and curves for ``curves.json``."""

    metrics: dict[str, Any]
    curves: dict[str, list[dict[str, float | None]]]


def describe(
    phase: np.ndarray,
    circles: Sequence[Discs],
    margin_px: float,
    max_lag_px: int | None = None,
    periodic: bool = False,
) -> Description:
    """Compute the descriptors of a set of images.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool, true in the disc phase.
    circles
        The circles of each image, in pixels.
    margin_px
        Radii are taken of discs with their centre that far inside the border; see `radius_distribution`.
    max_lag_px
        Largest distance of the correlation; half of the shorter side by default.
    periodic
        Whether opposite borders of the images fit together.

    Raises
    ------
    UserError
        If there is not one set of circles an image, or the margin leaves nothing of the window.
    """
    if len(phase) != len(circles):
        raise UserError("circles", len(circles), f"must be as many as images, {len(phase)}")
    shape = phase.shape[1], phase.shape[2]
    margin_px = 0.0 if periodic else margin_px
    if 2 * margin_px >= min(shape):
        rule = (
            f"must be below half of the window, {min(shape) / 2:g} px (by default it is the largest radius)"
        )
        raise UserError("evaluate.margin_px", margin_px, rule)
    correlation = two_point_correlation(phase, max_lag_px, periodic)
    return Description(
        volume_fraction=volume_fraction(phase),
        two_point_correlation=correlation,
        lags_px=radial_lags(correlation.shape[1] - 1),
        radius=radius_distribution(circles, shape, margin_px),
        nearest_neighbour_distance=nearest_neighbour_distribution(circles, shape, periodic),
    )


def correlation_length(lags_px: np.ndarray, curve: np.ndarray) -> float:
    """Return the distance in pixels at which (S2 - f^2) / (f - f^2) falls to 1 / e, f the volume fraction.

    NaN if the images are blank or the curve stays above. Both arguments have the shape (n_lags,).

    Examples
    --------
    >>> lags = np.arange(10.0)
    >>> round(correlation_length(lags, 0.25 + 0.25 * np.exp(-lags / 3)), 3)
    3.0
    """
    variance = curve[0] - curve[0] ** 2
    if variance <= 0:
        return float("nan")
    covariance = (curve - curve[0] ** 2) / variance
    below = np.flatnonzero(covariance < np.exp(-1))
    if not len(below):
        return float("nan")
    pair = slice(below[0] - 1, below[0] + 1)
    return float(np.interp(-np.exp(-1), -covariance[pair], lags_px[pair]))


def errors(samples: Description, reference: Description) -> dict[str, float]:
    """Return how far apart two sets are, one figure a descriptor; NaN where one of them has no values.

    The volume fraction's is the difference over the reference; that of the two-point correlation the L2
    norm of the difference over that of the reference's curve; that of radius and nearest-neighbour distance
    the Wasserstein-1 distance over the reference's mean (Vallender, Theory Probab. Appl. 18 (1974) 784-786).
    """
    if not len(samples) or not len(reference):
        return dict.fromkeys(DESCRIPTORS, float("nan"))
    fraction, curve = reference.volume_fraction.mean(), reference.two_point_correlation.mean(axis=0)
    return {
        "volume_fraction": _relative(abs(samples.volume_fraction.mean() - fraction), fraction),
        "two_point_correlation": _relative(
            np.linalg.norm(samples.two_point_correlation.mean(axis=0) - curve), np.linalg.norm(curve)
        ),
        "radius": _wasserstein(samples.radius, reference.radius),
        "nearest_neighbour_distance": _wasserstein(
            samples.nearest_neighbour_distance, reference.nearest_neighbour_distance
        ),
    }


def floor_between(
    one: Description, other: Description, count: int, repeats: int, seed: int
) -> dict[str, float]:
    """Return the mean error between ``count`` images of one real set and ``count`` of another.

    Images are drawn without putting back, from sets of at least ``count`` and better twice that, so that
    the mean is the error to be expected of sets of that size. Drawing with putting back, the usual bootstrap,
    would add the chance of the draw to that of the set, and flatter whatever is compared with the floor
    (Politis and Romano, Ann. Statist. 22 (1994) 2031-2050).

    Parameters
    ----------
    one, other
        Real windows of two places.
    count
        Size of the sets that the floor is for.
    repeats
        Number of draws.
    seed
        Same seed, same floor.
    """
    draws = [errors(*pair) for pair in _drawn_pairs(one, other, count, repeats, seed)]
    return {name: float(np.mean([draw[name] for draw in draws])) for name in DESCRIPTORS}


def band_between(one: Description, other: Description, count: int, repeats: int, seed: int) -> np.ndarray:
    """Return by how much two-point correlations differ between real sets: the 95 % quantile at each lag.

    Parameters as in `floor_between`; the result has the shape (n_lags,).
    """
    gaps = [
        np.abs(a.two_point_correlation.mean(axis=0) - b.two_point_correlation.mean(axis=0))
        for a, b in _drawn_pairs(one, other, count, repeats, seed)
    ]
    return np.quantile(gaps, BAND_QUANTILE, axis=0)


def compare(
    samples: Description, held_out: Description, floor: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    """Compare samples with held-out windows.

    Parameters
    ----------
    samples, held_out
        Descriptions of both.
    floor
        Real-versus-real error of each descriptor, from `noise_floor`; may lack some.

    Returns
    -------
    dict
        For each descriptor ``value`` and ``reference`` (see `Description.summary`), ``error`` (see `errors`),
        ``floor``, and ``ratio`` = error / floor. None where there is nothing to tell, such as the radius of
        no circles.
    """
    found = errors(samples, held_out)
    value, reference = samples.summary(), held_out.summary()
    table = {}
    for name in DESCRIPTORS:
        ratio = found[name] / floor[name] if floor.get(name) else float("nan")
        row = {"value": value[name], "reference": reference[name], "error": found[name]}
        row |= {"floor": floor.get(name, float("nan")), "ratio": ratio}
        table[name] = {key: _or_none(number) for key, number in row.items()}
    return table


def describe_windows(images: Tensor, reference: Reference, config: FidelityConfig) -> Description:
    """Find phase and circles in normalised images (N, 1, H, W), and describe them."""
    circles = detect_all(images, reference.radius_px, reference.polarity, reference.detector)
    return describe_samples(images, circles, reference, config)


def describe_samples(
    images: Tensor, circles: Sequence[Discs], reference: Reference, config: FidelityConfig
) -> Description:
    """Describe normalised images (N, 1, H, W) with circles found before, such as by `validity.judge`."""
    phase = phase_image(images, reference).reshape(len(images), *images.shape[-2:]).cpu().numpy()
    margin_px = reference.radius_px[1] if config.margin_px is None else config.margin_px
    return describe(phase, circles, margin_px, config.max_lag_px)


def noise_floor(planes: Planes, reference: Reference, config: FidelityConfig) -> dict[str, float]:
    """Return the error of each descriptor between real windows, training against calibration.

    ``config.windows`` on either side, as many as samples are compared. Descriptors without any value, such as
    the radius in a scan without circles, are left out.
    """
    one, other = (
        describe_windows(_draw(planes, role, reference, config, 2), reference, config)
        for role in ("train", "calibration")
    )
    floor = floor_between(one, other, config.windows, config.floor_repeats, config.seed)
    return {name: error for name, error in floor.items() if np.isfinite(error)}


def evaluate(
    samples: Description, valid: np.ndarray, planes: Planes, reference: Reference, config: FidelityConfig
) -> Fidelity:
    """Compare samples with held-out windows, before and after filtering.

    Parameters
    ----------
    samples
        All generated images, from `describe_samples`. The first ``config.windows`` count, before filtering
        and among the valid ones.
    valid
        Verdict of each image, shape (N,) of bool.
    planes
        The scan.
    reference
        From calibration; its ``noise_floor`` is used, or computed now if it is empty.
    config
        Parameters.

    Returns
    -------
    Fidelity
        ``metrics`` holds ``before``, ``after`` and, for scale, ``training_windows``: what a generator would
        get that repeats its training data. Each is a table of `compare`; ``n`` holds the sizes of the sets.
        ``curves`` holds a list of rows for each curve; see `curves`.
    """
    if len(valid) != len(samples):
        raise UserError("verdicts", len(valid), f"must be as many as samples, {len(samples)}")
    sets = {
        "held_out": describe_windows(_draw(planes, "held_out", reference, config), reference, config),
        "training_windows": describe_windows(_draw(planes, "train", reference, config), reference, config),
        "before": samples.take(np.arange(len(samples))[: config.windows]),
        "after": samples.take(np.flatnonzero(valid)[: config.windows]),
    }
    floor = reference.noise_floor or noise_floor(planes, reference, config)
    metrics: dict[str, Any] = {
        name: compare(sets[name], sets["held_out"], floor) for name in ("before", "after", "training_windows")
    }
    metrics["n"] = {name: len(described) for name, described in sets.items()} | {"floor": config.windows}
    return Fidelity(metrics, curves(sets, two_point_band(planes, reference, config)))


def two_point_band(planes: Planes, reference: Reference, config: FidelityConfig) -> np.ndarray:
    """Return the half width (n_lags,) of the noise floor of the two-point correlation; see `band_between`."""
    none = [_NO_DISCS] * (2 * config.windows)
    one, other = (
        describe_samples(_draw(planes, role, reference, config, 2), none, reference, config)
        for role in ("train", "calibration")
    )
    return band_between(one, other, config.windows, config.floor_repeats, config.seed)


def curves(sets: Mapping[str, Description], band: np.ndarray) -> dict[str, list[dict[str, float | None]]]:
    """Tabulate curves for plots, one row a point, one column a set.

    Parameters
    ----------
    sets
        Descriptions by name; one of them is ``held_out`` and gives the axes.
    band
        Half width of the noise floor of the two-point correlation, shape (n_lags,).

    Returns
    -------
    dict
        ``two_point_correlation``: rows of ``lag_px``, the sets, and ``floor``, the half width of the band;
        ``radius``: rows of ``radius_px`` (centre of the bin) and the sets' probability density per pixel;
        ``nearest_neighbour_distance``: the same with ``distance_px``. None for a set without values.
    """
    real = sets["held_out"]
    correlation = {
        name: described.two_point_correlation.mean(axis=0) if len(described) else np.full(len(band), np.nan)
        for name, described in sets.items()
    }
    return {
        "two_point_correlation": _rows({"lag_px": real.lags_px, **correlation, "floor": band}),
        "radius": _histogram("radius_px", {name: part.radius for name, part in sets.items()}),
        "nearest_neighbour_distance": _histogram(
            "distance_px", {name: part.nearest_neighbour_distance for name, part in sets.items()}
        ),
    }


@dataclass(frozen=True)
class _NoDiscs:
    row: np.ndarray
    col: np.ndarray
    radius: np.ndarray


_NO_DISCS = _NoDiscs(*(np.empty(0),) * 3)


def _draw(planes: Planes, role: str, reference: Reference, config: FidelityConfig, times: int = 1) -> Tensor:
    """Draw ``times * config.windows`` real windows, always the same."""
    windows = Windows(planes, role, reference.window_px)
    rng = np.random.default_rng([config.seed, ROLES.index(role)])
    return windows.draw(rng, times * config.windows, augment=False)


def _drawn_pairs(
    one: Description, other: Description, count: int, repeats: int, seed: int
) -> Iterator[tuple[Description, Description]]:
    if min(len(one), len(other)) < count:
        raise UserError("count", count, f"must be at most the number of images, {min(len(one), len(other))}")
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        yield one.take(rng.permutation(len(one))[:count]), other.take(rng.permutation(len(other))[:count])


def _relative(difference: float | np.floating, whole: float | np.floating) -> float:
    """A difference in units of the reference; without a reference, NaN."""
    return float(difference / whole) if whole > 0 else float("nan")


def _wasserstein(samples: Distribution, reference: Distribution) -> float:
    if not len(samples) or not len(reference):
        return float("nan")
    distance = wasserstein_distance(samples.values, reference.values, samples.weights, reference.weights)
    return _relative(distance, reference.mean())


def _histogram(axis: str, sets: Mapping[str, Distribution]) -> list[dict[str, float | None]]:
    """Densities of all sets over the same bins, which span what real windows and most of the samples have."""
    spans = [np.quantile(part.values, (0.001, 0.999)) for part in sets.values() if len(part)]
    if not spans:
        return []
    low, high = np.min(spans), np.max(spans)
    edges = np.linspace(low, max(high, low + 1e-3), HISTOGRAM_BINS + 1)
    nothing = np.full(HISTOGRAM_BINS, np.nan)
    columns = {name: part.density(edges) if len(part) else nothing for name, part in sets.items()}
    return _rows({axis: (edges[:-1] + edges[1:]) / 2, **columns})


def _rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, float | None]]:
    return [
        dict(zip(columns, map(_or_none, row), strict=True)) for row in zip(*columns.values(), strict=True)
    ]


def _or_none(number: float) -> float | None:
    """JSON has no NaN."""
    return float(number) if np.isfinite(number) else None
