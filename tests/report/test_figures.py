"""Figures show each number at its place, under its name, in its unit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from microgan.detection.circles import Circles
from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.memorisation import NearestCorrelation, NearestTrainingWindows
from microgan.evaluation.qualified_judge import WorstSamples
from microgan.report.figures.curves import (
    circle_histograms,
    descriptor_sheet,
    selection_curves,
    two_point_curves,
)
from microgan.report.figures.rules import calibration_sheet, rejection_bars
from microgan.report.figures.sheet import PLACE_PX
from microgan.report.figures.style import model_colours
from microgan.report.figures.windows import (
    cell_sheet,
    judge_sheet,
    limits_sheet,
    nearest_window_sheet,
    verdict_sheet,
    window_sheet,
)
from microgan.report.page import draw_figures
from microgan.validity.judging import Verdict
from tests.report.results import curves, reference, result

VOXEL_UM = 0.5


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are drawn, instead of their files."""
    drawn: list[Figure] = []
    for module in ("curves", "rules", "windows"):
        monkeypatch.setattr(
            f"microgan.report.figures.{module}.save_figure", lambda figure, path, **_: drawn.append(figure)
        )
    return drawn


def column(rows: Sequence[dict[str, float | None]], name: str) -> list[float | None]:
    return [row[name] for row in rows]


def test_nearest_samples_are_above_their_training_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: dict[str, tuple[np.ndarray, Sequence[str]]] = {}
    monkeypatch.setattr("microgan.report.figures.windows.window_sheet", lambda sheet, *_: rows.update(sheet))
    correlation = NearestCorrelation(np.array([0.9, 0.5]), np.array([0.4, 0.45]))
    images, windows = np.zeros((2, 8, 8)), np.ones((2, 8, 8))
    sets = {"sample": NearestTrainingWindows(images, windows, correlation), "real": None}
    nearest_window_sheet(sets, tmp_path / "drawn.png")
    assert list(rows) == ["sample", "nearest training\nwindow to sample", "real"]
    above, below, none = rows.values()
    assert above[0] is images and below[0] is windows and not len(none[0])
    assert below[1] == ["training 0.90\ncalibration 0.40", "training 0.50\ncalibration 0.45"]


def test_the_worst_samples_are_large_with_a_square_at_the_place(
    tmp_path: Path, figures: list[Figure]
) -> None:
    worst = WorstSamples(
        images=np.zeros((5, 64, 64)),
        kinds=["overlap", "partial_disc", "overlap", "overlap", "overlap"],
        above=[True, True, True, True, False],
        places=[(10.0, 20.0), (30.0, 40.0), (5.0, 5.0), (5.0, 6.0), (50.0, 8.0)],
    )
    judge_sheet(worst, tmp_path / "judge.png")
    judge_sheet(WorstSamples(np.zeros((0, 64, 64)), [], [], []), tmp_path / "none.png")
    (panel,) = figures[0].axes
    words = [text.get_text() for text in panel.texts]
    assert words.count("overlap") == 3 and {"partial disc", "overlap, below the limit"} <= set(words)
    squares = [patch.get_bbox() for patch in panel.patches if patch.get_width() == PLACE_PX]
    images = [image.get_extent() for image in panel.images]
    assert len(squares) == len(images) == 5
    for (left, _, _, top), square, (row, col) in zip(images, squares, worst.places, strict=True):
        middle = (square.y0 + square.y1) / 2 - top - 0.5, (square.x0 + square.x1) / 2 - left - 0.5
        assert middle == pytest.approx((row, col))
    assert any("(none)" in text.get_text() for text in figures[1].axes[0].texts)


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
    rejected_by = {"real": {"overlap": 1, "radius": 2, "contrast": 0}, "dcgan": {"overlap": 30, "seam": 6}}
    counts = {"real": 50, "dcgan": 60}
    rejection_bars(rejected_by, counts, {"real": "grey", "dcgan": "red"}, tmp_path / "bars.png")
    (panel,) = figures[0].axes
    rules = [label.get_text() for label in panel.get_yticklabels()]
    assert rules == ["radius", "seam", "overlap"]  # the most frequent above; contrast rejects nothing
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
    names = (
        "window_sheet",
        "cell_sheet",
        "selection_curves",
        "loss_curves",
        "two_point_curves",
        "circle_histograms",
        "descriptor_sheet",
    )
    calls: dict[str, list[tuple[Any, ...]]] = {name: [] for name in (*names, "rejection_bars")}
    for name, arguments in calls.items():
        monkeypatch.setattr(
            f"microgan.report.page.{name}", lambda *values, kept=arguments: kept.append(values)
        )
    models = [result("dcgan", 0), result("wgan_gp", 1)]
    real = np.full((9, 16, 16), 0.5)
    draw_figures(models, real, VOXEL_UM, tmp_path)

    for model, (rows, path, _, voxel_um) in zip(models, calls["window_sheet"], strict=True):
        assert (path, voxel_um) == (tmp_path / f"windows_{model.name}", VOXEL_UM)
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


def test_images_have_a_scale_bar_in_the_unit_that_is_known(tmp_path: Path, figures: list[Figure]) -> None:
    rows = {"real": (np.zeros((2, 64, 64)), ["", ""])}
    for size_um in (VOXEL_UM, None):
        window_sheet(rows, tmp_path / "sheet.png", 2, size_um)
        cell_sheet({"dcgan": np.zeros((384, 384))}, tmp_path / "cell.png", 64, size_um)
    bars = []
    for figure in figures:
        (panel,) = figure.axes  # all images have the same scale
        (bar,) = panel.lines
        bars.append((panel.texts[-1].get_text(), np.ptp(bar.get_xdata())))
    assert bars == [("10 µm", 20), ("50 µm", 100), ("20 px", 20), ("100 px", 100)]


