"""From rough circle candidates to circles: exact fit of the rim, and the choice of what is really there.

Two ideas carry dense packings, where discs touch and rims run into each other:

- *Fit* (`fit_circles`): a circle is moved to where the mean inward gradient on its rim is greatest, after
  what the blurred rims of its neighbours add there has been subtracted. Without that, touching discs shrink.
- *Choice* (`select`): the strongest circle comes first and explains the rims inside it away. What is left
  must prove itself on the part of its rim that no accepted disc hides. So a real overlap stays (each disc
  shows a free arc), a second reading of one disc goes, and so does a circle in the gap between discs.

Circles are rows of a tensor ``(n, 3)``: row, col, radius, in pixels, pixel centres at integers; ``image``
``(n,)`` says to which image of the batch each belongs.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import ive
from torch import Tensor

ANGLES = 32  # sample points on a rim; neighbouring ones are about one blur width apart at radius 8
STEP_PX = 1.0  # of the finite differences along the radius
HIDDEN_DEPTH_PX = 1.0  # a rim point this deep in another disc can show no edge
MIN_VISIBLE = 0.25  # least share of a rim that must be in the image and not hidden
# Most of the rim in the image that other discs may hide: two discs at 0.6 (r1 + r2) hide at most 0.4 of each
# other, but what is seen between several discs is hidden more. The rest has to be that much clearer a rim.
MAX_HIDDEN, HIDDEN_PENALTY = 0.45, 1.5
LONGEST_MOVE_PX = 0.6  # of one Newton step
NEIGHBOUR_REACH_PX = 4.0  # beyond it a blurred rim adds nothing
LENGTH_POWER = 0.6  # of an arc's length in its strength: 1/2 if noise decided, 1 for length of rim explained
INTERIOR = np.array([(0.0, 1), (0.4, 8), (0.7, 16)])  # share of the radius, sample points there


class Rims(NamedTuple):
    """What `fit_circles` finds.

    ``circles`` (n, 3); ``edge`` (n,) mean inward gradient on the rim; ``oval_px`` (n, 2) how far the rim
    lies outside of the circle along a direction a, as the components of cos 2a and sin 2a;
    ``width_px`` (B,) blur of the rims of each image, as the standard deviation of a Gaussian edge.
    """

    circles: Tensor
    edge: Tensor
    oval_px: Tensor
    width_px: Tensor


def sample(maps: Tensor, image: Tensor, row: Tensor, col: Tensor) -> tuple[Tensor, Tensor]:
    """Read maps (B, C, H, W) between pixels, bilinearly, at ``row``, ``col`` (n, k).

    Returns
    -------
    values : Tensor of shape (C, n, k); outside of the image the nearest value
    inside : bool Tensor of shape (n, k)
    """
    height, width = maps.shape[-2:]
    inside = (row >= -0.5) & (row <= height - 0.5) & (col >= -0.5) & (col <= width - 0.5)
    row, col = row.clamp(0, height - 1.001), col.clamp(0, width - 1.001)
    top, left = row.floor(), col.floor()
    down, right = row - top, col - left
    index = (image[:, None] * height + top.long()) * width + left.long()
    flat = maps.transpose(0, 1).flatten(1)  # (C, B*H*W)
    upper = flat[:, index] * (1 - right) + flat[:, index + 1] * right
    lower = flat[:, index + width] * (1 - right) + flat[:, index + width + 1] * right
    return upper * (1 - down) + lower * down, inside


def inward(field: Tensor, image: Tensor, circles: Tensor) -> tuple[Tensor, Tensor]:
    """Read the component of a vector field (B, 2, H, W) towards the centre, on the rims.

    Returns
    -------
    values, inside : Tensors of shape (n, ANGLES)
    """
    sin, cos = _directions(field)
    row, col, radius = circles[:, :, None].unbind(1)
    values, inside = sample(field, image, row + radius * sin, col + radius * cos)
    return -(values[0] * sin + values[1] * cos), inside


def interior(grey: Tensor, image: Tensor, circles: Tensor, share: float) -> Tensor:
    """Return the ``share`` quantile of the grey values inside each circle (n,); a dark gap pulls it down."""
    radii = torch.from_numpy(np.repeat(INTERIOR[:, 0], INTERIOR[:, 1].astype(int))).to(grey)
    turn = np.concatenate([np.arange(n) / n for n in INTERIOR[:, 1]]) * 2 * math.pi
    angle = torch.from_numpy(turn).to(grey)
    row, col, radius = circles[:, :, None].unbind(1)
    values, inside = sample(
        grey, image, row + radius * radii * angle.sin(), col + radius * radii * angle.cos()
    )
    ordered = torch.where(inside, values[0], torch.inf).sort(dim=1).values
    rank = (inside.sum(1, keepdim=True) * share).long()
    return ordered.gather(1, rank)[:, 0]


def neighbours(image: Tensor, circles: Tensor, reach_px: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """List pairs of circles of one image whose rims are less than ``reach_px`` apart, in both orders.

    Returns
    -------
    pairs : int ndarray of shape (m, 2)
    distance : ndarray of shape (m,)
        Between the centres.
    """
    which, (row, col, radius) = image.cpu().numpy(), circles.cpu().numpy().astype(float).T
    if len(which) < 2:
        return np.zeros((0, 2), int), np.zeros(0)
    apart = 1e6  # lays the images side by side, so that one tree serves the batch
    points = np.column_stack([row + apart * which, col])
    pairs = cKDTree(points).query_pairs(2 * radius.max() + reach_px, output_type="ndarray")
    distance = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T)
    near = distance < radius[pairs].sum(axis=1) + reach_px
    pairs, distance = pairs[near], distance[near]
    return np.concatenate([pairs, pairs[:, ::-1]]), np.concatenate([distance, distance])


def fit_circles(
    gradient: Tensor,
    image: Tensor,
    circles: Tensor,
    *,
    rounds: int,
    width_px: Tensor,
    explain: bool = True,
    overlapping: bool = False,
) -> Rims:
    """Move circles to where the mean inward gradient on their rims is greatest, by Newton steps.

    Parameters
    ----------
    gradient : Tensor of shape (B, 2, H, W)
        Of the smoothed grey values.
    rounds : int
        Newton steps.
    width_px : Tensor of shape (B,)
        Width of the rims, to subtract what neighbours add.
    explain : bool
        Subtract it.
    overlapping : bool
        Leave out the rim inside other circles: right once all circles are real, else false ones feel free.
    """
    count = len(width_px)
    edge, curvature, oval_px = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for step in range(rounds):
        if explain and step % 2 == 0:  # neighbours hardly change from one step to the next
            pairs = torch.from_numpy(neighbours(image, circles, NEIGHBOUR_REACH_PX)[0]).to(image.device)
        profile, inside = _profile(gradient, image, circles)  # (n, 3, ANGLES)
        if overlapping:
            inside = inside & ~_covered(circles, pairs)
        if explain:
            if step == 0:
                edge = _arc_mean(profile, inside)[:, 1].clamp_min(0)
            profile = profile - _from_neighbours(profile, image, circles, edge, width_px, pairs)
        mean = _arc_mean(profile, inside)
        edge = mean[:, 1].clamp_min(0)
        curvature = (2 * mean[:, 1] - mean[:, 0] - mean[:, 2]) / STEP_PX**2
        curvature = curvature.clamp_min(0.1 * edge + 1e-6)  # where the rim is no maximum: a cautious step
        oval_px = _oval(profile, inside, curvature)
        circles = circles + _newton_step(profile, inside, curvature)
    return Rims(circles, edge, oval_px, _rim_width(curvature / edge.clamp_min(1e-6), image, width_px, count))


def halves(circles: Tensor, oval_px: Tensor) -> Tensor:
    """Two circles (2n, 3) along the long axis of each oval: the start of a fit of two merged discs.

    Only the axis is measured well; the rest is the geometry of two discs at 2/3 of the sum of their radii.
    """
    angle = 0.5 * torch.atan2(oval_px[:, 1], oval_px[:, 0])  # of the long axis, from the cols to the rows
    bulge_px = 0.25 * circles[:, 2:]
    shift = 2 * bulge_px * torch.stack([angle.sin(), angle.cos()], 1)
    radius = circles[:, 2:] - bulge_px
    return torch.cat([torch.cat([circles[:, :2] + side * shift, radius], 1) for side in (-1, 1)])


def true_radius(circles: Tensor, image: Tensor, width_px: Tensor) -> Tensor:
    """Undo the inward shift of a blurred rim: the steepest place of a blurred disc lies inside its rim.

    Returns circles (n, 3) with the radius of the sharp disc; ``width_px`` (B,) as in `Rims`.
    """
    fixed = circles.clone()
    for index in image.unique().tolist():
        mine = image == index
        radius, steepest = _steepest(round(float(width_px[index]), 2))
        fitted = circles[mine, 2].cpu().numpy()
        fixed[mine, 2] = torch.from_numpy(np.interp(fitted, steepest, radius)).to(circles)
    return fixed


def select(
    image: Tensor,
    circles: Tensor,
    values: Tensor,
    inside: Tensor,
    threshold: float,
    min_separation: float,
) -> tuple[Tensor, Tensor]:
    """Choose circles, the strongest first; each accepted one explains away the rims inside it.

    Parameters
    ----------
    values, inside : Tensors of shape (n, ANGLES)
        Of `inward`, on the normalised gradient.
    threshold : float
        Least mean of ``values`` on the visible arc.
    min_separation : float
        Circles closer than this share of the sum of their radii are two readings of one disc. Keep it
        below the overlap that must still be seen.

    Returns
    -------
    chosen : bool Tensor of shape (n,)
    score : Tensor of shape (n,)
        Mean of ``values`` on the visible arc, at most 1.
    """
    pairs, distance = neighbours(image, circles)
    radius, rim = circles[:, 2].cpu().numpy(), values.cpu().numpy()
    first, second = pairs.T
    same = distance < min_separation * (radius[first] + radius[second])
    hidden = _hidden(circles.cpu().numpy(), first, second)
    visible = inside.cpu().numpy().copy()
    in_image = visible.sum(1)
    score, strength = _arc_score(rim, visible, radius, in_image, threshold)
    undecided, chosen = strength > 0, np.zeros(len(radius), bool)
    while undecided.any():
        # Everything that beats all its undecided rivals is accepted at once, in all images.
        rivals = undecided[first] & undecided[second]
        strongest_rival = np.full(len(radius), -np.inf)
        np.maximum.at(strongest_rival, first[rivals], strength[second[rivals]])
        accepted = undecided & (strength >= strongest_rival)
        tied = rivals & accepted[first] & accepted[second] & (first > second)
        accepted[first[tied]] = False
        chosen |= accepted
        undecided &= ~accepted
        explained = accepted[second] & undecided[first]
        undecided[first[explained & same]] = False
        np.logical_and.at(visible, first[explained], ~hidden[explained])
        changed = np.unique(first[explained])
        score[changed], strength[changed] = _arc_score(
            rim[changed], visible[changed], radius[changed], in_image[changed], threshold
        )
        undecided &= strength > 0
    device = circles.device
    return torch.from_numpy(chosen).to(device), torch.from_numpy(score).to(circles)


def median_of_image(values: Tensor, image: Tensor, count: int) -> Tensor:
    """Median of ``values`` (n,) over the circles of each image, (count,); 0 where there is none."""
    medians = values.new_zeros(count)
    for index in image.unique().tolist():
        medians[index] = values[image == index].median()
    return medians


# Kernels -----------------------------------------------------------------------------------------------


def _directions(like: Tensor) -> tuple[Tensor, Tensor]:
    angle = torch.arange(ANGLES, dtype=like.dtype, device=like.device) * (2 * math.pi / ANGLES)
    return angle.sin(), angle.cos()


def _profile(gradient: Tensor, image: Tensor, circles: Tensor) -> tuple[Tensor, Tensor]:
    """Inward gradient one step inside, on and outside of each rim (n, 3, ANGLES); in the image?"""
    rims = torch.stack([circles, circles, circles], 1)
    rims[:, 0, 2] -= STEP_PX
    rims[:, 2, 2] += STEP_PX
    values, inside = inward(gradient, image.repeat_interleave(3), rims.flatten(0, 1))
    return values.view(-1, 3, ANGLES), inside.view(-1, 3, ANGLES).all(1)


def _arc_mean(profile: Tensor, inside: Tensor) -> Tensor:
    return (profile * inside[:, None]).sum(2) / inside.sum(1, keepdim=True).clamp_min(1)


def _from_neighbours(
    profile: Tensor, image: Tensor, circles: Tensor, edge: Tensor, width_px: Tensor, pairs: Tensor
) -> Tensor:
    """What the blurred rims of other discs (Gaussian across the rim) add to ``profile``, (n, 3, ANGLES)."""
    mine, other = pairs.T
    sin, cos = _directions(profile)
    offset = torch.tensor([-STEP_PX, 0.0, STEP_PX]).to(profile)
    radius = (circles[mine, 2, None] + offset)[:, :, None]  # (m, 3, 1)
    between = circles[mine, :2] - circles[other, :2]
    row = between[:, 0, None, None] + radius * sin
    col = between[:, 1, None, None] + radius * cos
    distance = (row * row + col * col).sqrt().clamp_min(0.1)
    across = (distance - circles[other, 2, None, None]) / width_px[image[other]][:, None, None]
    along = (row * sin + col * cos) / distance
    added = edge[other][:, None, None] * torch.exp(-0.5 * across**2) * along
    return torch.zeros_like(profile).index_add(0, mine, added)


def _newton_step(profile: Tensor, inside: Tensor, curvature: Tensor) -> Tensor:
    sin, cos = _directions(profile)
    moves = torch.stack([sin, cos, torch.ones_like(sin)], 1)  # rim displacement per row, col, radius
    slope = (profile[:, 2] - profile[:, 0]) / (2 * STEP_PX) * inside
    weight = inside.to(profile.dtype)
    normal = torch.einsum("na,ai,aj->nij", weight, moves, moves)
    # The ridge keeps a disc of which little is visible from running away.
    ridge = 0.1 * weight.sum(1).clamp_min(1)[:, None, None] * torch.eye(3).to(profile)
    step = torch.linalg.solve((normal + ridge) * curvature[:, None, None], slope @ moves)
    return step.clamp(-LONGEST_MOVE_PX, LONGEST_MOVE_PX)


def _oval(profile: Tensor, inside: Tensor, curvature: Tensor) -> Tensor:
    """Second harmonic of the rim's displacement, (n, 2)."""
    angle = torch.arange(ANGLES, dtype=profile.dtype, device=profile.device) * (4 * math.pi / ANGLES)
    slope = (profile[:, 2] - profile[:, 0]) / (2 * STEP_PX) * inside
    seen = inside.sum(1, keepdim=True).clamp_min(ANGLES * MIN_VISIBLE)
    return 2 * (slope @ torch.stack([angle.cos(), angle.sin()], 1)) / seen / curvature[:, None]


