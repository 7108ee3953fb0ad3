"""Statistics against shapes whose statistics are known."""

from typing import Literal

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from microgan.core.errors import UserError
from microgan.statistics.phase_descriptors import (
    chord_lengths,
    directional_correlation,
    lineal_path,
    minkowski,
    radial_lags,
    two_point_cluster,
    two_point_correlation,
    two_point_map,
    volume_fraction,
)


def laminate(period_px: int, thickness_px: int, size_px: int) -> np.ndarray:
    layer = np.arange(size_px) % period_px < thickness_px
    return np.broadcast_to(layer[:, None], (1, size_px, size_px)).copy()


def disc(centre: tuple[float, float], radius_px: float, size_px: int) -> np.ndarray:
    row, col = np.mgrid[:size_px, :size_px]
    return (np.hypot(row - centre[0], col - centre[1]) <= radius_px)[None]


def test_volume_fraction_is_per_image() -> None:
    phase = np.zeros((3, 4, 5), bool)
    phase[1, :2] = True
    phase[2] = True
    np.testing.assert_array_equal(volume_fraction(phase), [0, 0.5, 1])


@pytest.mark.parametrize("periodic", [False, True])
def test_two_point_correlation_is_what_counting_all_pairs_gives(periodic: bool) -> None:
    phase = np.random.default_rng(0).random((2, 9, 7)) < 0.4
    max_lag_px = 3
    inside, pairs = np.zeros((2, max_lag_px + 1)), np.zeros(max_lag_px + 1)
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
                        inside[:, ring] += phase[:, r, c] & phase[:, *end]
    correlation = two_point_correlation(phase, max_lag_px, periodic)
    np.testing.assert_allclose(correlation, inside / pairs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("periodic", "size_px"), [(True, 40), (False, 47)])
def test_laminate_has_a_triangle_across_and_a_constant_along(periodic: bool, size_px: int) -> None:
    period_px, thickness_px = 10, 3
    phase = laminate(period_px, thickness_px, size_px)
    by_vector = two_point_map(phase, 20, periodic)[0]
    lag = np.arange(21)
    into_period = np.minimum(lag % period_px, period_px - lag % period_px)
    if periodic:  # two layers overlap by what their distance leaves, once a period
        expected = np.maximum(thickness_px - into_period, 0) / period_px
        np.testing.assert_allclose(by_vector[:, 20], expected, atol=1e-12)
    layer = phase[0, :, 0]  # in a window: exact count of the layers that are in it
    if not periodic:
        expected = [(layer[: size_px - d] & layer[d:]).sum() / (size_px - d) for d in lag]
        np.testing.assert_allclose(by_vector[:, 20], expected, atol=1e-12)
    np.testing.assert_allclose(by_vector[0], layer.mean(), atol=1e-12)


def test_periodic_lattice_of_discs_repeats_after_one_cell() -> None:
    row, col = np.mgrid[:96, :96] % 24
    phase = (np.hypot(row - 12, col - 12) <= 7)[None]
    by_vector = two_point_map(phase, 48, periodic=True)[0]
    fraction = phase.mean()
    for lag in [(0, 0), (24, 0), (0, 24), (48, 24), (24, -24)]:
        assert by_vector[lag[0], 48 + lag[1]] == pytest.approx(fraction, abs=1e-12)
    between = (phase[0] & np.roll(phase[0], 12, axis=1)).mean()
    assert by_vector[0, 48 + 12] == pytest.approx(between, abs=1e-12)
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
    at_once, clusters_at_once = two_point_correlation(phase), two_point_cluster(phase)
    monkeypatch.setattr("microgan.statistics.phase_descriptors.FFT_BATCH_PX", 1)
    np.testing.assert_array_equal(two_point_correlation(phase), at_once)
    np.testing.assert_array_equal(two_point_cluster(phase), clusters_at_once)


