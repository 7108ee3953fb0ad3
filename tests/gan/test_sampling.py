from itertools import pairwise

import pytest
import torch

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.gan.networks import Generator, NetworkConfig, latent_cells, wrap
from microgan.gan.sampling import decode, latent_rows, latents, sample
from tests.helpers import lively


@pytest.fixture
def generator() -> Generator:
    return lively(NetworkConfig(latent_channels=4, base_channels=8))


def test_a_sample_depends_on_its_seed_and_index_alone(generator: Generator) -> None:
    many, few = (sample(generator, count, Domain((40, 24)), seed=3) for count in (5, 2))
    assert many.shape == (5, 1, 40, 24)
    assert torch.equal(many[:2], few)
    assert not torch.allclose(many, sample(generator, 5, Domain((40, 24)), seed=4))
    assert all(not torch.allclose(image, next_image) for image, next_image in pairwise(many))


def test_latents_of_a_seed_stay_what_they_are() -> None:
    """Or every sample that was ever published with its seed would be another one."""
    latent = latents(7, 2, 1, (2, 3, 2))[0]
    expected = [[-1.3922683, 2.3293355], [0.4750196, 0.1664518], [0.0265906, 0.7881874]]
    torch.testing.assert_close(latent[0], torch.tensor(expected))
    assert torch.equal(latents(7, 0, 4, (3, 5, 5))[2:], latents(7, 2, 2, (3, 5, 5)))


def test_rows_are_drawn_without_the_others_and_continued_by_wider_grids() -> None:
    grid = latents(1, 3, 1, (3, 6, 5))[0]
    assert torch.equal(latent_rows(1, 3, [4, 2], 5, 3), grid[:, [4, 2]])
    assert torch.equal(latents(1, 3, 1, (3, 8, 9))[0, :, :6, :5], grid)


def test_latents_are_normal_and_unlike_for_all_samples_rows_and_seeds() -> None:
    grids = torch.cat([latents(seed, 0, 8, (4, 16, 16)) for seed in (0, 1, 2**32, 2**32 + 1)])
    assert grids.mean().abs() < 0.015 and (grids.std() - 1).abs() < 0.01  # four standard errors
    rows = grids.transpose(1, 2).flatten(2).flatten(0, 1)  # 512 of 64 numbers
    correlations = torch.corrcoef(rows) - torch.eye(len(rows))
    assert correlations.abs().max() < 0.8


@pytest.mark.parametrize("size_px", [(64, 48), (264, 8), (520, 272)])
def test_a_periodic_sample_is_the_image_of_the_wrapped_latent(
    generator: Generator, size_px: tuple[int, int]
) -> None:
    image = sample(generator, 1, Domain(size_px, periodic=True), seed=0)
    latent = latents(0, 0, 1, (4, size_px[0] // 8, size_px[1] // 8))
    torch.testing.assert_close(image, generator(wrap(latent)).detach())


@pytest.mark.parametrize("size_px", [(1, 1), (43, 61), (257, 255), (603, 301), (1100, 30)])
def test_tiles_leave_no_seam_whatever_the_size(generator: Generator, size_px: tuple[int, int]) -> None:
    rows, cols = size_px
    image = sample(generator, 1, Domain(size_px), seed=5)
    whole = generator(latents(5, 0, 1, (4, latent_cells(rows), latent_cells(cols)))).detach()
    torch.testing.assert_close(image, whole[..., :rows, :cols])


def test_a_larger_image_continues_the_smaller_one(generator: Generator) -> None:
    small, large = (sample(generator, 1, Domain(size_px), seed=2) for size_px in ((100, 60), (301, 270)))
    torch.testing.assert_close(small, large[..., :100, :60])


@pytest.mark.parametrize("cells", [(5, 7), (40, 34)])
def test_a_rolled_latent_is_a_rolled_image(generator: Generator, cells: tuple[int, int]) -> None:
    latent = latents(0, 0, 1, (4, *cells))
    image = decode(generator, latent, periodic=True)
    for shift in ((1, 0), (0, 1), (3, -2)):
        rolled = decode(generator, latent.roll(shift, (2, 3)), periodic=True)
        assert torch.equal(rolled, image.roll((8 * shift[0], 8 * shift[1]), (2, 3)))


def test_a_period_that_is_no_multiple_of_the_stride_is_refused(generator: Generator) -> None:
    with pytest.raises(UserError, match="size: 60: the side of a periodic image must be a multiple of 8 px"):
        sample(generator, 1, Domain((64, 60), periodic=True), seed=0)
