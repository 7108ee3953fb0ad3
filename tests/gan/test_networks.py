import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from microgan.core.errors import UserError
from microgan.gan.networks import Critic, Generator, NetworkConfig, latent_cells, wrap
from tests.helpers import lively

SMALL = NetworkConfig(latent_channels=4, base_channels=4)


def test_latent_of_18_cells_gives_64_pixels() -> None:
    assert latent_cells(64) == 18
    assert Generator(SMALL)(torch.randn(2, 4, 18, 18)).shape == (2, 1, 64, 64)


@pytest.mark.parametrize("length_px", [8, 63, 65, 100])
def test_any_length_is_covered_by_the_fewest_cells(length_px: int) -> None:
    cells = latent_cells(length_px)
    assert 8 * cells - 80 >= length_px > 8 * (cells - 1) - 80


def test_generator_is_translation_equivariant() -> None:
    """Shifting the latent by one cell shifts the image by 8 pixels: no position is special."""
    generator = lively(SMALL)
    latent = torch.randn(1, 4, 19, 19)
    whole = generator(latent)
    torch.testing.assert_close(generator(latent[..., 1:, 1:]), whole[..., 8:, 8:])


def test_wrapped_latent_gives_a_periodic_image() -> None:
    generator = lively(SMALL)
    latent = torch.randn(1, 4, 6, 5)
    image = generator(wrap(latent))
    assert image.shape[-2:] == (48, 40)
    rolled = generator(wrap(latent.roll((2, 1), (-2, -1))))
    torch.testing.assert_close(rolled, image.roll((16, 8), (-2, -1)))


def test_a_period_off_the_stride_is_refused() -> None:
    with pytest.raises(UserError, match=r"size: 60: .* multiple of 8 px"):
        latent_cells(60, periodic=True)


def test_only_the_critic_without_batch_norm_judges_each_sample_by_itself() -> None:
    images = torch.randn(3, 1, 64, 64)
    alone = Critic(SMALL, batch_norm=False)
    torch.testing.assert_close(alone(images)[:1], alone(images[:1]))
    together = Critic(SMALL, batch_norm=True)
    assert not torch.allclose(together(images)[:1], together(images[:1]))


def test_first_convolution_is_torch_s_own() -> None:
    layer = Critic(SMALL, batch_norm=False).layers[0]
    assert isinstance(layer, nn.Conv2d)
    images = torch.randn(2, 1, 12, 10)
    torch.testing.assert_close(layer(images), conv2d(images, layer.weight, layer.bias, 2, 1))


def test_input_gradient_is_that_of_autograd_and_so_is_its_own_gradient() -> None:
    critic = Critic(NetworkConfig(latent_channels=4, base_channels=8), batch_norm=False).double()
    images = torch.randn(3, 1, 64, 56, dtype=torch.double, requires_grad=True)
    (expected,) = torch.autograd.grad(critic(images).mean(1).sum(), images, create_graph=True)
    gradient = critic.input_gradient(images.detach())
    torch.testing.assert_close(gradient, expected)
    weights = [weight for name, weight in critic.named_parameters() if name.endswith("weight")]
    norms = [slope.flatten(1).norm(dim=1).square().sum() for slope in (expected, gradient)]
    for by_autograd, own in zip(*(torch.autograd.grad(norm, weights) for norm in norms), strict=True):
        torch.testing.assert_close(own, by_autograd)
