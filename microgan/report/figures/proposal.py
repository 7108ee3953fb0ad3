"""The figure of a proposal: discs as it finds them, and their radii beside its band."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgan.report.figures.style import DPI, LIMIT, REAL, VALID, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from microgan.inspection.explained import Reading
    from microgan.inspection.proposal import Proposal

SHOWN_RADII = 22  # side of the part that is shown, in usual radii


def proposal_figure(proposal: Proposal, path: Path) -> None:
    """Show a part of a plane, the same with circles, and the histogram of all radii with the radius band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.9), dpi=DPI, layout="constrained")
    plain, circled, histogram = figure.subplots(1, 3)
    for panel in (plain, circled):
        panel.axis("off")
    reading, usual_px = proposal.reading, proposal.usual_radius_px
    histogram.set(xlabel="radius (px)", ylabel="discs")
    if reading is not None and usual_px is not None:
        _show(plain, reading, usual_px, circles=False)
        _show(circled, reading, usual_px, circles=True)
        histogram.hist(reading.radii_px, bins=40, color=REAL)
    for end in proposal.radius_px or ():
        histogram.axvline(end, color=LIMIT, lw=1.5)
    histogram.spines[["top", "right"]].set_visible(False)
    plain.set_title("part of a plane", fontsize=9)
    kind = f"{reading.polarity} discs" if reading is not None else "no discs"
    circled.set_title(kind if proposal.radius_px else f"{kind}: in doubt", fontsize=9)
    band = "{:g} to {:g} px".format(*proposal.radius_px) if proposal.radius_px else "none"
    histogram.set_title(f"radii; proposed band (red): {band}", fontsize=9)
    save_figure(figure, path)


def _show(panel: Axes, reading: Reading, usual_px: float, circles: bool) -> None:
    from matplotlib.patches import Circle

    grey = reading.patches[0].raw
    side = min(len(grey), max(round(SHOWN_RADII * usual_px), 32))
    start = (len(grey) - side) // 2
    panel.imshow(grey, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    if circles:
        for row, col, radius, _ in reading.circles[0].table():
            panel.add_patch(Circle((col, row), radius, fill=False, ec=VALID, lw=1.0, clip_on=True))
    limits = np.array([start - 0.5, start + side - 0.5])
    panel.set(xlim=limits, ylim=limits[::-1])
