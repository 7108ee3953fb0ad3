"""Parts of a scan are independent: ranges of planes with a gap, or bands of rows."""

import numpy as np
import pytest
from scipy import ndimage

from microgan.inspection.split import planes_apart, propose_split

WHOLE = np.ones((400, 200), bool)


def _drifting(count: int, length: float) -> np.ndarray:
    """Planes whose grey values are alike over ``length`` planes."""
    noise = np.random.default_rng(0).normal(size=(count, 60, 60))
    return ndimage.gaussian_filter(noise, (length, 2, 2)).astype(np.float32)


def test_distance_of_independent_planes_is_measured() -> None:
    planes = _drifting(64, 3.0)
    apart = planes_apart(64, lambda index: planes[index], np.ones((60, 60), bool))
    # The correlation of such planes falls as exp(-d^2 / (4 * 3^2)): below 0.3 from 6.6 planes on.
    assert apart is not None and 5 <= apart <= 9
    assert planes_apart(1, lambda index: planes[index], np.ones((60, 60), bool)) is None


def test_a_thick_stack_is_split_by_planes_with_a_gap() -> None:
    planes = _drifting(64, 3.0)
    mask = np.ones((60, 60), bool)
    proposal = propose_split(64, lambda index: planes[index], mask, 48, 8)
    assert proposal.split is not None and proposal.planes_apart is not None
    parts = proposal.split.planes(64)
    train = set(range(64)) - parts["held_out"] - parts["calibration"] - parts["unused"]
    for one, two in ((train, parts["calibration"]), (parts["calibration"], parts["held_out"])):
        assert min(two) - max(one) >= proposal.planes_apart
    assert len(train) > len(parts["held_out"]) >= 5


def test_one_plane_is_split_by_rows_with_the_largest_disc_between() -> None:
    proposal = propose_split(1, lambda index: WHOLE, WHOLE, 64, 22.5)
    assert proposal.split is not None
    assert (proposal.split.held_out, proposal.split.margin_px) == (0.2, 45)
    low = propose_split(1, lambda index: WHOLE, WHOLE[:300], 64, 8)
    assert low.split is not None and low.split.held_out == 0.25  # 0.2 of 300 rows hold no window


def test_two_planes_and_planes_that_are_alike() -> None:
    planes = np.random.default_rng(0).normal(size=(2, 400, 200)).astype(np.float32)
    two = propose_split(2, lambda index: planes[index], WHOLE, 64, 8)
    assert two.split is not None and two.split.held_out == [1] and two.split.calibration == 0.2
    alike = propose_split(9, lambda index: planes[0], WHOLE, 64, 8)
    assert alike.split is not None and alike.split.held_out == 0.2
    assert "show the same discs" in alike.reason


@pytest.mark.parametrize("rows", [50, 120])
def test_a_plane_that_is_too_small_is_told(rows: int) -> None:
    proposal = propose_split(1, lambda index: WHOLE, WHOLE[:rows], 64, 8)
    assert proposal.split is None and "take smaller windows" in proposal.reason
