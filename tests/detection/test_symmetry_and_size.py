"""What must not matter to a detector: how the image is turned, how large it is, black around it."""

from typing import Literal

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from microgan.detection.detect import detect
from microgan.detection.detector import Detector, DetectorConfig
from tests.detection.test_wide_band import SIDE_PX, noisy, packed

BAND_PX = (4.0, 8.0)
Backend = Literal["ring", "opencv", "watershed"]


def same(first: np.ndarray, second: np.ndarray) -> float:
    """Fraction of the circles of both tables that the other has within 1 px."""
    near = cdist(first[:, :2], second[:, :2]) < 1
    return float((near.any(1).sum() + near.any(0).sum()) / (len(first) + len(second)))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_a_turned_image_has_turned_circles(turns: int, transposed: bool) -> None:
    image = noisy(packed(5.5), 0.5)[:, :, :130, :141]
    row, col = np.mgrid[:130, :141].astype(float)
    turned, row, col = torch.rot90(image, turns, (2, 3)), np.rot90(row, turns), np.rot90(col, turns)
    if transposed:
        turned, row, col = turned.transpose(2, 3), row.T, col.T
    (circles,) = detect(image, Detector(BAND_PX))
    (of_turned,) = detect(turned, Detector(BAND_PX))
    # The place of a pixel in the image is linear in its place in the turned one.
    steps = np.array([[at[1, 0] - at[0, 0], at[0, 1] - at[0, 0]] for at in (row, col)])
    places = of_turned.table()[:, :2] @ steps.T + [row[0, 0], col[0, 0]]
    assert len(circles) > 60
    assert same(circles.table(), places) >= 0.99


@pytest.mark.parametrize("backend", ["ring", "watershed"])
def test_black_around_a_slice_changes_nothing(backend: Backend) -> None:
    image = noisy(packed(5.5), 0.15) * 0.6 + 0.2  # as in the public scans, where black is far from the matrix
    axis = torch.arange(SIDE_PX) - (SIDE_PX - 1) / 2
    away_px = (axis[:, None].square() + axis.square()).sqrt()
    slice_ = torch.where(away_px < SIDE_PX / 2 - 2, image, -1.0)
    detector = Detector(BAND_PX, settings=DetectorConfig(backend=backend))
    tables = [detect(grey, detector)[0].table() for grey in (image, slice_)]
    middle = (SIDE_PX - 1) / 2
    inner = [table[np.hypot(*(table[:, :2] - middle).T) < SIDE_PX / 2 - 14] for table in tables]
    assert len(inner[0]) > 80
    assert same(*inner) >= 0.98


def test_opencv_finds_discs_in_noise() -> None:
    discs = packed(5.5)
    detector = Detector(BAND_PX, settings=DetectorConfig(backend="opencv"))
    for side_px in (64, SIDE_PX):
        (circles,) = detect(noisy(discs)[:, :, :side_px, :side_px], detector)
        inside = discs[((discs[:, :2] > 8) & (discs[:, :2] < side_px - 9)).all(1)]
        found = cdist(inside[:, :2], circles.table()[:, :2]).min(1) < 2
        assert found.mean() > 0.7
