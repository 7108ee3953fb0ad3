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
    header = _header(path)
    _must_be_whole(header, sizes, path)
    dtype = sitk.GetArrayViewFromImage(sitk.Image([1] * len(sizes), reader.GetPixelIDValue())).dtype

    def read(index: int) -> np.ndarray:
        if len(sizes) == 3:
            reader.SetExtractIndex([0, 0, index])
            reader.SetExtractSize([sizes[0], sizes[1], 0])  # 0: one plane, without the axis
        return sitk.GetArrayFromImage(reader.Execute())

    planes = sizes[2] if len(sizes) == 3 else 1
    return Scan((path,), (planes, sizes[1], sizes[0]), dtype, read, voxel_size=_voxel_size(header, path))


def _header(path: Path) -> dict[str, str]:
    """Return the lines of the header, which ends with ElementDataFile."""
    values = {}
    with path.open("rb") as stream:
        for line in stream:
            key, _, value = line.decode("latin-1").partition("=")
            values[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
    return values


def _must_be_whole(header: dict[str, str], sizes: tuple[int, ...], path: Path) -> None:
    data = header.get("ElementDataFile", "LOCAL")
    if data.upper() in ("LOCAL", "LIST") or "%" in data:
        return
    if not (path.parent / data).is_file():
        raise UserError(path, f"ElementDataFile {data} is missing", "must be beside the header")


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