def _rim_width(sharpness: Tensor, image: Tensor, default: Tensor, count: int) -> Tensor:
    """Width of a Gaussian edge g from its finite second difference at the top, -g''/g = ``sharpness``."""
    ratio = (median_of_image(sharpness, image, count) * STEP_PX**2 / 2).clamp(0.02, 0.95)
    width = torch.sqrt(-(STEP_PX**2) / (2 * torch.log(1 - ratio)))
    empty = torch.bincount(image, minlength=count) == 0
    return torch.where(empty, default, width)


@lru_cache(maxsize=256)
def _steepest(width_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Radii of sharp discs, and where `fit_circles` sees the rim of each after a blur of ``width_px``.

    The gradient of a disc of radius r blurred by a Gaussian of width s is, at distance p from the centre,
    r/s^2 exp(-(p^2 + r^2) / 2 s^2) I1(p r / s^2); the fit balances it one step inside and outside.
    """
    radius = np.geomspace(0.5 * width_px + 0.5, 200, 400)
    shift = np.linspace(-1.5, 1.0, 251)
    place = np.maximum(radius[:, None] + shift * width_px, 0.0)

    def slope(at: np.ndarray) -> np.ndarray:
        at, r = np.abs(at), radius[:, None]
        return np.asarray(np.exp(-0.5 * ((at - r) / width_px) ** 2) * ive(1, at * r / width_px**2))

    balance = slope(place - STEP_PX) - slope(place + STEP_PX)  # falls, then rises through 0 at the rim
    rim = np.array([place[i, np.argmin(np.abs(b))] for i, b in enumerate(balance)])
    return radius, np.maximum.accumulate(rim)


def _covered(circles: Tensor, pairs: Tensor) -> Tensor:
    """Which rim points (n, ANGLES) lie in another circle, where overlapping discs show no rim."""
    table, (first, second) = circles.cpu().numpy(), pairs.cpu().numpy().T
    covered = np.zeros((len(table), ANGLES), bool)
    np.logical_or.at(covered, first, _hidden(table, first, second, depth_px=0.0))
    return torch.from_numpy(covered).to(circles.device)


def _hidden(
    circles: np.ndarray, first: np.ndarray, second: np.ndarray, depth_px: float = HIDDEN_DEPTH_PX
) -> np.ndarray:
    """Which rim points of ``first`` lie ``depth_px`` inside ``second``, (m, ANGLES)."""
    angle = np.arange(ANGLES) * (2 * math.pi / ANGLES)
    centre, radius = circles[first, :2] - circles[second, :2], circles[first, 2, None]
    row, col = centre[:, :1] + radius * np.sin(angle), centre[:, 1:] + radius * np.cos(angle)
    depth = np.maximum(circles[second, 2, None] - depth_px, 0)
    return np.asarray(row**2 + col**2 < depth**2)


def _arc_score(
    rim: np.ndarray, visible: np.ndarray, radius: np.ndarray, in_image: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean on the visible arc, and the strength by which circles are ranked: 0 or less means none.

    A long arc is better evidence than a short one at the same mean.
    """
    seen = visible.sum(1)
    score = np.minimum((rim * visible).sum(1) / np.maximum(seen, 1), 1.0)
    hidden = 1 - seen / np.maximum(in_image, 1)
    strength = (score - threshold - HIDDEN_PENALTY * hidden) * (radius * seen) ** LENGTH_POWER
    seen_enough = (seen >= MIN_VISIBLE * ANGLES) & (hidden <= MAX_HIDDEN)
    return score, np.where(seen_enough, strength, -1.0)
