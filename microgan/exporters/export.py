"""Structures as files that viewers and solvers read, with units and provenance.

Every export is one folder::

    export.json     unit, axes, phases, provenance, verdicts, SHA-256: `microgan.exporters.sidecar.Sidecar`
    manifest.csv    one row a structure, with its files
    grey.tif        tiff: grey values, one page a structure (where grey values are known)
    phase.tif       tiff: phase ids, one page a structure
    circles.csv     csv: circles, in pixels and, where the voxel size is known, in the length unit
    phases.csv      csv: one row a phase of a structure
    circles.json    json: circles by structure
    vti/*.vti       a folder for each format that has a file for each structure

The phase is that of the grey values, with all their irregularities, or clean discs drawn from the circles, as
fine as wanted. Drawn finer, pixels and voxels in all files are those of the drawing, and there are no grey
values.

Phase ids are the same in all files but legacy VTK, which counts from 1: 0 is the matrix, 1 the disc phase, 2
a layer around the discs, where one is asked for. A voxel size that is not known stays unknown: lengths are
then in voxels ("px"), the spacing is 1, and files say so where their format allows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from microgan import __version__
from microgan.core.config import Config, VoxelSizeUm
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.files import atomic, file_sha256
from microgan.core.json_files import read_json, write_json
from microgan.core.notes import warn
from microgan.core.tables import write_csv
from microgan.detection.circles import Circles
from microgan.exporters.deck_record import DeckKind
from microgan.exporters.export_input import ExportInput
from microgan.exporters.formats.abaqus import ABAQUS
from microgan.exporters.formats.abaqus_mesh import ABAQUS_MESH
from microgan.exporters.formats.format import Format, JointFormat
from microgan.exporters.formats.hdf5 import HDF5
from microgan.exporters.formats.mesh import ELEMENT_SIZE, LARGEST_SIZE, MSH, VTU, must_be_few_triangles
from microgan.exporters.formats.nrrd import NRRD
from microgan.exporters.formats.tables import CSV, JSON
from microgan.exporters.formats.tiff import TIFF
from microgan.exporters.formats.vtk import LEGACY, VTI
from microgan.exporters.interphase import must_fit_between, must_resolve, render_with_interphase
from microgan.exporters.sidecar import JudgedStructure, Sidecar
from microgan.exporters.structure import DISCS, Elastic, LengthUnit, Structure
from microgan.statistics.point_patterns import Discs

SIDECAR, MANIFEST = "export.json", "manifest.csv"
MOST_VOXELS = 1_000_000_000  # of one structure
NO_CIRCLES = "needs circles: give --reference, by which they are found"

FORMATS: dict[str, Format] = {
    "vti": VTI,
    "vtk": LEGACY,
    "hdf5": HDF5,
    "nrrd": NRRD,
    "inp": ABAQUS,
    "inp-mesh": ABAQUS_MESH,
    "msh": MSH,
    "vtu": VTU,
}
MESHES = {name for name, format in FORMATS.items() if format.is_mesh}
SPLITTING = {name for name, format in FORMATS.items() if format.splits_interface}
WITH_HOLES = {name for name, format in FORMATS.items() if format.takes_holes}
JOINT_FORMATS: dict[str, JointFormat] = {"tiff": TIFF, "csv": CSV, "json": JSON}


def decks_of(kind: DeckKind | None) -> set[str]:
    """Return the names of the formats that have a deck of that kind."""
    return {name for name, format in FORMATS.items() if format.takes_deck and kind in format.decks}


def known_formats() -> dict[str, str]:
    """Return the description of each format by its name."""
    return {name: format.description for name, format in _formats().items()}


def _formats() -> dict[str, Format | JointFormat]:
    return {**FORMATS, **JOINT_FORMATS}


def _known(name: str) -> str:
    if name not in known_formats():
        raise PydanticCustomError("format", "must be one of {known}", {"known": ", ".join(known_formats())})
    return name


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise PydanticCustomError("distinct", "must not name one twice")
    return names


FormatName = Annotated[str, AfterValidator(_known)]
PhaseName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_. -]*$", max_length=40)]  # a set in solvers


class ExportConfig(Config):
    """What is written; a voxel size given here replaces that of the scan.

    Of structures that were judged only the valid ones are written, unless ``include_invalid`` says so.
    """

    formats: Annotated[tuple[FormatName, ...], AfterValidator(_distinct)] = Field(
        default=("vti", "tiff", "csv"), min_length=1
    )
    voxel_size_um: VoxelSizeUm | None = None
    length_unit: LengthUnit = "um"
    phase_from: Literal["grey", "circles"] = "grey"
    refinement: int = Field(default=1, ge=1, le=64)
    extrude_voxels: int = Field(default=1, ge=1)
    element_size: float = Field(default=ELEMENT_SIZE, gt=0, le=LARGEST_SIZE)
    phases: Annotated[tuple[PhaseName, PhaseName], AfterValidator(_distinct)] = ("matrix", "fibre")
    limit: int | None = Field(default=None, ge=1)
    include_invalid: bool = False
    deck: DeckKind | None = None
    holes: tuple[PhaseName, ...] | None = None
    split_interface: bool = False
    interphase_um: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    interphase: PhaseName = "interphase"
    interphase_material: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.interphase_um and self.phase_from != "circles":
            rule = "interphase_um needs phase_from circles: a layer follows the discs"
            raise PydanticCustomError("interphase", rule)
        _distinct(self.all_phases)
        if self.refinement > 1 and self.phase_from != "circles":
            rule = "refinement above 1 needs phase_from circles: grey values have no finer detail"
            raise PydanticCustomError("refinement", rule)
        return self

    def or_voxel_size(self, voxel_size_um: float | None) -> "ExportConfig":
        """Take the scan's ``voxel_size_um`` where these parameters give none."""
        return self.model_copy(update={"voxel_size_um": self.voxel_size_um or voxel_size_um})

    @property
    def all_phases(self) -> tuple[str, ...]:
        """Names of the phases by their ids."""
        return (*self.phases, self.interphase) if self.interphase_um else self.phases

    def holes_of(self, discs_are_dark: bool) -> tuple[str, ...]:
        """Return the phases that meshes leave out: where nothing is said, dark discs, which are voids."""
        if self.holes is None:
            return (self.phases[DISCS],) if discs_are_dark else ()
        return self.holes


