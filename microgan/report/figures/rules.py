"""Figures of the rules: what each measures beside its limits, and how many images break it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from microgan.report.figures.style import (
    LIMIT,
    MODEL_COLOURS,
    REAL,
    handles_by_label,
    legend_below,
    panels_of_one_style,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from microgan.validity.reference import Reference

BARS = 40
TITLE_LETTERS = 34  # of a line over a panel


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
    figure, panels = panels_of_one_style(down, 4, height=2.2 * down + 0.4, width=3.3)
    for panel, name in zip(panels.ravel(), names, strict=False):
        real = np.array([row[name] for row in measures])
        synthetic = np.array([row[name] for row in samples])
        limits = [limit for limit in reference.limits.get(name, ()) if limit is not None]
        edges = _bar_edges(real, synthetic, limits)
        _draw_fractions(panel, real, edges, "real windows", color=REAL, fill=True)
        if len(synthetic):
            _draw_fractions(panel, synthetic, edges, "samples", color=MODEL_COLOURS[1], lw=1.4)
        _draw_limits(panel, reference, name, edges)
        panel.set_title(fill(reference.titles[name], TITLE_LETTERS), fontsize=8.5)
        panel.set_xlim(edges[0], edges[-1])
    for panel in panels[:, 0]:
        panel.set_ylabel("images (%)", fontsize=9)
    for panel in panels.ravel()[len(names) :]:
        panel.set_visible(False)
    handles: dict[str, Any] = {}
    for panel in panels.ravel()[: len(names)]:
        handles |= handles_by_label(panel)
    legend_below(figure, handles)
    save_figure(figure, path)


def _bar_edges(real: np.ndarray, synthetic: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    """Edges (BARS + 1,) that span real values and limits, and samples up to as far again on either side."""
    low, high = np.min([real.min(), *limits]), np.max([real.max(), *limits])
    span = max(high - low, 1e-6)
    if len(synthetic):
        low, high = (
            max(low - span, min(low, synthetic.min())),
            min(high + span, max(high, synthetic.max())),
        )
    return np.linspace(low - 0.03 * span, high + 0.03 * span, BARS + 1)


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
            panel.axvspan(low, high, color=LIMIT, alpha=0.25, lw=0, label="90 % interval of the limit")
        panel.axvline(limit, color=LIMIT, lw=1.3, label="limit")


def rejection_bars(
    rejected_by: Mapping[str, Mapping[str, int]],
    counts: Mapping[str, int],
    colours: Mapping[str, str],
    path: Path,
) -> None:
    """Show which fraction of each set breaks each rule: set -> reason -> number of images."""
    reasons = sorted({reason for by_reason in rejected_by.values() for reason in by_reason}, reverse=True)
    height = 1.2 + (0.1 + 0.115 * len(rejected_by)) * max(len(reasons), 1)
    figure, ((panel,),) = panels_of_one_style(1, 1, height, width=10.4)
    thickness = 0.84 / len(rejected_by)
    for index, (name, by_reason) in enumerate(rejected_by.items()):
        fractions = [100 * by_reason.get(reason, 0) / max(counts[name], 1) for reason in reasons]
        places = np.arange(len(reasons)) + 0.42 - thickness * (index + 0.5)
        bars = panel.barh(places, fractions, thickness, label=name, color=colours[name])
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=7.5)
    panel.set(yticks=range(len(reasons)), xlabel="fraction of all images that break the rule (%)")
    panel.set_yticklabels([reason.replace("_", " ") for reason in reasons])
    panel.margins(x=0.1, y=0.01)
    legend_below(figure, handles_by_label(panel))
    save_figure(figure, path)
