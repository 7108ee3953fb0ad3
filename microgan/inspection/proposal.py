"""Polarity and radius band of the discs of a scan, by what explains its grey values best.

Bands of a ratio of 2 are searched one by one, in both polarities, each at the scale that suits it. The best
reading decides; then all discs near its radius are measured once more. Where no reading is good, or one of
the other polarity is nearly as good, that is said, and nothing is proposed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgan.core.words import counted
from microgan.detection.detector import Polarity
from microgan.inspection.explained import Reading, better, read
from microgan.inspection.patches import Patch, PlaneImage, patches

SMALLEST_RADIUS_PX = 2.0  # of the first band
BAND_STEP = math.sqrt(2)  # from one band to the next
LARGEST_FRACTION = 1 / 6  # of the shorter side of a plane: larger discs are too few
SEARCH_SIDE_PX, MEASURED_SIDE_PX = 128, 192  # of patches, at the working scale
AROUND = 1.6  # the radii that are measured: from the usual one over this to this times the usual one
FINER = 1.4  # of the working scale: radii are measured on smaller pixels than they are searched on
SAME_RADIUS, MOST_ROUNDS = 0.1, 3  # until the usual radius changes by less, it is measured anew

LEAST_EXPLAINED = 0.38  # of the variance of grey values; noise, sand, grass and printed pages have less
FEWEST_CIRCLES = 15
LEAST_RATIO = 1.5  # of the quality of one polarity over that of the other
MOST_DIRECTED = 0.4  # of the edges along one or two directions; the edge of a disc has all: 0
# The band: so far from the usual radius, in radii, and at least so many standard deviations.
BELOW, ABOVE, SPREADS = 0.7, 1.42, 2.25
SPREAD_QUANTILE, SPREADS_THERE = 0.1, 1.2816  # of a normal distribution
COARSE_FROM_PX = 10.0  # ends of bands are rounded to 0.5 px below, to 1 px from here on


@dataclass(frozen=True)
class Proposal:
    """How discs may be searched for.

    Attributes
    ----------
    polarity
        None where it is in doubt.
    radius_px
        Smallest and largest radius, None where it is in doubt.
    reading
        The circles that the proposal finds in a few patches; None where nothing was found at all.
    doubts
        Sentences: why there is no proposal, or what speaks against it.
    """

    polarity: Polarity | None
    radius_px: tuple[float, float] | None
    reading: Reading | None
    doubts: tuple[str, ...]

    @property
    def usual_radius_px(self) -> float | None:
        """The median radius, each disc counted by its area."""
        return None if self.reading is None else weighted_quantile(self.reading.radii_px, 0.5)


def propose(
    planes: Sequence[PlaneImage],
    polarity: Polarity | None = None,
    radius_px: tuple[float, float] | None = None,
) -> Proposal:
    """Propose polarity and radius band.

    Parameters
    ----------
    planes
        A few planes of the scan.
    polarity
        Where it is known; the other one is still looked at, to say so if it is better.
    radius_px
        Where it is known: only discs of this band are looked for, and it is what is proposed.
    """
    best = {
        kind: _best(planes, kind) if radius_px is None else _in_band(planes, radius_px, kind)
        for kind in ("bright", "dark")
    }
    found = {kind: reading for kind, reading in best.items() if reading is not None}
    if not found:
        rows, cols = planes[0].grey.shape
        doubt = (
            f"no discs were found: planes of {rows} x {cols} px are too small for a search, or without "
            f"contrast: discs need a radius of {SMALLEST_RADIUS_PX:g} px or more, and planes "
            f"{1 / LARGEST_FRACTION:g} times that or more on a side; give the scan at full resolution"
        )
        return Proposal(None, None, None, (doubt,))
    chosen = found.get(polarity) if polarity else better(best["bright"], best["dark"])
    if chosen is None or len(chosen) < 2:
        return Proposal(None, None, None, ("no discs were found",))
    measured = _measured(planes, chosen) if radius_px is None else chosen
    other = best["dark" if chosen.polarity == "bright" else "bright"]
    doubts = [*_no_discs(measured), *_polarity_doubts(chosen, other, polarity), *_direction_doubts(measured)]
    if doubts:
        return Proposal(polarity, None, measured, tuple(doubts))
    band = radius_px or _band(measured.radii_px)
    notes = []
    if band[0] < SMALLEST_RADIUS_PX:
        notes.append(
            f"discs of about {weighted_quantile(measured.radii_px, 0.5):.1f} px are hardly resolved: "
            "few are found"
        )
    return Proposal(chosen.polarity, band, measured, tuple(notes))


def other_polarity_is_better(grey: np.ndarray, band_px: tuple[float, float], polarity: Polarity) -> bool:
    """Whether circles of the other polarity, in the same band, explain an image (H, W) far better."""
    return other_polarity_is_better_in([grey], band_px, polarity)


def other_polarity_is_better_in(
    images: Sequence[np.ndarray], band_px: tuple[float, float], polarity: Polarity
) -> bool:
    """Whether circles of the other polarity explain several images (H, W) together far better."""
    planes = [PlaneImage(grey, np.ones(grey.shape, bool)) for grey in images]
    parts = patches(planes, math.sqrt(band_px[0] * band_px[1]), MEASURED_SIDE_PX)
    if not parts:
        return False
    other: Polarity = "dark" if polarity == "bright" else "bright"
    used, opposite = read(parts, band_px, polarity), read(parts, band_px, other)
    is_good = opposite.explained() > LEAST_EXPLAINED and len(opposite) >= FEWEST_CIRCLES
    return is_good and opposite.quality() > LEAST_RATIO * used.quality()


def weighted_quantile(radii_px: np.ndarray, fraction: float) -> float:
    """Return a quantile of radii, each disc counted by its area: small misreadings hardly count."""
    ordered = np.sort(radii_px)
    below = np.cumsum(ordered**2) / np.sum(ordered**2)
    return float(ordered[min(int(np.searchsorted(below, fraction)), len(ordered) - 1)])


def _best(planes: Sequence[PlaneImage], polarity: Polarity) -> Reading | None:
    """Search band after band; return the reading of the highest quality."""
    largest = LARGEST_FRACTION * min(planes[0].grey.shape)
    least, best = SMALLEST_RADIUS_PX, None
    while least <= largest:
        parts = patches(planes[:1], least, SEARCH_SIDE_PX)
        if parts:
            reading = read(parts, (least, 2 * least), polarity)
            best = better(best, reading)
        least *= BAND_STEP
    return best


def _in_band(
    planes: Sequence[PlaneImage], band_px: tuple[float, float], polarity: Polarity
) -> Reading | None:
    parts = patches(planes, math.sqrt(band_px[0] * band_px[1]) / FINER, MEASURED_SIDE_PX)
    parts = [part for part in parts if 2 * band_px[1] <= min(part.raw.shape)]
    return read(parts, band_px, polarity) if parts else None


def _measured(planes: Sequence[PlaneImage], reading: Reading) -> Reading:
    """Search around the usual radius of a reading, in all planes, until it stays."""
    for _ in range(MOST_ROUNDS):
        usual = weighted_quantile(reading.radii_px, 0.5)
        parts = patches(planes, usual / FINER, MEASURED_SIDE_PX)
        again = read(parts, (usual / AROUND, usual * AROUND), reading.polarity) if parts else reading
        if len(again) < 2:
            return reading
        reading = again
        if abs(weighted_quantile(reading.radii_px, 0.5) - usual) < SAME_RADIUS * usual:
            break
    return reading


def _band(radii_px: np.ndarray) -> tuple[float, float]:
    usual = weighted_quantile(radii_px, 0.5)
    low, high = (weighted_quantile(radii_px, part) for part in (SPREAD_QUANTILE, 1 - SPREAD_QUANTILE))
    wide = SPREADS / SPREADS_THERE
    least = min(BELOW * usual, usual - wide * (usual - low))
    largest = max(ABOVE * usual, usual + wide * (high - usual))
    return max(_rounded(least), 1.0), _rounded(largest)


def _rounded(length_px: float) -> float:
    step = 0.5 if length_px < COARSE_FROM_PX else 1.0
    return round(length_px / step) * step


# Doubts ------------------------------------------------------------------------------------------------


def _no_discs(reading: Reading) -> list[str]:
    if len(reading) < FEWEST_CIRCLES:
        count = counted(len(reading), "circle")
        return [f"no discs were found: {count} in the parts that were looked at, fewer than {FEWEST_CIRCLES}"]
    explained = reading.explained()
    if explained < LEAST_EXPLAINED:
        given = f"the best circles explain {100 * explained:.0f} % of the grey values' variance"
        return [
            f"no discs were found: {given}, less than {100 * LEAST_EXPLAINED:.0f} %: "
            "none are there, or noise hides them"
        ]
    return []


def _polarity_doubts(chosen: Reading, other: Reading | None, given: Polarity | None) -> list[str]:
    if other is None:
        return []
    pixel_px = min(chosen.pixel_px, other.pixel_px)
    quality, opposite = chosen.quality(pixel_px), other.quality(pixel_px)
    if given and opposite > LEAST_RATIO * quality:
        return [f"polarity: {given} as given, but {other.polarity} circles explain the image better"]
    if given or quality >= LEAST_RATIO * opposite:
        return []
    explained = {reading.polarity: 100 * reading.explained(pixel_px) for reading in (chosen, other)}
    words = " and ".join(f"{kind} circles explain {value:.0f} %" for kind, value in sorted(explained.items()))
    return [
        f"polarity is in doubt: {words} of the grey values' variance: look at the image, and give --polarity"
    ]


def _direction_doubts(reading: Reading) -> list[str]:
    if max(_directed(patch) for patch in reading.patches) > MOST_DIRECTED:
        return [
            "edges lie along one or two directions, as those of layers, bricks or squares; "
            "those of discs do not"
        ]
    return []


def _directed(patch: Patch) -> float:
    """Return how much of the squared gradient lies along one direction, or along two at right angles."""
    import cv2

    smooth = cv2.GaussianBlur(patch.grey, (0, 0), 1.0)
    by_row, by_col = np.gradient(smooth.astype(np.float64))
    square, angle = by_row**2 + by_col**2, np.arctan2(by_row, by_col)
    total = max(float(square.sum()), 1e-12)
    return max(abs(complex((square * np.exp(1j * fold * angle)).sum())) / total for fold in (2, 4))
