"""Write the valid samples of one model as files that solvers read: ``python -m stages.export dcgan``."""

from pathlib import Path

import torch

from microgan.core.errors import UserError
from microgan.core.json_files import read_json, write_json
from microgan.core.notes import warn
from microgan.evaluation.homogenisation import PhaseProperties, PropertiesConfig
from microgan.exporters.export import SIDECAR, ExportConfig, empty_sidecar, export, must_be_replaceable
from microgan.exporters.export_input import ExportInput
from microgan.samples.card import SampleCard, source_of
from microgan.samples.verdict_file import VERDICT, ModelVerdict
from microgan.validity.reference import Reference
from stages.project import git_commit
from stages.samples import Samples, read_samples
from stages.stage import Stage, run, section


def main(stage: Stage) -> None:
    """Write exports/MODEL."""
    name = stage.model
    reference = Reference.load(Path("reference/reference.json"))
    config = stage.config("export", ExportConfig).or_voxel_size(reference.scan.voxel_size_um)
    folder = Path("samples") / name
    verdict = ModelVerdict.load(Path("models") / name / VERDICT)
    samples, card = read_samples(folder), SampleCard.load(folder / "generated.tif")
    provenance = {
        "source": [source_of(folder / "generated.tif", card)],
        "verdict": verdict.model_dump(mode="json"),
        "periodic": card.periodic,
        "git_commit": git_commit(),
        "source_digest": reference.scan.source_digest,
        "planes_sha256": reference.scan.planes_sha256,
        "mask_sha256": reference.scan.mask_sha256,
        "parameters": {path: section(stage.params, path) for path in _parameters(name)},
    }
    must_be_replaceable(Path(f"exports/{name}"))
    with stage.drafts(f"exports/{name}") as (out,):
        if samples.valid.any():
            solved = stage.config("properties", PropertiesConfig)
            materials = dict(zip(config.phases, (solved.matrix, solved.discs), strict=True))
            if config.interphase_um:
                materials[config.interphase] = named_material(solved, config.interphase_material)
            export(_structures(samples, reference, card.periodic), provenance, out, config, materials)
        else:  # the report, which comes later, will show why
            rows, cols = samples.grey.shape[1:]
            write_json(out / SIDECAR, empty_sidecar((rows, cols), len(samples.grey), provenance, config))
    written = read_json(Path(f"exports/{name}") / SIDECAR)["structures"]
    if not verdict.has_learnt:
        warn(f"exports/{name}: {name} has not learnt the material, whatever passes the rules: not for use")
    of = f"{written} of {len(samples.valid)} samples, {samples.valid.sum()} of them valid"
    stage.say(f"exports/{name}: {of}, as {', '.join(config.formats)}")
    stage.tracker.artifact(f"exports/{name}/{SIDECAR}")


def named_material(properties: PropertiesConfig, name: str | None) -> PhaseProperties:
    """Return a material of ``properties.materials``, for the interphase."""
    if name is None or name not in properties.materials:
        known = ", ".join(properties.materials) or "none"
        rule = f"must name one of properties.materials: {known}"
        raise UserError("export.interphase_material", name, rule)
    return properties.materials[name]


def _parameters(name: str) -> tuple[str, ...]:
    """Name the sections of params.yaml that samples of a model come from."""
    return "train", f"models.{name}", "generate", "calibrate", "export"


def _structures(samples: Samples, reference: Reference, periodic: bool) -> ExportInput:
    """Return the samples with all that is known of each; the export takes the valid ones."""
    images = torch.from_numpy(reference.scan.normalise(samples.grey))[:, None]
    names = [f"generated.tif[{index}]" for index in range(len(samples.grey))]
    return ExportInput.judged(
        images, samples.verdicts, reference, grey=samples.grey, sources=names, periodic=periodic
    )


if __name__ == "__main__":
    run(main)
