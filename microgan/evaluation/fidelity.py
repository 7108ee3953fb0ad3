"""How near generated microstructures come to real ones, each descriptor beside its noise floor.

Two sets of real windows differ too, by chance and from place to place. The floor is that difference,
between training windows and calibration windows; ``error / floor`` near 1 is as good as real. Samples are
compared with held-out windows, which nothing else ever uses, and whether they differ, or are shown to be
equivalent, is tested with the windows of a place kept together (`microgan.statistics.resampling`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.stats import wasserstein_distance
from torch import Tensor

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import read_json, write_json
from microgan.evaluation.descriptors import (
    DESCRIPTORS,
    Description,
    describe,
    describe_properties,
    with_verdicts,
)
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.scan.planes import ROLES, Planes
from microgan.scan.windows import Windows
from microgan.statistics.estimators import Curve, Distribution, relative_distance
from microgan.statistics.resampling import Equivalence, GlobalTest, Resampled, equivalence, global_test
from microgan.validity.judging import Verdict, judge, phase_image
from microgan.validity.reference import Reference

HISTOGRAM_BINS = 32
# The descriptors by which sets are told apart, at a level for all of them together. Volume fraction differs
# so much from place to place of one scan that a small shift drowns; chords in discs, however many, show it.
HEADLINE = (
    "pass_rate",
    "volume_fraction",
    "two_point_correlation",
    "chord_length_discs",
    "radius",
    "nearest_neighbour_distance",
    "hexatic_order",
    "stiffness",
)
LEVEL = 0.05
DESCRIPTIONS, FLOOR = "descriptions.safetensors", "noise_floor.json"


class FidelityConfig(Config):
    """How much is compared."""

    windows: int = Field(
        default=1000,
        ge=2,
        description="real windows of each kind, and at most as many samples; also the floor's",
    )
    floor_repeats: int = Field(default=100, ge=1, description="draws that the noise floor is the mean of")
    resamples: int = Field(
        default=499, ge=19, description="of the tests and intervals; with fewer than 159 nothing is flagged"
    )
    max_lag_px: int | None = Field(
        default=None, ge=1, description="largest distance of the curves; none: half a window"
    )
    seed: int = Field(default=0, ge=0, description="of the real windows and of all draws")


@dataclass(frozen=True)
class Measured:
    """A set of images as evaluation sees it.

    Attributes
    ----------
    structure
        Descriptors of phase and circles.
    properties
        Effective properties, of the first `PropertiesConfig.count` images, as they take long.
    """

    structure: Description
    properties: Description

    @classmethod
    def of(
        cls,
        images: Tensor,
        verdicts: Sequence[Verdict],
        reference: Reference,
        config: FidelityConfig,
        properties: PropertiesConfig,
        group: np.ndarray | None = None,
    ) -> "Measured":
        """Measure normalised images (N, 1, H, W), with the verdict on each; ``group`` as in `describe`."""
        circles, valid = [one.circles for one in verdicts], np.array([one.valid for one in verdicts], bool)
        phase = phase_image(images, reference).cpu().numpy()
        group = np.arange(len(phase)) if group is None else group
        some = slice(properties.count)
        structure = describe(phase, circles, reference.radius_px[1], group, config.max_lag_px)
        return cls(
            with_verdicts(structure, valid),
            describe_properties(phase[some], properties, group[some]),
        )

    def take(self, images: np.ndarray) -> "Measured":
        """Keep ``images`` (indices, none twice)."""
        solved = images[images < len(self.properties)]
        return Measured(self.structure.take(images), self.properties.take(solved))

    def without(self, name: str) -> "Measured":
        """Leave out a number or curve of the structure."""
        curves = {key: curve for key, curve in self.structure.curves.items() if key != name}
        return Measured(replace(self.structure, curves=curves), self.properties)

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Return all arrays by name, to be kept in a file."""
        return self.structure.arrays(f"{prefix}.structure") | self.properties.arrays(f"{prefix}.properties")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> "Measured":
        """Return what `arrays` was made of."""
        parts = (Description.from_arrays(arrays, f"{prefix}.{part}") for part in ("structure", "properties"))
        return cls(*parts)


