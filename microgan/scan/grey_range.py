"""Whether each plane of a scan was stretched to its own range, so that grey values are not comparable."""

from collections.abc import Sequence

import numpy as np

MIN_PLANES = 3  # fewer reach both ends by chance
FEW = 1e-4  # fraction of pixels at the upper end where only the brightest ones became it


def saturated_fraction(plane: np.ndarray) -> float | None:
    """Return the fraction of pixels at the upper end, None where a plane does not reach both ends.

    The ends are those of the integer type, or 0 and 1.
    """
    if plane.dtype.kind == "f":
        low, high = 0.0, 1.0
        plane = plane[np.isfinite(plane)]
    else:
        low, high = np.iinfo(plane.dtype).min, np.iinfo(plane.dtype).max
    if plane.size == 0 or plane.min() != low or plane.max() != high:
        return None
    return float(np.mean(plane == high))


def are_each_stretched(saturated: Sequence[float | None]) -> bool:
    """Whether the planes look as if each was stretched by itself, given the result of each.

    All reach both ends, and in each so do only the brightest pixels, or always the same fraction of them.
    Where one range was set for all planes, some do not reach it or the fraction varies.

    Examples
    --------
    >>> are_each_stretched([1e-5, 2e-5, 1e-5])
    True
    >>> are_each_stretched([0.01, 0.03, 0.02])
    False
    """
    fractions = [fraction for fraction in saturated if fraction is not None]
    if len(saturated) < MIN_PLANES or len(fractions) < len(saturated):
        return False
    return max(fractions) < FEW or float(np.std(fractions)) < 0.05 * float(np.mean(fractions))
