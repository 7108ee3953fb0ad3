"""One page to look at: real beside synthetic, both models side by side, with the noise floor.

The page is one HTML file that needs neither network nor scripts; its pictures are also written beside it.
"""

import base64
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from microgan import __version__
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE, LEVEL, flagged
from microgan.report import figures as pictures
from microgan.statistics.intervals import wilson_interval
from microgan.validity.reference import DetectionRate

SHOWN = 8  # windows of a kind


@dataclass(frozen=True)
class ModelResult:
    """All that the report shows of one model.

    Attributes
    ----------
    name
        Such as ``wgan_gp``.
    validity
        Content of validity.json: ``pass_rate``, ``reference_pass_rate``, ``n``, ``rejected_by``.
    fidelity, curves
        Content of fidelity.json and curves.json, from `microgan.evaluation.fidelity.evaluate`.
    accepted, rejected
        Some samples (n, H, W) in [-1, 1]; the first few are shown.
    reasons
        Reason codes of each of the rejected ones.
    history
        Rows of the training log: ``step``, ``critic_loss``, ``generator_loss``; of a baseline that does not
        learn there are none, nor what follows.
    training_steps, training_seconds
        Length of the training.
    kept_step
        After which the generator was kept: none before clearly does better on calibration windows.
    weights_sha256
        SHA-256 of the file of the weights.
    rules_picture
        PNG of what the rules measure on real windows and samples, or None.
    nearest_training_windows_picture
        PNG of the samples that come nearest to training windows, beside these, or None.
    """

    name: str
    validity: Mapping[str, Any]
    fidelity: Mapping[str, Any]
    curves: Mapping[str, Any]
    accepted: np.ndarray
    rejected: np.ndarray
    reasons: Sequence[Sequence[str]]
    history: Sequence[Mapping[str, float]] = ()
    training_steps: int | None = None
    kept_step: int | None = None
    training_seconds: float | None = None
    weights_sha256: str = "unknown"
    rules_picture: Path | None = None
    nearest_training_windows_picture: Path | None = None


def build_report(
    models: Sequence[ModelResult],
    real_windows: np.ndarray,
    scan: Mapping[str, Any],
    parameters: Mapping[str, Any],
    out: Path,
    provenance: Mapping[str, Any] | None = None,
    power: Mapping[str, DetectionRate] | None = None,
) -> Path:
    """Write the page ``out`` and its pictures into the folder of the same name without suffix.

    Parameters
    ----------
    models
        Results, one column of the tables each.
    real_windows
        Some held-out windows (n, H, W) in [-1, 1].
    scan
        Content of scan.json; ``voxel_size_um`` None is shown as unknown, and lengths are in pixels.
    parameters
        Parameters of the run, nested as in params.yaml.
    out
        HTML file to write.
    provenance
        Further facts for the foot of the page, such as the git commit.
    power
        Fraction of each kind of planted defect that the filter rejects; without it, the page does not say.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    UserError
        If there is no model.
    """
    if not models:
        raise UserError("models", "none", "the report needs at least one model")
    out = Path(out)
    with atomic(out.with_suffix("")) as folder:
        folder.mkdir()
        drawn = _draw(models, real_windows, scan.get("voxel_size_um"), folder)
        page = _page(models, scan, parameters, provenance or {}, power or {}, drawn)
    with atomic(out) as draft:
        draft.write_text(page, encoding="utf-8")
    return out


def _draw(
    models: Sequence[ModelResult], real_windows: np.ndarray, voxel_size_um: float | None, folder: Path
) -> dict[str, str]:
    """Draw all pictures into ``folder``; returns them as data addresses, by name."""
    for model in models:
        groups: dict[str, tuple[np.ndarray, Sequence[str]]] = {
            "real": (real_windows[:SHOWN], [""] * SHOWN),
            "accepted": (model.accepted[:SHOWN], [""] * SHOWN),
            "rejected": (model.rejected[:SHOWN], [_words(reasons) for reasons in model.reasons]),
        }
        pictures.window_sheet(groups, folder / f"windows_{model.name}.png", SHOWN)
        for kind, picture in (
            ("rules", model.rules_picture),
            ("nearest_training_windows", model.nearest_training_windows_picture),
        ):
            if picture is not None:
                shutil.copyfile(picture, folder / f"{kind}_{model.name}.png")
    trained = {model.name: model.history for model in models if model.training_steps}
    if trained:
        pictures.loss_curves(trained, folder / "losses.png")
    correlation = {model.name: model.curves["two_point_correlation"] for model in models}
    pictures.two_point_curves(correlation, voxel_size_um, folder / "two_point_correlation.png")
    pictures.circle_histograms(
        {model.name: model.curves for model in models}, voxel_size_um, folder / "circles.png"
    )
    tables = {model.name: model.curves for model in models}
    pictures.descriptor_sheet(tables, DESCRIPTORS, voxel_size_um, folder / "descriptors.png")
    pictures.rejection_bars(
        {model.name: model.validity["rejected_by"] for model in models},
        {model.name: model.validity["n"] for model in models},
        folder / "rejected_by.png",
    )
    return {
        path.stem: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        for path in sorted(folder.glob("*.png"))
    }


