"""Write the valid samples of one model as files that solvers read: ``python -m stages.export dcgan``."""

from pathlib import Path

import numpy as np
import torch

from microgan.core.files import read_json, write_json
from microgan.evaluation.homogenisation import Phase, PropertiesConfig
from microgan.exporters.export import SIDECAR, ExportConfig, empty_sidecar, export
from microgan.validity.judging import phase_image
from microgan.validity.reference import Reference
from stages.project import git_commit
from stages.samples import Samples, read_samples
from stages.stage import Stage, drafts, run, section


def main(stage: Stage) -> None:
    """Write exports/MODEL."""
    name = stage.model
    reference = Reference.load(Path("reference/reference.json"))
    config = stage.config("export", ExportConfig).or_voxel_size(reference.scan.voxel_size_um)
    folder = Path("samples") / name
    samples = read_samples(folder)
    provenance = {
        **read_json(folder / "generated.json"),
        "git_commit": git_commit(),
        "source_digest": reference.scan.source_digest,
        "planes_sha256": reference.scan.planes_sha256,
        "mask_sha256": reference.scan.mask_sha256,
        "parameters": {path: section(stage.params, path) for path in _parameters(name)},
    }
    with drafts(f"exports/{name}") as (out,):
        if samples.valid.any():
            solved = stage.config("properties", PropertiesConfig)
            materials = dict(zip(config.phases, (solved.matrix, solved.discs), strict=True))
            _export_valid(samples, reference, provenance, out, config, materials)
        else:  # the report, which comes later, will show why
            rows, cols = samples.grey.shape[1:]
            write_json(out / SIDECAR, empty_sidecar((rows, cols), provenance, config, "no sample is valid"))
    stage.tracker.artifact(f"exports/{name}/{SIDECAR}")


def _parameters(name: str) -> tuple[str, ...]:
    """Name the sections of params.yaml that samples of a model come from."""
    return "train", f"models.{name}", "generate", "calibrate", "export"


def _export_valid(
    samples: Samples,
    reference: Reference,
    provenance: dict[str, object],
    out: Path,
    config: ExportConfig,
    materials: dict[str, Phase],
) -> None:
    kept = np.flatnonzero(samples.valid)
    images = torch.from_numpy(reference.scan.normalise(samples.grey[kept]))[:, None]
    phase = phase_image(images, reference).reshape(samples.grey[kept].shape).numpy()
    export(
        samples.grey[kept],
        phase,
        [samples.circles[index] for index in kept],
        provenance,
        out,
        config,
        verdicts=[samples.verdicts[index] for index in kept],
        sources=[f"generated.tif[{index}]" for index in kept],
        periodic=bool(provenance.get("periodic", False)),
        materials=materials,
    )


if __name__ == "__main__":
    run(main)
