"""Draw samples from one model, in the scan's own grey values: ``python -m stages.generate dcgan``."""

from pathlib import Path

from microgan.core.domain import Domain
from microgan.core.files import write_tiff
from microgan.gan.checkpoint import load_model
from microgan.gan.sampling import sample
from microgan.samples.card import SampleCard, SampleConfig, card_path
from microgan.scan.planes import ScanInfo
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Write samples/MODEL/generated.tif and its card, generated.json."""
    name = stage.model
    config = stage.config("generate", SampleConfig)
    generator, model = load_model(Path("models") / name)
    info = ScanInfo.from_mapping(model["scan"], f"models/{name}/model.json: scan")
    domain = Domain((stage.window_px, stage.window_px))
    images = sample(generator, config.count, domain, config.seed)
    samples = Path("samples") / name / "generated.tif"
    outputs = (str(samples), str(card_path(samples)))
    with stage.drafts(*outputs) as (stack, card):
        write_tiff(stack, info.denormalise(images[:, 0].numpy()), info.voxel_size_um)
        SampleCard.of(stack, model, config, domain).write(card)
    stage.tracker.artifact(*outputs)


if __name__ == "__main__":
    run(main)
