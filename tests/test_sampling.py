import pytest
import torch

from microgan.networks import Generator, NetworkConfig, wrap
from microgan.sampling import latents, sample
from tests.helpers import lively


@pytest.fixture
def generator() -> Generator:
    return lively(NetworkConfig(latent_channels=4, base_channels=8))


def test_a_sample_depends_on_its_seed_and_index_alone(generator: Generator) -> None:
    together = sample(generator, 5, (40, 24), seed=3, batch=5)
    one_by_one = sample(generator, 5, (40, 24), seed=3, batch=2)
    assert together.shape == (5, 1, 40, 24)
    torch.testing.assert_close(together, one_by_one)
    assert not torch.allclose(together, sample(generator, 5, (40, 24), seed=4))
    assert not torch.allclose(together[0], together[1])


def test_latents_of_one_sample_do_not_move_with_the_batch() -> None:
    assert torch.equal(latents(7, 0, 4, (3, 5, 5))[2:], latents(7, 2, 2, (3, 5, 5)))


def test_a_periodic_sample_is_the_image_of_the_wrapped_latent(generator: Generator) -> None:
    image = sample(generator, 2, (64, 48), seed=0, periodic=True)
    torch.testing.assert_close(image, generator(wrap(latents(0, 0, 2, (4, 8, 6)))).detach())
