"""Nearest training windows, against search by hand, and the test of memory, against its exact law."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from microgan.core.errors import UserError
from microgan.evaluation.memorisation import (
    NearestCorrelation,
    detection_rate_of_copies,
    memorisation_test,
    nearest_correlation,
    planted_copies,
)
from microgan.evaluation.nearest_windows import nearest_windows
from microgan.scan.planes import PackedMask, Planes, ScanInfo
from microgan.scan.symmetries import turned
from microgan.scan.windows import Windows

SIDE = 40


def _planes(rows: int = 190, cols: int = 170, seed: int = 0) -> Planes:
    """Make three planes of blobs about 12 px wide with noise: training, calibration, held out."""
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.standard_normal((3, rows, cols)), (0, 4, 4))
    grey = np.tanh(2 * blobs / blobs.std()) * 0.6 + rng.normal(0, 0.15, blobs.shape)
    box = (0, rows, 0, cols)
    info = ScanInfo(
        name="blobs",
        source=["blobs.tif"],
        source_digest="",
        shape=grey.shape,
        dtype="float32",
        voxel_size_um=None,
        polarity="bright",
        radius_px=(4, 8),
        intensity_window=(-1, 1),
        regions={"train": [(0, *box)], "calibration": [(1, *box)], "held_out": [(2, *box)]},
        planes_sha256="",
        mask_sha256="",
    )
    return Planes(np.clip(grey, -1, 1).astype(np.float16), PackedMask.of(np.ones(grey.shape, bool)), info)


def _held_out(planes: Planes, count: int, seed: int = 0) -> np.ndarray:
    windows = Windows(planes, "held_out", SIDE)
    return windows.draw(np.random.default_rng(seed), count).numpy()[:, 0]


def _scores(values: np.ndarray) -> NearestCorrelation:
    """Correlations whose margins are ``values``, above a control of 0."""
    return NearestCorrelation(values, np.zeros(len(values)))


def test_a_window_finds_its_place_whatever_its_shift_and_symmetry() -> None:
    planes = _planes()
    # All parities of the reduction by 3, the first and the last corner, all symmetries.
    corners = [(0, 0), (150, 130), (1, 2), (2, 1), (31, 47), (32, 45), (33, 46), (90, 130)]
    images = np.stack(
        [turned(planes.grey[0, r : r + SIDE, c : c + SIDE], s) for s, (r, c) in enumerate(corners)]
    ).astype(np.float32)
    nearest = nearest_windows(images, planes)
    np.testing.assert_allclose(nearest.correlation, 1, atol=1e-5)
    assert list(zip(nearest.row, nearest.col, strict=True)) == corners
    np.testing.assert_array_equal(nearest.symmetry, np.arange(8))
    np.testing.assert_array_equal(nearest.windows(planes, SIDE), images)
    assert nearest.searched == 1


def test_copies_with_other_noise_and_blur_are_found() -> None:
    planes = _planes()
    places = nearest_windows(planted_copies(planes, SIDE, 40, seed=1), planes)
    for blur_px, new_noise in ((1.5, False), (1.5, True)):
        nearest = nearest_windows(planted_copies(planes, SIDE, 40, 1, blur_px, new_noise), planes)
        assert np.abs(nearest.row - places.row).max() <= 1
        assert np.abs(nearest.col - places.col).max() <= 1
        np.testing.assert_array_equal(nearest.symmetry, places.symmetry)


def test_nearest_window_is_that_of_an_exhaustive_search() -> None:
    planes = _planes(rows=70, cols=66)
    images = _held_out(planes, 12)
    nearest = nearest_windows(images, planes)
    for index, image in enumerate(images):
        best = _exhaustive(image, planes.grey[0].astype(np.float32))
        assert nearest.correlation[index] == pytest.approx(best, abs=0.02)
        assert nearest.correlation[index] <= best + 1e-5


def _exhaustive(image: np.ndarray, plane: np.ndarray) -> float:
    corners = np.ndindex(plane.shape[0] - SIDE + 1, plane.shape[1] - SIDE + 1)
    windows = np.stack([plane[r : r + SIDE, c : c + SIDE] for r, c in corners])
    windows = ndimage.gaussian_filter(windows, (0, 2, 2), mode="nearest").reshape(len(windows), -1)
    windows -= windows.mean(axis=1, keepdims=True)
    windows /= np.linalg.norm(windows, axis=1, keepdims=True)
    smooth = ndimage.gaussian_filter(image, 2, mode="nearest")
    smooth = (smooth - smooth.mean()) / np.linalg.norm(smooth - smooth.mean())
    return max(float((windows @ turned(smooth, s).ravel()).max()) for s in range(8))


def test_windows_beyond_the_field_of_view_are_not_found() -> None:
    planes = _planes()
    copy = planes.grey[:1, 20 : 20 + SIDE, 30 : 30 + SIDE].astype(np.float32)
    mask = np.ones(planes.info.shape, bool)
    mask[0, 25, 35] = False
    nearest = nearest_windows(copy, dataclasses.replace(planes, mask=PackedMask.of(mask)))
    assert nearest.correlation[0] < 0.9
    row, col = int(nearest.row[0]), int(nearest.col[0])
    assert mask[0, row : row + SIDE, col : col + SIDE].all()


def test_blank_images_correlate_with_nothing() -> None:
    nearest = nearest_windows(np.full((2, SIDE, SIDE), 0.3, np.float32), _planes())
    np.testing.assert_array_equal(nearest.correlation, 0)


def test_a_large_part_is_searched_in_pieces_by_seed() -> None:
    planes = _planes(rows=1100, cols=170)
    copies = planted_copies(planes, SIDE, 24, seed=0)
    nearest = nearest_windows(copies, planes)
    np.testing.assert_allclose(nearest.correlation, 1, atol=1e-5)  # in both pieces and across their border
    half = nearest_windows(copies, planes, most_px=1)
    assert half.searched == pytest.approx(0.5, abs=0.01)
    inside = half.correlation > 0.999
    assert 4 < inside.sum() < 20
    assert set(nearest.row[inside] < 531) in ({True}, {False})
    np.testing.assert_array_equal(nearest_windows(copies, planes, most_px=1).correlation, half.correlation)


def test_smoothness_is_no_memory_and_copies_are() -> None:
    planes = _planes(rows=300, cols=300)
    windows = _held_out(planes, 120)
    held_out = nearest_correlation(windows[:60], planes)
    smooth = nearest_correlation(ndimage.gaussian_filter(windows[60:], (0, 1.5, 1.5)), planes)
    assert not memorisation_test(smooth, held_out).flagged
    copies = nearest_correlation(planted_copies(planes, SIDE, 10, 1, 1.5, new_noise=True), planes)
    parts = (np.append(getattr(smooth, part), getattr(copies, part)) for part in ("training", "control"))
    mixed = NearestCorrelation(*parts)
    result = memorisation_test(mixed, held_out)
    assert result.flagged
    assert result.fraction >= 10 / 70


def test_p_value_is_the_exact_one() -> None:
    # Two samples, two held-out windows: the samples are the largest two of 4 in 1 of 6 orders.
    result = memorisation_test(_scores(np.array([3.0, 4.0])), _scores(np.array([1.0, 2.0])), level=0.5)
    assert result.p_value == pytest.approx(1 / 6)
    assert (result.fraction, result.held_out_fraction, result.correlation, result.margin) == (1, 0, 2, 2)
    nothing = memorisation_test(_scores(np.array([0.0, 0.5])), _scores(np.array([1.0, 2.0])), level=0.5)
    assert nothing.p_value == 1


def test_held_out_planes_beside_calibration_planes_raise_no_alarm() -> None:
    rng = np.random.default_rng(0)
    samples = NearestCorrelation(*rng.normal(0.4, 0.03, (2, 500)))
    neighbours = NearestCorrelation(rng.normal(0.4, 0.03, 500), rng.normal(0.95, 0.01, 500))
    assert not memorisation_test(samples, neighbours).flagged


def test_interval_of_the_excess_holds_the_fraction_of_copies() -> None:
    rng = np.random.default_rng(1)
    samples = np.append(rng.normal(0, 1, 450), rng.normal(9, 1, 50))
    result = memorisation_test(_scores(samples), _scores(rng.normal(0, 1, 500)))
    low, high = result.excess_interval
    assert low < result.excess < high
    assert low < 0.1 < high
    assert high - low < 0.1


def test_detection_rate_of_copies_and_false_alarms() -> None:
    rng = np.random.default_rng(2)
    real, copies = _scores(rng.normal(0, 1, 1000)), _scores(rng.normal(8, 1, 50))
    rates = detection_rate_of_copies(real, copies, (0.0, 0.05), repeats=300)
    assert rates[0.0] <= 0.05
    assert rates[0.05] >= 0.9
    assert rates == detection_rate_of_copies(real, copies, (0.0, 0.05), repeats=300)


def test_bad_input_is_refused() -> None:
    planes, single = _planes(), _scores(np.ones(1))
    with pytest.raises(UserError, match=r"images: shape \(2, 8, 9\): must be \(N, S, S\)"):
        nearest_windows(np.zeros((2, 8, 9), np.float32), planes)
    with pytest.raises(UserError, match="no window fits into the train part"):
        nearest_windows(np.zeros((1, 180, 180), np.float32), planes)
    with pytest.raises(UserError, match=r"level: 1\.5: must be between 0 and 1"):
        memorisation_test(single, single, level=1.5)
    with pytest.raises(UserError, match="must both be 1 or more"):
        memorisation_test(single.take(np.array([], int)), single)
    with pytest.raises(UserError, match="held_out, copies: 1, 1"):
        detection_rate_of_copies(single, single)
