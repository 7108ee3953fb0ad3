"""Figures of curves: losses over training steps, descriptors over distance, radius or angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from microgan.report.figures.style import (
    REAL,
    handles_by_label,
    legend_below,
    length_unit,
    model_colours,
    panels_of_one_style,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from microgan.evaluation.descriptors import Descriptor

Curve = Sequence[Mapping[str, float | None]]  # rows of an axis and of each set's values on it

SET_STYLES = {  # label, colour and line of the sets that descriptors are compared for
    "held_out": ("real, held-out", "#222222", "-"),
    "before": ("all samples", "#d55e00", "--"),
    "after": ("valid samples", "#0072b2", "-"),
}
SCORE_PARTS = {  # of the score of a checkpoint: label, colour and line
    "calibration_pass_rate_ratio": ("pass rate / pass rate of calibration windows", "#009e73", "-"),
    "two_point_error": ("two-point error", "#d55e00", "--"),
    "texture_error": ("texture error", "#cc79a7", "-."),
}
FEW_POINTS = 10  # of a curve, that are marked
ENVELOPE = "95 % envelope if equal to real"
SYMBOLS = {  # of what is drawn over an axis, and the power of its unit of length
    "two_point_correlation": ("$S_2(r)$", 0),
    "two_point_cluster": ("$C_2(r)$", 0),
    "lineal_path_discs": ("$L(r)$", 0),
    "lineal_path_matrix": ("$L(r)$", 0),
    "ripley_k": ("$K(r)$", 2),
    "pair_correlation": ("$g(r)$", 0),
}


def loss_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Show the losses by step, a panel for each model: name -> rows with ``step`` and losses."""
    figure, panels = panels_of_one_style(1, len(histories), 3.2)
    for panel, (name, rows) in zip(panels[0], histories.items(), strict=True):
        marker = "" if len(rows) > FEW_POINTS else "o"  # one point alone has no line
        for loss, colour in (("critic_loss", "#cc79a7"), ("generator_loss", "#009e73")):
            values = _column(rows, loss)
            panel.plot(_column(rows, "step"), values, marker=marker, color=colour, lw=0.6, alpha=0.35)
            smooth = _running_mean(values, max(1, len(values) // 40))
            panel.plot(_column(rows, "step"), smooth, color=colour, label=loss.replace("_", " "))
        panel.set(title=name, xlabel="training step", ylabel="loss")
    legend_below(figure, handles_by_label(panels[0, 0]))
    save_figure(figure, path)


def selection_curves(
    validations: Mapping[str, Sequence[Mapping[str, float]]], kept: Mapping[str, int], path: Path
) -> None:
    """Show the scores by which checkpoints were selected, a panel for each model.

    Parameters
    ----------
    validations
        Name -> rows with ``step``, ``score``, ``score_error``, and the parts of the score.
    kept
        Name -> step of the kept checkpoint.
    path
        File to write.
    """
    figure, panels = panels_of_one_style(2, len(validations), 5.2, sharex="col")
    for (upper, lower), (name, rows) in zip(panels.T, validations.items(), strict=True):
        steps, score, error = (_column(rows, key) for key in ("step", "score", "score_error"))
        upper.axhline(score.max(), color=REAL, lw=0.8, label="best score")
        words = "score and its standard error"
        upper.errorbar(steps, score, error, color="#0072b2", marker="o", ms=3.5, lw=1.2, label=words)
        for key, (label, colour, line) in SCORE_PARTS.items():
            lower.plot(steps, _column(rows, key), line, color=colour, marker="o", ms=3, lw=1.2, label=label)
        lower.set_ylim(bottom=0)
        lower.locator_params(axis="x", integer=True)
        for panel in (upper, lower):
            panel.axvline(kept[name], color="#222222", lw=1.2, ls=":", label="kept checkpoint")
        upper.set(title=name, ylabel="score")
        lower.set(xlabel="training step", ylabel="ratio, errors")
    legend_below(figure, {**handles_by_label(panels[0, 0]), **handles_by_label(panels[1, 0])})
    save_figure(figure, path)


def two_point_curves(curves: Mapping[str, Curve], voxel_size_um: float | None, path: Path) -> None:
    """Show two-point correlations and their differences from real, a panel for each model: name -> curve."""
    figure, panels = panels_of_one_style(
        2, len(curves), 5.4, height_ratios=(3, 2), sharex="col", sharey="row"
    )
    scale, unit = length_unit(voxel_size_um)
    for (upper, lower), (name, rows) in zip(panels.T, curves.items(), strict=True):
        lags, real, half_width = (_column(rows, key) for key in ("axis", "held_out", "envelope"))
        lower.fill_between(scale * lags, -half_width, half_width, color="#cccccc", label=ENVELOPE)
        upper.fill_between(scale * lags, real - half_width, real + half_width, color="#cccccc")
        for key, (label, colour, line) in SET_STYLES.items():
            values = _column(rows, key)
            upper.plot(scale * lags, values, line, color=colour, label=label, lw=1.4)
            lower.plot(scale * lags, values - real, line, color=colour, lw=1.4)
        upper.set(title=name)
        lower.set(xlabel=f"distance r ({unit})", xlim=(0, scale * lags.max(initial=1)))
    panels[0, 0].set_ylabel("two-point correlation $S_2(r)$")
    panels[1, 0].set_ylabel("difference from real")
    legend_below(figure, {**handles_by_label(panels[0, 0]), **handles_by_label(panels[1, 0])})
    save_figure(figure, path)


def circle_histograms(
    curves: Mapping[str, Mapping[str, Curve]], voxel_size_um: float | None, path: Path
) -> None:
    """Show radii and nearest-neighbour distances: model -> descriptor -> rows of the histogram."""
    names = {"radius": "radius", "nearest_neighbour_distance": "nearest-neighbour distance"}
    figure, panels = panels_of_one_style(2, len(curves), 5.6, sharex="row", sharey="row")
    scale, unit = length_unit(voxel_size_um)
    for column, (model, histograms) in zip(panels.T, curves.items(), strict=True):
        column[0].set_title(model)
        for panel, (descriptor, name) in zip(column, names.items(), strict=True):
            panel.set(xlabel=f"{name} ({unit})")
            _draw_histograms(panel, histograms[descriptor], scale)
    for panel in panels[:, 0]:
        panel.set_ylabel(f"probability density (1/{unit})")
    legend_below(figure, handles_by_label(panels[0, 0]))
    save_figure(figure, path)


def _draw_histograms(panel: Axes, rows: Curve, scale: float) -> None:
    centres = scale * _column(rows, "axis")
    if not len(centres):
        return
    step = centres[1] - centres[0]
    edges = np.append(centres - step / 2, centres[-1] + step / 2)
    for key, (label, colour, line) in SET_STYLES.items():
        density = np.nan_to_num(_column(rows, key) / scale)
        if key == "held_out":
            panel.stairs(density, edges, color=colour, label=label, fill=True, alpha=0.25, lw=0)
        else:
            panel.stairs(density, edges, color=colour, label=label, ls=line, lw=1.4)


def descriptor_sheet(
    curves: Mapping[str, Mapping[str, Curve]],
    descriptors: Mapping[str, Descriptor],
    voxel_size_um: float | None,
    path: Path,
    *,
    compared_with: str = SET_STYLES["held_out"][0],
) -> None:
    """Show all curves and distributions, a panel for each: model -> descriptor -> rows; valid samples.

    ``compared_with`` names the set that models are compared with.
    """
    first = next(iter(curves.values()))
    shown = {
        name: descriptor for name, descriptor in descriptors.items() if descriptor.axis and name in first
    }
    down = -(-len(shown) // 4)
    figure, panels = panels_of_one_style(down, 4, height=2.3 * down + 0.4, width=3.3)
    for panel, (name, descriptor) in zip(panels.ravel(), shown.items(), strict=False):
        of_models = {model: rows[name] for model, rows in curves.items()}
        _draw_descriptor(panel, name, descriptor, of_models, voxel_size_um, compared_with)
    for panel in panels.ravel()[len(shown) :]:
        panel.set_visible(False)
    legend_below(figure, handles_by_label(panels[0, 0]))
    save_figure(figure, path)


def _draw_descriptor(
    panel: Axes,
    name: str,
    descriptor: Descriptor,
    curves: Mapping[str, Curve],
    voxel_size_um: float | None,
    compared_with: str,
) -> None:
    """Draw the real curve, its envelope, and that of each model: name of the model -> rows."""
    what, _, unit = descriptor.axis.partition(", ")
    scale, unit = length_unit(voxel_size_um) if unit == "px" else (1.0, unit)
    symbol, power = SYMBOLS.get(name, ("density", -1))
    rows = next(iter(curves.values()))
    real, half_width = (scale**power * _column(rows, key) for key in ("held_out", "envelope"))
    axis = scale * _column(rows, "axis")
    panel.fill_between(axis, real - half_width, real + half_width, color="#cccccc", label=ENVELOPE)
    panel.plot(axis, real, color=SET_STYLES["held_out"][1], lw=1.6, label=compared_with)
    for (model, own), colour in zip(curves.items(), model_colours(curves).values(), strict=True):
        # Bins of distributions differ with the samples.
        values = scale**power * _column(own, "after")
        panel.plot(scale * _column(own, "axis"), values, color=colour, lw=1.1, label=model)
    if not np.isfinite(real).any():
        panel.text(0.5, 0.5, "no values", ha="center", va="center", transform=panel.transAxes, fontsize=9)
        panel.set(xticks=[], yticks=[])
    panel.set_title(descriptor.title, fontsize=9)
    panel.set_xlabel(f"{what} ({unit})" if unit else what, fontsize=8.5)
    value_unit = {0: "", -1: f"1/{unit.removesuffix('s')}" if unit else "", 2: f"{unit}²"}[power]
    panel.set_ylabel(f"{symbol} ({value_unit})" if value_unit else symbol, fontsize=8.5)


def _column(rows: Curve, name: str) -> np.ndarray:
    values = [row.get(name) for row in rows]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over up to ``2 width + 1`` neighbours; fewer at the ends."""
    sums = np.cumsum(np.insert(np.nan_to_num(values), 0, 0))
    at = np.arange(len(values))
    low, high = np.maximum(at - width, 0), np.minimum(at + width + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
