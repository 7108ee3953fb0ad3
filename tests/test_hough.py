"""The detector against truth: drawn discs, simulated tomography, finite differences."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from microgan.circles import Circles, DetectorConfig
from microgan.detection import detect
from microgan.errors import UserError
from microgan.hough import accumulate
from microgan.pictures import circle_overlay
from microgan.planes import ingest
from microgan.scan import ScanConfig, SplitConfig
from microgan.simulate import SimulateConfig, simulate_scan

SIDE = 128


def _drawn(*discs: tuple[float, float, float], side: int = 64) -> Tensor:
    """Draw bright discs (row, col, radius) with rims one pixel wide, (1, 1, side, side) in [-0.6, 0.6]."""
    axis = torch.arange(float(side))
    rims = [r - ((axis[:, None] - row) ** 2 + (axis - col) ** 2).sqrt() for row, col, r in discs]
    return 1.2 * (torch.stack(rims).amax(0) + 0.5).clamp(0, 1)[None, None] - 0.6


def _matched(found: np.ndarray, truth: np.ndarray) -> list[tuple[int, int]]:
    """Pair found circles with true ones, at most half a radius apart."""
    distance = cdist(found[:, :2], truth[:, :2])
    rows, cols = linear_sum_assignment(distance)
    return [(i, j) for i, j in zip(rows, cols, strict=True) if distance[i, j] < truth[j, 2] / 2]


@pytest.mark.parametrize("radius", [4.0, 5.3, 6.0, 7.7])
@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_a_drawn_disc_is_recovered_to_a_tenth_of_a_pixel(radius: float, polarity: str) -> None:
    image = _drawn((30.3, 20.6, radius)) * (1 if polarity == "bright" else -1)
    (circles,) = detect(image, (3.5, 8.5), polarity)
    np.testing.assert_allclose(circles.table()[:, :3], [[30.3, 20.6, radius]], atol=0.15)
    assert circles.score[0] > 0.6


def test_a_disc_cut_by_the_border_is_found_with_its_centre_outside() -> None:
    (circles,) = detect(_drawn((-1.5, 30.0, 7.0), (40.0, 63.0, 6.0)), (5, 8))
    order = circles.row.argsort()
    truth = [[-1.5, 30.0, 7.0], [40.0, 63.0, 6.0]]
    np.testing.assert_allclose(circles.table()[order, :3], truth, atol=0.6)


@pytest.mark.parametrize("overlap", [0.1, 0.2, 0.3, 0.4])
def test_overlapping_discs_are_both_reported(overlap: float) -> None:
    apart = (1 - overlap) * 12
    (circles,) = detect(_drawn((32.0, 26.0, 6.0), (32.0, 26.0 + apart, 6.0)), (4, 8))
    assert len(circles) == 2
    assert np.ptp(circles.col) == pytest.approx(apart, abs=0.8)
    np.testing.assert_allclose(circles.radius, 6, atol=0.3)


def test_the_gap_between_touching_discs_is_no_disc() -> None:
    """Four discs around a dark gap whose rim is round too."""
    around = [(32 + r, 32 + c, 7.0) for r, c in ((-11, 0), (11, 0), (0, -11), (0, 11))]
    (circles,) = detect(_drawn(*around), (3, 8))
    assert len(circles) == 4
    assert np.hypot(circles.row - 32, circles.col - 32).min() > 9


@pytest.mark.parametrize("image", [torch.zeros(2, 1, 64, 64), torch.full((1, 1, 32, 40), 0.7)])
def test_blank_images_hold_nothing(image: Tensor) -> None:
    assert [len(circles) for circles in detect(image, (4, 8))] == [0] * len(image)


def test_a_batch_is_its_images_one_by_one() -> None:
    images = torch.cat([_drawn((20 + i, 30.0, 5.0 + i / 3), (45.0, 20 + 3 * i, 6.0)) for i in range(5)])
    for together, image in zip(detect(images, (4, 8)), images, strict=True):
        (alone,) = detect(image[None], (4, 8))
        np.testing.assert_allclose(np.sort(together.table(), 0), np.sort(alone.table(), 0), atol=1e-3)


def test_opencv_finds_easy_discs_too() -> None:
    truth = np.array([[20.0, 20.0, 6.0], [45.0, 40.0, 7.0]])
    (circles,) = detect(_drawn(*truth), (5, 8), config=DetectorConfig(backend="opencv"))
    found = circles.table()[circles.row.argsort(), :3]
    np.testing.assert_allclose(found, truth, atol=0.6)


def test_the_accumulator_is_near_one_at_the_centre_of_its_disc() -> None:
    votes = accumulate(_drawn((30.0, 22.0, 6.0)), torch.tensor([4.0, 5.7, 8.0]), smoothing_px=0.7)
    assert votes.shape == (1, 3, 64, 64)
    plane, row, col = np.unravel_index(int(votes.argmax()), (3, 64, 64))
    assert (plane, row, col) == (1, 30, 22)
    assert 0.6 < votes.max() <= 1


def test_the_derivative_is_that_of_finite_differences() -> None:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 16, 16))).requires_grad_(True)

    def votes(image: Tensor) -> Tensor:
        return accumulate(image, torch.tensor([3.0, 4.0], dtype=torch.float64))

    assert torch.autograd.gradcheck(votes, (image,), eps=1e-6, atol=1e-8, rtol=1e-6)


def test_the_derivative_moves_a_disc() -> None:
    """Brighter just outside of the rim means a larger disc: the gradient must say so, and not be zero."""
    image = _drawn((32.0, 32.0, 6.0)).requires_grad_(True)
    accumulate(image, torch.tensor([7.0]))[0, 0, 32, 32].backward()
    assert image.grad is not None
    axis = torch.arange(64.0) - 32
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    assert image.grad[0, 0][(distance - 6.7).abs() < 0.5].sum() > 0.01
    assert image.grad.isfinite().all()


def test_a_rolled_periodic_image_has_a_rolled_accumulator() -> None:
    image = torch.rand(1, 1, 32, 48, dtype=torch.float64)
    radii = torch.tensor([4.0, 6.0], dtype=torch.float64)
    rolled = accumulate(image.roll((5, 7), (-2, -1)), radii, periodic=True)
    torch.testing.assert_close(rolled, accumulate(image, radii, periodic=True).roll((5, 7), (-2, -1)))


def test_the_overlay_draws_each_circle(tmp_path: Path) -> None:
    (circles,) = detect(_drawn((20.0, 20.0, 6.0), (45.0, 40.0, 7.0)), (5, 8))
    circle_overlay(
        _drawn((20.0, 20.0, 6.0), (45.0, 40.0, 7.0))[0, 0].numpy(), circles, tmp_path / "overlay.png"
    )
    picture = np.asarray(Image.open(tmp_path / "overlay.png").convert("RGB")).astype(int)
    assert picture.shape == (256, 256, 3)
    row, col = np.nonzero(picture[..., 0] - picture[..., 2] > 60)
    apart = np.hypot((row + 0.5) / 4 - 20.5, (col + 0.5) / 4 - 20.5)
    assert np.abs(apart[apart < 12] - 6).max() < 1


def test_a_band_that_is_none_is_told() -> None:
    with pytest.raises(UserError, match=r"radius_px: .*must be"):
        detect(_drawn((30.0, 30.0, 6.0)), (8, 4))


# Simulated tomography ----------------------------------------------------------------------------------


def _simulated(folder: Path, fraction: float, radius_px: float) -> tuple[list[Circles], list[np.ndarray]]:
    """Detect in 128 x 128 windows of a simulated scan of signal-to-noise 4; return circles found and true."""
    # The ramp filter leaves the noise white; a smoothing one would hide some of it in the figure 4.
    config = SimulateConfig(
        planes=3,
        size_px=320,
        angles=400,
        radius_px=radius_px,
        volume_fraction=fraction,
        photons=25000,
        filter="ramp",
        seed=3,
    )
    made = simulate_scan(config, folder / "raw")
    assert 3.7 <= made["signal_to_noise"] <= 4.1
    split = SplitConfig(calibration=[1], held_out=[2])
    scan = ScanConfig(path="scan.tif", radius_px=(4, 9), split=split)
    planes = ingest("discs", folder / "raw", scan, 64, folder / "planes")
    truth = np.loadtxt(folder / "raw/circles.csv", delimiter=",", skiprows=1)
    corners = [(plane, 96, 96) for plane in range(3)]
    windows = np.stack([planes.grey[p, r : r + SIDE, c : c + SIDE].astype(np.float32) for p, r, c in corners])
    inside = [truth[truth[:, 0] == p, 1:] - (r, c, 0) for p, r, c in corners]
    return detect(torch.from_numpy(windows)[:, None], (4, 9)), inside


@pytest.mark.parametrize(("fraction", "radius_px"), [(0.5, 5.0), (0.5, 8.0), (0.6, 5.0), (0.6, 8.0)])
def test_simulated_discs_are_found(fraction: float, radius_px: float, tmp_path: Path) -> None:
    """Recall and precision of at least 0.98 for discs whose centre is inside."""
    hits = missed = false = 0
    errors: list[np.ndarray] = []
    for circles, truth in zip(*_simulated(tmp_path, fraction, radius_px), strict=True):
        found = circles.table()[:, :3]
        pairs = _matched(found, truth)
        inside = ((truth[:, :2] >= 0) & (truth[:, :2] <= SIDE - 1)).all(1)
        found_inside = ((found[:, :2] >= 0) & (found[:, :2] <= SIDE - 1)).all(1)
        hits += sum(inside[j] for _, j in pairs)
        missed += inside.sum() - sum(inside[j] for _, j in pairs)
        false += found_inside.sum() - sum(found_inside[i] for i, _ in pairs)
        errors += [found[i] - truth[j] for i, j in pairs if inside[j]]
    assert hits / (hits + missed) >= 0.98
    assert hits / (hits + false) >= 0.98
    error = np.array(errors)
    assert np.hypot(error[:, 0], error[:, 1]).mean() < 0.3
    assert abs(error[:, 2].mean()) < 0.2


def test_a_periodic_image_shows_each_disc_once_wherever_the_border_cuts_it() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[2.0, 3.0, 6.0], [30.0, 62.5, 5.5], [50.0, 20.0, 6.5]])
    axis = torch.arange(64.0)
    wrapped = [
        ((axis[:, None] - row + 32) % 64 - 32).square() + ((axis - col + 32) % 64 - 32).square()
        for row, col, _ in truth
    ]
    rims = torch.stack([r - square.sqrt() for square, (_, _, r) in zip(wrapped, truth, strict=True)])
    image = 1.2 * (rims.amax(0) + 0.5).clamp(0, 1)[None, None] - 0.6
    for shift in rng.integers(0, 64, (4, 2)).tolist():
        (circles,) = detect(image.roll(shift, (2, 3)), (4, 8), periodic=True)
        places = (truth[:, :2] + shift + 0.5) % 64 - 0.5
        apart = np.abs(circles.table()[:, None, :2] - places).max(2)
        assert circles.table().shape == (3, 4)
        np.testing.assert_allclose(apart.min(0), 0, atol=0.15)


def test_a_periodic_image_must_hold_its_discs() -> None:
    with pytest.raises(UserError, match="periodic"):
        detect(_drawn((16.0, 16.0, 6.0), side=32), (4, 9), periodic=True)
