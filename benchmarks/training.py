"""Time a training step against the tutorials' loop: `python -m benchmarks.training [--quick] [--profile]`.

Ours is `microgan.gan.training.train` itself, timed from outside through its callback ``on_log`` in every step
(which makes it read its losses in every step; by default it reads one in ten), without grids, states,
validation or the physical loss. The other is `benchmarks.plain_training`; its docstring says what is plain.
Models, batch, precision and threads are those of params.yaml.

Each block of steps runs in a process of its own, so that its peak memory is its own, and blocks of the two
alternate, so that a busy machine slows both. Images are real windows in generator steps: a batch counts once,
however many batches the critic sees. Arithmetic is that of convolutions, as executed, by the formulas of
`torch.utils.flop_counter`; the peak is the best of several products of square matrices, measured between the
blocks. Writes ``benchmarks/results/training.md``.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
import yaml
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.plain_training import OnStep, train_plainly
from benchmarks.step_profile import profile_table
from microgan.core.config import Config
from microgan.core.files import atomic
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.runtime import choose_device, choose_precision
from microgan.gan.training import train
from microgan.scan.config import ScanConfig, SplitConfig
from microgan.scan.ingest import ingest
from microgan.scan.planes import Planes
from microgan.scan.simulate import SimulateConfig, simulate_scan
from microgan.scan.windows import Windows
from stages.project import git_commit

ROOT = Path(__file__).parents[1]
BASE_CHANNELS = (32, 64)
PRODUCTS = (1024, 2048, 4096)  # sides of the square matrices of which the peak is the best
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
COUNTED_BATCH = 2
NEVER = 10**9


# One block of steps --------------------------------------------------------------------------------------


class Job(Config):
    """One block: who trains what, on which planes, and how many steps are not timed."""

    contender: Literal["microgan", "plain"]
    planes: Path
    window_px: int
    warm_up: int
    train: TrainConfig
    model: ModelConfig


class Measured(Config):
    """What a block gives: median duration of a step, peak memory, number of trained parameters."""

    step_seconds: float
    peak_bytes: int
    parameters: int


def by_microgan(job: Job, on_step: OnStep) -> int:
    """Train with the library; return how many parameters the two networks have."""
    windows = Windows(Planes.load(job.planes), "train", job.window_px)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.safetensors"
        train(windows, job.train, job.model, state, on_log=lambda row: on_step())
        weights = load_file(state)
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # of batch norm: not trained
    return sum(
        value.numel()
        for name, value in weights.items()
        if name.startswith(("generator/", "critic/")) and not name.endswith(statistics)
    )


def by_plain_loop(job: Job, on_step: OnStep) -> int:
    """Train with the tutorials' loop; return how many parameters the two networks have."""
    networks = train_plainly(Planes.load(job.planes), job.window_px, job.train, job.model, on_step)
    return sum(weight.numel() for network in networks for weight in network.parameters())


CONTENDERS: dict[str, Callable[[Job, OnStep], int]] = {"microgan": by_microgan, "plain": by_plain_loop}


def measure(job: Job) -> Measured:
    """Run a block in this process, whose peak memory it reports."""
    device = choose_device(job.train.device)
    clock: list[float] = []
    peak_bytes = 0

    def on_step() -> None:
        nonlocal peak_bytes
        _synchronise(device)
        clock.append(time.perf_counter())
        peak_bytes = _peak_bytes(device)  # before the last step's sample and state

    parameters = CONTENDERS[job.contender](job, on_step)
    ends = clock[job.warm_up - 1 :]
    seconds = [end - start for start, end in pairwise(ends)]
    return Measured(step_seconds=median(seconds), peak_bytes=peak_bytes, parameters=parameters)


def measure_apart(job: Job) -> Measured:
    """Run a block in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training", "--one", job.model_dump_json()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job.contender}: the process failed\n{done.stderr}")
    return Measured.model_validate_json(done.stdout.splitlines()[-1])


def step_flops(job: Job) -> int:
    """Count the floating-point operations of one step; a multiplication and an addition are two."""
    counts: list[int] = []
    small = {
        "steps": 1,
        "batch": COUNTED_BATCH,
    }  # the operations of convolutions are proportional to the batch
    one_step = job.model_copy(update={"train": job.train.model_copy(update=small)})
    with _FlopCounter() as counter:
        CONTENDERS[job.contender](one_step, lambda: counts.append(counter.flops))
    return counts[0] * job.train.batch // COUNTED_BATCH


class _FlopCounter(TorchDispatchMode):
    """Sums up torch's formulas; its own `FlopCounterMode` follows modules, which forbids autograd.grad."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


