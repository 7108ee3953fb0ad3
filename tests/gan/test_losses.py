import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from microgan.gan.losses import critic_loss, generator_loss, gradient_penalty, score_penalty

REAL, FAKE = torch.tensor([[2.0, 0.5]]), torch.tensor([[-1.0, 0.25]])


def _by_autograd(critic: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def gradient_at(images: Tensor) -> Tensor:
        images = images.requires_grad_(True)
        scores = critic(images).float().mean(1)
        return torch.autograd.grad(scores.sum(), images, create_graph=True)[0]

    return gradient_at


def _log_sigmoid(score: float) -> float:
    return -math.log(1 + math.exp(-score))


def test_losses_equal_their_formulas() -> None:
    log_real = (_log_sigmoid(2.0) + _log_sigmoid(0.5)) / 2
    log_not_fake = (_log_sigmoid(1.0) + _log_sigmoid(-0.25)) / 2
    log_fake = (_log_sigmoid(-1.0) + _log_sigmoid(0.25)) / 2
    for kind in ("non_saturating", "minimax"):
        assert critic_loss(kind, REAL, FAKE).item() == pytest.approx(-log_real - log_not_fake)
    assert generator_loss("non_saturating", FAKE).item() == pytest.approx(-log_fake)
    assert generator_loss("minimax", FAKE).item() == pytest.approx(log_not_fake)
    squares = ((2 - 1) ** 2 + (0.5 - 1) ** 2) / 4 + ((-1) ** 2 + 0.25**2) / 4
    assert critic_loss("least_squares", REAL, FAKE).item() == pytest.approx(squares)
    assert generator_loss("least_squares", FAKE).item() == pytest.approx((4 + 0.75**2) / 4)
    assert critic_loss("wasserstein", REAL, FAKE).item() == pytest.approx(-0.375 - 1.25)
    assert generator_loss("wasserstein", FAKE).item() == pytest.approx(0.375)


def test_score_penalty_is_the_mean_square_of_either_side() -> None:
    assert score_penalty(REAL, FAKE).item() == pytest.approx((4 + 0.25) / 2 + (1 + 0.25**2) / 2)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax", "least_squares", "wasserstein"])
def test_generator_gains_when_its_images_score_higher(kind: str) -> None:
    fake = torch.zeros(2, 1, requires_grad=True)
    generator_loss(kind, fake).backward()
    assert (fake.grad < 0).all()


def test_penalty_of_a_linear_critic_is_exact() -> None:
    """A linear critic w.x has gradient w everywhere: the penalty is (|w| - 1)^2, whatever the images."""
    weight = torch.randn(1, 6, 6)

    def critic(images: Tensor) -> Tensor:
        return (images * weight).sum((1, 2, 3)).unsqueeze(1)

    real, fake, mix = torch.randn(5, 1, 6, 6), torch.randn(5, 1, 6, 6), torch.rand(5, 1, 1, 1)
    penalty = gradient_penalty(_by_autograd(critic), real, fake, mix)
    torch.testing.assert_close(penalty, (weight.norm() - 1).square())


def test_penalty_is_taken_sample_by_sample_on_the_interpolates() -> None:
    """For a critic |x|^2 / 2 the gradient is x itself, so each sample's norm is that of its interpolate."""
    real, fake = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 1.0)
    mix = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    penalty = gradient_penalty(_by_autograd(lambda images: images.square().flatten(1) / 2), real, fake, mix)
    assert penalty.item() == pytest.approx(((1 - 1) ** 2 + (3 - 1) ** 2) / 2)


def test_penalty_holds_under_autocast_and_reaches_the_weights() -> None:
    layer = torch.nn.Conv2d(1, 1, 8, bias=False)
    real, fake, mix = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8), torch.rand(4, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        penalty = gradient_penalty(_by_autograd(lambda images: layer(images).flatten(1)), real, fake, mix)
    assert penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx((layer.weight.norm().item() - 1) ** 2, rel=0.02)
    penalty.backward()
    assert layer.weight.grad.abs().sum() > 0
