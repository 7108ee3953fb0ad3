"""What rules read from one image, each worked out once."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.distance import cdist

from microgan.detection.circles import Circles

RIM_PX = 1.0  # at the rim of a disc, where pixels are partly filled, nothing is judged
SMOOTHING_PX = 0.7  # before grey values at rims are read: pixel noise is no structure
ANGLES = 24  # around a disc
ACROSS_PX = np.arange(-3, 2.01, 0.5)  # places of the radial grey profile, from inside to outside of the rim
NEIGHBOUR_PX = 1.5  # where the next disc is closer to a rim than this, the rim's own shape cannot be seen
NEAR_PX = 2.0  # beyond a rim, up to which a disc is looked at; blur brightens the matrix there


# What a rule sees ---------------------------------------------------------------------------------------


class _Near(NamedTuple):
    """Pixels around each circle (n, K, K): their place (flat), distance to its rim (px), whether in image."""

    place: np.ndarray
    distance: np.ndarray
    in_image: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """What rules read from one image; what several of them need is worked out once, when first asked for.

    Attributes
    ----------
    grey : ndarray of shape (H, W), float32
        Normalised grey values, negated for dark discs: discs are always brighter than the matrix.
    phase : ndarray of shape (H, W), bool
        True in discs.
    circles : Circles
        The n discs that were found, also those with centres a little outside of the image.
    """

    grey: np.ndarray
    phase: np.ndarray
    circles: Circles

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return self.phase.shape[0], self.phase.shape[1]

    @cached_property
    def smooth(self) -> np.ndarray:
        """Grey values (H, W) without most of the pixel noise."""
        grey = np.ascontiguousarray(self.grey, np.float32)
        return cv2.GaussianBlur(grey, (0, 0), SMOOTHING_PX, borderType=cv2.BORDER_REPLICATE)

    @cached_property
    def centres(self) -> np.ndarray:
        """Row and column of each disc's centre (n, 2), px."""
        return np.stack([self.circles.row, self.circles.col], axis=1)

    def inside(self, margin_px: np.ndarray | float = 0.0) -> np.ndarray:
        """Return whether each disc's centre is at least ``margin_px`` inside the image, (n,) of bool."""
        return self.border_px >= margin_px

    @cached_property
    def border_px(self) -> np.ndarray:
        """Distance of each disc's centre to the border of the image (n,), negative outside."""
        far = np.array(self.shape) - 1 - self.centres
        return np.minimum(self.centres, far).min(axis=1, initial=np.inf)

    @cached_property
    def whole(self) -> np.ndarray:
        """Indices (m,) of the discs that the border does not cut."""
        return np.flatnonzero(self.inside(self.circles.radius_px))

    @cached_property
    def apart_px(self) -> np.ndarray:
        """Distance between the centres of all pairs (n, n)."""
        return cdist(self.centres, self.centres)

    @cached_property
    def gap_px(self) -> np.ndarray:
        """Rim-to-rim distance of all pairs (n, n), negative where discs overlap, infinite on the diagonal."""
        gap = self.apart_px - self.circles.radius_px[:, None] - self.circles.radius_px
        np.fill_diagonal(gap, np.inf)
        return gap

    @cached_property
    def near(self) -> _Near:
        """Pixels around each disc, up to NEAR_PX beyond its rim."""
        reach = np.ceil(self.circles.radius_px.max(initial=1)) + NEAR_PX
        step = np.arange(-reach, reach + 1)
        place = np.round(self.centres)[..., None] + step  # (n, 2, K)
        square = ((place - self.centres[..., None]) ** 2).astype(np.float32)
        distance = np.sqrt(square[:, 0, :, None] + square[:, 1, None, :])
        distance -= self.circles.radius_px[:, None, None].astype(np.float32)
        size = np.array(self.shape)[:, None]
        inside = (place >= 0) & (place < size)
        place = np.clip(place, 0, size - 1).astype(np.intp)
        index = place[:, 0, :, None] * self.shape[1] + place[:, 1, None, :]
        return _Near(index, distance, inside[:, 0, :, None] & inside[:, 1, None, :])

    @cached_property
    def rim_px(self) -> np.ndarray:
        """Distance (H, W) of each pixel to the rim of the disc that it is deepest in or nearest to.

        Negative inside discs, infinite further than NEAR_PX from all.
        """
        nearest = np.full(self.phase.size, np.inf, np.float32)
        close = self.near.in_image & (self.near.distance < NEAR_PX)
        np.minimum.at(nearest, self.near.place[close], self.near.distance[close])
        return nearest.reshape(self.shape)

    @cached_property
    def disc_grey(self) -> float:
        """Median grey inside discs; the darkest grey of the image when there are none."""
        inside = self.smooth[self.rim_px < -RIM_PX]
        return upper_median(inside) if inside.size else float(self.smooth.min())

    @cached_property
    def matrix_grey(self) -> float:
        """Median grey outside of discs; the brightest grey of the image when discs cover it."""
        outside = self.smooth[self.rim_px > RIM_PX]
        return upper_median(outside) if outside.size else float(self.smooth.max())

    @property
    def contrast(self) -> float:
        """Grey of the discs minus that of the matrix; not above 0 where there is nothing to see."""
        return self.disc_grey - self.matrix_grey if len(self.circles) else 0.0

    @cached_property
    def profiles(self) -> np.ndarray:
        """Grey across the rims of whole discs (m, ANGLES, len(ACROSS_PX)); 0: matrix, 1: disc."""
        if not len(self.whole):
            return np.zeros((0, ANGLES, len(ACROSS_PX)))
        radius = np.maximum(self.circles.radius_px[self.whole, None] + ACROSS_PX, 0)  # (m, P)
        radius = radius.astype(np.float32)[:, None]  # (m, 1, P)
        row, col = (
            (centre[self.whole].astype(np.float32)[:, None, None] + along[:, None] * radius).reshape(
                -1, len(ACROSS_PX)
            )
            for centre, along in zip(self.centres.T, _DIRECTIONS.T.astype(np.float32), strict=True)
        )
        grey = cv2.remap(self.smooth, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return (grey.reshape(len(radius), ANGLES, -1) - self.matrix_grey) / max(self.contrast, 1e-3)

    @cached_property
    def free(self) -> np.ndarray:
        """Where the rims of whole discs can be seen, (m, ANGLES) of bool: no other disc is close."""
        free = np.ones((len(self.whole), ANGLES), bool)
        disc, other = np.nonzero(self.gap_px[self.whole] < NEIGHBOUR_PX)
        if not len(disc):
            return free
        towards = self.centres[other] - self.centres[self.whole[disc]]
        distance = np.maximum(self.apart_px[self.whole[disc], other], 1e-6)
        radius, reach = self.circles.radius_px[self.whole[disc]], self.circles.radius_px[other] + NEIGHBOUR_PX
        # Law of cosines: the angle at which the rim comes out of the other disc, made larger by NEIGHBOUR_PX.
        cosine = (radius**2 + distance**2 - reach**2) / (2 * radius * distance)
        hidden = (towards / distance[:, None]) @ _DIRECTIONS.T > cosine[:, None]
        starts = np.flatnonzero(np.diff(disc, prepend=-1))
        free[disc[starts]] = ~np.logical_or.reduceat(hidden, starts)
        return free


ANGLE_RAD = 2 * np.pi * np.arange(ANGLES) / ANGLES
_DIRECTIONS = np.stack([np.cos(ANGLE_RAD), np.sin(ANGLE_RAD)], axis=1)  # (ANGLES, 2) of row, col


def upper_median(values: np.ndarray) -> float:
    """The upper median, at a fifth of the time that `numpy.median` takes for few values."""
    middle = values.size // 2
    return float(np.partition(values, middle, axis=None)[middle])
