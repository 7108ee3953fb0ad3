"""Structures as files that viewers and solvers read, with units and provenance.

Every export is one folder::

    export.json     what it is: unit, axes, phases, provenance, verdicts, digests; `microgan.exporters.sidecar.Sidecar`
    manifest.csv    one row a structure, with its files
    grey.tif        tiff: grey values, one page a structure (where grey values are known)
    phase.tif       tiff: phase ids, one page a structure
    circles.csv     csv: circles, in pixels and, where the voxel size is known, in the length unit
    phases.csv      csv: one row a phase of a structure
    circles.json    json: circles by structure
    vti/*.vti       a folder for each format that has files of its own for each structure

The phase is that of the grey values, with all their irregularities, or clean discs drawn from the circles, as
fine as wanted; then pixels and voxels are those of the drawing in all files, and there are no grey values.

Phase ids are the same in all files but legacy VTK, which counts from 1: 0 is the matrix, 1 the disc phase. A
voxel size that is not known stays unknown: lengths are then in voxels ("px"), the spacing is 1, and every
file that can say so says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from microgan import __version__
from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import atomic, file_sha256, write_csv, write_json
from microgan.detection.circles import Circles
from microgan.exporters.formats.abaqus import ABAQUS
from microgan.exporters.formats.format import Format, JointFormat
from microgan.exporters.formats.hdf5 import HDF5
from microgan.exporters.formats.mesh import ELEMENT_SIZE, LARGEST_SIZE, MSH, VTU
from microgan.exporters.formats.nrrd import NRRD
from microgan.exporters.formats.tables import CSV, JSON
from microgan.exporters.formats.tiff import TIFF
from microgan.exporters.formats.vtk import LEGACY, VTI
from microgan.exporters.rendering import render_phase
from microgan.exporters.sidecar import JudgedStructure, Sidecar
from microgan.exporters.structure import DISCS, Elastic, LengthUnit, Structure
from microgan.statistics.point_patterns import Discs

SIDECAR, MANIFEST = "export.json", "manifest.csv"
NO_CIRCLES = "needs circles: give --reference, by which they are found"
LABEL_PAIRS = ((0, 1), (1, 2), (0, 255), (0, 65535))  # (matrix, disc phase) in foreign files

FORMATS: dict[str, Format] = {
    "vti": VTI,
    "vtk": LEGACY,
    "hdf5": HDF5,
    "nrrd": NRRD,
    "inp": ABAQUS,
    "msh": MSH,
    "vtu": VTU,
}
JOINT_FORMATS: dict[str, JointFormat] = {"tiff": TIFF, "csv": CSV, "json": JSON}


def known_formats() -> dict[str, str]:
    """Return the name of each format and one line on it."""
    return {name: format.about for name, format in _formats().items()}


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
    """What is written; the voxel size only overrides what the scan says."""

    formats: Annotated[tuple[FormatName, ...], AfterValidator(_distinct)] = Field(
        default=("vti", "tiff", "csv"), min_length=1, description="names of `known_formats`"
    )
    voxel_size_um: float | None = Field(
        default=None, gt=0, description="edge of a voxel; none: as the scan says"
    )
    length_unit: LengthUnit = Field(default="um", description="of the files, where the voxel size is known")
    phase_from: Literal["grey", "circles"] = Field(
        default="grey", description="grey: by the threshold, every irregularity kept; circles: clean discs"
    )
    refinement: int = Field(
        default=1, ge=1, le=64, description="voxels to a pixel of discs drawn from circles"
    )
    extrude_voxels: int = Field(default=1, ge=1, description="planes, all the same, of the 3D formats")
    element_size: float = Field(
        default=ELEMENT_SIZE, gt=0, le=LARGEST_SIZE, description="of triangles at a rim, over the radius"
    )
    phases: Annotated[tuple[PhaseName, PhaseName], AfterValidator(_distinct)] = Field(
        default=("matrix", "fibre"), description="names of phase ids 0 and 1"
    )
    limit: int | None = Field(default=None, ge=1, description="structures written at most; none: all")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.refinement > 1 and self.phase_from != "circles":
            rule = "refinement above 1 needs phase_from circles: grey values have no finer detail"
            raise PydanticCustomError("refinement", rule)
        return self

    def or_voxel_size(self, voxel_size_um: float | None) -> "ExportConfig":
        """Take the scan's ``voxel_size_um`` where these parameters give none."""
        return self.model_copy(update={"voxel_size_um": self.voxel_size_um or voxel_size_um})


class Verdict(Protocol):
    """A verdict as the export sees it, such as `microgan.validity.judging.Verdict`."""

    @property
    def valid(self) -> bool: ...

    @property
    def reasons(self) -> Sequence[str]: ...


