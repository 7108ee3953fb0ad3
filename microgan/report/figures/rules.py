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
    in_micrometres,
    legend_below,
    panels_of_one_style,
    reason_in_words,
    save_figure,
)
from microgan.validity.rules import KNOWN

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
    counted in its last bar. Lengths are in micrometres where the reference has a voxel size.
    """
    names = list(measures[0])
    down = -(-len(names) // 4)
    figure, panels = panels_of_one_style(down, 4, height=2.4 * down + 0.4, width=3.3)
    for panel, name in zip(panels.ravel(), names, strict=False):
        title, scale = in_micrometres(reference.titles[name], reference.scan.voxel_size_um)
        real = scale * np.array([row[name] for row in measures])
        synthetic = scale * np.array([row[name] for row in samples])
        limits = [scale * limit for limit in reference.limits.get(name, ()) if limit is not None]
        edges = _bar_edges(real, synthetic, limits)
        _draw_fractions(panel, real, edges, "real windows", color=REAL, fill=True)
        if len(synthetic):
            _draw_fractions(panel, synthetic, edges, "samples", color=MODEL_COLOURS[0], lw=1.4)
        _draw_limits(panel, reference, name, edges, scale)
        panel.set_title(f"{fill(title, TITLE_LETTERS)}\n{_reason(reference, name)}", fontsize=8.5)
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


def _reason(reference: Reference, name: str) -> str:
    """The reason that an image beyond the limits of a measure is given; in the words of all other figures."""
    if all(limit is None for limit in reference.limits.get(name, ())):
        return "(no limit)"
    rule = KNOWN.get(name)
    return f"reason: {reason_in_words(rule.reason if rule else name)}"


def _bar_edges(real: np.ndarray, synthetic: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    """Edges of about BARS bars over real values and limits, and samples up to as far again on either side.

    Of values that are multiples of a step, such as counts, each bar holds as many: others would hold now
    more, now fewer of them and look like a comb.
    """
    low, high = np.min([real.min(), *limits]), np.max([real.max(), *limits])
    span = max(high - low, 1e-6)
    if len(synthetic):
        low, high = (
            max(low - span, min(low, synthetic.min())),
            min(high + span, max(high, synthetic.max())),
        )
    low, high = low - 0.03 * span, high + 0.03 * span
    values = np.unique(np.round(np.concatenate([real, synthetic]), 9))
    step = _step(values)
    if not step:
        return np.linspace(low, high, BARS + 1)
    width = step * max(round((high - low) / BARS / step), 1)
    first = values[0] - step / 2 - np.ceil((values[0] - step / 2 - low) / width) * width
    return first + width * np.arange(np.ceil((high - first) / width) + 1)


def _step(values: np.ndarray) -> float:
    """The step that all of the sorted values, none twice, are whole multiples of; 0 if there is none."""
    if len(values) < 3:
        return 0.0
    step = np.diff(values).min()
    multiples = (values - values[0]) / step
    return float(step) if np.allclose(multiples, np.rint(multiples), atol=0.01) else 0.0


def _draw_fractions(panel: Axes, values: np.ndarray, edges: np.ndarray, label: str, **style: Any) -> None:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    panel.stairs(100 * counts / len(values), edges, label=label, **style)


def _draw_limits(panel: Axes, reference: Reference, name: str, edges: np.ndarray, scale: float) -> None:
    intervals = reference.limits_interval.get(name, (None, None))
    for limit, interval in zip(reference.limits.get(name, ()), intervals, strict=False):
        if limit is None:
            continue
        if interval is not None:
            low, high = np.clip(scale * np.asarray(interval), edges[0], edges[-1])
            panel.axvspan(low, high, color=LIMIT, alpha=0.25, lw=0, label="90 % interval of the limit")
        panel.axvline(scale * limit, color=LIMIT, lw=1.3, label="limit")


def rejection_bars(
    rejected_by: Mapping[str, Mapping[str, int]],
    counts: Mapping[str, int],
    colours: Mapping[str, str],
    path: Path,
) -> None:
    """Show which fraction of each set breaks each rule: set -> reason -> number of images.

    The most frequent reason comes first; those that reject nothing are left out.
    """
    fractions = {
        name: {reason: 100 * count / max(counts[name], 1) for reason, count in by_reason.items()}
        for name, by_reason in rejected_by.items()
    }
    largest: dict[str, float] = {}
    for by_reason in fractions.values():
        largest |= {reason: max(part, largest.get(reason, 0)) for reason, part in by_reason.items()}
    reasons = sorted((reason for reason in largest if largest[reason]), key=lambda name: largest[name])
    height = 1.2 + (0.1 + 0.15 * len(rejected_by)) * max(len(reasons), 1)
    figure, ((panel,),) = panels_of_one_style(1, 1, height, width=10.4)
    thickness = 0.84 / len(rejected_by)
    for index, (name, by_reason) in enumerate(fractions.items()):
        parts = [by_reason.get(reason, 0) for reason in reasons]
        places = np.arange(len(reasons)) + 0.42 - thickness * (index + 0.5)
        bars = panel.barh(places, parts, thickness, label=name, color=colours[name])
        labels = [f"{part:.1f}" if part else "0" for part in parts]
        panel.bar_label(bars, labels, padding=2, fontsize=8)
    panel.set(yticks=range(len(reasons)), xlabel="fraction of all images that break the rule (%)")
    panel.set_yticklabels([reason_in_words(reason) for reason in reasons])
    panel.margins(x=0.1, y=0.01)
    legend_below(figure, handles_by_label(panel))
    save_figure(figure, path)
