"""The adversarial training loop, with exact resume.

The steps themselves are in `microgan.gan.steps`, what changes from step to step in `microgan.gan.schedule`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
from torch import Tensor
from tqdm import tqdm

from microgan.core.atomic import must_be_writable
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.notes import warn
from microgan.core.signals import signals_noted
from microgan.gan.checkpoint import State, load_state, save_state, state_bytes
from microgan.gan.checkpoint_selection import selected
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.distributed import mean, of_first, process_group, rank
from microgan.gan.networks import Critic, Generator
from microgan.gan.physical_loss import Material
from microgan.gan.runtime import choose_device, choose_precision, numerics
from microgan.gan.sampling import sample
from microgan.gan.schedule import ema_decay, is_over, learning_rate_factor, physical_weight
from microgan.gan.steps import (
    Losses,
    Networks,
    critic_step,
    draw_batch,
    generator_step,
    measure_batch_norms,
    update_average,
)
from microgan.scan.windows import Windows

COLLAPSED_SPREAD = 1e-3  # standard deviation of grey values, of a range of 2, below which images are blank


@dataclass(frozen=True)
class Trained:
    """The result: the averaged generator that is kept, the last one, and how they came about."""

    generator: Generator
    last: Generator
    critic: Critic
    history: list[dict[str, float]]  # one row a log: step, seconds, critic_loss, generator_loss, ...
    validations: list[dict[str, float]]  # one row a validation: step, and what `validate` returned
    steps: int
    seconds: float
    stopped_by_clock: bool  # before its last step: another machine would have come further, or less far

    @property
    def kept(self) -> dict[str, float]:
        """The validation of ``generator``; empty if there was none, then it is the last one."""
        return selected(self.validations)


@dataclass(frozen=True)
class _Outputs:
    """What a training reports and writes; all of it by the first process."""

    networks: Networks
    state: State
    config: TrainConfig
    domain: Domain  # of a sample
    state_path: Path
    on_log: Callable[[dict[str, float]], None]
    on_preview: Callable[[int, np.ndarray], None]
    validate: Callable[[Tensor], dict[str, float]] | None

    def log(self, losses: Losses) -> None:
        """Append a row to the history, means over all processes; stop if the training has failed."""
        row = {name: mean(value).item() for name, value in losses.items()}
        _refuse_failure(row, self.state, self.state_path)
        self.state.history.append({"step": self.state.step, "seconds": self.state.seconds, **row})
        if rank() == 0:
            self.on_log(self.state.history[-1])

    def preview(self) -> None:
        """Report a few samples of the averaged generator."""
        if rank() == 0:
            self.on_preview(self.state.step, self._samples(self.config.preview_count)[:, 0].numpy())

    def select(self) -> None:
        """Validate samples of the averaged generator, and keep it if checkpoint selection says so."""
        if rank() == 0 and self.validate:
            figures = self.validate(self._samples(self.config.validation_count))
            self.state.validations.append({"step": self.state.step, **figures})
            if selected(self.state.validations) is self.state.validations[-1]:
                self.networks.best.load_state_dict(self.networks.averaged.state_dict())

    def save(self) -> None:
        """Save all that a resume needs."""
        if rank() == 0:
            save_state(self.state_path, self.state)

    def _samples(self, count: int) -> Tensor:
        return sample(self.networks.averaged, count, self.domain, self.config.seed, progress=False)


def train(
    windows: Windows,
    config: TrainConfig,
    model: ModelConfig,
    state_path: Path,
    on_log: Callable[[dict[str, float]], None] = lambda row: None,
    on_preview: Callable[[int, np.ndarray], None] = lambda step, images: None,
    validate: Callable[[Tensor], dict[str, float]] | None = None,
    material: Material | None = None,
    noise: Tensor | None = None,
) -> Trained:
    """Train a generator against a critic for ``model.steps_factor * config.steps`` steps.

    Where ``config.minutes`` is set, the training ends then at the latest.

    Several processes that `torchrun` started train together; see `microgan.gan.distributed`. The first one
    logs, validates and saves.

    Parameters
    ----------
    windows
        Source of real windows (B, 1, S, S) in [-1, 1].
    config, model
        Parameters.
    state_path
        File of the resume state. When it exists, training goes on from there, with the same bits as if it had
        never stopped: random numbers come from (seed, step), so they need not be kept. When it is
        damaged, the training starts over, with a warning.
    on_log
        Called with each row of the history, also with those of before a resume.
    on_preview
        Called with the step and the same few samples (n, S, S) in [-1, 1] of the averaged generator.
    validate
        Maps samples (n, 1, S, S) of the averaged generator to figures, among them ``score`` and its standard
        error ``score_error``, 0 if left out. By them a generator is kept, as
        `microgan.gan.checkpoint_selection.selected` says; without validation, the last one.
    material
        What the physical loss needs of the material; without it there is no physical loss.
    noise
        Filter of the scanner's noise, of `microgan.gan.noise_filter.noise_filter`, where ``config`` has a
        share of it; without it there is none.

    Raises
    ------
    UserError
        If losses are no longer finite or the images are blank; the last good state stays in ``state_path``.
    KeyboardInterrupt
        After Ctrl-C, SIGTERM or SIGHUP, once the step is finished and the state is saved.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    config = config.model_copy(update={"steps": model.steps(config), "precision": precision})
    with process_group(device), numerics(config, device), signals_noted() as received:
        networks = Networks.of(config, model, device, noise)
        state = _state_of(networks)
        _resume(state_path, state)
        if rank() == 0:  # rather now than after hours
            must_be_writable(state_path, room_bytes=state_bytes(state))
        for row in state.history if rank() == 0 else []:
            on_log(row)
        domain = Domain((windows.size_px, windows.size_px))
        outputs = _Outputs(networks, state, config, domain, state_path, on_log, on_preview, validate)
        _run(windows, networks, state, config, model, material, outputs, received)
    return _result(networks, state, config)


