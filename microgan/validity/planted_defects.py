"""Planted defects: images that no microstructure is, to qualify the validity filter like an instrument.

`plant` spoils one image in one way, everything else in it stays as it was. What is painted takes its grey
from the image itself: discs keep their own texture, erased places get matrix with the noise of the image, and
new rims are as blurred as those that are there. Whether a filter rejects the result is then a question of the
defect, not of traces of the brush.

Inside, discs are bright; dark ones are negated before and after. A shape is the map of the signed distance to
its rim in pixels (H, W), negative inside. Coordinates are (row, col), pixel centres at integers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.distance import cdist
from scipy.special import erfc

from microgan.detection.circles import Circles, Polarity

RIMS_PX = np.arange(0.4, 2.05, 0.1)  # sd of rims that are tried on an image
SHAPE_REACH = 3.2  # rim sds beyond which a shape changes nothing
CORE_RIMS = 1.3  # rim sds inside the rim from where on the grey is that of the disc alone
BLEND_PX = 0.7  # sd of the change from one disc's texture to another's where they overlap
THIRD_OVERLAP = 0.05  # relative overlap with a third disc that is as good as none
PLACES = 400  # tried for a ghost
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
        What is in the image, as drawn or as detected; ill-fitting ones leave traces.
    rng : numpy.random.Generator
        Chooses the disc, the direction, the degree. The same state gives the same image.
    polarity : {"bright", "dark"}
        Of the discs.
    **degree
        How much of the defect; the keyword arguments of the function of that name in this module.

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
    spoilt = _PLANTERS[name](_Scene.of(sign * image, circles), rng, **degree)
    return None if spoilt is None else np.clip(sign * spoilt, -1, 1).astype(image.dtype)


# What is there -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scene:
    """An image of bright discs and what is known of it.

    ``grey`` (H, W); ``circles`` (n, 3); ``score`` (n,); ``distance`` (n, H, W) to the rim of each; ``rim_px``
    sd of the rims' blur; ``disc_grey``, ``matrix_grey``; ``noise`` (H, W) what neither phase explains, zero
    at rims.
    """

    grey: np.ndarray
    circles: np.ndarray
    score: np.ndarray
    distance: np.ndarray
    rim_px: float
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
        # Discs that no circle tells of must not colour the matrix.
        matrix &= grey < (matrix_grey + disc_grey) / 2
        noise = np.where(matrix, grey - matrix_grey, np.where(core, grey - disc_grey, 0))
        rim_px = _rim_px(grey, depth, matrix_grey, disc_grey)
        return cls(grey, table, circles.score, distance, rim_px, disc_grey, matrix_grey, noise)

    @property
    def whole(self) -> np.ndarray:
        """Indices of discs that lie inside the image and are no doubtful detections."""
        if not len(self.circles):
            return np.zeros(0, int)
        row, col, radius = self.circles.T
        height, width = self.grey.shape
        inside = np.minimum.reduce([row, col, height - 1 - row, width - 1 - col]) >= radius
        return np.flatnonzero(inside & (self.score >= min(0.5, np.median(self.score))))

    def others(self, *index: int) -> np.ndarray:
        """Distance to the nearest rim of all discs but these (H, W); infinite where there is none."""
        rest = np.delete(self.distance, index, axis=0)
        return rest.min(0) if len(rest) else np.full(self.grey.shape, np.inf)


def _disc(shape: tuple[int, ...], row: float, col: float, radius_px: float) -> np.ndarray:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, cols - col) - radius_px


def _coverage(distance: np.ndarray, rim_px: float) -> np.ndarray:
    """Fraction of a shape in each pixel after the blur; exactly 0 and 1 away from the rim."""
    fraction = 0.5 * erfc(distance / (math.sqrt(2) * rim_px))
    return np.where(np.abs(distance) > SHAPE_REACH * rim_px, distance < 0, fraction)


def _rim_px(grey: np.ndarray, depth: np.ndarray, matrix_grey: float, disc_grey: float) -> float:
    """Return the blur of rims with which flat discs come nearest to the image."""
    near = np.abs(depth) < 2.5
    if not near.any():
        return 0.8
    span = disc_grey - matrix_grey
    misfit = [np.abs(matrix_grey + span * _coverage(depth[near], rim) - grey[near]).mean() for rim in RIMS_PX]
    return float(RIMS_PX[int(np.argmin(misfit))])


def _matrix(scene: _Scene, gone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Matrix as it might be where the shape ``gone`` was: the grey of the matrix near it, and noise."""
    known = (scene.distance.min(0) > 1) & (gone > 1)
    known &= scene.grey < (scene.matrix_grey + scene.disc_grey) / 2
    reach_px = max(1.0, 0.7 * float(np.median(scene.circles[:, 2])))
    weight = gaussian_filter(known.astype(float), reach_px)
    few = 0.3  # of the weight: narrow gaps are darker than open matrix, and so would be the middle
    level = gaussian_filter(np.where(known, scene.grey, 0), reach_px) + few * scene.matrix_grey
    return level / (weight + few) + _noise(scene, rng)


