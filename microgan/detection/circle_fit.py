"""From rough circle candidates to circles: exact fit of the edge.

A circle is moved to where the mean inward gradient on its edge is greatest, after what the blurred edges of
its neighbours add there has been subtracted (`fit_circles`). Without that, touching discs shrink. Which of
the circles are there is decided by `microgan.detection.circle_selection`.

Circles are rows of a tensor ``(n, 3)``: row, col, radius, in pixels, pixel centres at integers; ``image``
``(n,)`` says to which image of the batch each belongs. The edge of a circle is read at `ANGLES` points.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import ive
from torch import Tensor
from torch.nn import functional

# Where the edge is read ---------------------------------------------------------------------------------

MIN_VISIBLE = 0.25  # least fraction of an edge that must be in the image and not hidden
ANGLES = 24  # points on an edge; neighbouring ones are about one blur width apart at radius 8
# Radius, px, above which an edge is read at more points, in steps of this radius; and at most so many times.
SPARSE_RADIUS_PX, MOST_TIMES = 10.0, 8
STEP_PX = 1.0  # of the finite differences along the radius
# Points inside a circle at which its grey is read: (fraction of the radius, how many).
INTERIOR = np.array([(0.0, 1), (0.4, 8), (0.7, 16)])

# The fit ------------------------------------------------------------------------------------------------

# Distance, px, between two edges beyond which neither adds to the other: about three blur widths. Larger:
# as good, but slower. Smaller: discs that nearly touch are fitted too small.
NEIGHBOUR_REACH_PX = 4.0
# Factor on Newton steps, without unit; above 1, as the ridge shortens them. Larger: steps overshoot. Smaller:
# the rounds do not suffice to arrive.
RELAX = 1.4
# Longest move, px, of a Newton step in row, col and radius. Larger: circles jump to the edge of a neighbour.
# Smaller: the rounds do not suffice to arrive.
LONGEST_MOVE_PX = 0.6
# Standard deviation, px, of the edge's place as one edge point measures it. Divided by the spread of radii,
# then squared, it says how many edge points the median radius counts for in a disc that is cut. Larger: cut
# discs get the median radius. Smaller: the radius of short arcs runs away.
EDGE_NOISE_PX = 1.0
# Edge points that the median radius counts for at most, however alike the radii are. Larger: the same.
MOST_PRIOR_POINTS = 10.0
# Overlap, px, from which two discs have a notch between them in place of their edges. Larger: discs that
# overlap are fitted on points in the blurred notch. Smaller: discs that touch lose good points.
NOTCH_FROM_PX = 0.4
# Half width, px, of that notch: edge points so close outside of the other circle are left out too. Larger:
# few points are left to fit. Smaller: points in the blurred notch move the circles.
NOTCH_PX = 1.5


class EdgeFit(NamedTuple):
    """What `fit_circles` returns.

    ``circles`` (n, 3); ``edge_gradient`` (n,) mean inward gradient on the edge; ``elongation_px`` (n, 2) how
    far the edge lies outside of the circle along a direction a, as the components of cos 2a and sin 2a;
    ``edge_width_px`` (B,) blur of the edges of each image, as the standard deviation of a Gaussian edge.
    """

    circles: Tensor
    edge_gradient: Tensor
    elongation_px: Tensor
    edge_width_px: Tensor


class Maps(NamedTuple):
    """Maps (B, C, H, W) laid out for reading between pixels: one tall image (1, C, B*(H+2), W).

    Each image has a line more at its top and bottom, so that its neighbour is never read.
    """

    tall: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, maps: Tensor) -> "Maps":
        padded = functional.pad(maps, (0, 0, 1, 1), mode="replicate")
        return cls(padded.transpose(0, 1).flatten(1, 2)[None], (maps.shape[-2], maps.shape[-1]))

    def read(self, image: Tensor, circles: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Read bilinearly at ``centre + offset``; outside of the image the nearest value.

        Parameters
        ----------
        circles : Tensor of shape (n, 3)
        offsets : Tensor of shape (n, k, 2)
            (col, row), in pixels.

        Returns
        -------
        values : Tensor of shape (C, n, k)
        inside : bool Tensor of shape (n, k)
            Whether the place is in the image.
        """
        height, width = self.shape
        lines = self.tall.shape[-2]
        scale = self.tall.new_tensor([2 / width, 2 / lines])
        top = image.to(circles.dtype) * (height + 2) + 1
        low = torch.stack([torch.full_like(top, -1.0), 2 * top / lines - 1], 1)[:, None]
        high = torch.stack([torch.full_like(top, 1.0), 2 * (top + height) / lines - 1], 1)[:, None]
        # grid_sample: -1 and 1 are the outer edges of the first and last pixel
        centre = low + (circles[:, [1, 0]] + 0.5)[:, None] * scale
        place = torch.addcmul(centre, offsets, scale)
        clamped = torch.minimum(torch.maximum(place, low), high)
        same = clamped == place
        inside = same[..., 0] & same[..., 1]
        values = functional.grid_sample(self.tall, clamped[None], padding_mode="border", align_corners=False)
        return values[0], inside


