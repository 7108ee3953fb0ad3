"""Fit the random packing to training windows, and draw samples from it: ``python -m stages.random_packing``."""

from pathlib import Path

import numpy as np

from microgan.core.files import digest, write_json, write_tiff
from microgan.detection.detect import detect_all
from microgan.evaluation.random_packing import fit_packing
from microgan.gan.sampling import SampleConfig
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference
from stages.project import git_commit
from stages.stage import BASELINE, Stage, drafts, run

FITTED = 500  # training windows, at random


def main(stage: Stage) -> None:
    """Write models/random_packing/packing.json, samples/random_packing/generated.tif and generated.json."""
    config = stage.config("generate", SampleConfig)
    reference = Reference.load(Path("reference/reference.json"))
    planes = Planes.load(Path("data/planes"))
    info = planes.info
    stage.tracker.dataset(info.name, info.digest, "data/planes", "training")
    rng = np.random.default_rng(config.seed)
    windows = Windows(planes, "train", stage.window_px).draw(rng, FITTED)
    circles = detect_all(windows, reference.radius_px, reference.polarity, reference.detector)
    packing = fit_packing(windows, circles, reference)
    size_px = (stage.window_px, stage.window_px)
    images, _ = packing.sample(config.count, size_px, config.seed)

    fitted_sha256 = digest(packing.model_dump_json())  # what a sample comes from, as weights of a model are
    card = {
        "model": BASELINE,
        "window_px": stage.window_px,
        "scan": info.model_dump(),
        "fit": {"windows": FITTED, "seed": config.seed, "git_commit": git_commit()},
        "packing": packing.model_dump(),
        "weights_sha256": fitted_sha256,
    }
    about = {
        "model": BASELINE,
        "weights_sha256": fitted_sha256,
        "seed": config.seed,
        "count": config.count,
        "size_px": size_px,
        "voxel_size_um": info.voxel_size_um,
        "scan": info.name,
    }
    outputs = [f"models/{BASELINE}/packing.json"]
    outputs += [f"samples/{BASELINE}/{file}" for file in ("generated.tif", "generated.json")]
    with drafts(*outputs) as (fitted, stack, sidecar):
        write_json(fitted, card)
        write_tiff(stack, info.denormalise(images[:, 0].numpy()), info.voxel_size_um)
        write_json(sidecar, about)
    stage.tracker.artifact(*outputs)


if __name__ == "__main__":
    run(main)
