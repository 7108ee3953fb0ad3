"""One step of a training: the critic's, the generator's, and the moving average of the generator."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from microgan.gan.checkpoint import load_start
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.distributed import average_gradients, mean, shard
from microgan.gan.losses import critic_loss, generator_loss, gradient_penalty, score_penalty
from microgan.gan.networks import Critic, Generator, latent_cells
from microgan.gan.physical_loss import Material, physical_loss
from microgan.gan.runtime import autocast, compiled
from microgan.scan.windows import Windows

STATISTICS_BATCHES = 32  # on which the batch norms of the averaged generator are measured

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Networks:
    """The networks of a training and their optimisers.

    ``averaged`` is the moving average of ``generator``, and ``best`` the one that checkpoint selection keeps.
    ``generate``, ``criticise`` and ``input_gradient`` call generator and critic, compiled where that pays.
    """

    generator: Generator
    critic: Critic
    averaged: Generator
    best: Generator
    generator_optimiser: torch.optim.Optimizer
    critic_optimiser: torch.optim.Optimizer
    generate: Callable[[Tensor], Tensor]
    criticise: Callable[[Tensor], Tensor]
    input_gradient: Callable[[Tensor], Tensor]
    device: torch.device

    @classmethod
    def of(
        cls, config: TrainConfig, model: ModelConfig, device: torch.device, noise: Tensor | None = None
    ) -> "Networks":
        """Return fresh networks, or those of ``config.init_from``, with the filter of the scanner's noise."""
        layout: dict[str, Any] = {"device": device, "memory_format": torch.channels_last}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator = Generator(config).to(**layout)
            critic = Critic(config, batch_norm=model.loss != "wasserstein").to(**layout)
        if config.init_from:
            load_start(config.init_from, generator, critic)
        if generator.noise is not None and noise is not None:
            generator.noise.filter.copy_(noise)
        averaged, best = (copy.deepcopy(generator).requires_grad_(False) for _ in range(2))
        generate, criticise, input_gradient = compiled(
            config, device, generator, critic, critic.input_gradient
        )
        return cls(
            generator,
            critic,
            averaged,
            best,
            _adam(generator, model.generator_learning_rate, model),
            _adam(critic, model.critic_learning_rate, model),
            generate,
            criticise,
            input_gradient,
            device,
        )

    def set_learning_rates(self, model: ModelConfig, factor: float) -> None:
        """Give both optimisers ``factor`` times their learning rates of the parameters."""
        for optimiser, rate in (
            (self.generator_optimiser, model.generator_learning_rate),
            (self.critic_optimiser, model.critic_learning_rate),
        ):
            optimiser.param_groups[0]["lr"] = rate * factor


class Batch(NamedTuple):
    """Random numbers of one critic step, of this process: (B, 1, S, S), (B, Z, h, w), (B, 1, 1, 1)."""

    real: Tensor
    latent: Tensor
    mix: Tensor | None  # where the gradient penalty is taken, from fake (0) to real (1)


def draw_batch(
    windows: Windows, rng: np.random.Generator, config: TrainConfig, model: ModelConfig, device: torch.device
) -> Batch:
    """Draw the whole batch, as all processes do, and return the part of this process."""
    real = _own_part(windows.draw(rng, config.batch, config.augmentation), device)
    latent = _own_part(_latent(rng, config, windows.size_px), device)
    mix = None
    if model.gradient_penalty:
        mix = _own_part(torch.from_numpy(rng.random((config.batch, 1, 1, 1), dtype=np.float32)), device)
    return Batch(real, latent, mix)


def critic_step(
    networks: Networks, batch: Batch, config: TrainConfig, model: ModelConfig, with_graph: bool
) -> tuple[Tensor, Losses]:
    """Move the critic's weights so that it separates real windows from generated images.

    Returns
    -------
    fake
        The generated images (B, 1, S, S). With ``with_graph`` they serve the generator's step too.
    losses
    """
    networks.critic.requires_grad_(True)
    with autocast(config, networks.device), torch.set_grad_enabled(with_graph):
        fake = networks.generate(batch.latent)
    with autocast(config, networks.device):
        scores = networks.criticise(batch.real), networks.criticise(fake.detach())
        penalty = torch.zeros((), device=networks.device)
        if batch.mix is not None:
            penalty = gradient_penalty(networks.input_gradient, batch.real, fake, batch.mix)
    real_scores, fake_scores = (score.float() for score in scores)
    loss = critic_loss(model.loss, real_scores, fake_scores)
    on_scores = score_penalty(real_scores, fake_scores)
    penalties = model.gradient_penalty * penalty + model.score_penalty * on_scores
    networks.critic_optimiser.zero_grad(set_to_none=True)
    (loss + penalties).backward()
    average_gradients(networks.critic.parameters())
    networks.critic_optimiser.step()
    return fake, {"critic_loss": loss, "gradient_penalty": penalty}


