"""Power at the strides of a network."""

import numpy as np
import pytest

from microgan.statistics.grid_power import PERIODS_PX, grid_power


def _smooth_noise(count: int = 50, side: int = 64) -> np.ndarray:
    white = np.random.default_rng(0).standard_normal((count, side, side))
    return white + np.roll(white, 1, 1) + np.roll(white, 1, 2) + np.roll(white, (1, 1), (1, 2))


@pytest.mark.parametrize("period", PERIODS_PX)
@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_a_pattern_raises_its_own_period_alone(period: int, axes: tuple[int, ...]) -> None:
    images = _smooth_noise()
    place = np.indices(images.shape)
    pattern = np.prod([np.cos(2 * np.pi * place[axis] / period + 0.4) for axis in axes], axis=0)
    before, after = grid_power(images), grid_power(images + 0.5 * pattern)
    ratio = {each: after[each] / before[each] for each in PERIODS_PX}
    assert ratio[period] > 1.5
    assert all(0.8 < ratio[each] < 1.2 for each in PERIODS_PX if each != period)


def test_contrast_brightness_and_what_does_not_fit_a_window_change_nothing() -> None:
    images = _smooth_noise()
    assert grid_power(3 * images + 5) == pytest.approx(grid_power(images))
    waves = np.sin(np.indices((1, 64, 64))[1] * 2 * np.pi / 27.3)
    assert max(grid_power(waves).values()) < 1e-3
    assert grid_power(np.full((2, 16, 16), 0.5)) == pytest.approx(dict.fromkeys(PERIODS_PX, 0.0))


def test_sides_must_be_multiples_of_the_longest_period() -> None:
    with pytest.raises(ValueError, match="must be multiples of 8"):
        grid_power(np.zeros((1, 60, 64)))
