"""How much of an image circles explain: the measure by which polarity and radius of discs are chosen.

An image of discs has two grey values, one inside of all circles and one outside. The right circles leave
little of its variance unexplained. So do many small ones on noise; the number of circles is counted against
them, as in the adjusted coefficient of determination.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from microgan.detection.circles import Circles
from microgan.detection.detect import detect
from microgan.detection.detector import Detector, DetectorConfig, Polarity
from microgan.inspection.patches import Patch

SMOOTHING_PX = 1.0  # standard deviation of the Gaussian over the grey values that are to be explained
NEIGHBOURHOOD_PX = 16.0  # the same, of what counts as shading: four radii at the working scale
SMOOTHING_OF_DETECTOR = 0.35  # over the smallest radius: more than its default, as the noise is unknown
PARAMETERS = 2  # of the three of a circle: its place is not free, as circles hardly overlap
SUB_PIXEL = 4  # binary digits of a pixel, in which OpenCV takes lengths


@dataclass(frozen=True)
class Reading:
    """The circles that one detector finds in patches of one scale.

    Attributes
    ----------
    polarity
        Of the discs that were searched for.
    patches
        What was looked at.
    circles
        Of each patch, in pixels of the scan.
    """

    polarity: Polarity
    patches: tuple[Patch, ...]
    circles: tuple[Circles, ...]

    def __len__(self) -> int:
        return sum(map(len, self.circles))

    @property
    def pixel_px(self) -> float:
        """Side of a pixel of the patches, in pixels of the scan."""
        return self.patches[0].pixel_px

    @property
    def radii_px(self) -> np.ndarray:
        """Radii of all circles (n,), in pixels of the scan."""
        return np.concatenate([np.zeros(0), *(found.radius_px for found in self.circles)])

    def explained(self, pixel_px: float | None = None) -> float:
        """Return the fraction of the grey values' variance that the circles explain, 0 to 1.

        Adjusted for the number of circles. ``pixel_px`` is the side of the pixels in which grey values are
        averaged; that of the patches by default.
        """
        images, masks = [], []
        for patch, circles in zip(self.patches, self.circles, strict=True):
            seen = Patch.of(patch.raw, pixel_px or patch.pixel_px)
            images.append(_local(cv2.GaussianBlur(seen.grey, (0, 0), SMOOTHING_PX)))
            masks.append(_local(_covered(seen, circles)))
        grey, inside = (np.concatenate([part.ravel() for part in parts]) for parts in (images, masks))
        if min(grey.std(), inside.std()) < 1e-6:
            return 0.0
        correlation = float(np.corrcoef(grey, inside)[0, 1]) * (1 if self.polarity == "bright" else -1)
        # Smoothed pixels are not independent: as many count as a Gaussian's effective area leaves.
        count = grey.size / (4 * math.pi * SMOOTHING_PX**2)
        left = count - 1 - PARAMETERS * len(self)
        if correlation <= 0 or left <= 0:
            return 0.0
        return max(1 - (1 - correlation**2) * (count - 1) / left, 0.0)

    def quality(self, pixel_px: float | None = None) -> float:
        """Return `explained` times the mean score of the circles: what readings are compared by."""
        scores = np.concatenate([np.zeros(0), *(found.score for found in self.circles)])
        return self.explained(pixel_px) * float(scores.mean()) if len(scores) else 0.0


def read(patches: Sequence[Patch], band_px: tuple[float, float], polarity: Polarity) -> Reading:
    """Find circles in patches of one scale; the radius band is in pixels of the scan."""
    settings = DetectorConfig(smoothing=SMOOTHING_OF_DETECTOR)
    circles = []
    for patch in patches:
        pixel_px = patch.pixel_px
        band = (max(band_px[0] / pixel_px, 1.0), band_px[1] / pixel_px)
        (found,) = detect(torch.from_numpy(patch.grey)[None, None], Detector(band, polarity, settings))
        table = found.table()
        table[:, :2] = (table[:, :2] + 0.5) * pixel_px - 0.5
        table[:, 2] *= pixel_px
        circles.append(Circles.from_table(table))
    return Reading(polarity, tuple(patches), tuple(circles))


def better(first: Reading | None, second: Reading | None) -> Reading | None:
    """Return which of two readings explains the image better, in the smaller pixels of the two.

    In larger ones, small discs are no more to be seen, and gaps between groups of them pass for discs.
    """
    if first is None or second is None:
        return first or second
    pixel_px = min(first.pixel_px, second.pixel_px)
    return second if second.quality(pixel_px) > first.quality(pixel_px) else first


def _local(values: np.ndarray) -> np.ndarray:
    """Subtract the mean of the neighbourhood: shading and groups of discs are not what is to be explained."""
    return values - cv2.GaussianBlur(values, (0, 0), NEIGHBOURHOOD_PX)


def _covered(patch: Patch, circles: Circles) -> np.ndarray:
    """Return which fraction of each pixel of a patch is inside of a circle, float (h, w)."""
    covered = np.zeros(patch.grey.shape, np.uint8)
    table = circles.table()
    table[:, :2] = (table[:, :2] + 0.5) / patch.pixel_px - 0.5
    table[:, 2] /= patch.pixel_px
    for row, col, radius, _ in (table * 2**SUB_PIXEL).round().astype(int):
        cv2.circle(covered, (int(col), int(row)), int(radius), 255, -1, cv2.LINE_AA, SUB_PIXEL)
    return covered.astype(np.float32) / 255
