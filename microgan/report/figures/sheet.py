"""Sheets of many small images in rows, with captions, circles and frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from microgan.report.figures.style import DPI, LARGEST_WIDTH_IN, POINTED, scale_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from microgan.detection.circles import Circles

# Lengths in inches
CELL_IN, GAP_IN = 1.36, 0.08  # of an image and what is left between two
PLACE_PX = 14.0  # side of the square around a place that is pointed at
NAME_IN, TITLE_IN, LINE_IN = 0.5, 0.3, 0.15  # of rows' names, the title, a line of a caption


@dataclass(frozen=True)
class Row:
    """Images (n, H, W) in [-1, 1] under one name, and for each, as far as given, what belongs to it."""

    name: str
    images: np.ndarray
    captions: Sequence[str] = ()
    circles: Sequence[Circles] = ()
    colours: Sequence[str] = ()  # of circles and frames
    places: Sequence[Sequence[tuple[float, float]]] = ()  # row and column of what is pointed at, px
    has_frames: bool = False

    @property
    def lines(self) -> int:
        """How many lines its longest caption has."""
        return max((caption.count("\n") + 1 for caption in self.captions if caption), default=0)


def draw_sheet(
    rows: Sequence[Row],
    columns: int,
    title: str = "",
    voxel_size_um: float | None = None,
    cell_in: float = CELL_IN,
) -> Figure:
    """Draw rows of images of one size, of each row at most ``columns``.

    All stand in one panel, whose coordinates are pixels of the images: a panel for each image, with its axes,
    takes seconds for a sheet. The first image has a scale bar, in pixels where the voxel size is None.
    """
    from matplotlib.figure import Figure

    height_px, width_px = next((row.images.shape[1:] for row in rows if len(row.images)), (1, 1))
    width_in = min(cell_in * columns + NAME_IN, LARGEST_WIDTH_IN)
    cell_in = (width_in - NAME_IN) / columns
    px_per_in = width_px / (cell_in - GAP_IN)
    heights = [height_px + px_per_in * (GAP_IN + LINE_IN * row.lines) for row in rows]
    tops = np.cumsum([px_per_in * (TITLE_IN if title else GAP_IN), *heights])

    figure = Figure(figsize=(width_in, tops[-1] / px_per_in), dpi=DPI)
    figure.suptitle(title, fontsize=10, y=1 - 0.06 * px_per_in / tops[-1])
    panel = figure.add_axes((0, 0, 1, 1), autoscale_on=False)
    panel.set_axis_off()
    panel.set(xlim=(-NAME_IN * px_per_in, columns * cell_in * px_per_in), ylim=(tops[-1], 0))
    corners = [(top, px_per_in * cell_in * column) for top in tops[:-1] for column in range(columns)]
    for index, row in enumerate(rows):
        in_row = corners[index * columns :][:columns]
        _draw_row(panel, row, in_row, px_per_in)
    shown = [row for row in range(len(rows)) if len(rows[row].images)]
    if shown:
        scale_bar(panel, (height_px, width_px), voxel_size_um, corners[shown[0] * columns])
    return figure


def _draw_row(panel: Axes, row: Row, corners: Sequence[tuple[float, float]], px_per_in: float) -> None:
    """Draw the images of a row, with their upper left corners at ``corners`` (row, col)."""
    top, left = corners[0]
    height = row.images.shape[1] if len(row.images) else px_per_in
    name = row.name if len(row.images) else f"{row.name}\n(none)"
    place = (left - 0.06 * px_per_in, top + height / 2)
    panel.text(*place, name, rotation=90, ha="right", va="center", ma="center", fontsize=9)
    for image, (top, left) in zip(row.images, corners, strict=False):
        box = (left, left + image.shape[1], top + image.shape[0], top)
        panel.imshow(image, "gray", extent=box, aspect="auto", vmin=-1, vmax=1, interpolation="nearest")
    below = top + height + 0.03 * px_per_in
    for caption, (_, left) in zip(row.captions, corners, strict=False):
        panel.text(left + row.images.shape[2] / 2, below, caption, ha="center", va="top", fontsize=8)
    for circles, colour, corner in zip(row.circles, row.colours, corners, strict=False):
        _draw_circles(panel, circles, colour, corner, row.images.shape[1:], frame=row.has_frames)
    for places, corner in zip(row.places, corners, strict=False):
        _point_at(panel, places, corner)


def _point_at(panel: Axes, places: Sequence[tuple[float, float]], corner: tuple[float, float]) -> None:
    """Draw a square around each place (row, col) of the image at ``corner``."""
    from matplotlib.patches import Rectangle

    for row, col in places:
        left, top = corner[1] + 0.5 + col - PLACE_PX / 2, corner[0] + 0.5 + row - PLACE_PX / 2
        panel.add_patch(Rectangle((left, top), PLACE_PX, PLACE_PX, fill=False, ec=POINTED, lw=1.5))


def _draw_circles(
    panel: Axes,
    circles: Circles,
    colour: str,
    corner: tuple[float, float],
    shape: tuple[int, ...],
    *,
    frame: bool,
) -> None:
    """Draw the circles of the image (H, W) at ``corner``, cut at its borders, and a frame around it."""
    from matplotlib.collections import EllipseCollection
    from matplotlib.patches import Rectangle

    top, left = corner
    size = 2 * circles.radius_px
    centres = np.stack([left + 0.5 + circles.col, top + 0.5 + circles.row], axis=-1)
    rings = EllipseCollection(
        size, size, np.zeros_like(size), units="xy", offsets=centres, offset_transform=panel.transData,
        facecolors="none", edgecolors=colour, linewidths=0.8,
    )  # fmt: skip
    panel.add_collection(rings, autolim=False)
    border = Rectangle((left, top), shape[1], shape[0], fill=False, ec=colour, lw=2.5 if frame else 0)
    panel.add_patch(border)
    rings.set_clip_path(border)
