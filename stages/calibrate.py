"""Fix validity on real windows, before any training: ``python -m stages.calibrate``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from microgan.core.notes import warn
from microgan.report.figures.rules import calibration_sheet
from microgan.report.figures.windows import defect_sheet, limits_sheet, verdict_sheet
from microgan.scan.config import ScanConfig
from microgan.scan.planes import Planes
from microgan.validity.calibration import CalibrationConfig, calibration_windows
from microgan.validity.judging import judge_measured, with_faults
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.real_measures import RealMeasures
from microgan.validity.reference import DetectionRate, Reference
from stages.samples import LEARNT
from stages.stage import Stage, naming, run

SHOWN = 8  # images of each kind of planted defect in the picture


def main(stage: Stage) -> None:
    """Write reference/reference.json and reports/calibrate."""
    config = stage.config("calibrate", CalibrationConfig)
    planes = Planes.load(Path("data/planes"))
    segmentation = Reference.load(Path("reference/standard.json"))
    real = RealMeasures.load(Path("real_measures"), planes, segmentation, config)
    real = real.and_learnt(planes, config, LearntFaults.load(LEARNT)).and_by_own_rules(planes, config)
    with naming(f"scans.{planes.info.name}", ScanConfig):
        reference = real.calibrated(config)
    for doubt in reference.doubts:
        warn(doubt)
    planted = real.defects.judged(reference, config.planted)
    images = {
        name: np.stack([real.defects.image(index, segmentation) for index in defect.images[:SHOWN]])
        for name, defect in planted.items()
    }
    planted = {
        name: defect.with_faults(torch.from_numpy(images[name])[:, None], reference)
        for name, defect in planted.items()
    }
    windows, _ = calibration_windows(planes, stage.window_px, config)
    verdicts = with_faults(judge_measured(real.calibration, reference), windows, reference)
    with stage.drafts("reference/reference.json", "reports/calibrate") as (rules, pictures):
        reference.save(rules)
        calibration_sheet(real.calibration.measures, reference, pictures / "limits")
        sheet, size_um = pictures / "windows.png", reference.scan.voxel_size_um
        what = "windows of the calibration and training parts"
        verdict_sheet(windows[:, 0].numpy(), verdicts, sheet, what=what, voxel_size_um=size_um)
        limits_sheet(windows[:, 0].numpy(), verdicts, reference, pictures / "at_the_limits.png")
        defect_sheet(planted, images, pictures / "planted_defects.png", voxel_size_um=size_um)
    rates = {"pass_rate": reference.calibration_pass_rate, "held_out_pass_rate": reference.held_out_pass_rate}
    stage.say(found(rates, reference.detection_rates))
    stage.tracker.metrics({name: rate for name, rate in rates.items() if rate is not None})
    detected = reference.detection_rates.items()
    stage.tracker.metrics({f"detection_rate.{name}": rate.rate for name, rate in detected})
    stage.tracker.artifact("reference/reference.json", "reports/calibrate")


def found(rates: Mapping[str, float | None], detection_rates: Mapping[str, DetectionRate]) -> str:
    """Say how many real windows pass, and how often planted defects are rejected."""
    passed = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items() if rate is not None)
    rarest = sorted(detection_rates.items(), key=lambda item: item[1].rate)[:4]
    rejected = ", ".join(f"{name} {rate.rate:.0%}" for name, rate in rarest)
    return f"real windows: {passed}; planted defects that are rejected least often: {rejected}"


if __name__ == "__main__":
    run(main)
