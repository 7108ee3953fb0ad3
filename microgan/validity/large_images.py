"""Verdicts on images larger than the windows that the rules were calibrated on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm import tqdm

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.periodic import wrapped
from microgan.detection.circles import Circles, centres_inside
from microgan.detection.detect import PROGRESS_IMAGES, detect_all
from microgan.validity.evidence import HALF_PIXEL_PX
from microgan.validity.judging import Verdict, judge, pass_rate, rejected_by
from microgan.validity.learnt.learnt_rule import SeenFault
from microgan.validity.reference import Limits, Reference
from microgan.validity.rules import HIGH_CONFIDENCE


@dataclass(frozen=True)
class LargeImageVerdict:
    """Verdicts of the windows that cover a large image, and the discs of the image as a whole.

    Attributes
    ----------
    row, col
        First rows (n,) and columns (m,) of the windows, px.
    verdicts
        Of the n x m windows, row by row; circles are in a window's own coordinates.
    circles
        Detected in the image as a whole.
    overlapping
        Indices (p, 2) of the pairs of these that overlap by more than the limits allow.
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
        """Whether all windows are valid, and no two discs of the whole image overlap by too much."""
        return not self.invalid_windows and not len(self.overlapping)

    @property
    def invalid_windows(self) -> int:
        """Number of windows that are not valid."""
        return sum(not verdict.valid for verdict in self.verdicts)

    @property
    def measures(self) -> dict[str, float]:
        """None: measures are those of single windows."""
        return {}

    @property
    def faults(self) -> tuple[SeenFault, ...]:
        """What the network saw in the windows that it rejects, in pixels of the image."""
        placed = zip(self.corners.tolist(), self.verdicts, strict=True)
        return tuple(fault.moved(*corner) for corner, verdict in placed for fault in verdict.faults)

    @property
    def valid_fraction(self) -> float:
        """Fraction of the windows that are valid."""
        return pass_rate(self.verdicts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the image is rejected."""
        counts = self.rejected_by
        counts["overlap"] += len(self.overlapping)
        return tuple(name for name, count in counts.items() if count)

    @property
    def rejected_by(self) -> dict[str, int]:
        """Number of windows that are rejected for each reason."""
        return rejected_by(self.verdicts)


def judge_large_image(
    image: Tensor,
    reference: Reference,
    periodic: bool = False,
    *,
    progress: bool = True,
) -> LargeImageVerdict:
    """Judge a normalised image (H, W) or (1, 1, H, W), larger than a window, by all of its windows.

    The limits hold for windows of the size they were calibrated on, so such windows are judged, each half a
    window from the next. What is at most half a window wide lies wholly in at least one of them: a pair of
    overlapping discs, if their radii are at most an eighth of a window. Each pixel is at least a quarter of a
    window away from the border of one window. So no defect is hidden because borders cut it.

    A window at another place may still give another verdict: the detector and the grey scale depend on all
    that a window contains, and a circle's score may cross the threshold of a rule. Valid means valid in these
    windows; windows in between fail at times (`benchmarks/repair.py` counts them).

    Real windows fail at the rate of false rejections. A large image that is valid as a whole therefore has
    fewer irregularities than a real plane of its size.

    Parameters
    ----------
    image
        Normalised grey values.
    reference
        Its rules and limits, and the size of the windows.
    periodic
        Windows continue on the opposite side of the border; if not, the last ones are moved inwards.
    progress
        Whether a progress bar is shown.

    Raises
    ------
    UserError
        If the image is smaller than a window, or as `judge` does.
    """
    image = as_large_image(image)
    row, col = (window_starts(length, reference.window_px, periodic) for length in image.shape[-2:])
    whole = LargeImageVerdict(row, col, [], *discs_and_overlaps(image, reference, periodic))
    parts = torch.from_numpy(whole.corners).split(PROGRESS_IMAGES)
    verdicts = [
        verdict
        for part in tqdm(parts, desc="judge", disable=None if progress else True)
        for verdict in judge(cut_windows(image, part.numpy(), reference.window_px), reference, progress=False)
    ]
    return replace(whole, verdicts=verdicts)


def judge_any_size(
    images: Tensor, reference: Reference, periodic: bool = False, *, progress: bool = True
) -> Sequence[Verdict | LargeImageVerdict]:
    """Judge normalised images (N, 1, H, W): windows as such, larger or periodic images by all their windows.

    Parameters and errors as in `judge_large_image`.
    """
    if not periodic and images.shape[2:] == (reference.window_px, reference.window_px):
        return judge(images, reference, progress=progress)
    return [judge_large_image(image[None], reference, periodic, progress=progress) for image in images]


def discs_and_overlaps(image: Tensor, reference: Reference, periodic: bool) -> tuple[Circles, np.ndarray]:
    """Return the discs of a large image (1, 1, H, W), and which pairs of them are `overlapping`."""
    (circles,) = detect_all(image, reference.detector, progress=False, periodic=periodic)
    domain = Domain((image.shape[-2], image.shape[-1]), periodic)
    return circles, overlapping(circles, reference.limits, domain)


def overlapping(circles: Circles, limits: Limits, domain: Domain) -> np.ndarray:
    """Return the pairs of circles (p, 2) that overlap by more than the rules of overlap allow.

    Parameters
    ----------
    circles
        Of one image. As in the rules, those with centres beyond the outermost pixel centres do not count.
    limits
        Those of ``overlap`` and, between circles that fit well, of ``high_confidence_overlap`` are used.
    domain
        Size of the image, and whether distances continue across its borders.
    """
    known = {name: limits.get(name, (None, None))[1] for name in ("overlap", "high_confidence_overlap")}
    largest = {name: limit for name, limit in known.items() if limit is not None}
    if not largest or len(circles) < 2:
        return np.empty((0, 2), np.intp)
    sides = np.array(domain.size_px)
    centres = np.stack([circles.row, circles.col], axis=1).astype(np.float64)
    if domain.periodic:
        centres = wrapped(centres, domain.size_px)
    reach_px = 2 * circles.radius_px.max() * (1 - min(largest.values()))
    tree = cKDTree(centres, boxsize=sides if domain.periodic else None)
    pairs = tree.query_pairs(max(reach_px, 0.0), output_type="ndarray")
    apart = np.abs(centres[pairs[:, 0]] - centres[pairs[:, 1]])
    if domain.periodic:
        apart = np.minimum(apart, sides - apart)
    overlap = 1 - np.hypot(*apart.T) / circles.radius_px[pairs].sum(axis=1)

    inside = centres_inside(circles.row, circles.col, domain.size_px, HALF_PIXEL_PX) | domain.periodic
    counting = {"overlap": inside, "high_confidence_overlap": inside & (circles.score >= HIGH_CONFIDENCE)}
    forbidden = np.zeros(len(pairs), bool)
    for name, limit in largest.items():
        forbidden |= (overlap > limit) & counting[name][pairs].all(axis=1)
    found = np.sort(pairs[forbidden], axis=1)
    return found[np.lexsort(found.T[::-1])]


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
    """Cut windows (N, 1, S, S) out of an image (1, 1, H, W); they continue across its borders."""
    size = np.array(image.shape[-2:])
    place = (np.asarray(corners)[:, :, None] + np.arange(window_px)) % size[:, None]  # (N, 2, S)
    index = torch.from_numpy(place)
    return image[0, 0][index[:, 0, :, None], index[:, 1, None, :]][:, None]
