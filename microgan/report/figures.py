"""Pictures for people. matplotlib is imported inside the functions, so that the core starts quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microgan.core.files import atomic
from microgan.scan.planes import Planes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from microgan.detection.circles import Circles
    from microgan.evaluation.descriptors import Descriptor
    from microgan.evaluation.memorisation import NearestTrainingWindows
    from microgan.validity.detection_rate import Planted
    from microgan.validity.judging import Verdict
    from microgan.validity.reference import Reference

ROLE_COLOURS = {"train": "#4c9be8", "calibration": "#f0b429", "held_out": "#e8505b"}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, the same bytes for the same picture."""
    with atomic(path) as draft:
        figure.savefig(draft, format="png", metadata={"Software": None})


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
    size = "voxel size unknown" if size_um is None else f"voxel size {size_um:g} µm"
    figure.suptitle(f"{planes.info.name}: {count} planes of {rows} x {cols} pixels, {size}", fontsize=10)
    handles = [Line2D([], [], color=colour, label=role) for role, colour in ROLE_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path)


def _draw_plane(axes: Axes, planes: Planes, index: int) -> None:
    from matplotlib.patches import Rectangle

    _, rows, cols = planes.info.shape
    step = max(1, max(rows, cols) // 1000)
    grey = (np.asarray(planes.grey[index, ::step, ::step], np.float32)[..., None] + 1) / 2
    outside = ~planes.mask[index, ::step, ::step, None]
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
        axes.stairs(density, edges, color=ROLE_COLOURS[role], label=role)
    axes.set(xlabel="normalised grey value", ylabel="probability density", xlim=(-1, 1))
    to_raw, to_normalised = (
        lambda x: low + (x + 1) / 2 * (high - low),
        lambda g: (g - low) / (high - low) * 2 - 1,
    )
    raw = axes.secondary_xaxis("top", functions=(to_raw, to_normalised))
    raw.set_xlabel(f"grey value of {planes.info.name} ({planes.info.dtype})")
    axes.legend(frameon=False)
    save_figure(figure, path)


VALID_BGR, INVALID_BGR = (113, 200, 55), (85, 85, 255)  # of circles and frames
FRAME_PX, LINE_PX = 5, 16  # around an overlay, and for a line of words below

MODEL_COLOURS = ("#1f6fb4", "#d9730d", "#2a8c5a", "#7a4fa3")

SET_STYLES = {  # label, colour and line of the sets that descriptors are compared for
    "held_out": ("real, held out", "#222222", "-"),
    "before": ("synthetic, before filtering", "#d9730d", "--"),
    "after": ("synthetic, after filtering", "#1f6fb4", "-"),
}


def window_sheet(
    groups: Mapping[str, tuple[np.ndarray, Sequence[str]]], path: Path, columns: int = 8
) -> None:
    """Show windows in rows: name of the row -> images (n, H, W) in [-1, 1] and a caption for each."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(wspace=0.02, hspace=0.04)
    figure = Figure(figsize=(1.4 * columns + 0.9, 1.75 * len(groups)), dpi=130, layout=layout)
    panels = figure.subplots(len(groups), columns, squeeze=False)
    for row, (name, (images, captions)) in zip(panels, groups.items(), strict=True):
        for panel in row:
            panel.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(name if len(images) else f"{name}\n(none)", fontsize=9)
        for panel, image, caption in zip(row, images, captions, strict=False):
            panel.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            panel.set_xlabel(caption, fontsize=7)
    save_figure(figure, path)


def nearest_window_sheet(
    sets: Mapping[str, NearestTrainingWindows | None], path: Path, columns: int = 8
) -> None:
    """Show images above the training windows nearest to them: name of the images -> what was found of them.

    Below each pair are the correlations with its training window and with the nearest window of a part that
    no model has seen.
    """
    groups: dict[str, tuple[np.ndarray, Sequence[str]]] = {}
    for name, one in sets.items():
        if one is None:
            groups[name] = np.empty((0, 1, 1)), ()
            continue
        pairs = zip(one.nearness.training, one.nearness.control, strict=True)
        groups[name] = one.images, [""] * len(one)
        groups[f"nearest training\nwindow to {name}"] = (
            one.windows,
            [f"{seen:.2f} (unseen: {unseen:.2f})" for seen, unseen in pairs],
        )
    window_sheet(groups, path, columns)


def verdict_sheet(images: np.ndarray, verdicts: Sequence[Verdict], path: Path, columns: int = 8) -> None:
    """Show accepted and rejected images (N, H, W) in [-1, 1], two rows each, with circles and reasons."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(1.7 * columns + 0.5, 8), dpi=130, layout="constrained")
    panels = figure.subplots(4, columns, squeeze=False)
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[], frame_on=False)
    for valid, rows, colour in ((True, panels[:2], "#37c871"), (False, panels[2:], "#ff5555")):
        chosen = [index for index, verdict in enumerate(verdicts) if verdict.valid is valid]
        fraction = f"{'accepted' if valid else 'rejected'}: {len(chosen)} of {len(verdicts)}"
        rows[0, 0].set_ylabel(fraction, fontsize=9)
        for panel, index in zip(rows.ravel(), chosen, strict=False):
            panel.imshow(images[index], cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            for row, col, radius, _ in verdicts[index].circles.table():
                panel.add_patch(Circle((col, row), radius, fill=False, ec=colour, lw=0.8))
            reasons = [reason.replace("_", " ") for reason in verdicts[index].reasons]
            panel.set_xlabel("\n".join(reasons), fontsize=6.5)
    save_figure(figure, path)


def defect_sheet(planted: Mapping[str, Planted], path: Path, columns: int = 8) -> None:
    """Show images with planted defects, a row for each kind: framed red if caught, with reasons, or green."""
    from matplotlib.figure import Figure

    rows = max(len(planted), 1)  # limits set by hand may let no window pass to plant into
    figure = Figure(figsize=(1.7 * columns + 0.5, 2.0 * rows), dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[], frame_on=False)
    for row, (name, one) in zip(panels, planted.items(), strict=False):
        words = name.replace("_", " ")
        row[0].set_ylabel(f"{words}\n{one.power.rejected:.0%} caught", fontsize=9)
        for panel, image, verdict in zip(row, one.images, one.verdicts, strict=False):
            _draw_verdict(panel, image, verdict)
    save_figure(figure, path)


def _draw_verdict(panel: Axes, image: np.ndarray, verdict: Verdict) -> None:
    """An image (H, W) in [-1, 1] with its circles, in a frame."""
    from matplotlib.patches import Circle

    colour = "#37c871" if verdict.valid else "#ff5555"
    panel.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    for row, col, radius, _ in verdict.circles.table():
        panel.add_patch(Circle((col, row), radius, fill=False, ec=colour, lw=0.6))
    panel.set(frame_on=True)
    for spine in panel.spines.values():
        spine.set(color=colour, linewidth=2.5)
    reasons = [reason.replace("_", " ") for reason in verdict.reasons]
    panel.set_xlabel("\n".join(reasons[:3]), fontsize=6.5)


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
    colour = VALID_BGR if reasons is not None and not reasons else INVALID_BGR
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


def calibration_sheet(
    measures: Sequence[Mapping[str, float]],
    reference: Reference,
    path: Path,
    samples: Sequence[Mapping[str, float]] = (),
) -> None:
    """Show how each measure is distributed over real windows, and over samples if given, beside its limits.

    The band around a limit is where 90 % of the resampled windows put it. What lies beyond the panel is
    counted in its last bar.
    """
    names = list(measures[0])
    down = -(-len(names) // 4)
    figure, panels = _panels(down, 4, height=2.3 * down + 0.4, width=3.3)
    for panel, name in zip(panels.ravel(), names, strict=False):
        real = np.array([one[name] for one in measures])
        made = np.array([one[name] for one in samples])
        edges = _edges(real, made, [limit for limit in reference.limits.get(name, ()) if limit is not None])
        _draw_fractions(panel, real, edges, "real windows", color="#8a94a0", fill=True)
        if len(made):
            _draw_fractions(panel, made, edges, "samples", color="#d9730d", lw=1.4)
        _draw_limits(panel, reference, name, edges)
        panel.set_title(reference.titles[name], fontsize=8.5)
        panel.set_xlim(edges[0], edges[-1])
    for panel in panels[:, 0]:
        panel.set_ylabel("fraction (%)", fontsize=9)
    for panel in panels.ravel()[len(names) :]:
        panel.set_visible(False)
    drawn = [_handles(panel) for panel in panels.ravel()[: len(names)]]
    _legend_below(figure, {label: handle for found in drawn for label, handle in found.items()})
    save_figure(figure, path)


def _edges(real: np.ndarray, made: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    """Edges of bars (41,) that show all real values and limits, and samples as far again as these reach."""
    low, high = np.min([real.min(), *limits]), np.max([real.max(), *limits])
    span = max(high - low, 1e-6)
    if len(made):
        low, high = max(low - span, min(low, made.min())), min(high + span, max(high, made.max()))
    return np.linspace(low - 0.03 * span, high + 0.03 * span, 41)


def _draw_fractions(panel: Axes, values: np.ndarray, edges: np.ndarray, label: str, **style: Any) -> None:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    panel.stairs(100 * counts / len(values), edges, label=label, **style)


def _draw_limits(panel: Axes, reference: Reference, name: str, edges: np.ndarray) -> None:
    intervals = reference.limits_interval.get(name, (None, None))
    for limit, interval in zip(reference.limits.get(name, ()), intervals, strict=False):
        if limit is None:
            continue
        if interval is not None:
            low, high = np.clip(interval, edges[0], edges[-1])
            panel.axvspan(low, high, color="#e8505b", alpha=0.25, lw=0, label="90 % of resamples")
        panel.axvline(limit, color="#e8505b", lw=1.3, label="limit")


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Show the losses by step, a panel for each model: name -> rows with ``step`` and losses."""
    figure, panels = _panels(1, len(histories), 3.2)
    for panel, (name, rows) in zip(panels[0], histories.items(), strict=True):
        for loss, colour in (("critic_loss", "#7a4fa3"), ("generator_loss", "#2a8c5a")):
            values = _column(rows, loss)
            panel.plot(_column(rows, "step"), values, color=colour, lw=0.6, alpha=0.35)
            smooth = _running_mean(values, max(1, len(values) // 40))
            panel.plot(_column(rows, "step"), smooth, color=colour, label=loss.replace("_", " "))
        panel.set(title=name, xlabel="training step", ylabel="loss")
        panel.legend(frameon=False)
    save_figure(figure, path)


def two_point_curves(
    curves: Mapping[str, Sequence[Mapping[str, float | None]]], voxel_size_um: float | None, path: Path
) -> None:
    """Show two-point correlations and what they miss, a panel for each model: name -> rows of the curve."""
    figure, panels = _panels(2, len(curves), 5.2, height_ratios=(3, 2), sharex="col", sharey="row")
    scale, unit = _length_unit(voxel_size_um)
    for (upper, lower), (name, rows) in zip(panels.T, curves.items(), strict=True):
        lags, real, floor = (_column(rows, key) for key in ("axis", "held_out", "envelope"))
        lower.fill_between(scale * lags, -floor, floor, color="#cccccc", label="95 % if equal, everywhere")
        upper.fill_between(scale * lags, real - floor, real + floor, color="#cccccc")
        for key, (label, colour, line) in SET_STYLES.items():
            values = _column(rows, key)
            upper.plot(scale * lags, values, line, color=colour, label=label, lw=1.4)
            lower.plot(scale * lags, values - real, line, color=colour, lw=1.4)
        upper.set(title=name)
        lower.set(xlabel=f"distance r ({unit})", xlim=(0, scale * lags.max(initial=1)))
    panels[0, 0].set_ylabel("two-point correlation $S_2(r)$")
    panels[1, 0].set_ylabel("difference from real")
    _legend_below(figure, {**_handles(panels[0, 0]), **_handles(panels[1, 0])})
    save_figure(figure, path)


def circle_histograms(
    curves: Mapping[str, Mapping[str, Sequence[Mapping[str, float | None]]]],
    voxel_size_um: float | None,
    path: Path,
) -> None:
    """Show radii and nearest-neighbour distances: model -> descriptor -> rows of the histogram."""
    words = {"radius": "radius", "nearest_neighbour_distance": "nearest-neighbour distance"}
    figure, panels = _panels(2, len(curves), 5.6, sharex="row", sharey="row")
    scale, unit = _length_unit(voxel_size_um)
    for column, (name, tables) in zip(panels.T, curves.items(), strict=True):
        column[0].set_title(name)
        for panel, (descriptor, what) in zip(column, words.items(), strict=True):
            centres = scale * _column(tables[descriptor], "axis")
            panel.set(xlabel=f"{what} ({unit})")
            if not len(centres):
                continue
            step = centres[1] - centres[0]
            edges = np.append(centres - step / 2, centres[-1] + step / 2)
            for key, (label, colour, line) in SET_STYLES.items():
                density = _column(tables[descriptor], key) / scale
                real = (
                    {"fill": True, "alpha": 0.25, "lw": 0} if key == "held_out" else {"ls": line, "lw": 1.4}
                )
                panel.stairs(np.nan_to_num(density), edges, color=colour, label=label, **real)
    for panel in panels[:, 0]:
        panel.set_ylabel(f"probability density (1/{unit})")
    _legend_below(figure, _handles(panels[0, 0]))
    save_figure(figure, path)


def descriptor_sheet(
    curves: Mapping[str, Mapping[str, Sequence[Mapping[str, float | None]]]],
    descriptors: Mapping[str, Descriptor],
    voxel_size_um: float | None,
    path: Path,
) -> None:
    """Show all curves and distributions, a panel for each: model -> descriptor -> rows; samples that pass."""
    known = next(iter(curves.values()))
    shown = {name: one for name, one in descriptors.items() if one.axis and name in known}
    down = -(-len(shown) // 4)
    figure, panels = _panels(down, 4, height=2.3 * down + 0.4, width=3.3)
    for panel, (name, descriptor) in zip(panels.ravel(), shown.items(), strict=False):
        what, _, unit = descriptor.axis.partition(", ")
        scale, unit = _length_unit(voxel_size_um) if unit == "px" else (1.0, unit)
        rows = known[name]
        axis, real = scale * _column(rows, "axis"), _column(rows, "held_out")
        band = _column(rows, "envelope")
        panel.fill_between(axis, real - band, real + band, color="#cccccc", label="95 % if equal, everywhere")
        panel.plot(axis, real, color="#222222", lw=1.6, label=SET_STYLES["held_out"][0])
        for (model, tables), colour in zip(curves.items(), MODEL_COLOURS, strict=False):
            own = scale * _column(tables[name], "axis")  # bins differ with the samples
            panel.plot(own, _column(tables[name], "after"), color=colour, lw=1.1, label=model)
        panel.set_title(descriptor.title, fontsize=8.5)
        panel.set_xlabel(f"{what} ({unit})" if unit else what, fontsize=8.5)
    for panel in panels.ravel()[len(shown) :]:
        panel.set_visible(False)
    _legend_below(figure, _handles(panels[0, 0]))
    save_figure(figure, path)


def rejection_bars(
    rejected_by: Mapping[str, Mapping[str, int]], counts: Mapping[str, int], path: Path
) -> None:
    """Show the fraction of samples that break each rule, several perhaps: model -> reason -> count."""
    reasons = sorted({reason for found in rejected_by.values() for reason in found}, reverse=True)
    figure, ((panel,),) = _panels(1, 1, 1.0 + 0.36 * max(len(reasons), 1), width=10.4)
    height = 0.8 / len(rejected_by)
    for index, (name, found) in enumerate(rejected_by.items()):
        fractions = [100 * found.get(reason, 0) / max(counts[name], 1) for reason in reasons]
        places = np.arange(len(reasons)) + 0.4 - height * (index + 0.5)
        bars = panel.barh(
            places, fractions, height, label=name, color=MODEL_COLOURS[index % len(MODEL_COLOURS)]
        )
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    panel.set(yticks=range(len(reasons)), xlabel="samples rejected (%)")
    panel.set_yticklabels([reason.replace("_", " ") for reason in reasons])
    panel.margins(x=0.1)
    panel.legend(frameon=False)
    save_figure(figure, path)


def _panels(
    down: int, across: int, height: float, width: float = 5.2, **layout: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its panels (down, across) of one style and ``width`` inches each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width * across, 7), height), dpi=130, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, **layout)
    for panel in panels.ravel():
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    return figure, panels


def _handles(axes: Axes) -> dict[str, Any]:
    """Drawn things by their label."""
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def _legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
    """One legend for all panels, where it hides no data."""
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=9,
        )


def _column(rows: Sequence[Mapping[str, float | None]], name: str) -> np.ndarray:
    values = [row.get(name) for row in rows]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _length_unit(voxel_size_um: float | None) -> tuple[float, str]:
    return (1.0, "px") if voxel_size_um is None else (voxel_size_um, "µm")


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over up to ``2 width + 1`` neighbours; fewer at the ends."""
    sums = np.cumsum(np.insert(np.nan_to_num(values), 0, 0))
    at = np.arange(len(values))
    low, high = np.maximum(at - width, 0), np.minimum(at + width + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
