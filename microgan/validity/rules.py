"""The rules of validity: each measures one thing in one image, which should be small or lie in a band.

A rule is a pure function ``rule(evidence) -> float``. `RULES` lists them all, with the reason code that a
rejected image is given and the side on which a value can be wrong. What is too small or too large is not said
here: limits come from real windows (`microgan.validity.judging`) or from the user. A user's own rule is one more such
function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from microgan.core.errors import UserError
from microgan.validity.evidence import ACROSS_PX, ANGLE_RAD, ANGLES, NEAR_PX, RIM_PX, Evidence, upper_median

Side = Literal["too_large", "too_small", "both"]
HIGH_CONFIDENCE = 0.55  # score of a circle that fits its disc; drawn discs have 0.7 and more
GREY_RANGE = (-0.2, 1.2)  # from matrix (0) to discs (1): what is beyond is noise
RIDGE_ANGLES = 3.0  # of the fit of harmonics: as if so many angles had shown a round rim
PLACE_RADII = 0.4  # sd of the places whose grey is averaged
BORDER_RADII = 2.1  # from the border inwards, discs may be cut and not found
SPACING_SLACK = 0.3  # relative deviation from the usual spacing at which a neighbour counts for no lattice
FEWEST_INNER = 3  # discs with all their neighbours in sight: of fewer, no packing can be told
# Which angles lie in the half disc of each direction, as weights (ANGLES, ANGLES)
_HALVES = (np.cos(ANGLE_RAD[:, None] - ANGLE_RAD) > 1e-9) / (
    np.cos(ANGLE_RAD[:, None] - ANGLE_RAD) > 1e-9
).sum(0)
_HARMONICS = np.stack(
    [np.ones(ANGLES), *(wave(k * ANGLE_RAD) for k in (1, 2, 3) for wave in (np.cos, np.sin))], axis=1
)  # (ANGLES, 7)
_HARMONIC_PAIRS = (_HARMONICS[:, :, None] * _HARMONICS[:, None]).reshape(ANGLES, -1)  # (ANGLES, 49)


# Discs and their places ---------------------------------------------------------------------------------


def overlap(evidence: Evidence) -> float:
    """Return the largest 1 - d / (r1 + r2) over pairs with centres inside; 0 when none overlap."""
    return _largest_overlap(evidence, evidence.inside())


def high_confidence_overlap(evidence: Evidence) -> float:
    """Return the largest overlap of two discs that both have a score of HIGH_CONFIDENCE at least.

    On real scans most of the deepest overlaps are irregular fibres that no circle fits, beside a neighbour.
    They set the limit of `overlap`; that of clear discs can be much closer.
    """
    return _largest_overlap(evidence, evidence.inside() & (evidence.circles.score >= HIGH_CONFIDENCE))


def _largest_overlap(evidence: Evidence, chosen: np.ndarray) -> float:
    if chosen.sum() < 2:
        return 0.0
    radius = evidence.circles.radius_px[chosen]
    relative = -evidence.gap_px[np.ix_(chosen, chosen)] / (radius[:, None] + radius)
    return float(max(relative.max(), 0))


def smallest_gap_px(evidence: Evidence) -> float:
    """Return the least rim-to-rim distance over pairs with centres inside, px; negative where they overlap.

    A single disc has the whole image for a gap, and no disc at all its negative.
    """
    inside = evidence.inside()
    if inside.sum() < 2:
        return float(max(evidence.shape) * (1 if inside.any() else -1))
    return float(evidence.gap_px[np.ix_(inside, inside)].min())


def smallest_radius_px(evidence: Evidence) -> float:
    """Return the smallest radius of the discs that are whole; 0 when there is none."""
    whole = evidence.circles.radius_px[evidence.whole]
    return float(whole.min()) if len(whole) else 0.0


def largest_radius_px(evidence: Evidence) -> float:
    """Return the largest radius of the discs that are whole; 0 when there is none."""
    return float(evidence.circles.radius_px[evidence.whole].max(initial=0))


def discs_per_1000px2(evidence: Evidence) -> float:
    """Return how many discs have their centres inside, over the area of the image in 1000 square pixels."""
    return float(1000 * evidence.inside().sum() / evidence.phase.size)


def largest_nearest_neighbour_gap(evidence: Evidence) -> float:
    """Return the largest gap around a disc, rim to nearest rim, over its radius.

    A gap counts up to the border of the image only: what is behind cannot be seen. Without discs, it is the
    size of the image.
    """
    inside = evidence.inside()
    if not inside.any():
        return float(max(evidence.shape))
    radius = evidence.circles.radius_px[inside]
    gap = np.minimum(evidence.gap_px[inside].min(axis=1), evidence.border_px[inside] - radius)
    return float((gap / radius).max())


def lattice_order(evidence: Evidence) -> float:
    """Return how much the discs form a lattice: 1 in a perfect one at any rotation, about 0.2 at random.

    The bond-orientational order of k = 4 and 6 nearest neighbours (Nelson & Halperin 1979, Phys. Rev. B 19,
    2457), psi_k = mean of w exp(i k angle), with w = 1 for a neighbour at the usual distance falling to 0 for
    one that is SPACING_SLACK off: a lattice has equal angles and equal spacing. The modulus is taken of the
    mean over a disc and its neighbours, since in random packings each disc has its own orientation; then the
    mean over the discs with all neighbours in sight, for the larger k. Without discs it is 1.
    """
    count = len(evidence.circles)
    if not count:
        return 1.0
    if count <= 6:
        return 0.0
    nearest = np.argpartition(evidence.apart_px, (4, 6), axis=1)[:, :7]  # the disc itself and 4, then 2 more
    spacing = np.take_along_axis(evidence.apart_px, nearest, axis=1)
    place = evidence.circles.row + 1j * evidence.circles.col
    bonds = (place[nearest] - place[:, None]) / (spacing + 1e-9)  # unit vectors, as complex numbers
    square = bonds * bonds
    four = _bond_order(evidence, nearest[:, :5], spacing[:, :5], (square * square)[:, :5])
    return max(four, _bond_order(evidence, nearest, spacing, square * square * square))


def _bond_order(evidence: Evidence, nearest: np.ndarray, spacing: np.ndarray, bonds: np.ndarray) -> float:
    """Order of discs and their k neighbours, all (n, k + 1); ``bonds`` to the power of k."""
    inner = evidence.inside(spacing.max(axis=1))
    if np.count_nonzero(inner) < FEWEST_INNER:
        return 0.0
    k = nearest.shape[1] - 1
    usual = spacing[inner].mean() * (k + 1) / k  # the disc itself is at 0, and adds nothing
    weight = np.maximum(1 - np.abs(spacing / usual - 1) / SPACING_SLACK, 0)
    order = (weight * bonds).sum(axis=1) / k  # (n,)
    # A neighbour at the border lacks neighbours of its own: only inner discs are averaged.
    known = inner[nearest[inner]]
    local = (order[nearest[inner]] * known).sum(axis=1) / known.sum(axis=1)
    return float(np.abs(local).mean())


# Discs against the disc phase ---------------------------------------------------------------------------


def uncovered_phase(evidence: Evidence) -> float:
    """Return the largest patch of disc phase outside of all circles, over the area of a usual disc.

    Without circles, the patch is compared with the image.
    """
    phase, circles = evidence.phase, evidence.circles
    unexplained = (phase & (evidence.rim_px > RIM_PX)).astype(np.uint8)
    _, _, patches, _ = cv2.connectedComponentsWithStats(unexplained, connectivity=4)
    largest = patches[1:, cv2.CC_STAT_AREA].max(initial=0)
    usual = np.pi * np.median(circles.radius_px) ** 2 if len(circles) else phase.size
    return float(largest / usual)


def one_minus_iou(evidence: Evidence) -> float:
    """Return 1 - intersection / union of circles and disc phase: 0 if they are one, 1 without circles."""
    inside = evidence.rim_px < 0
    either = np.count_nonzero(evidence.phase | inside)
    return 1 - np.count_nonzero(evidence.phase & inside) / either if either else 1.0


def empty_circle(evidence: Evidence) -> float:
    """Return the largest fraction of a circle's inside that is not disc phase; 1 without circles."""
    if not len(evidence.circles):
        return 1.0
    core = (evidence.near.distance < -RIM_PX) & evidence.near.in_image  # (n, K, K)
    area = core.sum((1, 2))
    judged = (
        area >= 0.3 * np.pi * np.maximum(evidence.circles.radius_px - RIM_PX, 0) ** 2
    )  # enough in the image
    if not judged.any():
        return 0.0
    filled = (core & evidence.phase.ravel()[evidence.near.place]).sum((1, 2))
    return float((1 - filled[judged] / np.maximum(area[judged], 1)).max())


