"""Statistics against shapes whose statistics are known."""

from dataclasses import dataclass

import numpy as np
import pytest

from microgan.descriptors import (
    Distribution,
    nearest_neighbour_distribution,
    radial_lags,
    radius_distribution,
    two_point_correlation,
    two_point_map,
    volume_fraction,
)
from microgan.errors import UserError


@dataclass(frozen=True)
class Discs:
    row: np.ndarray
    col: np.ndarray
    radius: np.ndarray


def discs(*table: tuple[float, float, float]) -> Discs:
    return Discs(*np.array(table, float).reshape(-1, 3).T)


def laminate(period_px: int, thickness_px: int, size_px: int) -> np.ndarray:
    layer = np.arange(size_px) % period_px < thickness_px
    return np.broadcast_to(layer[:, None], (1, size_px, size_px)).copy()


def test_volume_fraction_is_per_image() -> None:
    phase = np.zeros((3, 4, 5), bool)
    phase[1, :2] = True
    phase[2] = True
    np.testing.assert_array_equal(volume_fraction(phase), [0, 0.5, 1])


@pytest.mark.parametrize("periodic", [False, True])
def test_two_point_correlation_is_what_counting_all_pairs_gives(periodic: bool) -> None:
    phase = np.random.default_rng(0).random((2, 9, 7)) < 0.4
    max_lag_px = 3
    hits, pairs = np.zeros((2, max_lag_px + 1)), np.zeros(max_lag_px + 1)
    for r in range(9):
        for c in range(7):
            for dr in range(-max_lag_px, max_lag_px + 1):
                for dc in range(-max_lag_px, max_lag_px + 1):
                    ring = round(np.hypot(dr, dc))
                    end = (r + dr, c + dc)
                    if periodic:
                        end = (end[0] % 9, end[1] % 7)
                    elif not (0 <= end[0] < 9 and 0 <= end[1] < 7):
                        continue
                    if ring <= max_lag_px:
                        pairs[ring] += 1
                        hits[:, ring] += phase[:, r, c] & phase[:, *end]
    found = two_point_correlation(phase, max_lag_px, periodic)
    np.testing.assert_allclose(found, hits / pairs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("periodic", "size_px"), [(True, 40), (False, 47)])
def test_laminate_has_a_triangle_across_and_a_constant_along(periodic: bool, size_px: int) -> None:
    period_px, thickness_px = 10, 3
    phase = laminate(period_px, thickness_px, size_px)
    found = two_point_map(phase, 20, periodic)[0]
    lag = np.arange(21)
    into_period = np.minimum(lag % period_px, period_px - lag % period_px)
    if periodic:  # two layers overlap by what their distance leaves, once a period
        expected = np.maximum(thickness_px - into_period, 0) / period_px
        np.testing.assert_allclose(found[:, 20], expected, atol=1e-12)
    layer = phase[0, :, 0]  # in a window: exact count of the layers that are in it
    if not periodic:
        expected = [(layer[: size_px - d] & layer[d:]).sum() / (size_px - d) for d in lag]
        np.testing.assert_allclose(found[:, 20], expected, atol=1e-12)
    np.testing.assert_allclose(found[0], layer.mean(), atol=1e-12)


def test_periodic_lattice_of_discs_repeats_after_one_cell() -> None:
    row, col = np.mgrid[:96, :96] % 24
    phase = (np.hypot(row - 12, col - 12) <= 7)[None]
    found = two_point_map(phase, 48, periodic=True)[0]
    fraction = phase.mean()
    for lag in [(0, 0), (24, 0), (0, 24), (48, 24), (24, -24)]:
        assert found[lag[0], 48 + lag[1]] == pytest.approx(fraction, abs=1e-12)
    between = (phase[0] & np.roll(phase[0], 12, axis=1)).mean()
    assert found[0, 48 + 12] == pytest.approx(between, abs=1e-12)
    # Debye: the slope at the origin is -(perimeter per area) / pi, the perimeter of a disc 2 pi r
    radial = two_point_correlation(phase, 4, periodic=True)[0]
    slope = (radial[2] - radial[0]) / radial_lags(4)[2]
    assert slope == pytest.approx(-2 * np.pi * 7 / 24**2 / np.pi, rel=0.08)


def test_noise_is_uncorrelated() -> None:
    fraction = 0.3
    phase = np.random.default_rng(1).random((200, 64, 64)) < fraction
    curves = two_point_correlation(phase)
    standard_error = curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
    expected = np.full(33, fraction**2)
    expected[0] = fraction
    assert np.all(np.abs(curves.mean(axis=0) - expected) < 4 * standard_error)


