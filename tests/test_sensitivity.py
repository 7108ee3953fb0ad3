"""The benchmark of what the figures find: changes are what they are called, alarms are counted rightly."""

import numpy as np
import pytest

from benchmarks.sensitivity import (
    ADDED_FRACTION,
    CHANGES,
    alarms,
    larger,
    measured,
    more_discs_phase,
    planted,
)
from microgan.detection.detect import detect_all
from microgan.evaluation.real_statistics import FidelityConfig, MeasuredImages
from microgan.scan.windows import Windows
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.phase import phase_image
from microgan.validity.reference import Reference
from tests.helpers import disc_planes

CONFIG = FidelityConfig(resamples=199)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Windows, Reference]:
    planes = disc_planes(tmp_path_factory.mktemp("sensitivity"))
    reference = calibrate(planes, 64, CalibrationConfig(windows=100, bootstrap=0))
    return Windows(planes, "train", 64), reference


def test_changes_are_what_they_are_called(scan: tuple[Windows, Reference]) -> None:
    windows, reference = scan
    images = windows.draw(np.random.default_rng(0), 30)
    circles = detect_all(images, reference.detector)
    before = phase_image(images, reference).float().mean()
    after = phase_image(more_discs_phase(images, circles, reference), reference).float().mean()
    assert float(after - before) == pytest.approx(ADDED_FRACTION, abs=2e-3)
    grown = larger(images, circles, reference)
    magnified = detect_all(grown, reference.detector)
    radii = [np.median(np.concatenate([each.radius_px for each in group])) for group in (circles, magnified)]
    assert radii[1] / radii[0] == pytest.approx(1.05, abs=0.015)
    overlapping = planted("overlap")(images, circles, reference)
    unequal = [not image.equal(changed) for image, changed in zip(images, overlapping, strict=True)]
    assert np.mean(unequal) > 0.9
    assert len(CHANGES) == 5


def test_alarms_are_raised_by_what_was_changed_alone(scan: tuple[Windows, Reference]) -> None:
    windows, reference = scan
    images = windows.draw(np.random.default_rng(1), 60)
    block = np.arange(60)  # the plane is too small for places
    circles = detect_all(images, reference.detector)
    sets: dict[str, MeasuredImages] = {
        name: measured(changed, block, reference, CONFIG)
        for name, changed in (
            ("real", images),
            ("larger", larger(images, circles, reference)),
            ("fuller", more_discs_phase(images, circles, reference)),
        )
    }
    assert alarms(sets["real"], sets["real"], 6, CONFIG)[0] <= 0.5
    total, each = alarms(sets["real"], sets["larger"], 6, CONFIG)
    assert total == each["radius"] == 1.0
    total, each = alarms(sets["real"], sets["fuller"], 6, CONFIG)
    assert each["chord_length_discs"] == 1.0 > each["volume_fraction"]  # which differs by place, too
