"""Measure real windows as samples will be, and their noise floor: ``python -m stages.real_statistics``."""

from pathlib import Path

from microgan.core.json_files import read_json
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.image_metrics import ImageMetricsConfig, RealImageStatistics
from microgan.evaluation.qualified_judge import QualifiedJudge
from microgan.evaluation.real_statistics import FidelityConfig, RealStatistics
from microgan.scan.planes import Planes
from microgan.validity.random_packing import RandomPacking
from microgan.validity.reference import Reference
from stages.samples import PACKING
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Write real_statistics."""
    config = stage.config("evaluate", FidelityConfig)
    properties = stage.config("properties", PropertiesConfig)
    images = stage.config("image_metrics", ImageMetricsConfig)
    planes = Planes.load(Path("data/planes"))
    stage.tracker.dataset(planes.info.name, planes.info.planes_sha256, "data/planes", "held_out")
    segmentation = Reference.load(Path("reference/standard.json"))
    real = RealStatistics.of(planes, segmentation, config, properties)
    real_images = RealImageStatistics.of(planes, segmentation, images)
    packing = RandomPacking.from_mapping(read_json(PACKING).get("packing"), str(PACKING))
    judge = QualifiedJudge.learn(
        planes, segmentation, packing, real_images.held_out, images.seed, images.judge
    )
    with stage.drafts("real_statistics") as (folder,):
        real.save(folder)
        real_images.save(folder)
        judge.save(folder)
    stage.tracker.metrics({f"noise_floor.{name}": value for name, value in real.floor.items()})


if __name__ == "__main__":
    run(main)
