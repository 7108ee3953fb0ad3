"""Fit the random packing to training windows and draw samples: ``python -m stages.random_packing``."""

from pathlib import Path

import numpy as np

from microgan.core.domain import Domain
from microgan.core.files import file_sha256, write_tiff
from microgan.core.json_files import write_json
from microgan.detection.detect import detect_all
from microgan.samples.card import SampleCard, SampleConfig, card_path
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.random_packing import FITTED, fit_packing
from microgan.validity.reference import Reference
from stages.project import git_commit
from stages.stage import BASELINE, Stage, run


def main(stage: Stage) -> None:
    """Write models/random_packing/packing.json, samples/random_packing/generated.tif and generated.json."""
    config = stage.config("generate", SampleConfig)
    segmentation = Reference.load(Path("reference/standard.json"))
    planes = Planes.load(Path("data/planes"))
    info = planes.info
    stage.tracker.dataset(info.name, info.planes_sha256, "data/planes", "training")
    rng = np.random.default_rng(config.seed)
    windows = Windows(planes, "train", stage.window_px).draw(rng, FITTED)
    circles = detect_all(windows, segmentation.detector)
    packing = fit_packing(windows, circles, segmentation)
    domain = Domain((stage.window_px, stage.window_px))
    images, _ = packing.sample(config.count, domain, config.seed)

    about = {
        "model": BASELINE,
        "window_px": stage.window_px,
        "scan": info.model_dump(),
        "fit": {"windows": FITTED, "seed": config.seed, "git_commit": git_commit()},
    }
    samples = Path("samples") / BASELINE / "generated.tif"
    outputs = [f"models/{BASELINE}/packing.json", str(samples), str(card_path(samples))]
    with stage.drafts(*outputs) as (fitted, stack, card):
        write_json(fitted, {**about, "packing": packing.model_dump()})
        write_tiff(stack, info.denormalise(images[:, 0].numpy()), info.voxel_size_um)
        SampleCard.of(stack, about, config, domain, packing_sha256=file_sha256(fitted)).write(card)
    stage.tracker.artifact(*outputs)


if __name__ == "__main__":
    run(main)
