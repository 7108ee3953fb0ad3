"""The page holds what the files say, and needs nothing else."""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from microgan.core.errors import UserError
from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.memorisation import NearestTrainingWindows, Nearness
from microgan.report.figures import nearest_window_sheet
from microgan.report.page import ModelResult, build_report
from microgan.validity.reference import DetectionRate

SCAN: dict[str, Any] = {
    "name": "carbon <3>",
    "source": ["a.png"],
    "source_digest": "d1" * 32,
    "planes_sha256": "d2" * 32,
    "mask_sha256": "d3" * 32,
    "shape": [2, 100, 120],
    "voxel_size_um": None,
    "polarity": "bright",
    "radius_px": [4.0, 8.0],
}


def table(error: float | None) -> dict[str, dict[str, Any]]:
    ratio = None if error is None else error / 0.01
    row = {"value": error and 0.5, "reference": 0.5, "error": error, "floor": 0.01, "ratio": ratio}
    if error is not None:
        row |= {
            "p": 0.001,
            "difference": error,
            "low": 0.001,
            "high": 0.019,
            "margin": 0.02,
            "equivalent": True,
        }
    return {name: dict(row) for name in DESCRIPTORS}


def result(name: str, after: float | None = 0.0111) -> ModelResult:
    rng = np.random.default_rng(0)
    lags, bins = range(5), range(6)
    y = None if after is None else 0.2
    return ModelResult(
        name=name,
        validity={
            "pass_rate": 0.806,
            "reference_pass_rate": 0.94,
            "n": 1000,
            "rejected_by": {"overlap": 130},
        },
        fidelity={
            "before": table(0.0234),
            "after": table(after),
            "training_windows": table(0.012),
            "shift": {name: 0.25 if name == "radius" else None for name in DESCRIPTORS},
            "n": {"before": 500, "after": 403, "held_out": 500},
        },
        curves={
            "two_point_correlation": [
                {"axis": r, "held_out": 0.25, "before": 0.3, "after": y, "envelope": 0.01} for r in lags
            ],
            "radius": [{"axis": 4.0 + r, "held_out": 0.2, "before": 0.2, "after": y} for r in bins],
            "nearest_neighbour_distance": [
                {"axis": 9.0 + r, "held_out": 0.2, "before": 0.2, "after": y} for r in bins
            ],
        },
        history=[{"step": s, "critic_loss": 1.0, "generator_loss": 2.0} for s in range(10, 60, 10)],
        training_steps=2345,
        kept_step=2000,
        training_seconds=492.0,
        accepted=rng.uniform(-1, 1, (3, 16, 16)),
        rejected=rng.uniform(-1, 1, (2, 16, 16)),
        reasons=[["overlap"], ["uncovered_phase", "radius"]],
        weights_sha256="ab" * 32,
    )


