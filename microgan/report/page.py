"""The report of a run: one HTML page that shows real and synthetic windows side by side, for all models.

The page needs neither network nor scripts; its figures are also written beside it, curves and bars in vectors
(SVG) too. `microgan.report.run_tables` and `microgan.report.comparison_tables` gather what it shows,
``templates/report.html.jinja`` has the order of the page and all captions.

Same inputs, same bytes: nothing is taken from the clock. The date of the page is that of the latest training,
as the models' cards have it.
"""

import base64
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from microgan import __version__
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE, LEVEL
from microgan.evaluation.representative_cell import RepresentativeCell
from microgan.report import comparison_tables, run_tables, tables
from microgan.report.figures.curves import (
    circle_histograms,
    descriptor_sheet,
    loss_curves,
    selection_curves,
    two_point_curves,
)
from microgan.report.figures.representative import representative_figure
from microgan.report.figures.rules import rejection_bars
from microgan.report.figures.style import REAL, SUFFIXES, in_words, length_unit, model_colours
from microgan.report.figures.windows import cell_sheet, window_sheet
from microgan.report.numbering import Numbering
from microgan.report.results import ModelResult
from microgan.report.verdict import seeds, summary, verdict
from microgan.validity.reference import Reference

WINDOWS_IN_A_ROW = 8


