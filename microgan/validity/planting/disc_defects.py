"""Defects of one disc or two: what a generator does to discs, and no material does."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from scipy.special import expit

from microgan.validity.planting.brush import (
    BLEND_PX,
    CORE_DEPTH,
    Planted,
    Scene,
    blurred_shape,
    coverage,
    disc_distance,
    erased,
    painted,
    relative_to,
    texture_of,
)

THIRD_OVERLAP = 0.05  # relative overlap with a third disc that is tolerated
PLACES = 400  # tried for a faint disc
ANGLES = 36  # directions tried for an overlap
TRIES = 12  # discs tried in either role of an overlap, and pairs tried for a bridge
RIM_PX = 1.0  # beyond its edge, where a defect is still seen
GAP_PX = 6.0  # from both discs of a merged pair, within which what was filled between them is seen
VISIBLE = 0.1  # change of grey over the contrast, from where on a pixel belongs to a defect
PATCH_SD_RADII = 0.3  # sd of the Gaussian that makes the patches of a half-formed disc
PATCH_EDGE = 0.25  # softness of their edges, in sds of the field that they are cut from


def overlap(
    scene: Scene, rng: np.random.Generator, degree: tuple[float, float] = (0.15, 0.4)
) -> Planted | None:
    """Move a disc into another one, so that 1 - d / (r1 + r2) is uniformly distributed over ``degree``."""
    wanted = rng.uniform(*degree)
    move = _place_for_overlap(scene, wanted, rng)
    if move is None:
        return None
    index, row, col = move
    rows, cols = relative_to(scene, row, col)
    shape = disc_distance(scene.grey.shape, row, col, scene.circles[index, 2])
    texture = texture_of(scene, index, rows, cols)
    others = scene.others(index)
    grey = painted(scene, erased(scene, index, rng), texture, shape, others)
    return Planted(grey, (shape < RIM_PX) & (others < RIM_PX))


def _place_for_overlap(
    scene: Scene, wanted: float, rng: np.random.Generator
) -> tuple[int, float, float] | None:
    """Choose a disc and its new centre, so that it overlaps one disc as wanted and others hardly or not."""
    movable, targets = rng.permutation(scene.whole)[:TRIES], rng.permutation(scene.whole)[:TRIES]
    farthest = np.array(scene.grey.shape) - 1
    angle = (np.arange(ANGLES) + rng.uniform()) * 2 * math.pi / ANGLES
    ring = np.stack([np.sin(angle), np.cos(angle)], 1)
    places: list[tuple[float, int, float, float]] = []
    for index in movable.tolist():
        radius = scene.circles[index, 2]
        for target in targets[targets != index].tolist():
            apart_px = (1 - wanted) * (radius + scene.circles[target, 2])
            centres = scene.circles[target, :2] + apart_px * ring  # (ANGLES, 2)
            third = np.delete(scene.circles, [index, target], axis=0)
            overlaps = 1 - cdist(centres, third[:, :2]) / (radius + third[:, 2])
            worst = overlaps.max(1, initial=0)
            inside = ((centres >= radius / 2) & (centres <= farthest - radius / 2)).all(1)
            worst[~inside] = np.inf
            best = int(worst.argmin())
            places.append((float(worst[best]), index, *centres[best].tolist()))
            if worst[best] <= THIRD_OVERLAP:  # discs and targets are in random order: the first will do
                return places[-1][1:]
    places = [place for place in places if place[0] <= wanted / 2]
    return min(places)[1:] if places else None


def merged_pair(scene: Scene, rng: np.random.Generator, gap_px: float = 1.5) -> Planted | None:
    """Fill the convex hull of two neighbours, at most ``gap_px`` apart, as bad generators do."""
    whole = scene.whole
    row, col, radius = scene.circles[whole].T
    centres = np.stack([row, col], 1)
    gap = cdist(centres, centres) - radius[:, None] - radius
    pairs = np.argwhere(np.triu(gap <= gap_px, 1))
    if not len(pairs):
        return None
    first, second = whole[rng.choice(pairs)].tolist()
    hull = _hull(scene.grey.shape, scene.circles[first], scene.circles[second])
    textures = [texture_of(scene, i, *relative_to(scene, *scene.circles[i, :2])) for i in (first, second)]
    fraction = coverage(scene.distance[first] - scene.distance[second], BLEND_PX)
    texture = fraction * textures[0] + (1 - fraction) * textures[1]
    grey = painted(scene, scene.grey, texture, hull, scene.others(first, second))
    filled = (hull < RIM_PX) & (np.minimum(scene.distance[first], scene.distance[second]) > -RIM_PX)
    return Planted(grey, filled & (np.maximum(scene.distance[first], scene.distance[second]) < GAP_PX))


def _hull(shape: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distance to the convex hull of two discs: the least distance to any of many discs between them."""
    between = np.linspace(first, second, 33)
    return np.min([disc_distance(shape, row, col, radius) for row, col, radius in between.tolist()], axis=0)


