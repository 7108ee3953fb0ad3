"""A wide radius band against a narrow one, and the bounds of bands."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from microgan.core.errors import UserError
from microgan.detection.detect import detect
from microgan.detection.detector import Detector
from microgan.detection.wide_band import Readings, narrowed

SIDE_PX = 200


def packed(radius_px: float, second_px: float = 0.0) -> np.ndarray:
    """Discs (n, 3) on a jittered hexagonal grid, some cut by the border; every third of the second radius."""
    rng, step_px, discs = np.random.default_rng(3), 2.25 * radius_px, []
    for i in range(math.ceil(SIDE_PX / step_px * 1.16) + 1):
        for j in range(math.ceil(SIDE_PX / step_px) + 1):
            radius = second_px if second_px and (i + j) % 3 == 0 else radius_px
            jitter = rng.uniform(-0.08, 0.08, 2) * radius_px
            place = np.array([i * step_px * 0.866, (j + (i % 2) / 2) * step_px]) + jitter
            discs.append([*place, radius * rng.uniform(0.94, 1.06)])
    return np.array(discs)


def noisy(discs: np.ndarray, noise_sd: float = 0.3) -> torch.Tensor:
    """Draw discs in [-0.6, 0.6] with blurred edges and white noise, (1, 1, SIDE_PX, SIDE_PX)."""
    axis, image = np.arange(SIDE_PX), np.zeros((SIDE_PX, SIDE_PX))
    for row, col, radius in discs:
        depth = radius - np.hypot(axis[:, None] - row, axis - col)
        image = np.maximum(image, np.clip(depth + 0.5, 0, 1))
    noise = noise_sd * np.random.default_rng(0).standard_normal(image.shape)
    return torch.from_numpy(1.2 * gaussian_filter(image, 0.75) - 0.6 + noise).float()[None, None]


def f1_score(found: np.ndarray, truth: np.ndarray, margin_px: float) -> float:
    """F1 score of circles at least ``margin_px`` inside the image: place within 2 px, radius within 1 px."""
    inside = [((t[:, :2] > margin_px) & (t[:, :2] < SIDE_PX - 1 - margin_px)).all(1) for t in (found, truth)]
    hit = (cdist(found[:, :2], truth[:, :2]) < 2) & (np.abs(found[:, 2:3] - truth[:, 2]) < 1)
    hits = hit.any(1)[inside[0]].sum() + hit.any(0)[inside[1]].sum()
    return float(hits / (inside[0].sum() + inside[1].sum()))


@pytest.mark.parametrize(
    ("radius_px", "band_px"), [(5.5, (4, 40)), (5.5, (2, 40)), (5.5, (4, 90)), (20.0, (2, 40))]
)
def test_a_wide_band_finds_what_a_narrow_one_finds(radius_px: float, band_px: tuple[float, float]) -> None:
    discs = packed(radius_px)
    (circles,) = detect(noisy(discs), Detector(band_px))
    assert f1_score(circles.table(), discs, margin_px=2.0) >= 0.98


def test_discs_of_two_sizes_are_found_in_a_wide_band() -> None:
    discs = packed(8.0, second_px=3.0)
    (circles,) = detect(noisy(discs, 0.1), Detector((2, 40)))
    assert f1_score(circles.table(), discs, margin_px=2.0) >= 0.98


@pytest.mark.parametrize("edge_gradient", [0.1, 0.2])
def test_small_circles_are_flecks_if_their_edges_are_weak(edge_gradient: float) -> None:
    radius_px = np.r_[np.linspace(5.4, 6.6, 100), np.full(80, 2.5)]
    edges = np.r_[np.full(100, 0.2), np.full(80, edge_gradient)]
    band = narrowed((2, 40), Readings(radius_px, edges, np.ones(180)))
    assert band is not None and (band[0] == 2) == (edge_gradient == 0.2)
    assert 6.6 <= band[1] <= 9


def test_mixed_sizes_or_few_discs_leave_the_band_as_it_is() -> None:
    radius_px, ones = np.linspace(4, 20, 100), np.ones(100)
    assert narrowed((2, 40), Readings(radius_px, ones, ones)) is None
    assert narrowed((2, 40), Readings(np.full(10, 6.0), ones[:10], ones[:10])) is None
    cut = np.full(100, 0.6)
    assert narrowed((2, 40), Readings(np.full(100, 6.0), ones, cut)) is None


@pytest.mark.parametrize("largest_px", [math.inf, math.nan])
def test_a_band_must_end(largest_px: float) -> None:
    with pytest.raises(UserError, match="finite"):
        Detector((4, largest_px))


@pytest.mark.parametrize("shape", [(64, 200), (200, 64)])
def test_the_largest_discs_must_fit_into_the_image(shape: tuple[int, int]) -> None:
    detect(torch.zeros(1, 1, *shape), Detector((4, 32)))
    with pytest.raises(UserError, match=r"radius_px: 4 1e\+09: must end at 32 or less"):
        detect(torch.zeros(1, 1, *shape), Detector((4, 1e9)))
