"""Structures as files that viewers and solvers read, with units and provenance.

Every export is one folder::

    export.json     what it is: unit, axis order, phase table, provenance, verdicts
    manifest.csv    one row a structure
    grey.tif        grey values, one page a structure (where grey values are known)
    phase.tif       phase ids, one page a structure
    circles.csv     circles, in pixels and, where the voxel size is known, in micrometres
    vti/*.vti       one VTK image a structure, for ParaView and DAMASK

Phase ids are the same in all files: 0 is the matrix, 1 the disc phase. A voxel size that is not known stays
unknown: lengths are then in voxels ("px"), the spacing is 1, and ``export.json`` says so.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from microgan import __version__
from microgan.config import Config
from microgan.descriptors import volume_fraction
from microgan.errors import UserError
from microgan.files import atomic, write_csv, write_json, write_tiff
from microgan.point_patterns import Discs

SCHEMA = "microgan-export-1"
SIDECAR, MANIFEST = "export.json", "manifest.csv"
LABEL_PAIRS = ((0, 1), (1, 2), (0, 255), (0, 65535))  # (matrix, disc phase) in foreign files


class ExportConfig(Config):
    """What is written; the voxel size only overrides what the scan says."""

    formats: tuple[Literal["vti", "tiff", "csv"], ...] = Field(
        default=("vti", "tiff", "csv"), min_length=1, description="vti: ParaView, DAMASK; csv: circles"
    )
    voxel_size_um: float | None = Field(
        default=None, gt=0, description="edge of a voxel; none: as the scan says"
    )
    phases: tuple[str, str] = Field(default=("matrix", "fibre"), description="names of phase ids 0 and 1")
    limit: int | None = Field(default=None, ge=1, description="structures written at most; none: all")

    def or_voxel_size(self, voxel_size_um: float | None) -> "ExportConfig":
        """Take the scan's ``voxel_size_um`` where these parameters give none."""
        return self.model_copy(update={"voxel_size_um": self.voxel_size_um or voxel_size_um})


class Verdict(Protocol):
    """A verdict as the export sees it, such as `microgan.validity.Verdict`."""

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

    Returns
    -------
    dict
        The content of ``export.json``.

    Raises
    ------
    UserError
        If shapes do not fit each other, there is no structure, or the folder cannot or must not be replaced.
    """
    count = len(phase) if config.limit is None else min(config.limit, len(phase))
    _check_shapes(images, phase, circles, verdicts, sources)
    names = [f"structure_{index:05d}" for index in range(count)]
    phase = phase[:count]
    sidecar = _sidecar(phase, images, circles, provenance, config)
    sidecar["verdicts"] = [
        {"structure": name, "valid": bool(verdict.valid), "reasons": list(verdict.reasons)}
        for name, verdict in zip(names, verdicts or (), strict=False)
    ]
    with _replaced(Path(out)) as folder:
        ids = phase.astype(np.uint8)
        if "vti" in config.formats:
            (folder / "vti").mkdir()
            for name, plane in zip(names, ids, strict=True):
                (folder / "vti" / f"{name}.vti").write_text(vti(plane[None], config.voxel_size_um))
        if "tiff" in config.formats:
            write_tiff(folder / "phase.tif", ids, config.voxel_size_um)
            if images is not None:
                write_tiff(folder / "grey.tif", images[:count], config.voxel_size_um)
        if "csv" in config.formats and circles is not None:
            _write_circles(folder / "circles.csv", circles[:count], config.voxel_size_um)
        _write_manifest(folder / MANIFEST, names, phase, circles, verdicts, sources, config)
        write_json(folder / SIDECAR, sidecar)
    return sidecar


def vti(phase: np.ndarray, voxel_size_um: float | None = None) -> str:
    """Return the text of a VTK image file of phase ids.

    Written as DAMASK reads it, line by line: cell data named ``material``, ids from 0, Int32, inline base64
    behind a UInt32 byte count, origin 0. ParaView reads it too.

    Parameters
    ----------
    phase
        Phase ids (planes, rows, cols), integers or bool. x runs along columns, y along rows (downwards in the
        image), z along planes.
    voxel_size_um
        Edge of a voxel in micrometres; 1 where unknown.

    References
    ----------
    VTK file formats, https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html
    """
    if phase.ndim != 3 or phase.dtype.kind not in "biu":
        raise UserError(
            "phase", f"{phase.dtype} of shape {phase.shape}", "must be integer (planes, rows, cols)"
        )
    values = np.ascontiguousarray(phase, "<i4").tobytes()  # the last index, columns, is x and runs fastest
    content = base64.b64encode(np.array(len(values), "<u4").tobytes() + values).decode()
    planes, rows, cols = phase.shape
    extent = f"0 {cols} 0 {rows} 0 {planes}"
    spacing = " ".join([repr(1.0 if voxel_size_um is None else float(voxel_size_um))] * 3)
    unit = "voxels, physical size unknown" if voxel_size_um is None else "micrometres"
    return f"""<?xml version="1.0"?>
