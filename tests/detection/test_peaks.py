"""Maxima of the accumulator against parabolas and a plain search."""

import pytest
import torch
from torch.nn import functional

from microgan.detection.peaks import along, greatest_around, search_margin_px, smallest_searched_px, vertex


@pytest.mark.parametrize("top", [-0.45, 0.0, 0.3])
def test_the_vertex_of_a_parabola_is_found(top: float) -> None:
    below, middle, above = (1 - 0.2 * (torch.tensor(x, dtype=torch.float64) - top) ** 2 for x in (-1, 0, 1))
    assert vertex(middle, below, above, 1e-9, 0.6) == pytest.approx(top)


def test_flat_or_rising_votes_move_the_vertex_no_further_than_allowed() -> None:
    middle, below, above = (
        torch.tensor([1.0, 1.0, 1.0]),
        torch.tensor([1.0, 0.5, 1.0]),
        torch.tensor([1.0, 2, 1]),
    )
    assert vertex(middle, below, above, 1e-9, 0.5).tolist() == [0.0, 0.5, 0.0]
    noise = torch.tensor([1e-6])
    assert vertex(torch.ones(1), torch.ones(1), torch.ones(1) + noise, 1e-4, 0.5) < 0.01


def test_votes_beside_a_place_are_those_of_the_axis_and_end_with_it() -> None:
    votes = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    place = (torch.tensor([1, 0]), torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 1]))
    steps = {1: 20, 2: 5, 3: 1}
    for axis, step in steps.items():
        middle, before, after = along(votes, axis, *place)
        assert middle.tolist() == [74, 36]
        first, last = place[axis] == 0, place[axis] == votes.shape[axis] - 1
        assert before.tolist() == torch.where(first, middle, middle - step).tolist()
        assert after.tolist() == torch.where(last, middle, middle + step).tolist()


def test_the_greatest_around_is_that_of_3_by_3_pixels() -> None:
    maps = torch.rand(2, 7, 9)
    assert torch.equal(greatest_around(maps), functional.max_pool2d(maps, 3, 1))


def test_the_search_goes_beyond_the_band() -> None:
    assert smallest_searched_px((4, 8)) == 2.5
    assert smallest_searched_px((2, 8)) == 1.2
    assert search_margin_px((4, 8)) == 5
