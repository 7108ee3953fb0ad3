"""The watershed back end against drawn truth."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from microgan.detection.detect import detect
from microgan.detection.detector import Detector, DetectorConfig
from microgan.detection.watershed import watershed_circles


def _drawn(*discs: tuple[float, float, float], noise_sd: float = 0.0, side: int = 64) -> np.ndarray:
    """Draw bright discs (row, col, radius) with edges blurred by 0.8 px, in [-0.6, 0.6]."""
    row, col = np.mgrid[:side, :side]
    depth = np.max([radius - np.hypot(row - r, col - c) for r, c, radius in discs], axis=0)
    noise = noise_sd * np.random.default_rng(0).standard_normal((side, side))
    return gaussian_filter(1.2 * np.clip(depth + 0.5, 0, 1) - 0.6, 0.75) + noise


def _packed(gap_px: float = 2.5) -> list[tuple[float, float, float]]:
    """Hexagonal rows of discs of radius 4.5 to 6, ``gap_px`` apart, some cut by the border of 64 x 64 px."""
    discs, step_px = [], 10.5 + gap_px
    for i in range(7):
        for j in range(7):
            radius = 5.25 + 0.75 * (-1) ** j * (i % 2)
            discs.append((i * step_px * np.sqrt(3) / 2 - 1, (j + (i % 2) / 2) * step_px - 1, radius))
    return discs


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_a_dense_packing_is_found_disc_by_disc(polarity: str) -> None:
    truth = np.array(_packed())
    image = _drawn(*_packed(), noise_sd=0.15) * (1 if polarity == "bright" else -1)
    found = watershed_circles(image, (4, 8), polarity)  # type: ignore[arg-type]
    inside = truth[((truth[:, :2] > 0) & (truth[:, :2] < 63)).all(1)]
    distance = cdist(inside[:, :2], found[:, :2])
    assert distance.min(1).max() < 2
    assert np.median(distance.min(1)) < 0.3
    error = found[distance.argmin(1), 2] - inside[:, 2]
    # Blurred, such narrow gaps have no grey of their own: the radius comes out small, but evenly so.
    assert -0.45 < error.mean() < 0.1
    assert error.std() < 0.2
    # Nothing is found where nothing is.
    assert cdist(truth[:, :2], found[:, :2]).min(0).max() < 2
    assert ((found[:, 3] > 0.6) & (found[:, 3] <= 1)).all()


@pytest.mark.parametrize("radius", [4.0, 5.3, 12.4])
def test_a_disc_is_recovered_to_a_fraction_of_a_pixel(radius: float) -> None:
    found = watershed_circles(_drawn((30.3, 25.6, radius)), (3, 20))
    np.testing.assert_allclose(found[:, :3], [[30.3, 25.6, radius]], atol=0.2)


def test_a_disc_cut_by_the_border_is_found_with_its_centre_outside() -> None:
    found = watershed_circles(_drawn((-1.5, 30.0, 7.0), (40.0, 63.0, 6.0)), (5, 8))
    truth = [[-1.5, 30.0, 7.0], [40.0, 63.0, 6.0]]
    np.testing.assert_allclose(found[found[:, 0].argsort(), :3], truth, atol=0.5)


@pytest.mark.parametrize("overlap", [0.1, 0.2, 0.3])
def test_overlapping_discs_are_two(overlap: float) -> None:
    apart = (1 - overlap) * 12
    found = watershed_circles(_drawn((32.0, 26.0, 6.0), (32.0, 26.0 + apart, 6.0)), (4, 8))
    assert len(found) == 2
    assert np.ptp(found[:, 1]) == pytest.approx(apart, abs=0.6)
    np.testing.assert_allclose(found[:, 2], 6, atol=0.3)


@pytest.mark.parametrize("grey", [0.0, 0.7])
def test_a_blank_image_holds_nothing(grey: float) -> None:
    assert watershed_circles(np.full((40, 32), grey), (4, 8)).shape == (0, 4)


def test_it_is_a_back_end_of_the_detector() -> None:
    image = _drawn((20, 20, 6), (45, 40, 7))
    batch = torch.from_numpy(np.stack([image, image.T])[:, None]).float()
    for config in (DetectorConfig(backend="watershed"), DetectorConfig(backend="watershed", threshold=0.99)):
        both = detect(batch, Detector((5, 8), settings=config))
        expected = [watershed_circles(x.numpy(), (5, 8), threshold=config.threshold) for x in batch[:, 0]]
        for circles, table in zip(both, expected, strict=True):
            np.testing.assert_array_equal(circles.table(), table)
