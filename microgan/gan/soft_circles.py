"""Circles that are fitted to images differentiably, for the physical loss."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from microgan.detection.detector import BAND_SLACK_PX
from microgan.detection.hough import correlate
from microgan.detection.peaks import (
    SEARCH_ABOVE_PX,
    along,
    greatest_around,
    search_margin_px,
    smallest_searched_px,
    vertex,
)

RADIUS_STEP_PX = 1.0  # of the accumulator's planes; coarser than in detection, to save time in each step
RING_WIDTH_PX = 0.8  # narrower than in detection: there are no candidates for a selection to discard
LEAST_VOTE = 0.28  # weaker maxima are no circles
VOTE, VOTE_WIDTH = 0.38, 0.04  # confidence is the sigmoid of (vote - VOTE) / VOTE_WIDTH
MIN_SEPARATION = 0.55  # circles closer than this x (r1 + r2) are one disc read twice; below all overlaps
SUPPRESSIONS = 3  # rounds of suppression of close circles: enough, but for long chains of them
LEAST_BEND, MOST_STEPS = 1e-4, 0.6  # see `peaks.vertex`; rounding noise of flat votes must not move a circle
VOTE_BIAS_PX = 0.4  # radii by votes are too small by 0.2 px (a disc alone) to 0.8 px (dense packing)
EDGE_PX = 0.42  # the soft phase crosses an edge like a sigmoid of this scale
CELL_RADII = 0.4  # phase and circles are compared in cells about this wide
NEWTON_STEPS, LONGEST_MOVE_PX = 2, 1.0
HOLD = 0.15  # a step is as short as if this fraction of a whole edge held the circle where it was
OWN_PHASE, OWN_PHASE_WIDTH = 0.6, 0.05  # least fraction of a circle that is phase and no other circle's
REACH_PX = 2.5  # misfit farther than this from the edge of a circle does not move it
NEAR_PX = 1.5  # phase up to here beyond its edge belongs to a circle


# Circles -----------------------------------------------------------------------------------------------


@torch.no_grad()
def voted_circles(unit: Tensor, radius_px: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Find circles where the accumulator has local maxima, to sub-pixels by parabolas.

    Parameters
    ----------
    unit : Tensor of shape (B, 2, H, W)
        Of `microgan.detection.hough.unit_gradient`.

    Returns
    -------
    circles : Tensor of shape (B, K, 3)
        Row, col, radius; K is that of the fullest image.
    confidence : Tensor of shape (B, K)
        In [0, 1]; 0 for circles that are none.
    """
    radii = _radii(radius_px)
    margin_px = search_margin_px(radius_px)
    votes, _ = correlate(unit, radii, RING_WIDTH_PX, margin_px)
    plane, row, col, real = _maxima(votes)
    image = torch.arange(len(votes), device=votes.device)[:, None]
    triples = [along(votes, axis, image, plane, row, col) for axis in (1, 2, 3)]
    offsets = [vertex(*triple, LEAST_BEND, MOST_STEPS) for triple in triples]
    circles = torch.stack(
        [
            row + offsets[1] - margin_px,
            col + offsets[2] - margin_px,
            radii[0] + RADIUS_STEP_PX * (plane + offsets[0]) + VOTE_BIAS_PX,
        ],
        2,
    )
    vote = triples[0][0]
    confidence = torch.sigmoid((vote - VOTE) / VOTE_WIDTH)
    return _packed(circles, confidence, _unsuppressed(circles, real))


def _radii(radius_px: tuple[float, float]) -> tuple[float, ...]:
    lowest = smallest_searched_px(radius_px)
    count = math.ceil((radius_px[1] + SEARCH_ABOVE_PX - lowest) / RADIUS_STEP_PX) + 1
    return tuple(lowest + RADIUS_STEP_PX * k for k in range(count))


