"""Fix validity on real windows, before any training: ``python -m stages.calibrate``."""

from pathlib import Path

from microgan.report.figures import calibration_sheet, defect_sheet, verdict_sheet
from microgan.scan.planes import Planes
from microgan.validity.calibration import calibrate, real_windows, with_held_out
from microgan.validity.detection_rate import plant_every_defect
from microgan.validity.judging import judge
from microgan.validity.reference import CalibrationConfig
from stages.stage import Stage, drafts, run

PICTURED = 500  # calibration windows in the picture of the limits


def main(stage: Stage) -> None:
    """Write reference/reference.json and reports/calibrate."""
    config = stage.config("calibrate", CalibrationConfig)
    planes = Planes.load(Path("data/planes"))
    stage.tracker.dataset(planes.info.name, planes.info.digest, "data/planes", "calibration")
    reference = calibrate(planes, stage.window_px, config)
    windows = real_windows(planes, ("calibration",), stage.window_px, PICTURED, config.seed)
    real = judge(windows, reference, allow_own_rules=True)  # those of params.yaml, which the user wrote
    planted = plant_every_defect(reference, planes, config.seed, config.planted, allow_own_rules=True)
    power = {name: one.power for name, one in planted.items()}
    # Everything is fixed now; held-out planes are only looked at.
    reference = with_held_out(reference, planes, config.seed, allow_own_rules=True)
    reference = reference.model_copy(update={"power": power})
    with drafts("reference", "reports/calibrate") as (folder, pictures):
        reference.save(folder / "reference.json")
        calibration_sheet([verdict.measures for verdict in real], reference, pictures / "limits.png")
        verdict_sheet(windows[:, 0].numpy(), real, pictures / "windows.png")
        defect_sheet(planted, pictures / "planted_defects.png")
    rates = {"pass_rate": reference.calibration_pass_rate, "held_out_pass_rate": reference.held_out_pass_rate}
    stage.tracker.metrics({name: rate for name, rate in rates.items() if rate is not None})
    stage.tracker.metrics({f"power.{name}": one.rejected for name, one in power.items()})
    stage.tracker.artifact("reference/reference.json", "reports/calibrate")


if __name__ == "__main__":
    run(main)
