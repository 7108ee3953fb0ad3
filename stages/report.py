"""Put everything on one page: ``python -m stages.report``."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from microgan.core.files import read_json
from microgan.evaluation.fidelity import headline as fidelity_headline
from microgan.report.page import ModelResult, build_report
from microgan.scan.planes import Planes, ScanInfo
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference
from stages.project import git_commit
from stages.registry import best_model
from stages.samples import read_samples
from stages.stage import BASELINE, Stage, run, section, selected

SHOWN = 64  # real windows and samples handed on, of which the page shows some


def main(stage: Stage) -> None:
    """Write reports/report.html and its pictures in reports/report."""
    planes = Planes.load(Path("data/planes"))
    windows = Windows(planes, "held_out", stage.window_px)
    seed = section(stage.params, "generate")["seed"]
    real = windows.draw(np.random.default_rng(seed), SHOWN)[:, 0].numpy()
    results = [result(name, planes.info) for name in [*section(stage.params, "models"), BASELINE]]
    out = Path("reports/report.html")
    scan = planes.info.model_dump()
    power = Reference.load(Path("reference/reference.json")).power
    build_report(results, real, scan, selected(stage.params), out, {"git_commit": git_commit()}, power)
    for model in results:
        stage.tracker.headline(headline(model))
    stage.tracker.artifact(out)
    models = [model.name for model in results if model.name != BASELINE]
    for name in models:  # also those that did not have to be trained again
        stage.tracker.model(stage.scan, Path("models") / name)
    stage.tracker.best_model(stage.scan, best_model({name: figures(name) for name in models}))


def figures(name: str) -> dict[str, float | None]:
    """Read the headline figures of one model."""
    folder = Path("metrics") / name
    return {**read_json(folder / "validity.json"), **read_json(folder / "headline.json")}


def result(name: str, info: ScanInfo) -> ModelResult:
    """Gather what the other stages found out about one model."""
    metrics = Path("metrics") / name
    samples = read_samples(Path("samples") / name)
    accepted, rejected = np.flatnonzero(samples.valid)[:SHOWN], np.flatnonzero(~samples.valid)[:SHOWN]
    return ModelResult(
        name=name,
        validity=read_json(metrics / "validity.json"),
        fidelity=read_json(metrics / "fidelity.json"),
        curves=read_json(metrics / "curves.json"),
        accepted=info.normalise(samples.grey[accepted]),
        rejected=info.normalise(samples.grey[rejected]),
        reasons=[samples.verdicts[index].reasons for index in rejected],
        weights_sha256=read_json(Path("samples") / name / "generated.json")["weights_sha256"],
        rules_picture=Path("reports/validate") / f"{name}_rules.png",
        nearest_training_windows_picture=Path("reports/evaluate") / f"{name}.png",
        **({} if name == BASELINE else training(name)),
    )


def training(name: str) -> dict[str, Any]:
    """Gather how a model was trained."""
    about = read_json(Path("models") / name / "model.json")["training"]
    with (Path("metrics") / name / "training.csv").open(newline="") as stream:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    return {
        "history": history,
        "training_steps": about["steps"],
        "kept_step": int(about["kept"]["step"]),
        "training_seconds": about["seconds"],
    }


def headline(model: ModelResult) -> dict[str, float]:
    """Return the numbers by which executions are compared, also of models that did not have to run again."""
    numbers = {key: model.validity[key] for key in ("pass_rate", "reference_pass_rate", "pass_rate_ratio")}
    if model.training_steps is not None and model.training_seconds is not None:
        numbers |= {"steps": model.training_steps, "train_seconds": model.training_seconds}
    numbers |= fidelity_headline(model.fidelity)
    return {f"{model.name}.{key}": value for key, value in numbers.items()}


if __name__ == "__main__":
    run(main)
