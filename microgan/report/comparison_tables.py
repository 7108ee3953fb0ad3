"""Tables that compare samples with real windows: statistics, effective properties, distances as images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE, count_flagged, differing
from microgan.report.figures.style import in_micrometres
from microgan.report.results import ModelResult
from microgan.report.tables import DASH, Cell, Row, Table, known, names, number, p_value, percent

TRAINING_WINDOWS = "real training windows"
SIGNIFICANT = "*"  # behind the figures that differ from real, beyond chance
PROPERTIES = ("stiffness", "shear_stiffness", "conductivity")
BOUNDS = ("reuss", "hashin_shtrikman_low", "hashin_shtrikman_high", "voigt")
ROUNDING = 1e-9  # relative: a homogeneous image has its bounds' very value
IMAGE_MEASURES = {
    "kernel_distance": "Kernel distance to held-out windows",
    "density": "Density",
    "coverage": "Coverage",
    "precision": "Precision",
    "recall": "Recall",
    "classifier_auc": "Classifier, area under the curve",
}


def significant(table: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return which descriptors of a comparison differ from real, at the level of the headline ones.

    Holm's correction is made for the headline descriptors together, which are what a model is judged by, and
    for all others together.
    """
    others = [name for name in table if name not in HEADLINE]
    return {*differing(table, HEADLINE), *differing(table, others)}


def _marked(text: str, name: str, marked: set[str]) -> Cell:
    """A cell with the mark of significance, in bold, where the descriptor is among those."""
    return Cell(text + SIGNIFICANT * (name in marked), bold=name in marked)


# Statistics beside the noise floor ----------------------------------------------------------------------


def headline_table(models: Sequence[ModelResult]) -> Table:
    """Return error / floor of the headline descriptors, before and after filtering, and their summary."""
    marks = {key: [significant(model.fidelity[key]) for model in models] for key in ("before", "after")}
    rows = []
    for name in (name for name in HEADLINE if name in models[0].fidelity["after"]):
        before, after = (
            [
                number(model.fidelity[key][name]["ratio"]) + SIGNIFICANT * (name in marked)
                for model, marked in zip(models, marks[key], strict=True)
            ]
            for key in ("before", "after")
        )
        cells = [Cell(f"{a} → {b}") for a, b in zip(before, after, strict=True)]
        rows.append(Row(DESCRIPTORS[name].title, cells))
    return Table(
        names(models),
        [
            *rows,
            Row("Largest change by filtering, over the floor", [_largest_shift(model) for model in models]),
            Row("Headline descriptors that differ from real", [_differing(model) for model in models]),
        ],
    )


def _largest_shift(model: ModelResult) -> Cell:
    shifts = {name: shift for name, shift in model.fidelity["shift"].items() if shift is not None}
    if not shifts:
        return Cell(DASH)
    name = max(shifts, key=lambda key: shifts[key])
    return Cell(number(shifts[name]), DESCRIPTORS[name].title.lower())


def _differing(model: ModelResult) -> Cell:
    before, after, training = (
        count_flagged(model.fidelity[key]) for key in ("before", "after", "training_windows")
    )
    sizes = [sum(name in model.fidelity[key] for name in HEADLINE) for key in ("before", "after")]
    detail = f"{TRAINING_WINDOWS}: {known(training, str).text}"
    parts = [
        DASH if count is None else f"{count} of {size}"
        for count, size in zip((before, after), sizes, strict=True)
    ]
    return Cell(" → ".join(parts), detail, bold=True)


def descriptor_table(models: Sequence[ModelResult], key: str, voxel_size_um: float | None = None) -> Table:
    """Return every descriptor of the samples, ``before`` or ``after`` filtering, beside real windows.

    Lengths are in micrometres where the voxel size is known.
    """
    sets = {model.name: model.fidelity[key] for model in models}
    # The real windows are the same for all models.
    sets[TRAINING_WINDOWS] = models[0].fidelity["training_windows"]
    marks = {name: significant(comparison) for name, comparison in sets.items()}
    rows = []
    for name, first in models[0].fidelity[key].items():
        unit, scale = in_micrometres(DESCRIPTORS[name].unit, voxel_size_um)
        cells = [Cell(_scaled(first["reference"], scale)), Cell(percent(first["floor"], 2))]
        for images, comparison in sets.items():
            row = comparison[name]
            equivalent = " =" if row.get("equivalent") else ""
            cells += [
                Cell(_scaled(row["value"], scale)),
                Cell(number(row["ratio"]) + equivalent),
                _marked(p_value(row.get("p")), name, marks[images]),
            ]
        rows.append(Row(DESCRIPTORS[name].title, cells, unit))
    columns = ["Held-out", "Floor", *["Value", "Error\N{NO-BREAK SPACE}/ floor", "p"] * len(sets)]
    return Table(columns, rows, "Descriptor", [("", 2), *((name, 3) for name in sets)])


