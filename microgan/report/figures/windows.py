"""Figures of images: windows and samples side by side, with circles, verdicts and planted defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgan.core.files import atomic
from microgan.report.figures.style import DPI, LARGEST_WIDTH_IN, REJECTED, VALID, in_words, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from microgan.detection.circles import Circles
    from microgan.evaluation.memorisation import NearestTrainingWindows
    from microgan.validity.detection_rate import Planted
    from microgan.validity.judging import Verdict

VALID_BGR, REJECTED_BGR = (113, 200, 55), (85, 85, 255)  # VALID and REJECTED as OpenCV takes them
FRAME_PX, LINE_PX = 5, 16  # around an overlay, and for a line of words below

Row = tuple[np.ndarray, Sequence[str]]  # images (n, H, W) in [-1, 1] and a caption for each


def window_sheet(rows: Mapping[str, Row], path: Path, columns: int = 8) -> None:
    """Show windows in rows: name of the row -> images (n, H, W) in [-1, 1] and a caption for each."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    lines = sum(
        1 + max((caption.count("\n") for caption in captions), default=0) for _, captions in rows.values()
    )
    figure, panels = _image_panels(len(rows), columns, height=1.3 * len(rows) + 0.16 * lines)
    figure.set_layout_engine(ConstrainedLayoutEngine(wspace=0.02, hspace=0.04))
    for row, (name, (images, captions)) in zip(panels, rows.items(), strict=True):
        row[0].set_ylabel(name if len(images) else f"{name}\n(none)", fontsize=9.5)
        for panel, image, caption in zip(row, images, captions, strict=False):
            _show(panel, image)
            panel.set_xlabel(caption, fontsize=8.5)
    save_figure(figure, path)


def nearest_window_sheet(
    sets: Mapping[str, NearestTrainingWindows | None], path: Path, columns: int = 8
) -> None:
    """Show images above the training windows nearest to them: name of the set -> its nearest images.

    Below each pair stand two correlations: with the nearest window of the training part, and with that of the
    calibration part, from which nothing was learnt.
    """
    rows: dict[str, Row] = {}
    for name, nearest in sets.items():
        if nearest is None:
            rows[name] = np.empty((0, 1, 1)), ()
            continue
        correlations = zip(nearest.correlation.training, nearest.correlation.control, strict=True)
        rows[name] = nearest.images, [""] * len(nearest)
        rows[f"nearest training\nwindow to {name}"] = (
            nearest.windows,
            [f"training {training:.2f}\ncalibration {control:.2f}" for training, control in correlations],
        )
    window_sheet(rows, path, columns)


def verdict_sheet(images: np.ndarray, verdicts: Sequence[Verdict], path: Path, columns: int = 8) -> None:
    """Show valid and rejected images (N, H, W) in [-1, 1], two rows each, with circles and reasons."""
    figure, panels = _image_panels(4, columns, height=8)
    for valid, rows in ((True, panels[:2]), (False, panels[2:])):
        chosen = [index for index, verdict in enumerate(verdicts) if verdict.valid is valid]
        count = f"{'valid' if valid else 'rejected'}: {len(chosen)} of {len(verdicts)}"
        rows[0, 0].set_ylabel(count, fontsize=9.5)
        for panel, index in zip(rows.ravel(), chosen, strict=False):
            _show_verdict(panel, images[index], verdicts[index])
    save_figure(figure, path)


def defect_sheet(
    planted: Mapping[str, Planted], images: Mapping[str, np.ndarray], path: Path, columns: int = 8
) -> None:
    """Show the first images (n, S, S) of each kind of planted defect; framed red if rejected, else green."""
    rows = max(len(planted), 1)  # limits set by hand may let no window pass to plant into
    figure, panels = _image_panels(rows, columns, height=1.9 * rows)
    for row, (name, defect) in zip(panels, planted.items(), strict=False):
        row[0].set_ylabel(f"{name.replace('_', ' ')}\n{defect.detection_rate.rate:.0%} rejected", fontsize=9)
        for panel, image, verdict in zip(row, images[name], defect.verdicts, strict=False):
            _show_verdict(panel, image, verdict)
            panel.set(frame_on=True)
            for spine in panel.spines.values():
                spine.set(color=VALID if verdict.valid else REJECTED, linewidth=2.5)
    save_figure(figure, path)


def _image_panels(down: int, across: int, height: float) -> tuple[Figure, np.ndarray]:
    """Return a figure of that height in inches, and its panels (down, across) without axes."""
    from matplotlib.figure import Figure

    size = (min(1.4 * across + 0.5, LARGEST_WIDTH_IN), height)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[], frame_on=False)
    return figure, panels


def _show(panel: Axes, image: np.ndarray) -> None:
    panel.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")


def _show_verdict(panel: Axes, image: np.ndarray, verdict: Verdict) -> None:
    """Show an image (H, W) in [-1, 1] with its circles, in the colour of the verdict, and its reasons."""
    from matplotlib.patches import Circle

    _show(panel, image)
    for row, col, radius, _ in verdict.circles.table():
        colour = VALID if verdict.valid else REJECTED
        panel.add_patch(Circle((col, row), radius, fill=False, ec=colour, lw=0.8))
    panel.set_xlabel(in_words(verdict.reasons), fontsize=8)


def circle_overlay(
    image: np.ndarray,
    circles: Circles,
    path: Path,
    magnify: int = 4,
    reasons: Sequence[str] | None = None,
) -> None:
    """Show an image (H, W) in [-1, 1], each pixel ``magnify`` times as large, with its circles.

    With ``reasons`` it has a frame: green when there are none, else red, with the reasons below. Drawn
    without matplotlib, in milliseconds, as there may be thousands of pages.
    """
    import cv2

    grey = np.clip((np.asarray(image, np.float32) + 1) * 127.5, 0, 255)
    size = (magnify * image.shape[1], magnify * image.shape[0])
    grey = np.clip(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), 0, 255).round().astype(np.uint8)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    colour = VALID_BGR if reasons is not None and not reasons else REJECTED_BGR
    sub_pixel = 4  # binary digits of a screen pixel, in which OpenCV takes lengths
    for row, col, radius, _ in circles.table():
        centre = [round(((place + 0.5) * magnify - 0.5) * 2**sub_pixel) for place in (col, row)]
        length = round(radius * magnify * 2**sub_pixel)
        cv2.circle(picture, centre, length, colour, max(1, magnify // 3), cv2.LINE_AA, sub_pixel)
    if reasons is not None:
        picture = _framed(picture, reasons, colour)
    with atomic(path) as draft:
        draft.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def _framed(picture: np.ndarray, reasons: Sequence[str], colour: tuple[int, int, int]) -> np.ndarray:
    import cv2

    below = FRAME_PX + LINE_PX * len(reasons)
    framed = cv2.copyMakeBorder(
        picture, FRAME_PX, below, FRAME_PX, FRAME_PX, cv2.BORDER_CONSTANT, value=colour
    )
    for line, reason in enumerate(reasons):
        place = (FRAME_PX, FRAME_PX + picture.shape[0] + LINE_PX * (line + 1) - 3)
        words = reason.replace("_", " ")
        cv2.putText(framed, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return framed
