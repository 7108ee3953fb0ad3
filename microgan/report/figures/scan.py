"""Figures of a scan as it was read: its planes and its grey values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgan.report.figures.style import save_figure, scale_bar
from microgan.scan.planes import Planes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROLE_COLOURS = {"train": "#4c9be8", "calibration": "#f0b429", "held_out": "#e8505b"}
ROLE_LABELS = {"train": "training", "calibration": "calibration", "held_out": "held-out"}


def contact_sheet(planes: Planes, path: Path) -> None:
    """Show up to 8 planes, dark red where out of the field of view, with the regions of each role framed."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    count, rows, cols = planes.info.shape
    shown = np.unique(np.linspace(0, count - 1, min(count, 8)).astype(int))
    across = min(len(shown), 4)
    down = -(-len(shown) // across)
    figure = Figure(figsize=(4 * across, (4 * rows / cols + 0.3) * down + 0.5), dpi=100, layout="constrained")
    panels = np.atleast_1d(figure.subplots(down, across)).ravel()
    for panel in panels:
        panel.axis("off")
    for panel, index in zip(panels, shown, strict=False):
        _draw_plane(panel, planes, int(index))
    size_um = planes.info.voxel_size_um
    scale_bar(panels[0], (rows, cols), size_um)
    size = "voxel size unknown" if size_um is None else f"voxel size {size_um:g} µm"
    figure.suptitle(f"{planes.info.name}: {count} planes of {rows} x {cols} pixels, {size}", fontsize=10)
    handles = [Line2D([], [], color=colour, label=ROLE_LABELS[role]) for role, colour in ROLE_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path, few_colours=True)


def _draw_plane(axes: Axes, planes: Planes, index: int) -> None:
    from matplotlib.patches import Rectangle

    _, rows, cols = planes.info.shape
    step = max(1, max(rows, cols) // 1000)
    grey = (np.asarray(planes.grey[index, ::step, ::step], np.float32)[..., None] + 1) / 2
    outside = ~planes.mask[index, ::step, ::step][..., None]
    picture = np.where(outside, np.array([0.35, 0.08, 0.08]) + 0.4 * grey, grey)
    axes.imshow(picture, extent=(-0.5, cols - 0.5, rows - 0.5, -0.5), interpolation="antialiased")
    axes.set_title(f"plane {index}", fontsize=9)
    for role, boxes in planes.info.regions.items():
        for plane, row0, row1, col0, col1 in boxes:
            if plane == index:
                colour, corner = ROLE_COLOURS[role], (col0 - 0.5, row0 - 0.5)
                axes.add_patch(Rectangle(corner, col1 - col0, row1 - row0, fill=False, ec=colour, lw=2))


def intensity_histogram(planes: Planes, path: Path) -> None:
    """Show how grey values are distributed in the field of view, for each role."""
    from matplotlib.figure import Figure

    low, high = planes.info.intensity_window
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    # Bins of whole grey levels: others would hold now more, now fewer of them and look like a comb.
    width = (
        np.ceil((high - low + 1) / 100) if np.dtype(planes.info.dtype).kind in "iu" else (high - low) / 100
    )
    edges = (np.arange(np.ceil((high - low) / width + 0.5) + 1) * width - 0.5 * width) / (high - low) * 2 - 1
    for role, boxes in planes.info.regions.items():
        counts = np.zeros(len(edges) - 1)
        for plane, row0, row1, col0, col1 in boxes:
            grey = planes.grey[plane, row0:row1, col0:col1].astype(np.float32)
            counts += np.histogram(grey[planes.mask[plane, row0:row1, col0:col1]], edges)[0]
        density = counts / max(counts.sum(), 1) / (edges[1] - edges[0])
        axes.stairs(density, edges, color=ROLE_COLOURS[role], label=ROLE_LABELS[role])
    axes.set(xlabel="normalised grey value", ylabel="probability density", xlim=(-1, 1))
    to_raw, to_normalised = (
        lambda x: low + (x + 1) / 2 * (high - low),
        lambda g: (g - low) / (high - low) * 2 - 1,
    )
    raw = axes.secondary_xaxis("top", functions=(to_raw, to_normalised))
    raw.set_xlabel(f"grey value of {planes.info.name} ({planes.info.dtype})")
    axes.legend(frameon=False)
    save_figure(figure, path)
