"""Train one model: ``python -m stages.train dcgan``.

An interrupted run goes on from its state in checkpoints/ of the user's repository, under a name that stands
for all that the weights depend on: parameters, planes, rules and code. So no run goes on from the state of
another. Started by `torchrun`, the processes train together, and the first one writes.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from microgan.core.files import atomic
from microgan.core.notes import warn
from microgan.core.tables import write_csv
from microgan.gan.checkpoint import save_model
from microgan.gan.checkpoint_selection import CheckpointScore
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.scan_training import curve, material_of, model_card, noise_of, state_name
from microgan.gan.state_folder import STATE, state_folder
from microgan.gan.training import Trained, train
from microgan.report.image_grid import image_grid
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference
from stages.project import git_commit, project_root
from stages.stage import Stage, naming, run

# The standard rules: neither weights nor checkpoint depend on the limits that the user chooses.
REFERENCE = Path("reference/standard.json")
BY_CLOCK = "stopped by the clock: not reproducible"


def main(stage: Stage) -> None:
    """Write models/MODEL, metrics/MODEL/training.csv and validation.csv, and reports/train/MODEL."""
    name, tracker = stage.model, stage.tracker
    config = stage.config("train", TrainConfig)
    model = stage.config(f"models.{name}", ModelConfig)
    stage.say(f"{name}: {planned(config, model)}")
    planes = Planes.load(Path("data/planes"))
    outputs = [f"models/{name}", f"metrics/{name}/training.csv", f"metrics/{name}/validation.csv"]
    outputs += [f"reports/train/{name}"]

    def wait(owner: str) -> None:
        stage.heartbeat.progress = f"waiting for {owner}"
        stage.say(f"{name}: {owner} runs the same training: waiting for its result")

    # Kept until all is tracked: a signal that comes then costs no training
    folder = resume_folder(config, model, stage.window_px, planes)
    resume = stage.until_end.enter_context(state_folder(folder, wait))
    trained = _trained(stage, config, model, planes, resume)
    if not stage.writes:
        return
    with stage.drafts(*outputs) as (weights, losses, validations, grids):
        about = model_card(name, stage.window_px, planes, config, model, trained, git_commit())
        save_model(weights, trained.generator, about, trained.last, trained.critic)
        write_csv(losses, *curve(trained.history))
        write_csv(validations, *curve(trained.validations))
        drafts = shutil.ignore_patterns(".*")  # of a process that was killed
        shutil.copytree(resume / "grids", grids, ignore=drafts, dirs_exist_ok=True)
    kept = trained.kept
    which = f"that of step {kept['step']:.0f}, score {kept['score']:.3f}" if kept else "the last one"
    stage.say(f"{name}: {trained.steps} steps in {trained.seconds / 60:.1f} minutes; kept {which}")
    if trained.stopped_by_clock:
        warn(
            f"{name}: {BY_CLOCK}: train.minutes ended it after {trained.steps} of {model.steps(config)} steps"
        )
        tracker.tag(f"stopped.{name}", BY_CLOCK)
    tracker.artifact(*outputs)
    tracker.model(stage.scan, Path("models") / name)
    for row in trained.validations:
        figures = {f"validation.{key}": row[key] for key in row if key != "step"}
        tracker.metrics(figures, step=int(row["step"]))
    tracker.headline({f"{name}.steps": trained.steps, f"{name}.train_seconds": trained.seconds})


def _trained(stage: Stage, config: TrainConfig, model: ModelConfig, planes: Planes, resume: Path) -> Trained:
    """Train, or go on from the state in ``resume``; log losses, scores and pictures."""
    tracker, reference = stage.tracker, Reference.load(REFERENCE)
    tracker.dataset(planes.info.name, planes.info.planes_sha256, "data/planes", "training")
    latest: dict[str, float] = {}  # scores

    def on_log(row: dict[str, float]) -> None:
        stage.heartbeat.progress = progress(row, config, model, latest)
        tracker.metrics({key: row[key] for key in row if key != "step"}, step=int(row["step"]))

    def on_preview(step: int, images: np.ndarray) -> None:
        grid = image_grid(images)
        tracker.image("samples", grid, step)
        with atomic(resume / "grids" / f"step_{step:06d}.png") as draft:
            Image.fromarray(grid).save(draft)

    windows = Windows(planes, "train", stage.window_px)
    score = CheckpointScore.on(planes, reference, config.seed)

    def validate(samples: Tensor) -> dict[str, float]:
        latest.update(score(samples))
        return dict(latest)

    material = material_of(windows, reference, config.seed)
    noise = noise_of(windows, reference, config)
    with naming("train", TrainConfig):
        return train(windows, config, model, resume / STATE, on_log, on_preview, validate, material, noise)


def planned(config: TrainConfig, model: ModelConfig) -> str:
    """Say how long a training is, from its start to its end.

    Examples
    --------
    >>> planned(TrainConfig(steps=1000, minutes=10), ModelConfig(loss="minimax", steps_factor=1.5))
    '1500 steps, at most 10 minutes, and half a minute to measure real windows and to score'
    """
    besides = "and half a minute to measure real windows and to score"  # measured on two cores
    at_most = "" if config.minutes is None else f" at most {config.minutes:g} minutes,"
    return f"{model.steps(config)} steps,{at_most} {besides}"


def progress(
    row: Mapping[str, float], config: TrainConfig, model: ModelConfig, scores: Mapping[str, float]
) -> str:
    """Say how far a training is; its losses and its pass rate.

    Examples
    --------
    >>> row = {"step": 500, "critic_loss": 0.5, "generator_loss": 1.25}
    >>> model = ModelConfig(loss="minimax")
    >>> progress(row, TrainConfig(steps=1000), model, {"calibration_pass_rate_ratio": 0.9})
    '50 %, step 500, critic_loss 0.5, generator_loss 1.25, pass rate 0.90 times that of calibration windows'
    """
    done = row["step"] / model.steps(config)
    losses = [f"{name} {row[name]:.3g}" for name in ("critic_loss", "generator_loss")]
    ratio = scores.get("calibration_pass_rate_ratio")
    passed = [] if ratio is None else [f"pass rate {ratio:.2f} times that of calibration windows"]
    return ", ".join([f"{min(done, 1):.0%}".replace("%", " %"), f"step {row['step']:.0f}", *losses, *passed])


def resume_folder(config: TrainConfig, model: ModelConfig, window_px: int, planes: Planes) -> Path:
    """Return the folder for the state of this training and of no other."""
    return project_root() / "checkpoints" / state_name(config, model, window_px, planes, REFERENCE)


if __name__ == "__main__":
    run(main)
