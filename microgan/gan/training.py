"""The adversarial training loop, with exact resume."""

import copy
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.gan.checkpoint import State, load_start, load_state, save_state
from microgan.gan.distributed import average_gradients, mean, of_first, process_group, rank, shard, world_size
from microgan.gan.losses import Adversarial, critic_loss, generator_loss, gradient_penalty, score_penalty
from microgan.gan.networks import Critic, Generator, NetworkConfig, latent_cells
from microgan.gan.physical_loss import Material, PhysicsConfig, physical_loss, weight_at
from microgan.gan.sampling import sample
from microgan.scan.windows import Augmentation, Windows

STATISTICS_BATCHES = 32  # on which the batch norms of the averaged generator are measured
COLLAPSED_SPREAD = 1e-3  # standard deviation of grey values, of a range of 2, below which images are blank


class TrainConfig(NetworkConfig):
    """What all models share: sizes of the networks, length of the run, numerics, log."""

    steps: int = Field(20_000, ge=1)
    minutes: float = Field(10.0, gt=0)
    batch: int = Field(8, ge=2)
    augmentation: Augmentation = "mirrors"
    ema_decay: float = Field(0.998, ge=0, lt=1)
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    threads: int | None = Field(None, ge=1)
    log_every: int = Field(50, ge=1)
    preview_every: int = Field(1000, ge=1)
    preview_count: int = Field(16, ge=1)
    validation_every: int = Field(1000, ge=1)
    validation_count: int = Field(256, ge=1)
    init_from: Path | None = None
    decay_fraction: float = Field(0.5, ge=0, le=1)
    physics: PhysicsConfig = PhysicsConfig()
    save_every: int = Field(500, ge=1)


