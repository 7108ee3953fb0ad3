import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from microgan.core.errors import UserError
from microgan.gan.networks import NetworkConfig, latent_cells, wrap
from microgan.gan.scanner_noise import GRID_PX, REACH_PX, ScannerNoise, power_spectrum
from tests.helpers import DiscWindows, lively

NOISY = NetworkConfig(latent_channels=4, base_channels=4, scanner_noise=True)


def scanned_windows(noise: float, count: int = 300) -> Tensor:
    """Soft discs with white noise."""
    discs = 0.5 * DiscWindows().draw(np.random.default_rng(0), count)
    return discs + noise * torch.randn(discs.shape, generator=torch.Generator().manual_seed(0))


def white(count: int, side: int) -> Tensor:
    """Random numbers of one image (count, 64, h, w) that reach `REACH_PX` beyond its sides."""
    pixels = torch.randn(count, 1, *2 * (side + 2 * REACH_PX,), generator=torch.Generator().manual_seed(1))
    return pixel_unshuffle(pixels, 8)


def test_the_mean_of_the_spectrum_is_the_variance_and_a_wave_is_a_peak() -> None:
    noise = torch.randn(500, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    spectrum = power_spectrum(0.3 * noise)
    assert spectrum.mean() == pytest.approx(0.09, rel=0.02)
    assert spectrum.std() < 0.05 * spectrum.mean()
    wave = torch.sin(2 * torch.pi * torch.arange(64) / 8)[:, None].expand(1, 1, 64, 64)
    row, col = divmod(int(power_spectrum(wave).argmax()), GRID_PX)
    assert (row, col) in ((4, 0), (28, 0))  # a period of 8 px along rows


def test_noise_begins_as_strong_as_the_noise_of_a_scan_at_most() -> None:
    noise = ScannerNoise()
    noise.begin(scanned_windows(0.05))
    power = noise.power().detach()
    assert (power <= noise.spectrum).all()
    high = torch.fft.fftfreq(GRID_PX).abs() > 0.4
    assert power[high][:, high].mean() == pytest.approx(0.05**2, rel=0.3)
    assert power[0, 0] == 0  # the brightness of a whole image is no noise


def test_noise_has_the_power_that_it_says_and_discs_may_be_noisier() -> None:
    noise = ScannerNoise()
    noise.begin(scanned_windows(0.05))
    flat = torch.zeros(200, 1, 64, 64)
    drawn = noise(flat, white(200, 64)).detach()
    torch.testing.assert_close(drawn.std(), noise.filter().detach().norm(), rtol=0.03, atol=0)
    with torch.no_grad():
        noise.contrast.fill_(0.05)
    discs, matrix = (noise(flat + grey, white(200, 64)).detach() - grey for grey in (0.5, -0.5))
    assert discs.std() / matrix.std() == pytest.approx(np.exp(0.5), rel=1e-3)
    assert noise.figures()["bright_over_dark"] == pytest.approx(np.exp(1.0))


def test_how_much_is_noise_is_learnt_from_the_images() -> None:
    """As an example, from their variance; in training, by what the critic finds."""
    noise = ScannerNoise()
    noise.begin(scanned_windows(0.05))
    optimiser = torch.optim.Adam(noise.parameters(), 3e-3)
    for _ in range(150):
        loss = (noise(torch.zeros(8, 1, 32, 32), white(8, 32)).std() - 0.15).square()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert noise.filter().norm().item() == pytest.approx(0.15, rel=0.1)


def test_clean_images_are_those_of_the_same_specimen() -> None:
    generator = lively(NOISY)
    assert generator.noise is not None
    generator.noise.begin(scanned_windows(0.1))
    latent = torch.randn(1, NOISY.numbers_a_cell, *2 * (latent_cells(64),))
    with torch.no_grad():
        clean, scanned = generator.without_noise()(latent), generator(latent)
    other = latent.clone()
    other[:, NOISY.latent_channels :] = torch.randn_like(other[:, NOISY.latent_channels :])
    torch.testing.assert_close(generator.without_noise()(other).detach(), clean, rtol=0, atol=0)
    assert not torch.equal(generator(other), scanned)
    inside, level = clean.abs() < 0.5, generator.noise.filter().norm().item()
    assert (scanned - clean)[inside].std().item() == pytest.approx(level, rel=0.2)
    with pytest.raises(UserError, match="--clean: no noise apart: needs a model"):
        lively(NetworkConfig(latent_channels=4, base_channels=4)).without_noise()


def test_noise_is_periodic_too_and_no_place_is_special() -> None:
    generator = lively(NOISY)
    assert generator.noise is not None
    generator.noise.begin(scanned_windows(0.1))
    latent = torch.randn(1, NOISY.numbers_a_cell, 6, 5)
    image = generator(wrap(latent))
    assert image.shape[-2:] == (48, 40)
    rolled = generator(wrap(latent.roll((2, 1), (-2, -1))))
    torch.testing.assert_close(rolled, image.roll((16, 8), (-2, -1)))
    grid = torch.randn(1, NOISY.numbers_a_cell, 19, 19)
    torch.testing.assert_close(generator(grid[..., 1:, 1:]), generator(grid)[..., 8:, 8:])


def test_windows_too_small_for_the_spectrum_are_refused() -> None:
    with pytest.raises(UserError, match=r"window_px: 24: must be at least 32 with train.scanner_noise"):
        ScannerNoise().begin(torch.zeros(2, 1, 24, 24))
