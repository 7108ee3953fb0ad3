"""A detector of discs: which discs are searched for, and how."""

import math
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from microgan.core.config import Config
from microgan.core.errors import UserError

Polarity = Literal["bright", "dark"]  # of the discs against the matrix

BAND_SLACK_PX = 0.5  # the ends of the radius band are soft by this much: a radius is measured that well


class DetectorConfig(Config):
    """How discs are detected. Scores run from 0 to 1 (an ideal disc)."""

    backend: Literal["ring", "opencv", "watershed"] = "ring"
    smoothing: float = Field(default=0.28, gt=0, le=1)
    ring_width_px: float = Field(default=1.0, ge=0.5, le=5)
    threshold: float = Field(default=0.3, gt=0, lt=1)
    min_separation: float = Field(default=0.55, gt=0, lt=1)
    min_fill: float = Field(default=0.3, ge=0, lt=1)
    opencv_method: Literal["gradient", "gradient_alt"] = "gradient"
    opencv_scale: int = Field(default=4, ge=1, le=8)
    opencv_threshold: float = Field(default=0.2, gt=0, lt=1)


@dataclass(frozen=True)
class Detector:
    """Radius band, polarity and settings of a detector, as `microgan.detection.detect.detect` takes them.

    Attributes
    ----------
    radius_px : (smallest, largest)
        Band in which discs are searched; its ends are soft by `BAND_SLACK_PX`.
    polarity : {"bright", "dark"}
        Whether discs are brighter or darker than the matrix.
    settings : DetectorConfig

    Raises
    ------
    UserError
        If the band is empty, begins below 1 px or does not end.

    Examples
    --------
    >>> Detector((4, 8)).settings.backend
    'ring'
    """

    radius_px: tuple[float, float]
    polarity: Polarity = "bright"
    settings: DetectorConfig = field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.radius_px[0] < self.radius_px[1] < math.inf:
            rule = "must be (smallest, largest) with 1 <= smallest < largest, both finite"
            raise UserError("radius_px", tuple(self.radius_px), rule)


def check_band_fits(radius_px: tuple[float, float], shape: tuple[int, int], where: str = "radius_px") -> None:
    """Raise a `UserError` if the largest discs of a band cannot be whole in an image of (rows, cols).

    Of a disc that is never whole, the radius is a guess; and the work grows with the radius.
    """
    if 2 * radius_px[1] > min(shape):
        rows, cols = shape
        rule = (
            f"must end at {min(shape) / 2:g} or less, half the shorter side of an image of {rows} x {cols} px"
        )
        raise UserError(where, "{:g} {:g}".format(*radius_px), rule)
