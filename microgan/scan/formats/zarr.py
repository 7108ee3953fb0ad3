"""Zarr arrays and OME-Zarr images (NGFF 0.4 and 0.5): folders whose chunks are read when asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microgan.core.errors import UserError
from microgan.scan.formats.colour import WAY_OUT
from microgan.scan.stack import Scan, of_array, optional
from microgan.scan.voxel_size import UNKNOWN, VoxelSize, square, unit_um, unknown

MARKERS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return path.is_dir() and any((path / marker).is_file() for marker in MARKERS)


def open_zarr(path: Path, name: str | None) -> Scan:
    """Open the array ``name``, the full resolution of an OME-Zarr image, or the only array."""
    zarr = optional("zarr", "zarr", path)
    node = zarr.open(store=str(path), mode="r")
    if isinstance(node, zarr.Array):
        return of_array(path, node, UNKNOWN)
    attributes = dict(node.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    if images and name is None:
        return _open_ome(path, node, images[0])
    arrays = {key: array for key, array in node.members(max_depth=None) if isinstance(array, zarr.Array)}
    stacks = {key: array for key, array in arrays.items() if array.ndim >= 2}
    if name is None and len(stacks) == 1:
        return of_array(path, next(iter(stacks.values())), UNKNOWN)
    if name is None or name.strip("/") not in stacks:
        known = (
            f"must name one of {', '.join(sorted(stacks))}" if stacks else f"{path} holds no 2D or 3D array"
        )
        raise UserError("dataset", name, known)
    return of_array(path, stacks[name.strip("/")], UNKNOWN)


def _open_ome(path: Path, group: Any, image: Mapping[str, Any]) -> Scan:
    full = image["datasets"][0]  # the standard orders them from the largest to the smallest
    array = group[full["path"]]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", [])]
    for axis, length in zip(axes, array.shape, strict=False):
        if axis.get("type") == "channel" and length > 1:
            raise UserError(path, f"{length} channels", WAY_OUT)
    return of_array(path, array, _voxel_size(path, image, full, axes))


def _voxel_size(
    path: Path, image: Mapping[str, Any], full: Mapping[str, Any], axes: list[dict[str, Any]]
) -> VoxelSize:
    names = [axis["name"] for axis in axes]
    if not {"x", "y"} <= set(names):
        return UNKNOWN
    scale = [1.0] * len(axes)
    for transform in (
        *full.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ):
        if transform.get("type") == "scale":
            scale = [one * float(more) for one, more in zip(scale, transform["scale"], strict=True)]
    sides_um = []
    for name in ("x", "y"):
        um = unit_um(axes[names.index(name)].get("unit", ""))
        if um is None:
            told = (
                f"OME-Zarr has the scale {scale[names.index(name)]:g} along {name}, without a unit of length"
            )
            return UNKNOWN if set(scale) == {1.0} else unknown(path, told)
        sides_um.append(scale[names.index(name)] * um)
    return square(path, sides_um[0], sides_um[1], "the scale of OME-Zarr")
