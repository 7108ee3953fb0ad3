"""Draw samples from one model, in the scan's own grey values: ``python -m stages.generate dcgan``."""

from pathlib import Path

from microgan.core.files import write_json, write_tiff
from microgan.gan.checkpoint import load_model
from microgan.gan.sampling import SampleConfig, provenance, sample
from microgan.scan.planes import ScanInfo
from stages.stage import Stage, drafts, run


def main(stage: Stage) -> None:
    """Write samples/MODEL/generated.tif and generated.json."""
    name = stage.model
    config = stage.config("generate", SampleConfig)
    generator, card = load_model(Path("models") / name)
    info = ScanInfo.from_mapping(card["scan"], f"models/{name}/model.json: scan")
    size_px = (stage.window_px, stage.window_px)
    images = sample(generator, config.count, size_px, config.seed)
    about = {
        **provenance(card, config.seed, config.count, size_px, periodic=False),
        "voxel_size_um": info.voxel_size_um,
        "scan": info.name,
    }
    outputs = (f"samples/{name}/generated.tif", f"samples/{name}/generated.json")
    with drafts(*outputs) as (stack, sidecar):
        write_tiff(stack, info.denormalise(images[:, 0].numpy()), info.voxel_size_um)
        write_json(sidecar, about)
    stage.tracker.artifact(*outputs)


if __name__ == "__main__":
    run(main)