def export(
    inputs: ExportInput,
    provenance: Mapping[str, Any],
    out: str | Path,
    config: ExportConfig,
    materials: Mapping[str, Elastic] | None = None,
) -> dict[str, Any]:
    """Write structures to a folder, which is replaced as a whole or left as it was.

    Of structures with verdicts, only the valid ones: see ``include_invalid`` of the parameters.

    Parameters
    ----------
    inputs
        Images, circles and verdicts of the structures.
    provenance
        Where the structures come from, kept as it is: model hash, seed, git commit, scan digest ...
    out
        Folder to write. It may exist if it is empty or an earlier export.
    config
        Parameters.
    materials
        Elastic constants by the names of the phases, for formats that hold them.

    Returns
    -------
    dict
        The content of ``export.json``.

    Raises
    ------
    UserError
        If a format needs a voxel size or circles that are not known, no structure is valid, or the folder
        cannot or must not be replaced.
    """
    _check_meshes(config)
    _check_needs(config, inputs)
    _check_size(config, inputs)
    _check_materials(config, materials)
    judged, valid = len(inputs.verdicts or ()), int(inputs.is_valid.sum())
    if not config.include_invalid:
        inputs = _valid(inputs)
    _check_interphase(config, inputs)
    structures = [
        _structure(inputs, index, config, materials) for index in range(len(inputs))[: config.limit]
    ]
    with_holes = sorted(set(config.formats) & WITH_HOLES)
    if config.holes is None and inputs.discs_are_dark and with_holes:
        name = config.phases[DISCS]
        warn(
            f"{', '.join(with_holes)}: {name} is dark, so left out as holes; to keep it: --phase {name}=solid"
        )
    with _replaced(Path(out)) as folder:
        for name in config.formats:
            if name in JOINT_FORMATS:
                JOINT_FORMATS[name].write(structures, folder)
            else:
                _write_single(structures, folder / name, FORMATS[name], config)
        _write_manifest(folder / MANIFEST, structures, inputs, config)
        verdicts = [
            JudgedStructure(
                structure=structure.name, valid=bool(verdict.valid), reasons=list(verdict.reasons)
            )
            for structure, verdict in zip(structures, inputs.verdicts or (), strict=False)
        ]
        files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in _files_in(folder)}
        fields = {"structures": len(structures), "files": files, "verdicts": verdicts}
        fields |= {"judged": judged, "judged_valid": valid if judged else 0}
        content = _sidecar(structures[0], provenance, config, **fields).content()
        write_json(folder / SIDECAR, content)
    return content


