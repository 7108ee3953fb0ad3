"""The rules: each measures one thing in one image, which should be small, large or within a band.

A rule measures with a pure function ``(evidence) -> float``. `RULES`, at the end, lists all of them with the
reason that a rejected image is given and the side on which a value can be wrong; `KNOWN` adds the rule that
is learnt from the scan. Limits are not set here: they come from real windows
(`microgan.validity.calibration`) or from the user. A rule of the user's own (`microgan.validity.own_rules`)
is one more such function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.validity.evidence import (
    ANGLE_RAD,
    ANGLES,
    EDGE_PX,
    HALF_PIXEL_PX,
    NEAR_PX,
    PROFILE_PX,
    Evidence,
    upper_median,
)

Side = Literal["too_large", "too_small", "both"]
HIGH_CONFIDENCE = 0.55  # least score of a circle that fits its disc; drawn discs have 0.7 and more
GREY_RANGE = (-0.2, 1.2)  # from matrix (0) to discs (1): grey values beyond are noise
RIDGE_ANGLES = 3.0  # ridge of the fit of harmonics: as if so many angles more had shown a circular edge
LEAST_AREA_FRACTION = 0.3  # of a circle that must be in the image for its fill to be measured
SPOT_SD_RADII = 0.4  # sd of the Gaussian that averages the grey of a place in the matrix
BORDER_RADII = 2.1  # from the border inwards, discs may be cut and not detected
SPACING_SLACK = 0.3  # relative deviation from the mean spacing at which a neighbour no longer counts
FEWEST_INNER = 3  # least number of discs with all their neighbours in the image, for a lattice order
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
    """Return the largest 1 - d / (r1 + r2) over pairs of discs; 0 when none overlap.

    Only discs count whose centres lie between the centres of the outermost pixels.
    """
    return _largest_overlap(evidence, evidence.between_pixel_centres)


def high_confidence_overlap(evidence: Evidence) -> float:
    """Return the largest `overlap` of two discs that both have a score of at least HIGH_CONFIDENCE.

    On real scans most of the deepest overlaps are irregular fibres that no circle fits, beside a neighbour.
    They set the limit of `overlap`; the limit for discs that circles fit well can be much stricter.
    """
    fits = evidence.circles.score >= HIGH_CONFIDENCE
    return _largest_overlap(evidence, evidence.between_pixel_centres & fits)


def _largest_overlap(evidence: Evidence, chosen: np.ndarray) -> float:
    if chosen.sum() < 2:
        return 0.0
    radius = evidence.circles.radius_px[chosen]
    relative = -evidence.gap_px[np.ix_(chosen, chosen)] / (radius[:, None] + radius)
    return float(max(relative.max(), 0))


def smallest_gap_px(evidence: Evidence) -> float:
    """Return the least edge-to-edge distance of two discs, px; negative where they overlap.

    Discs count as in `overlap`. For a single disc it is the size of the image, without discs its negative.
    """
    inside = evidence.between_pixel_centres
    if inside.sum() < 2:
        return float(max(evidence.shape) * (1 if inside.any() else -1))
    return float(evidence.gap_px[np.ix_(inside, inside)].min())


def smallest_radius_px(evidence: Evidence) -> float:
    """Return the smallest radius of the discs that the border does not cut, px; 0 when there is none."""
    whole = evidence.circles.radius_px[evidence.whole]
    return float(whole.min()) if len(whole) else 0.0


def largest_radius_px(evidence: Evidence) -> float:
    """Return the largest radius of the discs that the border does not cut, px; 0 when there is none."""
    return float(evidence.circles.radius_px[evidence.whole].max(initial=0))


def discs_per_1000px2(evidence: Evidence) -> float:
    """Return the number of discs with their centres in the image, over its area in 1000 square pixels."""
    return float(1000 * evidence.inside().sum() / evidence.phase.size)


def largest_nearest_neighbour_gap(evidence: Evidence) -> float:
    """Return the largest gap from the edge of a disc to the nearest other edge, over the disc's radius.

    Discs count as in `overlap`. A gap ends at the border of the image at the latest, as it is unknown what
    lies behind. Without discs, it is the size of the image.
    """
    inside = evidence.between_pixel_centres
    if not inside.any():
        return float(max(evidence.shape))
    radius = evidence.circles.radius_px[inside]
    to_border = evidence.border_distance_px[inside] - HALF_PIXEL_PX - radius
    gap = np.minimum(evidence.gap_px[inside].min(axis=1), to_border)
    return float((gap / radius).max())


def lattice_order(evidence: Evidence) -> float:
    """Return how much the discs form a lattice: 1 for a perfect one at any rotation, about 0.2 at random.

    The bond-orientational order of k = 4 and 6 nearest neighbours (Nelson & Halperin 1979, Phys. Rev. B 19,
    2457), psi_k = mean of w exp(i k angle). The weight w is 1 for a neighbour at the mean distance and falls
    to 0 for one that is SPACING_SLACK off: a lattice has equal angles and equal spacing. The modulus is taken
    of the mean over a disc and its neighbours, since in random packings each disc has its own orientation. It
    is averaged over the discs with all neighbours in the image; the larger of the two k counts. Without discs
    it is 1.
    """
    count = len(evidence.circles)
    if not count:
        return 1.0
    if count <= 6:
        return 0.0
    nearest = np.argpartition(evidence.centre_distance_px, (4, 6), axis=1)[
        :, :7
    ]  # the disc itself and 4, then 2 more
    spacing = np.take_along_axis(evidence.centre_distance_px, nearest, axis=1)
    centre = evidence.circles.row + 1j * evidence.circles.col
    bonds = (centre[nearest] - centre[:, None]) / (spacing + 1e-9)  # unit vectors, as complex numbers
    square = bonds * bonds
    four = _bond_order(evidence, nearest[:, :5], spacing[:, :5], (square * square)[:, :5])
    return max(four, _bond_order(evidence, nearest, spacing, square * square * square))


def _bond_order(evidence: Evidence, nearest: np.ndarray, spacing: np.ndarray, bonds: np.ndarray) -> float:
    """Mean order of discs and their k neighbours, all (n, k + 1); ``bonds`` are unit vectors to the k."""
    inner = evidence.inside(spacing.max(axis=1) + HALF_PIXEL_PX)
    if np.count_nonzero(inner) < FEWEST_INNER:
        return 0.0
    k = nearest.shape[1] - 1
    mean_px = spacing[inner].mean() * (k + 1) / k  # the disc itself is at 0, and adds nothing
    weight = np.maximum(1 - np.abs(spacing / mean_px - 1) / SPACING_SLACK, 0)
    order = (weight * bonds).sum(axis=1) / k  # (n,)
    # A neighbour at the border lacks neighbours of its own, so only inner discs are averaged.
    known = inner[nearest[inner]]
    local = (order[nearest[inner]] * known).sum(axis=1) / known.sum(axis=1)
    return float(np.abs(local).mean())


# Discs against the disc phase ---------------------------------------------------------------------------


def uncovered_phase(evidence: Evidence) -> float:
    """Return the area of the largest patch of disc phase outside of all circles, over that of a median disc.

    Without circles, it is over the area of the image.
    """
    phase, circles = evidence.phase, evidence.circles
    uncovered = (phase & (evidence.edge_distance_px > EDGE_PX)).astype(np.uint8)
    _, _, patches, _ = cv2.connectedComponentsWithStats(uncovered, connectivity=4)
    largest = patches[1:, cv2.CC_STAT_AREA].max(initial=0)
    disc_area = np.pi * np.median(circles.radius_px) ** 2 if len(circles) else phase.size
    return float(largest / disc_area)


def one_minus_iou(evidence: Evidence) -> float:
    """Return 1 - intersection / union of circles and disc phase: 0 if equal, 1 without circles."""
    inside = evidence.edge_distance_px < 0
    either = np.count_nonzero(evidence.phase | inside)
    return 1 - np.count_nonzero(evidence.phase & inside) / either if either else 1.0


def empty_circle(evidence: Evidence) -> float:
    """Return the largest fraction of a circle, less its edge, that is not disc phase; 1 without circles."""
    if not len(evidence.circles):
        return 1.0
    core, area, measured = _cores(evidence)
    if not measured.any():
        return 0.0
    filled = (core & evidence.phase.ravel()[evidence.nearby.flat_index]).sum((1, 2))
    return float((1 - filled[measured] / area[measured]).max())


def _cores(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of each disc less its edge (n, K, K), their number (n,), and whether enough are in the image."""
    core = (evidence.nearby.edge_distance_px < -EDGE_PX) & evidence.nearby.in_image
    area = core.sum((1, 2))
    core_radius_px = np.maximum(evidence.circles.radius_px - EDGE_PX, 0)
    measured = (area > 0) & (area >= LEAST_AREA_FRACTION * np.pi * core_radius_px**2)
    return core, area, measured


