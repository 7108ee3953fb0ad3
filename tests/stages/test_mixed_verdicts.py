"""Valid and invalid samples in irregular order, through the stages that pair grey values and verdicts.

Each sample is judged alone here, so that an index that slips in any stage gives files that do not fit.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from microgan.core.domain import Domain
from microgan.core.files import write_tiff
from microgan.core.json_files import read_json
from microgan.evaluation.diversity import diversity
from microgan.evaluation.fidelity import compare
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.image_metrics import RealImageStatistics
from microgan.evaluation.qualified_judge import QualifiedJudge, WorstSamples
from microgan.evaluation.real_statistics import FidelityConfig, MeasuredImages, RealStatistics
from microgan.samples.card import SampleCard, SampleConfig, card_path
from microgan.scan.planes import Planes, ScanInfo
from microgan.scan.windows import Windows
from microgan.validity.judging import Verdict, judge
from microgan.validity.phase import phase_image
from microgan.validity.reference import Reference
from stages import evaluate, export, measure, report, validate, verdict
from stages.samples import read_samples
from stages.stage import load_params
from tests.stages.helpers import start

VALID, INVALID = 21, 7  # samples; fewer than 20 valid ones are not compared as images
TOLERANCE = 0.05  # rounding differs between an image that is judged alone and one among others
FOLDER = Path("samples/dcgan")


@dataclass(frozen=True)
class Mixed:
    """Samples in the order of their file, and the verdict that each gets when it is judged alone."""

    grey: np.ndarray
    images: torch.Tensor
    verdicts: list[Verdict]
    info: ScanInfo
    reference: Reference

    @property
    def valid(self) -> np.ndarray:
        return np.array([verdict.valid for verdict in self.verdicts])


@pytest.fixture
def mixed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Mixed:
    """Real windows as samples of a model, judged by the stage validate."""
    reference, planes = Reference.load(Path("reference/reference.json")), Planes.load(Path("data/planes"))
    rng = np.random.default_rng(0)
    windows = Windows(planes, "train", reference.window_px).draw(rng, 64)
    mirrored = windows[:INVALID].clone()
    mirrored[..., : reference.window_px // 2] = mirrored[..., reference.window_px // 2 :].flip(-1)
    candidates = planes.info.denormalise(torch.cat([windows, mirrored])[:, 0].numpy())
    images = torch.from_numpy(planes.info.normalise(candidates))[:, None]
    verdicts = [judge(image[None], reference, progress=False)[0] for image in images]
    valid = np.array([verdict.valid for verdict in verdicts])
    order = rng.permutation(np.r_[np.flatnonzero(valid)[:VALID], np.flatnonzero(~valid)[:INVALID]])
    samples = Mixed(
        candidates[order], images[order], [verdicts[index] for index in order], planes.info, reference
    )
    assert samples.valid.sum() == VALID and (~samples.valid).sum() == INVALID
    assert len({verdict.reasons for verdict in samples.verdicts}) > 3
    write_tiff(FOLDER / "generated.tif", samples.grey, None)
    model, config = read_json("models/dcgan/model.json"), SampleConfig(count=len(order), seed=1)
    size = Domain((reference.window_px, reference.window_px))
    card = SampleCard.of(FOLDER / "generated.tif", model, config, size)
    card.write(card_path(FOLDER / "generated.tif"))
    _replace_figures(samples, monkeypatch)
    for stage in (measure, validate):
        assert start(stage.main, "dcgan", monkeypatch=monkeypatch) == 0
    return samples


def _replace_figures(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no figures, which takes most of the time; check which verdict each image is shown with."""

    def verdict_sheet(images: np.ndarray, verdicts: list[Verdict], path: Path, **_: object) -> None:
        np.testing.assert_array_equal(images, mixed.images[:, 0])
        assert [verdict.reasons for verdict in verdicts] == [alone.reasons for alone in mixed.verdicts]
        path.touch()

    monkeypatch.setattr(validate, "verdict_sheet", verdict_sheet)
    monkeypatch.setattr(validate, "calibration_sheet", lambda real, reference, path, samples: path.touch())
    monkeypatch.setattr(evaluate, "nearest_window_sheet", lambda rows, path, **_: path.touch())

    monkeypatch.setattr(evaluate, "image_sheet", lambda name, images, path, **_: path.touch())

    def judge_sheet(worst: WorstSamples, path: Path, **_: object) -> None:
        valid = {image.tobytes() for image in mixed.images[mixed.valid, 0].numpy()}
        assert len(worst.images) == 16 and {image.tobytes() for image in worst.images} <= valid
        path.touch()

    monkeypatch.setattr(evaluate, "judge_sheet", judge_sheet)