class Page(HTMLParser):
    """Text of the table cells by row, addresses of the pictures, and all elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row[1:] for row in self.rows if row and row[0].strip() == name)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "report.html"
    models = [result("dcgan"), result("wgan_gp", after=None)]
    parameters = {"window_px": 16, "train": {"steps": 4000, "widths": {}}}
    return build_report(models, np.zeros((4, 16, 16)), SCAN, parameters, out, {"Git commit": "c0ffee"})


def test_headline_has_both_models_side_by_side(report: Path) -> None:
    page = Page(report.read_text())
    assert page.row("Training time") == ["8.2 min", "8.2 min"]
    assert page.row("Training steps") == ["2,345", "2,345"]
    assert page.row("Samples that pass, before filtering")[0] == "80.6 %78.0 to 82.9 %, n = 1000"
    assert page.row("Real held-out windows that pass")[0] == "94.0 %"
    assert page.row("Ratio of the two")[0] == "0.857"
    assert page.row("Radius") == ["2.34 → 1.11", "2.34 → \N{EN DASH}"]
    stiffness = page.row("In-plane stiffness, after filtering, against real")
    assert stiffness == ["+1.1 %+0.1 to +1.9 %; equivalent at ±2 %", "\N{EN DASH}"]
    assert page.row("Largest change by filtering itself, over the floor")[0] == "0.250radius"
    assert (
        page.row("Descriptors that differ from real at 5 % in all, of 8")[0]
        == "8 → 8real training windows: 8"
    )


def compared(name: str) -> ModelResult:
    """A result whose samples were compared as images too."""
    measures = ("kernel_distance", "density", "coverage", "precision", "recall", "classifier_auc")
    sets = {
        kind: {f"encoder/{measure}": {"value": value} for measure in measures}
        for kind, value in (("training_windows", 0.5), ("before", 0.9), ("after", 0.7))
    }
    copies = {"excess": 0.013, "excess_interval": (-0.004, 0.03), "p_value": 0.04}
    images = {**sets, "memorisation": copies, "diversity": {"vendi_ratio": 0.98, "duplicates": 0.0}}
    model = result(name)
    return replace(model, fidelity={**model.fidelity, "images": images})


def test_samples_as_images_are_beside_training_windows(tmp_path: Path, report: Path) -> None:
    model = compared("dcgan")
    unseen = replace(result("wgan_gp"), fidelity={**model.fidelity, "images": {}})
    out = build_report([model, unseen], np.zeros((4, 16, 16)), SCAN, {}, tmp_path / "report.html")
    page = Page(out.read_text())
    assert page.row("Kernel distance to held-out windows") == ["0.500", "0.700"]
    assert page.row("Copies of training windows, in excess of held-out ones")[1].startswith(
        "1.3 %-0.4 to +3.0 %"
    )
    assert "Samples as images" not in report.read_text()


def test_a_baseline_that_does_not_learn_is_beside_the_models(tmp_path: Path) -> None:
    baseline = replace(
        result("packing"), history=(), training_steps=None, kept_step=None, training_seconds=None
    )
    build_report([baseline], np.zeros((4, 16, 16)), SCAN, {}, tmp_path / "alone.html")
    assert not (tmp_path / "alone/losses.png").exists()
    out = build_report([result("dcgan"), baseline], np.zeros((4, 16, 16)), SCAN, {}, tmp_path / "both.html")
    page = Page(out.read_text())
    assert page.row("Training steps") == ["2,345", "\N{EN DASH}"]
    assert page.row("Ratio of the two") == ["0.857", "0.857"]


def test_fidelity_table_has_every_set(report: Path) -> None:
    page = Page(report.read_text())
    assert page.row("Radius px") == [
        *("0.500", "1.00 %"),
        *("0.500", "1.11 =", "0.00100"),
        *("\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}"),
        *("0.500", "1.20 =", "0.00100"),
    ]
    titles = [row[0] for row in page.rows if row]
    assert all(sum(title.startswith(one.title) for title in titles) >= 2 for one in DESCRIPTORS.values())


def test_page_needs_neither_network_nor_scripts(report: Path) -> None:
    html = report.read_text()
    page = Page(html)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert "http" not in html
    assert not re.search(r"url\(|@import", html)
    assert all(address.startswith("data:image/png;base64,") for address in page.pictures)


def test_pictures_are_in_the_page_and_beside_it(report: Path) -> None:
    beside = sorted((report.parent / "report").iterdir())
    assert [path.stem for path in beside] == [
        *("circles", "descriptors", "losses", "rejected_by", "two_point_correlation"),
        *("windows_dcgan", "windows_wgan_gp"),
    ]
    embedded = {base64.b64decode(address.split(",")[1]) for address in Page(report.read_text()).pictures}
    assert embedded == {path.read_bytes() for path in beside}
    for path in beside:
        with Image.open(path) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10, path.name


@pytest.mark.parametrize("kind", ["rules", "nearest_training_windows"])
def test_what_earlier_stages_drew_is_shown(tmp_path: Path, kind: str) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "drawn.png")
    models = [replace(compared("dcgan"), **{f"{kind}_picture": tmp_path / "drawn.png"}), compared("wgan_gp")]
    build_report(models, np.zeros((4, 16, 16)), SCAN, {}, tmp_path / "report.html")
    kept = (tmp_path / f"report/{kind}_dcgan.png").read_bytes()
    assert kept == (tmp_path / "drawn.png").read_bytes()
    assert base64.b64encode(kept).decode() in (tmp_path / "report.html").read_text()
    assert not (tmp_path / f"report/{kind}_wgan_gp.png").exists()


def test_lookalikes_are_above_their_training_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, tuple[np.ndarray, Sequence[str]]] = {}
    monkeypatch.setattr(
        "microgan.report.figures.window_sheet", lambda groups, path, columns: rows.update(groups)
    )
    near = Nearness(np.array([0.9, 0.5]), np.array([0.4, 0.45]))
    images, windows = np.zeros((2, 8, 8)), np.ones((2, 8, 8))
    sets = {"sample": NearestTrainingWindows(images, windows, near), "real": None}
    nearest_window_sheet(sets, tmp_path / "drawn.png")
    assert list(rows) == ["sample", "nearest training\nwindow to sample", "real"]
    above, below, none = rows.values()
    assert above[0] is images and below[0] is windows and not len(none[0])
    assert below[1] == ["0.90 (unseen: 0.40)", "0.50 (unseen: 0.45)"]


def test_provenance_is_complete_and_escaped(report: Path) -> None:
    html = report.read_text()
    page = Page(html)
    assert page.row("Scan") == ["carbon <3>"]
    assert page.row("Digest of the scan (SHA-256)") == ["d1" * 32]
    assert page.row("Voxel size") == ["unknown"]
    assert page.row("Weights of dcgan (SHA-256)") == ["ab" * 32]
    assert page.row("Git commit") == ["c0ffee"]
    assert "<dt>train.steps</dt><dd>4000</dd>" in html
    assert "carbon <3>" not in html


def test_known_voxel_size_gives_micrometres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []

    def look(figure: Figure, path: Path) -> None:
        labels.extend(axes.get_xlabel() for axes in figure.axes)
        path.write_bytes(b"")

    monkeypatch.setattr("microgan.report.figures.save_figure", look)
    scan = SCAN | {"voxel_size_um": 0.65}
    build_report([result("dcgan")], np.zeros((1, 8, 8)), scan, {}, tmp_path / "report.html")
    assert {"distance r (µm)", "radius (µm)", "nearest-neighbour distance (µm)"} <= set(labels)


def test_model_without_any_accepted_sample_has_its_report(tmp_path: Path) -> None:
    model = result("dcgan", after=None)
    model = replace(
        model, accepted=np.zeros((0, 16, 16)), history=[], validity={**model.validity, "rejected_by": {}}
    )
    out = build_report([model], np.zeros((4, 16, 16)), SCAN, {}, tmp_path / "report.html")
    assert Page(out.read_text()).row("Radius") == ["2.34 → \N{EN DASH}"]


def test_the_page_says_what_the_filter_catches(tmp_path: Path, report: Path) -> None:
    power = {
        "overlap_15_to_20": DetectionRate(rejected=0.875, count=80, interval=(0.8, 0.925)),
        "merged_pair": DetectionRate(rejected=1, count=90, interval=(0.97, 1)),
    }
    out = tmp_path / "report.html"
    html = build_report([result("dcgan")], np.zeros((2, 16, 16)), SCAN, {}, out, power=power).read_text()
    page = Page(html)
    assert page.row("overlap 15 to 20 %") == ["88 %", "80 to 92 %", "80"]
    assert page.row("merged pair")[:2] == ["100 %", "97 to 100 %"]
    assert "What the filter catches" in html and "What the filter catches" not in report.read_text()


def test_same_inputs_give_the_same_page(tmp_path: Path) -> None:
    pages = [
        build_report(
            [result("dcgan")], np.zeros((2, 16, 16)), SCAN, {}, tmp_path / f"{name}.html"
        ).read_bytes()
        for name in "ab"
    ]
    assert pages[0] == pages[1]


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="models: none: the report needs at least one model"):
        build_report([], np.zeros((1, 8, 8)), SCAN, {}, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
