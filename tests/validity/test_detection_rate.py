"""Detection rates of planted defects, on a small simulated scan."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from microgan.detection.detector import DetectorConfig
from microgan.report.figures.windows import defect_sheet
from microgan.scan.planes import Planes
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.detection_rate import PLANTED, Planted, PlantedDefects
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.reference import Reference
from tests.helpers import disc_planes

COUNT = 30


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Planes:
    return disc_planes(tmp_path_factory.mktemp("scan"), size_px=320, angles=600)  # little noise


@pytest.fixture(scope="module")
def reference(planes: Planes) -> Reference:
    config = CalibrationConfig(windows=400, bootstrap=0, detector=DetectorConfig(min_separation=0.55))
    return calibrate(planes, 64, config)


@pytest.fixture(scope="module")
def defects(reference: Reference, planes: Planes) -> PlantedDefects:
    return PlantedDefects.plant(planes, reference, seed=3, count=COUNT)


@pytest.fixture(scope="module")
def planted(defects: PlantedDefects, reference: Reference) -> dict[str, Planted]:
    return defects.judged(reference, COUNT)


def test_every_defect_but_a_missing_disc_is_planted(planted: dict[str, Planted]) -> None:
    assert tuple(planted) == tuple(PLANTED)
    assert {"overlap_15_to_20", "faint_disc", "seam"} < set(PLANTED) and "missing_disc" not in PLANTED
    for one in planted.values():
        assert 15 <= len(one.images) == len(one.verdicts) == one.detection_rate.count <= COUNT
        low, high = one.detection_rate.interval
        assert 0 <= low <= one.detection_rate.rate <= high <= 1


@pytest.mark.parametrize("name", ["blank", "noise", "blurred", "lattice"])
def test_images_without_a_microstructure_never_pass(planted: dict[str, Planted], name: str) -> None:
    assert planted[name].detection_rate.rate == 1


def test_overlaps_are_caught_at_every_degree(planted: dict[str, Planted]) -> None:
    rates = [one.detection_rate.rate for name, one in planted.items() if name.startswith("overlap")]
    assert len(rates) == 3
    assert np.mean(rates) >= 0.8 and min(rates) >= 0.7  # .90, .77, .87 of 30 windows each: 1 sd is 6 %


@pytest.mark.parametrize(
    "name", ["merged_pair", "ellipse", "faint_disc", "wrong_radius", "partial_disc", "seam"]
)
def test_a_single_defect_is_mostly_rejected(planted: dict[str, Planted], name: str) -> None:
    assert planted[name].detection_rate.rate >= 0.8


def test_detection_rates_are_fixed_by_the_seed_and_survive_the_file(
    reference: Reference, planes: Planes, tmp_path: Path
) -> None:
    first, again, other = (PlantedDefects.plant(planes, reference, seed, count=10) for seed in (1, 1, 2))
    rates = {name: defect.detection_rate for name, defect in first.judged(reference).items()}
    assert {name: defect.detection_rate for name, defect in again.judged(reference).items()} == rates
    assert not np.array_equal(first.image(0, reference), other.image(0, reference))
    kept = reference.model_copy(update={"detection_rates": rates})
    kept.save(tmp_path / "reference.json")
    assert Reference.load(tmp_path / "reference.json") == kept


def test_what_is_read_again_is_judged_as_it_was(
    defects: PlantedDefects, planted: dict[str, Planted], planes: Planes, reference: Reference, tmp_path: Path
) -> None:
    defects.save(tmp_path)
    read = PlantedDefects.load(tmp_path, planes, reference, seed=3, count=COUNT)
    judged = read.judged(reference, COUNT)
    assert {name: defect.images for name, defect in judged.items()} == {
        name: defect.images for name, defect in planted.items()
    }
    for name, defect in judged.items():
        assert [verdict.measures for verdict in defect.verdicts] == [
            verdict.measures for verdict in planted[name].verdicts
        ]
    index = len(defects.places) - 1
    np.testing.assert_array_equal(read.image(index, reference), defects.image(index, reference))
    (again,) = MeasuredWindows.of(
        torch.from_numpy(read.image(index, reference))[None, None], reference, progress=False
    ).measures
    assert again == pytest.approx(defects.with_defect.measures[index], rel=1e-3, abs=1e-3)


def test_limits_that_let_no_window_pass_leave_nothing_to_plant_into(
    reference: Reference, planes: Planes, tmp_path: Path
) -> None:
    closed = reference.model_copy(update={"limits": {"contrast": (3.0, None)}})
    planted = PlantedDefects.plant(planes, reference, seed=1, count=10).judged(closed)
    assert planted == {}
    defect_sheet(planted, {}, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()


def test_what_passes_is_framed_blue_and_what_is_rejected_orange(
    defects: PlantedDefects, planted: dict[str, Planted], reference: Reference, tmp_path: Path
) -> None:
    def drawn(valid: bool) -> np.ndarray:
        kinds = planted.values()
        pairs = [pair for kind in kinds for pair in zip(kind.images, kind.verdicts, strict=True)]
        index, verdict = next(pair for pair in pairs if pair[1].valid is valid)
        images = {"faint_disc": defects.image(index, reference)[None]}
        defect_sheet({"faint_disc": Planted([index], [verdict])}, images, tmp_path / "sheet.png", columns=2)
        return np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)

    for valid, colour, other in (
        (True, (86, 180, 233), (230, 159, 0)),
        (False, (230, 159, 0), (86, 180, 233)),
    ):
        picture = drawn(valid)
        assert (np.abs(picture - colour).max(-1) < 5).any()
        assert not (np.abs(picture - other).max(-1) < 5).any()
