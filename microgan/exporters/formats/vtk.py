"""VTK images: the XML files that ParaView and DAMASK read, and the legacy ones of AMITEX."""

import base64
from pathlib import Path

import numpy as np

from microgan import __version__
from microgan.core.errors import UserError
from microgan.exporters.deck_record import DeckKind
from microgan.exporters.formats.format import Format
from microgan.exporters.formats.spectral_deck import damask_load, damask_material, must_take_spectral_deck
from microgan.exporters.structure import Structure


def vti(structure: Structure) -> str:
    """Return the text of a VTK image file of phase ids.

    Written as DAMASK reads it, line by line: cell data named ``material``, ids from 0, Int32, inline base64
    behind a UInt32 byte count, origin 0. ParaView reads it too.

    References
    ----------
    VTK file formats, https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html
    """
    values = np.ascontiguousarray(structure.phase, "<i4").tobytes()  # the last index, columns, runs fastest
    content = base64.b64encode(np.array(len(values), "<u4").tobytes() + values).decode()
    planes, rows, cols = structure.phase.shape
    extent = f"0 {cols} 0 {rows} 0 {planes}"
    return f"""<?xml version="1.0"?>
<!-- microgan {__version__}, {structure.unit_note} -->
<VTKFile type="ImageData" version="0.1" byte_order="LittleEndian" header_type="UInt32">
  <ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="{_spacing(structure)}">
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


def legacy_vtk(structure: Structure) -> bytes:
    """Return a legacy VTK file of material ids, which are phase ids + 1.

    Written as AMITEX reads it: ten lines of header, then integers of the stated type, high byte first; ids
    from 1 without gaps; sizes in voxels plus 1. The line ends after the integers, as VTK itself ends it.

    Raises
    ------
    UserError
        If a phase has no voxels but one of a higher id has: ids would begin at 2, or have a gap.

    References
    ----------
    AMITEX_FFTP, user guide, input files, https://amitexfftp.github.io/AMITEX/user_guide/input_files.html
    """
    absent = structure.absent_below_the_last
    if absent:
        rule = "must have all phases: legacy VTK has ids from 1, without gaps"
        raise UserError(structure.name, f"no {absent[0]}", rule)
    planes, rows, cols = structure.phase.shape
    names = ", ".join(f"{index} {name}" for index, name in enumerate(structure.phases, start=1))
    header = f"""# vtk DataFile Version 4.5
microgan {__version__}, {structure.unit_note}, materials: {names}
BINARY
DATASET STRUCTURED_POINTS
DIMENSIONS {cols + 1} {rows + 1} {planes + 1}
ORIGIN 0 0 0
SPACING {_spacing(structure)}
CELL_DATA {structure.phase.size}
SCALARS MaterialId unsigned_short
LOOKUP_TABLE default
"""
    voxels = (structure.phase + np.uint8(1)).astype(">u2").tobytes()
    return header.encode("ascii", "replace") + voxels + b"\n"


def _spacing(structure: Structure) -> str:
    return " ".join([repr(structure.spacing)] * 3)


def write_vti(structure: Structure, path: Path, deck: DeckKind | None = None) -> None:
    """Write a VTK image file, and with a deck the files by which DAMASK solves all those of its folder."""
    if deck is not None:
        materials = must_take_spectral_deck(structure, deck)
        path.with_name("material.yaml").write_text(damask_material(structure, materials))
        path.with_name(f"load_{deck}.yaml").write_text(damask_load())
    path.write_text(vti(structure))


def _write_legacy(structure: Structure, path: Path) -> None:
    path.write_bytes(legacy_vtk(structure))


VTI = Format(
    write_vti,
    ".vti",
    "VTK image, cell data 'material' = phase id; ParaView, DAMASK: with a deck, material.yaml and "
    "load_stiffness.yaml",
    takes_deck=True,
    decks=("stiffness",),
)
LEGACY = Format(
    _write_legacy, ".vtk", "legacy VTK, binary, cell data 'MaterialId' = phase id + 1; AMITEX, ParaView"
)
