"""`microgan rve-size`: how large a cell must be to stand for its material.

The result, printed with ``--json`` and written to ``--out``: ``volume_fraction`` of the scan and
``volume_fraction_interval``, where that of the material lies; ``cells``, a row for each side with the half
widths of the intervals at ``confidence``, relative for the stiffness; ``wanted``, the smallest cell for each
wanted half width; ``integral_range_px2``, the area that counts as one independent pixel.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgan.commands.images import ReferenceFile, must_be_named, written
from microgan.core.atomic import atomic_together
from microgan.core.errors import UserError
from microgan.core.json_files import write_json
from microgan.core.notes import warn
from microgan.core.words import counted
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.representative_cell import Plane, measured, phase_of, phases_of, solved_windows
from microgan.report.figures.representative import representative_figure
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.field_of_view import specimen
from microgan.scan.grey_scale import GreyScale, intensity_window
from microgan.scan.images import pages, voxel_size_um
from microgan.scan.planes import Planes, to_unit_range
from microgan.validity.reference import Reference


def rve_size(
    scan: Path,
    reference_file: ReferenceFile,
    grey_scale: GreyScale,
    properties: PropertiesConfig | None,
    wanted: tuple[float, float],
    *,
    sides_px: Sequence[int] = (),
    confidence: float = 0.95,
    seed: int = 0,
    out: Path | None = None,
    plot: Path | None = None,
    reading: Reading = AS_IT_SAYS,
) -> dict[str, Any]:
    """Measure how far volume fraction and stiffness of cells vary, by a scan.

    Parameters
    ----------
    scan
        A folder of planes (``data/planes``), or a file or folder of slices.
    reference_file
        Of the material: how disc phase is found.
    grey_scale
        Of slices.
    properties
        Materials, and how many windows are solved; None: no stiffness.
    wanted
        Half widths: of the volume fraction, and relative of the stiffness.
    sides_px
        Of the cells that are listed; multiples of the window by default.
    confidence
        Fraction of the cells that an interval contains.
    seed
        Of the places of the windows.
    out, plot
        JSON file and PNG file to write.
    reading
        How to read slices that do not say so by themselves.
    """
    must_be_named("--out", out, ".json")
    must_be_named("--plot", plot, ".png")
    reference = reference_file.load()
    planes, size_um = _planes(scan, reference, grey_scale, reading)
    window_px = reference.window_px
    windows = (
        None if properties is None else solved_windows(planes, window_px, properties.count, properties, seed)
    )
    cell = measured(planes, window_px, size_um, windows)
    figures = cell.figures(sides_px, *wanted, confidence)
    for doubt in figures["doubts"]:
        warn(f"{scan}: {doubt}")
    side_px = min(min(phase.shape) for phase, _ in planes)
    for name, goal in figures["wanted"].items():
        if goal is not None and goal["side_px"] > side_px:
            words = f"the cell for its {name.replace('_', ' ')} is larger than the scan of {side_px} px"
            warn(f"{scan}: {words}: extrapolated")
    if properties is not None:
        solid = {"discs": properties.discs, "matrix": properties.matrix}
        figures["young_modulus_gpa"] = {name: one.young_modulus_gpa for name, one in solid.items()}
    with atomic_together([path for path in (out, plot) if path is not None]) as drafts:
        if out is not None:
            write_json(drafts[0], figures)
        if plot is not None:
            representative_figure(cell, figures, drafts[-1])
    return {"files": written(figures=out, plot=plot), **figures}


def _planes(
    scan: Path, reference: Reference, grey_scale: GreyScale, reading: Reading
) -> tuple[list[Plane], float | None]:
    """Return phase and field of view of all planes, and the voxel size."""
    if (scan / "scan.json").is_file():
        planes = Planes.load(scan)
        return phases_of(planes, reference), planes.info.voxel_size_um
    window = intensity_window([scan], reference.scan, grey_scale, reading)
    phases: list[Plane] = []
    for name, page in pages([scan], reading=reading, with_outside=True):
        inside = specimen(page)
        if phases and page.shape != phases[0][0].shape:
            size = "{} x {} px".format(*phases[0][0].shape)
            raise UserError(name, "{} x {} px".format(*page.shape), f"must be {size}, as the first page")
        grey = to_unit_range(np.nan_to_num(page) if page.dtype.kind == "f" else page, window)
        phases.append((phase_of(grey, reference), inside))
    return phases, voxel_size_um([scan], reading) or reference.scan.voxel_size_um


def in_words(figures: Mapping[str, Any]) -> str:
    """Return the material, a table of cells, and the cells that are wanted."""
    low, high = figures["volume_fraction_interval"]
    percent = f"{figures['confidence']:.0%}".replace("%", " %")
    independent = figures["independent_planes"]
    lines = [
        f"volume fraction {figures['volume_fraction']:.4f}; of the material, from {low:.4f} to {high:.4f} "
        f"({percent}; {counted(figures['planes'], 'plane')}, as {independent:.1f} independent)",
        f"a cell differs from the material, in {percent} of the cells, by less than:",
    ]
    rows = [("side", "volume fraction", "in-plane stiffness"), *map(_row_in_words, figures["cells"])]
    lines += ["  ".join(f"{cell:>18}" for cell in row).rstrip() for row in rows]
    if moduli := figures.get("young_modulus_gpa"):
        words = f"stiffness of discs of {moduli['discs']:g} GPa in a matrix of {moduli['matrix']:g} GPa"
        lines.append(f"{words} (--disc-material, --matrix-material)")
    for name, goal in figures["wanted"].items():
        if goal is None:
            continue
        width = f"{goal['half_width']:g}" if "half_width" in goal else f"{goal['relative_half_width']:.2%}"
        lines.append(f"for {name.replace('_', ' ')} within {width}: a cell of {_side(goal)}")
    return "\n".join(lines)


def _row_in_words(row: Mapping[str, float | None]) -> tuple[str, str, str]:
    stiffness = row["stiffness_relative_half_width"]
    return (
        _side(row),
        f"{row['volume_fraction_half_width']:.4f}",
        "" if stiffness is None else f"{stiffness:.2%}",
    )


def _side(row: Mapping[str, Any]) -> str:
    in_um = "" if row["side_um"] is None else f" ({row['side_um']:.4g} um)"
    return f"{row['side_px']} px{in_um}"
