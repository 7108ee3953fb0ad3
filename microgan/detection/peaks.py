"""Maxima of the accumulator to sub-pixels, for the ring detector and for the physical loss.

The accumulator (`microgan.detection.hough`) is an array (B, R, H, W): the evidence for a disc of each radius
at each place. `microgan.detection.ring` lists all maxima, also those at the ends of the axes, then fits and
selects. `microgan.gan.soft_circles` takes inner maxima only, a table (B, K) of the strongest, on coarser
radii. Where they differ, they pass arguments or say why beside a constant of their own.
"""

import math

import torch
from torch import Tensor

# Noise and touching neighbours pull the maximum to smaller radii: the search goes further down than up.
SEARCH_BELOW_PX, SEARCH_ABOVE_PX = 1.5, 1.0  # beyond the radius band
SMALLEST_RADIUS_PX = 1.2  # below it, a ring of pixels is no ring
MARGIN_RADII = (
    0.6  # centres are sought so far outside of the image; further out, too little of a ring is in it
)


def smallest_searched_px(radius_px: tuple[float, float]) -> float:
    """Return the smallest radius that is searched for discs of a radius band."""
    return max(radius_px[0] - SEARCH_BELOW_PX, SMALLEST_RADIUS_PX)


def search_margin_px(radius_px: tuple[float, float]) -> int:
    """Return how far outside of the image centres are sought."""
    return math.ceil(MARGIN_RADII * radius_px[1])


def greatest_around(maps: Tensor) -> Tensor:
    """Return the maximum over 3 x 3 pixels, (..., H - 2, W - 2).

    Shifted maxima are ten times as fast as `max_pool2d` on a CPU.
    """
    rows = torch.maximum(torch.maximum(maps[..., :-2, :], maps[..., 1:-1, :]), maps[..., 2:, :])
    return torch.maximum(torch.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def along(votes: Tensor, axis: int, *place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the votes at places, one step before and one after along ``axis``; at an end, those of the end.

    Parameters
    ----------
    votes : Tensor of shape (B, R, H, W)
    axis : int
    place : four int Tensors that broadcast: image, plane, row, col
    """
    before, after = list(place), list(place)
    before[axis] = (place[axis] - 1).clamp_min(0)
    after[axis] = (place[axis] + 1).clamp_max(votes.shape[axis] - 1)
    return votes[tuple(place)], votes[tuple(before)], votes[tuple(after)]


def vertex(middle: Tensor, below: Tensor, above: Tensor, least_bend: float, most: float) -> Tensor:
    """Return where a parabola through three votes, one step apart, is greatest, in steps from the middle one.

    Parameters
    ----------
    middle, below, above : Tensor
        As of `along`.
    least_bend : float
        Votes. A parabola that bends less, or upwards, counts as bent by this much: larger values keep flat
        maxima at their pixel.
    most : float
        Steps. The vertex is at most this far away.
    """
    bend = (2 * middle - below - above).clamp_min(least_bend)
    return (0.5 * (above - below) / bend).clamp(-most, most)
