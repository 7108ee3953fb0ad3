"""Noise of the scanner: as measured inside discs, added outside of the network."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.gan.networks import Generator, NetworkConfig, latent_cells, wrap
from microgan.gan.noise_filter import GRID_PX, noise_filter, power_spectrum
from microgan.gan.scanner_noise import REACH_PX, ScannerNoise
from tests.helpers import lively

NOISY = NetworkConfig(latent_channels=4, base_channels=4, scanner_noise=0.5)
SD = 0.1


def generator_with(noise: float) -> Generator:
    generator = lively(NOISY)
    assert generator.noise is not None
    generator.noise.filter[REACH_PX, REACH_PX] = noise
    return generator


def scanned_discs(noise: Tensor) -> tuple[Tensor, list[Circles]]:
    """Bright discs of many levels on a dark matrix that is not flat, under ``noise`` (n, 64, 64)."""
    rng, axis = np.random.default_rng(0), torch.arange(64.0)
    images, circles = [], []
    for each in noise:
        table = [[16.0 + 30 * i, 16.0 + 30 * j, rng.uniform(8, 11)] for i in range(2) for j in range(2)]
        grey = -0.6 + 0.2 * torch.sin(axis / 9)[:, None].expand(64, 64)
        for row, col, radius in table:
            inside = torch.hypot(axis[:, None] - row, axis - col) < radius
            grey = torch.where(inside, rng.uniform(0.1, 0.6), grey)
        images.append(grey + each)
        circles.append(Circles.from_table(table))
    return torch.stack(images)[:, None], circles


def white(count: int, side: int = 64) -> Tensor:
    return torch.randn(count, side, side, generator=torch.Generator().manual_seed(0))


def smoothed(noise: Tensor) -> Tensor:
    """Noise with a correlation of 1/2 between neighbours along rows, 0 along columns."""
    return (noise + noise.roll(1, 2)) / 2**0.5


def test_the_mean_of_the_spectrum_is_the_variance_and_a_wave_is_a_peak() -> None:
    spectrum = power_spectrum(0.3 * white(500)[:, None])
    assert spectrum.mean() == pytest.approx(0.09, rel=0.02)
    assert spectrum.std() < 0.05 * spectrum.mean()
    wave = torch.sin(2 * torch.pi * torch.arange(64) / 8)[:, None].expand(1, 1, 64, 64)
    row, col = divmod(int(power_spectrum(wave).argmax()), GRID_PX)
    assert (row, col) in ((4, 0), (28, 0))  # a period of 8 px along rows


@pytest.mark.parametrize("correlated", [False, True])
def test_noise_inside_discs_is_found_whatever_the_discs_are(correlated: bool) -> None:
    noise = SD * (smoothed(white(40)) if correlated else white(40))
    found = noise_filter(*scanned_discs(noise), share=1.0)
    assert found.norm() == pytest.approx(SD, rel=0.1)
    neighbours = (found[:, 1:] * found[:, :-1]).sum() / found.square().sum()  # correlation along a row
    assert neighbours == pytest.approx(0.5 if correlated else 0.0, abs=0.12)


def test_a_share_is_of_the_power() -> None:
    whole, half = (noise_filter(*scanned_discs(SD * white(20)), share=share) for share in (1.0, 0.5))
    assert (half.norm() / whole.norm()).item() == pytest.approx(0.5**0.5, rel=0.03)


def test_discs_too_small_to_have_an_inside_are_refused() -> None:
    circles = [Circles.from_table([[20, 20, 2.5]])]
    with pytest.raises(UserError, match=r"scan: discs too small .* give train\.scanner_noise 0"):
        noise_filter(torch.zeros(1, 1, 64, 64), circles, share=0.5)
    with pytest.raises(UserError, match=r"window_px: 24: must be at least 32 with train\.scanner_noise"):
        noise_filter(torch.zeros(1, 1, 24, 24), circles, share=0.5)


def test_the_filter_colours_white_noise_and_images_stay_in_range() -> None:
    noise = ScannerNoise()
    noise.filter.copy_(noise_filter(*scanned_discs(SD * smoothed(white(40))), share=1.0))
    numbers = pixel_unshuffle(white(50, 64 + 2 * REACH_PX)[:, None], 8)
    drawn = noise(torch.zeros(50, 1, 64, 64), numbers)
    assert drawn.std() == pytest.approx(noise.filter.norm().item(), rel=0.03)
    pairs = (drawn[..., 1:] * drawn[..., :-1]).mean() / drawn.square().mean()
    assert pairs == pytest.approx(0.5, abs=0.12)
    assert noise(torch.ones(50, 1, 64, 64), numbers).max() == 1


def test_clean_images_are_those_of_the_same_specimen() -> None:
    generator = generator_with(0.1)
    latent = torch.randn(1, NOISY.numbers_a_cell, *2 * (latent_cells(64),))
    other = latent.clone()
    other[:, NOISY.latent_channels :] = torch.randn_like(other[:, NOISY.latent_channels :])
    with torch.no_grad():
        clean, scanned = generator.without_noise()(latent), generator(latent)
        torch.testing.assert_close(generator.without_noise()(other), clean, rtol=0, atol=0)
        assert not torch.equal(generator(other), scanned)
    inside = clean.abs() < 0.5
    assert (scanned - clean)[inside].std().item() == pytest.approx(0.1, rel=0.1)
    with pytest.raises(UserError, match="--clean: no noise apart: needs a model"):
        lively(NetworkConfig(latent_channels=4, base_channels=4)).without_noise()


def test_noise_is_periodic_too_and_no_place_is_special() -> None:
    generator = generator_with(0.1)
    latent = torch.randn(1, NOISY.numbers_a_cell, 6, 5)
    image = generator(wrap(latent))
    assert image.shape[-2:] == (48, 40)
    rolled = generator(wrap(latent.roll((2, 1), (-2, -1))))
    torch.testing.assert_close(rolled, image.roll((16, 8), (-2, -1)))
    grid = torch.randn(1, NOISY.numbers_a_cell, 19, 19)
    torch.testing.assert_close(generator(grid[..., 1:, 1:]), generator(grid)[..., 8:, 8:])
