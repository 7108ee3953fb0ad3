"""The figure of how large a cell must be: the half widths of intervals over the side of the cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microgan.evaluation.representative_cell import RepresentativeCell
from microgan.report.figures.style import (
    LIMIT,
    MODEL_COLOURS,
    REAL,
    handles_by_label,
    legend_below,
    length_unit,
    panels_of_one_style,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 60  # of a curve
BEYOND = 1.5  # largest side that is drawn, over the largest that is of interest


def representative_figure(cell: RepresentativeCell, figures: Mapping[str, Any], path: Path) -> None:
    """Draw the half widths for volume fraction and stiffness, with what was wanted.

    Parameters
    ----------
    cell
        What was measured.
    figures
        Of the same, by `RepresentativeCell.figures`.
    path
        File to write.
    """
    wanted, confidence = figures["wanted"], figures["confidence"]
    of_stiffness = cell.stiffness_gpa
    figure, panels = panels_of_one_style(1, 1 if of_stiffness is None else 2, 3.8)
    largest = max(row["side_px"] for row in [*figures["cells"], *filter(None, wanted.values())])
    sides_px = np.unique(np.geomspace(max(cell.window_px // 2, 4), BEYOND * largest, POINTS).astype(int))
    _draw(
        panels[0, 0], cell, sides_px, lambda side: cell.fraction.half_width(side, confidence),
        wanted["volume_fraction"]["half_width"], wanted["volume_fraction"]["side_px"],
    )  # fmt: skip
    panels[0, 0].set_ylabel("volume fraction: half width")
    if of_stiffness is not None:
        _draw(
            panels[0, 1], cell, sides_px,
            lambda side: 100 * of_stiffness.relative_half_width(side, confidence),
            100 * wanted["stiffness"]["relative_half_width"], wanted["stiffness"]["side_px"],
        )  # fmt: skip
        panels[0, 1].set_ylabel("in-plane stiffness: half width (%)")
    legend_below(figure, handles_by_label(panels[0, 0]))
    save_figure(figure, path)


def _draw(
    panel: Axes,
    cell: RepresentativeCell,
    sides_px: np.ndarray,
    half_width: Callable[[int], float],
    wanted: float,
    wanted_side_px: int,
) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    scale, unit = length_unit(cell.voxel_size_um)
    widths = [half_width(int(side)) for side in sides_px]
    panel.loglog(scale * sides_px, widths, color=MODEL_COLOURS[0], lw=1.6, label="cells are within")
    panel.axvline(scale * cell.window_px, color=REAL, lw=1.2, ls=":", label="window")
    panel.plot(
        [scale * sides_px[0], scale * wanted_side_px, scale * wanted_side_px], [wanted, wanted, min(widths)],
        color=LIMIT, lw=1.0, ls="--", label="wanted, and the cell that has it",
    )  # fmt: skip
    panel.plot([scale * wanted_side_px], [wanted], "o", color=LIMIT, ms=5)
    panel.set_xlabel(f"side of the cell ({unit})")
    panel.grid(which="major", color="#e6e6e6", lw=0.6)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    panel.set_xlim(scale * sides_px[0], scale * sides_px[-1])
