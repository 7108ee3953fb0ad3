"""The brush: an image with its discs, and how discs are erased from it and painted into it.

What is painted takes its grey from the image itself: discs keep their own texture, erased places get matrix
with the noise of the image, and new edges are as blurred as the others. Discs are bright here.

A shape is given as the signed distance of each pixel to its edge, px (H, W), negative inside. Coordinates are
(row, col), pixel centres at integers.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import erfc

from microgan.detection.circles import Circles, centres_inside
from microgan.validity.evidence import HALF_PIXEL_PX

EDGE_BLURS_PX = np.arange(0.4, 2.05, 0.1)  # sds of the Gaussian blur of edges that are compared with an image
EDGE_REACH = 3.2  # sds of that blur from an edge, beyond which a shape changes nothing
CORE_DEPTH = 1.3  # sds of that blur inside an edge, from where on the grey is that of the disc alone
BLEND_PX = 0.7  # sd of the change from one disc's texture to another's where they overlap


class Planted(NamedTuple):
    """What planting gives.

    Attributes
    ----------
    grey : (H, W)
    where : bool (H, W), the pixels where a person would point at; all where there is no such place
    """

    grey: np.ndarray
    where: np.ndarray


def everywhere(grey: np.ndarray) -> Planted:
    """Return a change of the image as a whole."""
    return Planted(grey, np.ones(grey.shape, bool))


@dataclass(frozen=True)
class Scene:
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
    def of(cls, grey: np.ndarray, circles: Circles) -> Self:
        grey, table = grey.astype(float), circles.table()[:, :3].astype(float)
        distance = np.array([disc_distance(grey.shape, *circle) for circle in table]).reshape(-1, *grey.shape)
        depth = distance.min(0) if len(distance) else np.full(grey.shape, np.inf)
        core, matrix = depth < -1.5, depth > 1
        matrix_grey = float(np.median(grey[matrix])) if matrix.any() else float(grey.min())
        disc_grey = float(np.median(grey[core])) if core.any() else float(grey.max())
        # Discs without a circle must not count as matrix.
        matrix &= grey < (matrix_grey + disc_grey) / 2
        noise = np.where(matrix, grey - matrix_grey, np.where(core, grey - disc_grey, 0))
        blur_px = _edge_blur_px(grey, depth, matrix_grey, disc_grey)
        return cls(grey, table, circles.score, distance, blur_px, disc_grey, matrix_grey, noise)

    def after(self, planted: Planted) -> Self:
        """Return the scene after a change; discs that it touched stay where they were, and are left alone."""
        changed = np.abs(planted.grey - self.grey) > 1e-6
        touched = (changed & (self.distance < 0)).any((1, 2))
        return replace(self, grey=planted.grey, score=np.where(touched, 0, self.score))

    @property
    def contrast(self) -> float:
        """Grey of the discs minus that of the matrix."""
        return self.disc_grey - self.matrix_grey

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


def disc_distance(shape: tuple[int, ...], row: float, col: float, radius_px: float) -> np.ndarray:
    """Distance of each pixel to the edge of a disc (H, W)."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, cols - col) - radius_px


def coverage(distance: np.ndarray, blur_px: float) -> np.ndarray:
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
        np.abs(matrix_grey + span * coverage(depth[near], blur_px) - grey[near]).mean()
        for blur_px in EDGE_BLURS_PX
    ]
    return float(EDGE_BLURS_PX[int(np.argmin(misfit))])


def matrix_over(scene: Scene, erased_shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Matrix to put where the shape ``erased`` was: the grey of the matrix near it, and noise."""
    known = (scene.distance.min(0) > 1) & (erased_shape > 1)
    known &= scene.grey < (scene.matrix_grey + scene.disc_grey) / 2
    reach_px = max(1.0, 0.7 * float(np.median(scene.circles[:, 2])))
    weight = gaussian_filter(known.astype(float), reach_px)
    prior = 0.3  # weight of the median: narrow gaps alone are darker than open matrix
    level = gaussian_filter(np.where(known, scene.grey, 0), reach_px) + prior * scene.matrix_grey
    return level / (weight + prior) + noise_of(scene, rng)


def noise_of(scene: Scene, rng: np.random.Generator) -> np.ndarray:
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


def texture_of(scene: Scene, index: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Grey of a disc at positions relative to its centre (H, W); beyond its core, the core is mirrored."""
    row, col, radius = scene.circles[index]
    core_px = max(radius - CORE_DEPTH * scene.blur_px, 0.5 * radius)
    reach = np.hypot(rows, cols)
    folded = core_px - np.abs(np.mod(reach, 2 * core_px) - core_px)
    scale = folded / np.maximum(reach, 1e-9)
    grey = map_coordinates(scene.grey, [row + rows * scale, col + cols * scale], order=3, mode="nearest")
    # The blur has mixed a little matrix into the core, which is added back.
    return grey + (1 - coverage(folded - radius, scene.blur_px)) * (scene.disc_grey - scene.matrix_grey)


# Erasing and painting --------------------------------------------------------------------------------------


def erased(scene: Scene, index: int, rng: np.random.Generator) -> np.ndarray:
    """Fill the place of a disc with matrix; its neighbours stay."""
    # The outer half of its blurred edge is erased with it.
    erased_shape = scene.distance[index] - 2.2 * scene.blur_px
    before, after = (
        blurred_shape(scene.distance.min(0), scene.blur_px),
        blurred_shape(scene.others(index), scene.blur_px),
    )
    fraction = coverage(erased_shape, scene.blur_px / 2) * (1 - after)
    filled = scene.grey + fraction * (matrix_over(scene, scene.distance[index], rng) - scene.grey)
    # Where two blurred edges met, the image was brighter than the one that stays.
    lacking = after - (1 - fraction) * before
    return filled + np.where(fraction > 0, lacking * (scene.disc_grey - scene.matrix_grey), 0)


def painted(
    scene: Scene, onto: np.ndarray, texture: np.ndarray, shape: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Paint a shape; where it overlaps ``others``, each shows up to the middle of the overlap."""
    new, old = blurred_shape(shape, scene.blur_px), blurred_shape(others, scene.blur_px)
    both = blurred_shape(np.minimum(shape, others), scene.blur_px)
    fraction = new * coverage(shape - others, BLEND_PX)
    changed = onto + fraction * (texture - onto)
    # The sum of two blurred edges is not the blurred edge of the union, which is brighter in the notches.
    lacking = both - (old + fraction * (1 - old))
    return changed + np.where(new > 0, lacking * (scene.disc_grey - scene.matrix_grey), 0)


def blurred_shape(distance: np.ndarray, blur_px: float) -> np.ndarray:
    """Fraction of a shape in each pixel after the blur, of any curvature; exactly 0 far outside."""
    return gaussian_filter(np.clip(0.5 - distance, 0, 1), blur_px, mode="nearest")


def relative_to(scene: Scene, row: float, col: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cols of all pixels relative to a point, each (H, W)."""
    rows, cols = np.indices(scene.grey.shape, float)
    return rows - row, cols - col
