"""The page has what the files have, each number in its place, and needs nothing else."""

import base64
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from microgan.core.errors import UserError
from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE
from microgan.evaluation.representative_cell import measured
from microgan.report import page as report_page
from microgan.report.figures import style
from microgan.report.page import build_report
from microgan.report.results import LargeCell, ModelResult
from microgan.report.verdict import verdict
from microgan.samples.verdict_file import NOT_LEARNT, WITH_LIMITS, ModelVerdict
from microgan.validity.reference import DetectionRate
from tests.report.results import (
    BOUNDS,
    IMAGE_MEASURES,
    PROPERTIES,
    SCAN,
    bounds,
    comparison,
    image_metrics,
    judge_metrics,
    reference,
    result,
)

DASH = "\N{EN DASH}"
REAL = np.zeros((4, 16, 16))


class Page(HTMLParser):
    """Text of the table cells by row, captions, addresses of the images, and all elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.captions: list[str] = []
        self.images: list[str] = []
        self.tags: set[str] = set()
        self._in_caption = self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True
        if tag == "figcaption":
            self.captions.append("")
            self._in_caption = True
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "figcaption":
            self._in_caption = False
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_caption:
            self.captions[-1] += data
        elif self._in_cell:
            self.rows[-1][-1] += data

    def rows_named(self, name: str) -> list[list[str]]:
        """Cells of all rows with that title, spaces at their ends removed."""
        texts = [[cell.strip() for cell in row] for row in self.rows if row]
        return [row[1:] for row in texts if row[0] == name]

    def row(self, name: str) -> list[str]:
        """Cells of the first row with that title."""
        return self.rows_named(name)[0]


def digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")


DRAW = report_page.draw_figures


@pytest.fixture(scope="module", autouse=True)
def _figures_are_drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Draw the figures of each set of models once: drawing takes most of the time of a report."""
    drawn: dict[tuple[object, ...], Path] = {}

    def once(models: Sequence[ModelResult], real: np.ndarray, size_um: float | None, folder: Path) -> None:
        shown = [
            (model.name, model.training_steps is None, bool(model.validations), bool(model.cell))
            for model in models
        ]
        key = tuple(shown)  # the voxel size is tested with the figures themselves
        if key not in drawn:
            drawn[key] = tmp_path_factory.mktemp("figures")
            DRAW(models, real, size_um, drawn[key])
        shutil.copytree(drawn[key], folder, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(report_page, "draw_figures", once)
        monkeypatch.setattr(style, "SUFFIXES", (".png",))  # vectors would double the time
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, of the second of which no sample is valid."""
    out = tmp_path_factory.mktemp("reports") / "report.html"
    models = [result("dcgan", 0), result("wgan_gp", 1, valid=False)]
    parameters = {"window_px": 16, "train": {"steps": 4000, "widths": {}}}
    return build_report(models, REAL, SCAN, parameters, out, {"Git commit": "c0ffee"})


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Three models with valid samples."""
    out = tmp_path_factory.mktemp("three") / "report.html"
    models = [result(name, number) for number, name in enumerate(("dcgan", "wgan_gp", "third"))]
    return Page(build_report(models, REAL, SCAN, {}, out).read_text())


def test_each_model_has_its_own_column(report: Path) -> None:
    page = Page(report.read_text())
    assert page.row("Training time") == ["8.2 min", "9.2 min"]
    assert page.row("Training steps") == ["2,345", "2,346"]
    assert page.row("Checkpoint kept, after step") == ["2,000", "2,001"]
    assert page.row("Samples generated") == ["1,000", "1,010"]
    assert page.row("Pass rate of samples") == [
        "80.6 %78.0 to 82.9 %, n: 1000",
        "86.7 %84.5 to 88.7 %, n: 1010",
    ]
    assert page.row("Pass rate of held-out windows") == ["94.0 %", "95.0 %"]
    assert page.row("Pass rate of samples / pass rate of held-out windows") == ["0.857", "0.913"]
    assert page.row("Radius") == ["1.55 → 3.55", f"5.55 → {DASH}"]
    assert page.row("Largest change by filtering, over the floor") == ["0.250radius", "0.500radius"]
    assert page.row("Headline descriptors that differ from real") == [
        "2 of 7 → 3 of 7real training windows: 1",
        f"3 of 7 → {DASH}real training windows: 1",
    ]


def test_every_headline_descriptor_is_before_and_after_filtering(three: Page) -> None:
    for name in HEADLINE:
        differing = [2, 3, 3, 4, 4, 5]  # of each comparison, the first so many have a p of 0.002
        ratios = [
            digits(comparison(place, 0)[name]["ratio"]) + "*" * (name in HEADLINE[:count])
            for place, count in enumerate(differing)
        ]
        cells = [f"{before} → {after}" for before, after in zip(ratios[::2], ratios[1::2], strict=True)]
        assert three.row(DESCRIPTORS[name].title) == cells


def test_the_page_begins_with_what_came_out(report: Path) -> None:
    head = re.sub(r"\s+", " ", re.sub("<[^>]+>", "", report.read_text().split("</ul>")[0]))
    assert "dcgan: 80.6 % of 1,000 samples are valid: 0.857 of the pass rate of held-out windows." in head
    words = "differ from held-out windows in 3 of 7 headline descriptors (real training windows: in 1)"
    assert words in head
    assert (
        "wgan_gp: 86.7 % of 1,010 samples are valid: 0.913 of the pass rate of held-out windows. Too few"
        in head
    )
    assert "All 9 effective properties lie inside the Hashin-Shtrikman bounds" in head


def test_a_model_without_a_valid_sample_is_told_first(tmp_path: Path) -> None:
    failed = result("wgan_gp", 1, valid=False)
    failed = replace(failed, validity={**failed.validity, "pass_rate": 0.0})
    page = build_report([result("dcgan", 0), failed], REAL, SCAN, {}, tmp_path / "report.html").read_text()
    (warning,) = re.findall(r'<p class="warning">(.*?)</p>', page, re.DOTALL)
    assert "No sample of wgan_gp is valid</b> (of 1,010)" in warning
    assert page.index('class="warning"') < page.index('class="summary"')


def test_doubts_about_the_rules_are_told_first(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    doubts = ["radius_px: 12 % of the discs are at an end", "overlap <b> 3 %"]
    page = build_report(
        [result("dcgan", 0)], REAL, SCAN, {}, out, reference=reference(doubts=doubts)
    ).read_text()
    (warning,) = re.findall(r'<div class="warning">(.*?)</div>', page, re.DOTALL)
    assert doubts[0] in warning and "overlap &lt;b&gt; 3 %" in warning
    assert page.index('class="warning"') < page.index('class="summary"')
    assert 'class="warning"' not in build_report([result("dcgan", 0)], REAL, SCAN, {}, out).read_text()


def cells_of(row: dict[str, Any], scale: float = 1) -> list[str]:
    """The three cells of a set in the table of all descriptors; the results' only significant p is 0.002."""
    return [
        digits(row["value"] * scale),
        digits(row["ratio"]) + (" =" if row["equivalent"] else ""),
        f"{row['p']:.3f}" + "*" * (row["p"] == 0.002),
    ]


@pytest.mark.parametrize("table", [0, 1])
def test_every_descriptor_of_every_set_is_in_its_place(three: Page, table: int) -> None:
    """Table 0 has the valid samples, table 1 all samples."""
    places = [2 * number + 1 - table for number in range(3)]
    sets = [comparison(place, 2 + number + 1 - table) for number, place in enumerate(places)]
    sets.append(comparison(8, 1))
    for name, descriptor in DESCRIPTORS.items():
        title = descriptor.title + (f" ({descriptor.unit})" if descriptor.unit else "")
        tables = [row for row in three.rows_named(title) if len(row) == 14]
        assert len(tables) == 2
        row = tables[-table]
        real = [digits(sets[0][name]["reference"]), f"{100 * sets[0][name]['floor']:.2f} %"]
        assert row == [*real, *(cell for rows in sets for cell in cells_of(rows[name]))]


def test_a_model_without_valid_samples_has_dashes(report: Path) -> None:
    page = Page(report.read_text())
    index = list(DESCRIPTORS).index("radius")
    assert page.row("Radius (px)") == [
        *(digits(0.5 + index / 100), f"{1 + index / 10:.2f} %"),
        *cells_of(comparison(1, 3)["radius"]),
        *(DASH, DASH, DASH),
        *cells_of(comparison(8, 1)["radius"]),
    ]


def expected_property(name: str, place: int, count: int) -> list[str]:
    row, limits = comparison(place, 0)[name], bounds(place)
    equivalent = "yes" if row["equivalent"] else "not shown"
    return [
        str(count),
        digits(limits["volume_fraction"]),
        digits(row["value"]),
        f"{100 * row['difference']:+.1f} %{100 * row['low']:+.1f} to {100 * row['high']:+.1f} %",
        f"{equivalent}, ±{100 * row['margin']:g} %",
        *(digits(limits[name][bound]) for bound in BOUNDS),
        "inside HS",
    ]


def test_properties_are_beside_their_bounds(three: Page) -> None:
    for index, name in enumerate(PROPERTIES):
        for number, model in enumerate(("dcgan", "wgan_gp", "third")):
            row = three.rows_named(f"valid samples of {model}")[index]
            assert row == expected_property(name, 2 * number + 1, 80 + number)
        assert three.rows_named("real training windows")[index] == expected_property(name, 8, 70)
        value = 0.5 + list(DESCRIPTORS).index(name) / 100
        limits = (value - 0.3, value - 0.1, value + 0.2, value + 0.4)
        real = ["60", "0.350", digits(value), DASH, DASH, *map(digits, limits), "inside HS"]
        assert three.rows_named("held-out windows")[index] == real


@pytest.mark.parametrize(
    ("low", "high", "words"), [(100.0, 200.0, "outside HS"), (100.0, 25.0, "outside Voigt and Reuss")]
)
def test_a_property_outside_of_its_bounds_is_said(
    tmp_path: Path, low: float, high: float, words: str
) -> None:
    model = result("dcgan", 0)
    value = model.fidelity["after"]["conductivity"]["value"]
    limits = {"reuss": 1.0, "hashin_shtrikman_low": low, "hashin_shtrikman_high": 110.0, "voigt": high}
    assert 30 < value < low
    fidelity = {
        **model.fidelity,
        "bounds": {**model.fidelity["bounds"], "after": {**bounds(1), "conductivity": limits}},
    }
    out = build_report([replace(model, fidelity=fidelity)], REAL, SCAN, {}, tmp_path / "report.html")
    html = out.read_text()
    assert [row[-1] for row in Page(html).rows_named("valid samples of dcgan")] == [
        "inside HS",
        "inside HS",
        words,
    ]
    assert "1 of 9 effective properties lie outside" in re.sub(r"\s+", " ", html)
    assert "transverse conductivity of valid samples of dcgan" in re.sub(r"\s+", " ", html)


def test_a_run_without_bounds_has_its_report(tmp_path: Path) -> None:
    model = result("dcgan", 0)
    fidelity = {key: value for key, value in model.fidelity.items() if key != "bounds"}
    html = build_report(
        [replace(model, fidelity=fidelity)], REAL, SCAN, {}, tmp_path / "report.html"
    ).read_text()
    assert Page(html).rows_named("valid samples of dcgan")[0][4:] == [
        "not shown, ±3.8 %",
        *[DASH] * 5,
    ]
    assert "inside the Hashin" not in html and "outside of the Hashin" not in html


def with_selection(name: str, number: int) -> ModelResult:
    """A result with all that is known of a training."""
    validations = [
        {"step": step, "score": 0.9 - step / 1e4, "score_error": 0.01}
        | {"calibration_pass_rate_ratio": 0.95, "two_point_error": 0.1, "texture_error": 0.3}
        for step in (1000.0, 2000.0)
    ]
    environment = {"ended": "2026-11-27 19:40", "machine": f"machine {number}", "seed": "7"}
    cell = LargeCell(np.eye(96), windows=144, valid_windows=120 + number, overlapping=3)
    known = {"validations": validations, "environment": environment, "cell": cell}
    return replace(result(name, number), **known)


def with_images(name: str, number: int) -> ModelResult:
    """A result whose samples were compared as images too."""
    model = result(name, number)
    return replace(model, fidelity={**model.fidelity, "images": image_metrics(number)})


def test_what_the_judge_of_faults_flags_is_beside_real_windows_and_controls(tmp_path: Path) -> None:
    def judged(name: str, number: int, reason: str | None = None) -> ModelResult:
        judge = judge_metrics(number, reason)
        if name == "wgan_gp":
            del judge["after"]  # too few samples are valid
            judge["ratio"] = None
        model = result(name, number)
        return replace(model, fidelity={**model.fidelity, "images": {"judge": judge}})

    models = [judged("dcgan", 0), judged("wgan_gp", 1)]
    text = build_report(models, REAL, SCAN, {}, tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.row("real, held-out windows") == ["6.0 %5.0 to 7.0 %", "500", DASH, "1.5 %", "4.5 %"]
    accepted = ["12.0 %11.0 to 13.0 %", "700", "2.00", "3.0 %", "9.0 %"]
    assert page.row("dcgan, accepted samples") == accepted
    assert page.row("wgan_gp, accepted samples") == [DASH] * 5
    assert page.row("wgan_gp, all samples")[:2] == ["32.0 %31.0 to 33.0 %", "1001"]
    assert page.row("random packings")[0].startswith("7.0 %") and page.row("overlap")[0].startswith("81.0 %")
    assert "it does not judge" not in text

    models = [judged("dcgan", 0, "it flags 30% of softened, which are sound")]
    text = build_report(models, REAL, SCAN, {}, tmp_path / "report.html").read_text()
    assert "Here it does not judge: it flags 30% of softened, which are sound." in text
    assert Page(text).row("dcgan, accepted samples")[2] == DASH


def test_samples_as_images_are_beside_training_windows(tmp_path: Path, report: Path) -> None:
    too_few = replace(result("third", 2), fidelity={**result("third", 2).fidelity, "images": {}})
    models = [with_images("dcgan", 0), too_few, with_images("wgan_gp", 1)]
    page = Page(build_report(models, REAL, SCAN, {}, tmp_path / "report.html").read_text())
    titles = (
        "Kernel distance to held-out windows",
        "Density",
        "Coverage",
        "Precision",
        "Recall",
        "Classifier, area under the curve",
    )
    for index, (_, title) in enumerate(zip(IMAGE_MEASURES, titles, strict=True)):
        assert page.row(title) == [digits(place + 0.1 + index / 100) for place in (0, 2, 4)]
    assert page.row("Copies of training windows, in excess of held-out ones") == [
        DASH,
        "1.3 %-0.4 to +3.0 %, p: 0.040, n: 300",
        "2.3 %+0.6 to +4.0 %, p: 0.140, n: 301",
    ]
    assert page.row("Diversity (Vendi score), samples / held-out windows") == [DASH, "0.980", "0.880"]
    assert page.row("Fraction of samples that have a duplicate") == [DASH, "0.0100", "0.0200"]
    assert not Page(report.read_text()).rows_named("Coverage")


def test_a_baseline_that_does_not_learn_is_beside_the_models(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"training_steps": None, "kept_step": None, "training_seconds": None}
    baseline = replace(result("random_packing", 1), training_log=(), **nothing)
    build_report([baseline], REAL, SCAN, {}, tmp_path / "alone.html")
    assert not (tmp_path / "alone/losses.png").exists()
    html = build_report([result("dcgan", 0), baseline], REAL, SCAN, {}, tmp_path / "both.html").read_text()
    page = Page(html)
    for row, value in (
        ("Training steps", "2,345"),
        ("Training time", "8.2 min"),
        ("Checkpoint kept, after step", "2,000"),
    ):
        assert page.row(row) == [value, DASH]
    assert page.row("Pass rate of samples / pass rate of held-out windows") == ["0.857", "0.913"]
    assert "<b>random_packing</b> is the baseline" in html and "<b>dcgan</b> is the baseline" not in html


def test_the_page_says_how_often_planted_defects_are_rejected(tmp_path: Path, report: Path) -> None:
    rates = {
        "overlap_15_to_20": DetectionRate(rate=0.875, count=80, interval=(0.8, 0.925)),
        "merged_pair": DetectionRate(
            rate=1,
            count=90,
            interval=(0.97, 1),
            without_network=0.6,
            by_reason={"overlap": 0.05, "empty_circle": 0.6, "learnt_fault": 0.9},
        ),
    }
    out = tmp_path / "report.html"
    rules = reference(detection_rates=rates, held_out_pass_rate=0.87, held_out_windows=200)
    html = build_report([result("dcgan", 0)], REAL, SCAN, {}, out, reference=rules).read_text()
    page = Page(html)
    assert page.row("none: held-out windows as they are") == ["13 %", *3 * [DASH], "200"]
    assert page.row("overlap 15 to 20 %") == ["88 %", "80 to 92 %", DASH, DASH, "80"]
    reasons = "learnt fault 90 %, empty circle 60 %"
    assert page.row("merged pair") == ["100 %", "97 to 100 %", "60 %", reasons, "90"]
    title = "Detection rate of planted defects"
    assert title in html and title not in report.read_text()


def numbered(captions: list[str], kind: str) -> Iterator[int]:
    for caption in captions:
        if found := re.match(rf"{kind} (\d+)\. \S", caption):
            yield int(found[1])


def test_tables_and_figures_are_numbered_and_have_captions(report: Path) -> None:
    html = report.read_text()
    page = Page(html)
    tables, figures = (list(numbered(page.captions, kind)) for kind in ("Table", "Figure"))
    assert tables == list(range(1, 8)) and figures == list(range(1, len(page.images) + 1))
    assert len(page.captions) == len(tables) + len(figures) and len(figures) == 7
    assert all(len(caption.split()) >= 10 for caption in page.captions)
    assert html.count("alt=") == len(figures) and 'alt=""' not in html
    headings = re.findall("<h2>(.*?)</h2>", html)
    assert headings == [
        "Terms and abbreviations",
        "What was learnt",
        "How it looks",
        "How many samples are valid, and why the others are not",
        "Statistics beside the noise floor",
        "Effective properties",
        "How far to trust it",
        "Provenance",
    ]


def test_the_page_says_how_large_a_cell_must_be(tmp_path: Path, report: Path) -> None:
    rng = np.random.default_rng(0)
    planes = [(rng.random((128, 128)) < 0.4, np.ones((128, 128), bool))]
    fraction = 0.4 + 0.01 * rng.standard_normal(20)
    windows = (fraction, 10 + 5 * (fraction - 0.4) + 0.1 * rng.standard_normal(20))
    cell = measured(planes, 16, 0.5, windows)
    figures = cell.figures()
    for solved in (cell, measured(planes, 16, 0.5, None)):
        page = build_report([result("dcgan", 0)], REAL, SCAN, {}, tmp_path / "r.html", representative=solved)
        words = " ".join(re.sub("<[^>]+>", "", page.read_text()).split())
        width = figures["cells"][0]["volume_fraction_half_width"]
        assert f"a cell of 16 px (8 µm), a window, differs from it by up to {width:.3f}" in words
        low, high = figures["volume_fraction_interval"]
        assert f"the volume fraction of the material is from {low:.3f} to {high:.3f} (95 % CI)" in words
        side_px = figures["wanted"]["volume_fraction"]["side_px"]
        assert f"A cell needs {side_px} px ({side_px / 2:.4g} µm) for a volume fraction within 0.01" in words
        assert ("stiffness within 2 %" in words) == (solved is cell)
        assert (tmp_path / "r/representative.png").is_file()
    assert "How large a cell must be" not in report.read_text()


def test_page_needs_neither_network_nor_scripts(report: Path) -> None:
    html = report.read_text()
    page = Page(html)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert "http" not in html
    assert not re.search(r"url\(|@import", html)
    assert all(address.startswith("data:image/png;base64,") for address in page.images)


def test_figures_are_in_the_page_and_beside_it(report: Path) -> None:
    beside = sorted((report.parent / "report").iterdir())
    assert [path.stem for path in beside] == [
        *("circles", "descriptors", "losses", "rejected_by", "two_point_correlation"),
        *("windows_dcgan", "windows_wgan_gp"),
    ]
    embedded = {base64.b64decode(address.split(",")[1]) for address in Page(report.read_text()).images}
    assert embedded == {path.read_bytes() for path in beside}
    for path in beside:
        with Image.open(path) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10, path.name


@pytest.mark.parametrize("kind", ["rules", "nearest_training_windows"])
def test_what_earlier_stages_drew_is_shown(tmp_path: Path, kind: str) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "drawn.png")
    models = [
        replace(with_images("dcgan", 0), drawn={kind: tmp_path / "drawn.png"}),
        with_images("wgan_gp", 1),
    ]
    build_report(models, REAL, SCAN, {}, tmp_path / "report.html")
    kept = (tmp_path / f"report/{kind}_dcgan.png").read_bytes()
    assert kept == (tmp_path / "drawn.png").read_bytes()
    assert base64.b64encode(kept).decode() in (tmp_path / "report.html").read_text()
    assert not (tmp_path / f"report/{kind}_wgan_gp.png").exists()


def test_provenance_is_complete_and_escaped(report: Path) -> None:
    html = report.read_text()
    page = Page(html)
    assert page.row("Scan") == ["carbon <3>"]
    assert page.row("Size") == ["2 planes of 100 x 120 px"]
    assert page.row("Discs") == ["bright, radii of 4.0 to 8.0 px"]
    assert page.row("Window") == ["16 x 16 px"]
    assert page.row("Training part") == ["7,200 px² in 1 plane"]
    assert page.row("Calibration part") == ["3,600 px² in 1 plane"]
    assert page.row("Held-out part") == ["5,000 px² in 1 plane"]
    assert page.row("Scan's grey values (digest)") == ["d1" * 32]
    assert page.row("planes.npy (SHA-256)") == ["d2" * 32]
    assert page.row("mask.npy (SHA-256)") == ["d3" * 32]
    assert page.row("Voxel size") == ["unknown: lengths are in pixels"]
    assert page.row("Files of the scan") == ["a.png"]
    assert page.row("Weights of dcgan (SHA-256)") == ["0b" * 32]
    assert page.row("Weights of wgan_gp (SHA-256)") == ["1b" * 32]
    assert page.row("Git commit") == ["c0ffee"]
    assert "<dt>train.steps</dt><dd>4000</dd>" in html
    assert "carbon <3>" not in html


def test_model_without_any_valid_sample_has_its_report(tmp_path: Path) -> None:
    model = result("dcgan", 0, valid=False)
    nothing = {**model.validity, "rejected_by": {}, "reference_rejected_by": {}}
    model = replace(model, training_log=[], validity=nothing)
    out = build_report([model], REAL, SCAN, {}, tmp_path / "report.html")
    assert Page(out.read_text()).row("Radius") == [f"1.55 → {DASH}"]


def test_lengths_are_in_micrometres_where_the_voxel_size_is_known(tmp_path: Path) -> None:
    size_um = 0.5
    rules = reference(size_um)
    models = [result("dcgan", 0)]
    scan = {**SCAN, "voxel_size_um": size_um}
    html = build_report(models, REAL, scan, {}, tmp_path / "report.html", reference=rules).read_text()
    page = Page(html)
    assert page.row("Size") == ["2 planes of 100 x 120 px (50 x 60 µm)"]
    assert page.row("Discs") == ["bright, radii of 4.0 to 8.0 px (2 to 4 µm)"]
    for name, title, scale in (
        ("radius", "Radius (µm)", size_um),
        ("ripley_k", "Ripley's K (µm², mean)", size_um**2),
        ("perimeter", "Perimeter per area (1/µm)", 1 / size_um),
        ("discs_per_area", "Discs per area (1/µm²)", 1 / size_um**2),
        ("stiffness", "In-plane stiffness (GPa)", 1),
    ):
        row = comparison(1, 3)[name]
        assert page.row(title)[0] == digits(row["reference"] * scale)
        assert page.row(title)[2:5] == cells_of(row, scale)
    assert page.row("smallest_radius_px") == ["smallest radius (µm)", "1.75", DASH, "radius"]
    assert page.row("discs_per_1000px2") == ["discs per 1000 µm²", "16.0", "32.0", "number density"]
    assert "the voxel size is not known" not in html


def test_each_rule_is_beside_its_reason(report: Path, tmp_path: Path) -> None:
    html = build_report([result("dcgan", 0)], REAL, SCAN, {}, tmp_path / "a.html", reference=reference())
    page = Page(html.read_text())
    assert page.row("smallest_radius_px") == ["smallest radius (px)", "3.50", DASH, "radius"]
    assert page.row("discs_per_1000px2") == ["discs per 1000 square pixels", "4.00", "8.00", "number density"]
    assert page.row("overlap") == ["largest overlap of two discs", DASH, DASH, f"{DASH} (no limit)"]
    assert not Page(report.read_text()).rows_named("overlap")


@pytest.mark.parametrize(
    ("numbers", "best", "sentence"),
    [
        (
            [0],
            None,
            "dcgan: 80.6 % of its samples are valid, and these differ from the scan in 3 of 7",
        ),
        ([0, 2], "dcgan", "dcgan, the better of two models: 80.6 % of its samples are valid, and these"),
        ([0, 2], None, "third, the better of two models: 92.7 % of its samples are valid"),
    ],
)
def test_the_verdict_is_one_sentence_at_the_top(numbers: list[int], best: str | None, sentence: str) -> None:
    names = ("dcgan", "wgan_gp", "third")
    words = verdict([result(names[number], number) for number in numbers], best)
    assert words.startswith(sentence) and words.count(". ") == 0 and words.endswith(".")


def test_the_verdict_has_the_baseline_beside_the_best(report: Path) -> None:
    baseline = replace(result("random_packing", 2), training_steps=None)
    words = verdict([result("dcgan", 0), baseline])
    end = "in 3 of 7 headline descriptors (random packing, the baseline: in 5)."
    assert words.endswith(end)
    assert verdict([baseline]) == "No model was trained: this report has a baseline alone."


def test_more_valid_samples_than_real_windows_mean_a_narrower_material() -> None:
    one = result("dcgan", 0)
    rates = {"pass_rate": 0.99, "reference_pass_rate": 0.9, "n": 1000, "rejected_by": {"overlap": 2}}
    counts = {"reference_n": 1000, "reference_rejected_by": {"overlap": 50, "radius": 40}}
    words = verdict([replace(one, validity=rates | counts)])
    assert "They pass 1.10 times as often as real windows: a narrower material, not a better one" in words
    assert words.endswith("rejected for overlap: 0.2 % of samples, 5.0 % of real windows.")
    earlier = verdict([replace(one, validity=rates | {"reference_rejected_by": {}})])
    assert earlier.endswith("not a better one.")


def test_the_verdict_says_what_cannot_be_said(report: Path) -> None:
    assert "wgan_gp, the better of two models: 86.7 %" in report.read_text().split("Terms")[0]
    few = result("wgan_gp", 1, valid=False)
    assert verdict([few]).endswith("these are too few to test whether they differ from the scan.")
    none = replace(few, validity={**few.validity, "pass_rate": 0.0})
    assert verdict([none]) == "No model made a valid sample: there is nothing to use."
    assert "better" in verdict([result("dcgan", 0), none]) and "dcgan" in verdict([none, result("dcgan", 0)])


def test_a_model_that_has_not_learnt_is_never_the_best_and_limits_are_told(tmp_path: Path) -> None:
    digests = {"weights_sha256": "1" * 64, "reference_sha256": "2" * 64}
    far = ModelVerdict(verdict=NOT_LEARNT, reasons=("kernel distance 9 times",), **digests)
    limited = ModelVerdict(verdict=WITH_LIMITS, reasons=("radius: error 3 times its floor",), **digests)
    bad, good = (
        replace(result(name, number), verdict=judged)
        for number, (name, judged) in enumerate((("wgan_gp", far), ("dcgan", limited)))
    )
    assert verdict([bad]).startswith("No model has learnt the material")
    words = verdict([bad, good], "wgan_gp")
    assert words.startswith("dcgan, the better of two models")
    assert words.endswith("It has learnt the material with limits: radius: error 3 times its floor.")
    page = build_report([bad, good], REAL, SCAN, {}, tmp_path / "report.html").read_text()
    assert "<b>wgan_gp has not learnt the material</b>" in page
    assert "dcgan has not learnt" not in page and f"({limited})" in page


def test_the_baseline_is_explained_on_a_scan_that_is_a_random_packing(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"training_steps": None, "kept_step": None, "training_seconds": None}
    models = [result("dcgan", 0), replace(result("random_packing", 1), training_log=(), **nothing)]
    real, embedded = (
        re.sub(
            r"\s+",
            " ",
            build_report(
                models, REAL, SCAN, {}, tmp_path / "report.html", scan_is_random_packing=packed
            ).read_text(),
        )
        for packed in (False, True)
    )
    for page in (real, embedded):
        assert "is the baseline that a model must beat: discs placed at random" in page
    for words in ("the baseline is nearly the truth here", "On this scan it must win"):
        assert words in embedded and words not in real


def test_the_training_and_the_large_cell_are_told(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    models = [with_selection("dcgan", 0), with_selection("wgan_gp", 1)]
    html = build_report(models, REAL, SCAN, {"train": {"seed": 7}, "generate": {"seed": 8}}, out).read_text()
    page = Page(html)
    assert page.row("Training ended (UTC)") == ["2026-11-27 19:40"] * 2
    assert page.row("Machine") == ["machine 0", "machine 1"]
    assert page.row("Seeds") == ["train 7, generate 8"]
    assert "Trained until 2026-11-27 19:40" in html
    (cells,) = (caption for caption in page.captions if "Large periodic cells" in caption)
    words = " ".join(cells.split())
    assert "dcgan, 96 x 96 px: 120 of 144 valid (83 %), 3 pairs of discs overlap by too much" in words
    assert "wgan_gp, 96 x 96 px: 121 of 144 valid" in words


def test_references_lead_to_the_table_or_figure_that_they_name(tmp_path: Path) -> None:
    models = [with_selection("dcgan", 0), with_selection("wgan_gp", 1)]
    for name in ("a", "b"):
        Image.new("L", (3, 2)).save(tmp_path / f"{name}.png")
    drawn = {"scan": tmp_path / "a.png", "planted_defects": tmp_path / "b.png"}
    rates = {"merged_pair": DetectionRate(rate=1, count=90, interval=(0.97, 1))}
    html = build_report(
        models,
        REAL,
        SCAN,
        {},
        tmp_path / "report.html",
        reference=reference(detection_rates=rates),
        drawn=drawn,
    ).read_text()
    references = re.findall(r'<a href="#([a-z]+)-(\d+)">(\w+) (\d+)</a>', html)
    anchors = re.findall(r'id="([a-z]+)-(\d+)"', html)
    assert len(references) >= 10 and len(set(anchors)) == len(anchors)
    for kind, number, word, shown in references:
        assert (kind, number) in anchors and (word.lower(), shown) == (kind, number)
    captions = dict(re.findall(r"<b>(\w+ \d+)\.</b>\s+(\S+ \S+ \S+ \S+)", html))
    named = re.search(r'Examples: <a href="#[^"]*">(Figure \d+)', html)
    assert named and captions[named[1]] == "Real windows that were"


def test_same_inputs_give_the_same_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_page, "draw_figures", DRAW)
    monkeypatch.setattr(style, "SUFFIXES", (".png", ".svg"))
    for name in "ab":
        build_report([with_selection("dcgan", 0)], REAL[:2], SCAN, {}, tmp_path / name / "report.html")
    first, again = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "ab"
    )
    assert first == again
    drawn = {path.name for path in first} - {"report.html"}
    stems = {name.partition(".")[0] for name in drawn}
    assert drawn == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".svg")}
    assert {"checkpoint_selection", "periodic_cells", "circles"} <= stems
    assert "(report/circles.png, report/circles.svg)" in first[Path("report.html")].decode()


def test_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="models: none: the report needs at least one model"):
        build_report([], np.zeros((1, 8, 8)), SCAN, {}, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