def inward(
    vectors: Maps, image: Tensor, circles: Tensor, steps_px: Sequence[float] = (0.0,)
) -> tuple[Tensor, Tensor]:
    """Read the component of vectors (row, col) towards the centre, on the edges.

    Parameters
    ----------
    steps_px : sequence of length s
        Distances from the edge, outwards, at which it is read.

    Returns
    -------
    values, inside : Tensors of shape (n, s, ANGLES)
    """
    shape = (len(circles), len(steps_px), ANGLES)
    values, inside = circles.new_zeros(shape), torch.zeros(shape, dtype=torch.bool, device=circles.device)
    for times, rows in _by_size(circles):
        values[rows], inside[rows] = _inward(vectors, image[rows], circles[rows], steps_px, times)
    return values, inside


def _inward(
    vectors: Maps, image: Tensor, circles: Tensor, steps_px: Sequence[float], times: int
) -> tuple[Tensor, Tensor]:
    """`inward`, each value the mean over ``times`` points on its part of the edge."""
    sin, cos = directions(circles, times)
    radius = circles[:, 2, None] + circles.new_tensor(steps_px)  # (n, s)
    offsets = (radius[..., None, None] * torch.stack([cos, sin], 1)).flatten(1, 2)
    values, inside = vectors.read(image, circles, offsets)
    along_row, along_col = values.view(2, *radius.shape, -1)
    values, inside = -(along_row * sin + along_col * cos), inside.view(*radius.shape, -1)
    if times == 1:
        return values, inside
    values, inside = values.unflatten(2, (ANGLES, times)), inside.unflatten(2, (ANGLES, times))
    count = inside.sum(3)
    return (values * inside).sum(3) / count.clamp_min(1), count > times / 2


def _by_size(circles: Tensor) -> list[tuple[int, Tensor | slice]]:
    """List how many times as dense larger circles are read, and their rows.

    Between points too far apart, a false circle across several discs would pass by chance.
    """
    times = (circles[:, 2] / SPARSE_RADIUS_PX).ceil().clamp(1, MOST_TIMES).long()
    sizes = times.unique().tolist()
    if len(sizes) == 1:
        return [(sizes[0], slice(None))]
    return [(size, torch.nonzero(times == size)[:, 0]) for size in sizes]


def interior(grey: Maps, image: Tensor, circles: Tensor, fraction: float) -> Tensor:
    """Return the quantile ``fraction`` of the grey values inside each circle (n,); a dark gap lowers it."""
    quantile = circles.new_zeros(len(circles))
    for times, rows in _by_size(circles):
        pattern = torch.from_numpy(_interior_pattern(times)).to(circles)
        values, inside = grey.read(image[rows], circles[rows], circles[rows, 2, None, None] * pattern)
        ordered = torch.where(inside, values[0], torch.inf).sort(dim=1).values
        rank = (inside.sum(1, keepdim=True) * fraction).long()
        quantile[rows] = ordered.gather(1, rank)[:, 0]
    return quantile


@lru_cache
def _interior_pattern(times: int) -> np.ndarray:
    """Points (k, 2) in a circle of radius 1, by col and row; for larger circles on more and longer rings."""
    if times == 1:
        rings = INTERIOR
    else:
        steps = 2 * times
        rings = np.array([(0.7 * k / steps, max(8 * k, 1)) for k in range(steps + 1)])
    turn = np.concatenate([np.arange(n) / n for n in rings[:, 1]]) * 2 * math.pi
    fraction_of_radius = np.repeat(rings[:, 0], rings[:, 1].astype(int))[:, None]
    return np.asarray(fraction_of_radius * np.stack([np.cos(turn), np.sin(turn)], 1))


