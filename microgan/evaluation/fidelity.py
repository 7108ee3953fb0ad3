"""How near generated microstructures come to real ones, each descriptor beside its noise floor.

The noise floor is the difference between real windows of two places (`microgan.evaluation.real_statistics`);
``error / floor`` near 1 is as good as real. Samples are compared with held-out windows, which nothing else
ever uses. Whether they differ, or are shown to be equivalent, is tested with the windows of a place kept
together (`microgan.statistics.resampling`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgan.core.errors import UserError
from microgan.evaluation.descriptors import DESCRIPTORS, DescriptorValues
from microgan.evaluation.homogenisation import PropertiesConfig, hashin_shtrikman, voigt_reuss
from microgan.evaluation.real_statistics import FidelityConfig, MeasuredImages, RealStatistics, errors
from microgan.statistics.estimators import Curve, Distribution
from microgan.statistics.resampling import Equivalence, GlobalTest, Resamples, equivalence, global_test

HISTOGRAM_BINS = 32
# The descriptors whose differences are counted, tested at a level for all of them together. Volume fraction
# differs so much from place to place of one scan that it hides a small shift; chords in discs show it.
HEADLINE = (
    "volume_fraction",
    "two_point_correlation",
    "chord_length_discs",
    "radius",
    "nearest_neighbour_distance",
    "hexatic_order",
    "stiffness",
)
LEVEL = 0.05


@dataclass(frozen=True)
class Fidelity:
    """Results of `evaluate`: figures for ``fidelity.json`` and curves for ``curves.json``."""

    metrics: dict[str, Any]
    curves: dict[str, list[dict[str, float | None]]]


@dataclass(frozen=True)
class Comparison:
    """One set of images beside held-out windows.

    Attributes
    ----------
    table
        Descriptor -> ``value`` and ``reference`` (see `DescriptorValues.summary`), ``error`` (see `errors`),
        ``floor``, ``ratio`` = error / floor, ``p`` of the test that the two are equal; and where means are
        compared ``difference``, its 90 % interval from ``low`` to ``high``, ``margin``, and ``equivalent``.
        None where there is no value, such as the radius of no circles.
    envelopes
        Descriptor -> half width of the global 95 % envelope of the difference, along its curve.
    """

    table: dict[str, dict[str, float | bool | None]]
    envelopes: dict[str, np.ndarray]


def compare(
    samples: MeasuredImages, held_out: MeasuredImages, floor: Mapping[str, float], config: FidelityConfig
) -> Comparison:
    """Compare a set of images with held-out windows; ``floor`` may lack some descriptors."""
    table: dict[str, dict[str, float | bool | None]] = {}
    envelopes: dict[str, np.ndarray] = {}
    for values, reference in (
        (samples.structure, held_out.structure),
        (samples.properties, held_out.properties),
    ):
        error, summary, reference_summary = errors(values, reference), values.summary(), reference.summary()
        enough_places = min(_places(values), _places(reference)) > 1
        tests = _tests(values, reference, config) if enough_places else {}
        for name in values.names:
            numbers = {
                "value": summary[name],
                "reference": reference_summary[name],
                "error": error[name],
                "floor": floor.get(name, float("nan")),
                "ratio": _over(error[name], floor.get(name)),
            }
            table[name] = {key: _or_none(number) for key, number in numbers.items()}
            if name in tests:
                test, equal = tests[name]
                table[name] |= {"p": _or_none(test.p)} | (_row_of(equal) if equal else {})
                envelopes[name] = test.half_width
    return Comparison(table, envelopes)


def flagged(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which of `HEADLINE` differ, in a table of `Comparison`, at `LEVEL` for all together (Holm)."""
    return differing(table, HEADLINE)


def differing(table: Mapping[str, Mapping[str, Any]], among: Sequence[str]) -> list[str]:
    """Return which rows of a table differ by their ``p``, at `LEVEL` for all of ``among`` together (Holm).

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979) 65-70.
    """
    p = sorted((row["p"], name) for name in among if (row := table.get(name, {})).get("p") is not None)
    names = []
    for left, (value, name) in zip(range(len(p), 0, -1), p, strict=True):
        if value > LEVEL / left:
            break
        names.append(name)
    return names


