"""Figures show each number at its place, under its name, in its unit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.memorisation import NearestCorrelation, NearestTrainingWindows
from microgan.report.figures.curves import circle_histograms, descriptor_sheet, two_point_curves
from microgan.report.figures.rules import rejection_bars
from microgan.report.figures.style import model_colours
from microgan.report.figures.windows import nearest_window_sheet
from microgan.report.page import draw_figures
from tests.report.results import curves, result

VOXEL_UM = 0.5


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are drawn, instead of their files."""
    drawn: list[Figure] = []
    for module in ("curves", "rules", "windows"):
        monkeypatch.setattr(
            f"microgan.report.figures.{module}.save_figure", lambda figure, path: drawn.append(figure)
        )
    return drawn


def column(rows: Sequence[dict[str, float | None]], name: str) -> list[float | None]:
    return [row[name] for row in rows]


def test_nearest_samples_are_above_their_training_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: dict[str, tuple[np.ndarray, Sequence[str]]] = {}
    monkeypatch.setattr(
        "microgan.report.figures.windows.window_sheet", lambda sheet, path, columns: rows.update(sheet)
    )
    correlation = NearestCorrelation(np.array([0.9, 0.5]), np.array([0.4, 0.45]))
    images, windows = np.zeros((2, 8, 8)), np.ones((2, 8, 8))
    sets = {"sample": NearestTrainingWindows(images, windows, correlation), "real": None}
    nearest_window_sheet(sets, tmp_path / "drawn.png")
    assert list(rows) == ["sample", "nearest training\nwindow to sample", "real"]
    above, below, none = rows.values()
    assert above[0] is images and below[0] is windows and not len(none[0])
    assert below[1] == ["training 0.90\ncalibration 0.40", "training 0.50\ncalibration 0.45"]


def test_known_voxel_size_gives_micrometres(tmp_path: Path, figures: list[Figure]) -> None:
    by_model = {"dcgan": curves(0)}
    two_point_curves({"dcgan": curves(0)["two_point_correlation"]}, VOXEL_UM, tmp_path / "a.png")
    circle_histograms(by_model, VOXEL_UM, tmp_path / "b.png")
    labels = {axes.get_xlabel() for figure in figures for axes in figure.axes}
    assert {"distance r (µm)", "radius (µm)", "nearest-neighbour distance (µm)"} <= labels
    radius = figures[1].axes[0]
    assert radius.get_ylabel() == "probability density (1/µm)"
    steps = {patch.get_label(): patch.get_data() for patch in radius.patches}
    for key, label in (("held_out", "real, held-out"), ("before", "all samples"), ("after", "valid samples")):
        density, edges, _ = steps[label]
        assert density == pytest.approx(np.array(column(curves(0)["radius"], key)) / VOXEL_UM)
        assert edges[:2] == pytest.approx([3.5 * VOXEL_UM, 4.5 * VOXEL_UM])


def test_each_descriptor_of_each_model_is_in_its_panel(tmp_path: Path, figures: list[Figure]) -> None:
    by_model = {name: curves(number) for number, name in enumerate(("dcgan", "wgan_gp"))}
    by_model["dcgan"] |= {"ripley_k": by_model["dcgan"]["two_point_correlation"]}
    by_model["wgan_gp"] |= {"ripley_k": by_model["wgan_gp"]["two_point_correlation"]}
    descriptor_sheet(by_model, DESCRIPTORS, VOXEL_UM, tmp_path / "sheet.png")
    panels = {axes.get_title(): axes for axes in figures[0].axes if axes.get_visible()}
    scales = {"two_point_correlation": 1, "radius": 1 / VOXEL_UM, "ripley_k": VOXEL_UM**2}
    labels = {"two_point_correlation": "$S_2(r)$", "radius": "density (1/µm)", "ripley_k": "$K(r)$ (µm²)"}
    assert set(panels) == {DESCRIPTORS[name].title for name in by_model["dcgan"]}
    for name, scale in scales.items():
        panel = panels[DESCRIPTORS[name].title]
        assert panel.get_ylabel() == labels[name]
        lines = {line.get_label(): line for line in panel.lines}
        for model, tables in by_model.items():
            assert lines[model].get_xdata() == pytest.approx(
                VOXEL_UM * np.array(column(tables[name], "axis"))
            )
            assert lines[model].get_ydata() == pytest.approx(scale * np.array(column(tables[name], "after")))
        real = np.array(column(by_model["dcgan"][name], "held_out"))
        assert lines["real, held-out"].get_ydata() == pytest.approx(scale * real)


