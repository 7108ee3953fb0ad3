"""The report of a run: one HTML page that shows real and synthetic windows side by side, for all models.

The page needs neither network nor scripts; its figures are also written beside it. `microgan.report.tables`
gathers what it shows, ``templates/report.html.jinja`` has the order of the page and all captions.
"""

import base64
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from microgan import __version__
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE, LEVEL, count_flagged
from microgan.report import tables
from microgan.report.figures.curves import circle_histograms, descriptor_sheet, loss_curves, two_point_curves
from microgan.report.figures.rules import rejection_bars
from microgan.report.figures.style import REAL, in_words, model_colours
from microgan.report.figures.windows import window_sheet
from microgan.report.results import ModelResult
from microgan.validity.reference import DetectionRate

WINDOWS_IN_A_ROW = 8


def build_report(
    models: Sequence[ModelResult],
    real_windows: np.ndarray,
    scan: Mapping[str, Any],
    parameters: Mapping[str, Any],
    out: Path,
    provenance: Mapping[str, Any] | None = None,
    detection_rates: Mapping[str, DetectionRate] | None = None,
    doubts: Sequence[str] = (),
) -> Path:
    """Write the page ``out`` and its figures into the folder of the same name without suffix.

    Parameters
    ----------
    models
        Results, one column of the tables each.
    real_windows
        Held-out windows (n, H, W) in [-1, 1]; the first few are shown.
    scan
        Content of scan.json; ``voxel_size_um`` None is shown as unknown, and lengths are in pixels.
    parameters
        Parameters of the run, nested as in params.yaml.
    out
        HTML file to write.
    provenance
        Further facts for the foot of the page, such as the git commit.
    detection_rates
        Kind of planted defect -> how often the rules reject it; without it, the page has no such table.
    doubts
        What speaks against relying on the rules, a sentence each.

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
        draw_figures(models, real_windows, scan.get("voxel_size_um"), folder)
        page = _template().render(
            **_facts(models, scan, parameters, provenance or {}),
            **_tables(models, scan, real_windows.shape[1], detection_rates or {}),
            doubts=doubts,
            figures=_embedded(folder),
            following_number=_numbering(),
        )
    with atomic(out) as draft:
        draft.write_text(page, encoding="utf-8")
    return out


# Figures ------------------------------------------------------------------------------------------------


def draw_figures(
    models: Sequence[ModelResult], real_windows: np.ndarray, voxel_size_um: float | None, folder: Path
) -> None:
    """Draw all figures into ``folder``, and copy there those that earlier stages drew."""
    for model in models:
        captions = [in_words(reasons) for reasons in model.rejection_reasons]
        rows: dict[str, tuple[np.ndarray, Sequence[str]]] = {
            "real, held-out": (real_windows[:WINDOWS_IN_A_ROW], [""] * WINDOWS_IN_A_ROW),
            "valid": (model.valid_samples[:WINDOWS_IN_A_ROW], [""] * WINDOWS_IN_A_ROW),
            "rejected": (model.rejected_samples[:WINDOWS_IN_A_ROW], captions[:WINDOWS_IN_A_ROW]),
        }
        window_sheet(rows, folder / f"windows_{model.name}.png", WINDOWS_IN_A_ROW)
        for kind, figure in (
            ("rules", model.rules_figure),
            ("nearest_training_windows", model.nearest_training_windows_figure),
        ):
            if figure is not None:
                shutil.copyfile(figure, folder / f"{kind}_{model.name}.png")
    trained = {model.name: model.training_log for model in models if model.training_steps}
    if trained:
        loss_curves(trained, folder / "losses.png")
    curves = {model.name: model.curves for model in models}
    correlations = {name: by_descriptor["two_point_correlation"] for name, by_descriptor in curves.items()}
    two_point_curves(correlations, voxel_size_um, folder / "two_point_correlation.png")
    circle_histograms(curves, voxel_size_um, folder / "circles.png")
    descriptor_sheet(curves, DESCRIPTORS, voxel_size_um, folder / "descriptors.png")
    _draw_rejections(models, folder / "rejected_by.png")


def _draw_rejections(models: Sequence[ModelResult], path: Path) -> None:
    real = "real, held-out"  # as many windows as samples, and the same ones for all models
    rejected_by = {real: models[0].validity["reference_rejected_by"]}
    rejected_by |= {model.name: model.validity["rejected_by"] for model in models}
    counts = {real: models[0].validity["n"]} | {model.name: model.validity["n"] for model in models}
    colours = {real: REAL} | model_colours(model.name for model in models)
    rejection_bars(rejected_by, counts, colours, path)


def _embedded(folder: Path) -> dict[str, str]:
    """Figures as data addresses, by the name of their file without suffix."""
    return {
        path.stem: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        for path in sorted(folder.glob("*.png"))
    }


# Page ---------------------------------------------------------------------------------------------------


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("microgan.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": tables.percent, "number": tables.number}
    return environment.get_template("report.html.jinja")


def _numbering() -> Callable[[str], int]:
    """Return a function that counts tables and figures: its argument is ``"Table"`` or ``"Figure"``."""
    counts: Counter[str] = Counter()

    def following_number(kind: str) -> int:
        counts[kind] += 1
        return counts[kind]

    return following_number


def _facts(
    models: Sequence[ModelResult],
    scan: Mapping[str, Any],
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather all that stands in sentences and captions."""
    return {
        "models": models,
        "summaries": [_summary(model) for model in models],
        "scan": scan,
        "voxel_size": tables.voxel_size(scan),
        "parameters": parameters,
        "parameters_by_path": tables.flat(parameters),
        "provenance": {
            "Files of the scan": ", ".join(map(str, scan.get("source", ()))) or "unknown",
            "Scan's grey values (digest)": scan.get("source_digest", "unknown"),
            "planes.npy (SHA-256)": scan.get("planes_sha256", "unknown"),
            "mask.npy (SHA-256)": scan.get("mask_sha256", "unknown"),
            **{f"Weights of {model.name} (SHA-256)": model.weights_sha256 for model in models},
            **provenance,
            "microgan": __version__,
        },
        "level": LEVEL,
        "margins": _margins(),
    }