class ModelConfig(Config):
    """What makes one model differ from another: its game, its optimisers, and how long it needs."""

    loss: Adversarial
    critic_steps: int = Field(1, ge=1)
    gradient_penalty: float = Field(0.0, ge=0)
    score_penalty: float = Field(0.0, ge=0)
    generator_learning_rate: float = Field(4e-4, gt=0)
    critic_learning_rate: float = Field(4e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    time_factor: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must be at least 0 and below 1")
        if (self.loss == "wasserstein") != (self.gradient_penalty > 0):
            raise ValueError("gradient_penalty must be positive with loss wasserstein, and 0 with any other")
        return self


@dataclass(frozen=True)
class Trained:
    """The result: the averaged generator that is kept, the last one, and how they came about."""

    generator: Generator
    last: Generator
    critic: Critic
    history: list[dict[str, float]]  # one row a log: step, seconds, critic_loss, generator_loss, ...
    checks: list[dict[str, float]]  # one row a check: step, score, and what `check` says beside it
    steps: int
    seconds: float

    @property
    def kept(self) -> dict[str, float]:
        """The check for which ``generator`` was kept; empty if there was none, then it is the last one."""
        return _kept(self.checks)


def train(
    windows: Windows,
    config: TrainConfig,
    model: ModelConfig,
    state_path: Path,
    on_log: Callable[[dict[str, float]], None] = lambda row: None,
    on_preview: Callable[[int, np.ndarray], None] = lambda step, images: None,
    check: Callable[[Tensor], dict[str, float]] | None = None,
    material: Material | None = None,
) -> Trained:
    """Train a generator against a critic until its steps are done or its time is over.

    That is after ``config.steps`` or ``model.time_factor * config.minutes``, whichever comes first.

    Several processes that `torchrun` started train together; see `microgan.gan.distributed`. The first one logs,
    checks and saves.

    Parameters
    ----------
    windows
        Source of real windows (B, 1, S, S) in [-1, 1].
    config, model
        Parameters.
    state_path
        File of the resume state. When it exists, training goes on from there, with the same bits as if it had
        never stopped: random numbers come from (seed, step), so they need not be kept.
    on_log
        Called with each row of the history, also with those of before a resume.
    on_preview
        Called with the step and the same few samples (n, S, S) in [-1, 1] of the averaged generator.
    check
        Maps samples (n, 1, S, S) of the averaged generator to figures, among them ``score`` and, if chance
        has a part in it, its standard error ``score_error``. The latest generator is kept that no earlier
        one beats by more than that; without a check, the last one.
    material
        What the physical loss knows of the material; without it there is no physical loss.

    Raises
    ------
    UserError
        If losses are no longer finite or the images are blank; the last good state stays in ``state_path``.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once the step is finished and the state is saved.
    """
    device = choose_device(config.device)
    minutes = model.time_factor * config.minutes
    precision = choose_precision(config.precision, device)
    config = config.model_copy(update={"minutes": minutes, "precision": precision})
    with process_group(device), _numerics(config, device), _interruptible() as interrupted:
        first = rank() == 0
        # Networks, optimisers, and the moving average that is kept
        layout: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator = Generator(config).to(**layout)
            critic = Critic(config, batch_norm=model.loss != "wasserstein").to(**layout)
        if config.init_from:
            load_start(config.init_from, generator, critic)
        average, best = (copy.deepcopy(generator).requires_grad_(False) for _ in range(2))
        generator_optimiser = _adam(generator, model.generator_learning_rate, model)
        critic_optimiser = _adam(critic, model.critic_learning_rate, model)
        state = State(
            modules={"generator": generator, "critic": critic, "average": average, "best": best},
            optimisers={"generator_optimiser": generator_optimiser, "critic_optimiser": critic_optimiser},
        )
        if state_path.exists():
            load_state(state_path, state)
            for row in state.history if first else []:
                on_log(row)
        generate, criticise, input_gradient = _compiled(
            config, device, generator, critic, critic.input_gradient
        )

        bar = tqdm(
            total=config.steps, initial=state.step, desc="train", unit="step", disable=None if first else True
        )
        started = time.monotonic() - state.seconds
        while not _is_over(state, config):
            # Random numbers of this step: windows, latents, interpolation, for all processes
            rng = np.random.default_rng([config.seed, state.step])
            losses: dict[str, Tensor] = {}
            for optimiser, rate in (
                (generator_optimiser, model.generator_learning_rate),
                (critic_optimiser, model.critic_learning_rate),
            ):
                optimiser.param_groups[0]["lr"] = rate * _decay(state, config)

            # Critic: tell real windows from generated ones
            critic.requires_grad_(True)
            for critic_step in range(model.critic_steps):
                real = _own_fraction(windows.draw(rng, config.batch, config.augmentation), layout)
                latent = _own_fraction(_latent(rng, config, windows.size_px), layout)
                last = critic_step == model.critic_steps - 1
                with _autocast(config, device), torch.set_grad_enabled(last):
                    fake = generate(latent)  # the last one also serves the generator's step
                with _autocast(config, device):
                    real_scores, fake_scores = criticise(real), criticise(fake.detach())
                    penalty = torch.zeros((), device=device)
                    if model.gradient_penalty:
                        mix = torch.from_numpy(rng.random((config.batch, 1, 1, 1), dtype=np.float32))
                        mix = _own_fraction(mix, layout)
                        penalty = gradient_penalty(input_gradient, real, fake, mix)
                both = real_scores.float(), fake_scores.float()
                loss = critic_loss(model.loss, *both)
                penalties = model.gradient_penalty * penalty + model.score_penalty * score_penalty(*both)
                critic_optimiser.zero_grad(set_to_none=True)
                (loss + penalties).backward()
                average_gradients(critic.parameters())
                critic_optimiser.step()
            losses |= {"critic_loss": loss, "gradient_penalty": penalty}

            # Generator: make images that the critic takes for real ones
            critic.requires_grad_(False)
            with _autocast(config, device):
                scores = criticise(fake)
            loss = generator_loss(model.loss, scores.float())
            generator_optimiser.zero_grad(set_to_none=True)
            weight = weight_at(state.step, config.physics)
            if material:
                losses["physical_loss"] = torch.zeros((), device=device)
            if material and weight:
                losses["physical_loss"] = _backward_with_physics(loss, fake, weight, material, config)
            else:
                loss.backward()
            average_gradients(generator.parameters())
            generator_optimiser.step()
            losses |= {"generator_loss": loss, "image_spread": fake.detach().float().std()}
            _update_average(average, generator, min(config.ema_decay, (1 + state.step) / (10 + state.step)))

            # Log, look, check, save
            state.step += 1
            state.seconds = of_first(time.monotonic() - started)
            stopped = bool(of_first(interrupted()))
            ended = _is_over(state, config)
            bar.update()
            if ended or stopped or state.step % config.log_every == 0:
                row = {name: mean(value).item() for name, value in losses.items()}
                _check(row, state, state_path)
                state.history.append({"step": state.step, "seconds": state.seconds, **row})
                if first:
                    on_log(state.history[-1])
                bar.set_postfix(_figures(state, config))
                bar.total = _planned_steps(state, config)
            look = ended or state.step % config.preview_every == 0
            judge = check and (ended or state.step % config.validation_every == 0)
            if look or judge:
                _measure_statistics(average, config, windows.size_px, layout)
            if first and look:
                on_preview(state.step, _samples(average, config.preview_count, windows, config)[:, 0].numpy())
            if first and check and judge:
                found = check(_samples(average, config.validation_count, windows, config))
                state.checks.append({"step": state.step, **found})
                if _kept(state.checks) is state.checks[-1]:
                    best.load_state_dict(average.state_dict())
            if first and (ended or stopped or state.step % config.save_every == 0):
                save_state(state_path, state)
            if stopped:
                raise KeyboardInterrupt
        bar.close()
    kept = best if state.checks else average
    return Trained(
        kept.eval(), average.eval(), critic.eval(), state.history, state.checks, state.step, state.seconds
    )


def choose_device(wanted: str) -> torch.device:
    """Return the device of that name; ``auto`` takes CUDA, then MPS, then the CPU."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[wanted]:
        raise UserError("train.device", wanted, "this machine has no such device")
    # torchrun gives each process of a machine a GPU of its own.
    number = int(os.environ.get("LOCAL_RANK", "0")) if wanted == "cuda" else None
    return torch.device(wanted) if number is None else torch.device(wanted, number)


def choose_compile(wanted: bool | str, device: torch.device) -> bool:
    """Return whether to compile the networks; ``auto`` does on a GPU for which there is Triton.

    Elsewhere a compiler for C++ would have to be there. Several processes never do, as their batch norms talk
    to each other in every layer.
    """
    if wanted == "auto":
        wanted = device.type == "cuda" and find_spec("triton") is not None
    return bool(wanted) and world_size() == 1


def choose_precision(wanted: str, device: torch.device) -> str:
    """Return the precision of that name; ``auto`` takes bf16 where the device multiplies it in hardware.

    Where it does not, PyTorch emulates it: on a processor without AVX-512 a step takes 60 times as long.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bf16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16")) else "fp32"


def _adam(module: nn.Module, learning_rate: float, model: ModelConfig) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=model.betas, fused=True)


