"""The physical loss on soft circles: how far images are from discs in a matrix that do not overlap.

Maxima of the accumulator (`microgan.hough`) say which circles there are and how sure they are; a few Newton
steps against the soft phase make them fit: in dense packings the rims of touching neighbours pull the votes
towards radii that are 0.8 px too small. Then circles and phase must explain each other, no area may be
claimed twice, and no disc may be longer than real ones are.

The gradient flows through the phase alone, not through the votes. Descent through votes draws dark rings into
sound discs, which ruin their votes or raise others; descent through the phase parts discs where they overlap.

The loss is the generator's alone. Added to the critic's output instead, for real and generated images, it
would change nothing in the end: a critic is free to learn its negative too, and at its optimum the sum is
what the critic would have been without it.

Coordinates are (row, col) in pixels, pixel centres at integers; inside, discs are bright.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from microgan.circles import Polarity
from microgan.config import Config
from microgan.hough import correlate, smoothed, unit_field

SMOOTHING, LEAST_SMOOTHING_PX, MOST_SMOOTHING_PX = 0.2, 0.7, 1.5  # of the grey, over the smallest radius
SEARCH_BELOW_PX, SEARCH_ABOVE_PX = 1.5, 1.0  # dense packing pulls the votes to smaller radii
BAND_SLACK_PX = 0.5  # the ends of the radius band are soft by this much
RADIUS_STEP_PX = 1.0  # of the accumulator's planes
RING_WIDTH_PX = 0.8
MARGIN = 0.6  # centres are sought so many radii outside of the image
LEAST_VOTE = 0.28  # weaker maxima are no circles
VOTE, VOTE_WIDTH = 0.38, 0.04  # confidence is the sigmoid of (vote - VOTE) / VOTE_WIDTH
MIN_SEPARATION = 0.55  # circles closer than this x (r1 + r2) are one disc read twice; below all overlaps
SUPPRESSIONS = 3  # rounds after which it is settled who suppresses whom, but for long chains
LEAST_BEND = 1e-4  # of a parabola through votes
VOTE_BIAS_PX = 0.4  # votes see radii too small by 0.2 px (a disc alone) to 0.8 px (dense packing)
PHASE_WIDTH = 0.14  # of the soft phase, over the contrast
RIM_PX = 0.42  # the soft phase crosses a rim like a sigmoid of this scale
CELL_RADII = 0.4  # phase and circles are compared in cells about this wide
NEWTON_STEPS, LONGEST_MOVE_PX = 2, 1.0
HOLD = 0.15  # share of a whole rim that holds a circle where it was
PROOF, PROOF_WIDTH = 0.6, 0.05  # share of a circle that must be phase and no other circle's
REACH_PX = 2.5  # around the rim, in which a circle looks for what it does not explain
NEAR_PX = 1.5  # beyond its rim, up to which phase belongs to a circle
BAND = 0.05  # quantile of real windows, and 1 - it, at which a share is as expected; of cells, a misfit
SURE = 0.5  # confidence of circles whose overlaps and ovals in real windows count
LEAST_USUAL = 1e-5  # of a term's mean on real windows
AT_ONCE = 32  # windows
CIRCLE_TERMS = ("overlap", "oval", "unexplained", "unfilled", "claimed_twice")


class PhysicsConfig(Config):
    """The physical loss in a training, and the weights of its terms; see `Terms`."""

    weight: float = Field(default=1.0, ge=0, description="its gradient over the adversarial one")
    images: int = Field(default=8, ge=1, description="of a batch, at most, that it judges")
    warm_up: int = Field(default=500, ge=0, description="steps before it begins, in which circles come to be")
    ramp: int = Field(default=500, ge=1, description="steps in which its weight then rises")
    overlap: float = Field(default=1.0, ge=0, description="pairs of circles closer than their radii allow")
    oval: float = Field(default=1.0, ge=0, description="discs that are longer than wide")
    unexplained: float = Field(default=1.0, ge=0, description="disc phase in no circle")
    unfilled: float = Field(default=1.0, ge=0, description="circle without disc phase")
    claimed_twice: float = Field(default=1.0, ge=0, description="area of two circles")
    phase_share: float = Field(default=3.0, ge=0, description="more or less disc phase than in real windows")
    mixed: float = Field(default=1.0, ge=0, description="more grey between the phases than in real windows")


class Terms(NamedTuple):
    """The physical loss of each image, tensors (B,); each term is a mean over the image, 0 at best.

    ``total`` is the sum of weight x log(1 + term / what is usual of it in real windows): of order 1 in real
    windows of any material, and its gradient stays of that order on images that are far off.

    ``overlap``: over pairs, c_i c_j (1 - d / (r_i + r_j) - tolerated)_+^2, over the number of discs that
    would fill the image (c: confidence, without a gradient); ``oval``: over discs, c_i (a_i / r_i -
    tolerated)_+^2, over the same number (a: how far the rim goes out along one axis and in along the other);
    ``unexplained``, ``unfilled``: squared misfit of phase and rendered circles above what is tolerated;
    ``claimed_twice``: squared area of two circles; ``phase_share``, ``mixed``: squared distance from what
    real windows have. Without the last two a blank image would be the best of all, and a slightly blurred
    one as good as a sharp one.
    """

    total: Tensor
    overlap: Tensor
    oval: Tensor
    unexplained: Tensor
    unfilled: Tensor
    claimed_twice: Tensor
    phase_share: Tensor
    mixed: Tensor


@dataclass(frozen=True)
class Material:
    """What the physical loss knows of a material, measured once on real windows by `Material.of`.

    Attributes
    ----------
    radius_px : (smallest, largest)
    polarity : {"bright", "dark"}
    phase_threshold : float
        Grey on [-1, 1] between the phases.
    contrast : float
        Mean grey of the brighter phase minus that of the darker one.
    phase_share : (least, largest)
        Of the soft disc phase in an image: 5 % and 95 % quantiles.
    mixed : (median, largest)
        Of the mean of 4 p (1 - p) of the soft phase p, 1 where the grey is halfway between the phases: 50 %
        and 95 % quantiles.
    tolerated : Mapping
        Term in `Terms` -> what costs nothing: of ``overlap`` the median of the largest in each window, of
        ``oval`` the 95 % quantile over discs, of ``unexplained`` and ``unfilled`` that over cells. Noise and
        irregular discs of real windows then cost little, and faults stand out.
    usual : Mapping
        Term in `Terms` -> its size in real windows.
    """

    radius_px: tuple[float, float]
    polarity: Polarity
    phase_threshold: float
    contrast: float
    phase_share: tuple[float, float] = (0.0, 1.0)
    mixed: tuple[float, float] = (1.0, 1.0)
    tolerated: Mapping[str, float] = field(default_factory=dict)
    usual: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, windows: Tensor, radius_px: tuple[float, float], polarity: Polarity, phase_threshold: float
    ) -> "Material":
        """Measure real windows (N, 1, H, W), a few hundred, of the size of the images that will be judged.

        Raises
        ------
        ValueError
            If ``phase_threshold`` does not part the grey values, or the radius band does not rise.
        """
        if not 1 <= radius_px[0] < radius_px[1]:
            raise ValueError(f"radius_px: {radius_px}: must be (min, max) with 1 <= min < max")
        smooth, _ = smoothed(windows.float(), _smoothing_px(radius_px), polarity)
        above = smooth > (-phase_threshold if polarity == "dark" else phase_threshold)
        if above.all() or not above.any():
            raise ValueError(f"phase_threshold: {phase_threshold}: must lie between the windows' grey values")
        contrast = float(smooth[above].mean() - smooth[~above].mean())
        material = cls(radius_px, polarity, phase_threshold, contrast)
        phase = material.soft_phase(smooth).flatten(1)
        share = _quantiles(phase.mean(1), BAND, 1 - BAND)
        mixed = _quantiles(_mixed(phase), 0.5, 1 - BAND)
        material = replace(material, phase_share=share, mixed=mixed)
        material = replace(material, tolerated=_tolerated(windows, material))
        return replace(material, usual=_usual(windows, material))

    def soft_phase(self, bright: Tensor) -> Tensor:
        """Share of the disc phase in each pixel of smoothed grey, negated already for dark discs."""
        threshold = -self.phase_threshold if self.polarity == "dark" else self.phase_threshold
        return torch.sigmoid((bright - threshold) / (PHASE_WIDTH * self.contrast))


@torch.no_grad()
def _tolerated(windows: Tensor, material: Material) -> dict[str, float]:
    overlaps, ovals, misfits = [], [], []
    for part in windows.split(AT_ONCE):
        found = _Found.of(part, material)
        sure = found.confidence > SURE
        pairs = (sure[:, :, None] & sure[:, None]).triu(1)
        overlaps.append(torch.where(pairs, _overlaps(found.circles), 0).flatten(1).amax(1))
        ovals.append(found.oval[sure])
        misfits.append(_softened(found.cells.phase - found.claimed.clamp_max(1)).flatten())
    oval = torch.cat(ovals).numpy()
    misfit = torch.cat(misfits).numpy()  # torch.quantile has a limit on how many values there are
    return {
        "overlap": max(float(torch.cat(overlaps).median()), 0.0),
        "oval": float(np.quantile(oval, 1 - BAND)) if len(oval) else 0.0,
        "unexplained": float(np.quantile(misfit.clip(min=0), 1 - BAND)),
        "unfilled": float(np.quantile((-misfit).clip(min=0), 1 - BAND)),
    }


@torch.no_grad()
def _usual(windows: Tensor, material: Material) -> dict[str, float]:
    """Mean of the terms of circles in real windows, and squared half-widths of what shares are expected."""
    terms = [_terms(part, material) for part in windows.split(AT_ONCE)]
    circles = {
        name: max(float(torch.cat([one[name] for one in terms]).mean()), LEAST_USUAL) for name in CIRCLE_TERMS
    }
    half_width = (material.phase_share[1] - material.phase_share[0]) / 2
    mixed = material.mixed[1] - material.mixed[0]
    shares = {"phase_share": half_width**2, "mixed": mixed**2}
    return circles | {name: max(square, LEAST_USUAL) for name, square in shares.items()}


def _quantiles(values: Tensor, low: float, high: float) -> tuple[float, float]:
    least, largest = torch.quantile(values, values.new_tensor([low, high])).tolist()
    return least, largest


def weight_at(step: int, config: PhysicsConfig) -> float:
    """Return the weight of the physical loss in a training step: 0, then rising, then full."""
    return config.weight * min(max((step - config.warm_up) / config.ramp, 0.0), 1.0)


def physical_loss(images: Tensor, material: Material, config: PhysicsConfig | None = None) -> Terms:
    """Judge each image by itself, differentiably, in float32 also under autocast.

    Parameters
    ----------
    images : Tensor of shape (B, 1, H, W), float, grey values in [-1, 1]
    material : Material
    config : PhysicsConfig, optional

    Returns
    -------
    Terms of tensors of shape (B,)

    Raises
    ------
    ValueError
        If ``images`` has another shape.

    Notes
    -----
    Which circles there are, where they start and how sure they are is decided without a gradient; where one
    appears or goes, the loss jumps.
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images: shape {tuple(images.shape)}: must be (B, 1, H, W)")
    config = config or PhysicsConfig()
    terms = _terms(images, material)
    costs = [getattr(config, name) * torch.log1p(term / material.usual[name]) for name, term in terms.items()]
    return Terms(total=torch.stack(costs).sum(0), **terms)


