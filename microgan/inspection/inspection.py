"""Everything that is known of a scan before it is used, from a few of its planes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from microgan.core.errors import UserError
from microgan.detection.detector import check_band_fits
from microgan.inspection.patches import PlaneImage
from microgan.inspection.proposal import Proposal, propose
from microgan.inspection.split import SplitProposal, propose_split
from microgan.scan.config import ScanConfig
from microgan.scan.field_of_view import field_of_view, must_be_finite, nan_note, specimen
from microgan.scan.grey_range import are_each_stretched, saturated_fraction
from microgan.scan.images import stretch
from microgan.scan.readers import Scan, open_scan

MOST_PLANES = 3  # that are read for values, field of view and discs
WINDOW_RADII = 8  # least side of a window over the usual radius: less holds too few discs
GOOD_WINDOW_RADII = 10  # the side that is advised instead


@dataclass(frozen=True)
class Inspection:
    """What a scan is, and how it may be read.

    Attributes
    ----------
    path
        File or folder.
    config
        How it was opened; path, options of reading, and field of view. Polarity and band are in ``proposal``.
    files, shape, dtype
        Number of files; planes, rows, columns; type of the grey values.
    voxel_size_um, voxel_size_source
        Side of a pixel, and what states it; None where nothing does.
    planes_read
        The planes that the following rests on.
    grey_range
        Least and largest grey value in the field of view of those planes.
    field_of_view
        Fraction of the plane.
    warnings
        What is doubtful, a sentence each.
    proposal
        Polarity and radius band.
    window_px, advised_window_px
        Side of the windows of params.yaml, and another one where that holds too few discs.
    split
        Parts that are independent.
    """

    path: Path
    config: ScanConfig
    files: int
    shape: tuple[int, int, int]
    dtype: str
    voxel_size_um: float | None
    voxel_size_source: str | None
    planes_read: tuple[int, ...]
    grey_range: tuple[float, float]
    field_of_view: float
    warnings: tuple[str, ...]
    proposal: Proposal
    window_px: int
    advised_window_px: int | None
    split: SplitProposal


def inspect(
    path: Path,
    options: Mapping[str, Any],
    window_px: int = 64,
    polarity: Literal["bright", "dark"] | None = None,
    radius_px: tuple[float, float] | None = None,
) -> Inspection:
    """Look at a scan: what is known of it, and a proposal how to read it.

    Parameters
    ----------
    path
        File, or folder of slices.
    options
        Parameters of `microgan.scan.config.ScanConfig` that reading needs: ``dataset``, ``shape`` ...
    window_px
        Side of the windows.
    polarity, radius_px
        Where they are known: the proposal takes them as given.

    Raises
    ------
    UserError
        If the scan cannot be read, or has NaN or no contrast in its field of view.
    """
    named = path if path.name and path.name != ".." else path.resolve()
    values = {"path": named.name, "radius_px": radius_px or (1, 2), **options}
    config = ScanConfig.from_mapping(values, "inspect")
    with open_scan(named.parent, config) as scan:
        count = scan.shape[0]
        if radius_px is not None:
            check_band_fits(radius_px, (scan.shape[1], scan.shape[2]))
        chosen = tuple(sorted({(2 * part + 1) * count // (2 * MOST_PLANES) for part in range(MOST_PLANES)}))
        raw = [scan.plane(index) for index in chosen]
        kind = _field_of_view_kind(raw)
        masks = [field_of_view(plane, kind) for plane in raw]
        for index, plane, mask in zip(chosen, raw, masks, strict=True):
            _must_have_contrast(plane, mask, f"{scan.file_of(index)} plane {index}")
        images = [PlaneImage(stretch(plane, mask), mask) for plane, mask in zip(raw, masks, strict=True)]
        proposal = _taken(propose(images, polarity, radius_px), polarity, radius_px)
        largest_px = proposal.radius_px[1] if proposal.radius_px else 0.0
        usual_px = proposal.usual_radius_px if proposal.radius_px else None
        split = propose_split(count, scan.plane, masks[len(masks) // 2], window_px, largest_px)
        return Inspection(
            path=path,
            config=config.model_copy(update={"field_of_view": kind}),
            files=len(scan.files),
            shape=scan.shape,
            dtype=str(scan.dtype),
            voxel_size_um=scan.voxel_size_um,
            voxel_size_source=scan.voxel_size_source,
            planes_read=chosen,
            grey_range=_grey_range(raw, masks),
            field_of_view=float(np.mean([mask.mean() for mask in masks])),
            warnings=(*scan.notes, *_nan_notes(scan, chosen, raw), *_stretched(scan, raw, masks)),
            proposal=proposal,
            window_px=window_px,
            advised_window_px=_advised_window_px(usual_px, window_px),
            split=split,
        )


def _taken(
    proposal: Proposal, polarity: Literal["bright", "dark"] | None, radius_px: tuple[float, float] | None
) -> Proposal:
    """Return a proposal with what the user has given in place of what was found."""
    kind = polarity or proposal.polarity
    if radius_px is None or proposal.radius_px is not None:
        return proposal
    return Proposal(kind, radius_px if kind else None, proposal.reading, proposal.doubts)


def _field_of_view_kind(planes: list[np.ndarray]) -> Literal["auto", "full"]:
    """A drawing has a constant matrix, which ``auto`` would take for the outside."""
    return "full" if all(specimen(p).all() and not field_of_view(p, "auto").all() for p in planes) else "auto"


def _must_have_contrast(plane: np.ndarray, mask: np.ndarray, where: str) -> None:
    must_be_finite(plane, mask, where)
    if not mask.any():
        rule = "must show the specimen: is the plane blank? choose other planes with --planes"
        raise UserError(where, "nothing but outside", rule)
    if plane[mask].min() == plane[mask].max():
        rule = "grey values must differ: is it a blank plane or a mask? choose other planes with --planes"
        raise UserError(where, f"constant {plane[mask][0]:g}", rule)


def _grey_range(planes: list[np.ndarray], masks: list[np.ndarray]) -> tuple[float, float]:
    inside = [plane[mask] for plane, mask in zip(planes, masks, strict=True)]
    return float(min(values.min() for values in inside)), float(max(values.max() for values in inside))


def _nan_notes(scan: Scan, chosen: tuple[int, ...], planes: list[np.ndarray]) -> list[str]:
    notes = [nan_note(plane, f"{scan.file_of(n)} plane {n}") for n, plane in zip(chosen, planes, strict=True)]
    return [note for note in notes if note is not None][:1]


def _stretched(scan: Scan, planes: list[np.ndarray], masks: list[np.ndarray]) -> list[str]:
    fractions = [saturated_fraction(plane[mask]) for plane, mask in zip(planes, masks, strict=True)]
    if not are_each_stretched(fractions):
        return []
    where = scan.files[0].parent if len(scan.files) > 1 else scan.files[0]
    return [
        f"{where}: the planes that were read reach both ends of the grey values, as if each was stretched to "
        "its own range: grey values may not be comparable; export the planes again with one range for all"
    ]


def _advised_window_px(usual_radius_px: float | None, window_px: int) -> int | None:
    if usual_radius_px is None or window_px >= WINDOW_RADII * usual_radius_px:
        return None
    return int(8 * np.ceil(GOOD_WINDOW_RADII * usual_radius_px / 8))