def volume_fraction(evidence: Evidence) -> float:
    """Return the fraction of the image that is disc phase."""
    return np.count_nonzero(evidence.phase) / evidence.phase.size


# Edges and grey values -----------------------------------------------------------------------------------


def non_circularity(evidence: Evidence) -> float:
    """Return the largest deviation of a whole disc from a circle, over its radius; without circles 1.

    It is the amplitude of the 2nd and 3rd harmonic of the edge: for an ellipse of half axes a and b, about
    (a - b) / (a + b). The position of the edge at an angle is the sum of the grey along the radial profile:
    where it would be if it were sharp. Harmonics 0 to 3 are fitted to the angles that point at no close
    neighbour, by least squares with a ridge. So noise averages out, and hidden parts count as circular.
    """
    if evidence.contrast <= 0:
        return 1.0
    if not evidence.free_edge.any():
        return 0.0
    edge_px = np.clip(evidence.profiles, *GREY_RANGE).sum(axis=2) * (PROFILE_PX[1] - PROFILE_PX[0])
    # A mean offset of all edges from their circles is an error of the detector, not of the discs.
    offset_px = np.where(evidence.free_edge, edge_px - edge_px[evidence.free_edge].mean(), 0)  # (m, ANGLES)
    squares = (evidence.free_edge.astype(float) @ _HARMONIC_PAIRS).reshape(-1, *[_HARMONICS.shape[1]] * 2)
    squares += RIDGE_ANGLES * np.eye(_HARMONICS.shape[1])
    fitted = np.linalg.solve(squares, (offset_px @ _HARMONICS)[..., None])[..., 0]  # (m, 7)
    amplitude_px = np.sqrt((fitted[:, 3:] ** 2).sum(axis=1))
    return float((amplitude_px / evidence.circles.radius_px[evidence.whole]).max())