@pytest.mark.parametrize("periodic", [False, True])
def test_blank_images_among_others(periodic: bool) -> None:
    phase = np.zeros((3, 12, 10), bool)
    phase[1] = True
    expected = np.array([0, 1, 0])
    np.testing.assert_allclose(
        two_point_cluster(phase, 5, periodic), np.outer(expected, np.ones(6)), atol=1e-12
    )
    np.testing.assert_allclose(
        lineal_path(phase, 5, periodic)[:, 0], np.outer(expected, np.ones(6)), atol=1e-12
    )
    assert len(chord_lengths(phase, periodic)) == 0
    functionals = minkowski(phase, periodic)
    np.testing.assert_array_equal(functionals.area_fraction, expected)
    np.testing.assert_array_equal([functionals.perimeter_per_px, functionals.euler_per_px2], 0)


def test_radial_lags_are_the_mean_lengths_of_the_rings() -> None:
    lags = radial_lags(6)
    ring_2 = [2.0, 2.0, np.sqrt(5), np.sqrt(5), np.sqrt(5), np.sqrt(5)]  # of one half plane
    assert lags[2] == pytest.approx(np.mean(ring_2))
    assert np.all(np.abs(lags - np.arange(7)) < 0.25)


def test_directions_are_told_apart() -> None:
    row, col = np.mgrid[:40, :40]
    phase = ((row + col) % 10 < 3)[None]  # layers along the second diagonal
    correlation = directional_correlation(phase, 20, periodic=True)[0]
    lag = np.arange(21)
    across = np.maximum(3 - np.minimum(lag % 10, 10 - lag % 10), 0) / 10
    np.testing.assert_allclose(correlation[:3], [across, across, across[2 * lag % 20]], atol=1e-12)
    np.testing.assert_allclose(correlation[3], 0.3, atol=1e-12)


def test_two_point_correlation_of_a_disc_is_the_area_of_a_lens() -> None:
    radius_px, size_px = 12.0, 64
    rng = np.random.default_rng(4)
    phase = np.concatenate([disc(centre, radius_px, size_px) for centre in 32 + rng.random((40, 2))])
    r = np.minimum(radial_lags(26), 2 * radius_px)
    lens = 2 * radius_px**2 * np.arccos(r / 2 / radius_px) - r / 2 * np.sqrt(4 * radius_px**2 - r**2)
    correlation = two_point_correlation(phase, 26, periodic=True).mean(axis=0)
    np.testing.assert_allclose(correlation, lens / size_px**2, atol=0.01 * correlation[0])


@pytest.mark.parametrize("connectivity", [1, 2])
def test_two_point_cluster_function_sums_the_correlations_of_the_clusters(
    connectivity: Literal[1, 2],
) -> None:
    phase = np.random.default_rng(5).random((3, 20, 17)) < 0.45
    cluster_function = two_point_cluster(phase, 9, connectivity=connectivity)
    for image, curve in zip(phase, cluster_function, strict=True):
        clusters = measure.label(image, connectivity=connectivity)
        each = two_point_correlation(clusters == np.arange(1, clusters.max() + 1)[:, None, None], 9)
        np.testing.assert_allclose(curve, each.sum(axis=0), atol=1e-12)


def test_one_cluster_has_the_two_point_correlation_and_two_have_less() -> None:
    joined = disc((5, 5), 6, 40) | disc((12, 12), 6, 40)
    two = disc((5, 5), 6, 40) | disc((25, 5), 6, 40)
    np.testing.assert_array_equal(two_point_cluster(joined), two_point_correlation(joined))
    cluster, correlation = two_point_cluster(two)[0], two_point_correlation(two)[0]
    np.testing.assert_array_equal(cluster[:7], correlation[:7])  # the gap is 8 px wide
    assert np.all(cluster[10:] < correlation[10:])