@dataclass(frozen=True)
class RealWindows:
    """What samples are compared with, measured once for all models.

    Attributes
    ----------
    held_out, train
        As many windows as `FidelityConfig.windows`.
    floor
        Descriptor -> mean error between real windows of two places; see `floor_between`.
    """

    held_out: Measured
    train: Measured
    floor: Mapping[str, float]

    @classmethod
    def of(
        cls,
        planes: Planes,
        reference: Reference,
        config: FidelityConfig,
        properties: PropertiesConfig,
        allow_own_rules: bool = False,
    ) -> "RealWindows":
        """Measure windows of the scan; twice as many for the floor, so that draws from them differ."""

        def measured(role: str, count: int) -> Measured:
            windows = Windows(planes, role, reference.window_px)
            rng = np.random.default_rng([config.seed, ROLES.index(role)])
            images, block = windows.draw_in_blocks(rng, count)
            verdicts = judge(images, reference, allow_own_rules=allow_own_rules)
            return Measured.of(images, verdicts, reference, config, properties, block)

        train, calibration = (measured(role, 2 * config.windows) for role in ("train", "calibration"))
        draws = (config.windows, config.floor_repeats, config.seed)
        floor = floor_between(train.structure, calibration.structure, *draws)
        floor |= errors(train.properties, calibration.properties)
        held_out = measured("held_out", config.windows)
        told = {name: error for name, error in floor.items() if np.isfinite(error)}
        return cls(held_out, train.take(np.arange(config.windows)), told)

    def save(self, folder: Path) -> None:
        """Write ``descriptions.safetensors`` and ``noise_floor.json`` into ``folder``."""
        arrays = self.held_out.arrays("held_out") | self.train.arrays("train")
        # Written as they lie in memory: the values of others than contiguous arrays would be mixed up.
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / DESCRIPTIONS
        )
        write_json(folder / FLOOR, dict(self.floor))

    @classmethod
    def load(cls, folder: Path) -> "RealWindows":
        """Read what `save` wrote."""
        try:
            arrays = load_file(folder / DESCRIPTIONS)
        except (OSError, SafetensorError) as error:
            raise UserError(folder / DESCRIPTIONS, "unreadable", f"must be whole ({error})") from None
        held_out, train = (Measured.from_arrays(arrays, role) for role in ("held_out", "train"))
        return cls(held_out, train, read_json(folder / FLOOR))


@dataclass(frozen=True)
class Fidelity:
    """What `evaluate` found: figures for ``fidelity.json`` and curves for ``curves.json``."""

    metrics: dict[str, Any]
    curves: dict[str, list[dict[str, float | None]]]


def errors(samples: Description, reference: Description) -> dict[str, float]:
    """Return how far apart two sets are, one figure a descriptor; NaN where one of them has no values.

    Of a number: the difference over the reference. Of a curve: the L2 norm of the difference over that of
    the reference's curve. Of a distribution: the Wasserstein-1 distance over the reference's mean (Vallender,
    Theory Probab. Appl. 18 (1974) 784-786).
    """
    if not len(samples) or not len(reference):
        return dict.fromkeys(samples.names, float("nan"))
    curves = {
        name: relative_distance(curve.mean(), reference.curves[name].mean())
        for name, curve in samples.curves.items()
    }
    distances = {
        name: _wasserstein(values, reference.distributions[name])
        for name, values in samples.distributions.items()
    }
    return {name: (curves | distances)[name] for name in samples.names}


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
    return {name: float(np.mean([draw[name] for draw in draws])) for name in one.names}


@dataclass(frozen=True)
class Comparison:
    """One set of images beside held-out windows.

    Attributes
    ----------
    table
        Descriptor -> ``value`` and ``reference`` (see `Description.summary`), ``error`` (see `errors`),
        ``floor``, ``ratio`` = error / floor, ``p`` of the test that the two are equal; and where means are
        compared ``difference``, its 90 % interval from ``low`` to ``high``, ``margin``, and ``equivalent``.
        None where there is nothing to tell, such as the radius of no circles.
    envelopes
        Descriptor -> half width of the global 95 % envelope of the difference, along its curve.
    """

    table: dict[str, dict[str, float | bool | None]]
    envelopes: dict[str, np.ndarray]


def differences(samples: Measured, reference: Measured) -> dict[str, float]:
    """Return the errors of structure and properties."""
    return errors(samples.structure, reference.structure) | errors(samples.properties, reference.properties)


