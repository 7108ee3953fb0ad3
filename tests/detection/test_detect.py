"""Detection against truth: drawn discs, overlaps, borders, simulated tomography."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.detector import Counts, compare
from benchmarks.scenes import Condition, scenes, wide_band
from microgan.core.errors import UserError
from microgan.detection.detect import _once, detect
from microgan.detection.detector import Detector, DetectorConfig
from microgan.report.figures.windows import circle_overlay
from tests.helpers import drawn


@pytest.mark.parametrize("radius", [4.0, 5.3, 6.0, 7.7])
@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_a_drawn_disc_is_recovered_to_a_tenth_of_a_pixel(radius: float, polarity: str) -> None:
    image = drawn((30.3, 20.6, radius)) * (1 if polarity == "bright" else -1)
    (circles,) = detect(image, Detector((3.5, 8.5), polarity))
    np.testing.assert_allclose(circles.table()[:, :3], [[30.3, 20.6, radius]], atol=0.15)
    assert circles.score[0] > 0.6


def test_a_disc_cut_by_the_border_is_found_with_its_centre_outside() -> None:
    (circles,) = detect(drawn((-1.5, 30.0, 7.0), (40.0, 63.0, 6.0)), Detector((5, 8)))
    order = circles.row.argsort()
    truth = [[-1.5, 30.0, 7.0], [40.0, 63.0, 6.0]]
    np.testing.assert_allclose(circles.table()[order, :3], truth, atol=0.6)


@pytest.mark.parametrize("overlap", [0.1, 0.2, 0.3, 0.4])
def test_overlapping_discs_are_both_reported(overlap: float) -> None:
    apart = (1 - overlap) * 12
    (circles,) = detect(drawn((32.0, 26.0, 6.0), (32.0, 26.0 + apart, 6.0)), Detector((4, 8)))
    assert len(circles) == 2
    assert np.ptp(circles.col) == pytest.approx(apart, abs=0.8)
    np.testing.assert_allclose(circles.radius_px, 6, atol=0.3)


def test_the_gap_between_touching_discs_is_no_disc() -> None:
    """Four discs around a dark gap whose edge is round too."""
    around = [(32 + r, 32 + c, 7.0) for r, c in ((-11, 0), (11, 0), (0, -11), (0, 11))]
    (circles,) = detect(drawn(*around), Detector((3, 8)))
    assert len(circles) == 4
    assert np.hypot(circles.row - 32, circles.col - 32).min() > 9


@pytest.mark.parametrize("image", [torch.zeros(2, 1, 64, 64), torch.full((1, 1, 32, 40), 0.7)])
def test_blank_images_hold_nothing(image: Tensor) -> None:
    assert [len(circles) for circles in detect(image, Detector((4, 8)))] == [0] * len(image)


def test_a_batch_is_its_images_one_by_one() -> None:
    images = torch.cat([drawn((20 + i, 30.0, 5.0 + i / 3), (45.0, 20 + 3 * i, 6.0)) for i in range(5)])
    for together, image in zip(detect(images, Detector((4, 8))), images, strict=True):
        (alone,) = detect(image[None], Detector((4, 8)))
        np.testing.assert_allclose(np.sort(together.table(), 0), np.sort(alone.table(), 0), atol=1e-3)


def test_opencv_finds_easy_discs_too() -> None:
    truth = np.array([[20.0, 20.0, 6.0], [45.0, 40.0, 7.0]])
    (circles,) = detect(drawn(*truth), Detector((5, 8), settings=DetectorConfig(backend="opencv")))
    found = circles.table()[circles.row.argsort(), :3]
    np.testing.assert_allclose(found, truth, atol=0.6)


def test_the_overlay_draws_each_circle(tmp_path: Path) -> None:
    (circles,) = detect(drawn((20.0, 20.0, 6.0), (45.0, 40.0, 7.0)), Detector((5, 8)))
    circle_overlay(
        drawn((20.0, 20.0, 6.0), (45.0, 40.0, 7.0))[0, 0].numpy(), circles, tmp_path / "overlay.png"
    )
    picture = np.asarray(Image.open(tmp_path / "overlay.png").convert("RGB")).astype(int)
    assert picture.shape == (256, 256, 3)
    row, col = np.nonzero(picture[..., 0] - picture[..., 2] > 60)
    apart = np.hypot((row + 0.5) / 4 - 20.5, (col + 0.5) / 4 - 20.5)
    assert np.abs(apart[apart < 12] - 6).max() < 1


def test_a_band_that_is_none_is_told() -> None:
    with pytest.raises(UserError, match=r"radius_px: .*must be"):
        detect(drawn((30.0, 30.0, 6.0)), Detector((8, 4)))


def test_a_periodic_image_shows_each_disc_once_wherever_the_border_cuts_it() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[2.0, 3.0, 6.0], [30.0, 62.5, 5.5], [50.0, 20.0, 6.5]])
    axis = torch.arange(64.0)
    wrapped = [
        ((axis[:, None] - row + 32) % 64 - 32).square() + ((axis - col + 32) % 64 - 32).square()
        for row, col, _ in truth
    ]
    depth = torch.stack([r - square.sqrt() for square, (_, _, r) in zip(wrapped, truth, strict=True)])
    image = 1.2 * (depth.amax(0) + 0.5).clamp(0, 1)[None, None] - 0.6
    for shift in rng.integers(0, 64, (4, 2)).tolist():
        (circles,) = detect(image.roll(shift, (2, 3)), Detector((4, 8)), periodic=True)
        offset = circles.table()[:, None, :2] - truth[:, :2] - shift
        apart = np.abs(offset - 64 * np.rint(offset / 64)).max(2)  # -0.5 and 63.5 are one place
        assert circles.table().shape == (3, 4)
        np.testing.assert_allclose(apart.min(0), 0, atol=0.15)


@pytest.mark.parametrize(("backend", "places_px"), [("ring", 0.05), ("opencv", 0.6), ("watershed", 0.6)])
def test_a_disc_on_the_very_border_is_found_once(
    backend: Literal["ring", "opencv", "watershed"], places_px: float
) -> None:
    image = drawn((20.0, 20.0, 6.0), (50.0, 34.0, 6.5), side=72)
    for shift in (-21, -20):  # the first disc's centre comes to -1 and 0, then half a pixel to the border
        rolled = image.roll((shift, shift), (2, 3))
        (circles,) = detect(rolled, Detector((4, 8), settings=DetectorConfig(backend=backend)), periodic=True)
        truth = (np.array([[20.0, 20.0], [50.0, 34.0]]) + shift + 0.5) % 72 - 0.5
        found = circles.table()[np.argsort(circles.radius_px)]
        assert np.all((found[:, :2] >= -0.5) & (found[:, :2] < 71.5))
        offset = found[:, :2] - truth
        np.testing.assert_allclose(offset - 72 * np.rint(offset / 72), 0, atol=places_px)


def test_two_readings_of_a_disc_on_the_border_become_one() -> None:
    readings = np.array([[-0.52, 30.0, 6, 0.9], [63.51, 30.1, 6, 0.8], [10.0, 10.0, 5, 0.7]])
    once = _once(readings, (64, 64))
    np.testing.assert_allclose(once, [[63.48, 30, 6, 0.9], [10, 10, 5, 0.7]])
    both_inside = np.array([[-0.49, 30.0, 6, 0.9], [63.49, 30.1, 6, 0.8]])
    np.testing.assert_allclose(_once(both_inside, (64, 64)), both_inside[:1])


def test_a_rolled_image_has_rolled_circles() -> None:
    """By whole steps of the accumulator; radii rest on the mean width of edges, continued ones among them."""
    image = drawn((3.0, 30.0, 6.0), (30.0, 62.0, 5.5), (45.0, 20.0, 6.5), side=72).roll((-10, 25), (2, 3))
    (before,) = detect(image, Detector((4, 8)), periodic=True)
    for shift in (24, 36, 48):
        (after,) = detect(image.roll((shift, shift), (2, 3)), Detector((4, 8)), periodic=True)
        table, rolled = (circles.table()[np.argsort(circles.radius_px)] for circles in (before, after))
        places = (table[:, :2] + shift + 0.5) % 72 - 0.5
        np.testing.assert_allclose(rolled[:, :2], places, atol=1e-4)
        np.testing.assert_allclose(rolled[:, 2], table[:, 2], atol=0.01)


def test_a_periodic_image_must_hold_its_discs() -> None:
    with pytest.raises(UserError, match="periodic"):
        detect(drawn((16.0, 16.0, 6.0), side=32), Detector((4, 9)), periodic=True)


# Simulated tomography ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Detected discs of simulated scenes against the truth."""

    recall: float
    precision: float
    cut_recall: float
    centre_error_px: float
    radius_bias_px: float
    radius_error_px: float