def _words(reasons: Sequence[str]) -> str:
    """Reason codes in up to three lines below a window."""
    lines = [reason.replace("_", " ") for reason in reasons]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} more"])


def _page(
    models: Sequence[ModelResult],
    scan: Mapping[str, Any],
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
    power: Mapping[str, DetectionRate],
    drawn: Mapping[str, str],
) -> str:
    size = _voxel_size(scan)
    planes, rows, cols = scan.get("shape", ("?",) * 3)
    low, high = scan.get("radius_px", ("?", "?"))
    summary = (
        f"Scan <b>{_text(scan.get('name', 'unknown'))}</b>: {planes} planes of {rows} &times; {cols} px, "
        f"voxel size {size}, {_text(scan.get('polarity', ''))} discs with radii of {low} to {high} px."
    )
    sheets = "".join(
        _figure(drawn, f"windows_{model.name}", f"{model.name}: {WINDOWS_CAPTION}") for model in models
    )
    measured, nearest = (
        "".join(
            _figure(drawn, f"{kind}_{model.name}", f"{model.name}: {caption}")
            for model in models
            if f"{kind}_{model.name}" in drawn
        )
        for kind, caption in (("rules", RULES_CAPTION), ("nearest_training_windows", NEAREST_CAPTION))
    )
    sections = [
        ("At a glance", _headline(models) + HEADLINE_NOTE),
        ("Real beside synthetic", sheets),
        ("Why samples are rejected", _figure(drawn, "rejected_by", REJECTED_CAPTION) + measured),
        *([("What the filter catches", _power_table(power) + POWER_NOTE)] if power else []),
        ("Fidelity to held-out windows", _fidelity_tables(models) + _fidelity_note(models)),
        *([("Samples as images", _images_table(models) + IMAGES_NOTE + nearest)] if _alike(models) else []),
        (
            "Descriptors",
            _figure(drawn, "two_point_correlation", CORRELATION_CAPTION)
            + _figure(drawn, "circles", CIRCLES_CAPTION)
            + _figure(drawn, "descriptors", DESCRIPTORS_CAPTION),
        ),
        *([("Training", _figure(drawn, "losses", LOSS_CAPTION))] if "losses" in drawn else []),
        ("Provenance", _provenance(models, scan, size, parameters, provenance)),
    ]
    body = "\n".join(f"<section><h2>{title}</h2>\n{content}</section>" for title, content in sections)
    title = f"microgan report: {_text(scan.get('name', 'unknown scan'))}"
    return PAGE.format(title=title, style=STYLE, summary=summary, body=body)