def empty_sidecar(
    shape: tuple[int, int], judged: int, provenance: Mapping[str, Any], config: ExportConfig
) -> dict[str, Any]:
    """Return the content of ``export.json`` where no structure is valid, and so none is written.

    Parameters
    ----------
    shape
        Rows and columns that structures would have had.
    judged
        Number of structures that were judged.
    provenance, config
        As of `export`.
    """
    blank = _structure(ExportInput(np.zeros((1, *shape), bool)), 0, config)
    fields = {"structures": 0, "files": {}, "verdicts": [], "judged": judged, "judged_valid": 0}
    fields |= {"note": f"0 of {judged} valid: nothing is written"}
    return _sidecar(blank, provenance, config, **fields).content()


def _valid(inputs: ExportInput) -> ExportInput:
    """Leave out what is not valid."""
    if not inputs.is_valid.any():
        counts = Counter(reason for verdict in inputs.verdicts or () for reason in verdict.reasons)
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
        given = f"0 of {len(inputs)} valid" + (f" (rejected for {reasons})" if reasons else "")
        raise UserError("structures", given, "one must be valid, or include_invalid must be set")
    return inputs.where(inputs.is_valid)


def _check_meshes(config: ExportConfig) -> None:
    """Refuse decks, holes and interfaces that no format has, and holes that leave nothing."""
    with_deck = decks_of(config.deck)
    if config.deck is not None and not set(config.formats) & with_deck:
        raise UserError("export.deck", config.deck, f"needs format {' or '.join(sorted(with_deck))}")
    if config.split_interface and not set(config.formats) & SPLITTING:
        raise UserError("export.split_interface", "true", f"needs format {' or '.join(sorted(SPLITTING))}")
    for name in config.holes or ():
        if name not in config.all_phases:
            rule = f"must be one of the phases, {', '.join(config.all_phases)}"
            raise UserError("export.holes", name, rule)
    if config.holes and not set(config.formats) & WITH_HOLES:
        rule = f"needs format {' or '.join(sorted(WITH_HOLES))}: the others keep every phase"
        raise UserError("export.holes", ", ".join(config.holes), rule)
    if set(config.holes or ()) == set(config.all_phases):
        raise UserError("export.holes", ", ".join(config.all_phases), "must leave a phase that is solid")


def _check_needs(config: ExportConfig, inputs: ExportInput) -> None:
    """Refuse what would need a voxel size or circles that are not known."""
    rule = "needs a voxel size: give --voxel-size-um, or voxel_size_um in the parameters"
    if config.voxel_size_um is None and config.length_unit != "um":  # um is only what known lengths are in
        raise UserError("length unit", config.length_unit, rule)
    if config.phase_from == "circles" and inputs.circles is None:
        raise UserError("phase_from", "circles", NO_CIRCLES)
    for name in config.formats:
        format = _formats()[name]
        if format.needs_voxel_size and config.voxel_size_um is None:
            raise UserError("format", name, rule)
        if format.needs_circles and inputs.circles is None:
            raise UserError("format", name, NO_CIRCLES)