def _terms(images: Tensor, material: Material) -> dict[str, Tensor]:
    with torch.autocast(images.device.type, enabled=False):
        found = _Found.of(images if images.dtype == torch.float64 else images.float(), material)
        counts = _counts(found, (images.shape[2], images.shape[3]))
        discs = _discs_that_fill(found, counts)
        overlap = _overlap(found, counts, material.tolerated["overlap"]) / discs
        oval = _oval(found, counts, material.tolerated["oval"]) / discs
        phase = found.phase.flatten(1)
        shares = {
            "phase_share": _outside(phase.mean(1), *material.phase_share),
            "mixed": _outside(_mixed(phase), 0, material.mixed[0]),
        }
        return dict(zip(CIRCLE_TERMS, (overlap, oval, *_misfit(found, material)), strict=True)) | shares


def _smoothing_px(radius_px: tuple[float, float]) -> float:
    return min(max(SMOOTHING * radius_px[0], LEAST_SMOOTHING_PX), MOST_SMOOTHING_PX)


# Circles -----------------------------------------------------------------------------------------------


@torch.no_grad()
def voted_circles(unit: Tensor, radius_px: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Find circles where the accumulator has local maxima, to sub-pixels by parabolas.

    Parameters
    ----------
    unit : Tensor of shape (B, 2, H, W)
        Of `microgan.hough.unit_field`.

    Returns
    -------
    circles : Tensor of shape (B, K, 3)
        Row, col, radius; K is that of the fullest image.
    confidence : Tensor of shape (B, K)
        In [0, 1]; 0 for circles that are none.
    """
    radii = _radii(radius_px)
    margin_px = math.ceil(MARGIN * radius_px[1])
    votes, _ = correlate(unit, radii, RING_WIDTH_PX, margin_px)
    plane, row, col, real = _maxima(votes)
    offsets = [_vertex(*_along(votes, axis, plane, row, col)) for axis in (1, 2, 3)]
    circles = torch.stack(
        [
            row + offsets[1] - margin_px,
            col + offsets[2] - margin_px,
            radii[0] + RADIUS_STEP_PX * (plane + offsets[0]) + VOTE_BIAS_PX,
        ],
        2,
    )
    vote = _along(votes, 1, plane, row, col)[0]
    confidence = torch.sigmoid((vote - VOTE) / VOTE_WIDTH)
    return _packed(circles, confidence, _unsuppressed(circles, real))


def _radii(radius_px: tuple[float, float]) -> tuple[float, ...]:
    lowest = max(radius_px[0] - SEARCH_BELOW_PX, 1.2)
    count = math.ceil((radius_px[1] + SEARCH_ABOVE_PX - lowest) / RADIUS_STEP_PX) + 1
    return tuple(lowest + RADIUS_STEP_PX * k for k in range(count))


def _maxima(votes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Plane, row, col (B, K) of maxima over 3 x 3 places, the strongest first, and which are no padding."""
    best, plane = votes[:, 1:-1].max(1)  # each has neighbours along all axes
    around = functional.max_pool2d(best, 3, 1)
    inner = best[:, 1:-1, 1:-1]
    strength = torch.where((inner == around) & (inner > LEAST_VOTE), inner, 0).flatten(1)
    most = max(int((strength > 0).sum(1).max()), 1)
    strength, place = strength.topk(most, 1)
    width = around.shape[-1]
    row, col = place.div(width, rounding_mode="floor") + 1, place % width + 1
    return plane.flatten(1).gather(1, row * votes.shape[-1] + col) + 1, row, col, strength > 0


def _along(votes: Tensor, axis: int, plane: Tensor, row: Tensor, col: Tensor) -> tuple[Tensor, ...]:
    """Votes (B, K) at a place, one before and one after it along ``axis``."""
    _, _, height, width = votes.shape
    here, step = (plane * height + row) * width + col, (height * width, width, 1)[axis - 1]
    flat = votes.flatten(1)
    return flat.gather(1, here), flat.gather(1, here - step), flat.gather(1, here + step)


def _vertex(middle: Tensor, below: Tensor, above: Tensor) -> Tensor:
    bend = (2 * middle - below - above).clamp_min(LEAST_BEND)
    return (0.5 * (above - below) / bend).clamp(-0.6, 0.6)


def _unsuppressed(circles: Tensor, real: Tensor) -> Tensor:
    """Which circles (B, K), the strongest first, are no second reading of a stronger one that stays."""
    radius = circles[..., 2]
    close = _apart_px(circles) < MIN_SEPARATION * (radius[:, :, None] + radius[:, None])
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


def _apart_px(circles: Tensor) -> Tensor:
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
        held = torch.minimum(index, limit).clamp_min(-border) + border
        place = held[:, :, 0, :, None] * (width + 2 * border) + held[:, :, 1, None, :]
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


def _beyond(circles: Tensor, around: Around) -> tuple[Tensor, Tensor, Tensor]:
    """Signed distance to the rim (B, K, S, S), and the direction of it from the centre, by row and by col."""
    rows, cols = around.rows - circles[..., :1], around.cols - circles[..., 1:2]
    reach = (rows.square()[..., None] + cols.square()[..., None, :] + 1e-3).sqrt()
    return reach - circles[..., 2, None, None], rows[..., None] / reach, cols[..., None, :] / reach


def _rim_px(side_px: int) -> float:
    """Scale of the sigmoid of a rim in cells: its sd is pi / sqrt(3) times that, of a cell 1 / sqrt(12)."""
    return math.hypot(RIM_PX, side_px / (2 * math.pi))


def fitted(
    circles: Tensor, confidence: Tensor, cells: Cells, radius_px: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Move circles by Newton steps until the phase near each rim has the mass and the moments of theirs.

    The steps also find the second moments, of a disc that is longer than wide, but the circle stays one.

    Each cell belongs to the circle in which it lies deepest, softly, so that neighbours in contact do not
    take from each other; of discs cut by the image's border only what is seen counts. Circles whose area is
    neither phase nor their own lose their confidence.

    Parameters
    ----------
    circles : Tensor of shape (B, K, 3)
    confidence : Tensor of shape (B, K)

    Returns
    -------
    circles, confidence
    oval : Tensor of shape (B, K)
        How far the rim goes outwards along one axis, and inwards along the other, over the radius.
    """
    circles = _in_band(circles, radius_px)
    around, rim_px = Around.of(circles, cells, radius_px[1]), _rim_px(cells.side_px)
    seen, phase = around.gathered(torch.ones_like(cells.phase)), around.gathered(cells.phase)
    hold = HOLD * 2 * math.pi * torch.diag(circles.new_tensor([0.5, 0.5, 1.0, 0.5, 0.5]))
    weight = confidence
    for _ in range(NEWTON_STEPS):
        beyond, by_row, by_col = _beyond(circles, around)
        disc = torch.sigmoid(-beyond / rim_px) * seen
        depth = weight[..., None, None] * torch.exp(-beyond)
        own = depth / (around.gathered(around.summed(depth)) + math.exp(-NEAR_PX))
        claimed = around.gathered(around.summed(weight[..., None, None] * disc).clamp_max(1))
        near = own * torch.sigmoid(3 * (REACH_PX - beyond.abs())) * seen
        slope = near * disc * (1 - disc) / rim_px
        # How far the rim goes outwards for each unknown: row, col, radius, and the two of an oval
        along, across = by_row.square() - by_col.square(), 2 * by_row * by_col
        normal = torch.stack([by_row, by_col, torch.ones_like(by_row), along, across], 2).flatten(3)
        lacking = normal @ (near * (phase - claimed)).flatten(2)[..., None]
        response = (normal * slope.flatten(2)[:, :, None]) @ normal.transpose(2, 3)
        scale = circles[..., 2, None, None] / cells.side_px**2
        move = torch.linalg.solve(response + hold * scale, lacking)[..., 0]
        oval = ((move[..., 3:].square().sum(2) + 1e-6).sqrt() / circles[..., 2]).clamp_max(1)
        circles = _in_band(circles + LONGEST_MOVE_PX * torch.tanh(move[..., :3] / LONGEST_MOVE_PX), radius_px)
        proof = (own * disc * phase).sum((2, 3)) / disc.sum((2, 3)).clamp_min(1)
        weight = confidence * torch.sigmoid((proof - PROOF) / PROOF_WIDTH)
    return circles, weight, oval


def _in_band(circles: Tensor, radius_px: tuple[float, float]) -> Tensor:
    least, largest = radius_px[0] - BAND_SLACK_PX, radius_px[1] + BAND_SLACK_PX
    return torch.cat([circles[..., :2], circles[..., 2:].clamp(least, largest)], 2)


# Terms -------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What images hold: soft phase, whole and in cells, circles, how oval, how often they claim each cell."""

    phase: Tensor
    cells: Cells
    circles: Tensor
    confidence: Tensor
    oval: Tensor
    claimed: Tensor

    @classmethod
    def of(cls, images: Tensor, material: Material) -> "_Found":
        smooth, gradient = smoothed(images, _smoothing_px(material.radius_px), material.polarity)
        phase = material.soft_phase(smooth)
        cells = Cells.of(phase, material.radius_px)
        circles, confidence = voted_circles(unit_field(gradient), material.radius_px)
        circles, confidence, oval = fitted(circles, confidence, cells, material.radius_px)
        around = Around.of(circles, cells, material.radius_px[1])
        disc = torch.sigmoid(-_beyond(circles, around)[0] / _rim_px(cells.side_px))
        claimed = around.summed(confidence[..., None, None] * disc)
        return cls(phase, cells, circles, confidence, oval, claimed)


def _overlaps(circles: Tensor) -> Tensor:
    """Overlaps (B, K, K) of all pairs, 1 - d / (r1 + r2); negative for a gap."""
    radius = circles[..., 2]
    return 1 - _apart_px(circles) / (radius[:, :, None] + radius[:, None])


def _counts(found: _Found, shape: tuple[int, int]) -> Tensor:
    """How much each circle (B, K) counts: as sure as it is; centres near the border or outside count less."""
    centres, radius = found.circles[..., :2].detach(), found.circles[..., 2].detach()
    inset_px = torch.minimum(centres, centres.new_tensor(shape) - 1 - centres).amin(2)
    return found.confidence.detach() * (2 * inset_px / radius).clamp(0, 1)


def _overlap(found: _Found, counts: Tensor, tolerated: float) -> Tensor:
    """Sum over pairs of what they overlap beyond the tolerated, squared."""
    pairs = counts[:, :, None] * counts[:, None]
    excess = (_overlaps(found.circles) - tolerated).clamp_min(0)
    return (pairs * excess.square()).triu(1).sum((1, 2))


def _oval(found: _Found, counts: Tensor, tolerated: float) -> Tensor:
    """Sum over discs of what they are oval beyond the tolerated, squared."""
    excess = (found.oval - tolerated).clamp_min(0)
    return (counts * excess.square()).sum(1)


def _discs_that_fill(found: _Found, counts: Tensor) -> Tensor:
    """How many discs as large as those of each image would fill it; infinitely many where there are none."""
    square_px = (counts * found.circles[..., 2].detach().square()).sum(1) / counts.sum(1).clamp_min(1e-3)
    return found.phase[0].numel() / (math.pi * square_px)


def _misfit(found: _Found, material: Material) -> tuple[Tensor, Tensor, Tensor]:
    """Mean square of phase in no circle, of circle without phase, and of area that circles claim twice."""
    misfit = _softened(found.cells.phase - found.claimed.clamp_max(1))
    unexplained = (misfit - material.tolerated["unexplained"]).clamp_min(0)
    unfilled = (-misfit - material.tolerated["unfilled"]).clamp_min(0)
    twice = (found.claimed - 1).clamp_min(0)
    unexplained, unfilled, twice = (part.square().mean((1, 2)) for part in (unexplained, unfilled, twice))
    return unexplained, unfilled, twice


def _softened(maps: Tensor) -> Tensor:
    """Average maps (B, h, w) over 3 x 3 cells by 1 2 1: a rim a little too soft is bright beside dark."""
    maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = (maps[:, :-2] + 2 * maps[:, 1:-1] + maps[:, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def _mixed(phase: Tensor) -> Tensor:
    return (4 * phase * (1 - phase)).mean(1)


def _outside(share: Tensor, least: float, largest: float) -> Tensor:
    return ((least - share).clamp_min(0) + (share - largest).clamp_min(0)).square()
