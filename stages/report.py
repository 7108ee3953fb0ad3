"""Put everything on one page: ``python -m stages.report``."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgan.core.files import file_sha256, read_json, write_json
from microgan.report.page import build_report
from microgan.report.results import ModelResult
from microgan.samples.card import SampleCard
from microgan.scan.planes import Planes, ScanInfo
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference
from stages.project import git_commit
from stages.samples import read_samples
from stages.stage import BASELINE, Stage, run, section, selected

REFERENCE = Path("reference/reference.json")
MOST_IMAGES = 64  # of each kind that the page may show; it shows the first few
COMPARED = (  # of each model, in the table of `dvc exp show`
    "pass_rate",
    "pass_rate_ratio",
    "kernel_distance",
    "two_point_correlation.ratio",
    "stiffness.difference",
)


def main(stage: Stage) -> None:
    """Write reports/report.html, its figures in reports/report, and metrics/headline.json."""
    planes = Planes.load(Path("data/planes"))
    windows = Windows(planes, "held_out", stage.window_px)
    seed = section(stage.params, "generate")["seed"]
    real = windows.draw(np.random.default_rng(seed), MOST_IMAGES)[:, 0].numpy()
    results = [result(name, planes.info) for name in [*section(stage.params, "models"), BASELINE]]
    out = Path("reports/report.html")
    scan = planes.info.model_dump()
    reference = Reference.load(REFERENCE)
    provenance = {"git_commit": git_commit()}
    build_report(
        results,
        real,
        scan,
        selected(stage.params),
        out,
        provenance,
        reference.detection_rates,
        reference.doubts,
    )
    models = [model.name for model in results if model.name != BASELINE]
    judged = {name: figures(name) for name in models}
    write_json("metrics/headline.json", comparison(judged))
    lines = [verdict(name, judged[name]) for name in models]
    stage.say(f"{out}: {'; '.join(lines)}")
    for model in results:
        stage.tracker.headline(headline(model))
    info = planes.info
    stage.tracker.dataset(info.name, info.planes_sha256, "data/planes", "training")
    stage.tracker.summary(description(lines, reference.doubts), [out, out.with_suffix("")])
    for name in models:  # also those that did not have to be trained again
        stage.tracker.model(stage.scan, Path("models") / name)
    stage.tracker.best_model(stage.scan, judged, file_sha256(REFERENCE))


def verdict(name: str, figures: Mapping[str, float | None]) -> str:
    """Say in a sentence how good a model is."""
    if not figures["pass_rate"]:
        return f"{name}: none of {figures['n']} samples is valid"
    valid = f"{name}: {figures['pass_rate']:.1%} of {figures['n']} samples are valid"
    real = f"{figures['reference_pass_rate']:.1%} of real held-out windows"
    distance, scale = figures["kernel_distance"], figures["kernel_distance.training_windows"]
    far = "" if distance is None else f", kernel distance {distance:.2g} (training windows: {scale:.2g})"
    return f"{valid} ({real}){far}"


def description(lines: Sequence[str], doubts: Sequence[str]) -> str:
    """Describe an execution in Markdown, for MLflow: verdicts, and what speaks against the rules."""
    return "\n".join([*(f"- {line}" for line in lines), *(f"- Doubt: {doubt}" for doubt in doubts)])


def comparison(judged: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """Return the few figures by which DVC compares executions, of real windows and of each model."""
    real = next(iter(judged.values()))["reference_pass_rate"]
    return {"real": {"pass_rate": real}} | {
        name: {key: figures[key] for key in COMPARED} for name, figures in judged.items()
    }


def figures(name: str) -> dict[str, float | None]:
    """Read the headline figures of one model."""
    folder = Path("metrics") / name
    return {**read_json(folder / "validity.json"), **read_json(folder / "headline.json")}


def result(name: str, info: ScanInfo) -> ModelResult:
    """Read what the other stages wrote about one model."""
    metrics = Path("metrics") / name
    folder = Path("samples") / name
    samples, card = read_samples(folder), SampleCard.load(folder / "generated.tif")
    valid, rejected = (np.flatnonzero(mask)[:MOST_IMAGES] for mask in (samples.valid, ~samples.valid))
    return ModelResult(
        name=name,
        validity=read_json(metrics / "validity.json"),
        fidelity=read_json(metrics / "fidelity.json"),
        curves=read_json(metrics / "curves.json"),
        valid_samples=info.normalise(samples.grey[valid]),
        rejected_samples=info.normalise(samples.grey[rejected]),
        rejection_reasons=[samples.verdicts[index].reasons for index in rejected],
        weights_sha256=card.weights_sha256 or f"none; packing.json has {card.packing_sha256}",
        rules_figure=Path("reports/validate") / f"{name}_rules.png",
        nearest_training_windows_figure=Path("reports/evaluate") / f"{name}.png",
        **({} if name == BASELINE else training(name)),
    )


def training(name: str) -> dict[str, Any]:
    """Read how a model was trained."""
    about = read_json(Path("models") / name / "model.json")["training"]
    with (Path("metrics") / name / "training.csv").open(newline="") as stream:
        log = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    return {
        "training_log": log,
        "training_steps": about["steps"],
        "kept_step": int(about["kept"]["step"]),
        "training_seconds": about["seconds"],
    }


def headline(model: ModelResult) -> dict[str, float | None]:
    """Return the numbers by which executions are compared, also of models that did not have to run again."""
    numbers: dict[str, float | None] = {
        key: model.validity[key] for key in ("pass_rate", "reference_pass_rate", "pass_rate_ratio")
    }
    if model.training_steps is not None and model.training_seconds is not None:
        numbers |= {"steps": model.training_steps, "train_seconds": model.training_seconds}
    numbers |= read_json(Path("metrics") / model.name / "headline.json")
    return {f"{model.name}.{key}": value for key, value in numbers.items()}


if __name__ == "__main__":
    run(main)
