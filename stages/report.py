"""Put everything on one page: ``python -m stages.report``."""

import csv
from pathlib import Path

import numpy as np

from microgan.files import read_json
from microgan.planes import Planes, ScanInfo
from microgan.report import ModelResult, build_report
from microgan.validity import Reference
from microgan.windows import Windows
from stages.project import git_commit
from stages.samples import read_samples
from stages.stage import Stage, run, section, selected

SHOWN = 64  # real windows and samples handed on, of which the page shows some


def main(stage: Stage) -> None:
    """Write reports/report.html and its pictures in reports/report."""
    planes = Planes.load(Path("data/planes"))
    windows = Windows(planes, "held_out", stage.window_px)
    seed = section(stage.params, "generate")["seed"]
    real = windows.draw(np.random.default_rng(seed), SHOWN, augment=False)[:, 0].numpy()
    results = [result(name, planes.info) for name in section(stage.params, "models")]
    out = Path("reports/report.html")
    scan = planes.info.model_dump()
    power = Reference.load(Path("reference/reference.json")).power
    build_report(results, real, scan, selected(stage.params), out, {"git_commit": git_commit()}, power)
    for model in results:
        stage.tracker.headline(headline(model))
    stage.tracker.artifact(out)


def result(name: str, info: ScanInfo) -> ModelResult:
    """Gather what the other stages found out about one model."""
    metrics = Path("metrics") / name
    card = read_json(Path("models") / name / "model.json")
    samples = read_samples(Path("samples") / name)
    accepted, rejected = np.flatnonzero(samples.valid)[:SHOWN], np.flatnonzero(~samples.valid)[:SHOWN]
    with (metrics / "training.csv").open(newline="") as stream:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    return ModelResult(
        name=name,
        validity=read_json(metrics / "validity.json"),
        fidelity=read_json(metrics / "fidelity.json"),
        curves=read_json(metrics / "curves.json"),
        history=history,
        training_steps=card["training"]["steps"],
        kept_step=int(card["training"]["kept"]["step"]),
        training_seconds=card["training"]["seconds"],
        accepted=info.normalise(samples.grey[accepted]),
        rejected=info.normalise(samples.grey[rejected]),
        reasons=[samples.verdicts[index].reasons for index in rejected],
        weights_sha256=card["weights_sha256"],
        rules_picture=Path("reports/validate") / f"{name}_rules.png",
    )


def headline(model: ModelResult) -> dict[str, float]:
    """Return the numbers by which executions are compared, also of models that did not have to run again."""
    numbers = {key: model.validity[key] for key in ("pass_rate", "reference_pass_rate", "pass_rate_ratio")}
    numbers |= {"steps": model.training_steps, "train_seconds": model.training_seconds}
    after = model.fidelity["after"].items()
    numbers |= {f"{key}.ratio": row["ratio"] for key, row in after if row["ratio"] is not None}
    return {f"{model.name}.{key}": value for key, value in numbers.items()}


if __name__ == "__main__":
    run(main)
