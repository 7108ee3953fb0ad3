"""`microgan detect`: the circles of images, as a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microgan.commands.images import magnification, must_be_named, overlay_name, overlays_in, written
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.core.notes import warn
from microgan.core.tables import write_csv
from microgan.detection.circles import Circles
from microgan.detection.detect import detect as detect_discs
from microgan.detection.detector import Detector, check_band_fits
from microgan.inspection.proposal import other_polarity_is_better
from microgan.report.figures.windows import circle_overlay
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.field_of_view import specimen
from microgan.scan.images import batches, stretch
from microgan.validity.usefulness import radius_doubts

PATCH_PX = 256  # side of the part in which the other polarity is tried
FEWEST_DISCS = 50  # from which on the distribution of their radii says something


def detect(
    images: Sequence[Path],
    detector: Detector,
    out: Path,
    overlay: Path | None,
    reading: Reading = AS_IT_SAYS,
) -> dict[str, Any]:
    """Find the discs of images, and draw their circles into pictures in the folder ``overlay``."""
    must_be_named("--out", out, ".csv")
    pages = discs = 0
    is_other_polarity = False
    radii: list[np.ndarray] = []

    def rows(pictures: Path | None) -> Iterator[tuple[object, ...]]:
        nonlocal pages, discs, is_other_polarity
        for names, batch in batches(images, "detect", reading=reading, with_outside=True):
            check_band_fits(detector.radius_px, batch.shape[1:], "--radius")
            inside = [specimen(page) for page in batch]
            _must_show_something(names, batch, inside)
            grey = np.stack([stretch(page, mask) for page, mask in zip(batch, inside, strict=True)])
            detected = detect_discs(torch.from_numpy(grey)[:, None], detector)
            for name, image, mask, all_circles in zip(names, grey, inside, detected, strict=True):
                circles = _centred_in(all_circles, mask)
                if pictures is not None:
                    picture = pictures / overlay_name(pages, name)
                    circle_overlay(image, circles, picture, magnification(image))
                if not pages:
                    is_other_polarity = _warn_of_other_polarity(name, image, mask, detector)
                pages, discs = pages + 1, discs + len(circles)
                radii.append(circles.radius_px)
                yield from ((name, *(round(float(value), 4) for value in row)) for row in circles.table())

    with atomic(out) as table, overlays_in(overlay) as pictures:
        write_csv(table, ("image", "row", "col", "radius", "score"), rows(pictures))
    if discs >= FEWEST_DISCS and not is_other_polarity:  # radii of what are no discs say nothing
        for doubt in radius_doubts(np.concatenate(radii), detector.radius_px):
            warn(f"--radius: {doubt.removeprefix('radius_px: ')}")
    return {"files": written(circles=out, overlay=overlay), "images": pages, "discs": discs}


def _warn_of_other_polarity(name: str, grey: np.ndarray, inside: np.ndarray, detector: Detector) -> bool:
    """Say so where discs of the other polarity explain the middle of an image far better; return whether."""
    rows, cols = (slice(max((n - PATCH_PX) // 2, 0), (n + PATCH_PX) // 2) for n in grey.shape)
    patch = grey[rows, cols]
    if not inside[rows, cols].all() or 2 * detector.radius_px[1] > min(patch.shape):
        return False
    is_better = other_polarity_is_better(patch, detector.radius_px, detector.polarity)
    if is_better:
        other = "dark" if detector.polarity == "bright" else "bright"
        warn(f"{name}: {other} discs explain the image far better: try --polarity {other}")
    return is_better


def _must_show_something(names: Sequence[str], pages: np.ndarray, inside: Sequence[np.ndarray]) -> None:
    """Refuse pages without specimen; say which are of one grey value."""
    for name, page, mask in zip(names, pages, inside, strict=True):
        if not mask.any():
            raise UserError(name, "nothing but outside", "must show the specimen somewhere, not NaN alone")
        if page[mask].min() == page[mask].max():
            warn(f"{name}: all grey values are {page[mask][0]:g}: there are no discs to find")


def _centred_in(circles: Circles, mask: np.ndarray) -> Circles:
    """Return the circles whose centre lies in the field of view."""
    table = circles.table()  # centres of discs that the border cuts may lie beyond it
    row, col = (np.clip(np.rint(table[:, axis]).astype(int), 0, mask.shape[axis] - 1) for axis in (0, 1))
    return Circles.from_table(table[mask[row, col]])