def export(
    images: np.ndarray | None,
    phase: np.ndarray,
    circles: Sequence[Discs] | None,
    provenance: Mapping[str, Any],
    out: Path,
    config: ExportConfig,
    *,
    verdicts: Sequence[Verdict] | None = None,
    sources: Sequence[str] | None = None,
    periodic: bool = False,
    materials: Mapping[str, Elastic] | None = None,
) -> dict[str, Any]:
    """Write structures to a folder, which is replaced as a whole or left as it was.

    Parameters
    ----------
    images
        Grey values (N, H, W) in the scan's own type, if there are any.
    phase
        Phase (N, H, W) of bool, true in the disc phase.
    circles
        The circles of each structure in pixels, if they are known.
    provenance
        Where the structures come from, kept as it is: model hash, seed, git commit, scan digest ...
    out
        Folder to write. It may exist if it is empty or an earlier export.
    config
        Parameters.
    verdicts
        Verdict of each structure, if it was judged.
    sources
        Name of each structure where it comes from, such as ``generated.tif[12]``.
    periodic
        Whether opposite borders fit together.
    materials
        Elastic constants by the names of the phases, for formats that hold them.

    Returns
    -------
    dict
        The content of ``export.json``.

    Raises
    ------
    UserError
        If shapes do not fit each other, there is no structure, a format needs a voxel size or circles that
        are not known, or the folder cannot or must not be replaced.
    """
    _check_shapes(images, phase, circles, verdicts, sources)
    _check_needs(config, circles)
    structures = _structures(images, phase, circles, config, periodic, materials)
    with _replaced(Path(out)) as folder:
        for name in config.formats:
            if name in JOINT_FORMATS:
                JOINT_FORMATS[name].write(structures, folder)
            else:
                _write_each(structures, folder / name, FORMATS[name], config)
        _write_manifest(folder / MANIFEST, structures, verdicts, sources, config)
        content = _sidecar(structures, folder, provenance, verdicts or (), config).content()
        write_json(folder / SIDECAR, content)
    return content


def empty_sidecar(
    shape: tuple[int, int], provenance: Mapping[str, Any], config: ExportConfig, note: str
) -> dict[str, Any]:
    """Return the content of ``export.json`` where no structure of ``shape`` (rows, cols) is left to write.

    Parameters
    ----------
    shape
        Rows and columns that structures would have had.
    provenance
        As of `export`.
    config
        As of `export`.
    note
        Why there are none.
    """
    blank = _structure("", np.zeros(shape, bool), None, None, config, periodic=False)
    return _describe(blank, provenance, config, structures=0, files={}, verdicts=[], note=note).content()


def phase_from_labels(labels: np.ndarray, where: object) -> np.ndarray:
    """Tell the disc phase in images of labels from elsewhere.

    The values of all images together must be bool or one of the pairs (matrix, disc phase) 0/1, 1/2, 0/255,
    0/65535. Images of one value only are taken if just one pair has it: all 1 could be either phase.

    Parameters
    ----------
    labels
        Images (N, H, W).
    where
        File, for the message of the error.

    Returns
    -------
    ndarray of shape (N, H, W)
        Bool, true in the disc phase.

    Raises
    ------
    UserError
        If the values are no such pair.

    Examples
    --------
    >>> phase_from_labels(np.array([[[1, 2]]]), "cell.tif")
    array([[[False,  True]]])
    """
    values = np.unique(labels)
    rule = "phase image must hold two values: 0/1, 1/2, 0/255 or 0/65535 (matrix/disc phase)"
    if len(values) > 2:
        raise UserError(where, f"{len(values)} values from {values[0]} to {values[-1]}", rule)
    pairs = [pair for pair in LABEL_PAIRS if set(values.tolist()) <= set(pair)]
    if not pairs or len({values[-1] == pair[1] for pair in pairs}) > 1:
        raise UserError(where, " and ".join(map(str, values)), rule)
    return labels == pairs[0][1]


def _check_shapes(
    images: np.ndarray | None,
    phase: np.ndarray,
    circles: Sequence[Discs] | None,
    verdicts: Sequence[Verdict] | None,
    sources: Sequence[str] | None,
) -> None:
    if phase.ndim != 3 or phase.dtype != np.bool_ or phase.size == 0:
        given = f"{phase.dtype} of shape {phase.shape}"
        raise UserError("phase", given, "must be bool of shape (N, rows, cols), at least one structure")
    if images is not None and images.shape != phase.shape:
        raise UserError("images", f"shape {images.shape}", f"must be as the phase, {phase.shape}")
    for name, rows in (("circles", circles), ("verdicts", verdicts), ("sources", sources)):
        if rows is not None and len(rows) != len(phase):
            raise UserError(name, len(rows), f"must be as many as structures, {len(phase)}")


def _check_needs(config: ExportConfig, circles: Sequence[Discs] | None) -> None:
    """Refuse what would need a voxel size or circles that are not known."""
    rule = "needs a voxel size: give --voxel-size-um, or voxel_size_um in the parameters"
    if config.voxel_size_um is None and config.length_unit != "um":  # um is only what known lengths are in
        raise UserError("length unit", config.length_unit, rule)
    if config.phase_from == "circles" and circles is None:
        raise UserError("phase_from", "circles", NO_CIRCLES)
    for name in config.formats:
        format = _formats()[name]
        if format.needs_voxel_size and config.voxel_size_um is None:
            raise UserError("format", name, rule)
        if format.needs_circles and circles is None:
            raise UserError("format", name, NO_CIRCLES)