<!-- microgan {__version__}. Lengths in {unit}. -->
<VTKFile type="ImageData" version="0.1" byte_order="LittleEndian" header_type="UInt32">
  <ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="{spacing}">
    <Piece Extent="{extent}">
      <PointData>
      </PointData>
      <CellData Scalars="material">
        <DataArray type="Int32" Name="material" format="binary">
          {content}
        </DataArray>
      </CellData>
    </Piece>
  </ImageData>
</VTKFile>
"""


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
    phase: np.ndarray,
    images: np.ndarray | None,
    circles: Sequence[Discs] | None,
    provenance: Mapping[str, Any],
    config: ExportConfig,
) -> dict[str, Any]:
    known = config.voxel_size_um is not None
    return {
        "schema": SCHEMA,
        "microgan": __version__,
        "structures": len(phase),
        "rows": phase.shape[1],
        "cols": phase.shape[2],
        "voxel_size_um": config.voxel_size_um,
        "length_unit": "um" if known else "px",
        "voxel_size_note": None if known else "voxel size unknown: lengths are in voxels, spacing is 1",
        "axis_order": {
            "tiff": "page, row, col",
            "vti": "x = col, y = row (downwards in the image), z = plane; origin at the corner of pixel 0, 0",
        },
        "phases": {str(index): name for index, name in enumerate(config.phases)},
        "files": _file_table(images, circles, config),
        "provenance": dict(provenance),
    }


def _file_table(
    images: np.ndarray | None, circles: Sequence[Discs] | None, config: ExportConfig
) -> dict[str, str]:
    table = {MANIFEST: "one row a structure"}
    if "vti" in config.formats:
        table["vti/*.vti"] = "VTK image, cell data 'material' = phase id, one voxel thick"
    if "tiff" in config.formats:
        table["phase.tif"] = "phase ids, uint8, one page a structure"
        if images is not None:
            table["grey.tif"] = f"grey values as in the scan, {images.dtype}, one page a structure"
    if "csv" in config.formats and circles is not None:
        table["circles.csv"] = (
            "circles by page: row, col, radius in px, centre of the first pixel at 0; x_um, y_um, radius_um, "
            "where the voxel size is known, in the coordinates of the VTK images, corner of that pixel at 0"
        )
    return table


def _write_circles(path: Path, circles: Sequence[Discs], voxel_size_um: float | None) -> None:
    header = ["image", "row", "col", "radius"]
    if voxel_size_um is not None:
        header += ["x_um", "y_um", "radius_um"]
    rows = []
    for index, discs in enumerate(circles):
        columns = [discs.row, discs.col, discs.radius]
        if voxel_size_um is not None:  # half a pixel from a centre to the corner, where solvers have 0
            columns += [(axis + 0.5) * voxel_size_um for axis in (discs.col, discs.row)]
            columns += [discs.radius * voxel_size_um]
        rows += [[index, *(f"{value:.8g}" for value in row)] for row in zip(*columns, strict=True)]
    write_csv(path, header, rows)


def _write_manifest(
    path: Path,
    names: Sequence[str],
    phase: np.ndarray,
    circles: Sequence[Discs] | None,
    verdicts: Sequence[Verdict] | None,
    sources: Sequence[str] | None,
    config: ExportConfig,
) -> None:
    header = ["structure", "source", "page", "vti", "volume_fraction", "circles", "valid", "reasons"]
    rows = []
    for index, (name, fraction) in enumerate(zip(names, volume_fraction(phase), strict=True)):
        verdict = verdicts[index] if verdicts else None
        rows.append(
            [
                name,
                sources[index] if sources else "",
                index,
                f"vti/{name}.vti" if "vti" in config.formats else "",
                f"{fraction:.6f}",
                len(circles[index].row) if circles else "",
                bool(verdict.valid) if verdict else "",
                " ".join(verdict.reasons) if verdict else "",
            ]
        )
    write_csv(path, header, rows)
