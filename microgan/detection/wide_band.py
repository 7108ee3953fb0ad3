"""A wide radius band is narrowed to the discs that an image has.

A user who does not know the radius gives a wide band. What is right for its smallest discs is not for the
usual ones: the image is smoothed too little, flecks pass for discs, and an arc at the border passes for a
part of a large disc. So an image is detected twice: its discs say how the band can be narrowed.
"""

import math
from dataclasses import dataclass

import numpy as np

from microgan.detection.detector import BAND_SLACK_PX

WIDE = 2.5  # largest over smallest radius from which a band is wide
LEAST_DISCS = 20  # whole discs in an image without which its band stays: too few to say what is usual
# Half width of what is usual about the usual radius: in robust standard deviations, and at least this
# fraction of it. Larger: flecks stay. Smaller: true discs are lost.
SPREADS, FRACTION = 3.0, 0.3
# Robust standard deviation of the radius, over the usual radius, above which sizes are mixed, none unusual:
# carbon and glass have .1, radii of 4 to 20 px .25. Larger: the smallest discs of a mixture are lost.
MIXED = 0.15
# Median edge gradient of unusually small, or large, circles over that of the usual ones, from which they
# are discs: flecks of carbon's matrix have .6 to .95, simulated discs .9 (radius 2.5 px) to 1. Larger: a
# second kind of disc is lost. Smaller: flecks pass. Of rare ones, below a fraction of all area, more.
CLEAR_EDGE, RARE, RARE_EDGE = 0.89, 0.02, 0.97
# Changes of the ends, as fractions, that are worth a second detection; and to what, px, an end is rounded, so
# that kernels of one image serve the next.
WORTHWHILE, ROUNDED_PX = 0.1, 0.25


@dataclass(frozen=True)
class Readings:
    """Circles of one image: radius in px, mean inward edge gradient, and the fraction of the edge in view."""

    radius_px: np.ndarray
    edge_gradient: np.ndarray
    visible: np.ndarray


def is_wide(band_px: tuple[float, float]) -> bool:
    return band_px[1] > WIDE * band_px[0]


def narrowed(band_px: tuple[float, float], readings: Readings) -> tuple[float, float] | None:
    """Return the part of a wide band in which an image has discs; None where that is about all of it.

    The band begins and ends where the usual discs do, unless smaller or larger circles have edges as clear.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> discs, flecks = rng.normal(6, 0.3, 100), rng.uniform(2, 3, 20)
    >>> edges = np.r_[np.full(100, 0.2), np.full(20, 0.1)]
    >>> narrowed((2, 40), Readings(np.r_[discs, flecks], edges, np.ones(120)))
    (4.5, 8.0)
    """
    whole = readings.visible > 0.9
    if whole.sum() < LEAST_DISCS:
        return None
    radius, edge = readings.radius_px[whole], readings.edge_gradient[whole]
    # By area: flecks may be more than the discs.
    usual = _median(radius, radius**2)
    spread = 1.5 * _median(np.abs(radius - usual), radius**2)
    if spread > MIXED * usual:
        return None
    half_width = max(SPREADS * spread, FRACTION * usual)
    small, large = radius < usual - half_width, radius > usual + half_width
    usual_edge = np.median(edge[~small & ~large])

    def are_discs(unusual: np.ndarray) -> bool:
        is_rare = (radius[unusual] ** 2).sum() < RARE * (radius**2).sum()
        clear = RARE_EDGE if is_rare else CLEAR_EDGE
        return bool(unusual.any() and np.median(edge[unusual]) >= clear * usual_edge)

    # The ends of a band are soft.
    low = band_px[0] if are_discs(small) else _rounded(usual - half_width + BAND_SLACK_PX)
    high = radius.max() if are_discs(large) else usual + half_width
    narrow = (max(low, band_px[0]), min(_rounded(high + ROUNDED_PX), band_px[1]))
    is_worthwhile = narrow[0] > (1 + WORTHWHILE) * band_px[0] or narrow[1] < (1 - WORTHWHILE) * band_px[1]
    return narrow if is_worthwhile else None


def _rounded(radius_px: float) -> float:
    return math.floor(radius_px / ROUNDED_PX) * ROUNDED_PX


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