def least_half_disc_fill(evidence: Evidence) -> float:
    """Return the fill of the darkest half of a whole disc: 1 if full, 0 if that half is missing.

    The fill is the mean grey, from the matrix (0) to the discs (1), between 3 px and 1 px inside the edge.
    Without circles it is 0.
    """
    if evidence.contrast <= 0:
        return 0.0
    if not len(evidence.whole):
        return 1.0
    fill = np.clip(evidence.profiles[..., PROFILE_PX <= -EDGE_PX].mean(axis=2), 0, 1)  # (m, ANGLES)
    return float((fill @ _HALVES).min())


def largest_matrix_brightness(evidence: Evidence) -> float:
    """Return the grey of the brightest place outside of all circles, 0: as the matrix, 1: as discs.

    Such a place is a disc that no circle fits, a piece of one, or one too faint to be disc phase. Grey is
    averaged over about half a median radius; pixels near discs count as matrix. Places within BORDER_RADII of
    the border are left out: discs are cut there and may not be detected. Without circles it is 10.
    """
    if evidence.contrast <= 0:
        return 10.0
    radius_px = upper_median(evidence.circles.radius_px)
    grey = (evidence.smooth_grey - evidence.matrix_grey) / np.float32(evidence.contrast)
    grey = np.where(evidence.edge_distance_px < NEAR_PX, np.float32(0), grey)
    local = cv2.GaussianBlur(grey, (0, 0), SPOT_SD_RADII * radius_px)
    margin = min(round(BORDER_RADII * radius_px), (min(evidence.shape) - 1) // 2)
    return float(local[margin : local.shape[0] - margin, margin : local.shape[1] - margin].max())


def contrast(evidence: Evidence) -> float:
    """Return the grey of discs minus that of the matrix; 0 without circles."""
    return evidence.contrast


def brightest_disc(evidence: Evidence) -> float:
    """Return the grey of the brightest disc, 0: as the matrix, 1: as the median of all discs.

    The grey of a disc is its mean, less its edge. Discs that lie for the most part outside are not measured.
    Without circles it is 10.
    """
    return float(_disc_greys(evidence).max(initial=0.0)) if evidence.contrast > 0 else 10.0


def faintest_disc(evidence: Evidence) -> float:
    """Return the grey of the faintest disc, measured as in `brightest_disc`; without circles 0."""
    return float(_disc_greys(evidence).min(initial=1.0)) if evidence.contrast > 0 else 0.0


def _disc_greys(evidence: Evidence) -> np.ndarray:
    """Grey of each disc that is measured, from the matrix (0) to the median of all discs (1), (m,)."""
    core, area, measured = _cores(evidence)
    grey = np.where(core, evidence.grey.ravel()[evidence.nearby.flat_index], 0).sum((1, 2))
    return (grey[measured] / area[measured] - evidence.matrix_grey) / evidence.contrast


def edge_sharpness(evidence: Evidence) -> float:
    """Return the mean slope of grey across edges without close neighbours, per px, over the contrast.

    Without such edges it is 0.
    """
    if evidence.contrast <= 0 or not evidence.free_edge.any():
        return 0.0
    inner, outer = np.flatnonzero(np.abs(PROFILE_PX) == 0.5)
    slope = evidence.profiles[..., inner] - evidence.profiles[..., outer]  # over 1 px
    return float(slope[evidence.free_edge].mean())


def grey_noise(evidence: Evidence) -> float:
    """Return the grey difference of neighbouring pixels deep inside discs or matrix, over the contrast.

    It is the robust standard deviation of the difference of two pixels in a row, over the root of 2. Without
    contrast it is 10, more than any image of discs has.
    """
    if evidence.contrast <= 0:
        return 10.0
    flat = np.abs(evidence.edge_distance_px) > NEAR_PX  # away from all edges
    difference = np.diff(evidence.grey, axis=1)[flat[:, 1:] & flat[:, :-1]]
    if not difference.size:
        return 0.0
    spread = upper_median(np.abs(difference)) / 0.6745 / np.sqrt(2)
    return float(min(spread / evidence.contrast, 10.0))


def seam(evidence: Evidence) -> float:
    """Return the largest straight jump between two rows or columns of pixels, over the median difference.

    The jump is by how much the difference of two neighbouring rows, in the mean over the row, exceeds the
    differences on either side. Without any grey differences it is 10.
    """
    grey = evidence.grey
    rows = np.abs(grey[1:] - grey[:-1]).mean(axis=1)
    cols = np.abs(grey[:, 1:] - grey[:, :-1]).mean(axis=0)
    return min(max(_jump(rows), _jump(cols)), 10.0)


def _jump(step: np.ndarray) -> float:
    median = upper_median(step)
    return float((step[1:-1] - (step[2:] + step[:-2]) / 2).max() / median) if median > 0 else 10.0


# The table ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes
    ----------
    measure : function of the evidence that measures
    reason : why an image beyond the limits is rejected; several rules may share one
    side : the side on which a value can be wrong
    title : what is measured, for figures
    weight : fraction of the false-rejection budget, relative to other rules
    calibrated : whether real windows set its limits unless the user does
    enabled : whether it rejects images unless the user decides
    """

    measure: Callable[[Evidence], float]
    reason: str
    side: Side
    title: str
    weight: float = 1.0
    calibrated: bool = True
    enabled: bool = True


# Images that are wrong everywhere are far beyond the limits: the rules that reject them need little of the
# budget, and more of it is left to reject single defects. Weights were chosen by the detection rates of
# planted defects on three scans.
LIGHT = 0.25

RULES: Mapping[str, Rule] = {
    "overlap": Rule(overlap, "overlap", "too_large", "largest overlap of two discs", weight=4),
    "high_confidence_overlap": Rule(
        high_confidence_overlap, "overlap", "too_large", "largest overlap of well-fitted discs", weight=16
    ),
    "smallest_gap_px": Rule(
        smallest_gap_px, "small_gap", "too_small", "smallest gap between two discs (px)", calibrated=False
    ),
    "smallest_radius_px": Rule(
        smallest_radius_px, "radius", "too_small", "smallest radius (px)", weight=LIGHT
    ),
    "largest_radius_px": Rule(largest_radius_px, "radius", "too_large", "largest radius (px)", weight=2),
    "uncovered_phase": Rule(
        uncovered_phase, "uncovered_phase", "too_large", "largest uncovered phase (disc areas)", weight=LIGHT
    ),
    "least_half_disc_fill": Rule(
        least_half_disc_fill, "partial_disc", "too_small", "least fill of half a disc", weight=LIGHT
    ),
    "one_minus_iou": Rule(
        one_minus_iou, "uncovered_phase", "too_large", "mismatch of circles and phase (1 - IoU)", weight=LIGHT
    ),
    "empty_circle": Rule(empty_circle, "empty_circle", "too_large", "largest empty fraction of a circle"),
    "non_circularity": Rule(
        non_circularity, "non_circularity", "too_large", "largest non-circularity (radii)", weight=2
    ),
    "largest_matrix_brightness": Rule(
        largest_matrix_brightness, "bright_matrix", "too_large", "largest matrix brightness", weight=4
    ),
    "volume_fraction": Rule(
        volume_fraction, "volume_fraction", "both", "volume fraction of the discs", weight=LIGHT
    ),
    "discs_per_1000px2": Rule(
        discs_per_1000px2, "number_density", "both", "discs per 1000 square pixels", weight=LIGHT
    ),
    "largest_nearest_neighbour_gap": Rule(
        largest_nearest_neighbour_gap,
        "nearest_neighbour_gap",
        "both",
        "largest nearest-neighbour gap (radii)",
        weight=LIGHT,
    ),
    "lattice_order": Rule(lattice_order, "lattice_order", "too_large", "lattice order (1: a lattice)"),
    "contrast": Rule(contrast, "contrast", "both", "grey of discs minus matrix", weight=LIGHT),
    "brightest_disc": Rule(
        brightest_disc, "disc_grey", "too_large", "grey of the brightest disc (1: median)"
    ),
    "faintest_disc": Rule(faintest_disc, "disc_grey", "too_small", "grey of the faintest disc (1: median)"),
    "edge_sharpness": Rule(
        edge_sharpness, "edge_sharpness", "both", "slope of grey across edges (1/px)", weight=LIGHT
    ),
    # Off: the others reject as many planted defects, and the noise of an image is no matter of physics.
    "grey_noise": Rule(
        grey_noise, "grey_noise", "both", "pixel noise over contrast", weight=LIGHT, enabled=False
    ),
    "seam": Rule(seam, "seam", "too_large", "largest jump between rows or columns", weight=LIGHT),
}

# What networks have learnt (`microgan.validity.learnt`), where the scan has them. They measure many images at
# once (`microgan.validity.measuring.MeasuredWindows.and_learnt`), not one by its evidence.
LEARNT_FAULT = "learnt_fault"


def _by_networks(evidence: Evidence) -> float:
    raise NotImplementedError("measured by MeasuredWindows.and_learnt")


LEARNT_RULE = Rule(
    _by_networks,
    LEARNT_FAULT,
    "too_large",
    "most suspicious place (1: as in a tenth of real windows)",
    weight=300,
)
KNOWN: Mapping[str, Rule] = {**RULES, LEARNT_FAULT: LEARNT_RULE}


class RuleConfig(Config):
    """How one rule is used; ``enabled`` and ``weight`` None: as the rule says."""

    enabled: bool | None = None
    weight: float | None = Field(default=None, gt=0, le=1000)
    least: float | None = None
    largest: float | None = None

    @property
    def by_hand(self) -> bool:
        """Whether limits are set by hand: none is calibrated then."""
        return self.least is not None or self.largest is not None


def measure(evidence: Evidence, rules: Mapping[str, Rule] = RULES) -> dict[str, float]:
    """Measure one image by all ``rules``; a `UserError` names the rule of the user's own that fails."""
    return {name: _number(name, rule, evidence) for name, rule in rules.items()}


def _number(name: str, rule: Rule, evidence: Evidence) -> float:
    if name in KNOWN:
        return rule.measure(evidence)
    where = f"calibrate.own.{name}"
    try:
        value = float(rule.measure(evidence))
    except Exception as error:
        problem = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(where, problem, "must return a number for every image") from error
    if not np.isfinite(value):
        raise UserError(where, value, "must return a finite number for every image")
    return value
