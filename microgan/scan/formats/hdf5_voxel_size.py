"""The voxel size in attributes of HDF5 files.

====================  =================================================================================
what states it        rule and source
====================  =================================================================================
``element_size_um``   attribute of the data set, by axis (ilastik, the HDF5 plugin of ImageJ)
``voxel_size`` ...    attribute of the data set with a unit in its name or in ``units``
axes of NXdata        the last two of the group's ``axes``, evenly spaced, with ``units`` (NeXus)
sizes elsewhere       ``x_pixel_size`` of an NXdetector, ``pixel_size_x`` and ``resolution`` of Data
                      Exchange: in a note, since they may be those of the detector, not of the specimen
====================  =================================================================================
"""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from microgan.scan.voxel_size import UNKNOWN, VoxelSize, square, unit_um, unknown

_NAME = re.compile(
    r"(?i)^(voxel|pixel|element)_?(size|spacing|pitch)(_(?P<unit>[a-z]+))?$|^(spacing|resolution)$"
)
_ELSEWHERE = re.compile(
    r"(?i)^([xyz]_)?(pixel|voxel)_?size(_[xyz])?$|^(pixel|voxel)_?spacing$|^actual_pixel_size"
)


def voxel_size(file: h5py.File, data: h5py.Dataset, path: Path) -> VoxelSize:
    """Return the voxel size that attributes of the data set or its group state."""
    by_attribute = _attribute(data, path)
    if by_attribute is not None:
        return by_attribute
    by_axes = _axes(data, path)
    if by_axes is not None:
        return by_axes
    said = _elsewhere(file)
    return unknown(path, said) if said else UNKNOWN


def _attribute(data: h5py.Dataset, path: Path) -> VoxelSize | None:
    for name, value in data.attrs.items():
        named = _NAME.match(name)
        numbers = _numbers(value)
        if named is None or numbers is None:
            continue
        units = (
            named["unit"]
            or data.attrs.get("units")
            or data.attrs.get("unit")
            or data.attrs.get(f"{name}_units")
        )
        um = unit_um(_text(units)) if units is not None else None
        if um is None:
            return unknown(path, f"attribute {name} {_plain(numbers)} has no unit of length")
        sides = _last_two(data, numbers)
        return square(path, sides[1] * um, sides[0] * um, f"the attribute {name} of {data.name}")
    return None


def _last_two(data: h5py.Dataset, numbers: np.ndarray) -> tuple[float, float]:
    """Return the numbers of rows and columns, of one number for each axis, in the order of the axes."""
    if len(numbers) == 1:
        return float(numbers[0]), float(numbers[0])
    if len(numbers) == data.ndim and data.ndim > 2 and data.shape[-1] == 1:  # a channel comes last
        numbers = numbers[:-1]
    return float(numbers[-2]), float(numbers[-1])


def _axes(data: h5py.Dataset, path: Path) -> VoxelSize | None:
    group = data.parent
    axes = group.attrs.get("axes", data.attrs.get("axes"))
    if axes is None:
        return None
    names = [_text(name) for name in np.atleast_1d(axes)]
    if len(names) == 1:  # the older form
        names = re.split(r"[:,]", names[0].strip("[]"))
    sides = []
    for name in names[-2:]:
        axis = group.get(name) if name not in ("", ".") else None
        if (
            not isinstance(axis, h5py.Dataset)
            or axis.ndim != 1
            or len(axis) < 2
            or axis.dtype.kind not in "iuf"
        ):
            return None
        um = unit_um(_text(axis.attrs.get("units", "")))
        steps = np.diff(axis[:].astype(np.float64))
        if um is None or not np.allclose(steps, steps.mean(), rtol=0.01) or steps.mean() == 0:
            return None
        sides.append(abs(float(steps.mean())) * um)
    return (
        square(path, sides[-1], sides[0], f"the axes {' and '.join(names[-2:])} of {group.name}")
        if len(sides) == 2
        else None
    )


def _elsewhere(file: h5py.File) -> str | None:
    """Return in words the first size that stands elsewhere in the file."""
    said: list[str] = []

    def note(name: str, item: Any) -> None:
        last = name.rpartition("/")[2]
        is_resolution = last == "resolution" and "objective" in name
        if (
            not said
            and isinstance(item, h5py.Dataset)
            and item.size == 1
            and (_ELSEWHERE.match(last) or is_resolution)
        ):
            numbers = _numbers(item[()])
            if numbers is not None:
                units = _text(item.attrs.get("units", "of no unit"))
                said.append(
                    f"{name} is {_plain(numbers)} {units}, maybe that of the detector before magnification"
                )

    file.visititems(note)
    return said[0] if said else None


def _numbers(value: Any) -> np.ndarray | None:
    try:
        numbers = np.atleast_1d(np.asarray(value, np.float64)).ravel()
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) and (numbers > 0).all() else None


def _text(value: Any) -> str:
    first = np.atleast_1d(value)[0] if isinstance(value, np.ndarray | list) else value
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)


def _plain(numbers: np.ndarray) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