def _scaled(value: float | None, scale: float) -> str:
    return number(None if value is None else value * scale)


# Properties ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EffectiveProperty:
    """One effective property of one set of images.

    Attributes
    ----------
    name
        Of the descriptor.
    images
        What the set is, in words.
    count
        Number of images that were solved.
    value
        Mean over them, in the descriptor's unit; None where there are none.
    volume_fraction
        Mean over the same images, or None.
    bounds
        Name in `BOUNDS` -> mean bound at the volume fractions of these images; empty where not known.
    comparison
        Row of the comparison with held-out windows; empty for these themselves.
    differs
        Whether it differs from held-out windows (`significant`).
    """

    name: str
    images: str
    count: int
    value: float | None
    volume_fraction: float | None
    bounds: Mapping[str, float]
    comparison: Mapping[str, Any]
    differs: bool = False

    @property
    def title(self) -> str:
        """The property in words."""
        return DESCRIPTORS[self.name].title

    @property
    def place(self) -> str:
        """Where the value lies among its bounds."""
        if self.value is None or not self.bounds:
            return DASH
        if self._lies_between("hashin_shtrikman_low", "hashin_shtrikman_high"):
            return "inside HS"
        return "outside HS" if self._lies_between("reuss", "voigt") else "outside Voigt and Reuss"

    def _lies_between(self, low: str, high: str) -> bool:
        if self.value is None:
            return False
        return self.bounds[low] * (1 - ROUNDING) <= self.value <= self.bounds[high] * (1 + ROUNDING)


def effective_properties(models: Sequence[ModelResult]) -> list[EffectiveProperty]:
    """Return each property of held-out windows, of training windows, and of each model's valid samples."""
    found = []
    for name in PROPERTIES:
        sets = [
            ("held-out windows", "held_out", models[0]),
            (TRAINING_WINDOWS, "training_windows", models[0]),
        ]
        sets += [(f"valid samples of {model.name}", "after", model) for model in models]
        for images, key, model in sets:
            if name not in model.fidelity["training_windows"]:
                continue
            comparison = model.fidelity[key][name] if key != "held_out" else {}
            value = (
                comparison["value"] if comparison else model.fidelity["training_windows"][name]["reference"]
            )
            bounds = model.fidelity.get("bounds", {}).get(key, {})
            known = bounds.get(name) or {}
            found.append(
                EffectiveProperty(
                    name=name,
                    images=images,
                    count=model.fidelity["n"]["solved"][key],
                    value=value,
                    volume_fraction=bounds.get("volume_fraction"),
                    bounds={} if None in known.values() else known,
                    comparison=comparison,
                    differs=key != "held_out" and name in significant(model.fidelity[key]),
                )
            )
    return found


def properties_table(properties: Sequence[EffectiveProperty]) -> Table:
    """Return effective properties of real windows and valid samples, with their bounds."""
    rows: list[Row] = []
    for effective in properties:
        descriptor = DESCRIPTORS[effective.name]
        if not any(row.title == descriptor.title for row in rows):
            rows.append(Row(descriptor.title, [], descriptor.unit))
        bounds = [number(effective.bounds.get(bound)) for bound in BOUNDS]
        place = effective.place
        cells = [
            Cell(str(effective.count)),
            Cell(number(effective.volume_fraction)),
            Cell(number(effective.value), bold=True),
            *_difference(effective),
            *map(Cell, bounds),
            Cell(place, bold=place.startswith("outside")),
        ]
        rows.append(Row(effective.images, cells))
    columns = (
        "n",
        "Vf",
        "Value",
        "Difference",
        "Equivalent",
        "Reuss",
        "HS lower",
        "HS upper",
        "Voigt",
        "Value is",
    )
    return Table(columns, rows, "Images")


