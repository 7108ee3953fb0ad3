"""What the rules read from one image: its discs, their edges and grey values, each computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.distance import cdist
from torch import Tensor

from microgan.detection.circles import Circles, border_distance_px
from microgan.detection.detector import Polarity

EDGE_PX = 1.0  # within this distance of a disc's edge, pixels are partly filled and not measured
SMOOTHING_PX = 0.7  # sd of the Gaussian that averages out pixel noise before grey values are read
ANGLES = 24  # directions of the radial grey profiles of a disc
PROFILE_PX = np.arange(-3, 2.01, 0.5)  # distances from the edge at which a profile is read; negative: inside
NEIGHBOUR_PX = 1.5  # where another disc is closer to an edge than this, the shape of the edge is not measured
NEAR_PX = 2.0  # up to this distance from a disc, pixels are near it: blur brightens the matrix there
HALF_PIXEL_PX = 0.5  # from the border of the image to the centres of the outermost pixels


class NearbyPixels(NamedTuple):
    """The K x K pixels around each of n circles, (n, K, K) each.

    Attributes
    ----------
    flat_index : index into the flattened image
    edge_distance_px : distance to the edge of the circle, negative inside
    in_image : whether the pixel exists
    """

    flat_index: np.ndarray
    edge_distance_px: np.ndarray
    in_image: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """One image as the rules read it; what several rules need is computed once, when first asked for.

    Attributes
    ----------
    grey : ndarray of shape (H, W), float32
        Normalised grey values, negated for dark discs: discs are always brighter than the matrix.
    phase : ndarray of shape (H, W), bool
        True in the disc phase.
    circles : Circles
        The n detected discs, also those with centres a little outside of the image.
    """

    grey: np.ndarray
    phase: np.ndarray
    circles: Circles

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return self.phase.shape[0], self.phase.shape[1]

    @cached_property
    def smooth_grey(self) -> np.ndarray:
        """Grey values (H, W) without most of the pixel noise."""
        grey = np.ascontiguousarray(self.grey, np.float32)
        return cv2.GaussianBlur(grey, (0, 0), SMOOTHING_PX, borderType=cv2.BORDER_REPLICATE)

    # Where the discs are --------------------------------------------------------------------------------

    @cached_property
    def centres_px(self) -> np.ndarray:
        """Row and column of each disc's centre (n, 2)."""
        return np.stack([self.circles.row, self.circles.col], axis=1)

    @cached_property
    def border_distance_px(self) -> np.ndarray:
        """Distance of each disc's centre to the border of the image (n,), negative outside."""
        return border_distance_px(self.circles.row, self.circles.col, self.shape)

    def inside(self, margin_px: np.ndarray | float = 0.0) -> np.ndarray:
        """Return whether each disc's centre is at least ``margin_px`` from the border, (n,) of bool."""
        return self.border_distance_px >= margin_px

    @property
    def between_pixel_centres(self) -> np.ndarray:
        """Whether each disc's centre lies between the centres of the outermost pixels, (n,) of bool."""
        return self.inside(HALF_PIXEL_PX)

    @cached_property
    def whole(self) -> np.ndarray:
        """Indices (m,) of the discs that end before the outermost pixels: the border does not cut them."""
        return np.flatnonzero(self.inside(self.circles.radius_px + HALF_PIXEL_PX))

    @cached_property
    def centre_distance_px(self) -> np.ndarray:
        """Distance between the centres of all pairs (n, n)."""
        return cdist(self.centres_px, self.centres_px)

    @cached_property
    def gap_px(self) -> np.ndarray:
        """Edge-to-edge distance of all pairs (n, n), negative where they overlap, infinite for one disc."""
        gap = self.centre_distance_px - self.circles.radius_px[:, None] - self.circles.radius_px
        np.fill_diagonal(gap, np.inf)
        return gap

    # Which pixels are in and near them ------------------------------------------------------------------

    @cached_property
    def nearby(self) -> NearbyPixels:
        """Pixels in each disc and up to NEAR_PX around it."""
        reach = np.ceil(self.circles.radius_px.max(initial=1)) + NEAR_PX
        step = np.arange(-reach, reach + 1)
        place = np.round(self.centres_px)[..., None] + step  # (n, 2, K)
        square = ((place - self.centres_px[..., None]) ** 2).astype(np.float32)
        distance = np.sqrt(square[:, 0, :, None] + square[:, 1, None, :])
        distance -= self.circles.radius_px[:, None, None].astype(np.float32)
        size = np.array(self.shape)[:, None]
        inside = (place >= 0) & (place < size)
        place = np.clip(place, 0, size - 1).astype(np.intp)
        index = place[:, 0, :, None] * self.shape[1] + place[:, 1, None, :]
        return NearbyPixels(index, distance, inside[:, 0, :, None] & inside[:, 1, None, :])

    @cached_property
    def edge_distance_px(self) -> np.ndarray:
        """Distance (H, W) of each pixel to the edge of the disc that it is deepest in or nearest to.

        Negative inside discs, infinite further than NEAR_PX from all.
        """
        nearest = np.full(self.phase.size, np.inf, np.float32)
        close = self.nearby.in_image & (self.nearby.edge_distance_px < NEAR_PX)
        np.minimum.at(nearest, self.nearby.flat_index[close], self.nearby.edge_distance_px[close])
        return nearest.reshape(self.shape)

    # Grey values ----------------------------------------------------------------------------------------

    @cached_property
    def disc_grey(self) -> float:
        """Median grey inside discs; the darkest grey of the image when there are none."""
        inside = self.smooth_grey[self.edge_distance_px < -EDGE_PX]
        return upper_median(inside) if inside.size else float(self.smooth_grey.min())

    @cached_property
    def matrix_grey(self) -> float:
        """Median grey outside of discs; the brightest grey of the image when discs cover it."""
        outside = self.smooth_grey[self.edge_distance_px > EDGE_PX]
        return upper_median(outside) if outside.size else float(self.smooth_grey.max())

    @property
    def contrast(self) -> float:
        """Grey of the discs minus that of the matrix; 0 without discs."""
        return self.disc_grey - self.matrix_grey if len(self.circles) else 0.0

    @cached_property
    def profiles(self) -> np.ndarray:
        """Grey across the edges of whole discs (m, ANGLES, len(PROFILE_PX)); 0: matrix, 1: disc."""
        if not len(self.whole):
            return np.zeros((0, ANGLES, len(PROFILE_PX)))
        radius = np.maximum(self.circles.radius_px[self.whole, None] + PROFILE_PX, 0)  # (m, P)
        radius = radius.astype(np.float32)[:, None]  # (m, 1, P)
        row, col = (
            (centre[self.whole].astype(np.float32)[:, None, None] + along[:, None] * radius).reshape(
                -1, len(PROFILE_PX)
            )
            for centre, along in zip(self.centres_px.T, _DIRECTIONS.T.astype(np.float32), strict=True)
        )
        grey = cv2.remap(self.smooth_grey, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return (grey.reshape(len(radius), ANGLES, -1) - self.matrix_grey) / max(self.contrast, 1e-3)

    @cached_property
    def free_edge(self) -> np.ndarray:
        """At which angles no other disc is close to the edge of a whole disc, (m, ANGLES) of bool."""
        free = np.ones((len(self.whole), ANGLES), bool)
        disc, neighbour = np.nonzero(self.gap_px[self.whole] < NEIGHBOUR_PX)
        if not len(disc):
            return free
        towards = self.centres_px[neighbour] - self.centres_px[self.whole[disc]]
        distance = np.maximum(self.centre_distance_px[self.whole[disc], neighbour], 1e-6)
        radius = self.circles.radius_px[self.whole[disc]]
        reach = self.circles.radius_px[neighbour] + NEIGHBOUR_PX
        # Law of cosines: the angle at which the edge leaves the neighbour, made larger by NEIGHBOUR_PX.
        cosine = (radius**2 + distance**2 - reach**2) / (2 * radius * distance)
        hidden = (towards / distance[:, None]) @ _DIRECTIONS.T > cosine[:, None]
        starts = np.flatnonzero(np.diff(disc, prepend=-1))
        free[disc[starts]] = ~np.logical_or.reduceat(hidden, starts)
        return free


ANGLE_RAD = 2 * np.pi * np.arange(ANGLES) / ANGLES  # of the profiles; 0: along rows, pi / 2: along columns
_DIRECTIONS = np.stack([np.cos(ANGLE_RAD), np.sin(ANGLE_RAD)], axis=1)  # (ANGLES, 2) of row, col


def gather_evidence(
    images: Tensor, phase: Tensor, circles: Sequence[Circles], polarity: Polarity
) -> list[Evidence]:
    """Return the evidence of each image.

    Parameters
    ----------
    images
        Normalised grey values (N, 1, H, W).
    phase
        Where they are disc phase, bool (N, H, W).
    circles
        The detected discs of each.
    polarity
        Of the discs; images of dark ones are negated.
    """
    grey = images[:, 0].cpu().numpy() * np.float32(1 if polarity == "bright" else -1)
    return [Evidence(*parts) for parts in zip(grey, phase.numpy(), circles, strict=True)]


def upper_median(values: np.ndarray) -> float:
    """Return the median, the upper one of an even number; several times faster than `numpy.median`."""
    middle = values.size // 2
    return float(np.partition(values, middle, axis=None)[middle])
