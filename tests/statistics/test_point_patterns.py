"""Statistics of circles against lattices and against points without interaction."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.integrate import quad

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.statistics.estimators import Curve
from microgan.statistics.point_patterns import (
    hexatic_order,
    local_volume_fraction,
    nearest_neighbour_angle,
    nearest_neighbour_distribution,
    pair_correlation,
    radius_distribution,
    ripley_k,
)


@dataclass(frozen=True)
class Discs:
    row: np.ndarray
    col: np.ndarray
    radius_px: np.ndarray


def discs(*table: tuple[float, float, float]) -> Discs:
    return Discs(*np.array(table, float).reshape(-1, 3).T)


def poisson(images: int, intensity: float, size_px: int, seed: int) -> list[Discs]:
    rng, circles = np.random.default_rng(seed), []
    for count in rng.poisson(intensity * size_px**2, images):
        row, col = rng.uniform(-0.5, size_px - 0.5, (2, count))
        circles.append(Discs(row, col, np.ones(count)))
    return circles


def square_lattice() -> list[Discs]:
    """Spacing 8 px, in 64 x 64 px."""
    row, col = (axis.ravel() for axis in np.mgrid[4:64:8, 4:64:8] - 0.5)
    return [Discs(row, col, np.full(row.size, 3.0))]


def hexagonal_lattice(spacing_px: float, size_px: int) -> list[Discs]:
    """Cut out of an endless one, with rows of discs along rows of pixels."""
    i, j = np.mgrid[: 2 * size_px, -2 * size_px : 2 * size_px]
    row, col = 0.3 + spacing_px * np.sqrt(0.75) * i, 0.1 + spacing_px * (j + i / 2)
    inside = (row < size_px - 0.5) & (np.abs(col - size_px / 2 + 0.5) < size_px / 2)
    return [Discs(row[inside], col[inside], np.full(inside.sum(), 3.0))]


def standard_error(curve: Curve) -> np.ndarray:
    """Of its mean, from resampled images."""
    weights = np.random.default_rng(0).multinomial(len(curve), np.full(len(curve), 1 / len(curve)), 200)
    return curve.resampled(weights).std(axis=0)


def test_radii_count_inside_the_margin_only() -> None:
    circles = [discs((5, 5, 4), (4.4, 20, 3), (20, 20, 6)), discs(), discs((27, 10, 5), (-2, 4, 6))]
    radii = radius_distribution(circles, (32, 32), margin_px=5)
    np.testing.assert_array_equal(radii.values, [4, 6])
    np.testing.assert_array_equal(radii.image, [0, 0])
    assert radii.mean() == 5


def test_nearest_neighbours_of_a_square_lattice_are_one_spacing_away() -> None:
    row, col = (axis.ravel() for axis in np.mgrid[4:64:8, 4:64:8] - 0.5)
    lattice = [Discs(row, col, np.full(row.size, 3.0))]
    periodic = nearest_neighbour_distribution(lattice, Domain((64, 64), periodic=True))
    assert len(periodic) == 64
    np.testing.assert_allclose(periodic.values, 8)
    window = nearest_neighbour_distribution(lattice, Domain((64, 64)))
    assert len(window) == 36  # those 12 px or more inside; at 4 px from the border nothing is certain
    np.testing.assert_allclose(window.values, 8)
    assert window.mean() == pytest.approx(8)


def test_neighbour_across_the_border_of_a_periodic_cell() -> None:
    pair = [discs((-1e-18, 10, 3), (30, 10, 3), (16, 25, 3))]
    distances = nearest_neighbour_distribution(pair, Domain((32, 32), periodic=True))
    np.testing.assert_allclose(distances.values[:2], 2)


def test_uncertain_neighbours_are_left_out_and_centres_outside_serve() -> None:
    alone = [discs((3, 16, 3), (20, 16, 3))]
    assert len(nearest_neighbour_distribution(alone, Domain((32, 32)))) == 0
    outside = [discs((3, 16, 3), (-0.4, 16, 3))]
    distances = nearest_neighbour_distribution(outside, Domain((32, 32)))
    np.testing.assert_allclose(distances.values, [3.4])
    assert distances.image.tolist() == [0]


def test_nearest_neighbour_distances_of_poisson_points_are_unbiased() -> None:
    # Mean nearest-neighbour distance of a Poisson process of intensity m: 1 / (2 sqrt(m)).
    rng, intensity, size_px = np.random.default_rng(3), 0.004, 64
    circles = []
    for _ in range(2000):
        n = rng.poisson(intensity * size_px**2)
        row, col = rng.uniform(-0.5, size_px - 0.5, (2, n))
        circles.append(Discs(row, col, np.ones(n)))
    distances = nearest_neighbour_distribution(circles, Domain((size_px, size_px)))
    assert distances.mean() == pytest.approx(0.5 / np.sqrt(intensity), rel=0.01)
    # and the weights are what makes it so
    assert distances.values.mean() < 0.97 * 0.5 / np.sqrt(intensity)


def test_angles_of_nearest_neighbours() -> None:
    pairs = [
        discs((30, 30, 3), (30, 35, 3)),
        discs((30, 30, 3), (36, 30, 3)),
        discs((30, 30, 3), (33, 33, 3)),
        discs((30, 30, 3), (33, 27, 3)),
    ]
    for periodic in (False, True):
        angles = nearest_neighbour_angle(pairs, Domain((64, 64), periodic))
        np.testing.assert_allclose(angles.values, [0, 0, 90, 90, 45, 45, 135, 135], atol=1e-10)
    across = nearest_neighbour_angle([discs((1, 1, 3), (62, 62, 3))], Domain((64, 64), periodic=True))
    np.testing.assert_allclose(across.values, 45, atol=1e-10)


def test_angles_of_poisson_points_are_uniform() -> None:
    angles = nearest_neighbour_angle(poisson(500, 0.01, 64, seed=4), Domain((64, 64)))
    by_image = angles.histograms(np.linspace(0, 180, 7), 500)
    fraction = by_image.sum(axis=0) / by_image.sum()
    spread = (by_image - by_image.sum(axis=1, keepdims=True) / 6).std(axis=0) * np.sqrt(500) / by_image.sum()
    assert np.all(np.abs(fraction - 1 / 6) < 4 * spread)
    assert np.all(spread < 0.01)


def test_k_of_a_square_lattice_counts_its_shells() -> None:
    distances_px = np.array([0, 7.9, 8, 11.4, 15.9, 16, 18])
    k_function = ripley_k(square_lattice(), Domain((64, 64), periodic=True), distances_px)
    np.testing.assert_allclose(k_function.mean() / 64, [0, 0, 4, 8, 8, 12, 20], rtol=0, atol=1e-10)


def test_pair_correlation_of_a_square_lattice_has_a_kernel_at_each_shell() -> None:
    correlation = pair_correlation(
        square_lattice(), Domain((64, 64), periodic=True), np.array([5.9, 7.0, 8.0, 16.0]), 2
    )
    neighbours = np.array([0, 4 * 0.75 / 2 * 0.75, 4 * 0.75 / 2, 4 * 0.75 / 2])  # per px, at these distances
    neighbours[3] += 8 * 0.75 / 2 * max(0, 1 - ((np.sqrt(320) - 16) / 2) ** 2)
    np.testing.assert_allclose(
        correlation.mean(), 64 * neighbours / 2 / np.pi / correlation.axis, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("distance_px", [0.0, 0.5, 1.9, 2.5])
def test_pair_correlation_near_zero_is_over_what_the_kernel_sees_of_the_plane(distance_px: float) -> None:
    def kernel(radius_px: float) -> float:
        return 0.375 * max(0.0, 1 - ((radius_px - distance_px) / 2) ** 2)

    pair = [discs((10, 10, 3), (10, 11, 3))]
    correlation = pair_correlation(pair, Domain((30, 40), periodic=True), np.array([distance_px]), 2)
    plane, _ = quad(lambda radius_px: 2 * np.pi * radius_px * kernel(radius_px), 0, distance_px + 2)
    assert correlation.mean() == pytest.approx(kernel(1) / plane / (2 / 1200), rel=1e-7)


@pytest.mark.parametrize("periodic", [False, True])
def test_poisson_points_do_not_know_of_each_other(periodic: bool) -> None:
    circles = poisson(600, 0.01, 64, seed=5)
    k = ripley_k(circles, Domain((64, 64), periodic), np.arange(2.0, 31, 4))
    error = standard_error(k)
    assert np.all(np.abs(k.mean() - np.pi * k.axis**2) < 4 * error)
    assert np.all(error[2:] < 0.02 * k.mean()[2:])
    g = pair_correlation(circles, Domain((64, 64), periodic), np.arange(0.0, 30, 3), 1.5)
    error = standard_error(g)
    assert np.all(np.abs(g.mean() - 1) < 4 * error)
    assert np.all(error[2:] < 0.02)


def test_pairs_with_centres_beyond_the_border_do_not_count() -> None:
    inside, beyond = discs((10, 10, 3), (10, 20, 3)), discs((10, 10, 3), (10, 20, 3), (-3, 15, 3))
    window, distances_px = Domain((32, 32)), np.array([20.0])
    without, beside = (ripley_k([circles], window, distances_px) for circles in (inside, beyond))
    np.testing.assert_array_equal(without.mean(), beside.mean())
    np.testing.assert_allclose(without.numerator, 2 / (32 * 22), rtol=1e-12)


@pytest.mark.parametrize("periodic", [False, True])
def test_cells_of_a_square_lattice(periodic: bool) -> None:
    fraction = local_volume_fraction(square_lattice(), Domain((64, 64), periodic))
    order = hexatic_order(square_lattice(), Domain((64, 64), periodic))
    assert len(fraction) == len(order) == (64 if periodic else 36)
    np.testing.assert_allclose(fraction.values, 9 * np.pi / 64, rtol=0, atol=1e-10)
    np.testing.assert_allclose(order.values, 0, atol=1e-10)


def test_cells_of_a_hexagonal_lattice() -> None:
    lattice = hexagonal_lattice(9, 100)
    window = Domain((100, 100))
    fraction, order = local_volume_fraction(lattice, window), hexatic_order(lattice, window)
    assert len(fraction) == len(order) > 60
    np.testing.assert_allclose(fraction.values, 9 * np.pi / (81 * np.sqrt(0.75)), rtol=0, atol=1e-10)
    np.testing.assert_allclose(order.values, 1, rtol=0, atol=1e-10)
    nearest = nearest_neighbour_distribution(lattice, Domain((100, 100)))
    np.testing.assert_allclose(nearest.values, 9, rtol=0, atol=1e-10)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_cells_fill_a_periodic_cell(count: int) -> None:
    row, col = np.random.default_rng(6).uniform(0, 30, (2, count))
    circles = [Discs(row, col, np.ones(count))]
    fractions = local_volume_fraction(circles, Domain((20, 90), periodic=True))
    assert len(fractions) == count
    assert (np.pi / fractions.values).sum() == pytest.approx(20 * 90, rel=1e-10)


def test_cells_of_poisson_points_are_unbiased() -> None:
    intensity = 0.02
    fractions = local_volume_fraction(poisson(400, intensity, 64, seed=7), Domain((64, 64)))
    area_px2 = np.pi / fractions.values
    # each weight is the fraction of one disc per px^2: their sum over the images is the intensity
    assert fractions.weights.sum() / 400 == pytest.approx(intensity, rel=0.01)
    assert np.average(area_px2, weights=fractions.weights) == pytest.approx(1 / intensity, rel=0.01)
    assert area_px2.mean() < 0.97 / intensity  # and the weights are what makes it so


@pytest.mark.parametrize("measured", [local_volume_fraction, hexatic_order])
@pytest.mark.parametrize(
    "few", [discs(), discs((5, 5, 2)), discs((5, 5, 2), (9, 9, 2)), discs((4, 4, 2), (8, 8, 2), (12, 12, 2))]
)
def test_too_few_discs_for_a_cell(measured: Callable, few: Discs) -> None:
    assert len(measured([few], Domain((32, 32)))) == 0
    assert len(measured([few], Domain((32, 32), periodic=True))) == len(few.row)


def test_two_discs_in_one_place_fraction_a_cell() -> None:
    lattice = square_lattice()[0]
    columns = (lattice.row, lattice.col, lattice.radius_px)
    twice = Discs(*(np.append(values, values[27]) for values in columns))
    fractions = local_volume_fraction([twice], Domain((64, 64), periodic=True))
    np.testing.assert_allclose(fractions.values, 9 * np.pi / 64, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shift_px", [(7.3, 0), (0, 11.1), (-13.7, 80.2)])
def test_a_periodic_cell_may_begin_anywhere(shift_px: tuple[float, float]) -> None:
    size_px = 40
    circles = poisson(3, 0.02, size_px, seed=8)
    moved = [Discs(discs.row + shift_px[0], discs.col + shift_px[1], discs.radius_px) for discs in circles]
    cell, distances_px = Domain((size_px, size_px), periodic=True), np.arange(1.0, 18)
    for measured in (
        nearest_neighbour_distribution,
        nearest_neighbour_angle,
        local_volume_fraction,
        hexatic_order,
    ):
        shifted, expected = measured(moved, cell), measured(circles, cell)
        np.testing.assert_allclose(shifted.values, expected.values, rtol=0, atol=1e-10)
    for shifted, expected in [
        (ripley_k(moved, cell, distances_px), ripley_k(circles, cell, distances_px)),
        (
            pair_correlation(moved, cell, distances_px, 1),
            pair_correlation(circles, cell, distances_px, 1),
        ),
    ]:
        np.testing.assert_allclose(shifted.mean(), expected.mean(), rtol=1e-10)


@pytest.mark.parametrize("distances_px", [[3.0, 2.0], [-1.0, 2.0], [], [1.0, 32.0], [[1.0]]])
def test_wrong_distances_are_refused(distances_px: list) -> None:
    with pytest.raises(UserError, match=r"distances_px.*must rise from 0 or more to less than 32"):
        ripley_k(square_lattice(), Domain((64, 64), periodic=True), np.array(distances_px))


def test_wrong_bandwidths_are_refused() -> None:
    with pytest.raises(UserError, match="bandwidth_px: 0: must be positive"):
        pair_correlation(square_lattice(), Domain((64, 64)), np.array([1.0]), 0)
    with pytest.raises(UserError, match="to less than 62"):
        pair_correlation(square_lattice(), Domain((64, 64)), np.array([1.0, 63]), 2)