def _headline(models: Sequence[ModelResult]) -> str:
    """Rows of the first table: how long, how many pass, how far from real in units of the floor."""
    rows = [
        ("Training time", [_told(model.training_seconds, _minutes) for model in models]),
        ("Training steps", [_told(model.training_steps, "{:,}".format) for model in models]),
        ("Kept after step", [_told(model.kept_step, "{:,}".format) for model in models]),
        ("Samples that pass, before filtering", [_pass_rate(model) for model in models]),
        (
            "Real held-out windows that pass",
            [_percent(model.validity["reference_pass_rate"]) for model in models],
        ),
        ("Ratio of the two", [f"<b>{_pass_ratio(model)}</b>" for model in models]),
        ("<i>Error / floor, before → after filtering</i>", [""] * len(models)),
    ]
    for key in [name for name in HEADLINE if name in models[0].fidelity["after"]]:
        cells = [
            f"{_number(model.fidelity['before'][key]['ratio'])} → "
            f"<b>{_number(model.fidelity['after'][key]['ratio'])}</b>"
            for model in models
        ]
        rows.append((DESCRIPTORS[key].title, cells))
    rows += [
        ("In-plane stiffness, after filtering, against real", [_stiffness(model) for model in models]),
        ("Largest change by filtering itself, over the floor", [_largest_shift(model) for model in models]),
        (
            f"Descriptors that differ from real at {100 * LEVEL:.0f} % in all, of {len(HEADLINE)}",
            [_flagged(model) for model in models],
        ),
    ]
    head = "".join(f"<th>{_text(model.name)}</th>" for model in models)
    lines = [
        f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for name, cells in rows
    ]
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _power_table(power: Mapping[str, DetectionRate]) -> str:
    """Fraction of each kind of planted defect that is rejected."""
    lines = "".join(
        f"<tr><th>{_text(_defect(name))}</th><td>{_percent(one.rejected, 0)}</td>"
        f"<td>{100 * one.interval[0]:.0f} to {100 * one.interval[1]:.0f} %</td><td>{one.count}</td></tr>"
        for name, one in power.items()
    )
    head = "".join(f"<th>{word}</th>" for word in ("Planted defect", "Rejected", "90 % interval", "Images"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _defect(name: str) -> str:
    """Name of a planted defect in words: overlap_15_to_20 has its degree in percent."""
    words = name.replace("_", " ")
    return f"{words} %" if words[-1].isdigit() else words


def _stiffness(model: ModelResult) -> str:
    row = model.fidelity["after"].get("stiffness", {})
    if row.get("difference") is None:
        return "&ndash;"
    low, high, margin = (100 * row[key] for key in ("low", "high", "margin"))
    verdict = "equivalent" if row["equivalent"] else "not shown equivalent"
    interval = f"{low:+.1f} to {high:+.1f} %; {verdict} at ±{margin:g} %"
    return f"{100 * row['difference']:+.1f} %<br><small>{interval}</small>"


def _largest_shift(model: ModelResult) -> str:
    shifts = {name: shift for name, shift in model.fidelity["shift"].items() if shift is not None}
    if not shifts:
        return "&ndash;"
    name = max(shifts, key=lambda key: shifts[key])
    return f"{_number(shifts[name])}<br><small>{DESCRIPTORS[name].title.lower()}</small>"


def _flagged(model: ModelResult) -> str:
    counts = [len(flagged(model.fidelity[key])) for key in ("before", "after", "training_windows")]
    return "{} → <b>{}</b><br><small>real training windows: {}</small>".format(*counts)


def _fidelity_tables(models: Sequence[ModelResult]) -> str:
    """Every figure of fidelity.json: samples that pass, then the same of all samples, folded away."""
    tables = [_fidelity_table(models, key) for key in ("after", "before")]
    return f"{tables[0]}<details><summary>The same before filtering</summary>{tables[1]}</details>"


def _fidelity_table(models: Sequence[ModelResult], key: str) -> str:
    """A row for each descriptor; real windows, then a group of columns for each model."""
    sets = {model.name: model.fidelity[key] for model in models}
    # The real windows are the same for all models.
    sets["real training windows"] = models[0].fidelity["training_windows"]
    groups = "".join(f'<th colspan="3">{_text(name)}</th>' for name in sets)
    head = f"<tr><th></th><th></th><th></th>{groups}</tr>"
    words = ["Descriptor", "Real", "Floor", *["Value", "Error / floor", "p"] * len(sets)]
    head += "<tr>" + "".join(f"<th>{word}</th>" for word in words) + "</tr>"
    lines = []
    for name in next(iter(sets.values())):
        row, descriptor = next(iter(sets.values()))[name], DESCRIPTORS[name]
        title = f"{descriptor.title}<small> {descriptor.unit}</small>"
        cells = [_number(row["reference"]), _percent(row["floor"], 2)]
        for table in sets.values():
            one = table[name]
            mark = " =" if one.get("equivalent") else ""
            cells += [_number(one["value"]), f"{_number(one['ratio'])}{mark}", _number(one.get("p"))]
        lines.append(f"<tr><th>{title}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<table class="wide"><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table>'


def _alike(models: Sequence[ModelResult]) -> list[ModelResult]:
    """Models of which enough samples pass to be compared as images."""
    return [model for model in models if "after" in model.fidelity.get("images", {})]


def _images_table(models: Sequence[ModelResult]) -> str:
    """Measures on features of the encoder, copies of training windows, diversity: a column for each model."""
    shown = _alike(models)
    found = [model.fidelity["images"] for model in shown]
    rows = []
    for key, title in IMAGE_MEASURES.items():
        sets = [found[0]["training_windows"], *(one["after"] for one in found)]
        rows.append((title, [_number(one[f"encoder/{key}"]["value"]) for one in sets]))
    copies = [one["memorisation"] for one in found]
    cells = [
        f"{_percent(one['excess'])}<br><small>{100 * one['excess_interval'][0]:+.1f} to "
        f"{100 * one['excess_interval'][1]:+.1f} %, p = {one['p_value']:.2g}</small>"
        for one in copies
    ]
    rows.append(("Copies of training windows, in excess of held-out ones", ["&ndash;", *cells]))
    varied = [one["diversity"] for one in found]
    for key, title in (
        ("vendi_ratio", "Diversity (Vendi score) over real"),
        ("duplicates", "Samples with a twin"),
    ):
        rows.append((title, ["&ndash;", *(_number(one[key]) for one in varied)]))
    head = "".join(f"<th>{_text(name)}</th>" for name in ("training windows", *(one.name for one in shown)))
    lines = [
        f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for name, cells in rows
    ]
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _fidelity_note(models: Sequence[ModelResult]) -> str:
    sizes = "; ".join(
        f"{_text(model.name)}: {model.fidelity['n']['before']} before, {model.fidelity['n']['after']} after"
        for model in models
    )
    sizes += f"; {models[0].fidelity['n']['held_out']} held-out windows"
    margins = "; ".join(
        f"{one.title.lower()} {100 * one.margin:g} %" for one in DESCRIPTORS.values() if one.margin
    )
    return FIDELITY_NOTE.format(sizes=sizes, margins=margins)


def _provenance(
    models: Sequence[ModelResult],
    scan: Mapping[str, Any],
    size: str,
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    facts = {
        "Scan": scan.get("name", "unknown"),
        "Files": ", ".join(map(str, scan.get("source", ()))) or "unknown",
        "Scan's grey values (digest)": scan.get("source_digest", "unknown"),
        "planes.npy (SHA-256)": scan.get("planes_sha256", "unknown"),
        "mask.npy (SHA-256)": scan.get("mask_sha256", "unknown"),
        "Voxel size": size,
        **{f"Weights of {model.name} (SHA-256)": model.weights_sha256 for model in models},
        **provenance,
        "microgan": __version__,
    }
    lines = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts.items()
    )
    knobs = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"
        for name, value in _flat(parameters).items()
    )
    return f'<table class="facts">{lines}</table>\n<h3>Parameters</h3><dl>{knobs}</dl>'


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by their path, ``train.steps``."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _figure(drawn: Mapping[str, str], name: str, caption: str) -> str:
    text = _text(caption)
    return f'<figure><img src="{drawn[name]}" alt="{text}"><figcaption>{text}</figcaption></figure>\n'


def _pass_rate(model: ModelResult) -> str:
    rate, count = model.validity["pass_rate"], model.validity["n"]
    low, high = wilson_interval(rate, count)
    return f"{_percent(rate)}<br><small>{100 * low:.1f} to {100 * high:.1f} %, n = {count}</small>"


def _pass_ratio(model: ModelResult) -> str:
    reference = model.validity["reference_pass_rate"]
    return _number(model.validity["pass_rate"] / reference if reference else None)


def _voxel_size(scan: Mapping[str, Any]) -> str:
    size = scan.get("voxel_size_um")
    return "unknown" if size is None else f"{size:g} µm"


def _number(value: float | None) -> str:
    """Three digits; a dash for what is not known."""
    return "&ndash;" if value is None else f"{value:#.3g}".rstrip(".")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _told(value: float | None, words: Callable[[float], str]) -> str:
    """A value in words; a dash for what there is not."""
    return "&ndash;" if value is None else words(value)


def _percent(value: float | None, digits: int = 1) -> str:
    return "&ndash;" if value is None else f"{100 * value:.{digits}f} %"


def _text(value: object) -> str:
    return escape(str(value))


HEADLINE_NOTE = """<p>Rules were calibrated on real windows before training, and real windows fail them too:
a ratio of 1 is as good as real. <i>Error / floor</i> is the difference from held-out real windows in units of
the difference that real windows have among themselves: about 1 is as good as real. The interval is the 95 %
confidence interval of the fraction.</p>"""
WINDOWS_CAPTION = "real held-out windows, accepted samples, and rejected samples with the rules they break."
POWER_NOTE = """<p>Each defect was planted into real windows that pass; <i>rejected</i> is the fraction that no
longer passes. Real windows hold irregular fibres themselves, which the limits let pass, so a single small
defect among thirty discs may pass as well.</p>"""
REJECTED_CAPTION = "Fraction of all samples that break each rule. A sample may break several."
RULES_CAPTION = (
    "what each rule measures, on real held-out windows and on all samples, and the limits beyond which an "
    "image is rejected. What lies outside of a panel is counted in its last bar."
)
NEAREST_CAPTION = (
    "the samples nearest to the training part, each above the training window nearest to it, and for scale "
    "the same of held-out windows, which are no copies. Below: correlation of the two, smoothed, and "
    "(unseen) with the nearest window of the calibration part; of a copy, the first stands out."
)
CORRELATION_CAPTION = (
    "Two-point correlation of the disc phase (above), and its difference from held-out real windows (below). "
    "Grey: where the difference of all samples lies everywhere in 95 % if both are equal (global envelope)."
)
DESCRIPTORS_CAPTION = (
    "All curves and distributions: real held-out windows (black, with the global 95 % envelope of curves) "
    "and samples that pass (colours). Distributions are probability densities."
)
CIRCLES_CAPTION = (
    "Radii of whole discs and centre distances to the nearest disc, corrected for the border of the window. "
    "Grey: real, held out."
)
LOSS_CAPTION = (
    "Losses by step; thin lines as logged, thick lines running means. Losses of different models have "
    "different meanings and are not to be compared."
)
FIDELITY_NOTE = """<p><i>Value</i> is the mean, for the two-point correlation the correlation length
(distance at which
the normalised covariance falls to 1/e), for other curves the mean over their range. <i>Error</i>:
relative difference of numbers; relative L<sup>2</sup> distance of curves; Wasserstein-1 distance of
distributions over the real mean. <i>Floor</i>: the same error between real windows of the training
and of the calibration part. <i>p</i>: of the test that samples and held-out windows are equal, for
curves and distributions at all places at once; by resampling, real windows place by place.
&ldquo;=&rdquo;: means are shown to be equivalent within the margin ({margins}), by two one-sided
tests at 5 %. Real training windows are compared in the same way: what a model gets that repeats its
training data. Number of images: {sizes}.</p>"""
IMAGE_MEASURES = {
    "kernel_distance": "Kernel distance to held-out windows",
    "density": "Density",
    "coverage": "Coverage",
    "precision": "Precision",
    "recall": "Recall",
    "classifier_auc": "Classifier, area under the curve",
}
IMAGES_NOTE = """<p>Samples that pass and real training windows, against held-out windows, on the
features of a small encoder that learnt to name defects planted into training windows of this scan. A
kernel distance near that of training windows, the other measures near theirs, are as good as real:
planes of one scan differ, and any measure on images sees that. A copy is a sample nearer to a training
window, over all shifts, turns and mirror images, than all but 1 % of held-out windows are, and nearer
than to windows that no model has seen.</p>"""
STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.5rem 4rem; background: #fff; color: #222;
       font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; border-bottom: 1px solid #ddd; padding-bottom: .25rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid #eee; }
th { font-weight: 600; }
tbody th, .name, thead th:first-child { text-align: left; font-weight: 400; }
thead .name { font-weight: 600; }
thead th { border-bottom: 2px solid #999; }
tr.group > * { border-top: 1px solid #999; }
table.wide { font-size: 13px; display: block; overflow-x: auto; }
table.wide td, table.wide th { padding: .2rem .45rem; }
summary { cursor: pointer; font-size: 14px; color: #444; margin: .8rem 0; }
table.facts { font-size: 13px; }
table.facts th { width: 17rem; color: #555; }
table.facts td { text-align: left; overflow-wrap: anywhere; }
small { color: #666; }
figure { margin: 1rem 0 1.6rem; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption, p { font-size: 14px; color: #444; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
dl { columns: 2; column-gap: 2.5rem; font-size: 13px; margin: 0; }
dl div { display: flex; gap: 1rem; justify-content: space-between; break-inside: avoid;
         border-bottom: 1px solid #eee; }
dt { color: #555; }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { columns: 1; } }
@media print { body { max-width: none; } section { break-inside: avoid; } }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
{body}
</body>
</html>
"""