def volume_fraction(evidence: Evidence) -> float:
    """Return the fraction of the image that is disc phase."""
    return np.count_nonzero(evidence.phase) / evidence.phase.size


# Rims and grey values -----------------------------------------------------------------------------------


def non_circularity(evidence: Evidence) -> float:
    """Return how far from round the worst whole disc is, over its radius; without circles 1.

    The amplitude of the 2nd and 3rd harmonic of its rim, about (a - b) / (a + b) for half axes a and b.
    The rim's place at an angle is the sum of the grey along the radial profile: where it would be if it were
    sharp. Harmonics 0 to 3 are fitted to the angles that point at no close neighbour, by least squares with
    a ridge, so that noise averages out and what is not seen counts as round.
    """
    if evidence.contrast <= 0:
        return 1.0
    if not evidence.free.any():
        return 0.0
    place_px = np.clip(evidence.profiles, *GREY_RANGE).sum(axis=2) * (ACROSS_PX[1] - ACROSS_PX[0])
    # All rims of an image may lie a little beside their circles: that is the detector's affair.
    offset_px = np.where(evidence.free, place_px - place_px[evidence.free].mean(), 0)  # (m, ANGLES)
    squares = (evidence.free.astype(float) @ _HARMONIC_PAIRS).reshape(-1, *[_HARMONICS.shape[1]] * 2)
    squares += RIDGE_ANGLES * np.eye(_HARMONICS.shape[1])
    fitted = np.linalg.solve(squares, (offset_px @ _HARMONICS)[..., None])[..., 0]  # (m, 7)
    amplitude_px = np.sqrt((fitted[:, 3:] ** 2).sum(axis=1))
    return float((amplitude_px / evidence.circles.radius_px[evidence.whole]).max())