def _is_over(state: State, config: TrainConfig) -> bool:
    return state.step >= config.steps or state.seconds >= 60 * config.minutes


def _planned_steps(state: State, config: TrainConfig) -> int:
    """How many steps there will be: as many as are asked for, or as the time allows at the pace so far."""
    if not state.step:
        return config.steps
    return min(config.steps, round(state.step * 60 * config.minutes / state.seconds))


def _kept(checks: list[dict[str, float]]) -> dict[str, float]:
    """Return the latest check that no earlier one beats by more than its standard error."""
    kept: dict[str, float] = {}
    highest = -math.inf
    for row in checks:
        if row["score"] + row.get("score_error", 0.0) > highest:
            kept = row
        highest = max(highest, row["score"])
    return kept


def _decay(state: State, config: TrainConfig) -> float:
    """Fraction of the learning rates that is left: all at first, then as much as there are steps left."""
    planned = _planned_steps(state, config)
    left = max(planned - state.step, 0)
    return min(1.0, left / (config.decay_fraction * planned)) if config.decay_fraction else 1.0


def _backward_with_physics(
    loss: Tensor, fake: Tensor, weight: float, material: Material, config: TrainConfig
) -> Tensor:
    """Back-propagate the adversarial ``loss`` and the physical one; return the latter.

    The gradients are joined at the images, where the physical one, of some images, is scaled to ``weight``
    times the size of the adversarial one. So one weight suits all models and scans, and the generator is
    passed through once.
    """
    (gradient,) = torch.autograd.grad(loss, fake)
    every = max(1, config.batch // config.physics.images)
    some = fake[::every].detach().float().requires_grad_(True)
    physical = physical_loss(some, material, config.physics).total.mean()
    (physical_gradient,) = torch.autograd.grad(physical, some)
    square, physical_square = (mean(g.float().square().mean()) for g in (gradient, physical_gradient))
    scale = weight * (square / physical_square.clamp_min(1e-30)).sqrt()
    gradient = gradient.clone()
    gradient[::every] += (scale * physical_gradient).to(gradient.dtype)
    fake.backward(gradient)
    return physical.detach()


def _samples(generator: Generator, count: int, windows: Windows, config: TrainConfig) -> Tensor:
    size_px = (windows.size_px, windows.size_px)
    return sample(generator, count, size_px, config.seed, progress=False)


def _figures(state: State, config: TrainConfig) -> dict[str, str]:
    """What the progress bar shows."""
    figures = {"images/s": f"{config.batch * state.step / state.seconds:.0f}"}
    if state.checks:
        return figures | {"score": f"{state.checks[-1]['score']:.3f}"}
    return figures | {name: f"{state.history[-1][name]:.3g}" for name in ("critic_loss", "generator_loss")}


def _latent(rng: np.random.Generator, config: TrainConfig, size_px: int) -> Tensor:
    cells = latent_cells(size_px)
    shape = (config.batch, config.latent_channels, cells, cells)
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def _own_fraction(batch: Tensor, layout: dict[str, Any]) -> Tensor:
    """Return this process's fraction, on its device; to a GPU from pinned memory, so that nobody waits."""
    own = shard(batch)
    if layout["device"].type != "cuda":
        return own.to(**layout)
    return own.pin_memory().to(**layout, non_blocking=True)


def _autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")


def _compiled(config: TrainConfig, device: torch.device, *functions: Callable[..., Tensor]) -> list[Any]:
    if not choose_compile(config.compile, device):
        return list(functions)
    return [torch.compile(function) for function in functions]


@torch.no_grad()
def _update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Exponential moving average of weights; `_measure_statistics` sees to the batch norms."""
    for own, value in zip(average.parameters(), module.parameters(), strict=True):
        own.lerp_(value, 1 - decay)


def _measure_statistics(
    average: nn.Module, config: TrainConfig, size_px: int, layout: dict[str, Any]
) -> None:
    """Give the batch norms of averaged weights the statistics of their own features.

    The average of the statistics that went by is that of other features: without this, the two-point
    correlation of samples is up to twice as far from that of the training windows (Izmailov et al.,
    arXiv:1803.05407, section 3.1).
    """
    generators = (np.random.default_rng([config.seed, number, 1]) for number in range(STATISTICS_BATCHES))
    update_bn((_own_fraction(_latent(rng, config, size_px), layout) for rng in generators), average)


def _check(row: dict[str, float], state: State, state_path: Path) -> None:
    kept = f"last good state is kept in {state_path}" if state_path.exists() else "no state was saved yet"
    for name, value in row.items():
        if not math.isfinite(value):
            raise UserError(f"training, step {state.step}: {name}", value, f"must be finite; {kept}")
    if row["image_spread"] < COLLAPSED_SPREAD:
        rule = f"generated images are blank, must be at least {COLLAPSED_SPREAD}; {kept}"
        raise UserError(f"training, step {state.step}: image_spread", row["image_spread"], rule)


@contextmanager
def _numerics(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Same seed, same bits on a CPU: deterministic kernels, fixed threads; put back afterwards."""
    threads, was_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    deterministic: Any = torch.utils.deterministic  # of which the type checker knows no attribute
    fills = deterministic.fill_uninitialized_memory
    torch.set_num_threads(config.threads or threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    deterministic.fill_uninitialized_memory = False  # an eighth of a step, for what nobody reads
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(was_deterministic)
        deterministic.fill_uninitialized_memory = fills
        torch.set_flush_denormal(False)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a flag, so that a step is never cut in the middle."""
    received: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, lambda got, _: received.append(got)) for number in signals]
    except ValueError:  # not in the main thread, where Python takes no signals
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
