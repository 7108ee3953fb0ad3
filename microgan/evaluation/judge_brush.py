"""The brush of the judge: faults and sound changes made by copying and inpainting, with OpenCV.

It shares nothing with `microgan.validity.planting`, from which the filter learns: nothing is painted here.
Discs are copied with whatever is beside them, places are filled by inpainting, a disc is scaled as a picture
is. So the judge knows other traces than the filter. Traces alone mean no fault: sound changes leave the same.

Discs are bright here. Coordinates are (row, col), pixel centres at integers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np

from microgan.detection.circles import Circles, centres_inside

EDGE_PX = 1.2  # over which a copied disc fades into its new place
FILL_PX = 3.0  # reach of the inpainting
USUAL_RADIUS_PX = 5.0  # where there is no disc
ANGLES = 24  # tried for a place beside a disc


@dataclass(frozen=True)
class DiscWindow:
    """An image of bright discs.

    Attributes
    ----------
    grey : float32 (H, W)
    discs : row, col, radius of each (n, 3), px
    whole : indices of the discs that the border does not cut and that are no doubtful detections
    distance : of each pixel to the edge of each disc (n, H, W), negative inside
    matrix_grey, contrast : median grey of the matrix, and by how much that of the discs is above it
    noise_sd : standard deviation of the noise
    """

    grey: np.ndarray
    discs: np.ndarray
    whole: np.ndarray
    distance: np.ndarray
    matrix_grey: float
    contrast: float
    noise_sd: float

    @classmethod
    def of(cls, grey: np.ndarray, circles: Circles) -> Self:
        grey, discs = np.ascontiguousarray(grey, np.float32), circles.table()[:, :3].astype(float)
        row, col, radius = discs.T
        inside = centres_inside(row, col, (grey.shape[0], grey.shape[1]), radius + 0.5)
        certain = circles.score >= min(0.5, np.median(circles.score)) if len(discs) else np.zeros(0, bool)
        distance = distances(grey.shape, discs)
        nearest = distance.min(0, initial=np.inf)
        matrix, core = grey[nearest > 1.5], grey[nearest < -1.5]
        matrix_grey = float(np.median(matrix)) if len(matrix) else float(grey.min())
        disc_grey = float(np.median(core)) if len(core) else float(grey.max())
        # The second differences of white noise have 6 times its variance; edges are few.
        second = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
        noise_sd = 1.4826 * float(np.median(np.abs(second))) / math.sqrt(6)
        whole = np.flatnonzero(inside & certain)
        return cls(grey, discs, whole, distance, matrix_grey, disc_grey - matrix_grey, noise_sd)

    def after(self, grey: np.ndarray) -> Self:
        """Return the window after a change; discs that it touched are left alone from then on."""
        changed = np.abs(grey - self.grey) > 0.02
        touched = (changed & (self.distance[self.whole] < -1)).any((1, 2))
        return replace(self, grey=grey, whole=self.whole[~touched])

    def others(self, *index: int) -> np.ndarray:
        """Distance of each pixel to the nearest of all discs but these (H, W)."""
        return np.delete(self.distance, index, axis=0).min(0, initial=np.inf)


def distances(shape: tuple[int, ...], discs: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the edge of each disc (n, H, W), negative inside."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    row, col, radius = discs.T[..., None, None]
    return (np.hypot(rows - row, cols - col) - radius).astype(np.float32)


def disc_distance(shape: tuple[int, ...], row: float, col: float, radius_px: float) -> np.ndarray:
    """Distance of each pixel to the edge of a disc (H, W)."""
    return distances(shape, np.array([[row, col, radius_px]]))[0]


def soft(distance: np.ndarray, edge_px: float = EDGE_PX) -> np.ndarray:
    """1 inside a shape, 0 outside, linear across its edge."""
    return np.clip(0.5 - distance / edge_px, 0, 1).astype(np.float32)


def copied(
    grey: np.ndarray,
    centre: tuple[float, float],
    to: tuple[float, float],
    scale: float = 1.0,
    angle: float = 0.0,
) -> np.ndarray:
    """Return the image moved so that ``centre`` lies at ``to``, enlarged and turned about it."""
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    turn = np.array([[cosine, -sine], [sine, cosine]])  # (col, row): from the new image to the old one
    shift = np.array(centre)[::-1] - turn @ np.array(to)[::-1]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = grey.shape[1], grey.shape[0]
    return cv2.warpAffine(
        grey, np.column_stack([turn, shift]), size, flags=flags, borderMode=cv2.BORDER_REFLECT
    )


def inpainted(window: DiscWindow, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill a hole (bool, H, W) as matrix from its edges, with noise."""
    method = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
    low, high = float(window.grey.min()), float(window.grey.max())
    levels = np.round((window.grey - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    filled = cv2.inpaint(levels, hole.astype(np.uint8), FILL_PX, method) * ((high - low) / 255) + low
    filled = np.minimum(filled, window.matrix_grey + 0.3 * window.contrast)  # edges of discs must not spread
    noise = rng.standard_normal(filled.shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.6)
    return np.where(hole, filled + noise * (window.noise_sd / noise.std()), window.grey).astype(np.float32)


def erased(window: DiscWindow, index: int, rng: np.random.Generator) -> np.ndarray:
    """Fill the place of a disc by inpainting; pixels of its neighbours stay."""
    hole = (window.distance[index] < 2.0) & (window.others(index) > 0.8)
    return inpainted(window, hole, rng)


# Faults -------------------------------------------------------------------------------------------------


def overlap(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Lay a copy of a disc on another one, a little beside it; nothing is erased."""
    if not len(window.whole):
        return None
    lower, upper = rng.choice(window.whole, 2)
    row, col, radius = window.discs[lower]
    own_row, own_col, own_radius = window.discs[upper]
    reach_px = (1 - rng.uniform(0.15, 0.45)) * (radius + own_radius)
    angles = rng.uniform(0, 2 * math.pi) + np.arange(ANGLES) * 2 * math.pi / ANGLES
    places = np.stack([row + reach_px * np.sin(angles), col + reach_px * np.cos(angles)], 1)
    inside = (
        (places > 0.6 * own_radius) & (places < np.array(window.grey.shape) - 1 - 0.6 * own_radius)
    ).all(1)
    if not inside.any():
        return None
    third = window.others(int(lower))
    shapes = distances(window.grey.shape, np.column_stack([places, np.full(ANGLES, own_radius)])[inside])
    best = int(((shapes < 0) & (third < 0)).sum((1, 2)).argmin())
    to = places[inside][best]
    copy = copied(window.grey, (own_row, own_col), (to[0], to[1]), angle=rng.uniform(0, 2 * math.pi))
    laid = window.grey + soft(shapes[best]) * (copy - window.grey)
    return np.maximum(laid, window.grey) if rng.random() < 0.5 else laid


def partial_disc(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Remove a half of a disc, or a random part of it, by inpainting."""
    if not len(window.whole):
        return None
    index = int(rng.choice(window.whole))
    lost = missing_part(window.grey.shape, window.discs[index], rng)
    return window.grey + lost * (erased(window, index, rng) - window.grey)


def missing_part(shape: tuple[int, ...], disc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose what a disc lacks: 1 where all is missing, 0 where nothing is (H, W)."""
    row, col, radius = disc
    rows, cols = np.indices(shape) - np.reshape([row, col], (2, 1, 1))
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        beyond = rows * math.sin(angle) + cols * math.cos(angle) - radius * rng.uniform(-0.4, 0.25)
        return soft(-beyond, rng.uniform(1.0, 4.0))
    field = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 0.45 * radius)
    limit = np.quantile(field[np.hypot(rows, cols) < radius], rng.uniform(0.3, 0.65))
    return (rng.uniform(0.7, 1.0) * np.clip(0.5 + (field - limit) / (0.6 * field.std()), 0, 1)).astype(
        np.float32
    )


def joined_pair(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Fill the gap between two discs by copies of one of them: a neck, or both merge."""
    discs = window.discs[window.whole]
    pair = near_pair(discs, rng)
    if pair is None:
        return None
    (first, second), neck = pair
    shape, angle = window.grey.shape, rng.uniform(0, 2 * math.pi)
    row, col, radius = discs[first]
    total, weights = np.zeros(shape), [np.zeros(shape)]
    for part in (0.25, 0.5, 0.75):
        to = discs[first, :2] + part * (discs[second, :2] - discs[first, :2])
        weights.append(soft(disc_distance(shape, to[0], to[1], radius)))
        total += weights[-1] * copied(window.grey, (row, col), (to[0], to[1]), angle=angle)
    between = soft(neck(shape)) * soft(-1.5 - window.distance.min(0), 1.5)  # the discs stay as they are
    weight = np.max(weights, axis=0)
    return window.grey + weight * between * (total / np.maximum(np.sum(weights, axis=0), 1e-6) - window.grey)


def near_pair(
    discs: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[int, int], Callable[[tuple[int, ...]], np.ndarray]] | None:
    """Choose two discs near each other, and a neck between them: shape (H, W) -> distance to its edge."""
    if len(discs) < 2:
        return None
    radius = discs[:, 2]
    reach = np.linalg.norm(discs[:, None, :2] - discs[:, :2], axis=2)
    gap = (reach - radius[:, None] - radius) / np.minimum(radius[:, None], radius)
    pairs = np.argwhere(np.triu((gap > 0.2) & (gap < 1.2), 1))
    if not len(pairs):
        return None
    first, second = rng.permutation(pairs[rng.integers(len(pairs))]).tolist()
    half_px = rng.uniform(0.55, 1.0) * min(radius[first], radius[second])
    start, way = discs[first, :2], discs[second, :2] - discs[first, :2]

    def neck(shape: tuple[int, ...]) -> np.ndarray:
        rows, cols = np.indices(shape) - np.reshape(start, (2, 1, 1))
        along = np.clip((rows * way[0] + cols * way[1]) / (way @ way), 0, 1)
        return np.hypot(rows - along * way[0], cols - along * way[1]) - half_px

    return (first, second), neck


def wrong_radius(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Replace a disc by a reduced or enlarged picture of itself."""
    if not len(window.whole):
        return None
    index = int(rng.choice(window.whole))
    row, col, radius = window.discs[index]
    scale = wrong_scale(rng)
    copy = copied(window.grey, (row, col), (row, col), scale)
    below = window.grey if scale > 1 else erased(window, index, rng)
    return below + soft(disc_distance(below.shape, row, col, scale * radius)) * (copy - below)


def wrong_scale(rng: np.random.Generator) -> float:
    """Draw a factor for a radius that is much too small or too large."""
    return float(rng.uniform(0.5, 0.65) if rng.random() < 0.5 else rng.uniform(1.5, 1.75))


def wrong_contrast(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Raise or lower the contrast of a disc."""
    if not len(window.whole):
        return None
    index = int(rng.choice(window.whole))
    return window.grey + (contrast_factor(rng) - 1) * window.contrast * soft(window.distance[index], 2.0)


def contrast_factor(rng: np.random.Generator) -> float:
    """Draw a factor for the contrast of a disc that is much too faint or too bright."""
    return float(rng.uniform(0.25, 0.55) if rng.random() < 0.5 else rng.uniform(1.5, 1.8))


def warped(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Warp a round place, or all of the window, so that no disc there keeps its shape."""
    return warped_picture(window.grey, window.discs, rng)


def warped_picture(picture: np.ndarray, discs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Warp a picture (H, W) of discs (n, 3) by a random field of displacements."""
    shape = picture.shape
    radius_px = float(np.median(discs[:, 2])) if len(discs) else USUAL_RADIUS_PX
    field = cv2.GaussianBlur(rng.standard_normal((*shape, 2)), (0, 0), rng.uniform(0.5, 1.2) * radius_px)
    field *= rng.uniform(0.35, 0.7) * radius_px / field.std()
    row, col = rng.uniform(0, shape).tolist()
    place = soft(disc_distance(shape, row, col, rng.uniform(2, 9) * radius_px), 3.0)
    rows, cols = np.indices(shape) + place * field.transpose(2, 0, 1)
    return cv2.remap(
        picture.astype(np.float32),
        cols.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )


# Sound changes ------------------------------------------------------------------------------------------


def put_back(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Copy a disc onto itself, less than half a pixel beside."""
    if not len(window.whole):
        return None
    row, col, radius = window.discs[int(rng.choice(window.whole))]
    to = row + rng.uniform(-0.4, 0.4), col + rng.uniform(-0.4, 0.4)
    copy = copied(window.grey, (row, col), to)
    return window.grey + soft(disc_distance(window.grey.shape, *to, radius)) * (copy - window.grey)


def replaced(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Erase a disc and lay a copy of another one there, of the same radius."""
    if len(window.whole) < 2:
        return None
    index, other = rng.choice(window.whole, 2, replace=False).tolist()
    row, col, radius = window.discs[index]
    own_row, own_col, own_radius = window.discs[other]
    copy = copied(
        window.grey, (own_row, own_col), (row, col), radius / own_radius, rng.uniform(0, 2 * math.pi)
    )
    below = erased(window, index, rng)
    return below + soft(disc_distance(below.shape, row, col, radius)) * (copy - below)


def missing(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Erase a disc: a pocket of matrix, as materials have."""
    return erased(window, int(rng.choice(window.whole)), rng) if len(window.whole) else None


def matrix_filled(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Inpaint matrix where matrix was."""
    row, col = rng.uniform(0, window.grey.shape).tolist()
    place = disc_distance(window.grey.shape, row, col, rng.uniform(4, 9)) < 0
    hole = place & (window.others() > 1)
    return inpainted(window, hole, rng) if hole.any() else None


def softened(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur a little."""
    return cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.35, 0.6))


def sharpened(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sharpen a little, by an unsharp mask."""
    return grey + rng.uniform(0.15, 0.4) * (grey - cv2.GaussianBlur(grey, (0, 0), 1.0))


def denoised(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remove some of the noise, by a bilateral filter."""
    return cv2.bilateralFilter(grey, 5, rng.uniform(0.1, 0.3), 1.0)


Change = Callable[[DiscWindow, np.random.Generator], np.ndarray | None]
FAULTS: dict[str, Change] = {
    "overlap": overlap,
    "partial_disc": partial_disc,
    "joined_pair": joined_pair,
    "wrong_radius": wrong_radius,
    "wrong_contrast": wrong_contrast,
    "warped": warped,
}
TRACES: dict[str, Change] = {
    "put_back": put_back,
    "replaced": replaced,
    "missing": missing,
    "matrix_filled": matrix_filled,
}
FILTERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "softened": softened,
    "sharpened": sharpened,
    "denoised": denoised,
}