def _run(
    windows: Windows,
    networks: Networks,
    state: State,
    config: TrainConfig,
    model: ModelConfig,
    material: Material | None,
    outputs: _Outputs,
    received: Callable[[], int],
) -> None:
    """Train from the step of ``state`` to the end, or until it is interrupted."""
    bar, started = _progress_bar(state, config), monotonic() - state.seconds
    while not is_over(state, config):
        # Random numbers of this step, for all processes, and learning rates
        rng = np.random.default_rng([config.seed, state.step])
        networks.set_learning_rates(model, learning_rate_factor(state.step, config))

        # Critic: separate real windows from generated images. The last of these also serve the generator
        for number in range(model.critic_steps):
            batch = draw_batch(windows, rng, config, model, networks.device)
            is_last = number == model.critic_steps - 1
            fake, losses = critic_step(networks, batch, config, model, with_graph=is_last)

        # Generator: make images that the critic takes for real ones
        weight = physical_weight(state.step, config.physics)
        losses |= generator_step(networks, fake, config, model, material, weight)
        update_average(networks.averaged, networks.generator, ema_decay(state.step, config))

        # Count the step; the first process's clock and signals decide for all
        state.step += 1
        state.seconds = of_first(monotonic() - started)
        stopping = bool(of_first(received()))
        ended = is_over(state, config)
        bar.update()

        # Log, preview, validate, save: at their own intervals and after the last step
        if ended or stopping or state.step % config.log_every == 0:
            outputs.log(losses)
            _show_progress(bar, state, config)
        previews = ended or state.step % config.preview_every == 0
        validates = outputs.validate and (ended or state.step % config.validation_every == 0)
        if previews or validates:
            measure_batch_norms(networks.averaged, config, windows.size_px, networks.device)
        if previews:
            outputs.preview()
        if validates:
            outputs.select()
        if ended or stopping or state.step % config.save_every == 0:
            outputs.save()
        if stopping:
            raise KeyboardInterrupt
    bar.close()
    if of_first(received()):  # while the last samples were validated; the state is saved
        raise KeyboardInterrupt


def _state_of(networks: Networks) -> State:
    names = ("generator_optimiser", "critic_optimiser")
    return State(
        modules={
            "generator": networks.generator,
            "critic": networks.critic,
            "average": networks.averaged,
            "best": networks.best,
        },
        optimisers={name: getattr(networks, name) for name in names},
    )


def _resume(path: Path, state: State) -> None:
    """Go on from a saved state, if there is one; from a damaged one nothing is taken."""
    if not path.exists():
        return
    try:
        load_state(path, state)
    except UserError as error:
        if rank() == 0:
            warn(f"{error}; the training starts over")


def _result(networks: Networks, state: State, config: TrainConfig) -> Trained:
    kept = networks.best if state.validations else networks.averaged
    return Trained(
        kept.eval(),
        networks.averaged.eval(),
        networks.critic.eval(),
        state.history,
        state.validations,
        state.step,
        state.seconds,
        stopped_by_clock=state.step < config.steps,
    )


def _refuse_failure(row: dict[str, float], state: State, state_path: Path) -> None:
    kept = f"last good state is kept in {state_path}" if state_path.exists() else "no state was saved yet"
    for name, value in row.items():
        if not math.isfinite(value):
            raise UserError(f"training, step {state.step}: {name}", value, f"must be finite; {kept}")
    if row["image_spread"] < COLLAPSED_SPREAD:
        rule = f"generated images are blank, must be at least {COLLAPSED_SPREAD}; {kept}"
        raise UserError(f"training, step {state.step}: image_spread", row["image_spread"], rule)


def _progress_bar(state: State, config: TrainConfig) -> tqdm:
    hidden = None if rank() == 0 else True  # None: hidden where there is no terminal
    return tqdm(total=config.steps, initial=state.step, desc="train", unit="step", disable=hidden)


def _show_progress(bar: tqdm, state: State, config: TrainConfig) -> None:
    figures = {"images/s": f"{config.batch * state.step / state.seconds:.0f}"}
    figures |= {name: f"{state.history[-1][name]:.3g}" for name in ("critic_loss", "generator_loss")}
    latest = state.validations[-1] if state.validations else {}
    shown = {"score": "score", "pass rate": "calibration_pass_rate_ratio"}
    figures |= {name: f"{latest[key]:.3f}" for name, key in shown.items() if key in latest}
    bar.set_postfix(figures)