def least_half_disc_fill(evidence: Evidence) -> float:
    """Return the fill of the darkest half of any whole disc: 1 if full, 0 if it is a half-moon.

    Grey counts from the matrix (0) to the discs (1), between 3 px and 1 px inside the rim. Without circles it
    is 0.
    """
    if evidence.contrast <= 0:
        return 0.0
    if not len(evidence.whole):
        return 1.0
    fill = np.clip(evidence.profiles[..., ACROSS_PX <= -RIM_PX].mean(axis=2), 0, 1)  # (m, ANGLES)
    return float((fill @ _HALVES).min())


def largest_matrix_brightness(evidence: Evidence) -> float:
    """Return the grey of the brightest place in no circle, 0: as the matrix, 1: as discs; without circles 10.

    Such a place is a disc that no circle fits, a piece of one, or one too faint to be disc phase. Grey is
    averaged over a place of about half a usual radius; what is at rims counts as matrix. Places nearer to the
    border than BORDER_RADII are not looked at: discs are cut there, and may not be found.
    """
    if evidence.contrast <= 0:
        return 10.0
    usual = upper_median(evidence.circles.radius_px)
    grey = (evidence.smooth - evidence.matrix_grey) / np.float32(evidence.contrast)
    grey = np.where(evidence.rim_px < NEAR_PX, np.float32(0), grey)
    local = cv2.GaussianBlur(grey, (0, 0), PLACE_RADII * usual)
    margin = min(round(BORDER_RADII * usual), (min(evidence.shape) - 1) // 2)
    return float(local[margin : local.shape[0] - margin, margin : local.shape[1] - margin].max())


def contrast(evidence: Evidence) -> float:
    """Return the grey of discs minus that of the matrix; 0 without circles."""
    return evidence.contrast


def edge_sharpness(evidence: Evidence) -> float:
    """Return the mean fall of grey across free rims, per px, over the contrast; 0 where there is none."""
    if evidence.contrast <= 0 or not evidence.free.any():
        return 0.0
    inner, outer = np.flatnonzero(np.abs(ACROSS_PX) == 0.5)
    fall = evidence.profiles[..., inner] - evidence.profiles[..., outer]  # over 1 px
    return float(fall[evidence.free].mean())


def grey_noise(evidence: Evidence) -> float:
    """Return the grey difference of neighbouring pixels deep inside discs or matrix, over the contrast.

    Robust standard deviation of the difference of two pixels in a row, over the root of 2. Without contrast
    it is 10, more than any image of discs has.
    """
    if evidence.contrast <= 0:
        return 10.0
    calm = np.abs(evidence.rim_px) > 2
    difference = np.diff(evidence.grey, axis=1)[calm[:, 1:] & calm[:, :-1]]
    if not difference.size:
        return 0.0
    spread = upper_median(np.abs(difference)) / 0.6745 / np.sqrt(2)
    return float(min(spread / evidence.contrast, 10.0))


def seam(evidence: Evidence) -> float:
    """Return the largest straight jump between two rows or columns of pixels, over the usual one.

    The jump is what the difference of two neighbouring rows exceeds the differences on either side, in the
    mean over the row. Without any grey differences it is 10.
    """
    grey = evidence.grey
    rows = np.abs(grey[1:] - grey[:-1]).mean(axis=1)
    cols = np.abs(grey[:, 1:] - grey[:, :-1]).mean(axis=0)
    return min(max(_jump(rows), _jump(cols)), 10.0)


def _jump(step: np.ndarray) -> float:
    usual = upper_median(step)
    return float((step[1:-1] - (step[2:] + step[:-2]) / 2).max() / usual) if usual > 0 else 10.0


# The table ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One rule: how it measures, the reason code of what breaks it, and the side on which values are wrong.

    Attributes
    ----------
    title : what is measured, in words for people
    weight : fraction of the false-rejection budget against other rules
    calibrated : whether real windows set its limits unless the user does
    """

    measure: Callable[[Evidence], float]
    reason: str
    side: Side
    title: str
    weight: float = 1.0
    calibrated: bool = True


# Images that are wrong all over are far off: the rules that catch them need little of the budget, which
# buys power against single defects. Weights were chosen by what they catch of planted defects on three scans.
LIGHT = 0.25

RULES: Mapping[str, Rule] = {
    "overlap": Rule(overlap, "overlap", "too_large", "largest overlap of two discs", weight=4),
    "high_confidence_overlap": Rule(
        high_confidence_overlap, "overlap", "too_large", "largest overlap of two clear discs", weight=16
    ),
    "smallest_gap_px": Rule(
        smallest_gap_px, "touching", "too_small", "smallest gap between two discs (px)", calibrated=False
    ),
    "smallest_radius_px": Rule(
        smallest_radius_px, "radius", "too_small", "smallest radius (px)", weight=LIGHT
    ),
    "largest_radius_px": Rule(largest_radius_px, "radius", "too_large", "largest radius (px)", weight=2),
    "uncovered_phase": Rule(
        uncovered_phase,
        "uncovered_phase",
        "too_large",
        "largest disc phase in no circle (discs)",
        weight=LIGHT,
    ),
    "least_half_disc_fill": Rule(
        least_half_disc_fill, "partial_disc", "too_small", "fill of the darkest half disc", weight=LIGHT
    ),
    "one_minus_iou": Rule(
        one_minus_iou,
        "uncovered_phase",
        "too_large",
        "fraction in which circles and phase differ",
        weight=LIGHT,
    ),
    "empty_circle": Rule(
        empty_circle, "empty_circle", "too_large", "largest fraction of a circle not filled"
    ),
    "non_circularity": Rule(
        non_circularity,
        "non_circular",
        "too_large",
        "deviation of the worst rim from round (radii)",
        weight=2,
    ),
    "largest_matrix_brightness": Rule(
        largest_matrix_brightness,
        "bright_matrix",
        "too_large",
        "grey of the brightest place in no circle",
        weight=4,
    ),
    "volume_fraction": Rule(
        volume_fraction, "volume_fraction", "both", "volume fraction of the discs", weight=LIGHT
    ),
    "discs_per_1000px2": Rule(
        discs_per_1000px2, "count", "both", "discs per 1000 square pixels", weight=LIGHT
    ),
    "largest_nearest_neighbour_gap": Rule(
        largest_nearest_neighbour_gap, "isolated", "both", "widest gap around a disc (radii)", weight=LIGHT
    ),
    "lattice_order": Rule(
        lattice_order, "crystallised", "too_large", "lattice order of the packing", weight=LIGHT
    ),
    "contrast": Rule(contrast, "contrast", "both", "grey of discs minus matrix", weight=LIGHT),
    "edge_sharpness": Rule(
        edge_sharpness, "sharpness", "both", "fall of grey across rims (1/px)", weight=LIGHT
    ),
    "grey_noise": Rule(grey_noise, "noise", "both", "pixel noise over contrast", weight=LIGHT),
    "seam": Rule(seam, "seam", "too_large", "largest straight jump between rows or columns", weight=LIGHT),
}


def measure(evidence: Evidence, rules: Mapping[str, Rule] = RULES) -> dict[str, float]:
    """Measure one image by all ``rules``; a `UserError` names the one of a user's own that fails."""
    return {name: _number(name, rule, evidence) for name, rule in rules.items()}


def _number(name: str, rule: Rule, evidence: Evidence) -> float:
    if name in RULES:
        return rule.measure(evidence)
    where = f"calibrate.own.{name}"
    try:
        value = float(rule.measure(evidence))
    except Exception as error:
        said = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(where, said, "must return a number for every image") from error
    if not np.isfinite(value):
        raise UserError(where, value, "must return a finite number for every image")
    return value