def _check_materials(config: ExportConfig, materials: Mapping[str, Elastic] | None) -> None:
    """Refuse an interphase of unknown material beside phases of known ones."""
    is_hole = config.interphase in (config.holes or ())
    if config.interphase_um and materials is not None and config.interphase not in materials and not is_hole:
        rule = "needs a material, as the other phases have: give interphase_material (--interphase-material)"
        raise UserError("export.interphase_um", config.interphase_um, rule)


def _check_interphase(config: ExportConfig, inputs: ExportInput) -> None:
    """Refuse a layer that voxels do not resolve, or that is too thick for the gaps between the discs."""
    if not config.interphase_um:
        return
    if config.voxel_size_um is None:
        rule = "needs a voxel size: give --voxel-size-um, or voxel_size_um in the parameters"
        raise UserError("export.interphase_um", config.interphase_um, rule)
    if not set(config.formats) <= MESHES | {"json"}:
        must_resolve(config.interphase_um, config.voxel_size_um, config.refinement)
    circles = inputs.circles or ()
    named = [(f"structure_{index:05d}", circles[index]) for index in range(len(circles))[: config.limit]]
    domain = Domain((inputs.phase.shape[1], inputs.phase.shape[2]), inputs.periodic)
    must_fit_between(named, domain, config.interphase_um, config.voxel_size_um)


def _check_size(config: ExportConfig, inputs: ExportInput) -> None:
    """Refuse structures that no solver could read, before memory is full."""
    _, rows, cols = inputs.phase.shape
    voxels = rows * cols * config.refinement**2 * config.extrude_voxels
    if voxels > MOST_VOXELS:
        name = "extrude_voxels" if config.extrude_voxels > 1 else "refinement"
        rule = f"a structure would have {voxels:.1e} voxels, must have at most {MOST_VOXELS:.0e}: lower it"
        raise UserError(f"export.{name}", getattr(config, name), rule)
    if inputs.circles is not None and any(name in MESHES for name in config.formats):
        for circles in inputs.circles:
            must_be_few_triangles(
                circles, Domain((rows, cols), inputs.periodic), config.element_size, "export.element_size"
            )


def _structure(
    inputs: ExportInput, index: int, config: ExportConfig, materials: Mapping[str, Elastic] | None = None
) -> Structure:
    circles = inputs.circles[index] if inputs.circles is not None else None
    flat = Structure(
        name=f"structure_{index:05d}",
        phase=inputs.phase[index].astype(np.uint8)[None],
        circles=circles,
        grey=inputs.grey[index] if inputs.grey is not None else None,
        voxel_size_um=config.voxel_size_um,
        length_unit=config.length_unit,
        periodic=inputs.periodic,
        phases=config.all_phases,
        materials=materials,
        holes=config.holes_of(inputs.discs_are_dark),
    )
    if config.phase_from == "circles" and circles is not None:
        flat = _drawn(flat, circles, config.refinement, config.interphase_um)
    return flat.extruded(config.extrude_voxels)


def _drawn(flat: Structure, circles: Discs, refinement: int, interphase_um: float | None) -> Structure:
    """Draw the phase from circles, ``refinement`` voxels to a pixel, by which all pixels are then counted."""
    layer_px = interphase_um / flat.voxel_size_um if interphase_um and flat.voxel_size_um else 0.0
    phase = render_with_interphase(circles, flat.domain, refinement, layer_px)
    centres = [(axis + 0.5) * refinement - 0.5 for axis in (circles.row, circles.col)]
    return replace(
        flat,
        phase=phase[None],
        circles=Circles.from_table(np.stack([*centres, circles.radius_px * refinement], axis=1)),
        grey=flat.grey if refinement == 1 else None,
        voxel_size_um=flat.voxel_size_um and flat.voxel_size_um / refinement,
        interphase_px=layer_px * refinement,
    )