def _margins() -> dict[str, list[str]]:
    """Margin of equivalence in percent -> titles of the descriptors that have it."""
    titles: dict[str, list[str]] = {}
    for descriptor in DESCRIPTORS.values():
        if descriptor.margin:
            titles.setdefault(f"{100 * descriptor.margin:g} %", []).append(descriptor.title)
    return titles


def _summary(model: ModelResult) -> dict[str, Any]:
    """Gather what the head of the page says of a model."""
    return {
        "name": model.name,
        "count": model.validity["n"],
        "pass_rate": model.validity["pass_rate"],
        "pass_rate_ratio": tables.pass_rate_ratio(model),
        "headline_count": sum(name in model.fidelity["after"] for name in HEADLINE),
        "differing": count_flagged(model.fidelity["after"]),
        "differing_training_windows": count_flagged(model.fidelity["training_windows"]),
    }


def _tables(
    models: Sequence[ModelResult],
    scan: Mapping[str, Any],
    window_px: int,
    detection_rates: Mapping[str, DetectionRate],
) -> dict[str, Any]:
    """Gather all tables; None for one that has nothing to show."""
    properties = tables.effective_properties(models)
    bounded = [effective for effective in properties if effective.place != tables.DASH]
    compared = tables.compared_as_images(models)
    return {
        "scan_table": tables.scan_table(scan, window_px),
        "training_table": tables.training_table(models),
        "validity_table": tables.validity_table(models),
        "headline_table": tables.headline_table(models),
        "valid_descriptors": tables.descriptor_table(models, "after"),
        "all_descriptors": tables.descriptor_table(models, "before"),
        "properties_table": tables.properties_table(properties) if properties else None,
        "bounded": bounded,
        "outside_bounds": [effective for effective in bounded if effective.place.startswith("outside")],
        "image_table": tables.image_table(compared) if compared else None,
        "detection_table": tables.detection_table(detection_rates) if detection_rates else None,
    }
