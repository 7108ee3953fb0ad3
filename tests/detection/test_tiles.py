"""A large image is detected in tiles, which nobody sees in the result."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from microgan.core.domain import Domain
from microgan.detection import tiles
from microgan.detection.circles import Circles
from microgan.detection.detect import detect
from microgan.detection.detector import Detector
from microgan.validity.large_images import overlapping
from tests.detection.test_symmetry_and_size import same
from tests.detection.test_wide_band import noisy, packed


@pytest.mark.parametrize("periodic", [False, True])
def test_tiles_find_what_the_whole_image_shows(periodic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noisy(packed(5.5), 0.3)
    detector = Detector((4.0, 8.0))
    (whole,) = detect(image, detector, periodic=periodic)
    monkeypatch.setattr(tiles, "TILE_PX", 80)
    assert tiles.needs_tiles((image.shape[-2], image.shape[-1]))
    (in_tiles,) = detect(image, detector, periodic=periodic)
    # The drawn image does not continue across its border: half discs there are read either way.
    assert same(whole.table(), in_tiles.table()) >= (0.98 if periodic else 0.99)
    assert not len(cKDTree(in_tiles.table()[:, :2]).query_pairs(3.0))  # none on a seam is there twice
    assert (np.diff(in_tiles.score) <= 0).all()


def test_every_pixel_belongs_to_one_tile() -> None:
    shape = (5000, 3000)
    covered = np.zeros(shape, np.uint8)
    for row0, row1, col0, col1 in tiles.tiles(shape):
        covered[row0:row1, col0:col1] += 1
        assert max(row1 - row0, col1 - col0) <= tiles.TILE_PX
    assert (covered == 1).all()


def test_pairs_of_a_large_image_need_little_memory() -> None:
    """All pairs of a hundred thousand discs would fill 80 GB."""
    count = 100_000
    rng = np.random.default_rng(0)
    side = 4096
    circles = Circles(*rng.uniform(0, side - 1, (2, count)), np.full(count, 5.0), np.ones(count))
    pairs = overlapping(circles, {"overlap": (None, 0.9)}, Domain((side, side), periodic=True))
    assert pairs.shape[1] == 2 and (pairs[:, 0] < pairs[:, 1]).all()
    expected = count * (count - 1) / 2 * np.pi * 1.0**2 / side**2  # centres less than 0.1 x 10 px apart
    assert len(pairs) == pytest.approx(expected, rel=0.2)
