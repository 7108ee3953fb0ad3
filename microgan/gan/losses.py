"""Adversarial losses and the gradient penalty: pure functions of scores.

``real`` and ``fake`` are critic scores of shape (B, P) before any sigmoid. Every function returns a scalar to
be minimised.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

Adversarial = Literal["non_saturating", "minimax", "least_squares", "wasserstein"]


def critic_loss(kind: Adversarial, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the critic, which separates real from fake."""
    if kind == "least_squares":  # Mao et al., arXiv:1611.04076, eq. 9 with a = 0, b = c = 1
        return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()
    if kind == "wasserstein":  # Arjovsky et al., arXiv:1701.07875, eq. 3
        return fake.mean() - real.mean()
    # Goodfellow et al., arXiv:1406.2661, eq. 1, with D = sigmoid(score): -log D = softplus(-score)
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(kind: Adversarial, fake: Tensor) -> Tensor:
    """Loss of the generator, whose images should score as real."""
    if kind == "least_squares":
        return 0.5 * (fake - 1).square().mean()
    if kind == "wasserstein":
        return -fake.mean()
    if kind == "minimax":  # log(1 - D): the saturating game of eq. 1
        return -softplus(fake).mean()
    return softplus(-fake).mean()  # -log D: the non-saturating one, section 3


def score_penalty(real: Tensor, fake: Tensor) -> Tensor:
    """Mean square of the critic's scores, of real and of fake images, without its weight.

    Where a critic's scores are far from 0, their gradient teaches the generator little. This keeps them near
    0 (Tseng et al., arXiv:2104.03310, whose anchors are 0 here).
    """
    return real.square().mean() + fake.square().mean()


def gradient_penalty(
    gradient_at: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """Mean of (norm of the critic's gradient - 1)^2 at points between real and fake images.

    Gulrajani et al., arXiv:1704.00028, eq. 3, without its weight lambda.

    Parameters
    ----------
    gradient_at
        Maps images (B, 1, H, W) to the gradients there of the critic's scores, of the same shape: for ours
        `microgan.gan.networks.Critic.input_gradient`.
    real, fake
        Images of shape (B, 1, H, W).
    mix
        Uniform random numbers of shape (B, 1, 1, 1): where between fake (0) and real (1).

    Notes
    -----
    The norm is taken per sample over all pixels, in float32 also under autocast: a bf16 sum of thousands of
    squares would lose the digits that the penalty depends on.
    """
    between = torch.lerp(fake.detach().float(), real.float(), mix)
    norm = gradient_at(between).float().flatten(1).norm(dim=1)  # (B,)
    return (norm - 1).square().mean()
