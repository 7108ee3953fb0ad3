"""Small parts of planes, at a scale on which all discs have about the same radius."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from microgan.scan.planes import window_corners

WORKING_RADIUS_PX = 4.0  # to which larger discs are shrunk: fast, and noise is averaged
PLACES = ((0.3, 0.3), (0.7, 0.7))  # in the part of a plane where a patch may begin
LEAST_SIDE_RADII = 8  # of a patch over the radius: less of the image shows too few discs


@dataclass(frozen=True)
class PlaneImage:
    """One plane as it is looked at: ``grey`` (H, W) in [-1, 1], and ``mask`` (H, W), the field of view."""

    grey: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Patch:
    """A square part of a plane, ``raw`` (H, W), and the same shrunk, ``grey`` (h, w).

    One pixel of ``grey`` is ``pixel_px`` pixels of the scan.
    """

    raw: np.ndarray
    grey: np.ndarray
    pixel_px: float

    @classmethod
    def of(cls, raw: np.ndarray, pixel_px: float) -> Self:
        """Shrink a square part of a plane."""
        side = round(len(raw) / pixel_px)
        grey = cv2.resize(raw, (side, side), interpolation=cv2.INTER_AREA) if side < len(raw) else raw
        return cls(raw, np.ascontiguousarray(grey), len(raw) / side)


def patches(planes: Sequence[PlaneImage], radius_px: float, side_px: int) -> list[Patch]:
    """Cut up to two patches out of each plane, wholly in the field of view.

    Parameters
    ----------
    planes
        Of one scan.
    radius_px
        Of the discs that are looked for; from `WORKING_RADIUS_PX` on, patches are shrunk by their ratio.
    side_px
        Of a patch, after that; less where the field of view holds no such square.
    """
    pixel_px = max(1.0, radius_px / WORKING_RADIUS_PX)
    side, least = round(side_px * pixel_px), round(LEAST_SIDE_RADII * radius_px)
    return [Patch.of(part, pixel_px) for plane in planes for part in _squares(plane, side, least)]


def _squares(plane: PlaneImage, side_px: int, least_px: int) -> list[np.ndarray]:
    side_px = min(side_px, *plane.mask.shape)
    while side_px >= max(least_px, 16):
        allowed = window_corners(plane.mask, side_px)
        if allowed.any():
            corners = dict.fromkeys(_nearest(allowed, place) for place in PLACES)
            first = next(iter(corners))
            # Two that are nearly the same would count everything twice.
            apart = [
                first,
                *(c for c in corners if max(abs(c[0] - first[0]), abs(c[1] - first[1])) > side_px / 2),
            ]
            return [plane.grey[row : row + side_px, col : col + side_px] for row, col in apart]
        side_px = int(0.8 * side_px)
    return []


def _nearest(allowed: np.ndarray, place: tuple[float, float]) -> tuple[int, int]:
    """Return the allowed corner that is nearest to a place, given as fractions of rows and columns."""
    step = max(1, max(allowed.shape) // 256)
    thinned = allowed[::step, ::step]
    corners = np.argwhere(thinned) * step if thinned.any() else np.argwhere(allowed)
    row, col = corners[np.argmin(((corners - np.multiply(place, allowed.shape)) ** 2).sum(1))]
    return int(row), int(col)
