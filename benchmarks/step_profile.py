"""Where the time of a training step goes, by `torch.profiler`."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.training import train
from microgan.scan.symmetries import Augmentation
from microgan.scan.windows import Windows

# The first group of which a word is in the name of an operator, or of one that called it, takes its time.
GROUPS = {
    "window gathering": ("windows.draw",),
    "optimisers": ("Optimizer",),
    "convolutions, backward": ("ConvolutionBackward", "convolution_backward"),
    "convolutions, forward": ("aten::conv",),
    "batch norm": ("batch_norm", "BatchNorm"),
    "activations": ("relu", "Relu", "tanh", "Tanh", "threshold", "clamp_min"),
    "moving average": ("aten::lerp_",),
    "casts and copies": ("aten::to", "aten::copy_", "ToCopy", "aten::clone", "aten::contiguous"),
}
OTHERS = "other operators"
PYTHON = "between operators (Python)"
TOP = 10


class _NamedWindows:
    """Windows whose drawing shows in the profile under a name."""

    def __init__(self, windows: Windows) -> None:
        self._windows, self.size_px = windows, windows.size_px

    def draw(self, rng: np.random.Generator, count: int, augmentation: Augmentation = "none") -> Tensor:
        with record_function("windows.draw"):
            return self._windows.draw(rng, count, augmentation)


def profile_table(windows: Windows, config: TrainConfig, model: ModelConfig, warm_up: int) -> str:
    """Format fractions of the time by group, and the operators that take most, after ``warm_up`` steps."""
    fractions, operators = profile_step(windows, config, model, warm_up)
    lines = ["| part of the step | fraction |", "|---|---|"]
    lines += [f"| {name} | {100 * fraction:.1f} % |" for name, fraction in fractions.items()]
    lines += ["", "| operator (self time) | fraction |", "|---|---|"]
    lines += [f"| {name} | {100 * fraction:.1f} % |" for name, fraction in operators.items()]
    return "\n".join(lines)


def profile_step(
    windows: Windows, config: TrainConfig, model: ModelConfig, warm_up: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the fractions of the wall clock of all groups, which sum up to 1, and of the top operators."""
    profiler = profile(activities=[ProfilerActivity.CPU])
    clock: list[float] = []

    def on_log(row: dict[str, float]) -> None:
        if row["step"] == warm_up:
            profiler.start()
            clock.append(perf_counter())
        if row["step"] == config.steps:  # before the sample and the state that end the run
            clock.append(perf_counter())
            profiler.stop()

    with TemporaryDirectory() as folder:
        train(_NamedWindows(windows), config, model, Path(folder) / "state.safetensors", on_log)  # type: ignore[arg-type]
    wall_us = 1e6 * (clock[1] - clock[0])
    groups, operators = dict.fromkeys([*GROUPS, OTHERS], 0.0), defaultdict[str, float](float)
    for event in profiler.events() or []:
        groups[_group(event)] += event.self_cpu_time_total
        operators[event.name] += event.self_cpu_time_total
    groups[PYTHON] = wall_us - sum(groups.values())
    return _largest(groups, wall_us), dict(list(_largest(operators, wall_us).items())[:TOP])


def _largest(spent_us: Mapping[str, float], wall_us: float) -> dict[str, float]:
    """Return fractions of ``wall_us``, the largest first."""
    return {name: spent_us[name] / wall_us for name in sorted(spent_us, key=lambda name: -spent_us[name])}


def _group(event: FunctionEvent) -> str:
    names, caller = [event.name], event.cpu_parent
    while caller is not None:
        names.append(caller.name)
        caller = caller.cpu_parent
    for group, words in GROUPS.items():
        if any(word in name for word in words for name in names):
            return group
    return OTHERS