def product_rate(dtype: torch.dtype, device: torch.device, sides: Sequence[int]) -> float:
    """Return the best rate of `torch.mm`, operations a second."""
    best = 0.0
    for side in sides:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        for _ in range(4):  # the first one warms up
            _synchronise(device)
            start = time.perf_counter()
            torch.mm(left, right)
            _synchronise(device)
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts what the parent held when it started this process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# All blocks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """The two contenders on one model and width, side by side."""

    model: str
    base_channels: int
    batch: int
    microgan: list[Measured]  # one for each round
    plain: list[Measured]
    microgan_flops: int
    plain_flops: int

    @property
    def images_per_second(self) -> tuple[float, float]:
        """Ours and plain."""
        ours, plain = (median(block.step_seconds for block in side) for side in (self.microgan, self.plain))
        return self.batch / ours, self.batch / plain

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours is, in each round."""
        pairs = zip(self.microgan, self.plain, strict=True)
        return [plain.step_seconds / ours.step_seconds for ours, plain in pairs]

    @property
    def rate(self) -> float:
        """Operations a second of ours."""
        return self.microgan_flops * self.images_per_second[0] / self.batch


def compare(
    job: Job, model: str, rounds: int, run: Callable[[Job], Measured], between: Callable[[], None]
) -> Row:
    """Measure both contenders in alternating blocks; who begins alternates, too."""
    jobs = {name: job.model_copy(update={"contender": name}) for name in CONTENDERS}
    blocks: dict[str, list[Measured]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name in list(jobs)[:: -1 if number % 2 else 1]:
            blocks[name].append(run(jobs[name]))
        between()
    sizes = {block.parameters for side in blocks.values() for block in side}
    if len(sizes) > 1:
        raise RuntimeError(f"{model}: networks of {sizes} parameters, must be of the same size")
    flops = {name: step_flops(job) for name, job in jobs.items()}
    return Row(
        model,
        job.train.base_channels,
        job.train.batch,
        blocks["microgan"],
        blocks["plain"],
        flops["microgan"],
        flops["plain"],
    )


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int = 3
    warm_up: int = 3
    timed: int = 12
    base_channels: tuple[int, ...] = BASE_CHANNELS
    products: tuple[int, ...] = PRODUCTS


QUICK = Effort(rounds=1, warm_up=2, timed=4, products=PRODUCTS[:2])


def jobs(planes: Path, effort: Effort, config: TrainConfig, window_px: int) -> dict[tuple[str, int], Job]:
    """Return a job for each model of params.yaml and width."""
    undisturbed = {"minutes": None, "log_every": 1, "preview_every": NEVER, "save_every": NEVER}
    undisturbed |= {"steps": effort.warm_up + effort.timed}
    return {
        (name, base): Job(
            contender="microgan",
            planes=planes.resolve(),
            window_px=window_px,
            warm_up=effort.warm_up,
            train=config.model_copy(update={**undisturbed, "base_channels": base}),
            model=ModelConfig.from_mapping(values, f"models.{name}"),
        )
        for name, values in _params()["models"].items()
        for base in effort.base_channels
    }


def run(
    planes: Path,
    effort: Effort,
    config: TrainConfig,
    window_px: int,
    measured: Callable[[Job], Measured] = measure_apart,
) -> tuple[list[Row], dict[str, float]]:
    """Return a row for each model and width, and the peak rates of matrix products."""
    device = choose_device(config.device)
    # Where bf16 is emulated, and so not trained in, its peak would take minutes to find.
    peaks = dict.fromkeys((choose_precision(config.precision, device), "fp32"), 0.0)

    def between() -> None:
        for name in peaks:
            peaks[name] = max(peaks[name], product_rate(DTYPES[name], device, effort.products))

    rows = []
    for (name, _), job in jobs(planes, effort, config, window_px).items():
        rows.append(compare(job, name, effort.rounds, measured, between))
        print(table(rows[-1:], peaks).splitlines()[-1], file=sys.stderr, flush=True)
    return rows, peaks


def _params() -> dict:
    return dict(yaml.safe_load((ROOT / "params.yaml").read_text()))


# What comes out ------------------------------------------------------------------------------------------

HEADER = (
    "model",
    "base channels",
    "microgan, images/s",
    "plain, images/s",
    "times as fast (least to most)",
    "microgan, GFLOP/step",
    "plain, GFLOP/step",
    "microgan, GFLOP/s",
    "of the bf16 peak",
    "of the fp32 peak",
    "microgan, peak MiB",
    "plain, peak MiB",
)


def table(rows: Sequence[Row], peaks: dict[str, float]) -> str:
    """Format the rows in Markdown."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for row in rows:
        ours, plain = row.images_per_second
        memory = [max(block.peak_bytes for block in side) / 2**20 for side in (row.microgan, row.plain)]
        cells = [
            row.model,
            str(row.base_channels),
            f"{ours:.1f}",
            f"{plain:.1f}",
            f"{ours / plain:.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f})",
            f"{row.microgan_flops / 1e9:.3g}",
            f"{row.plain_flops / 1e9:.3g}",
            f"{row.rate / 1e9:.3g}",
            *(f"{100 * row.rate / peaks[name]:.3g} %" if name in peaks else "-" for name in DTYPES),
            *(f"{mebibytes:.0f}" for mebibytes in memory),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def heading(config: TrainConfig, window_px: int, effort: Effort, peaks: dict[str, float]) -> str:
    """Say what was measured, on what, with which command."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    products = " and ".join(f"{peak / 1e9:.0f} GFLOP/s in {name}" for name, peak in peaks.items())
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    command = " ".join(["python -m benchmarks.training", *sys.argv[1:]])
    return f"""# A training step against the tutorials' loop

`{command}` at commit {git_commit() or "unknown"}.

- {where}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}. Its torch.mm
  reaches {products}.
