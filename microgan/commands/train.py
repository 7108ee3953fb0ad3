"""`microgan train`: a generator for a scan that `microgan calibrate` prepared."""

from pathlib import Path
from typing import Any

from microgan.commands.calibrate import PLANES, STANDARD
from microgan.core.atomic import must_be_writable
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.core.notes import warn
from microgan.core.tables import write_csv
from microgan.gan.checkpoint import save_model
from microgan.gan.checkpoint_selection import CheckpointScore
from microgan.gan.config import MODELS, TrainConfig
from microgan.gan.scan_training import curve, material_of, model_card, noise_of, state_name
from microgan.gan.state_folder import STATE, state_folder
from microgan.gan.training import train as train_loop
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference

STATES = "checkpoints"  # in the folder of the scan, of interrupted trainings


def train(scan: Path, name: str, config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train the model ``name`` on the folder ``scan``, and write it into ``out``.

    An interrupted training goes on where it was.
    """
    if not (scan / STANDARD).is_file():
        raise UserError(scan, f"no {STANDARD}", "must be the folder that `microgan calibrate --out` wrote")
    if out.exists():
        raise UserError("--out", out, "exists already: name another folder, or remove this one")
    planes, reference, model = Planes.load(scan / PLANES), Reference.load(scan / STANDARD), MODELS[name]
    windows = Windows(planes, "train", reference.window_px)
    folder = scan / STATES / state_name(config, model, reference.window_px, planes, scan / STANDARD)
    must_be_writable(out)  # rather now than after the training

    def wait(owner: str) -> None:
        warn(f"{owner} runs the same training: waiting for its result")

    with state_folder(folder, wait):
        trained = train_loop(
            windows,
            config,
            model,
            folder / STATE,
            validate=CheckpointScore.on(planes, reference, config.seed),
            material=material_of(windows, reference, config.seed),
            noise=noise_of(windows, reference, config),
        )
        card = model_card(name, reference.window_px, planes, config, model, trained, None)
        with atomic(out) as draft:
            save_model(draft, trained.generator, card, trained.last, trained.critic)
            write_csv(draft / "training.csv", *curve(trained.history))
            if trained.validations:
                write_csv(draft / "validation.csv", *curve(trained.validations))
    return {
        "steps": trained.steps,
        "seconds": trained.seconds,
        "stopped_by_clock": trained.stopped_by_clock,
        "kept": trained.kept,
        "files": [str(path) for path in sorted(out.iterdir())],
    }
