"""Compare the samples of one model or of the baseline with held-out windows.

``python -m stages.evaluate dcgan``, or ``packing``.
"""

from pathlib import Path

import torch

from microgan.fidelity import FidelityConfig, Measured, RealWindows, evaluate
from microgan.fidelity import headline as fidelity_headline
from microgan.files import write_json
from microgan.likeness import LikenessConfig, RealImages, likeness
from microgan.likeness import headline as likeness_headline
from microgan.pictures import lookalike_sheet
from microgan.planes import Planes
from microgan.properties import PropertiesConfig
from microgan.validity import Reference
from stages.samples import read_samples
from stages.stage import Stage, drafts, flatten, run

SHOWN = (
    ".value",
    ".error",
    ".ratio",
    ".p",
)  # of each descriptor, in the table of runs; the rest is in the files


def main(stage: Stage) -> None:
    """Write metrics/MODEL/headline.json, fidelity.json and curves.json, and reports/evaluate/MODEL.png."""
    name = stage.model_or_baseline
    config = stage.config("evaluate", FidelityConfig)
    properties = stage.config("properties", PropertiesConfig)
    alike = stage.config("likeness", LikenessConfig)
    reference = Reference.load(Path("reference/reference.json"))
    samples = read_samples(Path("samples") / name)
    images = torch.from_numpy(reference.scan.normalise(samples.grey))[:, None]
    measured = Measured.of(images, samples.verdicts, reference, config, properties)
    fidelity = evaluate(measured, samples.valid, RealWindows.load(Path("survey")), config)

    real, planes = RealImages.load(Path("survey")), Planes.load(Path("data/planes"))
    looks = likeness(images, samples.valid, real, planes, alike)

    figures = fidelity_headline(fidelity.metrics) | likeness_headline(looks.metrics)
    outputs = [f"metrics/{name}/{file}.json" for file in ("headline", "fidelity", "curves")]
    outputs.append(f"reports/evaluate/{name}.png")
    with drafts(*outputs) as (short, summary, curves, picture):
        write_json(short, figures)
        write_json(summary, fidelity.metrics | {"images": looks.metrics})
        write_json(curves, fidelity.curves)
        lookalike_sheet({"sample": looks.lookalikes, "real, held out": real.lookalikes}, picture)
    shown = {key: value for key, value in flatten(fidelity.metrics).items() if key.endswith(SHOWN)}
    stage.tracker.metrics({key: value for key, value in shown.items() if value is not None})
    stage.tracker.headline({f"{name}.{key}": value for key, value in figures.items()})
    stage.tracker.artifact(*outputs)


if __name__ == "__main__":
    run(main)