def _difference(effective: EffectiveProperty) -> tuple[Cell, Cell]:
    """Relative difference of means with its 90 % interval, and the result of the test of equivalence."""
    comparison = effective.comparison
    if comparison.get("difference") is None:
        return Cell(DASH), Cell(DASH)
    low, high, margin = (100 * comparison[key] for key in ("low", "high", "margin"))
    mark = SIGNIFICANT * effective.differs
    difference = f"{100 * comparison['difference']:+.1f} %{mark}"
    return (
        Cell(difference, f"{low:+.1f} to {high:+.1f} %", bold=effective.differs),
        Cell(f"{'yes' if comparison['equivalent'] else 'not shown'}, ±{margin:g} %"),
    )


# Distances as images ------------------------------------------------------------------------------------


def compared_as_images(models: Sequence[ModelResult]) -> list[ModelResult]:
    """Return the models of which enough samples are valid to be compared with real windows as images."""
    return [model for model in models if "after" in model.fidelity.get("images", {})]


def image_table(models: Sequence[ModelResult]) -> Table:
    """Return copies of training windows, diversity, and measures on features of the encoder."""
    metrics = [model.fidelity["images"] for model in models]
    rows = [
        Row("Copies of training windows, in excess of held-out ones", [Cell(DASH), *map(_copies, metrics)]),
        *(
            Row(title, [Cell(DASH), *(Cell(number(images["diversity"][key])) for images in metrics)])
            for key, title in (
                ("vendi_ratio", "Diversity (Vendi score), samples / held-out windows"),
                ("duplicates", "Fraction of samples that have a duplicate"),
            )
        ),
    ]
    sets = [metrics[0]["training_windows"], *(images["after"] for images in metrics)]
    marks = [set(differing(measures, [f"encoder/{key}" for key in IMAGE_MEASURES])) for measures in sets]
    for key, title in IMAGE_MEASURES.items():
        name = f"encoder/{key}"
        values = zip(sets, marks, strict=True)
        rows.append(
            Row(
                title, [_marked(number(measures[name]["value"]), name, marked) for measures, marked in values]
            )
        )
    power = [
        metrics[0]["grid_power"]["training_windows"],
        *(images["grid_power"]["after"] for images in metrics),
    ]
    rows += [
        Row(
            f"Power at periods of {period} px, over held-out windows",
            [Cell(number(each[period])) for each in power],
        )
        for period in power[0]
    ]
    return Table([TRAINING_WINDOWS, *names(models)], rows)


def _copies(images: Mapping[str, Any]) -> Cell:
    copies = images["memorisation"]
    low, high = (100 * end for end in copies["excess_interval"])
    detail = f"{low:+.1f} to {high:+.1f} %, p: {p_value(copies['p_value'])}, n: {copies['samples']}"
    return Cell(percent(copies["excess"]), detail)


# A judge of faults that took no part ---------------------------------------------------------------------


def judged_models(models: Sequence[ModelResult]) -> list[ModelResult]:
    """Return the models whose samples were judged by a judge that took no part in filter and training."""
    return [model for model in models if "judge" in model.fidelity.get("images", {})]


def judge_table(models: Sequence[ModelResult]) -> Table:
    """Return the fraction of samples, real windows and controls that the judge flags, and of which kinds."""
    judged = {model.name: model.fidelity["images"]["judge"] for model in models}
    real = next(iter(judged.values()))  # what it says of real windows and controls is the same for all models
    kinds = list(real["held_out"]["by_kind"])
    rows = [Row("real, held-out windows", _flagged(real["held_out"], kinds))]
    for name, each in judged.items():
        ratio = each["ratio"]
        rows.append(Row(f"{name}, accepted samples", _flagged(each.get("after"), kinds, ratio, bold=True)))
        rows.append(Row(f"{name}, all samples", _flagged(each.get("before"), kinds)))
    for title, key in (("Sound controls", "controls"), ("Held-out windows with a fault", "detects")):
        rows.append(Row(title, []))
        rows += [Row(name.replace("_", " "), _flagged(row, kinds)) for name, row in real[key].items()]
    columns = ["Flagged", "n", "Over held-out", *(kind.replace("_", " ") for kind in kinds)]
    return Table(columns, rows, "Images", [("", 3), ("looks most like", len(kinds))])


def _flagged(
    row: Mapping[str, Any] | None, kinds: Sequence[str], ratio: float | None = None, bold: bool = False
) -> list[Cell]:
    if row is None:
        return [Cell(DASH)] * (3 + len(kinds))
    return [
        Cell(percent(row["flagged"]), f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %", bold),
        Cell(str(row["n"])),
        Cell(number(ratio), bold=bold),
        *(Cell(percent(row["by_kind"][kind])) for kind in kinds),
    ]
