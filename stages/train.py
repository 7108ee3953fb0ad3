"""Train one model: ``python -m stages.train dcgan``.

An interrupted run goes on from its state in checkpoints/ of the user's repository, under a name that stands
for all that the weights depend on: parameters, planes and code. So no run goes on from the state of another.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from microgan.checkpoint import save_model
from microgan.files import atomic, digest, write_csv
from microgan.planes import Planes
from microgan.training import ModelConfig, TrainConfig, Trained, train
from microgan.vision import image_grid
from microgan.windows import Windows
from stages.project import git_commit, project_root
from stages.stage import Stage, drafts, run


def main(stage: Stage) -> None:
    """Write models/MODEL, metrics/MODEL/training.csv and reports/train/MODEL."""
    name, tracker = stage.model, stage.tracker
    config = stage.config("train", TrainConfig)
    model = stage.config(f"models.{name}", ModelConfig)
    planes = Planes.load(Path("data/planes"))
    tracker.dataset(planes.info.name, planes.info.digest, "data/planes", "training")
    resume = resume_folder(config, model, stage.window_px, planes)

    def on_log(row: dict[str, float]) -> None:
        tracker.metrics({key: row[key] for key in row if key != "step"}, step=int(row["step"]))

    def on_grid(step: int, images: np.ndarray) -> None:
        grid = image_grid(images)
        tracker.image("samples", grid, step)
        with atomic(resume / "grids" / f"step_{step:06d}.png") as draft:
            Image.fromarray(grid).save(draft)

    windows = Windows(planes, "train", stage.window_px)
    trained = train(windows, config, model, resume / "state.safetensors", on_log, on_grid)

    outputs = (f"models/{name}", f"metrics/{name}/training.csv", f"reports/train/{name}")
    with drafts(*outputs) as (weights, curve, grids):
        save_model(weights, trained.generator, card(name, stage.window_px, planes, config, model, trained))
        write_csv(curve, list(trained.history[0]), [list(row.values()) for row in trained.history])
        shutil.copytree(resume / "grids", grids, dirs_exist_ok=True)
    shutil.rmtree(resume)
    tracker.artifact(*outputs)
    tracker.headline({f"{name}.steps": trained.steps, f"{name}.train_seconds": trained.seconds})


def resume_folder(config: TrainConfig, model: ModelConfig, window_px: int, planes: Planes) -> Path:
    """Return the folder for the state of this training and of no other."""
    loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "microgan")
    code = [Path(str(sys.modules[name].__file__)) for name in loaded]
    params = json.dumps([config.model_dump(), model.model_dump(), window_px])
    return project_root() / "checkpoints" / digest(params, planes.info.digest, *code)[:32]


def card(
    name: str, window_px: int, planes: Planes, config: TrainConfig, model: ModelConfig, trained: Trained
) -> dict[str, object]:
    """Say where the generator comes from."""
    return {
        "model": name,
        "window_px": window_px,
        "scan": planes.info.model_dump(),
        "training": {
            "config": config.model_dump(),
            "model": model.model_dump(),
            "steps": trained.steps,
            "seconds": trained.seconds,
            "git_commit": git_commit(),
        },
    }


if __name__ == "__main__":
    run(main)