def count_flagged(table: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Return how many of `HEADLINE` differ; None where not one could be tested."""
    tested = any(table.get(name, {}).get("p") is not None for name in HEADLINE)
    return len(flagged(table)) if tested else None


def fidelity_headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures of `evaluate` by which models are compared, of the valid samples.

    ``flagged``: how many descriptors of `HEADLINE` differ from real; ``flagged_before`` the same before
    filtering, ``flagged_training_windows`` of real windows; ``shift``: the largest change by filtering
    itself, over the floor; ``NAME.ratio``: error over floor; ``stiffness.difference``: relative. None is what
    cannot be told, such as all figures of valid samples where none is valid.
    """
    figures: dict[str, float | None] = {"flagged": count_flagged(metrics["after"])}
    figures |= {f"flagged_{key}": count_flagged(metrics[key]) for key in ("before", "training_windows")}
    shifts = [shift for shift in metrics["shift"].values() if shift is not None]
    figures["shift"] = max(shifts) if shifts else None
    figures |= {f"{name}.ratio": row["ratio"] for name in HEADLINE if (row := metrics["after"].get(name))}
    figures["stiffness.difference"] = metrics["after"]["stiffness"].get("difference")
    return figures


def property_bounds(images: MeasuredImages, config: PropertiesConfig) -> dict[str, Any]:
    """Return the bounds of the effective properties at the volume fraction of the images that were solved.

    Parameters
    ----------
    images
        Bounds are means over its solved images: each bound at the volume fraction of each image.
    config
        Materials of both phases.

    Returns
    -------
    dict
        ``volume_fraction``, the mean; and ``stiffness``, ``shear_stiffness`` and ``conductivity``, each with
        ``reuss``, ``hashin_shtrikman_low``, ``hashin_shtrikman_high`` and ``voigt`` in the unit of
        `DESCRIPTORS`. None without solved images. Those of Hashin and Shtrikman hold for the stiffness of
        microstructures that are isotropic in the plane, and for any conductivity (mean of both directions).
    """
    fractions = images.structure.mean("volume_fraction").numerator[: len(images.properties), 0]
    outer, inner = voigt_reuss(fractions, config), hashin_shtrikman(fractions, config)
    bounds = {
        name: {
            "reuss": low,
            "hashin_shtrikman_low": inner_low,
            "hashin_shtrikman_high": inner_high,
            "voigt": high,
        }
        for name, (low, high), (inner_low, inner_high) in (
            ("stiffness", outer.stiffness_gpa, inner.stiffness_gpa),
            ("shear_stiffness", outer.shear_gpa, inner.shear_gpa),
            ("conductivity", outer.conductivity_w_mk, inner.conductivity_w_mk),
        )
    }
    return {"volume_fraction": _mean_or_none(fractions)} | {
        name: {key: _mean_or_none(values) for key, values in of_name.items()}
        for name, of_name in bounds.items()
    }


def evaluate(
    samples: MeasuredImages,
    valid: np.ndarray,
    real: RealStatistics,
    config: FidelityConfig,
    properties: PropertiesConfig,
) -> Fidelity:
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
        How much is compared.
    properties
        Materials of the effective properties.

    Returns
    -------
    Fidelity
        ``metrics`` holds ``before``, ``after`` and, for scale, ``training_windows``: what a generator would
        get that repeats its training data. Each is the table of a `Comparison`. ``shift`` holds the error of
        each descriptor between after and before, in units of the floor: what filtering itself changes. ``n``
        holds the sizes of the sets, ``bounds`` the `property_bounds` of each. ``curves`` holds a list of rows
        for each curve; see `curves`.
    """
    count = len(samples.structure)
    if len(valid) != count:
        raise UserError("verdicts", len(valid), f"must be as many as samples, {count}")
    sets = {
        "before": samples.take(np.arange(count)[: config.windows]),
        "after": samples.take(np.flatnonzero(valid)[: config.windows]),
        "training_windows": real.train,
    }
    compared = {name: compare(images, real.held_out, real.floor, config) for name, images in sets.items()}
    metrics: dict[str, Any] = {name: comparison.table for name, comparison in compared.items()}
    after, before = sets["after"], sets["before"]
    shift = errors(after.structure, before.structure) | errors(after.properties, before.properties)
    metrics["shift"] = {name: _or_none(_over(shift[name], real.floor.get(name))) for name in shift}
    every = {"held_out": real.held_out, **sets}
    metrics["n"] = {name: len(images.structure) for name, images in every.items()}
    metrics["n"] |= {"floor": config.windows}
    metrics["n"]["solved"] = {name: len(images.properties) for name, images in every.items()}
    metrics["bounds"] = {name: property_bounds(images, properties) for name, images in every.items()}
    structures = {name: images.structure for name, images in every.items()}
    return Fidelity(metrics, curves(structures, compared["before"].envelopes))


def curves(
    sets: Mapping[str, DescriptorValues], envelopes: Mapping[str, np.ndarray]
) -> dict[str, list[dict[str, float | None]]]:
    """Tabulate curves for plots, one row a point, one column a set.

    Parameters
    ----------
    sets
        Values of the descriptors by name; one set is ``held_out`` and gives the axes.
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
            tables[name] = _histogram({key: values.distributions[name] for key, values in sets.items()})
        elif len(real.curves[name].axis) > 1:
            columns = {key: values.curves[name].mean() for key, values in sets.items()}
            axis, unknown = real.curves[name].axis, np.full(len(real.curves[name].axis), np.nan)
            tables[name] = _rows({"axis": axis, **columns, "envelope": envelopes.get(name, unknown)})
    return tables


def _tests(
    samples: DescriptorValues, held_out: DescriptorValues, config: FidelityConfig
) -> dict[str, tuple[GlobalTest, Equivalence | None]]:
    resamples = Resamples.of(samples.group, config.resamples, config.seed)
    held_out_resamples = Resamples.of(held_out.group, config.resamples, config.seed + 1)
    tests = {}
    for name in samples.names:
        margin, pair = DESCRIPTORS[name].margin, _as_curves(name, samples, held_out)
        means = samples.mean(name), held_out.mean(name)
        equal = None
        if margin and all(np.isfinite(curve.mean()).all() for curve in means):
            equal = equivalence(*means, resamples, held_out_resamples, margin)
        tests[name] = global_test(*pair, resamples, held_out_resamples), equal
    return tests


def _places(values: DescriptorValues) -> int:
    """How many images or places are resampled: with one alone the spread is unknown."""
    return len(np.unique(values.group))


def _as_curves(name: str, samples: DescriptorValues, held_out: DescriptorValues) -> tuple[Curve, Curve]:
    """Curves as they are; of distributions the cumulative ones, over bins that span the real one."""
    if name in held_out.curves:
        return samples.curves[name], held_out.curves[name]
    values, real_values = samples.distributions[name], held_out.distributions[name]
    edges = _edges([real_values])
    return values.cumulative(edges, len(samples)), real_values.cumulative(edges, len(held_out))


def _row_of(equal: Equivalence) -> dict[str, float | bool | None]:
    return {
        "difference": _or_none(equal.difference),
        "low": _or_none(equal.low),
        "high": _or_none(equal.high),
        "margin": equal.margin,
        "equivalent": equal.shown,
    }


def _edges(parts: list[Distribution]) -> np.ndarray:
    """Edges of about HISTOGRAM_BINS bins that span nearly all values; whole numbers are centres of bins."""
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
    unknown = np.full(len(edges) - 1, np.nan)
    columns = {name: values.density(edges) if len(values) else unknown for name, values in sets.items()}
    return _rows({"axis": (edges[:-1] + edges[1:]) / 2, **columns})


def _rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, float | None]]:
    return [
        dict(zip(columns, map(_or_none, row), strict=True)) for row in zip(*columns.values(), strict=True)
    ]


def _over(error: float, floor: float | None) -> float:
    return error / floor if floor else float("nan")


def _mean_or_none(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _or_none(number: float) -> float | None:
    """JSON has no NaN."""
    return float(number) if np.isfinite(number) else None
