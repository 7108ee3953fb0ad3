"""`microgan export`: images as files that solvers read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microgan.commands.images import ReferenceFile, must_contain_window, must_have_effect, written
from microgan.core.errors import UserError, escaped
from microgan.core.json_files import read_json
from microgan.core.notes import warn
from microgan.core.words import counted
from microgan.evaluation.homogenisation import MATERIALS, PhaseProperties
from microgan.exporters.export import MESHES, SPLITTING, WITH_HOLES, ExportConfig, decks_of
from microgan.exporters.export import export as export_structures
from microgan.exporters.export_input import ExportInput, phase_from_labels
from microgan.exporters.structure import Elastic
from microgan.samples.card import SampleCard, source_of, warn_of_clean
from microgan.samples.verdict_file import LEARNT
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.grey_scale import GreyScale, intensity_window
from microgan.scan.images import image_files, stack, voxel_size_um
from microgan.scan.planes import to_unit_range
from microgan.validity.large_images import judge_any_size

# Of export.json, printed with --json.
FIGURES = ("structures", "judged", "judged_valid", "rows", "cols", "voxel_size_um", "length_unit")
EXTRUDED = {"vti", "vtk", "hdf5", "nrrd", "inp"}  # formats that have planes
WITH_MATERIALS = {"inp", "inp-mesh"}  # others only beside a deck
DEFAULT_CONDUCTIVITY = {"conductivity_w_mk": 1.0}  # which no format holds
NEEDS_LAYER = "needs --interphase-um, the thickness of the layer"
SEAM = 1.5  # step of grey values from one border to the opposite over that between neighbours: no seam


def export(
    images: Sequence[Path],
    reference_file: ReferenceFile | None,
    grey_scale: GreyScale,
    periodic: bool | None,
    out: Path,
    config: ExportConfig,
    materials: Mapping[str, Elastic] | None = None,
    reading: Reading = AS_IT_SAYS,
) -> dict[str, Any]:
    """Write images as files that solvers read.

    With a reference, images are grey and are judged; without, they are phase images of two values. Where
    ``periodic`` is `None`, the cards beside the images decide. Where the voxel size is, the cards, then the
    images' files, then the reference.
    """
    _options_must_have_effect(config, reference_file, grey_scale)
    names, pages = stack(images, reading)
    cards = {path: SampleCard.beside(path) for path in image_files(images)}
    for path, card in cards.items():
        if card is not None and (verdict := card.verdict_on_model) is not None and verdict.verdict != LEARNT:
            warn(f"{path}: its model: {verdict}")
    if periodic is None:
        periodic = bool(_common_value("periodic", cards))
        if not periodic and not any(cards.values()) and _borders_fit(pages):
            words = "opposite borders fit together, but no card says periodic: give --periodic if so"
            warn(f"{images[0]}: {words}")
    elif periodic and any(card is not None and not card.periodic for card in cards.values()):
        warn(f"{images[0]}: periodic as asked for, though its card says that opposite borders do not fit")
    provenance: dict[str, Any] = {
        "source": [source_of(path, card) for path, card in cards.items()],
        "periodic": periodic,
    }
    reference = None if reference_file is None else reference_file.load()
    config = _with_voxel_size(
        config, images, cards, None if reference is None else reference.scan.voxel_size_um, reading
    )
    if reference is None or reference_file is None:
        phase = _phase_of(pages, ", ".join(map(str, images)))
        inputs = ExportInput(phase, sources=names, periodic=periodic)
    else:
        must_contain_window(names[0], pages[0].shape, reference.window_px, reference_file)
        warn_of_clean(list(cards))
        window = intensity_window(images, reference.scan, grey_scale, reading)
        grey = torch.from_numpy(to_unit_range(pages, window))[:, None]
        verdicts = judge_any_size(grey, reference, periodic, progress=False)
        provenance |= {"reference_sha256": reference_file.sha256, "intensity_window": window}
        inputs = ExportInput.judged(grey, verdicts, reference, grey=pages, sources=names, periodic=periodic)
    sidecar = export_structures(inputs, provenance, out, config, materials)
    figures = {name: sidecar[name] for name in FIGURES}
    return {"files": written(folder=out), **figures, "periodic": periodic, "formats": config.formats}


def holes_of(phases: Sequence[str], disc_material: str | None) -> tuple[str, ...] | None:
    """Return the names of the phases that are holes, from ``NAME=hole`` and ``NAME=solid``; none: not said.

    Discs of a material are solid, unless they are said to be holes.

    Raises
    ------
    UserError
        If it is neither, or a phase is named twice.
    """
    if not phases:
        return None if disc_material is None else ()
    kinds: dict[str, str] = {}
    for given in phases:
        name, _, kind = given.rpartition("=")
        if not name or kind not in ("hole", "solid"):
            raise UserError("--phase", given, "must be NAME=hole or NAME=solid, such as void=hole")
        if name in kinds:
            raise UserError("--phase", given, "must not name a phase twice")
        kinds[name] = kind
    return tuple(name for name, kind in kinds.items() if kind == "hole")


def materials_of(disc: str | None, matrix: str | None, config: ExportConfig) -> dict[str, Elastic] | None:
    """Return the materials by the names of the phases; each is named, or in a JSON file. A hole has none.

    Raises
    ------
    UserError
        If one is given alone, or for a hole, is not known, or no format holds materials.
    """
    named = {"--matrix-material": matrix, "--disc-material": disc}
    layer = "--interphase-material"
    must_have_effect(layer, config.interphase_material is not None, bool(config.interphase_um), NEEDS_LAYER)
    if config.interphase_um:
        named[layer] = config.interphase_material
    given = {option: name for option, name in named.items() if name is not None}
    if not given:
        return None
    option, first = next(iter(reversed(given.items())))
    holding = WITH_MATERIALS | decks_of(config.deck)
    must_have_effect(option, True, bool(set(config.formats) & holding), _needs(holding))
    materials: dict[str, Elastic] = {}
    for (option_of_phase, name), phase in zip(named.items(), config.all_phases, strict=True):
        is_hole = phase in (config.holes or ())
        if is_hole and name is not None:
            raise UserError(option_of_phase, name, f"must not be given, as {phase} is a hole")
        if not is_hole and name is None:
            alone = f"needs {' and '.join(sorted(named))} together, or --phase {phase}=hole"
            raise UserError(option, first, alone)
        if name is not None:
            materials[phase] = material_of(option_of_phase, name)
    return materials


def material_of(option: str, name: str) -> PhaseProperties:
    """Return the material of that name, or of a JSON file of that name; ``option`` is for the error."""
    if name in MATERIALS:
        return MATERIALS[name]
    if Path(name).suffix.lower() == ".json":
        return PhaseProperties.from_mapping({**DEFAULT_CONDUCTIVITY, **read_json(name)}, name)
    rule = "or a JSON file with young_modulus_gpa and poisson_ratio"
    raise UserError(option, name, f"must be {', '.join(MATERIALS)}, {rule}")


def _phase_of(pages: np.ndarray, where: str) -> np.ndarray:
    try:
        return phase_from_labels(pages, where)
    except UserError as error:
        rule = f"{error.args[2]}; grey images need --reference, the reference.json of their material"
        raise UserError(where, error.args[1], rule) from None


def _options_must_have_effect(
    config: ExportConfig, reference: ReferenceFile | None, grey_scale: GreyScale
) -> None:
    """Refuse options that would change nothing in any of the files."""
    formats, default = set(config.formats), ExportConfig()
    is_extruded = config.extrude_voxels != default.extrude_voxels
    must_have_effect("--extrude-voxels", is_extruded, bool(formats & EXTRUDED), _needs(EXTRUDED))
    is_meshed = config.element_size != default.element_size
    must_have_effect("--element-size", is_meshed, bool(formats & MESHES), _needs(MESHES))
    with_deck = decks_of(config.deck)
    must_have_effect("--deck", config.deck is not None, bool(formats & with_deck), _needs(with_deck))
    must_have_effect("--phase", bool(config.holes), bool(formats & WITH_HOLES), _needs(WITH_HOLES))
    must_have_effect(
        "--split-interface", config.split_interface, bool(formats & SPLITTING), _needs(SPLITTING)
    )
    judges = "needs --reference, as only then images are judged"
    must_have_effect("--include-invalid", config.include_invalid, reference is not None, judges)
    grey = "needs --reference, as only then images are grey"
    must_have_effect("--grey-scale", grey_scale == "own", reference is not None, grey)


def _needs(formats: Iterable[str]) -> str:
    return f"needs --format {' or '.join(sorted(formats))}"


def in_words(figures: Mapping[str, Any]) -> str:
    """Return one line: how many were written, and how many were judged valid."""
    structures, folder = figures["structures"], escaped(figures["files"]["folder"])
    judged, valid = figures["judged"], figures["judged_valid"]
    if not judged:
        return f"{counted(structures, 'structure')} written to {folder}"
    if structures == valid:
        return f"{valid} of {judged} valid, written to {folder}"
    return f"{counted(structures, 'structure')} written to {folder}; {valid} of {judged} are valid"


def _with_voxel_size(
    config: ExportConfig,
    images: Sequence[Path],
    cards: Mapping[Path, SampleCard | None],
    of_reference_um: float | None,
    reading: Reading,
) -> ExportConfig:
    """Take the voxel size that stands nearest to the images, and say where others contradict it."""
    given_um = config.voxel_size_um
    stated = {
        "--voxel-size-um": given_um,
        "the sample's card": None if given_um else _common_value("voxel_size_um", cards),
        # with --voxel-size-um, one for all, the files may differ
        f"{images[0]}": voxel_size_um(images if given_um is None else image_files(images)[:1], reading),
        "the reference": of_reference_um,
    }
    known = {name: size for name, size in stated.items() if size is not None}
    if not known:
        return config
    used, size_um = next(iter(known.items()))
    for name, other_um in known.items():
        if abs(other_um - size_um) > 0.01 * size_um:
            warn(f"voxel size: {size_um:g} um, as {used} says; {name} says {other_um:g} um")
    return config.or_voxel_size(size_um)


def _borders_fit(pages: np.ndarray) -> bool:
    """Whether opposite borders continue each other, in all images (N, H, W)."""
    grey = pages.astype(np.float64)
    for axis in (1, 2):
        step = np.abs(np.diff(grey, axis=axis)).mean()
        across = np.abs(grey.take(0, axis) - grey.take(-1, axis)).mean()
        if not across < SEAM * step:
            return False
    return True


def _common_value(name: str, cards: Mapping[Path, SampleCard | None]) -> Any:
    """Return the value that all cards agree on, none where there are no cards."""
    values = {path: getattr(card, name, None) for path, card in cards.items()}
    first = next(iter(values))
    for path, value in values.items():
        if value != values[first]:
            option = f"--{name.replace('_', '-')}"
            raise UserError(path, f"{name} {value}", f"must be {values[first]} as {first}, or give {option}")
    return values[first]
