"""The report's tables as plain data: what stands in each cell, in words and rounded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE, count_flagged
from microgan.report.results import ModelResult
from microgan.statistics.intervals import wilson_interval
from microgan.validity.reference import DetectionRate

DASH = "\N{EN DASH}"  # for what is not known, or does not exist
TRAINING_WINDOWS = "real training windows"
ROLES = {"train": "training", "calibration": "calibration", "held_out": "held-out"}
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


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller line below it, and whether it is in bold."""

    text: str
    detail: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """One row: what it shows, in which unit, and its cells; without cells, the heading of the rows below."""

    title: str
    cells: Sequence[Cell]
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """Rows below the names of their columns; ``groups`` are names over several columns each.

    ``first`` is the name of the column of titles.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    first: str = ""
    groups: Sequence[tuple[str, int]] = ()


# What was learnt ----------------------------------------------------------------------------------------


def scan_table(scan: Mapping[str, Any], window_px: int) -> Table:
    """Return what is known of the scan."""
    planes, rows, cols = scan.get("shape", ("?",) * 3)
    low, high = scan.get("radius_px", ("?", "?"))
    facts = {
        "Scan": scan.get("name", "unknown"),
        "Size": f"{planes} planes of {rows} x {cols} px",
        "Voxel size": voxel_size(scan),
        "Discs": f"{scan.get('polarity', 'unknown')}, radii of {low} to {high} px",
        "Window": f"{window_px} x {window_px} px",
        **{
            f"{ROLES[role].capitalize()} part": _extent(boxes)
            for role, boxes in scan.get("regions", {}).items()
        },
    }
    return facts_table(facts)


def facts_table(facts: Mapping[str, object]) -> Table:
    """Return a table of a single column without a head: name of the fact -> fact."""
    return Table((), [Row(name, [Cell(str(fact))]) for name, fact in facts.items()])


def _extent(boxes: Sequence[Sequence[int]]) -> str:
    """Planes and pixels of boxes (plane, row0, row1, col0, col1)."""
    planes = len({box[0] for box in boxes})
    pixels = sum((row1 - row0) * (col1 - col0) for _, row0, row1, col0, col1 in boxes)
    return f"{pixels:,} px² in {planes} plane{'s' * (planes != 1)}"


def training_table(models: Sequence[ModelResult]) -> Table:
    """Return how long each model was trained, and which checkpoint was kept."""
    rows = [
        Row("Training time", [_cell(model.training_seconds, _minutes) for model in models]),
        Row("Training steps", [_cell(model.training_steps, "{:,}".format) for model in models]),
        Row("Checkpoint kept, after step", [_cell(model.kept_step, "{:,}".format) for model in models]),
        Row("Samples generated", [_cell(model.validity["n"], "{:,}".format) for model in models]),
    ]
    return Table(_names(models), rows)


# How many are valid -------------------------------------------------------------------------------------


def validity_table(models: Sequence[ModelResult]) -> Table:
    """Return pass rates of samples and of held-out windows, and their ratio."""
    real = [Cell(percent(model.validity["reference_pass_rate"])) for model in models]
    ratios = [Cell(number(pass_rate_ratio(model)), bold=True) for model in models]
    rows = [
        Row("Pass rate of samples", [_pass_rate(model) for model in models]),
        Row("Pass rate of held-out windows", real),
        Row("Pass rate of samples / pass rate of held-out windows", ratios),
    ]
    return Table(_names(models), rows)


def pass_rate_ratio(model: ModelResult) -> float | None:
    """Return the pass rate of samples over that of held-out windows; None if none of those passes."""
    reference = model.validity["reference_pass_rate"]
    return model.validity["pass_rate"] / reference if reference else None


def _pass_rate(model: ModelResult) -> Cell:
    rate, count = model.validity["pass_rate"], model.validity["n"]
    low, high = wilson_interval(round(rate * count), count)
    return Cell(percent(rate), f"{100 * low:.1f} to {100 * high:.1f} %, n: {count}")


# Statistics beside the noise floor ----------------------------------------------------------------------


def headline_table(models: Sequence[ModelResult]) -> Table:
    """Return error / floor of the headline descriptors, before and after filtering, and their summary."""
    rows = []
    for name in (name for name in HEADLINE if name in models[0].fidelity["after"]):
        before, after = (
            [model.fidelity[key][name]["ratio"] for model in models] for key in ("before", "after")
        )
        cells = [Cell(f"{number(a)} → {number(b)}") for a, b in zip(before, after, strict=True)]
        rows.append(Row(DESCRIPTORS[name].title, cells))
    differing = [_differing(model) for model in models]
    return Table(
        _names(models),
        [
            *rows,
            Row("Largest change by filtering, over the floor", [_largest_shift(model) for model in models]),
            Row(f"Descriptors that differ from real, of {len(HEADLINE)}", differing),
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
    detail = f"{TRAINING_WINDOWS}: {_cell(training, str).text}"
    return Cell(f"{_cell(before, str).text} → {_cell(after, str).text}", detail, bold=True)


def descriptor_table(models: Sequence[ModelResult], key: str) -> Table:
    """Return every descriptor of the samples, ``before`` or ``after`` filtering, beside real windows."""
    sets = {model.name: model.fidelity[key] for model in models}
    # The real windows are the same for all models.
    sets[TRAINING_WINDOWS] = models[0].fidelity["training_windows"]
    rows = []
    for name, first in models[0].fidelity[key].items():
        cells = [Cell(number(first["reference"])), Cell(percent(first["floor"], 2))]
        for comparison in sets.values():
            row = comparison[name]
            equivalent = " =" if row.get("equivalent") else ""
            cells += [
                Cell(number(row["value"])),
                Cell(number(row["ratio"]) + equivalent),
                Cell(_p_value(row.get("p"))),
            ]
        rows.append(Row(DESCRIPTORS[name].title, cells, DESCRIPTORS[name].unit))
    columns = ["Held-out", "Floor", *["Value", "Error\N{NO-BREAK SPACE}/ floor", "p"] * len(sets)]
    return Table(columns, rows, "Descriptor", [("", 2), *((name, 3) for name in sets)])


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
    """

    name: str
    images: str
    count: int
    value: float | None
    volume_fraction: float | None
    bounds: Mapping[str, float]
    comparison: Mapping[str, Any]

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
            *_difference(effective.comparison),
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