@pytest.mark.parametrize("ends", [((0, 3), (8, 4)), ((4, 0), (3, 9)), ((0, 0), (8, 9)), ((0, 9), (8, 0))])
def test_clusters_join_across_the_border_of_a_periodic_cell(ends: tuple[tuple[int, int], ...]) -> None:
    phase = np.zeros((1, 9, 10), bool)
    phase[0, *np.transpose(ends)] = True  # two pixels that share a corner, in the next cell
    joined, apart = two_point_cluster(phase, 3, True, 2), two_point_cluster(phase, 3, True, 1)
    np.testing.assert_array_equal(joined, two_point_correlation(phase, 3, periodic=True))
    assert joined[0, 1] > 0
    assert not apart[0, 1:].any()


@pytest.mark.parametrize(("periodic", "size_px"), [(True, 40), (False, 47)])
def test_lineal_path_of_a_laminate_ends_at_the_thickness(periodic: bool, size_px: int) -> None:
    phase = laminate(10, 3, size_px)
    along, across = lineal_path(phase, 20, periodic)[0]
    np.testing.assert_allclose(along, phase.mean(), atol=1e-12)
    layers, length = size_px / 10 if periodic else 5, np.arange(21)
    places = size_px - (0 if periodic else length)
    np.testing.assert_allclose(across, layers * np.maximum(3 - length, 0) / places, atol=1e-12)


def test_lineal_path_of_noise_is_a_power_of_the_fraction() -> None:
    phase = np.random.default_rng(6).random((300, 32, 32)) < 0.7
    path = lineal_path(phase, 6).reshape(-1, 7)
    standard_error = path.std(axis=0, ddof=1) / np.sqrt(len(phase))
    assert np.all(np.abs(path.mean(axis=0) - 0.7 ** np.arange(1, 8)) < 4 * standard_error)


@pytest.mark.parametrize(("periodic", "size_px"), [(True, 40), (False, 47)])
def test_chords_of_a_laminate_are_as_long_as_it_is_thick(periodic: bool, size_px: int) -> None:
    phase = laminate(10, 3, size_px)
    discs, matrix = chord_lengths(phase, periodic), chord_lengths(~phase, periodic)
    # in the window the first layer and the last two are cut, or may be; along the layers there is no chord
    assert len(discs) == 4 * size_px
    assert len(matrix) == 4 * size_px
    np.testing.assert_array_equal(discs.values, 3)
    np.testing.assert_array_equal(matrix.values, 7)


def test_chords_that_the_border_cuts_are_left_out() -> None:
    line = np.array([[[1, 1, 0, 1, 1, 1, 0, 0, 1]]], bool)
    window = chord_lengths(line)
    np.testing.assert_array_equal(window.values, [3])
    np.testing.assert_allclose(window.weights, 1 / 5)
    np.testing.assert_array_equal(np.sort(chord_lengths(line, periodic=True).values), [3, 3])