def ellipse(
    scene: Scene, rng: np.random.Generator, axis_ratio: tuple[float, float] = (1.5, 1.8)
) -> Planted | None:
    """Make a disc elliptical at constant area, in the direction where it overlaps other discs least."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    stretch = math.sqrt(rng.uniform(*axis_ratio))
    others = scene.others(index)
    rows, cols = relative_to(scene, row, col)
    angles = (rng.uniform() + np.arange(12)) * math.pi / 12
    shapes = [_ellipse(rows, cols, radius, stretch, angle) for angle in angles.tolist()]
    overlap_px = [int(((shape < 0) & (others < 0)).sum()) for shape in shapes]
    shape = shapes[int(np.argmin(overlap_px))]
    texture = texture_of(scene, index, rows, cols)
    return Planted(painted(scene, erased(scene, index, rng), texture, shape, others), shape < 0)


def _ellipse(
    rows: np.ndarray, cols: np.ndarray, radius_px: float, stretch: float, angle: float
) -> np.ndarray:
    """Distance to the edge of an ellipse with half axes ``radius_px`` times and over ``stretch``."""
    along = (rows * math.sin(angle) + cols * math.cos(angle)) / stretch
    across = (rows * math.cos(angle) - cols * math.sin(angle)) * stretch
    reach = np.hypot(along, across)
    # First-order distance to the edge: the value over the slope of the implicit function.
    slope = np.hypot(along / stretch, across * stretch) / np.maximum(reach, 1e-9)
    return (reach - radius_px) / np.maximum(slope, 1 / stretch)


def faint_disc(
    scene: Scene, rng: np.random.Generator, contrast: float = 0.5, least_free: float = 0.6
) -> Planted | None:
    """Add a disc of ``contrast`` times that of the others to the matrix; other discs may hide part of it.

    If at least the fraction ``least_free`` of it is visible nowhere, an existing disc fades instead.
    """
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    radius = scene.circles[index, 2]
    shape = _free_place(scene, radius, least_free, rng)
    change = contrast
    others = scene.distance.min(0)
    if shape is None:
        shape, others, change = scene.distance[index], scene.others(index), contrast - 1
    fraction = coverage(shape, scene.blur_px) * (1 - coverage(others, scene.blur_px))
    return Planted(scene.grey + change * scene.contrast * fraction, fraction > VISIBLE)


def _free_place(
    scene: Scene, radius_px: float, least_free: float, rng: np.random.Generator
) -> np.ndarray | None:
    """Choose the random place where least of a disc would be hidden; None if even there it is too much."""
    taken = (scene.distance.min(0) < 0).astype(float)
    # A Gaussian of sd r / 2 stands for the disc: one filter instead of one mask per place.
    free = 1 - gaussian_filter(taken, radius_px / 2)
    low, high = radius_px, np.array(scene.grey.shape) - 1 - radius_px
    if (high <= low).any():
        return None
    places = rng.uniform(low, high, (PLACES, 2))
    row, col = places[int(free[tuple(places.round().astype(int).T)].argmax())].tolist()
    shape = disc_distance(scene.grey.shape, row, col, radius_px)
    return shape if 1 - taken[shape < 0].mean() >= least_free else None


def bright_disc(scene: Scene, rng: np.random.Generator, contrast: float = 1.3) -> Planted | None:
    """Brighten a disc to ``contrast`` times that of the brightest one.

    Not of the median: every second window of a carbon scan has a disc of 1.3 times the median contrast.
    """
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    own, brightest = _contrast_of(scene, index), max(_contrast_of(scene, other) for other in scene.whole)
    fraction = coverage(scene.distance[index], scene.blur_px)
    fraction = fraction * (1 - coverage(scene.others(index), scene.blur_px))
    return Planted(scene.grey + (contrast * brightest - own) * fraction, fraction > VISIBLE)


def _contrast_of(scene: Scene, index: int) -> float:
    """Median grey of a disc less its edge, minus that of the matrix."""
    distance = scene.distance[index]
    core = distance < max(-CORE_DEPTH * scene.blur_px, distance.min() + 1)
    return float(np.median(scene.grey[core])) - scene.matrix_grey


def wrong_radius(
    scene: Scene, rng: np.random.Generator, factor: float | tuple[float, ...] = (0.5, 1.6)
) -> Planted | None:
    """Multiply the radius of a disc by ``factor``, or by one of several; its texture stays what it was."""
    if not len(scene.whole):
        return None
    index, times = int(rng.choice(scene.whole)), float(rng.choice(np.atleast_1d(factor)))
    row, col, radius = scene.circles[index]
    rows, cols = relative_to(scene, row, col)
    texture = texture_of(scene, index, rows, cols)
    shape = disc_distance(scene.grey.shape, row, col, times * radius)
    return Planted(painted(scene, erased(scene, index, rng), texture, shape, scene.others(index)), shape < 0)


def partial_disc(
    scene: Scene, rng: np.random.Generator, cut: tuple[float, float] = (-0.2, 0.3)
) -> Planted | None:
    """Cut off a part of a disc along a chord, at a distance of ``cut`` radii from its centre."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    rows, cols = relative_to(scene, row, col)
    angle = rng.uniform(0, 2 * math.pi)
    beyond = rows * math.sin(angle) + cols * math.cos(angle) - radius * rng.uniform(*cut)
    shape = np.maximum(scene.distance[index], beyond)
    texture = texture_of(scene, index, rows, cols)
    grey = painted(scene, erased(scene, index, rng), texture, shape, scene.others(index))
    return Planted(grey, scene.distance[index] < 0)


