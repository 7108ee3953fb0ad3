"""NRRD: a header in text, and values in the same file or another one, plain or compressed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.allowed import Allowed
from microgan.scan.formats.compressed import CompressedValues, plane_reader
from microgan.scan.stack import Scan, kept_axes, of_array, optional, surplus_note
from microgan.scan.voxel_size import UNKNOWN, VoxelSize, square, unit_um, unknown

SUFFIXES = (".nrrd", ".nhdr")

# The spellings of http://teem.sourceforge.net/nrrd/format.html
TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "int8"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "uint8"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "int16"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "uint16"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "int32"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "uint32"),
    "float": "float32",
    "double": "float64",
}


def open_nrrd(path: Path, allowed: Allowed) -> Scan:
    """Open an NRRD file; of compressed ones planes are read in order, so that memory stays bounded."""
    nrrd = optional("nrrd", "pynrrd", path)
    with path.open("rb") as stream:
        header = nrrd.read_header(stream)
        offset = stream.tell()
    sizes = tuple(int(size) for size in header["sizes"])[::-1]  # the fastest axis comes first in the file
    if min(sizes, default=0) < 1:
        raise UserError(path, f"sizes {sizes[::-1]}", "must be at least 1 along each axis")
    dtype = _dtype(header, path)
    data, offset = _data_file(header, path, offset, allowed)
    encoding = str(header["encoding"]).lower()
    size = _voxel_size(header, path)
    if encoding == "raw":
        wanted, held = int(np.prod(sizes, dtype=object)) * dtype.itemsize, data.stat().st_size
        if held < offset + wanted:
            raise ValueError(f"{data.name} is too short for shape {sizes} and {dtype}")
        if header.get("byte skip") == -1:
            offset = held - wanted
        notes = surplus_note(path, held - offset - wanted, f"sizes {sizes[::-1]} of {dtype}")
        return of_array(path, np.memmap(data, dtype, "r", offset, sizes), size, notes)
    if encoding in ("gzip", "gz", "bzip2", "bz2"):
        shape = tuple(sizes[axis] for axis in kept_axes(sizes))
        if len(shape) not in (2, 3):
            raise UserError(path, f"sizes {sizes[::-1]}", "must be columns, rows, planes")
        planes, rows, cols = (1, *shape)[-3:]
        values = CompressedValues(data, offset, "gzip" if encoding.startswith("g") else "bzip2")
        read = plane_reader(values, dtype, (planes, rows, cols))
        return Scan((path,), (planes, rows, cols), dtype.newbyteorder("="), read, values.close, size)
    raise UserError(path, f"encoding {encoding}", "must be raw, gzip or bzip2")


def _dtype(header: Mapping[str, Any], path: Path) -> np.dtype:
    kind = TYPES.get(str(header["type"]).lower())
    if kind is None:
        raise UserError(
            path, f"type {header['type']}", f"must be one of {', '.join(sorted(set(TYPES.values())))}"
        )
    return np.dtype(kind).newbyteorder(">" if str(header.get("endian", "little")).lower() == "big" else "<")


def _data_file(header: Mapping[str, Any], path: Path, offset: int, allowed: Allowed) -> tuple[Path, int]:
    name = header.get("data file", header.get("datafile"))
    if name is None:
        data = path
    elif isinstance(name, list) or " " in str(name).strip() or str(name).startswith("LIST"):
        raise UserError(path, "several data files", "must hold its values in one file")
    else:
        data, offset = path.parent / str(name), 0
        allowed.must_be_inside(data, path)
        if not data.is_file():
            raise UserError(path, f"data file {name} is missing", "must be beside the header")
    lines = int(header.get("line skip", header.get("lineskip", 0)))
    if lines:
        with data.open("rb") as stream:
            stream.seek(offset)
            for _ in range(lines):
                stream.readline()
            offset = stream.tell()
    return data, offset + max(int(header.get("byte skip", header.get("byteskip", 0))), 0)


def _voxel_size(header: Mapping[str, Any], path: Path) -> VoxelSize:
    directions, spacings = header.get("space directions"), header.get("spacings")
    if directions is not None:
        sides = [float(np.linalg.norm(direction)) for direction in np.asarray(directions, float)[:2]]
    elif spacings is not None:
        sides = [float(spacing) for spacing in list(spacings)[:2]]
    else:
        return UNKNOWN
    units = [unit_um(unit) for unit in list(header.get("space units", header.get("units", [])))[:2]]
    if not np.isfinite(sides).all() or sides == [1.0, 1.0]:
        return (
            UNKNOWN if None in units or not units or not np.isfinite(sides).all() else _in(path, sides, units)
        )
    if len(units) < 2 or None in units:
        return unknown(path, f"NRRD has the spacing {sides[0]:g} without a unit of length")
    return _in(path, sides, units)


def _in(path: Path, sides: list[float], units: list[float | None]) -> VoxelSize:
    return square(path, sides[0] * (units[0] or 0), sides[1] * (units[1] or 0), "the spacing of NRRD")
