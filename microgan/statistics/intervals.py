"""Confidence intervals of rates."""

import math
from statistics import NormalDist

Interval = tuple[float, float]


def wilson_interval(fraction: float, count: int, confidence: float = 0.95) -> Interval:
    """Return the confidence interval of a fraction (E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212).

    Examples
    --------
    >>> low, high = wilson_interval(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    if not count:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (fraction + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(fraction * (1 - fraction) / count + z**2 / (4 * count**2))
    # At 0 and 1 the fraction is an end of the interval, but for rounding.
    return max(min(middle - half, fraction), 0.0), min(max(middle + half, fraction), 1.0)
