"""`microgan export`: images as files that solvers read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from microgan.commands.images import ReferenceFile, must_contain_window, written
from microgan.core.errors import UserError
from microgan.exporters.export import ExportConfig
from microgan.exporters.export import export as export_structures
from microgan.exporters.export_input import ExportInput, phase_from_labels
from microgan.samples.card import SampleCard, source_of
from microgan.scan.images import image_files, stack
from microgan.validity.large_images import judge_any_size
from microgan.validity.phase import phase_image

FIGURES = (
    "structures",
    "rows",
    "cols",
    "voxel_size_um",
    "length_unit",
)  # of export.json, printed with --json


def export(
    images: Sequence[Path],
    reference_file: ReferenceFile | None,
    periodic: bool | None,
    out: Path,
    config: ExportConfig,
) -> dict[str, Any]:
    """Write images as files that solvers read.

    With a reference, images are grey and are judged; without, they are phase images of two values. Where
    ``periodic`` or the voxel size is `None`, the cards beside the images decide, then the reference.
    """
    names, pages = stack(images)
    cards = {path: SampleCard.beside(path) for path in image_files(images)}
    if config.voxel_size_um is None:
        config = config.or_voxel_size(_common_value("voxel_size_um", cards))
    if periodic is None:
        periodic = bool(_common_value("periodic", cards))
    provenance: dict[str, Any] = {
        "source": [source_of(path, card) for path, card in cards.items()],
        "periodic": periodic,
    }
    if reference_file is None:
        phase = phase_from_labels(pages, ", ".join(map(str, images)))
        inputs = ExportInput(phase, sources=names, periodic=periodic)
    else:
        reference = reference_file.load()
        must_contain_window(names[0], pages[0].shape, reference.window_px, reference_file)
        grey = torch.from_numpy(reference.scan.normalise(pages))[:, None]
        verdicts = judge_any_size(grey, reference, periodic, progress=False)
        provenance |= {"reference_sha256": reference_file.sha256}
        config = config.or_voxel_size(reference.scan.voxel_size_um)
        inputs = ExportInput(
            phase_image(grey, reference).numpy(),
            pages,
            [verdict.circles for verdict in verdicts],
            verdicts,
            names,
            periodic,
        )
    sidecar = export_structures(inputs, provenance, out, config)
    figures = {name: sidecar[name] for name in FIGURES}
    return {"files": written(folder=out), **figures, "periodic": periodic, "formats": config.formats}


def _common_value(name: str, cards: Mapping[Path, SampleCard | None]) -> Any:
    """Return the value that all cards agree on, none where there are no cards."""
    values = {path: getattr(card, name, None) for path, card in cards.items()}
    first = next(iter(values))
    for path, value in values.items():
        if value != values[first]:
            option = f"--{name.replace('_', '-')}"
            raise UserError(path, f"{name} {value}", f"must be {values[first]} as {first}, or give {option}")
    return values[first]