def half_formed_disc(
    scene: Scene, rng: np.random.Generator, missing: tuple[float, float] = (0.3, 0.6)
) -> Planted | None:
    """Let matrix show through a disc in random patches, over the fraction ``missing`` of its area."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    radius, shape = scene.circles[index, 2], scene.distance[index]
    field = gaussian_filter(rng.standard_normal(scene.grey.shape), PATCH_SD_RADII * radius, mode="wrap")
    field /= field.std()
    limit = np.quantile(field[shape < 0], rng.uniform(*missing))
    kept = expit((field - limit) / PATCH_EDGE)
    return _fading(scene, index, kept, rng)


def dissolving_disc(
    scene: Scene, rng: np.random.Generator, least: tuple[float, float] = (0.0, 0.3)
) -> Planted | None:
    """Let a disc fade towards one side, down to the fraction ``least`` of its contrast."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    rows, cols = relative_to(scene, row, col)
    angle, end = rng.uniform(0, 2 * math.pi), rng.uniform(*least)
    along = (rows * math.sin(angle) + cols * math.cos(angle)) / radius  # -1 to 1 across the disc
    return _fading(scene, index, np.clip(1 - (1 - end) * (along + 0.8) / 1.4, end, 1), rng)


def broken_rim(
    scene: Scene,
    rng: np.random.Generator,
    angle_rad: tuple[float, float] = (0.9, 1.8),
    depth: tuple[float, float] = (0.35, 0.6),
) -> Planted | None:
    """Break a piece out of a disc's rim: an angle wide, and a fraction of the radius deep."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    rows, cols = relative_to(scene, row, col)
    wide, deep, middle = rng.uniform(*angle_rad), rng.uniform(*depth), rng.uniform(0, 2 * math.pi)
    off = np.abs((np.arctan2(rows, cols) - middle + math.pi) % (2 * math.pi) - math.pi)
    reach = np.hypot(rows, cols)
    to_side_px, to_bottom_px = (off - wide / 2) * np.maximum(reach, 1), radius * (1 - deep) - reach
    return _fading(scene, index, 1 - blurred_shape(np.maximum(to_side_px, to_bottom_px), scene.blur_px), rng)


def _fading(scene: Scene, index: int, kept: np.ndarray, rng: np.random.Generator) -> Planted:
    """Keep the fraction ``kept`` (H, W) of a disc; the rest is as if it were erased."""
    without = erased(scene, index, rng)
    lost = (1 - kept) * np.abs(scene.grey - without) > VISIBLE * scene.contrast
    return Planted(without + kept * (scene.grey - without), lost & (scene.distance[index] < RIM_PX))


def bridge(
    scene: Scene,
    rng: np.random.Generator,
    gap_radii: tuple[float, float] = (0.15, 1.0),
    width_radii: tuple[float, float] = (0.4, 0.9),
) -> Planted | None:
    """Join two discs by a strip of disc phase across their gap, both in radii."""
    whole = scene.whole
    row, col, radius = scene.circles[whole].T
    centres = np.stack([row, col], 1)
    gap = (cdist(centres, centres) - radius[:, None] - radius) / np.minimum(radius[:, None], radius)
    pairs = np.argwhere(np.triu((gap_radii[0] <= gap) & (gap <= gap_radii[1]), 1))
    for pair in rng.permutation(pairs)[:TRIES]:
        first, second = whole[pair].tolist()
        half_px = rng.uniform(*width_radii) / 2 * scene.circles[[first, second], 2].min()
        strip = _strip(scene, first, second, half_px)
        others = scene.others(first, second)
        if ((strip < 0) & (others < 0)).any():  # a third disc is in between
            continue
        texture = texture_of(scene, first, *relative_to(scene, *scene.circles[first, :2]))
        grey = painted(scene, scene.grey, texture, strip, scene.distance.min(0))
        return Planted(grey, (strip < RIM_PX) & (scene.distance.min(0) > -RIM_PX))
    return None


def _strip(scene: Scene, first: int, second: int, half_px: float) -> np.ndarray:
    """Distance of each pixel to a strip from one disc's centre to another's."""
    start, way = scene.circles[first, :2], scene.circles[second, :2] - scene.circles[first, :2]
    rows, cols = relative_to(scene, *start.tolist())
    along = np.clip((rows * way[0] + cols * way[1]) / (way @ way), 0, 1)
    return np.hypot(rows - along * way[0], cols - along * way[1]) - half_px