def test_each_sample_keeps_its_own_circles_and_verdict(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    _verdicts_are_in_the_order_of_samples(mixed)
    assert start(evaluate.main, "dcgan", monkeypatch=monkeypatch) == 0
    _evaluated_are_the_valid_samples(mixed)
    assert start(verdict.main, "dcgan", monkeypatch=monkeypatch) == 0
    assert start(export.main, "dcgan", monkeypatch=monkeypatch) == 0
    _exported_are_the_valid_samples(mixed)
    result = report.result("dcgan", mixed.info)
    np.testing.assert_array_equal(result.valid_samples, mixed.info.normalise(mixed.grey[mixed.valid]))
    np.testing.assert_array_equal(result.rejected_samples, mixed.info.normalise(mixed.grey[~mixed.valid]))
    assert result.rejection_reasons == [alone.reasons for alone in mixed.verdicts if not alone.valid]


def _verdicts_are_in_the_order_of_samples(mixed: Mixed) -> None:
    np.testing.assert_array_equal(tifffile.imread(FOLDER / "valid.tif"), mixed.grey[mixed.valid])
    samples = read_samples(FOLDER)
    np.testing.assert_array_equal(samples.grey, mixed.grey)
    for judged, alone in zip(samples.verdicts, mixed.verdicts, strict=True):
        assert (judged.valid, judged.reasons) == (alone.valid, alone.reasons)
        assert judged.measures == pytest.approx(alone.measures, rel=TOLERANCE, abs=TOLERANCE)
        np.testing.assert_allclose(
            _by_place(judged.circles.table()), _by_place(alone.circles.table()), atol=TOLERANCE
        )
    with (FOLDER / "verdicts.csv").open(newline="") as file:
        assert [row["valid"] for row in csv.DictReader(file)] == [str(valid) for valid in mixed.valid]


def _by_place(table: np.ndarray) -> np.ndarray:
    """Order circles by place: two discs of a mirrored sample have one score, and any order."""
    return table[np.lexsort(table[:, 1::-1].round(1).T)]


def _exported_are_the_valid_samples(mixed: Mixed) -> None:
    out, kept = Path("exports/dcgan"), np.flatnonzero(mixed.valid)
    np.testing.assert_array_equal(tifffile.imread(out / "grey.tif"), mixed.grey[kept])
    phase = [phase_image(mixed.images[[index]], mixed.reference)[0].numpy() for index in kept]
    np.testing.assert_array_equal(tifffile.imread(out / "phase.tif"), phase)
    circles = np.genfromtxt(out / "circles.csv", delimiter=",", names=True)
    for page, index in enumerate(kept):
        rows = circles[circles["image"] == page]
        table = np.column_stack([rows["row"], rows["col"], rows["radius"]])
        alone = mixed.verdicts[index].circles.table()[:, :3]
        np.testing.assert_allclose(_by_place(table), _by_place(alone), atol=TOLERANCE)
    with (out / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [f"generated.tif[{index}]" for index in kept]
    assert {(row["valid"], row["reasons"]) for row in rows} == {("True", "")}
    assert all(verdict["valid"] for verdict in read_json(out / "export.json")["verdicts"])


def _evaluated_are_the_valid_samples(mixed: Mixed) -> None:
    params = load_params()
    config = FidelityConfig.from_mapping(params["evaluate"], "evaluate")
    properties = PropertiesConfig.from_mapping(params["properties"], "properties")
    real = RealStatistics.load(Path("real_statistics"))
    solved = np.flatnonzero(mixed.valid)[: config.windows]
    alone = [mixed.verdicts[index].circles for index in solved]
    # Properties are solved of the first samples, valid or not.
    properties = properties.model_copy(update={"count": int(mixed.valid[: properties.count].sum())})
    expected = MeasuredImages.of(mixed.images[solved], alone, mixed.reference, config, properties)
    table = compare(expected, real.held_out, real.floor, config).table
    fidelity = read_json("metrics/dcgan/fidelity.json")
    assert fidelity["n"]["after"] == len(solved)
    assert fidelity["after"].keys() == table.keys()
    after, values = (
        np.array([row["value"] for row in rows.values()], float) for rows in (fidelity["after"], table)
    )
    np.testing.assert_allclose(after, values, rtol=TOLERANCE)
    held_out = RealImageStatistics.load(Path("real_statistics")).held_out[:, 0].numpy()
    figures = diversity(mixed.images[solved, 0].numpy(), held_out)
    assert fidelity["images"]["diversity"] == pytest.approx(figures, rel=1e-3)
    qualified, judged = QualifiedJudge.load(Path("real_statistics")), fidelity["images"]["judge"]
    score, _ = qualified.judge.judged(mixed.images)
    above = score > qualified.judge.limit
    assert judged["before"]["flagged"] == pytest.approx(above.mean(), abs=1 / len(above))
    assert judged["after"]["flagged"] == pytest.approx(above[mixed.valid].mean(), abs=1 / VALID)
