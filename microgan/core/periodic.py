"""Places in a box that continues periodically."""

import numpy as np


def wrapped(places: np.ndarray, sides: np.ndarray | tuple[float, float]) -> np.ndarray:
    """Return places (n, 2) in a periodic box as those in [0, side), as `scipy.spatial.cKDTree` needs them."""
    inside = places % sides
    inside[inside >= sides] = 0  # the remainder of a tiny negative number is rounded up to the whole side
    return inside