def test_opposite_borders_of_a_periodic_cell_meet_in_the_middle(
    tmp_path: Path, figures: list[Figure]
) -> None:
    image = np.zeros((32, 48))
    image[0, 0] = image[-1, -1] = 1
    cell_sheet({"dcgan": image}, tmp_path / "cell.png", 16)
    (panel,) = figures[0].axes
    assert np.argwhere(panel.images[0].get_array()).tolist() == [[15, 23], [16, 24]]
    assert (panel.get_yticks(), panel.get_xticks()) == ([15.5], [23.5])


def test_the_kept_checkpoint_is_marked_among_the_scores(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [
        {"step": step, "score": score, "score_error": 0.1}
        | {"calibration_pass_rate_ratio": score, "two_point_error": 0.2, "texture_error": 0.4}
        for step, score in ((100.0, 0.5), (200.0, 0.9), (300.0, 0.85))
    ]
    selection_curves({"dcgan": rows}, {"dcgan": 300}, tmp_path / "curve.png")
    upper, lower = figures[0].axes
    for panel in (upper, lower):
        (kept,) = [line for line in panel.lines if line.get_label() == "kept checkpoint"]
        assert kept.get_xdata() == [300, 300]
    (best,) = [line for line in upper.lines if line.get_label() == "best score"]
    assert best.get_ydata() == [0.9, 0.9]
    assert {line.get_label(): list(line.get_ydata()) for line in lower.lines}["two-point error"] == [0.2] * 3


def test_measures_are_in_micrometres_with_the_reason_that_they_give(
    tmp_path: Path, figures: list[Figure]
) -> None:
    rules = reference(VOXEL_UM)
    measures = [{"smallest_radius_px": radius, "discs_per_1000px2": 6.0, "overlap": 0.0} for radius in (4, 5)]
    calibration_sheet(measures, rules, tmp_path / "sheet.png")
    radius, number, overlap = (panel for panel in figures[0].axes if panel.get_visible())
    assert radius.get_title() == "smallest radius (µm)\nreason: radius"
    assert number.get_title() == "discs per 1000 µm²\nreason: number density"
    assert overlap.get_title() == "largest overlap of two discs\n(no limit)"
    low, high = radius.get_xlim()
    assert low < 3.5 * VOXEL_UM < 5 * VOXEL_UM < high < 4
    (limit,) = radius.lines
    assert limit.get_xdata() == [3.5 * VOXEL_UM] * 2
    assert [line.get_xdata()[0] for line in number.lines] == [4 / VOXEL_UM**2, 8 / VOXEL_UM**2]


def test_the_sheet_of_verdicts_says_what_it_shows(tmp_path: Path, figures: list[Figure]) -> None:
    circles = Circles(*np.empty((4, 0)))
    verdicts = [Verdict(True, (), {}, circles), Verdict(False, ("non_circularity",), {}, circles)]
    what = "windows of the calibration part"
    verdict_sheet(np.zeros((2, 16, 16)), verdicts, tmp_path / "sheet.png", 2, what=what)
    title = figures[0].get_suptitle()
    assert title.startswith(
        "Windows of the calibration part: the first 4 valid and the first 4 rejected of 2"
    )
    (panel,) = figures[0].axes
    assert [text.get_text() for text in panel.texts][1:3] == ["", "rejected:\n1 of 2"]
    assert "non-circularity" in [text.get_text() for text in panel.texts]


def test_the_windows_next_to_a_limit_stand_on_either_side_of_it(
    tmp_path: Path, figures: list[Figure]
) -> None:
    """The nearest of those that pass end on the left, those that are rejected begin on the right."""
    circles = Circles(*np.empty((4, 0)))
    values = [0.1, 0.9, 0.4, 0.6, 0.45, 0.7, 0.0]
    verdicts = [Verdict(value <= 0.5, (), {"overlap": value}, circles) for value in values]
    limits = reference(limits={"overlap": (None, 0.5)})
    limits_sheet(np.zeros((7, 16, 16)), verdicts, limits, tmp_path / "sheet.png", each=2)
    (panel,) = figures[0].axes
    texts = [text.get_text() for text in panel.texts]
    assert "largest overlap of\ntwo discs\n0.5" in texts
    assert [text for text in texts if text.startswith("0.") and "px" not in text] == [
        "0.4",
        "0.45",
        "0.6",
        "0.7",
    ]
    frames = [patch.get_edgecolor() for patch in panel.patches if patch.get_linewidth() > 1]
    assert frames[0] == frames[1] != frames[2] == frames[3]


def test_counts_are_no_comb(tmp_path: Path, figures: list[Figure]) -> None:
    """Each bar holds equally many of the values, which are multiples of a step."""
    measures = [{"discs_per_1000px2": 1000 * number / 64**2} for number in range(18, 42)]
    calibration_sheet(measures, reference(), tmp_path / "sheet.png")
    bars, edges, _ = figures[0].axes[0].patches[0].get_data()
    assert np.unique(bars[bars > 0]).size == 1 and np.count_nonzero(bars) == len(measures)
    assert edges[0] < 4 and edges[-1] > 10
