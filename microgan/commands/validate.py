"""`microgan validate`: verdicts on images, as a table, and the valid images as a file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microgan.commands.images import (
    TIFF,
    ReferenceFile,
    magnification,
    must_be_named,
    must_contain_window,
    overlay_name,
    overlays_in,
    written,
)
from microgan.core.atomic import atomic_together
from microgan.core.errors import UserError
from microgan.core.files import write_tiff_in_bands
from microgan.core.notes import warn
from microgan.core.tables import write_csv
from microgan.inspection.proposal import other_polarity_is_better_in
from microgan.report.figures.windows import circle_overlay
from microgan.samples.card import SampleCard, card_path, must_be_free_for_card, warn_of_clean
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.grey_scale import GreyScale, intensity_window
from microgan.scan.images import batches, image_files, pages, voxel_size_um
from microgan.scan.planes import to_unit_range
from microgan.validity.large_images import judge_any_size

MOST_TRIED, PATCH_PX = 9, 256  # images, and pixels of each, in which the other polarity is tried


def validate(
    images: Sequence[Path],
    reference_file: ReferenceFile,
    grey_scale: GreyScale,
    periodic: bool,
    *,
    out: Path,
    overlay: Path | None = None,
    keep: Path | None = None,
    reading: Reading = AS_IT_SAYS,
) -> dict[str, Any]:
    """Judge images by the rules of their material; those larger than its windows by all of their windows.

    The valid ones are written to ``keep``, as they were read.
    """
    must_be_named("--out", out, ".csv")
    must_be_named("--keep", keep, *TIFF)
    if keep is not None:
        must_be_free_for_card(keep)
    reference = reference_file.load()
    warn_of_clean(image_files(images))
    window = intensity_window(images, reference.scan, grey_scale, reading)
    measures = sorted(reference.rules)
    valid: list[bool] = []
    reasons: Counter[str] = Counter()
    large = 0
    first: list[np.ndarray] = []  # a few images of one size

    def rows(pictures: Path | None) -> Iterator[tuple[object, ...]]:
        nonlocal large
        for names, batch in batches(images, "validate", reading=reading):
            must_contain_window(names[0], batch[0].shape, reference.window_px, reference_file)
            grey = to_unit_range(batch, window)
            first[:] = first or grey[:MOST_TRIED, :PATCH_PX, :PATCH_PX]
            verdicts = judge_any_size(torch.from_numpy(grey)[:, None], reference, periodic, progress=False)
            for name, image, verdict in zip(names, grey, verdicts, strict=True):
                if pictures is not None:
                    picture = pictures / overlay_name(len(valid), name)
                    seen = [(fault.row, fault.col) for fault in verdict.faults]
                    size = magnification(image)
                    circle_overlay(image, verdict.circles, picture, size, verdict.reasons, seen)
                valid.append(verdict.valid)
                reasons.update(verdict.reasons)
                large += not verdict.measures
                values = (verdict.measures.get(measure, "") for measure in measures)
                said = (" ".join(verdict.reasons), "; ".join(map(str, verdict.faults)))
                yield name, verdict.valid, *said, verdict.invalid_windows, *values

    header = ("image", "valid", "reasons", "faults", "invalid_windows", *measures)
    places = [out] if keep is None else [out, keep, card_path(keep)]
    with atomic_together(places, may_lack=True) as drafts, overlays_in(overlay) as pictures:
        write_csv(drafts[0], header, rows(pictures))
        if keep is not None and any(valid):
            _write_valid(images, valid, reference_file, drafts[1], drafts[2], reading)
    kept = keep if keep is not None and any(valid) else None
    if kept is not None and (card := SampleCard.stale_beside(kept)):
        card.unlink()
    if not any(valid) and other_polarity_is_better_in(first, reference.radius_px, reference.polarity):
        other = "dark" if reference.polarity == "bright" else "bright"
        words = f"{other} discs explain them far better, the reference has {reference.polarity} ones"
        warn(f"{images[0]}: none is valid, and {words}: are the images inverted?")
    files = written(verdicts=out, overlay=overlay, kept=kept)
    return {
        "files": files,
        "images": len(valid),
        "valid": sum(valid),
        "pass_rate": sum(valid) / len(valid),
        "large": large,
        "rejected_by": dict(reasons.most_common()),
    }


def _write_valid(
    images: Sequence[Path],
    valid: Sequence[bool],
    reference: ReferenceFile,
    keep: Path,
    card_file: Path,
    reading: Reading,
) -> None:
    """Write the valid pages, read once more, and their card, where all come from one file that has a card."""
    first = next(compress(pages(images, reading=reading), valid))[1]

    def bands() -> Iterator[np.ndarray]:
        for name, page in compress(pages(images, reading=reading), valid):
            if (page.shape, page.dtype) != (first.shape, first.dtype):
                given, rule = (
                    f"{page.shape} {page.dtype}",
                    f"must be {first.shape} {first.dtype} as the first",
                )
                raise UserError(name, given, rule)
            yield page

    write_tiff_in_bands(
        keep, bands(), (sum(valid), *first.shape), first.dtype, voxel_size_um(images, reading)
    )
    files = image_files(images)
    card = SampleCard.beside(files[0]) if len(files) == 1 else None
    if card is not None:
        card.of_valid(keep, sum(valid), reference.sha256).write(card_file)