def neighbours(image: Tensor, circles: Tensor, reach_px: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """List pairs of circles of one image whose edges are less than ``reach_px`` apart, in both orders.

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
    pairs = _candidate_pairs(points, radius, reach_px)
    distance = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T)
    near = distance < radius[pairs].sum(axis=1) + reach_px
    pairs, distance = pairs[near], distance[near]
    return np.concatenate([pairs, pairs[:, ::-1]]), np.concatenate([distance, distance])


def _candidate_pairs(points: np.ndarray, radius: np.ndarray, reach_px: float) -> np.ndarray:
    """List the pairs (m, 2) that may be neighbours: few large circles must not make all others candidates."""
    usual = radius <= 2 * np.median(radius)
    sizes = [rows for rows in (np.flatnonzero(usual), np.flatnonzero(~usual)) if len(rows)]
    trees = [cKDTree(points[rows]) for rows in sizes]
    pairs = [
        rows[tree.query_pairs(2 * radius[rows].max() + reach_px, output_type="ndarray")]
        for rows, tree in zip(sizes, trees, strict=True)
    ]
    if len(sizes) == 2:
        most = sum(radius[rows].max() for rows in sizes) + reach_px
        between = trees[0].sparse_distance_matrix(trees[1], most, output_type="ndarray")
        pairs.append(np.column_stack([sizes[0][between["i"]], sizes[1][between["j"]]]))
    return np.concatenate(pairs)


def fit_circles(
    gradient: Maps,
    image: Tensor,
    circles: Tensor,
    *,
    rounds: int,
    width_px: Tensor,
    subtract_neighbours: bool = True,
    overlapping: bool = False,
) -> EdgeFit:
    """Move circles to where the mean inward gradient on their edges is greatest, by Newton steps.

    Parameters
    ----------
    gradient : Maps of shape (B, 2, H, W)
        Of the smoothed grey values.
    rounds : int
        Newton steps.
    width_px : Tensor of shape (B,)
        Width of the edges, for what neighbours add.
    subtract_neighbours : bool
        Subtract what the blurred edges of neighbours add to the gradient.
    overlapping : bool
        Leave out edge points inside other circles. For circles that are all real: a false circle inside a
        disc would be left with points where nothing contradicts it.
    """
    count = len(width_px)
    steepness, curvature, elongation_px = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for step in range(rounds):
        if subtract_neighbours and step % 3 == 0:  # neighbours hardly change from one step to the next
            pairs = torch.from_numpy(neighbours(image, circles, NEIGHBOUR_REACH_PX)[0]).to(image.device)
            if overlapping:
                free = ~_covered(circles, pairs)
        profile, inside = inward(gradient, image, circles, (-STEP_PX, 0.0, STEP_PX))  # (n, 3, ANGLES)
        inside = inside[:, 0] & inside[:, 1] & inside[:, 2]
        if overlapping:
            inside = inside & free
        if subtract_neighbours:
            if step == 0:
                steepness = _arc_mean(profile, inside)[:, 1].clamp_min(0)
            profile = profile - _from_neighbours(profile, image, circles, steepness, width_px, pairs)
        mean = _arc_mean(profile, inside)
        steepness = mean[:, 1].clamp_min(0)
        curvature = (2 * mean[:, 1] - mean[:, 0] - mean[:, 2]) / STEP_PX**2
        curvature = curvature.clamp_min(0.1 * steepness + 1e-6)  # no maximum at the edge: a cautious step
        if step == rounds - 1:
            elongation_px = _elongation(profile, inside, curvature)
        if step == 0:
            prior = _radius_prior(circles, inside, image, count)
        circles = circles + _newton_step(profile, inside, curvature, circles[:, 2], prior)
    width_px = _edge_width(curvature / steepness.clamp_min(1e-6), image, width_px, count)
    return EdgeFit(circles, steepness, elongation_px, width_px)


def halves(circles: Tensor, elongation_px: Tensor) -> Tensor:
    """Two circles (2n, 3) along the long axis of each elongated one: the start of a fit of two merged discs.

    Only the axis is measured well; the rest is the geometry of two discs at 2/3 of the sum of their radii.
    """
    angle = 0.5 * torch.atan2(
        elongation_px[:, 1], elongation_px[:, 0]
    )  # of the long axis, from the cols to the rows
    bulge_px = 0.25 * circles[:, 2:]
    shift = 2 * bulge_px * torch.stack([angle.sin(), angle.cos()], 1)
    radius = circles[:, 2:] - bulge_px
    return torch.cat([torch.cat([circles[:, :2] + side * shift, radius], 1) for side in (-1, 1)])


def true_radius(circles: Tensor, image: Tensor, width_px: Tensor) -> Tensor:
    """Undo the inward shift of a blurred edge: a blurred disc is steepest inside the edge of the sharp one.

    Returns circles (n, 3) with the radius of the sharp disc; ``width_px`` (B,) is `EdgeFit.edge_width_px`.
    """
    fixed = circles.clone()
    for index in image.unique().tolist():
        mine = image == index
        radius, steepest = _steepest(round(float(width_px[index]), 2))
        fitted = circles[mine, 2].cpu().numpy()
        fixed[mine, 2] = torch.from_numpy(np.interp(fitted, steepest, radius)).to(circles)
    return fixed


def median_of_image(values: Tensor, image: Tensor, count: int) -> Tensor:
    """Median of ``values`` (n,) over the circles of each image, (count,); 0 where there is none."""
    order = values.argsort()
    order = order[image[order].argsort(stable=True)]  # by image, then by value
    number = torch.bincount(image, minlength=count)
    middle = number.cumsum(0) - number + (number - 1).clamp_min(0) // 2
    medians = values.new_zeros(count)
    medians[number > 0] = values[order[middle[number > 0]]]
    return medians


def usual_radius(
    circles: Tensor, image: Tensor, count: int, whole: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Median radius in the image of each circle, and its robust standard deviation, (n,) each."""
    whole = torch.ones_like(image, dtype=torch.bool) if whole is None else whole
    radius = circles[:, 2]
    usual = median_of_image(radius[whole], image[whole], count)[image]
    spread = 1.5 * median_of_image((radius - usual).abs()[whole], image[whole], count)[image]
    return usual, spread


# Kernels -----------------------------------------------------------------------------------------------


def directions(like: Tensor, times: int = 1) -> tuple[Tensor, Tensor]:
    """Sine (to the rows) and cosine (to the cols) of the ANGLES directions of an edge.

    Or of ``times`` as many: the first ``times`` lie evenly about the first of the ANGLES, and so on.
    """
    step = torch.arange(times * ANGLES, dtype=like.dtype, device=like.device) - (times - 1) / 2
    angle = step * (2 * math.pi / ANGLES / times)
    return angle.sin(), angle.cos()


def _arc_mean(profile: Tensor, inside: Tensor) -> Tensor:
    return (profile * inside[:, None]).sum(2) / inside.sum(1, keepdim=True).clamp_min(1)


def _from_neighbours(
    profile: Tensor, image: Tensor, circles: Tensor, steepness: Tensor, width_px: Tensor, pairs: Tensor
) -> Tensor:
    """What the blurred edges of neighbours (Gaussian across the edge) add to ``profile``, (n, 3, ANGLES)."""
    own, neighbour = pairs.T
    offset = torch.tensor([-STEP_PX, 0.0, STEP_PX]).to(profile)
    radius = (circles[own, 2, None] + offset)[:, :, None]  # (m, 3, 1)
    between = circles[own, :2] - circles[neighbour, :2]
    # From the neighbour's centre, the place on the edge is between + radius * direction.
    outwards = (between @ torch.stack(directions(profile)))[:, None] + radius  # (m, 3, ANGLES)
    square = 2 * radius * outwards + (between.square().sum(1)[:, None, None] - radius.square())
    distance = square.clamp_min_(0.01).sqrt_()
    across = (distance - circles[neighbour, 2, None, None]) / width_px[image[neighbour], None, None]
    bell = across.square_().mul_(-0.5).clamp_min_(-30.0).exp_()  # no subnormal numbers: they are slow
    added = bell.mul_(outwards).div_(distance).mul_(steepness[neighbour, None, None])
    return torch.zeros_like(profile).index_add(0, own, added)


def _radius_prior(circles: Tensor, inside: Tensor, image: Tensor, count: int) -> Tensor:
    """The usual radius around each circle, and its weight, greater the less of the disc is visible; (n, 2).

    A short arc measures the position only; its radius would run away.
    """
    visible = inside.to(circles.dtype).mean(1)
    usual, spread = usual_radius(circles, image, count, whole=visible > 0.9)
    weight = (EDGE_NOISE_PX / spread.clamp_min(0.1)).square().clamp_max(MOST_PRIOR_POINTS)
    return torch.stack([usual, weight * (1 - visible) * (usual > 0)], 1)


def _newton_step(profile: Tensor, inside: Tensor, curvature: Tensor, radius: Tensor, prior: Tensor) -> Tensor:
    sin, cos = directions(profile)
    moves = torch.stack([sin, cos, torch.ones_like(sin)], 1)  # edge displacement per row, col, radius
    slope = (profile[:, 2] - profile[:, 0]) / (2 * STEP_PX) * inside
    weight = inside.to(profile.dtype)
    normal = (weight @ (moves[:, :, None] * moves[:, None]).flatten(1)).view(-1, 3, 3)
    # The ridge keeps a disc of which little is visible from running away.
    ridge = 0.1 * weight.sum(1).clamp_min(1)[:, None, None] * torch.eye(3).to(profile)
    wanted = slope @ moves / curvature[:, None]
    usual, prior_weight = prior.unbind(1)
    wanted[:, 2] += prior_weight * (usual - radius)
    normal[:, 2, 2] += prior_weight
    step = RELAX * torch.linalg.solve(normal + ridge, wanted)
    return step.clamp(-LONGEST_MOVE_PX, LONGEST_MOVE_PX)


def _elongation(profile: Tensor, inside: Tensor, curvature: Tensor) -> Tensor:
    """Second harmonic of the edge's displacement, (n, 2)."""
    angle = torch.arange(ANGLES, dtype=profile.dtype, device=profile.device) * (4 * math.pi / ANGLES)
    slope = (profile[:, 2] - profile[:, 0]) / (2 * STEP_PX) * inside
    visible = inside.sum(1, keepdim=True).clamp_min(ANGLES * MIN_VISIBLE)
    return 2 * (slope @ torch.stack([angle.cos(), angle.sin()], 1)) / visible / curvature[:, None]


def _edge_width(sharpness: Tensor, image: Tensor, default: Tensor, count: int) -> Tensor:
    """Width of a Gaussian edge g from its finite second difference at the top, -g''/g = ``sharpness``."""
    ratio = (median_of_image(sharpness, image, count) * STEP_PX**2 / 2).clamp(0.02, 0.95)
    width = torch.sqrt(-(STEP_PX**2) / (2 * torch.log(1 - ratio)))
    empty = torch.bincount(image, minlength=count) == 0
    return torch.where(empty, default, width)


@lru_cache(maxsize=256)
def _steepest(width_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Radii of sharp discs, and where `fit_circles` puts the edge of each after a blur of ``width_px``.

    The gradient of a disc of radius r blurred by a Gaussian of width s is, at distance p from the centre,
    r/s^2 exp(-(p^2 + r^2) / 2 s^2) I1(p r / s^2); the fit balances it one step inside and outside.
    """
    radius = np.geomspace(0.5 * width_px + 0.5, 200, 400)
    shift = np.linspace(-1.5, 1.0, 251)
    place = np.maximum(radius[:, None] + shift * width_px, 0.0)

    def slope(at: np.ndarray) -> np.ndarray:
        at, r = np.abs(at), radius[:, None]
        return np.asarray(np.exp(-0.5 * ((at - r) / width_px) ** 2) * ive(1, at * r / width_px**2))

    balance = slope(place - STEP_PX) - slope(place + STEP_PX)  # falls, then rises through 0 at the edge
    edge = np.array([place[i, np.argmin(np.abs(b))] for i, b in enumerate(balance)])
    return radius, np.maximum.accumulate(edge)


def _covered(circles: Tensor, pairs: Tensor) -> Tensor:
    """Which edge points (n, ANGLES) lie in another circle, where overlapping discs have no edge."""
    table, (first, second) = circles.cpu().numpy(), pairs.cpu().numpy().T
    covered = np.zeros((len(table), ANGLES), bool)
    apart = np.hypot(*(table[first, :2] - table[second, :2]).T)
    overlap_px = table[first, 2] + table[second, 2] - apart
    depth_px = np.where(overlap_px > NOTCH_FROM_PX, -NOTCH_PX, 0.0)
    np.logical_or.at(covered, first, hidden_points(table, first, second, depth_px))
    return torch.from_numpy(covered).to(circles.device)


def hidden_points(
    circles: np.ndarray, first: np.ndarray, second: np.ndarray, depth_px: np.ndarray | float
) -> np.ndarray:
    """Which edge points of ``first`` lie ``depth_px`` inside ``second``, (m, ANGLES)."""
    angle = np.arange(ANGLES) * (2 * math.pi / ANGLES)
    centre, radius = circles[first, :2] - circles[second, :2], circles[first, 2, None]
    row, col = centre[:, :1] + radius * np.sin(angle), centre[:, 1:] + radius * np.cos(angle)
    depth = np.maximum(circles[second, 2] - depth_px, 0)[:, None]
    return np.asarray(row**2 + col**2 < depth**2)
