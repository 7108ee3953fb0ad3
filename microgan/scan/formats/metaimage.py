"""MetaImage (MHA, MHD), plain or compressed, by SimpleITK, plane by plane."""

from pathlib import Path

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.formats.colour import WAY_OUT
from microgan.scan.stack import Scan, optional
from microgan.scan.voxel_size import UNKNOWN, VoxelSize, square, unit_um, unknown

SUFFIXES = (".mha", ".mhd")


def open_metaimage(path: Path) -> Scan:
    """Open a MetaImage: MHA with its values, or MHD beside the file that holds them."""
    sitk = optional("SimpleITK", "SimpleITK", path)
    header, end = _header(path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it prints them on the screen
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    sizes = tuple(int(size) for size in reader.GetSize())  # columns, rows, planes
    if reader.GetNumberOfComponents() != 1:
        raise UserError(path, f"{reader.GetNumberOfComponents()} channels", WAY_OUT)
    if len(sizes) not in (2, 3):
        raise UserError(path, f"sizes {sizes}", "must be columns, rows, planes")
    dtype = sitk.GetArrayViewFromImage(sitk.Image([1] * len(sizes), reader.GetPixelIDValue())).dtype
    _must_be_whole(header, end, int(np.prod(sizes, dtype=object)) * dtype.itemsize, path)

    def read(index: int) -> np.ndarray:
        if len(sizes) == 3:
            reader.SetExtractIndex([0, 0, index])
            reader.SetExtractSize([sizes[0], sizes[1], 0])  # 0: one plane, without the axis
        return sitk.GetArrayFromImage(reader.Execute())

    planes = sizes[2] if len(sizes) == 3 else 1
    return Scan((path,), (planes, sizes[1], sizes[0]), dtype, read, voxel_size=_voxel_size(header, path))


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the lines of the header, which ends with ElementDataFile, and its length in bytes."""
    values = {}
    with path.open("rb") as stream:
        for line in stream:
            key, _, value = line.decode("latin-1").partition("=")
            values[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        missing = {"NDims", "DimSize", "ElementType", "ElementDataFile"} - values.keys()
        if missing:  # of which the library prints several lines
            raise ValueError(f"no {', '.join(sorted(missing))} in the header")
        return values, stream.tell()


def _must_be_whole(header: dict[str, str], end: int, length: int, path: Path) -> None:
    """Refuse missing or short values, of which the library prints several lines."""
    name = header.get("ElementDataFile", "LOCAL")
    if name.upper().startswith("LIST") or "%" in name:
        return
    data, start = (path, end) if name.upper() == "LOCAL" else (path.parent / name, 0)
    if not data.is_file():
        raise UserError(path, f"ElementDataFile {name} is missing", "must be beside the header")
    if header.get("CompressedData", "False").lower() == "true":
        length = int(header.get("CompressedDataSize", 0))
    if data.stat().st_size < start + length:
        raise ValueError(f"{data.name} is too short, for {length} bytes of values")


def _voxel_size(header: dict[str, str], path: Path) -> VoxelSize:
    spacing = (header.get("ElementSpacing") or header.get("ElementSize") or "").split()
    if len(spacing) < 2:
        return UNKNOWN
    width, height = float(spacing[0]), float(spacing[1])
    um = unit_um(header.get("DistanceUnits", header.get("ElementSpacingUnits", "")))
    if um is not None:
        return square(path, width * um, height * um, "ElementSpacing and DistanceUnits")
    if (width, height) == (1, 1):
        return UNKNOWN
    # Millimetres by the habits of medicine; programs for materials write micrometres as often.
    return unknown(path, f"MetaImage has the spacing {width:g} without a unit")
