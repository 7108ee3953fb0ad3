"""What a detector of discs is told, and what it answers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from microgan.core.config import Config

Polarity = Literal["bright", "dark"]


class DetectorConfig(Config):
    """How discs are detected. Scores run from 0 to 1 (an ideal disc)."""

    backend: Literal["ring", "opencv", "watershed"] = Field(
        default="ring", description="ring: ours; opencv: HoughCircles; watershed: an independent judge"
    )
    smoothing: float = Field(
        default=0.28, gt=0, le=1, description="Gaussian smoothing over the smallest radius; 0.7 to 1.5 px"
    )
    ring_width_px: float = Field(default=1.0, ge=0.5, le=5, description="sd of the ring kernels")
    threshold: float = Field(default=0.3, gt=0, lt=1, description="least score of a disc")
    min_separation: float = Field(
        default=0.55, gt=0, lt=1, description="circles closer than this x (r1 + r2) are one disc read twice"
    )
    min_fill: float = Field(
        default=0.3, ge=0, lt=1, description="grey inside a disc, 0: dark, 1: bright end of the image"
    )
    opencv_method: Literal["gradient", "gradient_alt"] = Field(default="gradient", description="HOUGH_...")
    opencv_scale: int = Field(default=4, ge=1, le=8, description="magnification before HoughCircles")
    opencv_threshold: float = Field(
        default=0.3, gt=0, lt=1, description="votes over the rim's pixels, or perfectness for gradient_alt"
    )


@dataclass(frozen=True)
class Circles:
    """Circles of one image: float arrays (n,) of row, col, radius in pixels, and score in [0, 1]."""

    row: np.ndarray
    col: np.ndarray
    radius_px: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def table(self) -> np.ndarray:
        """Return row, col, radius, score as an ndarray of shape (n, 4)."""
        return np.stack([self.row, self.col, self.radius_px, self.score], axis=1)

    @classmethod
    def from_table(cls, table: np.ndarray) -> "Circles":
        """Build from an array-like of shape (n, 4); (n, 3) has score 1."""
        table = np.asarray(table, float).reshape(-1, np.shape(table)[-1] if np.size(table) else 4)
        score = table[:, 3] if table.shape[1] > 3 else np.ones(len(table))
        return cls(table[:, 0], table[:, 1], table[:, 2], score)
