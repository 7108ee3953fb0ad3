"""Put everything on one page: ``python -m stages.report``.

Also drawn here, as no other stage needs it: a large periodic cell of each model, judged by all its windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ConfigDict, Field

from microgan.core.config import Config
from microgan.core.domain import Domain
from microgan.core.files import file_sha256
from microgan.core.json_files import read_numbers, write_json
from microgan.core.tables import read_table
from microgan.evaluation.real_statistics import RealStatistics
from microgan.evaluation.representative_cell import RepresentativeCell, measured, phases_of
from microgan.gan.checkpoint import load_model
from microgan.gan.model_card import CARD, read_model_card
from microgan.gan.sampling import sample
from microgan.report.page import build_report
from microgan.report.results import LargeCell, ModelResult
from microgan.samples.card import SampleCard
from microgan.samples.verdict_file import VERDICT, ModelVerdict
from microgan.scan.planes import Planes, ScanInfo
from microgan.scan.windows import Windows
from microgan.statistics.representative import LEAST_WINDOWS
from microgan.validity.calibration import CalibrationConfig
from microgan.validity.large_images import judge_large_image
from microgan.validity.reference import Reference
from stages.metrics import read_curves, read_fidelity, read_validity
from stages.project import git_commit
from stages.registry import best_model, in_words
from stages.samples import read_samples
from stages.stage import BASELINE, Stage, run, section, selected

REFERENCE = Path("reference/reference.json")
MOST_IMAGES = 64  # of each kind that the page may show; it shows the first few
CELL_WINDOWS = 6  # side of the large cell, in windows
EMBEDDED = "simulated"  # the scan that the stage simulate makes, which is a random packing itself
ENVIRONMENT = ("ended", "machine", "software")  # of a model's card, as it is shown
COMPARED = (  # of each model, in the table of `dvc exp show`
    "pass_rate",
    "pass_rate_ratio",
    "kernel_distance",
    "two_point_correlation.ratio",
    "stiffness.difference",
    "judge_flagged",
    "judge_flagged_real",
)


def main(stage: Stage) -> None:
    """Write reports/report.html, its figures in reports/report, and metrics/headline.json."""
    planes = Planes.load(Path("data/planes"))
    windows = Windows(planes, "held_out", stage.window_px)
    seed = section(stage.params, "generate")["seed"]
    real = windows.draw(np.random.default_rng(seed), MOST_IMAGES)[:, 0].numpy()
    config = stage.config("calibrate", CalibrationConfig)
    reference = config.load_reference(REFERENCE)
    models = list(section(stage.params, "models"))
    results = [result(name, planes.info) for name in [*models, BASELINE]]
    results = [
        replace(model, cell=large_cell(model.name, reference, seed) if model.name in models else None)
        for model in results
    ]
    verdicts = {model.name: model.verdict for model in results if model.verdict}
    judged = {name: figures(name, verdict) for name, verdict in verdicts.items()}
    out = Path("reports/report.html")
    stage.must_be_unchanged()
    build_report(
        results,
        real,
        planes.info.model_dump(),
        shown_parameters(stage),
        out,
        {"Git commit": git_commit() or "unknown"},
        reference,
        best=best_model(judged),
        scan_is_random_packing=stage.scan == EMBEDDED,
        drawn={
            "scan": Path("reports/ingest/contact_sheet.png"),
            "planted_defects": Path("reports/calibrate/planted_defects.png"),
        },
        representative=representative_cell(planes, reference),
    )
    write_json("metrics/headline.json", comparison(judged, verdicts))
    lines = [f"{name}: {verdicts[name]}; {in_words(judged[name])}" for name in models]
    stage.say(f"{out}: {'; '.join(lines)}")
    for model in results:
        stage.tracker.headline(headline(model))
    info = planes.info
    stage.tracker.dataset(info.name, info.planes_sha256, "data/planes", "training")
    stage.tracker.summary(description(lines, reference.doubts), [out, out.with_suffix("")])
    for name in models:  # also those that did not have to be trained again
        stage.tracker.model(stage.scan, Path("models") / name)
    in_text = {name: str(verdict) for name, verdict in verdicts.items()}
    stage.tracker.best_model(stage.scan, judged, in_text, file_sha256(REFERENCE))


def description(lines: Sequence[str], doubts: Sequence[str]) -> str:
    """Describe an execution in Markdown, for MLflow: verdicts, and what speaks against the rules."""
    return "\n".join([*(f"- {line}" for line in lines), *(f"- Doubt: {doubt}" for doubt in doubts)])


def comparison(
    judged: Mapping[str, Mapping[str, float | None]], verdicts: Mapping[str, ModelVerdict]
) -> dict[str, dict[str, float | str | None]]:
    """Return the few figures by which DVC compares executions, of real windows and of each model."""
    real = next(iter(judged.values()))["reference_pass_rate"]
    compared: dict[str, dict[str, float | str | None]] = {"real": {"pass_rate": real}}
    for name, figures in judged.items():
        compared[name] = {"verdict": verdicts[name].verdict, **{key: figures[key] for key in COMPARED}}
    return compared


def figures(name: str, verdict: ModelVerdict) -> dict[str, float | None]:
    """Read the headline figures of one model, with whether it has learnt by its verdict."""
    folder = Path("metrics") / name
    return {
        **read_validity(folder / "validity.json"),
        **read_numbers(folder / "headline.json"),
        "learnt": float(verdict.has_learnt),
    }


class Training(Config):
    """What is read of a model's card about its training."""

    model_config = ConfigDict(extra="allow")

    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)
    device: str
    precision: str
    kept: dict[str, Any]
    config: dict[str, Any]