def _maxima(votes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Plane, row, col (B, K) of maxima over 3 x 3 places, the strongest first, and which are no padding."""
    best, plane = votes[:, 1:-1].max(1)  # each has neighbours along all axes
    around = greatest_around(best)
    inner = best[:, 1:-1, 1:-1]
    strength = torch.where((inner == around) & (inner > LEAST_VOTE), inner, 0).flatten(1)
    most = max(int((strength > 0).sum(1).max()), 1)
    strength, place = strength.topk(most, 1)
    width = around.shape[-1]
    row, col = place.div(width, rounding_mode="floor") + 1, place % width + 1
    return plane.flatten(1).gather(1, row * votes.shape[-1] + col) + 1, row, col, strength > 0


def _unsuppressed(circles: Tensor, real: Tensor) -> Tensor:
    """Which circles (B, K), the strongest first, are no second reading of a stronger one that stays."""
    radius = circles[..., 2]
    close = centre_distances_px(circles) < MIN_SEPARATION * (radius[:, :, None] + radius[:, None])
    close = close.tril(-1)  # [i, j]: j is the stronger one
    stays = real
    for _ in range(SUPPRESSIONS):
        stays = real & ~(close & stays[:, None]).any(2)
    return stays


def _packed(circles: Tensor, confidence: Tensor, stays: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out circles (B, K) that do not stay, as far as the fullest image allows."""
    most = max(int(stays.sum(1).max()), 1)
    first = stays.long().argsort(dim=1, descending=True, stable=True)[:, :most]
    return circles.gather(1, first[..., None].expand(-1, -1, 3)), (confidence * stays).gather(1, first)


def centre_distances_px(circles: Tensor) -> Tensor:
    """Distances (B, K, K) between centres; never 0, where the root has no derivative."""
    row, col, _ = circles.unbind(2)
    square = (row[:, :, None] - row[:, None]).square() + (col[:, :, None] - col[:, None]).square()
    return (square + 1e-6).sqrt()


# Phase -------------------------------------------------------------------------------------------------


class Cells(NamedTuple):
    """The soft phase in square cells ``side_px`` wide, (B, h, w)."""

    phase: Tensor
    side_px: int

    @classmethod
    def of(cls, phase: Tensor, radius_px: tuple[float, float]) -> "Cells":
        side_px = max(1, math.floor(CELL_RADII * radius_px[0] + 0.5))
        return cls(functional.avg_pool2d(phase, side_px, ceil_mode=True)[:, 0], side_px)


class Around(NamedTuple):
    """Cells around each circle: ``rows``, ``cols`` (B, K, S) in px, their ``place`` (B, K S S) on a canvas.

    The canvas is the image with a border of ``border`` cells.
    """

    rows: Tensor
    cols: Tensor
    place: Tensor
    border: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, circles: Tensor, cells: Cells, largest_px: float) -> "Around":
        height, width = cells.phase.shape[1:]
        side, centre = cells.side_px, (cells.side_px - 1) / 2
        reach = math.ceil((largest_px + BAND_SLACK_PX + REACH_PX + LONGEST_MOVE_PX) / side)
        near = ((circles[..., :2].detach() - centre) / side).round().long()
        index = near[..., None] + torch.arange(-reach, reach + 1, device=circles.device)  # (B, K, 2, S)
        border = 2 * reach + 1
        limit = torch.tensor([[height], [width]], device=circles.device) + border - 1
        on_canvas = torch.minimum(index, limit).clamp_min(-border) + border
        place = on_canvas[:, :, 0, :, None] * (width + 2 * border) + on_canvas[:, :, 1, None, :]
        at = index.to(circles.dtype) * side + centre
        return cls(at[:, :, 0], at[:, :, 1], place.flatten(1), border, (height, width))

    def gathered(self, maps: Tensor) -> Tensor:
        """Read maps (B, h, w) around each circle (B, K, S, S); 0 outside of the image."""
        canvas = functional.pad(maps, (self.border,) * 4).flatten(1)
        side = self.rows.shape[2]
        return canvas.gather(1, self.place).view(*self.rows.shape[:2], side, side)

    def summed(self, values: Tensor) -> Tensor:
        """Add up what circles (B, K, S, S) have in each cell: maps (B, h, w)."""
        (height, width), border = self.shape, self.border
        canvas = values.new_zeros(len(values), (height + 2 * border) * (width + 2 * border))
        canvas = canvas.scatter_add(1, self.place, values.flatten(1))
        canvas = canvas.view(len(values), height + 2 * border, width + 2 * border)
        return canvas[:, border : border + height, border : border + width]


