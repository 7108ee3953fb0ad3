"""Does the physical loss help? `python -m benchmarks.physical_loss [--models dcgan] [--steps 2000]`.

Pairs of trainings with equal seeds, one with the physical loss of params.yaml and one without, are judged by
their samples before any filtering: by the filter with the ring detector, and by the same rules calibrated for
the watershed, a detector that works in another way and took part in no training. Both filters reject about
5 % of real calibration windows. The last generator is judged, without checkpoint selection.

A ratio is the fraction of rejected samples with the loss over that without it: the geometric mean over the
seeds, with the 95 % interval of Student's t for its logarithm. Each run is a line of
``physical_loss.csv``, which a second call reads and completes; ``physical_loss.md`` is what is printed.
"""

import argparse
import csv
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import yaml
from scipy import stats
from torch import Tensor

from microgan.core.config import Config
from microgan.core.domain import Domain
from microgan.core.files import atomic
from microgan.core.tables import write_csv
from microgan.gan.checkpoint_selection import two_point
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.sampling import sample
from microgan.gan.scan_training import material_of, noise_of
from microgan.gan.training import train
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.statistics.estimators import relative_distance
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.judging import judge, rejected_by
from microgan.validity.phase import phase_image
from microgan.validity.reference import Reference
from stages.project import git_commit

ROOT = Path(__file__).parents[1]
DETECTORS = ("ring", "watershed")
SAMPLE_SEED, REAL_SEED = 1000, 1001


class Run(Config):
    """One training and its samples: fractions of rejected samples, relative errors of their statistics."""

    model: str
    seed: int
    physics: bool
    steps: int
    seconds: float
    ring: float
    ring_overlap: float
    watershed: float
    watershed_overlap: float
    volume_fraction_error: float
    two_point_error: float


@dataclass(frozen=True)
class Filters:
    """A filter for each detector, and held-out windows (n, 1, S, S)."""

    references: dict[str, Reference]
    real: Tensor

    @classmethod
    def of(cls, planes: Planes, params: dict[str, Any], count: int) -> "Filters":
        """Calibrate both filters on the scan."""
        references = {}
        for name in DETECTORS:
            values = {**params["calibrate"], "bootstrap": 0}
            values["detector"] = {**values["detector"], "backend": name}
            config = CalibrationConfig.from_mapping(values, "calibrate")
            references[name] = calibrate(planes, params["window_px"], config)
        windows = Windows(planes, "held_out", params["window_px"])
        return cls(references, windows.draw(np.random.default_rng(REAL_SEED), count))

    def rejected(self, images: Tensor) -> dict[str, float]:
        """Return the fractions of images that each filter rejects, for any reason and for an overlap."""
        fractions = {}
        for name, reference in self.references.items():
            verdicts = judge(images, reference, progress=False)
            fractions[name] = mean(not verdict.valid for verdict in verdicts)
            fractions[f"{name}_overlap"] = rejected_by(verdicts)["overlap"] / len(images)
        return fractions

    def errors(self, images: Tensor) -> dict[str, float]:
        """Return relative errors of volume fraction and two-point correlation."""
        reference = self.references["ring"]
        own, real = (two_point(phase_image(group, reference)) for group in (images, self.real))
        return {
            "volume_fraction_error": float(own[0] / real[0] - 1),
            "two_point_error": relative_distance(own, real),
        }


def trained_and_judged(
    planes: Planes,
    name: str,
    seed: int,
    physics: bool,
    config: TrainConfig,
    model: ModelConfig,
    filters: Filters,
) -> Run:
    """Train once, and judge as many samples as there are real windows."""
    reference = filters.references["ring"]
    windows = Windows(planes, "train", reference.window_px)
    material = material_of(windows, reference, seed)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.safetensors"
        config = config.model_copy(update={"seed": seed})
        noise = noise_of(windows, reference, config)
        done = train(windows, config, model, state, material=material if physics else None, noise=noise)
    domain = Domain((reference.window_px, reference.window_px))
    images = sample(done.last, len(filters.real), domain, SAMPLE_SEED, progress=False)
    about = {"model": name, "seed": seed, "physics": physics, "steps": done.steps, "seconds": done.seconds}
    return Run.model_validate(about | filters.rejected(images) | filters.errors(images))