def _noise(scene: _Scene, rng: np.random.Generator) -> np.ndarray:
    """New noise (H, W) of the strength and the grain of the image's own: smoothed white noise."""
    seen = scene.noise != 0
    if not seen.any():
        return np.zeros(scene.grey.shape)
    # Slow changes of the grey within a phase are no noise; `_matrix` follows them.
    slow = gaussian_filter(scene.noise, 3.0) / np.maximum(gaussian_filter(seen.astype(float), 3.0), 0.05)
    fine = np.where(seen, scene.noise - slow, 0)
    variance = np.mean(fine[seen] ** 2)
    pairs = seen[:, 1:] & seen[:, :-1]
    products = (scene.noise[:, 1:] * scene.noise[:, :-1])[pairs]
    alike = products.mean() / np.mean(scene.noise[seen] ** 2) if pairs.any() else 0.0
    # White noise smoothed by a Gaussian of sd s has a correlation of exp(-1 / 4 s^2) between neighbours.
    grain_px = 0.5 / math.sqrt(-math.log(np.clip(alike, 0.01, 0.95)))
    noise = gaussian_filter(rng.standard_normal(scene.grey.shape), grain_px, mode="wrap")
    return noise * (math.sqrt(variance) / noise.std())


def _texture(scene: _Scene, index: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Read the grey of a disc at places relative to its centre (H, W); beyond its core, the core mirrored."""
    row, col, radius = scene.circles[index]
    core_px = max(radius - CORE_RIMS * scene.rim_px, 0.5 * radius)
    reach = np.hypot(rows, cols)
    folded = core_px - np.abs(np.mod(reach, 2 * core_px) - core_px)
    scale = folded / np.maximum(reach, 1e-9)
    grey = map_coordinates(scene.grey, [row + rows * scale, col + cols * scale], order=3, mode="nearest")
    # The blur has mixed a little matrix into the core, too.
    return grey + (1 - _coverage(folded - radius, scene.rim_px)) * (scene.disc_grey - scene.matrix_grey)


# Erasing and painting ----------------------------------------------------------------------------------


def _erased(scene: _Scene, index: int, rng: np.random.Generator) -> np.ndarray:
    """Fill the place of a disc with matrix; its neighbours stay."""
    # The outer half of its blurred rim goes with it.
    gone = scene.distance[index] - 2.2 * scene.rim_px
    before, after = _blurred(scene.distance.min(0), scene.rim_px), _blurred(scene.others(index), scene.rim_px)
    fraction = _coverage(gone, scene.rim_px / 2) * (1 - after)
    erased = scene.grey + fraction * (_matrix(scene, scene.distance[index], rng) - scene.grey)
    # Where two blurred rims meet, the image is brighter than the rim that stays.
    lacking = after - (1 - fraction) * before
    return erased + np.where(fraction > 0, lacking * (scene.disc_grey - scene.matrix_grey), 0)


def _painted(
    scene: _Scene, onto: np.ndarray, texture: np.ndarray, shape: np.ndarray, beside: np.ndarray
) -> np.ndarray:
    """Paint a shape; where it overlaps other discs, at distance ``beside``, each shows up to halfway."""
    new, old = _blurred(shape, scene.rim_px), _blurred(beside, scene.rim_px)
    both = _blurred(np.minimum(shape, beside), scene.rim_px)
    fraction = new * _coverage(shape - beside, BLEND_PX)
    painted = onto + fraction * (texture - onto)
    # Two blurred rims do not make the blurred rim of the union: it is brighter in the notches.
    lacking = both - (old + fraction * (1 - old))
    return painted + np.where(new > 0, lacking * (scene.disc_grey - scene.matrix_grey), 0)


def _blurred(distance: np.ndarray, rim_px: float) -> np.ndarray:
    """Fraction of a shape in each pixel after the blur, whatever its curvature; exactly 0 far outside."""
    return gaussian_filter(np.clip(0.5 - distance, 0, 1), rim_px, mode="nearest")


def _from(scene: _Scene, row: float, col: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cols of all pixels relative to a point, each (H, W)."""
    rows, cols = np.indices(scene.grey.shape, float)
    return rows - row, cols - col


# The defects ----------------------------------------------------------------------------------------


def overlap(
    scene: _Scene, rng: np.random.Generator, degree: tuple[float, float] = (0.15, 0.4)
) -> np.ndarray | None:
    """Move a disc into another one: their 1 - d / (r1 + r2) is drawn from ``degree``, uniformly."""
    wanted = rng.uniform(*degree)
    found = _place_for_overlap(scene, wanted, rng)
    if found is None:
        return None
    index, row, col = found
    rows, cols = _from(scene, row, col)
    shape = _disc(scene.grey.shape, row, col, scene.circles[index, 2])
    texture = _texture(scene, index, rows, cols)
    return _painted(scene, _erased(scene, index, rng), texture, shape, scene.others(index))


def _place_for_overlap(
    scene: _Scene, wanted: float, rng: np.random.Generator
) -> tuple[int, float, float] | None:
    """Choose a disc and its new centre, so that it overlaps one disc as wanted and the others hardly."""
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
            if worst[best] <= THIRD_OVERLAP:  # discs and targets come in random order: no choice is left
                return places[-1][1:]
    places = [place for place in places if place[0] <= wanted / 2]
    return min(places)[1:] if places else None


def merged_pair(scene: _Scene, rng: np.random.Generator, gap_px: float = 1.5) -> np.ndarray | None:
    """Fill two neighbours, at most ``gap_px`` apart, to their common convex hull, as bad generators do."""
    whole = scene.whole
    row, col, radius = scene.circles[whole].T
    centres = np.stack([row, col], 1)
    gap = cdist(centres, centres) - radius[:, None] - radius
    pairs = np.argwhere(np.triu(gap <= gap_px, 1))
    if not len(pairs):
        return None
    one, other = whole[rng.choice(pairs)].tolist()
    hull = _hull(scene.grey.shape, scene.circles[one], scene.circles[other])
    textures = [_texture(scene, i, *_from(scene, *scene.circles[i, :2])) for i in (one, other)]
    fraction = _coverage(scene.distance[one] - scene.distance[other], BLEND_PX)
    texture = fraction * textures[0] + (1 - fraction) * textures[1]
    return _painted(scene, scene.grey, texture, hull, scene.others(one, other))


def _hull(shape: tuple[int, ...], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance to the convex hull of two discs: the least of those to the discs that lie between them."""
    between = np.linspace(one, other, 33)
    return np.min([_disc(shape, row, col, radius) for row, col, radius in between.tolist()], axis=0)


def ellipse(
    scene: _Scene, rng: np.random.Generator, axis_ratio: tuple[float, float] = (1.5, 1.8)
) -> np.ndarray | None:
    """Make a disc oval at constant area, in a direction where it has room if there is one."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    stretch = math.sqrt(rng.uniform(*axis_ratio))
    beside = scene.others(index)
    rows, cols = _from(scene, row, col)
    angles = (rng.uniform() + np.arange(12)) * math.pi / 12
    shapes = [_oval(rows, cols, radius, stretch, angle) for angle in angles.tolist()]
    pressed = [int(((shape < 0) & (beside < 0)).sum()) for shape in shapes]
    shape = shapes[int(np.argmin(pressed))]
    return _painted(scene, _erased(scene, index, rng), _texture(scene, index, rows, cols), shape, beside)


def _oval(rows: np.ndarray, cols: np.ndarray, radius_px: float, stretch: float, angle: float) -> np.ndarray:
    """Distance to an ellipse of axes ``radius_px`` times and over ``stretch``, about the middle."""
    along = (rows * math.sin(angle) + cols * math.cos(angle)) / stretch
    across = (rows * math.cos(angle) - cols * math.sin(angle)) * stretch
    reach = np.hypot(along, across)
    # First-order distance to the rim: the value over the slope of the implicit function.
    slope = np.hypot(along / stretch, across * stretch) / np.maximum(reach, 1e-9)
    return (reach - radius_px) / np.maximum(slope, 1 / stretch)


def ghost(
    scene: _Scene, rng: np.random.Generator, contrast: float = 0.5, least_free: float = 0.6
) -> np.ndarray | None:
    """Put a faint disc, ``contrast`` over that of the others, into the matrix, partly behind other discs.

    Where no place is free on the fraction ``least_free`` of it, a disc that is there fades instead.
    """
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    radius = scene.circles[index, 2]
    shape = _free_place(scene, radius, least_free, rng)
    change = contrast
    beside = scene.distance.min(0)
    if shape is None:
        shape, beside, change = scene.distance[index], scene.others(index), contrast - 1
    fraction = _coverage(shape, scene.rim_px) * (1 - _coverage(beside, scene.rim_px))
    return scene.grey + change * (scene.disc_grey - scene.matrix_grey) * fraction


def _free_place(
    scene: _Scene, radius_px: float, least_free: float, rng: np.random.Generator
) -> np.ndarray | None:
    """Choose the freest of random places for a disc; None if even there too much of it would be hidden."""
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


def missing(scene: _Scene, rng: np.random.Generator) -> np.ndarray | None:
    """Erase a disc.

    In the picture alone that is a pocket of resin, which physics allows. It violates the pair of the picture
    and the circles of the original: judge it with those.
    """
    return _erased(scene, int(rng.choice(scene.whole)), rng) if len(scene.whole) else None


def wrong_radius(
    scene: _Scene, rng: np.random.Generator, factor: float | tuple[float, ...] = (0.5, 1.6)
) -> np.ndarray | None:
    """Make a disc's radius ``factor`` times what it was, or one of several; the grain stays what it was."""
    if not len(scene.whole):
        return None
    index, times = int(rng.choice(scene.whole)), float(rng.choice(np.atleast_1d(factor)))
    row, col, radius = scene.circles[index]
    rows, cols = _from(scene, row, col)
    texture = _texture(scene, index, rows, cols)
    shape = _disc(scene.grey.shape, row, col, times * radius)
    return _painted(scene, _erased(scene, index, rng), texture, shape, scene.others(index))


def partial(
    scene: _Scene, rng: np.random.Generator, cut: tuple[float, float] = (-0.2, 0.3)
) -> np.ndarray | None:
    """Cut a disc off along a chord, at a distance of ``cut`` radii from its centre: a half-moon."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    rows, cols = _from(scene, row, col)
    angle = rng.uniform(0, 2 * math.pi)
    beyond = rows * math.sin(angle) + cols * math.cos(angle) - radius * rng.uniform(*cut)
    shape = np.maximum(scene.distance[index], beyond)
    texture = _texture(scene, index, rows, cols)
    return _painted(scene, _erased(scene, index, rng), texture, shape, scene.others(index))


def blank(scene: _Scene, rng: np.random.Generator, phase: str = "matrix", noisy: bool = True) -> np.ndarray:
    """One grey all over, that of the "matrix" or of the "disc" phase, with the image's noise or without."""
    if phase not in ("matrix", "disc"):
        raise ValueError(f"phase: {phase!r}: must be 'matrix' or 'disc'")
    grey = scene.matrix_grey if phase == "matrix" else scene.disc_grey
    return np.full(scene.grey.shape, grey) + (_noise(scene, rng) if noisy else 0)


def noise(scene: _Scene, rng: np.random.Generator) -> np.ndarray:
    """The pixels of the image in random order."""
    return rng.permutation(scene.grey.ravel()).reshape(scene.grey.shape)


def lattice(scene: _Scene, rng: np.random.Generator) -> np.ndarray | None:
    """A hexagonal crystal of equal discs at the image's volume fraction, contrast, blur and noise."""
    if not len(scene.circles):
        return None
    height, width = scene.grey.shape
    radius = float(np.median(scene.circles[:, 2]))
    fraction = float((scene.distance.min(0) < 0).mean())
    step_px = max(2.0 * radius, math.sqrt(math.pi * radius**2 / (math.sqrt(3) / 2 * max(fraction, 1e-3))))
    count = math.ceil(math.hypot(height, width) / step_px) + 2
    i, j = np.mgrid[-count : count + 1, -count : count + 1]
    at = step_px * np.stack([j * math.sqrt(3) / 2, i + (j % 2) / 2], -1).reshape(-1, 2)
    angle = rng.uniform(0, math.pi / 3)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    at = at @ turn + np.array([height, width]) / 2 + rng.uniform(0, step_px, 2)
    seen = ((at > -2 * radius) & (at < np.array([height, width]) + 2 * radius)).all(1)
    distance = np.min([_disc(scene.grey.shape, row, col, radius) for row, col in at[seen].tolist()], axis=0)
    span = scene.disc_grey - scene.matrix_grey
    return scene.matrix_grey + span * _coverage(distance, scene.rim_px) + _noise(scene, rng)


def blurred(scene: _Scene, rng: np.random.Generator, sd_over_radius: float = 0.5) -> np.ndarray | None:
    """Blur by a Gaussian whose sd is a fraction of the median radius."""
    if not len(scene.circles):
        return None
    return gaussian_filter(scene.grey, sd_over_radius * np.median(scene.circles[:, 2]), mode="nearest")


def seam(scene: _Scene, rng: np.random.Generator) -> np.ndarray | None:
    """Stitch two pictures: right of a column that cuts discs through, the image is upside down."""
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
        ghost,
        missing,
        wrong_radius,
        partial,
        blank,
        noise,
        lattice,
        blurred,
        seam,
    )
}
DEFECTS = tuple(_PLANTERS)