def _write_single(
    structures: Sequence[Structure], folder: Path, format: Format, config: ExportConfig
) -> None:
    options: dict[str, Any] = {"element_size": config.element_size} if format.is_mesh else {}
    if format.takes_deck:
        options["deck"] = config.deck if config.deck in format.decks else None
    if format.splits_interface:
        options["split_interface"] = config.split_interface
    folder.mkdir()
    for structure in structures:
        format.write(structure, folder / f"{structure.name}{format.suffix}", **options)


def must_be_replaceable(out: Path) -> None:
    """Refuse to replace a folder that has anything but an earlier export, as it was written.

    Raises
    ------
    UserError
        If ``out`` is a file, or has files that no export wrote or that were changed since: a job for a solver
        beside the structures, its results.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(out, "is a file", "export needs a folder")
    present = [path for path in _files_in(out) if not path.name.startswith(".")]
    if not present:
        return
    if not (out / SIDECAR).is_file():
        raise UserError(out, "holds other files", "must be a new or empty folder, or an earlier export")
    files = read_json(out / SIDECAR).get("files", {})
    if not isinstance(files, dict):
        raise UserError(out / SIDECAR, "its files", "must be a section of names and SHA-256: move the folder")
    written = {SIDECAR: None} | files
    for path in present:
        name = path.relative_to(out).as_posix()
        rule = "would be lost, as the folder is replaced: move it, or export to another folder"
        if name not in written:
            raise UserError(path, "is of no export", rule)
        if written[name] is not None and file_sha256(path) != written[name]:
            raise UserError(path, "was changed since it was exported", rule)


@contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``out`` if all goes well."""
    out = out.absolute()
    must_be_replaceable(out)
    try:
        with atomic(out, durable=True) as draft:
            draft.mkdir()
            yield draft
    except OSError as error:
        raise UserError(out, error.strerror or error, "must be a folder that can be written") from error


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sidecar(
    structure: Structure, provenance: Mapping[str, Any], config: ExportConfig, **fields: Any
) -> Sidecar:
    """Describe an export by one of its structures and by ``fields`` that hold for all of them."""
    known = structure.voxel_size_um is not None
    planes, rows, cols = structure.phase.shape
    formats = {name: _formats()[name] for name in config.formats}
    return Sidecar(
        microgan=__version__,
        planes=planes,
        rows=rows,
        cols=cols,
        voxel_size_um=structure.voxel_size_um,
        length_unit=structure.unit,
        spacing=structure.spacing,
        voxel_size_note=None if known else "voxel size unknown: lengths are in voxels, spacing is 1",
        periodic=structure.periodic,
        phase_from=config.phase_from,
        refinement=config.refinement,
        interphase_um=config.interphase_um,
        phases={str(index): name for index, name in enumerate(structure.phases)},
        holes=list(structure.holes) if set(config.formats) & WITH_HOLES else [],
        formats={name: format.description for name, format in formats.items()},
        axis_order={name: format.axes for name, format in formats.items()},
        provenance=dict(provenance),
        **fields,
    )


def _write_manifest(
    path: Path, structures: Sequence[Structure], inputs: ExportInput, config: ExportConfig
) -> None:
    single = [name for name in config.formats if name in FORMATS]
    header = ["structure", "source", "page", *single, "volume_fraction", "circles", "valid", "reasons"]
    rows = []
    for index, structure in enumerate(structures):
        verdict = inputs.verdicts[index] if inputs.verdicts else None
        rows.append(
            [
                structure.name,
                inputs.sources[index] if inputs.sources else "",
                index,
                *(f"{name}/{structure.name}{FORMATS[name].suffix}" for name in single),
                f"{(structure.phase == DISCS).mean():.6f}",
                len(structure.circles.row) if structure.circles is not None else "",
                bool(verdict.valid) if verdict else "",
                " ".join(verdict.reasons) if verdict else "",
            ]
        )
    write_csv(path, header, rows)
