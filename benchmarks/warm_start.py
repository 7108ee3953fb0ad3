"""What a model of another material is worth as a start: `python -m benchmarks.warm_start CARBON_MODELS`.

Trains each model on the scan in data/planes, for which the pipeline has run up to ``calibrate``, from nothing
and from the model of its name in the given folder (`train.init_from`), with what params.yaml says, the same
seed and as many steps. Now and then samples of the averaged generator are judged on calibration windows, as
training itself does, by the score of checkpoint selection (`microgan.gan.checkpoint_selection`): the pass
rate over that of calibration windows, less the excess of the errors of two-point correlation and texture over
their noise floors. The pass rate alone would not do: discs of another material may pass, too.
``warm_start.md`` is what is printed.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

import yaml
from torch import Tensor

from microgan.core.files import atomic
from microgan.gan.checkpoint_selection import CheckpointScore
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.scan_training import material_of, noise_of
from microgan.gan.training import train
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference
from stages.project import git_commit

ROOT = Path(__file__).parents[1]
SCORES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Validation:
    """Samples during a training, after so many steps and minutes without validation itself."""

    step: float
    minutes: float
    score: float
    calibration_pass_rate_ratio: float
    two_point_error: float
    texture_error: float


@dataclass(frozen=True)
class Run:
    """One training from nothing (``start`` None) or from another model."""

    model: str
    start: Path | None
    validations: list[Validation]

    def reached(self, score: float) -> Validation | None:
        """Return the first validation with at least that score."""
        return next((validation for validation in self.validations if validation.score >= score), None)


def trained(
    planes: Planes,
    reference: Reference,
    name: str,
    model: ModelConfig,
    config: TrainConfig,
    start: Path | None,
) -> Run:
    """Train once, and judge on the way."""
    windows = Windows(planes, "train", reference.window_px)
    score = CheckpointScore.on(planes, reference, config.seed)
    material = material_of(windows, reference, config.seed)
    started, judging = time.monotonic(), 0.0

    def validate(samples: Tensor) -> dict[str, float]:
        nonlocal judging
        began = time.monotonic()
        figures = score(samples)
        judging += time.monotonic() - began
        return {**figures, "minutes": (time.monotonic() - started - judging) / 60}

    with tempfile.TemporaryDirectory() as folder:
        config = config.model_copy(update={"init_from": start})
        noise = noise_of(windows, reference, config)
        state = Path(folder) / "state.safetensors"
        done = train(windows, config, model, state, validate=validate, material=material, noise=noise)
    names = [field.name for field in fields(Validation)]
    return Run(name, start, [Validation(**{key: row[key] for key in names}) for row in done.validations])


def at_rate(model: ModelConfig, rate: float) -> ModelConfig:
    """Return the same game with ``rate`` times the learning rates."""
    names = ("generator_learning_rate", "critic_learning_rate")
    return model.model_copy(update={name: rate * getattr(model, name) for name in names})


def table(runs: Sequence[Run]) -> str:
    """Format when each score was reached, and how many times sooner with a start, in Markdown."""
    lines = [
        "| model | score | from nothing: steps, minutes | from the other model | times fewer steps |",
        "|---" * 5 + "|",
    ]
    for name, score in product(dict.fromkeys(run.model for run in runs), SCORES):
        own = {run.start is not None: run.reached(score) for run in runs if run.model == name}
        if not any(own.values()):
            continue
        cold, warm = own.get(False), own.get(True)
        gain = f"{cold.step / warm.step:.1f}" if cold and warm else "-"
        lines.append(f"| {name} | {score:.2f} | {_when(cold)} | {_when(warm)} | {gain} |")
    return "\n".join(lines)


def courses(runs: Sequence[Run]) -> str:
    """Format all validations in Markdown, a training a line: pass rate, errors of correlation and texture."""
    steps = [f"{validation.step:.0f}" for validation in runs[0].validations]
    lines = ["| steps | " + " | ".join(steps) + " |", "|---" * (len(steps) + 1) + "|"]
    for run in runs:
        cells = [
            f"{validation.calibration_pass_rate_ratio:.2f}, {100 * validation.two_point_error:.1f} %, "
            f"{validation.texture_error:.2f}"
            for validation in run.validations
        ]
        lines.append(
            f"| {run.model}, from {'another' if run.start else 'nothing'} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _when(validation: Validation | None) -> str:
    return f"{validation.step:.0f}, {validation.minutes:.1f}" if validation else "not reached"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("starts", type=Path, help="folder of models of another scan, one for each name")
    parser.add_argument("--planes", type=Path, default=ROOT / "data/planes", help="of the ingest stage")
    parser.add_argument("--reference", type=Path, default=ROOT / "reference/reference.json")
    parser.add_argument("--models", nargs="+", help="of params.yaml; all by default")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=500, help="steps between validations")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="learning rates with a start, over usual ones"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    options = parser.parse_args()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    effort = {"steps": options.steps, "minutes": None, "validation_every": options.every}
    config = TrainConfig.from_mapping(params["train"], "train").model_copy(update=effort)
    planes, reference = Planes.load(options.planes), Reference.load(options.reference)
    models = {
        name: ModelConfig.from_mapping(params["models"][name], f"models.{name}")
        for name in options.models or params["models"]
    }
    runs = []
    for name, model in models.items():
        for start in (None, options.starts / name):
            game = at_rate(model, options.rate) if start else model
            runs.append(trained(planes, reference, name, game, config, start))
            print(courses(runs[-1:]), flush=True)
    command = f"python -m benchmarks.warm_start {options.starts.name} --models {' '.join(models)}"
    command += f" --steps {options.steps} --every {options.every} --rate {options.rate}"
    text = f"""# Trainings from nothing and from a model of another material

`{command}` at commit {git_commit() or "unknown"},
scan {planes.info.name}, {config.validation_count} samples a validation, one seed.

{table(runs)}

The whole course: pass rate over that of calibration windows, error of the two-point correlation, and of the
texture in standard deviations (`microgan.gan.checkpoint_selection`).

{courses(runs)}
"""
    with atomic(options.out / "warm_start.md") as draft:
        draft.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
