"""Learn what faults look like, from real windows and random packings: ``python -m stages.learn_faults``."""

from pathlib import Path

from microgan.core.json_files import read_json
from microgan.scan.planes import Planes
from microgan.validity.calibration import CalibrationConfig
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.random_packing import RandomPacking
from microgan.validity.reference import Reference
from stages.samples import LEARNT, PACKING
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Write reference/learnt_faults.safetensors, the networks of the rule learnt_fault."""
    config = stage.config("calibrate", CalibrationConfig)
    segmentation = Reference.load(Path("reference/standard.json"))
    planes = Planes.load(Path("data/planes"))
    stage.tracker.dataset(planes.info.name, planes.info.planes_sha256, "data/planes", "training")
    packing = RandomPacking.from_mapping(read_json(PACKING).get("packing"), str(PACKING))

    def on_progress(done: float) -> None:
        stage.heartbeat.progress = f"{done:.0%}".replace("%", " %")

    learnt = LearntFaults.learn(planes, segmentation, packing, config.seed, config.learnt, on_progress)
    with stage.drafts(str(LEARNT)) as (file,):
        learnt.save(file)
    stage.tracker.artifact(str(LEARNT))


if __name__ == "__main__":
    run(main)
