"""What all figures have in common: colours, panels, the legend below them, scale bars, and the files."""

from __future__ import annotations

import math
import re
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
# Colours that are told apart by colour-blind readers (Okabe, Ito: Color universal design, 2008)
VALID, REJECTED = "#56b4e9", "#e69f00"
POINTED = "#d55e00"  # around a place where a network sees a fault
REAL, LIMIT = "#8a94a0", "#b5371f"
MODEL_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
SUFFIXES = (".png", ".svg")  # of a figure whose path has none
BAR_PART = 0.4  # of the width of an image, which a scale bar does not exceed
LENGTH = re.compile(r"(1/|per 1000 )?(square pixels|px²|px)")


def save_figure(figure: Figure, path: Path, *, few_colours: bool = False) -> None:
    """Write a figure, whole or not at all, the same bytes for the same picture.

    The suffix says in which format, ``.png`` or ``.svg`` (vectors); without suffix, both are written. With
    ``few_colours`` a PNG has 256 colours, which makes sheets of grey images less than half as large.
    """
    from matplotlib import rc_context
    from PIL import Image

    for suffix in [path.suffix] if path.suffix else SUFFIXES:
        image_format = suffix.removeprefix(".")
        metadata: dict[str, Any] = {"Software": None} if image_format == "png" else {"Date": None}
        # Names inside of an SVG are random without a salt.
        with atomic(path.with_suffix(suffix)) as draft, rc_context({"svg.hashsalt": "microgan"}):
            figure.savefig(draft, format=image_format, metadata=metadata)
            if few_colours and image_format == "png":
                with Image.open(draft) as picture:
                    reduced = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
                reduced.save(draft, optimize=True)
        figure.set_layout_engine("none")  # the same places in the next format, and found once


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


def scale_bar(
    panel: Axes,
    shape: tuple[int, int],
    voxel_size_um: float | None,
    corner: tuple[float, float] = (-0.5, -0.5),
) -> None:
    """Draw a bar of a round length into an image, in micrometres or in pixels.

    Parameters
    ----------
    panel
        Its data coordinates are pixels of the image; rows run downwards.
    shape
        Rows and columns of the image.
    voxel_size_um
        None where it is not known: the bar is in pixels then.
    corner
        Row and column of the image's upper left corner.
    """
    from matplotlib.patheffects import withStroke

    scale, unit = length_unit(voxel_size_um)
    length = round_length(BAR_PART * shape[1] * scale)
    start = corner[1] + 0.06 * shape[1]
    low, above = (corner[0] + (1 - part) * shape[0] for part in (0.08, 0.11))
    outline = [withStroke(linewidth=4, foreground="black")]
    panel.plot(
        [start, start + length / scale], [low, low], color="white", lw=2, solid_capstyle="butt",
        path_effects=outline, scalex=False, scaley=False, label="_scale bar",
    )  # fmt: skip
    outline = [withStroke(linewidth=2, foreground="black")]
    style: dict[str, Any] = {"fontsize": 7.5, "color": "white", "path_effects": outline}
    panel.text(start, above, f"{length:g} {unit}", va="bottom", ha="left", **style)


def round_length(largest: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50 ... that is not above ``largest``.

    Examples
    --------
    >>> round_length(25.6), round_length(0.9), round_length(5)
    (20.0, 0.5, 5.0)
    """
    power = 10.0 ** math.floor(math.log10(largest))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= largest)


def length_unit(voxel_size_um: float | None) -> tuple[float, str]:
    """Return how long a pixel is, and in which unit."""
    return (1.0, "px") if voxel_size_um is None else (voxel_size_um, "µm")


def in_micrometres(words: str, voxel_size_um: float | None) -> tuple[str, float]:
    """Return words with a unit of pixels in micrometres, and the factor for the numbers that have it.

    Words without such a unit stay, and all do where the voxel size is not known.

    Examples
    --------
    >>> in_micrometres("smallest radius (px)", 0.5)
    ('smallest radius (µm)', 0.5)
    >>> in_micrometres("discs per 1000 square pixels", 0.5)
    ('discs per 1000 µm²', 4.0)
    >>> in_micrometres("1/px", 0.5), in_micrometres("GPa", 0.5), in_micrometres("px", None)
    (('1/µm', 2.0), ('GPa', 1.0), ('px', 1.0))
    """
    found = LENGTH.search(words)
    if voxel_size_um is None or not found:
        return words, 1.0
    per, unit = found.groups()
    power = (1 if unit == "px" else 2) * (-1 if per else 1)
    length = "µm" if unit == "px" else "µm²"
    return f"{words[: found.start(2)]}{length}{words[found.end(2) :]}", voxel_size_um**power


def in_words(reasons: Sequence[str], most_lines: int = 3) -> str:
    r"""Return reason codes as words, one a line; of more than ``most_lines`` the first, and how many follow.

    Examples
    --------
    >>> in_words(["overlap", "empty_circle"])
    'overlap\nempty circle'
    >>> in_words(["a", "b", "c", "d"])
    'a\nb\nand 2 more'
    """
    lines = [reason_in_words(reason) for reason in reasons]
    if len(lines) > most_lines:
        lines = [*lines[: most_lines - 1], f"and {len(lines) - most_lines + 1} more"]
    return "\n".join(lines)


def reason_in_words(reason: str) -> str:
    """Return the code of a reason in words: non_circularity is non-circularity."""
    return reason.replace("_", " ").replace("non circular", "non-circular")
