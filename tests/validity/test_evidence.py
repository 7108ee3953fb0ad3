"""What the rules read from an image, against plain calculations over all pixels and discs."""

import numpy as np
import pytest
import torch

from microgan.detection.circles import Circles
from microgan.validity.evidence import NEAR_PX, Evidence, gather_evidence, upper_median

# Inside, cut by each border, overlapping, and with its centre outside
DISCS = np.array(
    [[20, 14, 6.0], [21.3, 24.5, 5.2], [0.3, 40, 5], [47.4, 30, 4], [30, 0.2, 4.5], [28, 63.1, 6], [-2, 5, 5]]
)


def _evidence(discs: np.ndarray = DISCS) -> Evidence:
    shape = (48, 64)
    return Evidence(np.zeros(shape, np.float32), np.zeros(shape, bool), Circles.from_table(discs))


def test_edge_distance_is_that_to_the_nearest_edge() -> None:
    row, col = np.mgrid[:48, :64]
    distance = np.min([np.hypot(row - r, col - c) - radius for r, c, radius in DISCS], axis=0)
    expected = np.where(distance < NEAR_PX, distance, np.inf)
    np.testing.assert_allclose(_evidence().edge_distance_px, expected, atol=1e-4)


def test_distances_of_discs_from_one_another_and_from_the_border() -> None:
    evidence = _evidence()
    assert evidence.gap_px[0, 1] == pytest.approx(np.hypot(1.3, 10.5) - 11.2)
    assert np.isinf(np.diag(evidence.gap_px)).all()
    assert evidence.border_distance_px == pytest.approx([14.5, 21.8, 0.8, 0.1, 0.7, 0.4, -1.5])
    assert evidence.inside().tolist() == [True] * 6 + [False]
    assert evidence.between_pixel_centres.tolist() == [True] * 3 + [False, True, False, False]
    assert evidence.whole.tolist() == [0, 1]
    just_whole = np.array([[6, 30, 6.0], [30, 57, 6], [5.9, 30, 6], [30, 57.1, 6]])
    assert _evidence(just_whole).whole.tolist() == [0, 1]


def test_only_the_part_of_an_edge_without_a_close_neighbour_is_free() -> None:
    apart, close, touching = (
        _evidence(np.array([[24, 20, 6.0], [24, 20 + distance_px, 6]])).free_edge[0]
        for distance_px in (13.6, 13.0, 12.0)
    )
    assert apart.all()
    assert not close[6] and close[[0, 12, 18]].all()  # angle 6 of 24 points along columns
    assert not touching[6] and close.sum() > touching.sum() >= 18


def test_dark_discs_are_negated() -> None:
    images = torch.arange(8.0).view(2, 1, 2, 2)
    phase, circles = images[:, 0] > 3, [Circles.from_table(DISCS[:count]) for count in (1, 2)]
    for polarity, sign in (("bright", 1), ("dark", -1)):
        evidence = gather_evidence(images, phase, circles, polarity)  # type: ignore[arg-type]
        assert [len(window.circles) for window in evidence] == [1, 2]
        for index, window in enumerate(evidence):
            np.testing.assert_array_equal(window.grey, sign * images[index, 0].numpy())
            np.testing.assert_array_equal(window.phase, phase[index].numpy())


def test_the_upper_median_is_the_middle_value() -> None:
    assert upper_median(np.array([[3.0, 1], [2, 9]])) == 3
    assert upper_median(np.array([5.0, 1, 2])) == 2
