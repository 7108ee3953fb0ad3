"""MetaImage (MHA, MHD): a header in text, and values in the same file, another one, or one for each plane.

Read here, as ITK ends the process on some damaged files. Of compressed ones planes are read in order.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.allowed import Allowed
from microgan.scan.formats.colour import WAY_OUT
from microgan.scan.formats.compressed import CompressedValues, plane_reader
from microgan.scan.stack import Scan, native, of_values, surplus_note
from microgan.scan.voxel_size import UNKNOWN, VoxelSize, square, unit_um, unknown

SUFFIXES = (".mha", ".mhd")

# The spellings of https://itk.org/Wiki/MetaIO/Documentation
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
MOST_HEADER = 1 << 16  # bytes of a header; what is longer has none


def open_metaimage(path: Path, allowed: Allowed) -> Scan:
    """Open a MetaImage: MHA with its values, or MHD beside the file or the files that hold them."""
    header, end = _header(path)
    shape, dtype = _shape(header, path), _dtype(header, path)
    size = _voxel_size(header, path)
    files = _data_files(header, path, allowed)
    is_compressed = _is_true(header, "CompressedData", path)
    if files is None:
        files, start = [path], end
    else:
        start = int(header.get("HeaderSize", "0"))
    if len(files) > 1:
        return _of_planes(path, files, shape, dtype, start, size, is_compressed=is_compressed)
    (data,) = files
    if is_compressed:
        _must_hold(data, start, int(header.get("CompressedDataSize", "0")))
        values = CompressedValues(data, start, "zlib")
        read = plane_reader(values, dtype, shape)
        return Scan((path,), shape, native(dtype), read, values.close, size)
    length = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if start == -1:  # the values are at the end
        start = data.stat().st_size - length
    if start < 0:
        raise ValueError(f"{data.name} is too short, for {length} bytes of values, or HeaderSize is wrong")
    _must_hold(data, start, length)
    notes = surplus_note(path, data.stat().st_size - start - length, f"DimSize {header['DimSize']}")
    return replace(of_values(data, shape, dtype, start, size, notes), files=(path,))


def _of_planes(
    path: Path,
    files: Sequence[Path],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    start: int,
    size: VoxelSize,
    *,
    is_compressed: bool,
) -> Scan:
    if len(files) != shape[0] or is_compressed or start < 0:
        rule = "must be plain values, one file for each plane"
        raise UserError(path, f"{len(files)} files for {shape[0]} planes", rule)
    for data in files:
        _must_hold(data, start, shape[1] * shape[2] * dtype.itemsize)

    def read(index: int) -> np.ndarray:
        return np.fromfile(files[index], dtype, shape[1] * shape[2], offset=start).reshape(shape[1:])

    return Scan((path,), shape, native(dtype), read, voxel_size=size)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the lines of the header, which ends with ElementDataFile, and its length in bytes.

    The names of a list of files, one in a line, are those of ElementDataFile.
    """
    values: dict[str, str] = {}
    with path.open("rb") as stream:
        while stream.tell() < MOST_HEADER and (line := stream.readline(MOST_HEADER)):
            key, _, value = line.decode("latin-1").partition("=")
            if key.strip() in values:
                raise UserError(path, f"{key.strip()} is there twice", "must be there once")
            values[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        missing = {"NDims", "DimSize", "ElementType", "ElementDataFile"} - values.keys()
        if missing:
            raise ValueError(f"no {', '.join(sorted(missing))} in the header")
        end = stream.tell()
        if values["ElementDataFile"].upper().startswith("LIST"):
            values["list"] = stream.read(MOST_HEADER * 100).decode("utf-8")
        return values, end


def _shape(header: dict[str, str], path: Path) -> tuple[int, int, int]:
    dimensions = _integers(header, "NDims", path)
    sizes = _integers(header, "DimSize", path)  # columns, rows, planes
    if dimensions not in ([2], [3]) or len(sizes) != dimensions[0]:
        what = f"NDims = {header['NDims']}, DimSize = {header['DimSize']}"
        raise UserError(path, what, "must be 2 or 3 sizes: columns, rows, planes")
    if min(sizes) < 1:
        raise UserError(path, f"DimSize = {header['DimSize']}", "must be at least 1 along each axis")
    channels = (
        _integers(header, "ElementNumberOfChannels", path) if "ElementNumberOfChannels" in header else [1]
    )
    if channels != [1]:
        raise UserError(path, f"{header['ElementNumberOfChannels']} channels", WAY_OUT)
    return sizes[2] if len(sizes) == 3 else 1, sizes[1], sizes[0]


def _dtype(header: dict[str, str], path: Path) -> np.dtype:
    kind = TYPES.get(header["ElementType"])
    if kind is None:
        raise UserError(path, f"ElementType = {header['ElementType']}", f"must be one of {', '.join(TYPES)}")
    if "BinaryData" in header and not _is_true(header, "BinaryData", path):
        raise UserError(path, "values in text", "must be binary: BinaryData = True")
    name = "ElementByteOrderMSB" if "ElementByteOrderMSB" in header else "BinaryDataByteOrderMSB"
    return np.dtype(kind).newbyteorder(">" if _is_true(header, name, path) else "<")


def _data_files(header: dict[str, str], path: Path, allowed: Allowed) -> list[Path] | None:
    """Return the files that hold the values, None for the file itself."""
    name = header["ElementDataFile"]
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST"):
        names = header["list"].split()
    elif "%" in name:  # slice%03d.raw 1 60 1
        pattern, first, last, step = name.split()
        numbers = range(int(first), int(last) + 1, int(step))
        if len(numbers) > MOST_HEADER:
            raise UserError(path, f"ElementDataFile = {name}", f"must name at most {MOST_HEADER} files")
        names = [pattern % number for number in numbers]
    else:
        names = [name]
    if not names:
        raise UserError(path, f"ElementDataFile = {name}", "must name a file")
    files = [path.parent / name for name in names]
    for file in files:
        allowed.must_be_inside(file, path)
        if not file.is_file():
            raise UserError(path, f"ElementDataFile {file.name} is missing", "must be beside the header")
    return files


def _must_hold(data: Path, start: int, length: int) -> None:
    if data.stat().st_size < start + length:
        raise ValueError(f"{data.name} is too short, for {length} bytes of values")


def _integers(header: dict[str, str], name: str, path: Path) -> list[int]:
    try:
        return [int(word) for word in header[name].split()]
    except ValueError:
        raise UserError(path, f"{name} = {header[name]}", "must be integers") from None


def _is_true(header: dict[str, str], name: str, path: Path) -> bool:
    value = header.get(name, "False")
    if value.lower() not in ("true", "false", "t", "f", "1", "0"):
        raise UserError(path, f"{name} = {value}", "must be True or False")
    return value.lower() in ("true", "t", "1")


def _voxel_size(header: dict[str, str], path: Path) -> VoxelSize:
    spacing = (header.get("ElementSpacing") or header.get("ElementSize") or "").split()
    if len(spacing) < 2:
        return UNKNOWN
    width, height = float(spacing[0]), float(spacing[1])
    if not 0 < min(width, height) <= max(width, height) < np.inf:
        raise UserError(path, f"ElementSpacing = {' '.join(spacing)}", "must be above 0 and finite")
    um = unit_um(header.get("DistanceUnits", header.get("ElementSpacingUnits", "")))
    if um is not None:
        return square(path, width * um, height * um, "ElementSpacing and DistanceUnits")
    if (width, height) == (1, 1):
        return UNKNOWN
    # Millimetres by the habits of medicine; programs for materials write micrometres as often.
    return unknown(path, f"MetaImage has the spacing {width:g} without a unit")
