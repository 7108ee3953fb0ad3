"""Where the values of an HDF5 data set are: in other files, or nowhere, which HDF5 reads as a fill value.

Chunks that were never written, the rest of a virtual data set that is mapped in part, and sources that are
away all read as zeros, without a word.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
from h5py._hl.vds import VDSmap

from microgan.core.errors import UserError
from microgan.scan.allowed import Allowed
from microgan.scan.stack import kept_axes

DEEPEST = 8  # virtual data sets of virtual data sets


def must_be_inside(item: h5py.HLObject, path: Path, allowed: Allowed) -> None:
    """Refuse what external links found outside of the scan's folder."""
    name = item.file.filename
    if Path(name) != path:
        allowed.must_be_inside(Path(name), path)


def must_have_values(data: h5py.Dataset, path: Path, allowed: Allowed, depth: int = 0) -> np.ndarray:
    """Refuse a data set whose values are not to be had; return which planes lack values, (planes,) of bool.

    Raises
    ------
    UserError
        If values are in a file of unknown format, outside of the scan's folder, or missing.
    """
    if depth > DEEPEST:
        raise UserError(path, f"{data.name} is virtual through {DEEPEST} files", "must lead to values")
    must_be_inside(data, path, allowed)
    if data.external:
        rule = "HDF5 would read any file there: repack the scan with its values inside (h5repack IN OUT)"
        raise UserError(path, f"{data.name} takes its values from {data.external[0][0]}", rule)
    if not data.is_virtual:
        return _unwritten(data)
    sources = data.virtual_sources()
    for source in sources:
        _must_have_source(data, source, path, allowed, depth)
    return _unmapped(data, sources)


def in_words(planes: np.ndarray) -> str:
    """Return which planes are True, as ranges: 3, 5 to 8.

    Examples
    --------
    >>> in_words(np.array([0, 1, 0, 1, 1, 1], bool))
    '1, 3 to 5'
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], planes.astype(np.int8), [0]])))
    parts = [
        str(a) if a == b - 1 else f"{a} to {b - 1}" for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    return ", ".join(parts[:5]) + (" ..." if len(parts) > 5 else "")


def _axis(shape: Sequence[int]) -> int | None:
    """Return the axis that counts planes; None for one plane."""
    kept = kept_axes(shape)
    return kept[0] if len(kept) == 3 else None


def _unwritten(data: h5py.Dataset) -> np.ndarray:
    """Return which planes have a chunk that was never written."""
    shape, axis = data.shape, _axis(data.shape)
    planes = shape[axis] if axis is not None else 1
    if data.chunks is None:
        layout = data.id.get_create_plist().get_layout()
        return np.full(planes, layout == h5py.h5d.CONTIGUOUS and data.id.get_storage_size() == 0)
    grid = [-(-side // chunk) for side, chunk in zip(shape, data.chunks, strict=True)]
    lacking = np.zeros(planes, bool)
    if data.id.get_num_chunks() == np.prod(grid, dtype=object):
        return lacking
    depth = data.chunks[axis] if axis is not None else 1
    layers = grid[axis] if axis is not None else 1
    stored = np.zeros(layers, np.int64)

    def count(info: h5py.h5d.StoreInfo) -> None:
        stored[info.chunk_offset[axis] // depth if axis is not None else 0] += 1

    data.id.chunk_iter(count)
    for layer in np.flatnonzero(stored < int(np.prod(grid, dtype=object)) // layers):
        lacking[layer * depth : (layer + 1) * depth] = True
    return lacking


def _unmapped(data: h5py.Dataset, sources: Iterable[VDSmap]) -> np.ndarray:
    """Return which planes of a virtual data set are not mapped as a whole."""
    shape, axis = data.shape, _axis(data.shape)
    planes = shape[axis] if axis is not None else 1
    mapped = np.zeros(planes, np.int64)
    for source in sources:
        counts = [_selected(source.vspace, number, side) for number, side in enumerate(shape)]
        area = int(np.prod([c.sum() for number, c in enumerate(counts) if number != axis], dtype=object))
        mapped += area * counts[axis] if axis is not None else area
    return mapped < int(np.prod(shape, dtype=object)) // planes


def _selected(space: h5py.h5s.SpaceID, axis: int, side: int) -> np.ndarray:
    """Return which places along one axis a selection holds, (side,) of 0 and 1."""
    places = np.zeros(side, np.int64)
    if space.get_select_type() == h5py.h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
        start, stride, count, block = (int(part[axis]) for part in space.get_regular_hyperslab())
        for first in range(start, side, max(stride, 1))[: min(count, side)]:
            places[first : first + min(block, side)] = 1
    else:
        places[:] = 1
    return places


def _must_have_source(data: h5py.Dataset, source: VDSmap, path: Path, allowed: Allowed, depth: int) -> None:
    """Refuse a source that is away, outside, too small or never written."""
    if source.file_name == ".":
        _check_source(data, data.file, source, path, allowed, depth)
        return
    folder = Path(data.file.filename).parent
    name = source.file_name.replace("%b", "0").replace("%%", "%")
    places = [place for place in (folder / name, folder / Path(name).name, Path(name)) if place.is_file()]
    allowed.must_be_inside(places[0] if places else folder / name, path)
    if not places:
        rule = "must be beside this file, or in the place that it names: its values are there"
        raise UserError(path, f"source {source.file_name} of {data.name} is missing", rule)
    with h5py.File(places[0], "r") as file:
        _check_source(data, file, source, places[0], allowed, depth)


def _check_source(
    data: h5py.Dataset, file: h5py.File, source: VDSmap, path: Path, allowed: Allowed, depth: int
) -> None:
    if "%" in source.dset_name:
        return
    inside = file.get(source.dset_name)
    if not isinstance(inside, h5py.Dataset):
        rule = f"must hold it: {data.name} takes its values from there"
        raise UserError(path, f"no data set {source.dset_name}", rule)
    lacking = must_have_values(inside, path, allowed, depth + 1)
    if lacking.any():
        rule = f"must have values, as {data.name} takes them from there"
        raise UserError(path, f"{source.dset_name}: planes {in_words(lacking)} were never written", rule)
    if source.src_space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:  # all of it
        selected = [_selected(source.vspace, axis, side).sum() for axis, side in enumerate(data.shape)]
        if inside.size < np.prod(selected, dtype=object):
            rule = f"must have as many values as {data.name} takes from there"
            raise UserError(path, f"{source.dset_name} is of shape {inside.shape}", rule)
        return
    try:
        wanted = tuple(int(end) + 1 for end in source.src_space.get_select_bounds()[1])
    except (ValueError, RuntimeError):  # without an end
        return
    if len(wanted) != inside.ndim or any(
        want > side for want, side in zip(wanted, inside.shape, strict=True)
    ):
        rule = f"must be at least {wanted}, as {data.name} takes its values from there"
        raise UserError(path, f"{source.dset_name} is of shape {inside.shape}", rule)
