"""Parts of a scan that are independent of each other: which planes, or which rows, for what.

Neighbouring planes of a stack show the same discs. How far apart two planes must be is measured, by the rule
that `microgan.scan.independence` checks a split with.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from microgan.scan.config import SplitConfig
from microgan.scan.independence import LARGEST_CORRELATION, grey_correlation
from microgan.scan.ingest import split_plane
from microgan.scan.planes import ROLES, window_corners

PART = 0.2  # of the planes or rows, for the calibration part and for the held-out part
FRACTIONS = (0.2, 0.25, 0.3)  # of the rows: the first that holds a window
LEAST_MARGIN_PX = 16


@dataclass(frozen=True)
class SplitProposal:
    """A split, or none, and the sentence that gives its reason.

    Attributes
    ----------
    split
        None where the scan is too small for three parts.
    planes_apart
        Distance at which planes are independent; None for one plane, or where no two are.
    reason
        Why this split.
    """

    split: SplitConfig | None
    planes_apart: int | None
    reason: str


def propose_split(
    count: int, plane: Callable[[int], np.ndarray], mask: np.ndarray, window_px: int, largest_radius_px: float
) -> SplitProposal:
    """Propose a split.

    Parameters
    ----------
    count
        Number of planes.
    plane
        Reads one, (H, W).
    mask
        Field of view (H, W) of a plane in the middle.
    window_px
        Side of the windows, of which each part must hold one.
    largest_radius_px
        Of the discs: bands of rows are at least a diameter apart.
    """
    if not window_corners(mask, window_px).any():
        rule = f"no window of {window_px} px fits into the field of view: take smaller windows, window_px"
        return SplitProposal(None, None, rule)
    apart = planes_apart(count, plane, mask)
    if apart is not None:
        by_planes = _planes(count, apart)
        if by_planes is not None:
            gap = f"planes {apart} or more apart are independent"
            return SplitProposal(by_planes, apart, f"{gap} (correlation below {LARGEST_CORRELATION:g})")
    by_rows = _rows(count, apart, mask, window_px, largest_radius_px)
    if count == 1:
        reason = "one plane: bands of rows, at least the largest disc's diameter apart"
    elif by_rows is not None and isinstance(by_rows.held_out, list):
        reason = f"{count} independent planes: one is held out"
    else:
        reason = f"{count} planes that show the same discs, or nearly so: bands of rows"
    if by_rows is None:
        rule = "take smaller windows, window_px"
        reason = f"no split into three parts that each hold a window of {window_px} px: {rule}"
    return SplitProposal(by_rows, apart, reason)


def planes_apart(count: int, plane: Callable[[int], np.ndarray], mask: np.ndarray) -> int | None:
    """Return the least distance at which two planes are independent; None where no two are."""
    if count < 2:
        return None
    start = count // 8
    first = _smooth(plane(start))

    def is_independent(distance: int) -> bool:
        return grey_correlation(first, _smooth(plane(start + distance)), mask) <= LARGEST_CORRELATION

    farthest, near, far = count - 1 - start, 0, 1
    while not is_independent(far):
        if far == farthest:
            return None
        near, far = far, min(2 * far, farthest)
    while far - near > 1:
        middle = (near + far) // 2
        near, far = (near, middle) if is_independent(middle) else (middle, far)
    return far


def _planes(count: int, apart: int) -> SplitConfig | None:
    """Return ranges of planes, from the first for training to the last held out; none of too few planes."""
    margin = apart - 1
    used = count - 2 * margin
    if used < 3 or used < PART * count:
        return None
    part = max(1, round(PART * used))
    held_out, calibration = count - part, count - 2 * part - margin
    return SplitConfig(
        calibration=f"{calibration}:{calibration + part}",
        held_out=f"{held_out}:{count}",
        margin_px=LEAST_MARGIN_PX,
        margin_planes=margin,
    )


def _rows(
    count: int, apart: int | None, mask: np.ndarray, window_px: int, largest_radius_px: float
) -> SplitConfig | None:
    """Return bands of rows that each hold a window; of two independent planes, one is held out."""
    margin_px = max(LEAST_MARGIN_PX, math.ceil(2 * largest_radius_px))
    for fraction in FRACTIONS:
        held_out = [count - 1] if count == 2 and apart == 1 else fraction
        split = SplitConfig(calibration=fraction, held_out=held_out, margin_px=margin_px)
        boxes = split_plane(0, mask, split, split.planes(count))
        roles = [role for role in ROLES if role != "held_out" or isinstance(held_out, float)]
        if all(_holds_window(mask, boxes.get(role), window_px) for role in roles):
            return split
    return None


def _holds_window(mask: np.ndarray, box: tuple[int, int, int, int] | None, window_px: int) -> bool:
    if box is None:
        return False
    row0, row1, col0, col1 = box
    return bool(window_corners(mask[row0:row1, col0:col1], window_px).any())


def _smooth(plane: np.ndarray) -> np.ndarray:
    """Smooth: noise would make planes that show the same discs look independent."""
    values = np.nan_to_num(plane.astype(np.float32), posinf=0.0, neginf=0.0)
    return cv2.GaussianBlur(values, (0, 0), 1.0)
