"""What all figures have in common: colours, panels, the legend below them, and the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microgan.core.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
LARGEST_WIDTH_IN = 11.0  # of a figure: a wider one is shrunk by the page, and its text with it
VALID, REJECTED = "#37c871", "#ff5555"
REAL, LIMIT = "#8a94a0", "#e8505b"
MODEL_COLOURS = ("#1f6fb4", "#d9730d", "#2a8c5a", "#7a4fa3")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, the same bytes for the same picture."""
    with atomic(path) as draft:
        figure.savefig(draft, format="png", metadata={"Software": None})


def panels_of_one_style(
    down: int, across: int, height: float, width: float = 5.2, **layout: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of that height and its panels (down, across), at most ``width`` each, all in inches."""
    from matplotlib.figure import Figure

    size = (min(max(width * across, 7), LARGEST_WIDTH_IN), height)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, **layout)
    for panel in panels.ravel():
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    return figure, panels


def model_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each model, the same in every figure that shows the models in the same order."""
    return {name: MODEL_COLOURS[index % len(MODEL_COLOURS)] for index, name in enumerate(names)}


def handles_by_label(axes: Axes) -> dict[str, Any]:
    """Return what is drawn in ``axes``, by its label."""
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Draw one legend for all panels, below them, where it hides no data."""
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=9,
        )


def in_words(reasons: Sequence[str], most_lines: int = 3) -> str:
    r"""Return reason codes as words, one a line; of more than ``most_lines`` the first, and how many follow.

    Examples
    --------
    >>> in_words(["overlap", "empty_circle"])
    'overlap\nempty circle'
    >>> in_words(["a", "b", "c", "d"])
    'a\nb\nand 2 more'
    """
    lines = [reason.replace("_", " ") for reason in reasons]
    if len(lines) > most_lines:
        lines = [*lines[: most_lines - 1], f"and {len(lines) - most_lines + 1} more"]
    return "\n".join(lines)