def test_windows_at_all_places_have_the_mean_of_the_cell_that_they_are_cut_from() -> None:
    cell = ndimage.gaussian_filter(np.random.default_rng(7).random((24, 30)), 1, mode="wrap") > 0.5
    tiled = np.tile(cell, (2, 2))
    windows = np.lib.stride_tricks.sliding_window_view(tiled, (14, 12))[:24, :30].reshape(-1, 14, 12)
    whole, edges = cell[None], np.arange(0.5, 11)  # chords of up to W - 2 = 10 px are whole
    for of_window, of_cell in [
        (directional_correlation(windows, 8), directional_correlation(whole, 8, periodic=True)),
        (lineal_path(windows, 11), lineal_path(whole, 11, periodic=True)),
        (
            chord_lengths(windows).histograms(edges, len(windows)),
            chord_lengths(whole, periodic=True).histograms(edges, 1),
        ),
        *zip(minkowski(windows), minkowski(whole, periodic=True), strict=True),
    ]:
        np.testing.assert_allclose(of_window.mean(axis=0), of_cell[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("shift", [(7, 0), (0, 11), (13, 20)])
def test_a_periodic_cell_may_begin_anywhere(shift: tuple[int, int]) -> None:
    cell = ndimage.gaussian_filter(np.random.default_rng(8).random((2, 24, 30)), (0, 1, 1), mode="wrap") > 0.5
    rolled, edges = np.roll(cell, shift, axis=(1, 2)), np.arange(0.5, 31)
    for of_cell, of_rolled in [
        (two_point_correlation(cell, periodic=True), two_point_correlation(rolled, periodic=True)),
        (two_point_cluster(cell, periodic=True), two_point_cluster(rolled, periodic=True)),
        (two_point_cluster(cell, 9, True, 1), two_point_cluster(rolled, 9, True, 1)),
        (lineal_path(cell, periodic=True), lineal_path(rolled, periodic=True)),
        (chord_lengths(cell, True).histograms(edges, 2), chord_lengths(rolled, True).histograms(edges, 2)),
        *zip(minkowski(cell, periodic=True), minkowski(rolled, periodic=True), strict=True),
    ]:
        np.testing.assert_allclose(of_rolled, of_cell, rtol=0, atol=1e-10)


@pytest.mark.parametrize("radius_px", [3.0, 4.5, 10.0])
def test_minkowski_functionals_of_digitised_discs(radius_px: float) -> None:
    centres = 15.5 + np.random.default_rng(9).random((1000, 2))
    phase = np.concatenate([disc(centre, radius_px, 32) for centre in centres])
    functionals = minkowski(phase, periodic=True)
    area_px2, perimeter_px = functionals.area_fraction * 32**2, functionals.perimeter_per_px * 32**2
    assert abs(area_px2.mean() - np.pi * radius_px**2) < 4 * area_px2.std() / np.sqrt(1000)
    # Test lines that only graze the disc, between two pixels, miss it: 1 / (16 r^2) of all.
    expected_px = 2 * np.pi * radius_px * (1 - 1 / (16 * radius_px**2))
    assert abs(perimeter_px.mean() - expected_px) < 4 * perimeter_px.std() / np.sqrt(1000)
    np.testing.assert_allclose(functionals.euler_per_px2 * 32**2, 1, rtol=0, atol=1e-10)


def test_perimeter_and_euler_number_agree_with_scikit_image() -> None:
    phase = np.pad(np.random.default_rng(10).random((20, 30, 30)) < 0.5, ((0, 0), (1, 1), (1, 1)))
    functionals = minkowski(phase, periodic=True)
    perimeter_px = [measure.perimeter_crofton(image, directions=4) for image in phase]
    np.testing.assert_allclose(functionals.perimeter_per_px * 32**2, perimeter_px, atol=1e-10)
    euler = [measure.euler_number(image, connectivity=2) for image in phase]
    np.testing.assert_allclose(functionals.euler_per_px2 * 32**2, euler, atol=1e-10)


def test_euler_number_counts_parts_less_holes() -> None:
    ring = disc((20, 20), 9, 64) & ~disc((20, 20), 5, 64)
    phase = ring | disc((20, 20), 2, 64) | disc((63, 45), 6, 64) | disc((-1, 45), 6, 64)
    assert minkowski(phase, periodic=True).euler_per_px2[0] * 64**2 == pytest.approx(2, abs=1e-10)
    layers = laminate(8, 3, 64)  # each closes around the cell: no end, no part of its own
    assert minkowski(layers, periodic=True).euler_per_px2[0] == pytest.approx(0, abs=1e-12)


def test_image_without_squares_has_no_euler_number() -> None:
    with pytest.raises(UserError, match="at least 2 x 2"):
        minkowski(np.ones((1, 1, 5), bool))


@pytest.mark.parametrize("phase", [np.zeros((4, 4), bool), np.zeros((1, 4, 4)), np.zeros((0, 4, 4), bool)])
def test_wrong_phase_is_refused(phase: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"phase.*must be bool of shape"):
        two_point_correlation(phase)


def test_lag_beyond_the_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"max_lag_px: 8: must be from 0 to 7"):
        two_point_correlation(np.ones((1, 8, 9), bool), 8)