def _measured(condition: Condition) -> Measured:
    """Detect in scenes of 128 x 128 px at signal-to-noise 4, with the radius band of the condition."""
    source = scenes(condition, scans=1, seed=5)
    images = torch.from_numpy(np.stack([scene.image for scene in source]))[:, None]
    circles = detect(images, Detector(condition.band_px, condition.polarity))
    total = Counts()
    for detected, scene in zip(circles, source, strict=True):
        total += compare(detected.table(), scene.truth, scene.image.shape)
    counts = total.measures()
    return Measured(
        counts["recall"],
        counts["precision"],
        counts["recall_cut"],
        counts["centre_error_px"],
        counts["radius_bias_px"],
        counts["radius_error_px"],
    )


@pytest.mark.parametrize(("fraction", "radius_px"), [(0.3, 5.0), (0.5, 8.0), (0.6, 5.0), (0.6, 8.0)])
def test_simulated_discs_are_found_where_they_are(fraction: float, radius_px: float) -> None:
    measured = _measured(Condition(fraction, radius_px))
    assert min(measured.recall, measured.precision) >= 0.995
    assert measured.cut_recall >= 0.97
    assert measured.centre_error_px < 0.28
    assert abs(measured.radius_bias_px) < 0.1
    assert measured.radius_error_px < 0.25


@pytest.mark.parametrize("condition", [wide_band(Condition()), Condition(polarity="dark")])
def test_wide_bands_and_dark_discs_are_no_different(condition: Condition) -> None:
    measured = _measured(condition)
    assert min(measured.recall, measured.precision) >= 0.98
    assert abs(measured.radius_bias_px) < 0.1
