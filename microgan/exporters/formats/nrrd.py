"""NRRD: one file of a text header and compressed voxels, for image tools (3D Slicer, ITK, ImageJ)."""

import gzip
from pathlib import Path

from microgan import __version__
from microgan.exporters.formats.format import Format
from microgan.exporters.structure import Structure


def nrrd(structure: Structure) -> bytes:
    """Return an NRRD file of phase ids.

    Voxels are cells; the origin of the space is the corner of the first one, so that its centre, which the
    header states, lies half a voxel inside.

    References
    ----------
    Definition of the NRRD file format, https://teem.sourceforge.net/nrrd/format.html
    """
    planes, rows, cols = structure.phase.shape
    edge, half = repr(structure.spacing), repr(structure.spacing / 2)
    names = "\n".join(f"phase {index}:={name}" for index, name in enumerate(structure.phases))
    unit = f'"{structure.unit}"'
    header = f"""NRRD0004
# microgan {__version__}, {structure.unit_note}
content: phase ids of {structure.name}
type: uint8
dimension: 3
space dimension: 3
sizes: {cols} {rows} {planes}
space directions: ({edge},0,0) (0,{edge},0) (0,0,{edge})
centers: cell cell cell
kinds: domain domain domain
space units: {unit} {unit} {unit}
space origin: ({half},{half},{half})
encoding: gzip
{names}
periodic:={"true" if structure.periodic else "false"}

"""
    voxels = gzip.compress(structure.phase.tobytes(), 6, mtime=0)  # columns run fastest, as sizes say
    return header.encode("ascii", "replace") + voxels


def _write(structure: Structure, path: Path) -> None:
    path.write_bytes(nrrd(structure))


NRRD = Format(_write, ".nrrd", "NRRD, phase ids, uint8, compressed; 3D Slicer, ITK, ImageJ")
