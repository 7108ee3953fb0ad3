"""Confidence intervals of fractions."""

from scipy.stats import binomtest

Interval = tuple[float, float]


def wilson_interval(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """Return the confidence interval of the fraction ``hits`` of ``count``; (0, 1) for a count of 0.

    It is the score interval of E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.

    Examples
    --------
    >>> low, high = wilson_interval(50, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    if not count:
        return 0.0, 1.0
    interval = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
