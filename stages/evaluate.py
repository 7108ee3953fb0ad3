"""Compare the samples of one model or of the baseline with held-out windows.

``python -m stages.evaluate dcgan``, or ``random_packing``.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from microgan.core.json_files import write_json
from microgan.evaluation.fidelity import evaluate, fidelity_headline
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.image_metrics import (
    ImageMetricsConfig,
    RealImageStatistics,
    image_headline,
    image_metrics,
)
from microgan.evaluation.memorisation import NearestCorrelation
from microgan.evaluation.qualified_judge import QualifiedJudge, judge_headline
from microgan.evaluation.real_statistics import FidelityConfig, MeasuredImages, RealStatistics
from microgan.report.figures.windows import image_sheet, judge_sheet, nearest_window_sheet
from microgan.scan.planes import Planes
from stages.samples import DESCRIPTORS, NEAREST, read_samples
from stages.stage import Stage, flatten, run

# Of each descriptor, in the table of runs; the rest is in the files.
SHOWN = (".value", ".error", ".ratio", ".p")


def main(stage: Stage) -> None:
    """Write metrics/MODEL/headline.json, fidelity.json and curves.json, and pictures in reports/evaluate."""
    name = stage.model_or_baseline
    config = stage.config("evaluate", FidelityConfig)
    properties = stage.config("properties", PropertiesConfig)
    image_config = stage.config("image_metrics", ImageMetricsConfig)
    planes, folder = Planes.load(Path("data/planes")), Path("samples") / name
    samples = read_samples(folder)
    images = torch.from_numpy(planes.info.normalise(samples.grey))[:, None]
    measured = MeasuredImages.load(folder / DESCRIPTORS)
    statistics = RealStatistics.load(Path("real_statistics"))
    fidelity = evaluate(measured, samples.valid, statistics, config, properties)

    real_images = RealImageStatistics.load(Path("real_statistics"))
    nearest = NearestCorrelation.load(folder / NEAREST)
    as_images = image_metrics(images, samples.valid, nearest, real_images, planes, image_config)

    judge = QualifiedJudge.load(Path("real_statistics"))
    judged = judge.samples(images, samples.valid)
    worst = judge.worst(images[torch.from_numpy(samples.valid)])

    figures = fidelity_headline(fidelity.metrics) | image_headline(as_images.metrics) | judge_headline(judged)
    outputs = [f"metrics/{name}/{file}.json" for file in ("headline", "fidelity", "curves")]
    pictures = ("", "_judge", "_given_away")
    outputs += [f"reports/evaluate/{name}{picture}.png" for picture in pictures]
    with stage.drafts(*outputs) as (short, summary, curves, picture, worst_picture, unlike_picture):
        write_json(short, figures)
        write_json(summary, fidelity.metrics | {"images": as_images.metrics | {"judge": judged}})
        write_json(curves, fidelity.curves)
        nearest_window_sheet(
            {
                "sample": as_images.nearest_training_windows,
                "real, held out": real_images.nearest_training_windows,
            },
            picture,
            voxel_size_um=planes.info.voxel_size_um,
        )
        judge_sheet(worst, worst_picture, voxel_size_um=planes.info.voxel_size_um)
        unlike = images[torch.from_numpy(as_images.given_away), 0].numpy()
        image_sheet("all samples", unlike, unlike_picture, voxel_size_um=planes.info.voxel_size_um)
    stage.say(f"{name}: {found(figures)}")
    shown = {key: value for key, value in flatten(fidelity.metrics).items() if key.endswith(SHOWN)}
    stage.tracker.metrics({key: value for key, value in shown.items() if value is not None})
    stage.tracker.headline({f"{name}.{key}": value for key, value in figures.items()})
    stage.tracker.artifact(*outputs)


def found(figures: Mapping[str, float | None]) -> str:
    """Say the headline figures that are known."""
    shown = (
        "flagged",
        "two_point_correlation.ratio",
        "stiffness.difference",
        "kernel_distance",
        "judge_flagged",
    )
    known = [f"{name} {figures[name]:.3g}" for name in shown if figures.get(name) is not None]
    return ", ".join(known) or "no valid samples to compare"


if __name__ == "__main__":
    run(main)