def generator_step(
    networks: Networks,
    fake: Tensor,
    config: TrainConfig,
    model: ModelConfig,
    material: Material | None,
    weight: float,
) -> Losses:
    """Move the generator's weights so that the critic takes its images ``fake`` for real ones.

    With a ``material`` and a positive ``weight`` the physical loss takes part; see `backward_with_physics`.
    """
    networks.critic.requires_grad_(False)
    with autocast(config, networks.device):
        scores = networks.criticise(fake)
    loss = generator_loss(model.loss, scores.float())
    networks.generator_optimiser.zero_grad(set_to_none=True)
    losses = {"physical_loss": torch.zeros((), device=networks.device)} if material else {}
    if material and weight:
        losses["physical_loss"] = backward_with_physics(loss, fake, weight, material, config)
    else:
        loss.backward()
    average_gradients(networks.generator.parameters())
    networks.generator_optimiser.step()
    return losses | {"generator_loss": loss, "image_spread": fake.detach().float().std()}


def backward_with_physics(
    loss: Tensor, fake: Tensor, weight: float, material: Material, config: TrainConfig
) -> Tensor:
    """Back-propagate the adversarial ``loss`` and the physical one; return the latter.

    The gradients are joined at the images. There the physical one, of every k-th image of the batch, is
    scaled to ``weight`` times the size (root mean square) of the adversarial one. So one weight suits all
    models and scans, and there is one backward pass through the generator.
    """
    (gradient,) = torch.autograd.grad(loss, fake)
    every = max(1, config.batch // config.physics.images)
    penalised = fake[::every].detach().float().requires_grad_(True)
    physical = physical_loss(penalised, material, config.physics).total.mean()
    (physical_gradient,) = torch.autograd.grad(physical, penalised)
    square, physical_square = (mean(g.float().square().mean()) for g in (gradient, physical_gradient))
    scale = weight * (square / physical_square.clamp_min(1e-30)).sqrt()
    gradient = gradient.clone()
    gradient[::every] += (scale * physical_gradient).to(gradient.dtype)
    fake.backward(gradient)
    return physical.detach()


@torch.no_grad()
def update_average(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    """Update the moving average of weights; `measure_batch_norms` does it for the batch norms' statistics."""
    for own, value in zip(averaged.parameters(), module.parameters(), strict=True):
        own.lerp_(value, 1 - decay)


def measure_batch_norms(
    generator: Generator, config: TrainConfig, size_px: int, device: torch.device
) -> None:
    """Give the batch norms of averaged weights the statistics of their own features.

    Moving averages of the statistics are those of other features: without this, the two-point correlation of
    samples is up to twice as far from that of the training windows (Izmailov et al., arXiv:1803.05407,
    section 3.1).
    """
    generators = (np.random.default_rng([config.seed, number, 1]) for number in range(STATISTICS_BATCHES))
    update_bn((_own_part(_latent(rng, config, size_px), device) for rng in generators), generator)


def _adam(module: nn.Module, learning_rate: float, model: ModelConfig) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=model.betas, fused=True)


def _latent(rng: np.random.Generator, config: TrainConfig, size_px: int) -> Tensor:
    cells = latent_cells(size_px)
    shape = (config.batch, config.numbers_a_cell, cells, cells)
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def _own_part(batch: Tensor, device: torch.device) -> Tensor:
    """Return this process's part of a batch, on its device; to a GPU from pinned memory, without waiting."""
    own = shard(batch)
    if device.type == "cuda":
        own = own.pin_memory()
    return own.to(device, memory_format=torch.channels_last, non_blocking=device.type == "cuda")
