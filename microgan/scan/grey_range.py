"""Whether each plane of a scan was stretched to its own range, so that grey values are not comparable."""

from collections.abc import Sequence

import numpy as np

MIN_PLANES = 3  # fewer reach both ends by chance
FEW_PX = 3  # at the upper end, where only the brightest pixels became it
FEW_OF_8_BITS = 1e-4  # the same as a fraction, where a grey value stands for many


def saturated_fraction(values: np.ndarray) -> float | None:
    """Return the fraction of pixels at the upper end, None where values do not reach both ends.

    The ends are those of the integer type, or 0 and 1. 0: only the brightest pixels reach it.

    Parameters
    ----------
    values
        Those of a plane in its field of view.
    """
    low, high = (0.0, 1.0) if values.dtype.kind == "f" else _ends(values.dtype)
    if values.size == 0 or values.min() != low or values.max() != high:
        return None
    count = int(np.count_nonzero(values == high))
    few = FEW_OF_8_BITS * values.size if values.dtype.itemsize == 1 else FEW_PX
    return 0.0 if count <= few else count / values.size


def are_each_stretched(saturated: Sequence[float | None]) -> bool:
    """Whether the planes look as if each was stretched by itself, given the result of each.

    All reach both ends, and in each so do only the brightest pixels, or always the same fraction of them.
    Where one range was set for all planes, some do not reach it or the fraction varies.

    Examples
    --------
    >>> are_each_stretched([0.0, 0.0, 0.0]), are_each_stretched([0.0035, 0.0036, 0.0035])
    (True, True)
    >>> are_each_stretched([0.01, 0.03, 0.02]), are_each_stretched([0.0, None, 0.0])
    (False, False)
    """
    fractions = [fraction for fraction in saturated if fraction is not None]
    if len(saturated) < MIN_PLANES or len(fractions) < len(saturated):
        return False
    return float(np.std(fractions)) <= 0.05 * float(np.mean(fractions))


def _ends(dtype: np.dtype) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