def ratio(runs: Sequence[Run], measure: str) -> tuple[float, float, float]:
    """Return with over without the loss, and its 95 % interval over the seeds."""
    pairs: dict[int, dict[bool, float]] = {}
    for run in runs:
        pairs.setdefault(run.seed, {})[run.physics] = getattr(run, measure)
    floor = 1e-3  # of a fraction, so that none found is not a ratio of 0
    logs = [
        math.log(max(pair[True], floor) / max(pair[False], floor))
        for pair in pairs.values()
        if len(pair) == 2
    ]
    middle = mean(logs)
    half = (
        stats.t.ppf(0.975, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    )
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def table(runs: Sequence[Run], filters: Filters) -> str:
    """Format the means over the seeds and the ratios in Markdown."""
    measures = ("ring", "ring_overlap", "watershed", "watershed_overlap")
    real = filters.rejected(filters.real)
    lines = ["| | " + " | ".join(f"rejected: {name.replace('_', ', ')}" for name in measures)]
    lines[0] += " | volume fraction error | two-point error | minutes |"
    lines.append("|---" * 8 + "|")
    lines.append(
        "| real held-out windows | " + " | ".join(f"{real[name]:.3f}" for name in measures) + " | | | |"
    )
    for model in dict.fromkeys(run.model for run in runs):
        own = [run for run in runs if run.model == model]
        for physics in (False, True):
            these = [run for run in own if run.physics == physics]
            cells = [f"{mean(getattr(run, name) for run in these):.3f}" for name in measures]
            cells += [f"{100 * mean(run.volume_fraction_error for run in these):+.2f} %"]
            cells += [f"{100 * mean(run.two_point_error for run in these):.2f} %"]
            cells += [f"{mean(run.seconds for run in these) / 60:.1f}"]
            label = f"{model}, {'with' if physics else 'without'} ({len(these)} seeds)"
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
        shown = [ratio(own, name) for name in measures]
        cells = [f"**{middle:.2f}** ({low:.2f} to {high:.2f})" for middle, low, high in shown]
        lines.append(f"| {model}, ratio | " + " | ".join(cells) + " | | | |")
    return "\n".join(lines)


def read_runs(path: Path) -> list[Run]:
    """Read what an earlier call has measured."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [Run.model_validate(row) for row in csv.DictReader(stream)]


def measured(
    planes: Planes,
    models: dict[str, ModelConfig],
    seeds: int,
    config: TrainConfig,
    filters: Filters,
    path: Path,
) -> list[Run]:
    """Train and judge all pairs that ``path`` does not hold yet; write each there at once."""
    runs = read_runs(path)
    for seed, (name, model), physics in product(range(seeds), models.items(), (False, True)):
        if (name, seed, physics) in [(run.model, run.seed, run.physics) for run in runs]:
            continue
        runs.append(trained_and_judged(planes, name, seed, physics, config, model, filters))
        write_csv(path, list(Run.model_fields), [list(run.model_dump().values()) for run in runs])
        print(runs[-1], flush=True)
    return runs


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planes", type=Path, default=ROOT / "data/planes", help="of the ingest stage")
    parser.add_argument("--models", nargs="+", help="of params.yaml; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    options = parser.parse_args()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    config = TrainConfig.from_mapping(params["train"], "train")
    config = config.model_copy(update={"steps": options.steps, "minutes": None})
    models = {
        name: ModelConfig.from_mapping(params["models"][name], f"models.{name}")
        for name in options.models or params["models"]
    }
    planes = Planes.load(options.planes)
    filters = Filters.of(planes, params, options.samples)
    runs = measured(planes, models, options.seeds, config, filters, options.out / "physical_loss.csv")
    command = f"python -m benchmarks.physical_loss --models {' '.join(models)}"
    command += f" --seeds {options.seeds} --steps {options.steps}"
    text = f"""# Trainings with and without the physical loss

`{command}` at commit {git_commit() or "unknown"}, scan {planes.info.name}, {options.samples} samples each.

{table(runs, filters)}
"""
    with atomic(options.out / "physical_loss.md") as draft:
        draft.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