def signed_edge_distance_px(circles: Tensor, around: Around) -> tuple[Tensor, Tensor, Tensor]:
    """Signed distance to the edge (B, K, S, S), and the direction from the centre, by row and by col."""
    rows, cols = around.rows - circles[..., :1], around.cols - circles[..., 1:2]
    reach = (rows.square()[..., None] + cols.square()[..., None, :] + 1e-3).sqrt()
    return reach - circles[..., 2, None, None], rows[..., None] / reach, cols[..., None, :] / reach


def edge_width_px(side_px: int) -> float:
    """Scale of the sigmoid of an edge in cells: its sd is pi / sqrt(3) times that, of a cell 1 / sqrt(12)."""
    return math.hypot(EDGE_PX, side_px / (2 * math.pi))


def fit(
    circles: Tensor, confidence: Tensor, cells: Cells, radius_px: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Move circles by Newton steps until the phase near each edge has the mass and the moments of theirs.

    The steps also find the second moments, of a disc that is longer than wide, but the circle stays one.

    Each cell belongs to the circle in which it lies deepest, softly, so that neighbours in contact do not
    take from each other. Of discs cut by the image's border only the part inside counts. The confidence is
    multiplied by a sigmoid of the fraction of the circle that is phase of its own, which has a gradient.

    Parameters
    ----------
    circles : Tensor of shape (B, K, 3)
    confidence : Tensor of shape (B, K)

    Returns
    -------
    circles, confidence
    non_circularity : Tensor of shape (B, K)
        How far the edge goes outwards along one axis, and inwards along the other, over the radius.
    """
    circles = _in_band(circles, radius_px)
    around, edge_px = Around.of(circles, cells, radius_px[1]), edge_width_px(cells.side_px)
    inside, phase = around.gathered(torch.ones_like(cells.phase)), around.gathered(cells.phase)
    hold = HOLD * 2 * math.pi * torch.diag(circles.new_tensor([0.5, 0.5, 1.0, 0.5, 0.5]))
    weight = confidence
    for _ in range(NEWTON_STEPS):
        beyond, by_row, by_col = signed_edge_distance_px(circles, around)
        disc = torch.sigmoid(-beyond / edge_px) * inside
        depth = weight[..., None, None] * torch.exp(-beyond)
        own = depth / (around.gathered(around.summed(depth)) + math.exp(-NEAR_PX))
        covered = around.gathered(around.summed(weight[..., None, None] * disc).clamp_max(1))
        near = own * torch.sigmoid(3 * (REACH_PX - beyond.abs())) * inside
        slope = near * disc * (1 - disc) / edge_px
        # How far the edge goes outwards for each unknown: row, col, radius, and the two of an ellipse
        along, across = by_row.square() - by_col.square(), 2 * by_row * by_col
        normal = torch.stack([by_row, by_col, torch.ones_like(by_row), along, across], 2).flatten(3)
        missing = normal @ (near * (phase - covered)).flatten(2)[..., None]
        response = (normal * slope.flatten(2)[:, :, None]) @ normal.transpose(2, 3)
        scale = circles[..., 2, None, None] / cells.side_px**2
        move = torch.linalg.solve(response + hold * scale, missing)[..., 0]
        non_circularity = ((move[..., 3:].square().sum(2) + 1e-6).sqrt() / circles[..., 2]).clamp_max(1)
        circles = _in_band(circles + LONGEST_MOVE_PX * torch.tanh(move[..., :3] / LONGEST_MOVE_PX), radius_px)
        own_phase = (own * disc * phase).sum((2, 3)) / disc.sum((2, 3)).clamp_min(1)
        weight = confidence * torch.sigmoid((own_phase - OWN_PHASE) / OWN_PHASE_WIDTH)
    return circles, weight, non_circularity


def _in_band(circles: Tensor, radius_px: tuple[float, float]) -> Tensor:
    least, largest = radius_px[0] - BAND_SLACK_PX, radius_px[1] + BAND_SLACK_PX
    return torch.cat([circles[..., :2], circles[..., 2:].clamp(least, largest)], 2)
