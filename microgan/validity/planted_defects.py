"""Planted defects: images changed in one known way that no microstructure shows, to test the rules.

`plant` changes one image in one way; the rest of it stays as it was. What is painted takes its grey from the
image itself: discs keep their own texture, erased places get matrix with the noise of the image, and new
edges are as blurred as the others. So the rules reject a result for its defect, not for traces of painting.

Here discs are bright; images of dark ones are negated before and after. A shape is given as the signed
distance of each pixel to its edge, px (H, W), negative inside. Coordinates are (row, col), pixel centres at
integers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.distance import cdist
from scipy.special import erfc

from microgan.detection.circles import Circles, centres_inside
from microgan.detection.detector import Polarity
from microgan.validity.evidence import HALF_PIXEL_PX

EDGE_BLURS_PX = np.arange(0.4, 2.05, 0.1)  # sds of the Gaussian blur of edges that are compared with an image
EDGE_REACH = 3.2  # sds of that blur from an edge, beyond which a shape changes nothing
CORE_DEPTH = 1.3  # sds of that blur inside an edge, from where on the grey is that of the disc alone
BLEND_PX = 0.7  # sd of the change from one disc's texture to another's where they overlap
THIRD_OVERLAP = 0.05  # relative overlap with a third disc that is tolerated
PLACES = 400  # tried for a faint disc
ANGLES = 36  # directions tried for an overlap
TRIES = 12  # discs tried in either role of an overlap


def plant(
    name: str,
    image: np.ndarray,
    circles: Circles,
    rng: np.random.Generator,
    polarity: Polarity = "bright",
    **degree: Any,
) -> np.ndarray | None:
    """Plant one defect into an image.

    Parameters
    ----------
    name : one of `DEFECTS`
    image : ndarray of shape (H, W), float, grey values in [-1, 1]
    circles : Circles
        The discs of the image, as drawn or as detected; circles that fit badly leave traces.
    rng : numpy.random.Generator
        Chooses the disc, the direction and the degree. The same state gives the same image.
    polarity : {"bright", "dark"}
        Of the discs.
    **degree
        How large the defect is: the keyword arguments of the function of that name in this module.

    Returns
    -------
    ndarray of shape (H, W) and the type of ``image``, in [-1, 1]; None where the image has no place for it

    Raises
    ------
    ValueError
        If the defect is unknown or the image is not two-dimensional.
    """
    if name not in _PLANTERS:
        raise ValueError(f"name: {name!r}: must be one of {', '.join(DEFECTS)}")
    if image.ndim != 2:
        raise ValueError(f"image: shape {image.shape}: must be (H, W)")
    sign = -1 if polarity == "dark" else 1
    planted = _PLANTERS[name](_Scene.of(sign * image, circles), rng, **degree)
    return None if planted is None else np.clip(sign * planted, -1, 1).astype(image.dtype)


# The image and its discs -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scene:
    """An image of bright discs, with what planting needs to know of it.

    Attributes
    ----------
    grey : (H, W)
    circles : row, col, radius of each disc (n, 3), px
    score : (n,)
    distance : of each pixel to the edge of each disc (n, H, W), px
    blur_px : sd of the Gaussian blur of edges
    disc_grey, matrix_grey : median grey of the phases
    noise : grey less that of its phase (H, W), 0 near edges
    """

    grey: np.ndarray
    circles: np.ndarray
    score: np.ndarray
    distance: np.ndarray
    blur_px: float
    disc_grey: float
    matrix_grey: float
    noise: np.ndarray

    @classmethod
    def of(cls, grey: np.ndarray, circles: Circles) -> "_Scene":
        grey, table = grey.astype(float), circles.table()[:, :3].astype(float)
        distance = np.array([_disc(grey.shape, *circle) for circle in table]).reshape(-1, *grey.shape)
        depth = distance.min(0) if len(distance) else np.full(grey.shape, np.inf)
        core, matrix = depth < -1.5, depth > 1
        matrix_grey = float(np.median(grey[matrix])) if matrix.any() else float(grey.min())
        disc_grey = float(np.median(grey[core])) if core.any() else float(grey.max())
        # Discs without a circle must not count as matrix.
        matrix &= grey < (matrix_grey + disc_grey) / 2
        noise = np.where(matrix, grey - matrix_grey, np.where(core, grey - disc_grey, 0))
        blur_px = _edge_blur_px(grey, depth, matrix_grey, disc_grey)
        return cls(grey, table, circles.score, distance, blur_px, disc_grey, matrix_grey, noise)

    @property
    def whole(self) -> np.ndarray:
        """Indices of the discs that the border does not cut and that are no doubtful detections."""
        if not len(self.circles):
            return np.zeros(0, int)
        row, col, radius = self.circles.T
        size_px = self.grey.shape[0], self.grey.shape[1]
        inside = centres_inside(row, col, size_px, radius + HALF_PIXEL_PX)
        return np.flatnonzero(inside & (self.score >= min(0.5, np.median(self.score))))

    def others(self, *index: int) -> np.ndarray:
        """Distance to the nearest edge of all discs but these (H, W); infinite where there is none."""
        rest = np.delete(self.distance, index, axis=0)
        return rest.min(0) if len(rest) else np.full(self.grey.shape, np.inf)


def _disc(shape: tuple[int, ...], row: float, col: float, radius_px: float) -> np.ndarray:
    """Distance of each pixel to the edge of a disc (H, W)."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, cols - col) - radius_px


