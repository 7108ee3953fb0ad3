"""Verdicts on images larger than the windows that the rules were calibrated on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.detection.detect import AT_ONCE, detect_all
from microgan.validity.judging import Verdict, judge, pass_rate, rejected_by
from microgan.validity.reference import Limits, Reference
from microgan.validity.rules import HIGH_CONFIDENCE


@dataclass(frozen=True)
class LargeImageVerdict:
    """Verdicts of the windows that cover a field, and the discs of the field as a whole.

    Attributes
    ----------
    row, col
        First rows (n,) and columns (m,) of the windows, px.
    verdicts
        Of the n x m windows, row by row; circles are in a window's own coordinates.
    circles
        That were found in the field as a whole.
    overlapping
        Pairs of these (p, 2) that overlap by more than the limits allow.
    """

    row: np.ndarray
    col: np.ndarray
    verdicts: Sequence[Verdict]
    circles: Circles
    overlapping: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """First row and column of each window (n * m, 2), px."""
        return np.stack(np.meshgrid(self.row, self.col, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def valid(self) -> bool:
        """Whether all windows are, and no discs overlap that must not."""
        return not self.invalid_windows and not len(self.overlapping)

    @property
    def invalid_windows(self) -> int:
        """How many windows are not valid."""
        return sum(not verdict.valid for verdict in self.verdicts)

    @property
    def valid_fraction(self) -> float:
        """Fraction of the windows that are valid."""
        return pass_rate(self.verdicts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What the field is rejected for."""
        counts = self.rejected_by
        counts["overlap"] += len(self.overlapping)
        return tuple(name for name, count in counts.items() if count)

    @property
    def rejected_by(self) -> dict[str, int]:
        """Number of windows that each reason rejects."""
        return rejected_by(self.verdicts)


def judge_large_image(
    image: Tensor,
    reference: Reference,
    periodic: bool = False,
    *,
    allow_own_rules: bool = False,
    progress: bool = True,
) -> LargeImageVerdict:
    """Judge a normalised field (H, W) or (1, 1, H, W) of any size by all of its windows.

    The limits are those of windows of the calibration's size, so such windows are judged, each half a window
    from the next. Whatever is not larger than half a window, that is a pair of overlapping discs if their
    radii are at most an eighth of a window, is whole in at least one of them; and each pixel is at least a
    quarter of a window away from the border of one. So no defect is hidden because borders cut it.

    It may still be read differently in a window at another place: the detector and the grey scale depend on
    all that a window holds, and a circle's score may cross the threshold of a rule. Valid means valid in
    these windows; windows in between fail at times (`benchmarks/repair.py` counts them).

    Real windows fail at the rate of false rejections. A field that is valid as a whole is therefore more
    orderly than a real plane of its size.

    Parameters
    ----------
    image
        Normalised grey values.
    reference
        Its rules and limits, and the size of the windows.
    periodic
        Windows go on beyond the border, on the opposite side; if not, the last ones are moved inwards.
    allow_own_rules, progress
        As in `judge`.

    Raises
    ------
    UserError
        If the field is smaller than a window, or as `judge` does.
    """
    image = as_large_image(image)
    row, col = (window_starts(length, reference.window_px, periodic) for length in image.shape[-2:])
    field = LargeImageVerdict(row, col, [], *discs_and_overlaps(image, reference, periodic))
    parts = torch.from_numpy(field.corners).split(AT_ONCE)
    verdicts = [
        verdict
        for part in tqdm(parts, desc="judge", disable=None if progress else True)
        for verdict in judge(
            cut_windows(image, part.numpy(), reference.window_px),
            reference,
            allow_own_rules=allow_own_rules,
            progress=False,
        )
    ]
    return replace(field, verdicts=verdicts)


def discs_and_overlaps(image: Tensor, reference: Reference, periodic: bool) -> tuple[Circles, np.ndarray]:
    """Return the discs of a field (1, 1, H, W) as a whole, and which pairs are `overlapping`."""
    (circles,) = detect_all(
        image, reference.radius_px, reference.polarity, reference.detector, progress=False, periodic=periodic
    )
    size_px = image.shape[-2], image.shape[-1]
    return circles, overlapping(circles, reference.limits, size_px, periodic)


def overlapping(circles: Circles, limits: Limits, size_px: tuple[int, int], periodic: bool) -> np.ndarray:
    """Return the pairs of circles (p, 2) that overlap by more than the rules of overlap allow.

    Parameters
    ----------
    circles
        Of one image. As in the rules, those with centres outside of it do not count.
    limits
        Of which those of ``overlap`` and, between circles that fit well, ``high_confidence_overlap`` count.
    size_px
        Rows and columns of the image.
    periodic
        Whether distances go on beyond its borders.
    """
    sides = np.array(size_px)[:, None]
    centres = np.stack([circles.row, circles.col])
    inside = ((centres >= 0) & (centres <= sides - 1)).all(axis=0) | periodic
    apart = np.abs(centres[:, :, None] - centres[:, None])
    if periodic:
        apart = np.minimum(apart % sides[..., None], -apart % sides[..., None])
    overlap = 1 - np.hypot(*apart) / (circles.radius_px[:, None] + circles.radius_px)
    chosen = {"overlap": inside, "high_confidence_overlap": inside & (circles.score >= HIGH_CONFIDENCE)}
    forbidden = np.zeros(overlap.shape, bool)
    for name, which in chosen.items():
        _, largest = limits.get(name, (None, None))
        if largest is not None:
            forbidden |= (overlap > largest) & np.outer(which, which)
    return np.argwhere(np.triu(forbidden, 1))


def as_large_image(image: Tensor) -> Tensor:
    """Return one image (H, W) or (1, 1, H, W) as (1, 1, H, W)."""
    if image.ndim == 2:
        image = image[None, None]
    if image.ndim != 4 or image.shape[:2] != (1, 1):
        raise ValueError(f"image: shape {tuple(image.shape)}: must be (H, W) or (1, 1, H, W)")
    return image


def window_starts(length_px: int, window_px: int, periodic: bool) -> np.ndarray:
    """Return where windows start that cover a length, half a window apart or a little less.

    Examples
    --------
    >>> window_starts(150, 64, periodic=False).tolist()
    [0, 32, 64, 86]
    >>> window_starts(128, 64, periodic=True).tolist()
    [0, 32, 64, 96]
    """
    if length_px < window_px:
        raise UserError("size", length_px, f"must be at least {window_px} px, the size of judged windows")
    stride_px = max(window_px // 2, 1)
    if periodic:
        count = -(-length_px // stride_px)
        return np.arange(count) * length_px // count
    count = -(-(length_px - window_px) // stride_px) + 1
    return np.minimum(np.arange(count) * stride_px, length_px - window_px)


def cut_windows(image: Tensor, corners: np.ndarray, window_px: int) -> Tensor:
    """Cut windows (N, 1, S, S) out of a field (1, 1, H, W); beyond its border they go on at the other one."""
    size = np.array(image.shape[-2:])
    place = (np.asarray(corners)[:, :, None] + np.arange(window_px)) % size[:, None]  # (N, 2, S)
    index = torch.from_numpy(place)
    return image[0, 0][index[:, 0, :, None], index[:, 1, None, :]][:, None]
