"""`microgan compare`: two sets of images side by side, by all descriptors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from microgan.commands.images import ReferenceFile, must_be_named, must_be_window, written
from microgan.core.atomic import atomic_together
from microgan.core.errors import UserError, escaped
from microgan.core.json_files import write_json
from microgan.detection.detect import detect_all
from microgan.evaluation import fidelity
from microgan.evaluation.descriptors import DESCRIPTORS, Descriptor
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.real_statistics import FidelityConfig, MeasuredImages
from microgan.report.figures.curves import descriptor_sheet
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.grey_scale import GreyScale, intensity_window
from microgan.scan.images import stack
from microgan.scan.planes import to_unit_range

ERROR_IN_WORDS = (
    "error: of a number, the difference over the second set's; of a curve, the norm of the difference over "
    "that of the second; of a distribution, the Wasserstein distance over the second's mean\n"
    "p: of the test that both sets are equal"
)


def compare(
    images: Path,
    real: Path,
    reference_file: ReferenceFile,
    grey_scale: GreyScale,
    config: FidelityConfig,
    properties: PropertiesConfig,
    *,
    out: Path | None = None,
    plot: Path | None = None,
    reading: Reading = AS_IT_SAYS,
) -> dict[str, Any]:
    """Compare two sets of images, and write the figures to ``out`` and the curves to ``plot``."""
    must_be_named("--out", out, ".json")
    must_be_named("--plot", plot, ".png")
    if images.resolve() == real.resolve():
        raise UserError(real, "is the first set too", "must be another file or folder")
    reference = reference_file.load()

    sets = {path: stack([path], reading) for path in (images, real)}
    for names, pages in sets.values():
        must_be_window(names[0], pages.shape[1:], reference.window_px, reference_file)

    def measured(path: Path) -> MeasuredImages:
        pages = sets[path][1]
        window = intensity_window([path], reference.scan, grey_scale, reading)
        grey = torch.from_numpy(to_unit_range(pages, window))[:, None]
        circles = detect_all(grey, reference.detector)
        return MeasuredImages.of(grey, circles, reference, config, properties)

    samples, held_out = measured(images), measured(real)
    comparison = fidelity.compare(samples, held_out, {}, config)
    figures = {
        "descriptors": comparison.table,
        "differing": fidelity.flagged(comparison.table),
        "tested_together": [
            name for name in fidelity.HEADLINE if comparison.table.get(name, {}).get("p") is not None
        ],
        "n": {str(images): len(samples.structure), str(real): len(held_out.structure)},
    }
    with atomic_together([path for path in (out, plot) if path is not None]) as drafts:
        if out is not None:
            write_json(drafts[0], figures)
        if plot is not None:
            structures = {"held_out": held_out.structure, "after": samples.structure}
            tables = fidelity.curves(structures, comparison.envelopes)
            voxel_um = reference.scan.voxel_size_um
            first, second = (images.name, real.name) if images.name != real.name else (str(images), str(real))
            descriptor_sheet({first: tables}, DESCRIPTORS, voxel_um, drafts[-1], compared_with=second)
    return {"files": written(figures=out, plot=plot), **figures}


def in_words(figures: Mapping[str, Any]) -> str:
    """Return a table with a line for each descriptor, and the names of those that differ."""
    rows = [_row_in_words(DESCRIPTORS[name], row) for name, row in figures["descriptors"].items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    differing = ", ".join(DESCRIPTORS[name].title.lower() for name in figures["differing"])
    counted_ones = ", ".join(DESCRIPTORS[name].title.lower() for name in figures["tested_together"])
    first, second = figures["n"]
    return "\n".join(
        [
            f"{escaped(first)} ({figures['n'][first]} images) "
            f"against {escaped(second)} ({figures['n'][second]} images)",
            *lines,
            ERROR_IN_WORDS,
            f"tested together, at {fidelity.LEVEL:.0%} in all: {counted_ones or 'none'}",
            f"differing of these: {differing or 'none'}",
        ]
    )


def _row_in_words(descriptor: Descriptor, row: Mapping[str, float | bool | None]) -> tuple[str, ...]:
    """Words for one descriptor: both values, error, p, and whether they are equivalent."""
    value, real = (f"{row[key]:.4g}" if row[key] is not None else "-" for key in ("value", "reference"))
    error = f"error {row['error']:.2%}" if row["error"] is not None else ""
    p = f"p {row['p']:.3f}" if row.get("p") is not None else ""
    equal = f"equivalent at {row['margin']:.0%}" if row.get("equivalent") else ""
    return descriptor.title, value, f"against {real}", descriptor.unit, error, p, equal