def build_report(
    models: Sequence[ModelResult],
    real_windows: np.ndarray,
    scan: Mapping[str, Any],
    parameters: Mapping[str, Any],
    out: Path,
    provenance: Mapping[str, Any] | None = None,
    reference: Reference | None = None,
    *,
    best: str | None = None,
    scan_is_random_packing: bool = False,
    drawn: Mapping[str, Path] | None = None,
    representative: RepresentativeCell | None = None,
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
    reference
        The rules, with what speaks against relying on them, and the detection rates of planted defects.
        Without it, the page has none of these.
    best
        Name of the best model, for the verdict at the head; by default the one with the highest pass rate.
    scan_is_random_packing
        Whether the scan was simulated from a random packing of discs, which the baseline then equals.
    drawn
        Figures of the scan and the rules that earlier stages drew, where there are: ``scan`` (the planes with
        their parts) and ``planted_defects``.
    representative
        How far cells of the material vary by their size. Without it, the page has no such section.

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
    cells = representative.figures() if representative else None
    with atomic(out.with_suffix("")) as folder:
        folder.mkdir()
        draw_figures(models, real_windows, scan.get("voxel_size_um"), folder)
        if representative and cells:
            representative_figure(representative, cells, folder / "representative")
        copy_figures(models, drawn or {}, folder)
        content = {
            **_facts(models, scan, parameters, provenance or {}),
            **_tables(models, scan, real_windows.shape[1], reference),
            "verdict": verdict(models, best),
            "doubts": reference.doubts if reference else (),
            "scan_is_random_packing": scan_is_random_packing,
            "cell_sizes": cells,
            "figures": _embedded(folder),
            "files": _files(folder, out.stem),
        }
        page = _rendered(content)
    with atomic(out) as draft:
        draft.write_text(page, encoding="utf-8")
    return out


# Figures ------------------------------------------------------------------------------------------------


def draw_figures(
    models: Sequence[ModelResult], real_windows: np.ndarray, voxel_size_um: float | None, folder: Path
) -> None:
    """Draw all figures into ``folder``, each as PNG and in vectors."""
    for model in models:
        captions = [in_words(reasons) for reasons in model.rejection_reasons]
        rows: dict[str, tuple[np.ndarray, Sequence[str]]] = {
            "real, held-out": (real_windows[:WINDOWS_IN_A_ROW], [""] * WINDOWS_IN_A_ROW),
            "valid": (model.valid_samples[:WINDOWS_IN_A_ROW], [""] * WINDOWS_IN_A_ROW),
            "rejected": (model.rejected_samples[:WINDOWS_IN_A_ROW], captions[:WINDOWS_IN_A_ROW]),
        }
        window_sheet(rows, folder / f"windows_{model.name}", WINDOWS_IN_A_ROW, voxel_size_um)
    cells = {model.name: model.cell.image for model in models if model.cell}
    if cells:
        cell_sheet(cells, folder / "periodic_cells", real_windows.shape[1], voxel_size_um)
    trained = {model.name: model.training_log for model in models if model.training_steps}
    if trained:
        loss_curves(trained, folder / "losses")
    validations = {model.name: model.validations for model in models if model.validations}
    if validations:
        kept = {model.name: model.kept_step for model in models if model.kept_step is not None}
        selection_curves(validations, kept, folder / "checkpoint_selection")
    curves = {model.name: model.curves for model in models}
    correlations = {name: by_descriptor["two_point_correlation"] for name, by_descriptor in curves.items()}
    two_point_curves(correlations, voxel_size_um, folder / "two_point_correlation")
    circle_histograms(curves, voxel_size_um, folder / "circles")
    descriptor_sheet(curves, DESCRIPTORS, voxel_size_um, folder / "descriptors")
    _draw_rejections(models, folder / "rejected_by")


def copy_figures(models: Sequence[ModelResult], drawn: Mapping[str, Path], folder: Path) -> None:
    """Copy the figures that earlier stages drew into ``folder``, with those in vectors beside them."""
    of_models = {f"{kind}_{model.name}": path for model in models for kind, path in model.drawn.items()}
    for name, path in {**drawn, **of_models}.items():
        for suffix in SUFFIXES:
            if path.with_suffix(suffix).exists():
                shutil.copyfile(path.with_suffix(suffix), folder / f"{name}{suffix}")


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


def _files(folder: Path, name: str) -> dict[str, str]:
    """Files of each figure in words, as a reader of the page finds them beside it."""
    files: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        files.setdefault(path.stem, []).append(f"{name}/{path.name}")
    return {stem: ", ".join(names) for stem, names in files.items()}


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


def _rendered(content: Mapping[str, Any]) -> str:
    """Render the page twice: only then each reference knows the number of a table or figure further down."""
    template, numbering = _template(), Numbering()
    template.render(**content, numbering=numbering)
    return template.render(**content, numbering=Numbering(numbering.numbers))


def _facts(
    models: Sequence[ModelResult],
    scan: Mapping[str, Any],
    parameters: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather all that stands in sentences and captions."""
    parameters_by_path = tables.flat(parameters)
    return {
        "models": models,
        "summaries": [summary(model) for model in models],
        "scan": scan,
        "length_words": _length_words(scan.get("voxel_size_um")),
        "date": max((model.environment.get("ended", "") for model in models), default=""),
        "parameters": parameters,
        "parameters_by_path": parameters_by_path,
        "provenance": {
            "Seeds": seeds(parameters_by_path),
            "Files of the scan": ", ".join(map(str, scan.get("source", ()))) or "unknown",
            "Scan's grey values (digest)": scan.get("source_digest", "unknown"),
            "planes.npy (SHA-256)": scan.get("planes_sha256", "unknown"),
            "mask.npy (SHA-256)": scan.get("mask_sha256", "unknown"),
            **{f"Weights of {model.name} (SHA-256)": model.weights_sha256 for model in models},
            **provenance,
            "microgan": __version__,
        },
        "level": LEVEL,
        "headline": [DESCRIPTORS[name].title for name in HEADLINE],
        "margins": _margins(),
    }


def _length_words(voxel_size_um: float | None) -> str:
    unit = length_unit(voxel_size_um)[1]
    return unit if voxel_size_um else f"{unit} (pixels: the voxel size is not known)"


def _margins() -> dict[str, list[str]]:
    """Margin of equivalence in percent -> titles of the descriptors that have it."""
    titles: dict[str, list[str]] = {}
    for descriptor in DESCRIPTORS.values():
        if descriptor.margin:
            titles.setdefault(f"{100 * descriptor.margin:g} %", []).append(descriptor.title)
    return titles


def _tables(
    models: Sequence[ModelResult],
    scan: Mapping[str, Any],
    window_px: int,
    reference: Reference | None,
) -> dict[str, Any]:
    """Gather all tables; None for one that has nothing to show."""
    properties = comparison_tables.effective_properties(models)
    bounded = [effective for effective in properties if effective.place != tables.DASH]
    compared = comparison_tables.compared_as_images(models)
    judged = comparison_tables.judged_models(models)
    size_um = scan.get("voxel_size_um")
    return {
        "scan_table": run_tables.scan_table(scan, window_px),
        "training_table": run_tables.training_table(models),
        "validity_table": run_tables.validity_table(models),
        "rules_table": run_tables.rules_table(reference) if reference else None,
        "headline_table": comparison_tables.headline_table(models),
        "valid_descriptors": comparison_tables.descriptor_table(models, "after", size_um),
        "all_descriptors": comparison_tables.descriptor_table(models, "before", size_um),
        "properties_table": comparison_tables.properties_table(properties) if properties else None,
        "bounded": bounded,
        "outside_bounds": [effective for effective in bounded if effective.place.startswith("outside")],
        "image_table": comparison_tables.image_table(compared) if compared else None,
        "judge_table": comparison_tables.judge_table(judged) if judged else None,
        "judge_doubt": judged[0].fidelity["images"]["judge"]["reason"] if judged else None,
        "detection_table": run_tables.detection_table(reference)
        if reference and reference.detection_rates
        else None,
    }
