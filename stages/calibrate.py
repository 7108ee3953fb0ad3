"""Fix validity on real windows, before any training: ``python -m stages.calibrate``."""

from collections.abc import Mapping
from pathlib import Path

from microgan.core.notes import warn
from microgan.report.figures.rules import calibration_sheet
from microgan.report.figures.windows import defect_sheet, verdict_sheet
from microgan.scan.config import ScanConfig
from microgan.scan.planes import Planes
from microgan.validity.calibration import CalibrationConfig, calibrate, real_windows, with_held_out
from microgan.validity.detection_rate import plant_every_defect
from microgan.validity.judging import judge
from microgan.validity.reference import DetectionRate
from microgan.validity.usefulness import all_doubts
from stages.stage import Stage, drafts, naming, run

FIGURE_WINDOWS = 500  # calibration windows in the picture of the limits


def main(stage: Stage) -> None:
    """Write reference/reference.json and reports/calibrate."""
    config = stage.config("calibrate", CalibrationConfig)
    planes = Planes.load(Path("data/planes"))
    stage.tracker.dataset(planes.info.name, planes.info.planes_sha256, "data/planes", "calibration")
    with naming(f"scans.{planes.info.name}", ScanConfig):
        reference = calibrate(planes, stage.window_px, config)
    windows = real_windows(planes, ("calibration",), stage.window_px, FIGURE_WINDOWS, config.seed)
    real = judge(windows, reference)
    planted = plant_every_defect(reference, planes, config.seed, config.planted)
    detection_rates = {name: defects.detection_rate for name, defects in planted.items()}
    # All limits are fixed now; held-out windows are judged by them and change none.
    reference = with_held_out(reference, planes, config.seed)
    radii = [verdict.circles.radius_px for verdict in real]
    pass_rate = reference.held_out_pass_rate
    doubts = all_doubts(radii, reference.radius_px, detection_rates, pass_rate)
    for doubt in doubts:
        warn(doubt)
    reference = reference.model_copy(update={"detection_rates": detection_rates, "doubts": doubts})
    with drafts("reference", "reports/calibrate") as (folder, pictures):
        reference.save(folder / "reference.json")
        calibration_sheet([verdict.measures for verdict in real], reference, pictures / "limits.png")
        verdict_sheet(windows[:, 0].numpy(), real, pictures / "windows.png")
        defect_sheet(planted, pictures / "planted_defects.png")
    rates = {"pass_rate": reference.calibration_pass_rate, "held_out_pass_rate": reference.held_out_pass_rate}
    stage.say(found(rates, detection_rates))
    stage.tracker.metrics({name: rate for name, rate in rates.items() if rate is not None})
    stage.tracker.metrics({f"detection_rate.{name}": rate.rate for name, rate in detection_rates.items()})
    stage.tracker.artifact("reference/reference.json", "reports/calibrate")


def found(rates: Mapping[str, float | None], detection_rates: Mapping[str, DetectionRate]) -> str:
    """Say how many real windows pass, and how often planted defects are rejected."""
    passed = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items() if rate is not None)
    rarest = sorted(detection_rates.items(), key=lambda item: item[1].rate)[:4]
    rejected = ", ".join(f"{name} {rate.rate:.0%}" for name, rate in rarest)
    return f"real windows: {passed}; planted defects that are rejected least often: {rejected}"


if __name__ == "__main__":
    run(main)
