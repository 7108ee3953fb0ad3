"""Detection rates of planted defects, on a small simulated scan."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microgan.detection.detector import DetectorConfig
from microgan.report.figures.windows import defect_sheet
from microgan.scan.planes import Planes
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.detection_rate import PLANTED, Planted, detection_rate_by_defect, plant_every_defect
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
def planted(reference: Reference, planes: Planes) -> dict[str, Planted]:
    return plant_every_defect(reference, planes, seed=3, count=COUNT)


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
    assert np.mean(rates) >= 0.9 and min(rates) >= 0.85


@pytest.mark.parametrize(
    "name", ["merged_pair", "ellipse", "faint_disc", "wrong_radius", "partial_disc", "seam"]
)
def test_a_single_defect_is_mostly_rejected(planted: dict[str, Planted], name: str) -> None:
    assert planted[name].detection_rate.rate >= 0.8


def test_detection_rates_are_fixed_by_the_seed_and_survive_the_file(
    reference: Reference, planes: Planes, tmp_path: Path
) -> None:
    rates = detection_rate_by_defect(reference, planes, seed=1, count=10)
    assert detection_rate_by_defect(reference, planes, seed=1, count=10) == rates
    one, other = (
        plant_every_defect(reference, planes, seed, count=10)["faint_disc"].images for seed in (1, 2)
    )
    assert not np.array_equal(one[:5], other[:5])
    kept = reference.model_copy(update={"detection_rates": rates})
    kept.save(tmp_path / "reference.json")
    assert Reference.load(tmp_path / "reference.json") == kept


def test_limits_that_let_no_window_pass_leave_nothing_to_plant_into(
    reference: Reference, planes: Planes, tmp_path: Path
) -> None:
    closed = reference.model_copy(update={"limits": {"contrast": (3.0, None)}})
    planted = plant_every_defect(closed, planes, seed=1, count=10)
    assert planted == {}
    defect_sheet(planted, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()


def test_what_passes_is_framed_blue_and_what_is_rejected_orange(
    planted: dict[str, Planted], tmp_path: Path
) -> None:
    def drawn(valid: bool) -> np.ndarray:
        kinds = planted.values()
        pairs = [pair for one in kinds for pair in zip(one.images, one.verdicts, strict=True)]
        image, verdict = next(pair for pair in pairs if pair[1].valid is valid)
        defect_sheet({"faint_disc": Planted(image[None], [verdict])}, tmp_path / "sheet.png", columns=2)
        return np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)

    for valid, colour, other in (
        (True, (86, 180, 233), (230, 159, 0)),
        (False, (230, 159, 0), (86, 180, 233)),
    ):
        picture = drawn(valid)
        assert (np.abs(picture - colour).max(-1) < 5).any()
        assert not (np.abs(picture - other).max(-1) < 5).any()
