"""Find the discs of real windows and measure them: ``python -m stages.measure_real``."""

from pathlib import Path

from microgan.scan.config import ScanConfig
from microgan.scan.planes import Planes
from microgan.validity.calibration import CalibrationConfig
from microgan.validity.real_measures import RealMeasures
from stages.stage import Stage, naming, run

# Of calibrate: what finds and measures discs. The rest sets limits, and this stage does not depend on it.
SETTINGS = ("windows", "detector", "planted", "seed")


def main(stage: Stage) -> None:
    """Write real_measures, and reference/standard.json: the rules by which training scores checkpoints."""
    config = stage.config("calibrate", CalibrationConfig)
    planes = Planes.load(Path("data/planes"))
    stage.tracker.dataset(planes.info.name, planes.info.planes_sha256, "data/planes", "calibration")
    with naming(f"scans.{planes.info.name}", ScanConfig):
        real = RealMeasures.of(planes, stage.window_px, config)
        standard = real.standard()
    with stage.drafts("real_measures", "reference/standard.json") as (folder, reference):
        real.save(folder)
        standard.save(reference)
    windows = [*real.calibration.circles, *real.held_out.circles]
    discs = sum(map(len, windows))
    planted = len(real.defects.places)
    stage.say(f"{discs} discs in {len(windows)} real windows; {planted} windows with a planted defect")


if __name__ == "__main__":
    run(main)