def _structures(
    images: np.ndarray | None,
    phase: np.ndarray,
    circles: Sequence[Discs] | None,
    config: ExportConfig,
    periodic: bool,
    materials: Mapping[str, Elastic] | None,
) -> list[Structure]:
    return [
        _structure(
            f"structure_{index:05d}",
            phase[index],
            circles[index] if circles is not None else None,
            images[index] if images is not None else None,
            config,
            periodic,
            materials,
        )
        for index in range(len(phase))[: config.limit]
    ]


def _structure(
    name: str,
    phase: np.ndarray,
    circles: Discs | None,
    grey: np.ndarray | None,
    config: ExportConfig,
    periodic: bool,
    materials: Mapping[str, Elastic] | None = None,
) -> Structure:
    ids = phase.astype(np.uint8)[None]
    size, unit = config.voxel_size_um, config.length_unit
    flat = Structure(name, ids, circles, grey, size, unit, periodic, config.phases, materials)
    if config.phase_from == "circles" and circles is not None:
        flat = _drawn(flat, circles, config.refinement)
    return flat.extruded(config.extrude_voxels)


def _drawn(flat: Structure, circles: Discs, refinement: int) -> Structure:
    """Draw the phase from circles, ``refinement`` voxels to a pixel, by which all pixels are then counted."""
    rows, cols = flat.phase.shape[1:]
    phase = render_phase(circles, (rows, cols), refinement, flat.periodic)
    centres = [(axis + 0.5) * refinement - 0.5 for axis in (circles.row, circles.col)]
    return replace(
        flat,
        phase=phase.astype(np.uint8)[None],
        circles=Circles.from_table(np.stack([*centres, circles.radius_px * refinement], axis=1)),
        grey=flat.grey if refinement == 1 else None,
        voxel_size_um=flat.voxel_size_um and flat.voxel_size_um / refinement,
    )


def _write_each(structures: Sequence[Structure], folder: Path, format: Format, config: ExportConfig) -> None:
    options = {"element_size": config.element_size} if format.is_mesh else {}
    folder.mkdir()
    for each in structures:
        format.write(each, folder / f"{each.name}{format.suffix}", **options)


@contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``out`` if all goes well."""
    out = out.absolute()
    if out.exists() and not out.is_dir():
        raise UserError(out, "is a file", "export needs a folder")
    # It will be replaced, so it must not hold anything that only a slip of the user put at stake.
    if out.is_dir() and any(out.iterdir()) and not (out / SIDECAR).is_file():
        raise UserError(out, "holds other files", "must be a new or empty folder, or an earlier export")
    try:
        with atomic(out) as draft:
            draft.mkdir()
            yield draft
    except OSError as error:
        raise UserError(out, error.strerror or error, "must be a folder that can be written") from error


def _sidecar(
    structures: Sequence[Structure],
    folder: Path,
    provenance: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    config: ExportConfig,
) -> Sidecar:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    judged = [
        JudgedStructure(structure=each.name, valid=bool(verdict.valid), reasons=list(verdict.reasons))
        for each, verdict in zip(structures, verdicts, strict=False)
    ]
    return _describe(structures[0], provenance, config, len(structures), digests, judged)


def _describe(
    one: Structure,
    provenance: Mapping[str, Any],
    config: ExportConfig,
    structures: int,
    files: dict[str, str],
    verdicts: list[JudgedStructure],
    note: str | None = None,
) -> Sidecar:
    known = one.voxel_size_um is not None
    planes, rows, cols = one.phase.shape
    formats = {name: _formats()[name] for name in config.formats}
    return Sidecar(
        microgan=__version__,
        structures=structures,
        planes=planes,
        rows=rows,
        cols=cols,
        voxel_size_um=one.voxel_size_um,
        length_unit=one.unit,
        spacing=one.spacing,
        voxel_size_note=None if known else "voxel size unknown: lengths are in voxels, spacing is 1",
        periodic=one.periodic,
        phase_from=config.phase_from,
        refinement=config.refinement,
        phases={str(index): name for index, name in enumerate(one.phases)},
        formats={name: format.about for name, format in formats.items()},
        axis_order={name: format.axes for name, format in formats.items()},
        files=files,
        provenance=dict(provenance),
        verdicts=verdicts,
        note=note,
    )


def _write_manifest(
    path: Path,
    structures: Sequence[Structure],
    verdicts: Sequence[Verdict] | None,
    sources: Sequence[str] | None,
    config: ExportConfig,
) -> None:
    own = [name for name in config.formats if name in FORMATS]
    header = ["structure", "source", "page", *own, "volume_fraction", "circles", "valid", "reasons"]
    rows = []
    for index, each in enumerate(structures):
        verdict = verdicts[index] if verdicts else None
        rows.append(
            [
                each.name,
                sources[index] if sources else "",
                index,
                *(f"{name}/{each.name}{FORMATS[name].suffix}" for name in own),
                f"{(each.phase == DISCS).mean():.6f}",
                len(each.circles.row) if each.circles is not None else "",
                bool(verdict.valid) if verdict else "",
                " ".join(verdict.reasons) if verdict else "",
            ]
        )
    write_csv(path, header, rows)