def _coverage(distance: np.ndarray, blur_px: float) -> np.ndarray:
    """Fraction of a shape in each pixel after the blur of a straight edge; exactly 0 and 1 away from it."""
    fraction = 0.5 * erfc(distance / (math.sqrt(2) * blur_px))
    return np.where(np.abs(distance) > EDGE_REACH * blur_px, distance < 0, fraction)


def _edge_blur_px(grey: np.ndarray, depth: np.ndarray, matrix_grey: float, disc_grey: float) -> float:
    """Return the blur of edges with which discs of uniform grey fit the image best."""
    near = np.abs(depth) < 2.5
    if not near.any():
        return 0.8
    span = disc_grey - matrix_grey
    misfit = [
        np.abs(matrix_grey + span * _coverage(depth[near], blur_px) - grey[near]).mean()
        for blur_px in EDGE_BLURS_PX
    ]
    return float(EDGE_BLURS_PX[int(np.argmin(misfit))])


def _matrix(scene: _Scene, erased: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Matrix to put where the shape ``erased`` was: the grey of the matrix near it, and noise."""
    known = (scene.distance.min(0) > 1) & (erased > 1)
    known &= scene.grey < (scene.matrix_grey + scene.disc_grey) / 2
    reach_px = max(1.0, 0.7 * float(np.median(scene.circles[:, 2])))
    weight = gaussian_filter(known.astype(float), reach_px)
    prior = 0.3  # weight of the median: narrow gaps alone are darker than open matrix
    level = gaussian_filter(np.where(known, scene.grey, 0), reach_px) + prior * scene.matrix_grey
    return level / (weight + prior) + _noise(scene, rng)


def _noise(scene: _Scene, rng: np.random.Generator) -> np.ndarray:
    """New noise (H, W) of the same variance and correlation as the image's own: smoothed white noise."""
    measured = scene.noise != 0
    if not measured.any():
        return np.zeros(scene.grey.shape)
    # Slow changes of the grey within a phase are no noise; `_matrix` follows them.
    slow = gaussian_filter(scene.noise, 3.0) / np.maximum(gaussian_filter(measured.astype(float), 3.0), 0.05)
    fine = np.where(measured, scene.noise - slow, 0)
    variance = np.mean(fine[measured] ** 2)
    pairs = measured[:, 1:] & measured[:, :-1]
    products = (scene.noise[:, 1:] * scene.noise[:, :-1])[pairs]
    correlation = products.mean() / np.mean(scene.noise[measured] ** 2) if pairs.any() else 0.0
    # White noise smoothed by a Gaussian of sd s has a correlation of exp(-1 / 4 s^2) between neighbours.
    smoothing_px = 0.5 / math.sqrt(-math.log(np.clip(correlation, 0.01, 0.95)))
    noise = gaussian_filter(rng.standard_normal(scene.grey.shape), smoothing_px, mode="wrap")
    return noise * (math.sqrt(variance) / noise.std())


def _texture(scene: _Scene, index: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Grey of a disc at positions relative to its centre (H, W); beyond its core, the core is mirrored."""
    row, col, radius = scene.circles[index]
    core_px = max(radius - CORE_DEPTH * scene.blur_px, 0.5 * radius)
    reach = np.hypot(rows, cols)
    folded = core_px - np.abs(np.mod(reach, 2 * core_px) - core_px)
    scale = folded / np.maximum(reach, 1e-9)
    grey = map_coordinates(scene.grey, [row + rows * scale, col + cols * scale], order=3, mode="nearest")
    # The blur has mixed a little matrix into the core, which is added back.
    return grey + (1 - _coverage(folded - radius, scene.blur_px)) * (scene.disc_grey - scene.matrix_grey)


# Erasing and painting ----------------------------------------------------------------------------------


def _erased(scene: _Scene, index: int, rng: np.random.Generator) -> np.ndarray:
    """Fill the place of a disc with matrix; its neighbours stay."""
    # The outer half of its blurred edge is erased with it.
    erased_shape = scene.distance[index] - 2.2 * scene.blur_px
    before, after = (
        _blurred(scene.distance.min(0), scene.blur_px),
        _blurred(scene.others(index), scene.blur_px),
    )
    fraction = _coverage(erased_shape, scene.blur_px / 2) * (1 - after)
    erased = scene.grey + fraction * (_matrix(scene, scene.distance[index], rng) - scene.grey)
    # Where two blurred edges met, the image was brighter than the one that stays.
    lacking = after - (1 - fraction) * before
    return erased + np.where(fraction > 0, lacking * (scene.disc_grey - scene.matrix_grey), 0)


def _painted(
    scene: _Scene, onto: np.ndarray, texture: np.ndarray, shape: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Paint a shape; where it overlaps ``others``, each shows up to the middle of the overlap."""
    new, old = _blurred(shape, scene.blur_px), _blurred(others, scene.blur_px)
    both = _blurred(np.minimum(shape, others), scene.blur_px)
    fraction = new * _coverage(shape - others, BLEND_PX)
    painted = onto + fraction * (texture - onto)
    # The sum of two blurred edges is not the blurred edge of the union, which is brighter in the notches.
    lacking = both - (old + fraction * (1 - old))
    return painted + np.where(new > 0, lacking * (scene.disc_grey - scene.matrix_grey), 0)


def _blurred(distance: np.ndarray, blur_px: float) -> np.ndarray:
    """Fraction of a shape in each pixel after the blur, of any curvature; exactly 0 far outside."""
    return gaussian_filter(np.clip(0.5 - distance, 0, 1), blur_px, mode="nearest")


def _relative(scene: _Scene, row: float, col: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cols of all pixels relative to a point, each (H, W)."""
    rows, cols = np.indices(scene.grey.shape, float)
    return rows - row, cols - col


# The defects ----------------------------------------------------------------------------------------


def overlap(
    scene: _Scene, rng: np.random.Generator, degree: tuple[float, float] = (0.15, 0.4)
) -> np.ndarray | None:
    """Move a disc into another one, so that 1 - d / (r1 + r2) is uniformly distributed over ``degree``."""
    wanted = rng.uniform(*degree)
    move = _place_for_overlap(scene, wanted, rng)
    if move is None:
        return None
    index, row, col = move
    rows, cols = _relative(scene, row, col)
    shape = _disc(scene.grey.shape, row, col, scene.circles[index, 2])
    texture = _texture(scene, index, rows, cols)
    return _painted(scene, _erased(scene, index, rng), texture, shape, scene.others(index))


def _place_for_overlap(
    scene: _Scene, wanted: float, rng: np.random.Generator
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


def merged_pair(scene: _Scene, rng: np.random.Generator, gap_px: float = 1.5) -> np.ndarray | None:
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
    textures = [_texture(scene, i, *_relative(scene, *scene.circles[i, :2])) for i in (first, second)]
    fraction = _coverage(scene.distance[first] - scene.distance[second], BLEND_PX)
    texture = fraction * textures[0] + (1 - fraction) * textures[1]
    return _painted(scene, scene.grey, texture, hull, scene.others(first, second))


def _hull(shape: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distance to the convex hull of two discs: the least distance to any of many discs between them."""
    between = np.linspace(first, second, 33)
    return np.min([_disc(shape, row, col, radius) for row, col, radius in between.tolist()], axis=0)


def ellipse(
    scene: _Scene, rng: np.random.Generator, axis_ratio: tuple[float, float] = (1.5, 1.8)
) -> np.ndarray | None:
    """Make a disc elliptical at constant area, in the direction where it overlaps other discs least."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    stretch = math.sqrt(rng.uniform(*axis_ratio))
    others = scene.others(index)
    rows, cols = _relative(scene, row, col)
    angles = (rng.uniform() + np.arange(12)) * math.pi / 12
    shapes = [_ellipse(rows, cols, radius, stretch, angle) for angle in angles.tolist()]
    overlap_px = [int(((shape < 0) & (others < 0)).sum()) for shape in shapes]
    shape = shapes[int(np.argmin(overlap_px))]
    return _painted(scene, _erased(scene, index, rng), _texture(scene, index, rows, cols), shape, others)


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
    scene: _Scene, rng: np.random.Generator, contrast: float = 0.5, least_free: float = 0.6
) -> np.ndarray | None:
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
    fraction = _coverage(shape, scene.blur_px) * (1 - _coverage(others, scene.blur_px))
    return scene.grey + change * (scene.disc_grey - scene.matrix_grey) * fraction


def bright_disc(scene: _Scene, rng: np.random.Generator, contrast: float = 1.3) -> np.ndarray | None:
    """Brighten a disc to ``contrast`` times that of the others."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    fraction = _coverage(scene.distance[index], scene.blur_px)
    fraction = fraction * (1 - _coverage(scene.others(index), scene.blur_px))
    return scene.grey + (contrast - 1) * (scene.disc_grey - scene.matrix_grey) * fraction


def _free_place(
    scene: _Scene, radius_px: float, least_free: float, rng: np.random.Generator
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
    shape = _disc(scene.grey.shape, row, col, radius_px)
    return shape if 1 - taken[shape < 0].mean() >= least_free else None


def missing_disc(scene: _Scene, rng: np.random.Generator) -> np.ndarray | None:
    """Erase a disc.

    It leaves a pocket of matrix, which real materials have, too: a defect only beside the circles of the
    original.
    """
    return _erased(scene, int(rng.choice(scene.whole)), rng) if len(scene.whole) else None


def wrong_radius(
    scene: _Scene, rng: np.random.Generator, factor: float | tuple[float, ...] = (0.5, 1.6)
) -> np.ndarray | None:
    """Multiply the radius of a disc by ``factor``, or by one of several; its texture stays what it was."""
    if not len(scene.whole):
        return None
    index, times = int(rng.choice(scene.whole)), float(rng.choice(np.atleast_1d(factor)))
    row, col, radius = scene.circles[index]
    rows, cols = _relative(scene, row, col)
    texture = _texture(scene, index, rows, cols)
    shape = _disc(scene.grey.shape, row, col, times * radius)
    return _painted(scene, _erased(scene, index, rng), texture, shape, scene.others(index))


def partial_disc(
    scene: _Scene, rng: np.random.Generator, cut: tuple[float, float] = (-0.2, 0.3)
) -> np.ndarray | None:
    """Cut off a part of a disc along a chord, at a distance of ``cut`` radii from its centre."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    rows, cols = _relative(scene, row, col)
    angle = rng.uniform(0, 2 * math.pi)
    beyond = rows * math.sin(angle) + cols * math.cos(angle) - radius * rng.uniform(*cut)
    shape = np.maximum(scene.distance[index], beyond)
    texture = _texture(scene, index, rows, cols)
    return _painted(scene, _erased(scene, index, rng), texture, shape, scene.others(index))


def blank(scene: _Scene, rng: np.random.Generator, phase: str = "matrix", noisy: bool = True) -> np.ndarray:
    """Give all pixels the grey of the "matrix" or of the "disc" phase, with the image's noise or without."""
    if phase not in ("matrix", "disc"):
        raise ValueError(f"phase: {phase!r}: must be 'matrix' or 'disc'")
    grey = scene.matrix_grey if phase == "matrix" else scene.disc_grey
    return np.full(scene.grey.shape, grey) + (_noise(scene, rng) if noisy else 0)


def noise(scene: _Scene, rng: np.random.Generator) -> np.ndarray:
    """Put the pixels of the image in random order."""
    return rng.permutation(scene.grey.ravel()).reshape(scene.grey.shape)


def lattice(scene: _Scene, rng: np.random.Generator) -> np.ndarray | None:
    """Draw a hexagonal lattice of equal discs at the image's volume fraction, contrast, blur and noise."""
    if not len(scene.circles):
        return None
    height, width = scene.grey.shape
    radius = float(np.median(scene.circles[:, 2]))
    fraction = float((scene.distance.min(0) < 0).mean())
    step_px = max(2.0 * radius, math.sqrt(math.pi * radius**2 / (math.sqrt(3) / 2 * max(fraction, 1e-3))))
    count = math.ceil(math.hypot(height, width) / step_px) + 2
    i, j = np.mgrid[-count : count + 1, -count : count + 1]
    centres = step_px * np.stack([j * math.sqrt(3) / 2, i + (j % 2) / 2], -1).reshape(-1, 2)
    angle = rng.uniform(0, math.pi / 3)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    size_px = np.array([height, width])
    centres = centres @ rotation + size_px / 2 + rng.uniform(0, step_px, 2)
    centres = centres[((centres > -2 * radius) & (centres < size_px + 2 * radius)).all(1)]
    distance = np.min([_disc(scene.grey.shape, row, col, radius) for row, col in centres.tolist()], axis=0)
    span = scene.disc_grey - scene.matrix_grey
    return scene.matrix_grey + span * _coverage(distance, scene.blur_px) + _noise(scene, rng)


def blurred(scene: _Scene, rng: np.random.Generator, sd_over_radius: float = 0.5) -> np.ndarray | None:
    """Blur by a Gaussian whose sd is a fraction of the median radius."""
    if not len(scene.circles):
        return None
    return gaussian_filter(scene.grey, sd_over_radius * np.median(scene.circles[:, 2]), mode="nearest")


def seam(scene: _Scene, rng: np.random.Generator) -> np.ndarray | None:
    """Turn the image upside down on the right of a column that cuts through discs, as if two were joined."""
    col, radius = scene.circles[:, 1], scene.circles[:, 2]
    width = scene.grey.shape[1]
    columns = rng.permutation(np.arange(width // 4 + 1, 3 * width // 4))
    cut = (np.abs(columns[:, None] - 0.5 - col) < radius / 2).sum(1)
    if not cut.any():
        return None
    column = int(columns[cut.argmax()])
    return np.concatenate([scene.grey[:, :column], scene.grey[::-1, column:]], axis=1)


_PLANTERS: dict[str, Callable[..., np.ndarray | None]] = {
    planter.__name__: planter
    for planter in (
        overlap,
        merged_pair,
        ellipse,
        faint_disc,
        missing_disc,
        wrong_radius,
        partial_disc,
        blank,
        noise,
        lattice,
        blurred,
        seam,
        bright_disc,
    )
}
DEFECTS = tuple(_PLANTERS)