def _difference(comparison: Mapping[str, Any]) -> tuple[Cell, Cell]:
    """Relative difference of means with its 90 % interval, and the result of the test of equivalence."""
    if comparison.get("difference") is None:
        return Cell(DASH), Cell(DASH)
    low, high, margin = (100 * comparison[key] for key in ("low", "high", "margin"))
    difference = Cell(f"{100 * comparison['difference']:+.1f} %", f"{low:+.1f} to {high:+.1f} %")
    return difference, Cell(f"{'yes' if comparison['equivalent'] else 'not shown'}, ±{margin:g} %")


# Trust --------------------------------------------------------------------------------------------------


def detection_table(detection_rates: Mapping[str, DetectionRate]) -> Table:
    """Return which fraction of each kind of planted defect is rejected."""
    rows = []
    for name, rate in detection_rates.items():
        low, high = rate.interval
        interval = f"{100 * low:.0f} to {100 * high:.0f} %"
        rows.append(Row(_defect(name), [Cell(percent(rate.rate, 0)), Cell(interval), Cell(str(rate.count))]))
    return Table(("Rejected", "90 % CI", "n"), rows, "Planted defect")


def _defect(name: str) -> str:
    """Name of a planted defect in words: overlap_15_to_20 has its degree in percent."""
    words = name.replace("_", " ")
    return f"{words} %" if words[-1].isdigit() else words


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
    for key, title in IMAGE_MEASURES.items():
        sets = [metrics[0]["training_windows"], *(images["after"] for images in metrics)]
        rows.append(Row(title, [Cell(number(measures[f"encoder/{key}"]["value"])) for measures in sets]))
    return Table([TRAINING_WINDOWS, *_names(models)], rows)


def _copies(images: Mapping[str, Any]) -> Cell:
    copies = images["memorisation"]
    low, high = (100 * end for end in copies["excess_interval"])
    detail = f"{low:+.1f} to {high:+.1f} %, p: {_p_value(copies['p_value'])}, n: {copies['samples']}"
    return Cell(percent(copies["excess"]), detail)


# Words and numbers --------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Return three digits; a dash for what is not known.

    Examples
    --------
    >>> number(0.12345), number(1234.5), number(None)
    ('0.123', '1.23e+03', '–')
    """
    return DASH if value is None else f"{value:#.3g}".rstrip(".")


def _p_value(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction in percent; a dash for what is not known."""
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def voxel_size(scan: Mapping[str, Any]) -> str:
    """Return the voxel size of a scan, or that it is unknown."""
    size = scan.get("voxel_size_um")
    return "unknown" if size is None else f"{size:g} µm"


def flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested parameters by their path, ``train.steps``."""
    by_path: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            by_path |= flat(value, f"{prefix}{name}.")
        else:
            by_path[f"{prefix}{name}"] = value
    return by_path


def _names(models: Sequence[ModelResult]) -> list[str]:
    return [model.name for model in models]


def _cell(value: float | None, words: Callable[[float], str]) -> Cell:
    """A value in words; a dash for what there is not."""
    return Cell(DASH if value is None else words(value))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
