"""The detectors that are compared, each with the settings among which it may choose its best."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from skimage.feature import canny
from skimage.transform import hough_circle, hough_circle_peaks

from microgan.detection.detect import detect
from microgan.detection.detector import Detector, DetectorConfig, Polarity

Band = tuple[float, float]


@dataclass(frozen=True)
class Contender:
    """A detector: ``find(images (N, H, W), band_px, polarity, **settings)`` gives N tables (n, 4)."""

    name: str
    find: Callable[..., list[np.ndarray]]
    values: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def settings(self, quick: bool = False) -> list[dict[str, Any]]:
        """Return all combinations of values; the first two of each setting when ``quick``."""
        values = [tried[:2] if quick else tried for tried in self.values.values()]
        return [dict(zip(self.values, combination, strict=True)) for combination in product(*values)]


def by_microgan(images: np.ndarray, band_px: Band, polarity: Polarity, **settings: Any) -> list[np.ndarray]:
    """A back end of `microgan.detection.detect.detect`."""
    batch = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    detector = Detector(band_px, polarity, DetectorConfig(**settings))
    return [circles.table() for circles in detect(batch, detector)]


def by_opencv(method: int) -> Callable[..., list[np.ndarray]]:
    """`cv2.HoughCircles` after a Gaussian blur and a magnification; it has no parameter for the polarity.

    ``votes`` is over the edge's pixels for the gradient method, the perfectness for the other;
    ``apart`` the least distance of centres over the smallest radius.
    """

    def find(
        images: np.ndarray,
        band_px: Band,
        polarity: Polarity,
        blur_px: float,
        scale: int,
        edge: float,
        votes: float,
        apart: float,
    ) -> list[np.ndarray]:
        smallest, largest = band_px[0] * scale, band_px[1] * scale
        tables = []
        for image in images:
            smooth = cv2.GaussianBlur(image, (0, 0), blur_px)
            low, high = np.percentile(smooth, (0.5, 99.5))
            levels = np.clip((smooth - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
            rows = cv2.HoughCircles(
                cv2.resize(levels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC),
                method,
                dp=1.0,
                minDist=apart * smallest,
                param1=edge,
                param2=votes if method == cv2.HOUGH_GRADIENT_ALT else votes * 2 * math.pi * smallest,
                minRadius=math.floor(smallest),
                maxRadius=math.ceil(largest),
            )
            circles = np.zeros((0, 3)) if rows is None else rows.reshape(-1, rows.shape[-1])[:, :3]
            col, row, radius = circles.astype(float).T
            at = [(row + 0.5) / scale - 0.5, (col + 0.5) / scale - 0.5, radius / scale, np.ones(len(row))]
            tables.append(np.column_stack(at))
        return tables

    return find


def by_skimage(
    images: np.ndarray, band_px: Band, polarity: Polarity, sigma: float, threshold: float, scale: int
) -> list[np.ndarray]:
    """`skimage.transform.hough_circle` on Canny edges; it has no parameter for the polarity."""
    radii = np.arange(round(band_px[0] * scale), round(band_px[1] * scale) + 1)
    apart = int(1.1 * band_px[0] * scale)
    tables = []
    for image in images:
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        edges = canny(large, sigma * scale, use_quantiles=True, low_threshold=0.6, high_threshold=0.8)
        space = hough_circle(edges, radii, full_output=True)  # centres outside of the image, too
        score, col, row, radius = hough_circle_peaks(
            space, radii, apart, apart, threshold=threshold, total_num_peaks=edges.size, normalize=False
        )
        row, col = ((at - radii.max() + 0.5) / scale - 0.5 for at in (row, col))
        tables.append(np.column_stack([row, col, radius / scale, score]).reshape(-1, 4).astype(float))
    return tables


CONTENDERS: Sequence[Contender] = (
    Contender("ring", by_microgan),
    Contender("watershed", by_microgan, {"backend": ("watershed",)}),
    Contender(
        "opencv gradient",
        by_opencv(cv2.HOUGH_GRADIENT),
        {
            "blur_px": (1.3, 1.0, 0.5),
            "scale": (2, 3),
            "edge": (120.0, 60.0),
            "votes": (0.2, 0.25, 0.15),
            "apart": (2.2, 1.6, 1.1),
        },
    ),
    Contender(
        "opencv gradient_alt",
        by_opencv(cv2.HOUGH_GRADIENT_ALT),
        {
            "blur_px": (1.3, 1.0, 0.5),
            "scale": (2, 3),
            "edge": (150.0, 300.0),
            "votes": (0.2, 0.5, 0.8),
            "apart": (1.6, 1.1),
        },
    ),
    Contender(
        "skimage hough_circle",
        by_skimage,
        {"sigma": (1.0, 1.5), "threshold": (0.4, 0.5, 0.3, 0.6), "scale": (1, 2)},
    ),
)
