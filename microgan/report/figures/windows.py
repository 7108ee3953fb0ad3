"""Figures of images: windows and samples side by side, with circles, verdicts and planted defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from microgan.core.files import atomic
from microgan.report.figures.sheet import Row, draw_sheet
from microgan.report.figures.style import (
    DPI,
    LARGEST_WIDTH_IN,
    REJECTED,
    VALID,
    in_words,
    reason_in_words,
    save_figure,
    scale_bar,
)
from microgan.validity.judging import beyond
from microgan.validity.rules import LEARNT_FAULT

if TYPE_CHECKING:
    from microgan.detection.circles import Circles
    from microgan.evaluation.memorisation import NearestTrainingWindows
    from microgan.evaluation.qualified_judge import WorstSamples
    from microgan.validity.detection_rate import Planted
    from microgan.validity.judging import Verdict
    from microgan.validity.reference import Reference

VALID_BGR, REJECTED_BGR = (233, 180, 86), (0, 159, 230)  # VALID and REJECTED as OpenCV takes them
POINTED_BGR, POINTED_PX = (0, 94, 213), 14.0  # POINTED, and the side of a square, px of the image
NAME_LETTERS = 20  # of a line beside a row
LARGE_IN = 2.4  # side of an image that is shown large
FRAME_PX, LINE_PX = 5, 16  # around an overlay, and for a line of words below

Windows = tuple[np.ndarray, Sequence[str]]  # images (n, H, W) in [-1, 1] and a caption for each


def window_sheet(
    rows: Mapping[str, Windows], path: Path, columns: int = 8, voxel_size_um: float | None = None
) -> None:
    """Show windows in rows: name of the row -> images (n, H, W) in [-1, 1] and a caption for each.

    The first image has a scale bar, in pixels where the voxel size is None.
    """
    drawn = [Row(name, images, captions) for name, (images, captions) in rows.items()]
    save_figure(draw_sheet(drawn, columns, voxel_size_um=voxel_size_um), path)


def image_sheet(
    name: str, images: np.ndarray, path: Path, columns: int = 8, voxel_size_um: float | None = None
) -> None:
    """Show images (n, H, W) in [-1, 1] in rows, the first of which has a ``name``."""
    rows: dict[str, Windows] = {}
    for first in range(0, max(len(images), 1), columns):
        in_row = images[first : first + columns]
        rows[" " * first if first else name] = in_row, [""] * len(in_row)
    window_sheet(rows, path, columns, voxel_size_um)


def nearest_window_sheet(
    sets: Mapping[str, NearestTrainingWindows | None],
    path: Path,
    columns: int = 8,
    voxel_size_um: float | None = None,
) -> None:
    """Show images above the training windows nearest to them: name of the set -> its nearest images.

    Below each pair stand two correlations: with the nearest window of the training part, and with that of the
    calibration part, from which nothing was learnt.
    """
    rows: dict[str, Windows] = {}
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
    window_sheet(rows, path, columns, voxel_size_um)


def judge_sheet(
    worst: WorstSamples, path: Path, columns: int = 4, voxel_size_um: float | None = None
) -> None:
    """Show the accepted samples that the judge of faults finds worst, large, with a square at the place."""
    captions = [
        f"{kind.replace('_', ' ')}{'' if above else ', below the limit'}"
        for kind, above in zip(worst.kinds, worst.above, strict=True)
    ]
    rows = [
        Row(
            "" if first else "accepted samples",
            worst.images[first : first + columns],
            captions[first : first + columns],
            places=[[place] for place in worst.places[first : first + columns]],
        )
        for first in range(0, max(len(worst.images), 1), columns)
    ]
    title = "Accepted samples that a judge finds worst, which took no part in filter and training"
    figure = draw_sheet(rows, columns, title, voxel_size_um, cell_in=LARGE_IN)
    save_figure(figure, path, few_colours=True)


def verdict_sheet(
    images: np.ndarray,
    verdicts: Sequence[Verdict],
    path: Path,
    columns: int = 8,
    *,
    what: str = "images",
    voxel_size_um: float | None = None,
) -> None:
    """Show valid and rejected images (N, H, W) in [-1, 1], up to two rows each, with circles and reasons.

    The title says ``what`` they are; the first image has a scale bar.
    """
    rows = []
    for valid in (True, False):
        chosen = [index for index, verdict in enumerate(verdicts) if verdict.valid is valid]
        name = f"{'valid' if valid else 'rejected'}:\n{len(chosen)} of {len(verdicts)}"
        for first in range(0, max(min(len(chosen), 2 * columns), 1), columns):
            in_row = chosen[first : first + columns]
            rows.append(
                _row_of_verdicts("" if first else name, images[in_row], [verdicts[i] for i in in_row])
            )
    shown = f"the first {2 * columns} valid and the first {2 * columns} rejected"
    title = f"{what[:1].upper()}{what[1:]}: {shown} of {len(verdicts)}, with the discs that were found"
    save_figure(draw_sheet(rows, columns, title, voxel_size_um), path, few_colours=True)


def limits_sheet(
    images: np.ndarray,
    verdicts: Sequence[Verdict],
    reference: Reference,
    path: Path,
    each: int = 4,
) -> None:
    """Show, for each limit, the real windows (N, H, W) in [-1, 1] that come next to it on either side.

    On the left those that just pass by this rule, on the right those that it just rejects, the nearest to the
    limit in the middle, with the value of the measure.
    """
    rows = []
    for name, limit in reference.limits.items():
        margins = np.array([beyond(verdict.measures[name], *limit) for verdict in verdicts])
        order = np.argsort(margins, kind="stable")
        split = int((margins <= 0).sum())
        near = [*order[max(split - each, 0) : split], *order[split : split + each]]
        limits = " to ".join(f"{end:.3g}" for end in limit if end is not None)
        rows.append(
            Row(
                f"{fill(reference.rules[name].title, NAME_LETTERS)}\n{limits}",
                images[near],
                captions=[f"{verdicts[index].measures[name]:.3g}" for index in near],
                circles=[verdicts[index].circles for index in near],
                colours=[VALID if margins[index] <= 0 else REJECTED for index in near],
                has_frames=True,
            )
        )
    title = "Real windows on either side of each limit: blue, just passes by this rule; orange, just rejected"
    figure = draw_sheet(rows, 2 * each, title, reference.scan.voxel_size_um)
    save_figure(figure, path, few_colours=True)


def defect_sheet(
    planted: Mapping[str, Planted],
    images: Mapping[str, np.ndarray],
    path: Path,
    columns: int = 8,
    voxel_size_um: float | None = None,
) -> None:
    """Show images (n, S, S) of each kind of planted defect, framed in the colour of their verdict."""
    rows = []
    for kind, defect in planted.items():  # none where limits set by hand let no window pass to plant into
        name = f"{kind.replace('_', ' ')}\n{defect.detection_rate.rate:.0%} rejected"
        rows.append(_row_of_verdicts(name, images[kind], defect.verdicts, has_frames=True))
    words = "one planted defect each; orange: rejected, with the reasons; blue: passes"
    title = f"Real windows that are valid, with {words}"
    save_figure(draw_sheet(rows, columns, title, voxel_size_um), path, few_colours=True)


def _row_of_verdicts(
    name: str, images: np.ndarray, verdicts: Sequence[Verdict], *, has_frames: bool = False
) -> Row:
    """Images with their circles in the colour of the verdict, and its reasons."""
    return Row(
        name,
        images,
        captions=[in_words([*_without_network(verdict), *_seen(verdict)]) for verdict in verdicts],
        circles=[verdict.circles for verdict in verdicts],
        places=[[(fault.row, fault.col) for fault in verdict.faults] for verdict in verdicts],
        colours=[VALID if verdict.valid else REJECTED for verdict in verdicts],
        has_frames=has_frames,
    )


def _without_network(verdict: Verdict) -> list[str]:
    return [reason for reason in verdict.reasons if reason != LEARNT_FAULT or not verdict.faults]


def _seen(verdict: Verdict) -> list[str]:
    """What the network saw, marked in the picture."""
    return [f"seen: {fault.kind}" for fault in verdict.faults]


def cell_sheet(
    cells: Mapping[str, np.ndarray], path: Path, window_px: int, voxel_size_um: float | None = None
) -> None:
    """Show periodic images (H, W) in [-1, 1], a panel for each: name -> image.

    Each is shifted by half its size, so that its opposite borders meet in the middle, at the marks on its
    sides. A frame in the upper left corner has the size of a window.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    width = min(5.4 * len(cells), LARGEST_WIDTH_IN)
    figure = Figure(figsize=(width, width / len(cells) + 0.3), dpi=DPI, layout="constrained")
    for panel, (name, image) in zip(
        figure.subplots(1, len(cells), squeeze=False)[0], cells.items(), strict=True
    ):
        rows, cols = image.shape
        shifted = np.roll(image, (rows // 2, cols // 2), axis=(0, 1))
        panel.imshow(shifted, "gray", vmin=-1, vmax=1, interpolation="nearest")
        panel.set_title(name, fontsize=10)
        panel.set(xticks=[cols / 2 - 0.5], yticks=[rows / 2 - 0.5], xticklabels=[], yticklabels=[])
        panel.tick_params(top=True, right=True, length=6, width=1.5)
        corner = (-0.5, -0.5)
        panel.add_patch(Rectangle(corner, window_px, window_px, fill=False, ec=REJECTED, lw=2))
        scale_bar(panel, image.shape, voxel_size_um)
    save_figure(figure, path)


def circle_overlay(
    image: np.ndarray,
    circles: Circles,
    path: Path,
    magnify: int = 4,
    reasons: Sequence[str] | None = None,
    places: Sequence[tuple[float, float]] = (),
) -> None:
    """Show an image (H, W) in [-1, 1], each pixel ``magnify`` times as large, with its circles.

    With ``reasons`` it has a frame: blue when there are none, else orange, with the reasons below. A square
    points at each of ``places`` (row, col). Drawn without matplotlib, in milliseconds, as there may be
    thousands of pages.
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
    for row, col in places:
        corner = [round((place + 0.5 - POINTED_PX / 2) * magnify) for place in (col, row)]
        other = [round((place + 0.5 + POINTED_PX / 2) * magnify) for place in (col, row)]
        cv2.rectangle(picture, corner, other, POINTED_BGR, max(1, magnify // 2), cv2.LINE_AA)
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
        words = reason_in_words(reason)
        cv2.putText(framed, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return framed
