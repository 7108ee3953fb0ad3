"""Describe real windows as samples will be, and find the noise floor: ``python -m stages.survey``."""

from pathlib import Path

from microgan.fidelity import FidelityConfig, RealWindows
from microgan.likeness import LikenessConfig, RealImages
from microgan.planes import Planes
from microgan.properties import PropertiesConfig
from microgan.validity import CalibrationConfig, Reference
from stages.stage import Stage, drafts, run


def main(stage: Stage) -> None:
    """Write survey."""
    config = stage.config("evaluate", FidelityConfig)
    properties = stage.config("properties", PropertiesConfig)
    images = stage.config("likeness", LikenessConfig)
    planes = Planes.load(Path("data/planes"))
    stage.tracker.dataset(planes.info.name, planes.info.digest, "data/planes", "held_out")
    reference = Reference.load(Path("reference/reference.json"))
    asked_for = stage.config("calibrate", CalibrationConfig).names_rules_of(reference)
    real = RealWindows.of(planes, reference, config, properties, allow_own_rules=asked_for)
    looks = RealImages.of(planes, reference, images)
    with drafts("survey") as (folder,):
        real.save(folder)
        looks.save(folder)
    stage.tracker.metrics({f"noise_floor.{name}": value for name, value in real.floor.items()})


if __name__ == "__main__":
    run(main)