- Windows of {window_px} x {window_px} px, batch {config.batch}, ours in {precision}, plain in fp32;
  median of {effort.rounds} alternating blocks, of the median of {effort.timed} steps in each.
- Peak memory is that of the whole process, Python and torch with it; on CUDA that of the tensors.

"""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def simulated_planes(folder: Path, window_px: int) -> Path:
    """Write a small simulated scan of three planes; return the folder of its planes."""
    simulate_scan(SimulateConfig(planes=3, size_px=max(256, 4 * window_px), angles=200), folder / "raw")
    split = SplitConfig(calibration=[1], held_out=[2])
    scan = ScanConfig(path="scan.tif", radius_px=(4, 8), split=split)
    ingest("simulated", folder / "raw", scan, window_px, folder / "planes")
    return folder / "planes"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of few steps")
    parser.add_argument("--profile", action="store_true", help="where the time of our step goes (CPU), too")
    parser.add_argument(
        "--planes", type=Path, help="folder of the ingest stage; by default a small simulation"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the table")
    parser.add_argument("--one", metavar="JOB", help="run one block, JSON; for the benchmark's own use")
    options = parser.parse_args()
    if options.one:
        print(measure(Job.model_validate_json(options.one)).model_dump_json())
        return
    params = _params()
    config, window_px = TrainConfig.from_mapping(params["train"], "train"), params["window_px"]
    config = config.model_copy(update={"scanner_noise": 0.0})  # which no tutorial's networks have
    effort = QUICK if options.quick else Effort()
    torch.set_num_threads(config.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        planes = options.planes or simulated_planes(Path(folder), window_px)
        rows, peaks = run(planes, effort, config, window_px)
        text = heading(config, window_px, effort, peaks) + table(rows, peaks) + "\n"
        if options.profile:
            text += "\n" + profiles(planes, effort, config, window_px) + "\n"
    print(text)
    with atomic(options.out / "training.md") as draft:
        draft.write_text(text)


def profiles(planes: Path, effort: Effort, config: TrainConfig, window_px: int) -> str:
    """Where the time of our step goes, for each model at the first width."""
    on_cpu = config.model_copy(update={"device": "cpu"})
    parts = ["## Where the time of a step goes (torch.profiler, CPU)"]
    for (name, base), job in jobs(planes, effort, on_cpu, window_px).items():
        if base == effort.base_channels[0]:
            windows = Windows(Planes.load(job.planes), "train", job.window_px)
            fractions = profile_table(windows, job.train, job.model, job.warm_up)
            parts.append(f"{name}, {base} channels\n\n{fractions}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
