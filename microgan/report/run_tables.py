"""Tables of what was learnt, how, and by which rules it was judged."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgan.report.figures.style import in_micrometres, reason_in_words
from microgan.report.results import ModelResult
from microgan.report.tables import DASH, Cell, Row, Table, known, names, number, percent, voxel_size
from microgan.statistics.intervals import wilson_interval
from microgan.validity.reference import DetectionRate, Reference
from microgan.validity.rules import KNOWN

ROLES = {"train": "training", "calibration": "calibration", "held_out": "held-out"}
LEAST_SHOWN = 0.1  # fraction of a kind of defect that a reason rejects, from where on it is named


# What was learnt ----------------------------------------------------------------------------------------


def scan_table(scan: Mapping[str, Any], window_px: int) -> Table:
    """Return what is known of the scan; lengths in micrometres too, where the voxel size is known."""
    planes, rows, cols = scan.get("shape", ("?",) * 3)
    low, high = scan.get("radius_px", ("?", "?"))
    size_um = scan.get("voxel_size_um")

    def also_um(words: str, *lengths_px: float) -> str:
        if size_um is None:
            return ""
        return f" ({words.join(f'{length * size_um:.4g}' for length in lengths_px)} µm)"

    facts = {
        "Scan": scan.get("name", "unknown"),
        "Size": f"{planes} planes of {rows} x {cols} px{also_um(' x ', rows, cols)}",
        "Voxel size": f"{voxel_size(scan)}{': lengths are in pixels' if size_um is None else ''}",
        "Discs": f"{scan.get('polarity', 'unknown')}, radii of {low} to {high} px"
        + also_um(" to ", low, high),
        "Window": f"{window_px} x {window_px} px{also_um(' x ', window_px, window_px)}",
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
    """Return how long each model was trained, which checkpoint was kept, and on what it was computed."""
    rows = [
        Row("Training time", [known(model.training_seconds, _minutes) for model in models]),
        Row("Training steps", [known(model.training_steps, "{:,}".format) for model in models]),
        Row("Checkpoint kept, after step", [known(model.kept_step, "{:,}".format) for model in models]),
        *(
            Row(title, [Cell(model.environment.get(key, DASH)) for model in models])
            for key, title in ENVIRONMENT.items()
            if any(key in model.environment for model in models)
        ),
        Row("Samples generated", [known(model.validity["n"], "{:,}".format) for model in models]),
    ]
    return Table(names(models), rows)


ENVIRONMENT = {  # of a training
    "ended": "Training ended (UTC)",
    "ended_by": "Training ended by",
    "machine": "Machine",
    "device": "Device, precision",
    "software": "Software",
    "git_commit": "Git commit",
    "seed": "Seed of the training",
}


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


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
    return Table(names(models), rows)


def pass_rate_ratio(model: ModelResult) -> float | None:
    """Return the pass rate of samples over that of held-out windows; None if none of those passes."""
    reference = model.validity["reference_pass_rate"]
    return model.validity["pass_rate"] / reference if reference else None


def _pass_rate(model: ModelResult) -> Cell:
    rate, count = model.validity["pass_rate"], model.validity["n"]
    low, high = wilson_interval(round(rate * count), count)
    return Cell(percent(rate), f"{100 * low:.1f} to {100 * high:.1f} %, n: {count}")


def rules_table(reference: Reference) -> Table:
    """Return each rule: its name as a parameter, what it measures, its limits, and the reason it gives."""
    rows = []
    for name, words in reference.titles.items():
        title, scale = in_micrometres(words, reference.scan.voxel_size_um)
        least, largest = reference.limits.get(name, (None, None))
        reason = KNOWN[name].reason if name in KNOWN else name
        limits = [Cell(number(None if limit is None else scale * limit)) for limit in (least, largest)]
        off = least is None and largest is None
        cells = [Cell(title), *limits, Cell(f"{DASH} (no limit)" if off else reason_in_words(reason))]
        rows.append(Row(name, cells))
    columns = ("What it measures, in each image", "Least allowed", "Largest allowed", "Reason if rejected")
    return Table(columns, rows, "Rule")


# Trust --------------------------------------------------------------------------------------------------


def detection_table(reference: Reference) -> Table:
    """Return which fraction of each kind of planted defect is rejected, and of real held-out windows.

    By all rules, by those without the network, and by each reason that rejects at least a tenth.
    """
    rows = []
    if reference.held_out_pass_rate is not None:
        rejected = percent(1 - reference.held_out_pass_rate, 0)
        cells = [Cell(rejected), Cell(DASH), Cell(DASH), Cell(DASH), Cell(str(reference.held_out_windows))]
        rows.append(Row("none: held-out windows as they are", cells))
    for name, rate in reference.detection_rates.items():
        low, high = rate.interval
        interval = f"{100 * low:.0f} to {100 * high:.0f} %"
        without = DASH if rate.without_network is None else percent(rate.without_network, 0)
        words = [percent(rate.rate, 0), interval, without, _reasons(rate), str(rate.count)]
        rows.append(Row(_defect(name), list(map(Cell, words))))
    columns = ("Rejected", "90 % CI", "Without learnt fault", "By reason", "n")
    return Table(columns, rows, "Planted defect")


def _reasons(rate: DetectionRate) -> str:
    often = sorted(rate.by_reason.items(), key=lambda item: -item[1])
    said = [f"{reason_in_words(name)} {percent(share, 0)}" for name, share in often if share >= LEAST_SHOWN]
    return ", ".join(said) or DASH


def _defect(name: str) -> str:
    """Name of a planted defect in words: overlap_15_to_20 has its degree in percent."""
    words = name.replace("_", " ")
    return f"{words} %" if words[-1].isdigit() else words
