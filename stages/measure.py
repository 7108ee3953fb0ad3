"""Find the discs of all samples of one model or of the baseline, and measure them.

``python -m stages.measure dcgan``, or ``random_packing``.
"""

from pathlib import Path

import torch

from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.image_metrics import ImageMetricsConfig
from microgan.evaluation.memorisation import nearest_correlation
from microgan.evaluation.real_statistics import FidelityConfig, MeasuredImages
from microgan.scan.planes import Planes
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.reference import Reference
from stages.samples import CIRCLES, DESCRIPTORS, LEARNT, MEASURES, NEAREST, read_stack
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Write circles, measures, descriptors and correlations with training windows into samples/MODEL."""
    name = stage.model_or_baseline
    config = stage.config("evaluate", FidelityConfig)
    properties = stage.config("properties", PropertiesConfig)
    image_config = stage.config("image_metrics", ImageMetricsConfig)
    segmentation = Reference.load(Path("reference/standard.json"))
    samples = Path("samples") / name
    images = torch.from_numpy(segmentation.scan.normalise(read_stack(samples / "generated.tif")))[:, None]
    measured = MeasuredWindows.of(images, segmentation).and_learnt(images, LearntFaults.load(LEARNT))
    descriptors = MeasuredImages.of(images, measured.circles, segmentation, config, properties)
    planes = Planes.load(Path("data/planes"))
    nearest = nearest_correlation(images[:, 0].numpy(), planes, seed=image_config.seed)
    outputs = [samples / file for file in (MEASURES, CIRCLES, DESCRIPTORS, NEAREST)]
    with stage.drafts(*outputs) as (measures, circles, described, correlation):
        measured.save(measures, circles)
        descriptors.save(described)
        nearest.save(correlation)
    discs = sum(map(len, measured.circles))
    stage.say(f"{name}: {discs} discs in {len(images)} samples")


if __name__ == "__main__":
    run(main)
