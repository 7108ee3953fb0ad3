"""`microgan validate`: verdicts on images, as a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from microgan.commands.images import (
    ReferenceFile,
    magnification,
    must_contain_window,
    overlay_name,
    written,
)
from microgan.core.files import write_csv
from microgan.report.figures.windows import circle_overlay
from microgan.scan.images import batches
from microgan.validity.large_images import judge_any_size


def validate(
    images: Sequence[Path], reference_file: ReferenceFile, periodic: bool, out: Path, overlay: Path | None
) -> dict[str, Any]:
    """Judge images by the rules of their material; those larger than its windows by all of their windows."""
    reference = reference_file.load()
    measures = sorted(reference.rules)
    pages = valid = 0

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal pages, valid
        for names, batch in batches(images, "validate"):
            must_contain_window(names[0], batch[0].shape, reference.window_px, reference_file)
            grey = reference.scan.normalise(batch)
            verdicts = judge_any_size(torch.from_numpy(grey)[:, None], reference, periodic, progress=False)
            for name, image, verdict in zip(names, grey, verdicts, strict=True):
                if overlay is not None:
                    picture = overlay / overlay_name(pages, name)
                    circle_overlay(image, verdict.circles, picture, magnification(image), verdict.reasons)
                pages, valid = pages + 1, valid + verdict.valid
                values = (verdict.measures.get(measure, "") for measure in measures)
                yield name, verdict.valid, " ".join(verdict.reasons), verdict.invalid_windows, *values

    write_csv(out, ("image", "valid", "reasons", "invalid_windows", *measures), rows())
    files = written(verdicts=out, overlay=overlay)
    return {"files": files, "images": pages, "valid": valid, "pass_rate": valid / pages}
