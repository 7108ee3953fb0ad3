"""The detectors that are compared, each with the settings among which it may choose its best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from skimage.feature import canny
from skimage.transform import hough_circle, hough_circle_peaks

from microgan.hough import HoughConfig, Polarity, detect

Band = tuple[float, float]


@dataclass(frozen=True)
class Contender:
    """A detector: ``find(images (N, H, W), band_px, polarity, **settings)`` gives N tables (n, 4)."""

    name: str
    find: Callable[..., list[np.ndarray]]
    choices: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def settings(self, quick: bool = False) -> list[dict[str, Any]]:
        """Return all combinations of choices; the first two of each when ``quick``."""
        values = [choice[:2] if quick else choice for choice in self.choices.values()]
        return [dict(zip(self.choices, combination, strict=True)) for combination in product(*values)]


def by_microgan(images: np.ndarray, band_px: Band, polarity: Polarity, **settings: Any) -> list[np.ndarray]:
    """A back end of `microgan.hough.detect`."""
    batch = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    return [circles.table() for circles in detect(batch, band_px, polarity, HoughConfig(**settings))]


def by_opencv(method: str) -> Callable[..., list[np.ndarray]]:
    """`cv2.HoughCircles`, helped: magnified, and circles on the wrong side of an edge are dropped."""

    def find(images: np.ndarray, band_px: Band, polarity: Polarity, **settings: Any) -> list[np.ndarray]:
        return by_microgan(images, band_px, polarity, backend="opencv", opencv_method=method, **settings)

    return find


def by_skimage(
    images: np.ndarray, band_px: Band, polarity: Polarity, sigma: float, threshold: float, scale: int
) -> list[np.ndarray]:
    """`skimage.transform.hough_circle` on Canny edges; it knows no polarity."""
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
        by_opencv("gradient"),
        {
            "opencv_scale": (4, 2),
            "opencv_threshold": (0.2, 0.3, 0.15, 0.25, 0.4),
            "min_separation": (0.55, 0.8),
        },
    ),
    Contender(
        "opencv gradient_alt",
        by_opencv("gradient_alt"),
        {
            "opencv_scale": (4, 2),
            "opencv_threshold": (0.3, 0.5, 0.1, 0.7, 0.85),
            "min_separation": (0.55, 0.8),
        },
    ),
    Contender(
        "skimage hough_circle",
        by_skimage,
        {"sigma": (1.0, 1.5), "threshold": (0.4, 0.5, 0.3, 0.6), "scale": (1, 2)},
    ),
)
