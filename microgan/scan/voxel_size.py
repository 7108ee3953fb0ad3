"""The voxel size that a TIFF file states."""

from pathlib import Path

import numpy as np
import tifffile

from microgan.core.errors import UserError

UNIT_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0}
# Per inch or per cm: what writers put where nobody stated a size.
_PRINT_UM = (1e4, *(25400 / per_inch for per_inch in (1, 72, 96, 150, 300, 600)))


def tiff_voxel_size_um(tiff: tifffile.TiffFile, path: Path) -> float | None:
    sizes_um = _ome_pixel_um(tiff) if tiff.is_ome else _tag_pixel_um(tiff)
    if sizes_um is None:
        return None
    x_um, y_um = sizes_um
    if abs(x_um - y_um) > 0.01 * x_um:
        raise UserError(path, f"pixels of {x_um:g} x {y_um:g} um", "must be square")
    return float(f"{x_um:.9g}")


def _ome_pixel_um(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    images = tifffile.xml2dict(tiff.ome_metadata or "").get("OME", {}).get("Image", {})
    pixels = (images[0] if isinstance(images, list) else images).get("Pixels", {})
    sizes_um = []
    for axis in "XY":
        size = pixels.get(f"PhysicalSize{axis}")
        unit_um = UNIT_UM.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")).lower())
        if size is None or unit_um is None or not float(size) > 0:
            return None
        sizes_um.append(float(size) * unit_um)
    return sizes_um[0], sizes_um[1]


def _tag_pixel_um(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    tags = tiff.pages.first.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    if tiff.is_imagej and (tiff.imagej_metadata or {}).get("unit"):
        unit_um = UNIT_UM.get(str((tiff.imagej_metadata or {})["unit"]).lower())
    else:  # 2 is the tag's default in the standard, but a file that states no unit states no size
        unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 1
        unit_um = {2: 25400.0, 3: 1e4}.get(unit)
    per_unit = [
        np.divide(*tags[name].value) for name in ("XResolution", "YResolution") if tags[name].value[1]
    ]
    if unit_um is None or len(per_unit) < 2 or min(per_unit) <= 0:
        return None
    x_um, y_um = unit_um / per_unit[0], unit_um / per_unit[1]
    for_print = unit_um >= 1e4 and any(abs(x_um - um) < 0.002 * um for um in _PRINT_UM)
    return None if for_print else (float(x_um), float(y_um))