def test_two_point_curves_are_below_their_model(tmp_path: Path, figures: list[Figure]) -> None:
    by_model = {name: curves(number)["two_point_correlation"] for number, name in enumerate(("a", "b"))}
    two_point_curves(by_model, None, tmp_path / "curves.png")
    upper, lower = figures[0].axes[:2], figures[0].axes[2:]
    for above, below, (name, rows) in zip(upper, lower, by_model.items(), strict=True):
        assert above.get_title() == name
        lines = {line.get_label(): line.get_ydata() for line in above.lines}
        for key, label in (
            ("held_out", "real, held-out"),
            ("before", "all samples"),
            ("after", "valid samples"),
        ):
            assert lines[label] == pytest.approx(column(rows, key))
        real = np.array(column(rows, "held_out"))
        assert below.lines[2].get_ydata() == pytest.approx(np.array(column(rows, "after")) - real)


def test_bars_show_the_fraction_of_each_set_that_breaks_each_rule(
    tmp_path: Path, figures: list[Figure]
) -> None:
    rejected_by = {"real": {"overlap": 1, "radius": 2}, "dcgan": {"overlap": 30, "seam": 6}}
    counts = {"real": 50, "dcgan": 60}
    rejection_bars(rejected_by, counts, {"real": "grey", "dcgan": "red"}, tmp_path / "bars.png")
    (panel,) = figures[0].axes
    rules = [label.get_text() for label in panel.get_yticklabels()]
    assert sorted(rules) == ["overlap", "radius", "seam"]
    for bars, expected in zip(
        panel.containers, ({"overlap": 2, "radius": 4}, {"overlap": 50, "seam": 10}), strict=True
    ):
        fractions = dict(zip(rules, [bar.get_width() for bar in bars], strict=True))
        assert fractions == pytest.approx({"overlap": 0, "radius": 0, "seam": 0} | expected)
    assert [bars.get_label() for bars in panel.containers] == ["real", "dcgan"]


def test_every_model_has_a_colour() -> None:
    colours = model_colours(f"model {index}" for index in range(6))
    assert len(colours) == 6 and len(set(list(colours.values())[:4])) == 4


def test_the_page_draws_each_figure_from_what_belongs_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("window_sheet", "loss_curves", "two_point_curves", "circle_histograms", "descriptor_sheet")
    calls: dict[str, list[tuple[Any, ...]]] = {name: [] for name in (*names, "rejection_bars")}
    for name, arguments in calls.items():
        monkeypatch.setattr(
            f"microgan.report.page.{name}", lambda *values, kept=arguments: kept.append(values)
        )
    models = [result("dcgan", 0), result("wgan_gp", 1)]
    real = np.full((9, 16, 16), 0.5)
    draw_figures(models, real, VOXEL_UM, tmp_path)

    for model, (rows, path, _) in zip(models, calls["window_sheet"], strict=True):
        assert path == tmp_path / f"windows_{model.name}.png"
        images = {
            "real, held-out": real[:8],
            "valid": model.valid_samples,
            "rejected": model.rejected_samples,
        }
        assert list(rows) == list(images)
        assert all(np.array_equal(rows[name][0], images[name]) for name in images)
        assert rows["rejected"][1] == ["overlap", "uncovered phase\nradius"]
    ((histories, _),) = calls["loss_curves"]
    assert all(histories[model.name] is model.training_log for model in models)
    ((by_model, voxel_um, _),) = calls["two_point_curves"]
    assert voxel_um == VOXEL_UM
    assert all(by_model[model.name] is model.curves["two_point_correlation"] for model in models)
    for name in ("circle_histograms", "descriptor_sheet"):
        ((by_model, *_),) = calls[name]
        assert all(by_model[model.name] is model.curves for model in models)
    ((rejected_by, counts, colours, _),) = calls["rejection_bars"]
    assert rejected_by == {
        "real, held-out": {"overlap": 20, "radius": 31},
        "dcgan": {"overlap": 130, "radius": 50},
        "wgan_gp": {"overlap": 137, "radius": 61},
    }
    assert counts == {"real, held-out": 1000, "dcgan": 1000, "wgan_gp": 1010}
    assert list(colours) == list(counts)