def test_large_image_goes_through_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    phase = np.random.default_rng(2).random((5, 20, 30)) < 0.5
    at_once = two_point_correlation(phase)
    monkeypatch.setattr("microgan.descriptors.FFT_BATCH_PX", 1)
    np.testing.assert_array_equal(two_point_correlation(phase), at_once)


def test_radial_lags_are_the_mean_lengths_of_the_rings() -> None:
    lags = radial_lags(6)
    ring_2 = [2.0, 2.0, np.sqrt(5), np.sqrt(5), np.sqrt(5), np.sqrt(5)]  # of one half plane
    assert lags[2] == pytest.approx(np.mean(ring_2))
    assert np.all(np.abs(lags - np.arange(7)) < 0.25)


def test_radii_count_inside_the_margin_only() -> None:
    circles = [discs((5, 5, 4), (4.4, 20, 3), (20, 20, 6)), discs(), discs((27, 10, 5), (-2, 4, 6))]
    found = radius_distribution(circles, (32, 32), margin_px=5)
    np.testing.assert_array_equal(found.values, [4, 6])
    np.testing.assert_array_equal(found.image, [0, 0])
    assert found.mean() == 5


def test_nearest_neighbours_of_a_square_lattice_are_one_spacing_away() -> None:
    row, col = (axis.ravel() for axis in np.mgrid[4:64:8, 4:64:8] - 0.5)
    lattice = [Discs(row, col, np.full(row.size, 3.0))]
    periodic = nearest_neighbour_distribution(lattice, (64, 64), periodic=True)
    assert len(periodic) == 64
    np.testing.assert_allclose(periodic.values, 8)
    window = nearest_neighbour_distribution(lattice, (64, 64))
    assert len(window) == 36  # those 12 px or more inside; at 4 px from the border nothing is certain
    np.testing.assert_allclose(window.values, 8)
    assert window.mean() == pytest.approx(8)


def test_neighbour_across_the_border_of_a_periodic_cell() -> None:
    pair = [discs((-1e-18, 10, 3), (30, 10, 3), (16, 25, 3))]
    found = nearest_neighbour_distribution(pair, (32, 32), periodic=True)
    np.testing.assert_allclose(found.values[:2], 2)


def test_uncertain_neighbours_are_left_out_and_centres_outside_serve() -> None:
    alone = [discs((3, 16, 3), (20, 16, 3))]
    assert len(nearest_neighbour_distribution(alone, (32, 32))) == 0
    outside = [discs((3, 16, 3), (-0.4, 16, 3))]
    found = nearest_neighbour_distribution(outside, (32, 32))
    np.testing.assert_allclose(found.values, [3.4])
    assert found.image.tolist() == [0]


def test_nearest_neighbour_distances_of_poisson_points_are_unbiased() -> None:
    # Mean nearest-neighbour distance of a Poisson process of intensity m: 1 / (2 sqrt(m)).
    rng, intensity, size_px = np.random.default_rng(3), 0.004, 64
    circles = []
    for _ in range(2000):
        n = rng.poisson(intensity * size_px**2)
        row, col = rng.uniform(-0.5, size_px - 0.5, (2, n))
        circles.append(Discs(row, col, np.ones(n)))
    found = nearest_neighbour_distribution(circles, (size_px, size_px))
    assert found.mean() == pytest.approx(0.5 / np.sqrt(intensity), rel=0.01)
    # and the weights are what makes it so
    assert found.values.mean() < 0.97 * 0.5 / np.sqrt(intensity)


def test_take_keeps_the_values_of_the_images() -> None:
    whole = Distribution(np.arange(5.0), np.ones(5), np.array([0, 0, 2, 3, 3]))
    part = whole.take(np.array([3, 1, 0]))
    np.testing.assert_array_equal(part.values, [0, 1, 3, 4])
    np.testing.assert_array_equal(part.image, [2, 2, 0, 0])
    assert len(whole.take(np.array([], int))) == 0


def test_density_integrates_to_one() -> None:
    found = Distribution(np.array([1.0, 1.2, 3.0]), np.array([1.0, 1.0, 2.0]), np.zeros(3, int))
    density = found.density(np.array([0.0, 2.0, 4.0]))
    np.testing.assert_allclose(density, [0.25, 0.25])


@pytest.mark.parametrize("phase", [np.zeros((4, 4), bool), np.zeros((1, 4, 4)), np.zeros((0, 4, 4), bool)])
def test_wrong_phase_is_refused(phase: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"phase.*must be bool of shape"):
        two_point_correlation(phase)


def test_lag_beyond_the_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"max_lag_px: 8: must be from 0 to 7"):
        two_point_correlation(np.ones((1, 8, 9), bool), 8)
