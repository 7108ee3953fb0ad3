"""The extent of an image: its size, and whether it continues periodically."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Domain:
    """Rows and columns of an image, and whether its opposite borders fit together.

    Attributes
    ----------
    size_px
        Rows and columns.
    periodic
        Whether the image continues periodically beyond its borders.
    """

    size_px: tuple[int, int]
    periodic: bool = False

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.size_px[0]

    @property
    def cols(self) -> int:
        """Number of columns."""
        return self.size_px[1]

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.rows * self.cols


def wrapped(places: np.ndarray, sides: np.ndarray | tuple[float, float]) -> np.ndarray:
    """Return places (n, 2) in a periodic box as those in [0, side), as `scipy.spatial.cKDTree` needs them."""
    inside = places % sides
    inside[inside >= sides] = 0  # the remainder of a tiny negative number is rounded up to the whole side
    return inside