def compare(
    samples: Measured, held_out: Measured, floor: Mapping[str, float], config: FidelityConfig
) -> Comparison:
    """Compare a set of images with held-out windows; ``floor`` may lack some descriptors."""
    table: dict[str, dict[str, float | bool | None]] = {}
    envelopes: dict[str, np.ndarray] = {}
    for one, other in (
        (samples.structure, held_out.structure),
        (samples.properties, held_out.properties),
    ):
        found, value, reference = errors(one, other), one.summary(), other.summary()
        tests = _tests(one, other, config) if min(_places(one), _places(other)) > 1 else {}
        for name in one.names:
            numbers = {
                "value": value[name],
                "reference": reference[name],
                "error": found[name],
                "floor": floor.get(name, float("nan")),
                "ratio": _over(found[name], floor.get(name)),
            }
            table[name] = {key: _or_none(number) for key, number in numbers.items()}
            if name in tests:
                test, equal = tests[name]
                table[name] |= {"p": _or_none(test.p)} | (_row_of(equal) if equal else {})
                envelopes[name] = test.half_width
    return Comparison(table, envelopes)


def flagged(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which of `HEADLINE` differ, in a table of `Comparison`, at `LEVEL` for all together (Holm)."""
    p = sorted((row["p"], name) for name in HEADLINE if (row := table.get(name, {})).get("p") is not None)
    found = []
    for left, (value, name) in zip(range(len(p), 0, -1), p, strict=True):
        if value > LEVEL / left:
            break
        found.append(name)
    return found


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of `evaluate` by which models are compared, of the samples that pass.

    ``flagged``: how many descriptors of `HEADLINE` differ from real; ``flagged_before`` the same before
    filtering, ``flagged_training_windows`` of real windows; ``shift``: the largest change by filtering
    itself, over the floor; ``NAME.ratio``: error over floor; ``stiffness.difference``: relative.
    """
    figures: dict[str, float] = {"flagged": len(flagged(metrics["after"]))}
    figures |= {f"flagged_{key}": len(flagged(metrics[key])) for key in ("before", "training_windows")}
    shifts = [shift for shift in metrics["shift"].values() if shift is not None]
    figures |= {"shift": max(shifts)} if shifts else {}
    ratios = {f"{name}.ratio": row["ratio"] for name in HEADLINE if (row := metrics["after"].get(name))}
    ratios["stiffness.difference"] = metrics["after"]["stiffness"].get("difference")
    return figures | {name: value for name, value in ratios.items() if value is not None}


def evaluate(samples: Measured, valid: np.ndarray, real: RealWindows, config: FidelityConfig) -> Fidelity:
    """Compare samples with held-out windows, before and after filtering.

    Parameters
    ----------
    samples
        All generated images. The first ``config.windows`` count, before filtering and among the valid ones.
    valid
        Verdict of each image, shape (N,) of bool.
    real
        Real windows, with the noise floor.
    config
        Parameters.

    Returns
    -------
    Fidelity
        ``metrics`` holds ``before``, ``after`` and, for scale, ``training_windows``: what a generator would
        get that repeats its training data. Each is the table of a `Comparison`. ``shift`` holds the error of
        each descriptor between after and before, in units of the floor: what filtering itself changes. ``n``
        holds the sizes of the sets. ``curves`` holds a list of rows for each curve; see `curves`.
    """
    count = len(samples.structure)
    if len(valid) != count:
        raise UserError("verdicts", len(valid), f"must be as many as samples, {count}")
    sets = {
        "before": samples.take(np.arange(count)[: config.windows]),
        "after": samples.take(np.flatnonzero(valid)[: config.windows]).without("pass_rate"),
        "training_windows": real.train,
    }
    compared = {name: compare(one, real.held_out, real.floor, config) for name, one in sets.items()}
    metrics: dict[str, Any] = {name: comparison.table for name, comparison in compared.items()}
    shift = differences(sets["after"], sets["before"].without("pass_rate"))
    metrics["shift"] = {name: _or_none(_over(shift[name], real.floor.get(name))) for name in shift}
    sizes = {"held_out": real.held_out, **sets}
    metrics["n"] = {name: len(one.structure) for name, one in sizes.items()} | {"floor": config.windows}
    metrics["n"]["solved"] = {name: len(one.properties) for name, one in sizes.items()}
    structures = {"held_out": real.held_out.structure} | {name: one.structure for name, one in sets.items()}
    return Fidelity(metrics, curves(structures, compared["before"].envelopes))


def curves(
    sets: Mapping[str, Description], envelopes: Mapping[str, np.ndarray]
) -> dict[str, list[dict[str, float | None]]]:
    """Tabulate curves for plots, one row a point, one column a set.

    Parameters
    ----------
    sets
        Descriptions by name; one of them is ``held_out`` and gives the axes.
    envelopes
        Half widths of the envelopes of curves.

    Returns
    -------
    dict
        Curve -> rows of ``axis``, the sets, and ``envelope``; distribution -> rows of ``axis`` (centre of the
        bin) and the sets' probability density. None for a set without values.
    """
    real = sets["held_out"]
    tables = {}
    for name in real.names:
        if name in real.distributions:
            tables[name] = _histogram({key: one.distributions[name] for key, one in sets.items()})
        elif len(real.curves[name].axis) > 1:
            columns = {key: one.curves[name].mean() for key, one in sets.items()}
            axis, nothing = real.curves[name].axis, np.full(len(real.curves[name].axis), np.nan)
            tables[name] = _rows({"axis": axis, **columns, "envelope": envelopes.get(name, nothing)})
    return tables


def _tests(
    samples: Description, held_out: Description, config: FidelityConfig
) -> dict[str, tuple[GlobalTest, Equivalence | None]]:
    draws = Resampled.of(samples.group, config.resamples, config.seed)
    other_draws = Resampled.of(held_out.group, config.resamples, config.seed + 1)
    tests = {}
    for name in samples.names:
        margin, pair = DESCRIPTORS[name].margin, _as_curves(name, samples, held_out)
        means = samples.mean(name), held_out.mean(name)
        equal = None
        if margin and all(np.isfinite(one.mean()).all() for one in means):
            equal = equivalence(*means, draws, other_draws, margin)
        tests[name] = global_test(*pair, draws, other_draws), equal
    return tests


def _places(described: Description) -> int:
    """How many images or places are resampled: one alone says nothing of the spread."""
    return len(np.unique(described.group))


def _as_curves(name: str, samples: Description, held_out: Description) -> tuple[Curve, Curve]:
    """Curves as they are; of distributions the cumulative ones, over bins that span the real one."""
    if name in held_out.curves:
        return samples.curves[name], held_out.curves[name]
    one, other = samples.distributions[name], held_out.distributions[name]
    edges = _edges([other])
    return one.cumulative(edges, len(samples)), other.cumulative(edges, len(held_out))


def _row_of(equal: Equivalence) -> dict[str, float | bool | None]:
    return {
        "difference": _or_none(equal.difference),
        "low": _or_none(equal.low),
        "high": _or_none(equal.high),
        "margin": equal.margin,
        "equivalent": equal.shown,
    }


def _drawn_pairs(
    one: Description, other: Description, count: int, repeats: int, seed: int
) -> Iterator[tuple[Description, Description]]:
    if min(len(one), len(other)) < count:
        raise UserError("count", count, f"must be at most the number of images, {min(len(one), len(other))}")
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        yield one.take(rng.permutation(len(one))[:count]), other.take(rng.permutation(len(other))[:count])


def _wasserstein(samples: Distribution, reference: Distribution) -> float:
    if not len(samples) or not len(reference) or not reference.mean() > 0:
        return float("nan")
    distance = wasserstein_distance(samples.values, reference.values, samples.weights, reference.weights)
    return float(distance / reference.mean())


def _edges(parts: list[Distribution]) -> np.ndarray:
    """Edges of some HISTOGRAM_BINS bins that span nearly all values; around whole numbers, if these are."""
    known = [part.values for part in parts if len(part)]
    spans = [np.quantile(values, (0.001, 0.999)) for values in known]
    low, high = (np.min(spans), np.max(spans)) if spans else (0.0, 1.0)
    if known and all(np.array_equal(values, np.rint(values)) for values in known):
        step = max(1, round((high - low) / HISTOGRAM_BINS))
        return np.arange(np.floor(low) - 0.5, high + step, step)
    return np.linspace(low, max(high, low + 1e-3), HISTOGRAM_BINS + 1)


def _histogram(sets: Mapping[str, Distribution]) -> list[dict[str, float | None]]:
    """Densities of all sets over the same bins."""
    edges = _edges(list(sets.values()))
    nothing = np.full(len(edges) - 1, np.nan)
    columns = {name: part.density(edges) if len(part) else nothing for name, part in sets.items()}
    return _rows({"axis": (edges[:-1] + edges[1:]) / 2, **columns})


def _rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, float | None]]:
    return [
        dict(zip(columns, map(_or_none, row), strict=True)) for row in zip(*columns.values(), strict=True)
    ]


def _over(error: float, floor: float | None) -> float:
    return error / floor if floor else float("nan")


def _or_none(number: float) -> float | None:
    """JSON has no NaN."""
    return float(number) if np.isfinite(number) else None