def result(name: str, info: ScanInfo) -> ModelResult:
    """Read what the other stages wrote about one model."""
    metrics = Path("metrics") / name
    folder = Path("samples") / name
    samples, card = read_samples(folder), SampleCard.load(folder / "generated.tif")
    valid, rejected = (np.flatnonzero(mask)[:MOST_IMAGES] for mask in (samples.valid, ~samples.valid))
    return ModelResult(
        name=name,
        validity=read_validity(metrics / "validity.json"),
        fidelity=read_fidelity(metrics / "fidelity.json"),
        curves=read_curves(metrics / "curves.json"),
        valid_samples=info.normalise(samples.grey[valid]),
        rejected_samples=info.normalise(samples.grey[rejected]),
        rejection_reasons=[samples.verdicts[index].reasons for index in rejected],
        weights_sha256=card.weights_sha256 or f"none; packing.json has {card.packing_sha256}",
        drawn={
            "contact_sheet": Path(f"reports/validate/{name}.png"),
            "rules": Path(f"reports/validate/{name}_rules.png"),
            "nearest_training_windows": Path(f"reports/evaluate/{name}.png"),
            "judge": Path(f"reports/evaluate/{name}_judge.png"),
            "given_away": Path(f"reports/evaluate/{name}_given_away.png"),
        },
        **({} if name == BASELINE else training(name)),
    )


def training(name: str) -> dict[str, Any]:
    """Read how a model was trained."""
    path = Path("models") / name / CARD
    about = read_model_card(path)["training"]
    Training.from_mapping(about, f"{path}: training")
    metrics = Path("metrics") / name
    known = {key: str(about[key]) for key in ENVIRONMENT if about.get(key) is not None}
    return {
        "verdict": ModelVerdict.load(path.with_name(VERDICT)),
        "training_log": rows_of(metrics / "training.csv"),
        "validations": rows_of(metrics / "validation.csv"),
        "training_steps": about["steps"],
        "kept_step": int(about["kept"]["step"]),
        "training_seconds": about["seconds"],
        "environment": known
        | {
            "device": f"{about['device']}, {about['precision']}",
            "git_commit": (about.get("git_commit") or "unknown")[:10],
            "seed": str(about["config"]["seed"]),
            "ended_by": "the clock: not reproducible" if about.get("stopped_by_clock") else "its last step",
        },
    }


def rows_of(path: Path) -> list[dict[str, float]]:
    """Read a table of numbers."""
    return read_table(path, {"step": float}, others=float)  # also what is not finite, as a score may be


def large_cell(name: str, reference: Reference, seed: int) -> LargeCell:
    """Draw a periodic image, `CELL_WINDOWS` windows on a side, and judge it in the scan's own grey values."""
    generator, _ = load_model(Path("models") / name)
    side_px = CELL_WINDOWS * reference.window_px
    (image,) = sample(generator, 1, Domain((side_px, side_px), periodic=True), seed, progress=False).numpy()
    stored = reference.scan.normalise(reference.scan.denormalise(image[0]))
    verdict = judge_large_image(torch.from_numpy(stored), reference, periodic=True, progress=False)
    windows = len(verdict.verdicts)
    return LargeCell(stored, windows, windows - verdict.invalid_windows, len(verdict.overlapping))


def representative_cell(planes: Planes, reference: Reference) -> RepresentativeCell:
    """Measure how far cells vary, by all planes and by the windows whose properties are known."""
    real = RealStatistics.load(Path("real_statistics"))
    columns = []
    for windows in (real.held_out, real.train):
        stiffness_gpa = windows.properties.curves["stiffness"].numerator[:, 0]
        fraction = windows.structure.curves["volume_fraction"].numerator[: len(stiffness_gpa), 0]
        columns.append((fraction, stiffness_gpa))
    fractions, stiffnesses_gpa = (np.concatenate(values) for values in zip(*columns, strict=True))
    solved = (fractions, stiffnesses_gpa) if len(fractions) >= LEAST_WINDOWS else None
    size_um = planes.info.voxel_size_um
    return measured(phases_of(planes, reference), reference.window_px, size_um, solved)


def shown_parameters(stage: Stage) -> dict[str, Any]:
    """Return the parameters of this run: those of the embedded scan only where it is the scan."""
    parameters = selected(stage.params)
    return {name: value for name, value in parameters.items() if name != "simulate" or stage.scan == EMBEDDED}


def headline(model: ModelResult) -> dict[str, float | None]:
    """Return the numbers by which executions are compared, also of models that did not have to run again."""
    numbers: dict[str, float | None] = {
        key: model.validity[key] for key in ("pass_rate", "reference_pass_rate", "pass_rate_ratio")
    }
    if model.training_steps is not None and model.training_seconds is not None:
        numbers |= {"steps": model.training_steps, "train_seconds": model.training_seconds}
    numbers |= read_numbers(Path("metrics") / model.name / "headline.json")
    return {f"{model.name}.{key}": value for key, value in numbers.items()}


if __name__ == "__main__":
    run(main)
