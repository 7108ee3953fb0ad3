"""The training loops as tutorials write them: what `microgan.gan.training.train` is measured against.

The same as ours: the networks and their sizes, the losses, Adam's rates and moments, the batch, the critic's
steps for one of the generator, the number of threads. Plain is all else:

- float32 throughout, contiguous (B, C, H, W) tensors, `torch.optim.Adam` as it comes (not fused);
- the whole scan in memory as float32; each window cropped, mirrored and turned by Python, one by one, then
  `np.stack`;
- critic: real and fake images in separate passes with a backward pass each, and for WGAN-GP a third for the
  penalty, by `torch.autograd.grad`;
- the generator of WGAN-GP draws a new latent and runs again for its own step; that of DCGAN uses the critic's
  last fake images, as in the tutorial, and leaves gradients in the critic that nobody needs;
- every loss is read with ``.item()`` in every step;
- no moving average of the generator: ours does more here.

References
----------
DCGAN: the tutorial of PyTorch, https://pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html.
WGAN-GP: I. Gulrajani's loop as ported in https://github.com/caogang/wgan-gp (gan_mnist.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.networks import Critic, Generator, NetworkConfig, latent_cells
from microgan.gan.runtime import choose_device
from microgan.scan.planes import Planes

OnStep = Callable[[], None]
Draw = Callable[[], Tensor]


def train_plainly(
    planes: Planes, window_px: int, config: TrainConfig, model: ModelConfig, on_step: OnStep
) -> tuple[Generator, Critic]:
    """Train for ``config.steps`` generator steps; ``on_step`` is called after each.

    Raises
    ------
    ValueError
        If the loss is neither non_saturating nor wasserstein: no tutorial stands for another.
    """
    steps = {"non_saturating": _dcgan_step, "wasserstein": _wgan_gp_step}
    if model.loss not in steps:
        raise ValueError(f"loss {model.loss}: must be one of {', '.join(steps)} to have a plain loop")
    device = choose_device(config.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    torch.manual_seed(config.seed)
    without_noise = NetworkConfig(latent_channels=config.latent_channels, base_channels=config.base_channels)
    generator = Generator(without_noise).to(device)
    critic = Critic(config, batch_norm=model.loss != "wasserstein").to(device)
    critic.layers[0] = nn.Conv2d(1, config.base_channels, 4, 2, 1).to(device)  # torch's own
    crops = Crops(planes, window_px, config.seed)
    cells = latent_cells(window_px)

    def real() -> Tensor:
        return torch.from_numpy(crops.batch(config.batch)).to(device)

    def latent() -> Tensor:
        return torch.randn(config.batch, config.latent_channels, cells, cells, device=device)

    game = _Game(
        generator,
        critic,
        torch.optim.Adam(generator.parameters(), lr=model.generator_learning_rate, betas=model.betas),
        torch.optim.Adam(critic.parameters(), lr=model.critic_learning_rate, betas=model.betas),
        real,
        latent,
        model,
    )
    history = []
    for _ in range(config.steps):
        history.append(steps[model.loss](game))
        on_step()
    torch.set_num_threads(threads)
    return generator, critic


class Crops:
    """Random windows of the training regions, one at a time, from a float32 copy of the scan in memory."""

    def __init__(self, planes: Planes, size_px: int, seed: int) -> None:
        self.grey, self.mask = np.array(planes.grey, np.float32), planes.mask
        boxes = planes.info.regions["train"]
        self.boxes = [box for box in boxes if min(box[2] - box[1], box[4] - box[3]) >= size_px]
        self.size_px, self.rng = size_px, np.random.default_rng(seed)

    def batch(self, count: int) -> np.ndarray:
        """Return ``count`` windows (count, 1, S, S), float32, in [-1, 1]."""
        return np.stack([self.window()[None] for _ in range(count)])

    def window(self) -> np.ndarray:
        """Return a window (S, S) inside the field of view, mirrored and turned at random."""
        while True:
            plane, row0, row1, col0, col1 = self.boxes[self.rng.integers(len(self.boxes))]
            row = self.rng.integers(row0, row1 - self.size_px + 1)
            col = self.rng.integers(col0, col1 - self.size_px + 1)
            at = (plane, slice(row, row + self.size_px), slice(col, col + self.size_px))
            if self.mask[at].all():
                break
        window = self.grey[at]
        if self.rng.random() < 0.5:
            window = np.fliplr(window)
        if self.rng.random() < 0.5:
            window = np.flipud(window)
        return np.rot90(window, int(self.rng.integers(2)))


class _Game(NamedTuple):
    generator: Generator
    critic: Critic
    generator_optimiser: torch.optim.Adam
    critic_optimiser: torch.optim.Adam
    real: Draw
    latent: Draw
    model: ModelConfig


def _dcgan_step(game: _Game) -> tuple[float, float]:
    for _ in range(game.model.critic_steps):
        game.critic.zero_grad()
        scores = game.critic(game.real())
        error_real = binary_cross_entropy_with_logits(scores, torch.ones_like(scores))
        error_real.backward()
        fake = game.generator(game.latent())
        scores = game.critic(fake.detach())
        error_fake = binary_cross_entropy_with_logits(scores, torch.zeros_like(scores))
        error_fake.backward()
        game.critic_optimiser.step()

    game.generator.zero_grad()
    scores = game.critic(fake)
    error = binary_cross_entropy_with_logits(scores, torch.ones_like(scores))
    error.backward()
    game.generator_optimiser.step()
    return error_real.item() + error_fake.item(), error.item()


def _wgan_gp_step(game: _Game) -> tuple[float, float]:
    game.critic.requires_grad_(True)
    for _ in range(game.model.critic_steps):
        game.critic.zero_grad()
        images = game.real()
        score_real = game.critic(images).mean()
        (-score_real).backward()
        with torch.no_grad():
            fake = game.generator(game.latent())
        score_fake = game.critic(fake).mean()
        score_fake.backward()
        penalty = game.model.gradient_penalty * _penalty(game.critic, images, fake)
        penalty.backward()
        game.critic_optimiser.step()

    game.critic.requires_grad_(False)
    game.generator.zero_grad()
    error = -game.critic(game.generator(game.latent())).mean()
    error.backward()
    game.generator_optimiser.step()
    return score_fake.item() - score_real.item() + penalty.item(), error.item()


def _penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    mix = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    scores = critic(between).mean(1)  # (B,): the score of a sample is the mean over its patches
    (gradient,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
    return ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
