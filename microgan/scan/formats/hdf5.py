"""HDF5 and NeXus: data sets by name or the only one, behind links of all kinds, virtual ones included."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from microgan.core.errors import UserError
from microgan.scan.allowed import Allowed
from microgan.scan.formats.hdf5_values import in_words, must_have_values
from microgan.scan.formats.hdf5_voxel_size import voxel_size
from microgan.scan.stack import Scan, closed_on_error, kept_axes, of_array

SUFFIXES = (".h5", ".hdf5", ".nxs", ".hdf", ".he5", ".nx", ".nx5")

# By their registered numbers; h5py reads 1 to 6 itself.
FILTERS = {
    32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP", 32015: "Zstandard",
    32017: "SZ", 32018: "FCIDECOMP", 32024: "SZ3", 32026: "Blosc2", 307: "bzip2", 32029: "HTJ2K",
    32030: "Sperr",
}  # fmt: skip


def open_hdf5(path: Path, name: str | None, allowed: Allowed) -> Scan:
    """Open the data set ``name``, or the only one that holds images."""
    file = h5py.File(path, "r")
    with closed_on_error(file):
        data = _dataset(file, path, name, allowed)
        _must_be_images(data, path)
        lacking = must_have_values(data, path, allowed)
        _must_have_filters(data, path)
        scan = replace(of_array(path, data, voxel_size(file, data, path)), close=file.close)
        return replace(scan, read_plane=_with_values(scan, lacking, path)) if lacking.any() else scan


def _with_values(scan: Scan, lacking: np.ndarray, path: Path) -> Callable[[int], np.ndarray]:
    """Return a function that reads a plane, and refuses those without values; others can be chosen."""

    def read(index: int) -> np.ndarray:
        if lacking[index]:
            rule = "HDF5 would read its fill value there: leave them out (planes), or complete the file"
            raise UserError(path, f"planes {in_words(lacking)} were never written, or only in part", rule)
        return scan.read_plane(index)

    return read


def _must_be_images(data: h5py.Dataset, path: Path) -> None:
    if data.shape is None or data.dtype.kind not in "biufc":
        what = "no values" if data.shape is None else f"values of type {data.dtype}"
        raise UserError(path, f"{data.name}: {what}", "must be a data set of numbers")


def _dataset(file: h5py.File, path: Path, name: str | None, allowed: Allowed) -> h5py.Dataset:
    if name is not None:
        data = _at(file, name, path, allowed)
        if isinstance(data, h5py.Dataset):
            return data
    stacks: dict[object, str] = {}
    away: list[tuple[str, h5py.ExternalLink]] = []
    for place, item in _items(file, set()):
        if isinstance(item, h5py.Dataset):
            if len(kept_axes(item.shape or ())) in (2, 3) and item.dtype.kind in "biufc":
                stacks.setdefault(_identity(item), place)
        elif isinstance(item, h5py.ExternalLink):
            away.append((place, item))
    if name is None and len(stacks) == 1:
        return file[next(iter(stacks.values()))]
    if name is None and not stacks and away:
        raise _cannot_be_opened(path, *away[0], allowed)
    known = f"must name one of {', '.join(sorted(stacks.values()))}"
    raise UserError("dataset", name, known if stacks else f"{file.filename} holds no 2D or 3D data set")


def _cannot_be_opened(path: Path, place: str, link: h5py.ExternalLink, allowed: Allowed) -> UserError:
    """Return the error of a link to another file that leads nowhere, or raise that it may not be followed."""
    target = _linked(path, link)
    rule = "the file that it links to must be there: copy it beside this one"
    if target.exists():
        allowed.must_be_inside(target, path)
        rule = f"must be an HDF5 file that has {link.path}"
    return UserError(path, f"{place} is in {link.filename}, which cannot be opened", rule)


def _linked(path: Path, link: h5py.ExternalLink) -> Path:
    """Return the file that HDF5 looks for: beside the one with the link, else by its name alone."""
    places = [path.parent / link.filename, path.parent / Path(link.filename).name, Path(link.filename)]
    return next((place for place in places if place.exists()), places[0])


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _at(file: h5py.File, name: str, path: Path, allowed: Allowed) -> object:
    """Return what ``name`` stands for, None where nothing does; a link to a file that is away is an error."""
    link = file.get(name, getlink=True) if name.strip("/") else None
    if link is None:
        return None
    try:
        if isinstance(link, h5py.ExternalLink) and _is_special(_linked(path, link)):
            raise OSError  # a pipe, say, of which opening it would wait
        return file[name]
    except (KeyError, OSError):
        if isinstance(link, h5py.ExternalLink):
            raise _cannot_be_opened(path, name, link, allowed) from None
        return None


def _items(group: h5py.Group, seen: set[object], above: str = "") -> Iterator[tuple[str, object]]:
    """Yield the place and the data set of all that ``group`` holds, hard links first.

    For an external link that leads nowhere: the link.
    """
    seen.add(_identity(group))
    links = {name: group.get(name, getlink=True) for name in group}
    for name, link in sorted(links.items(), key=lambda entry: not isinstance(entry[1], h5py.HardLink)):
        place = f"{above}{name}"
        is_external = isinstance(link, h5py.ExternalLink)
        try:
            if is_external and _is_special(_linked(Path(group.file.filename), link)):
                raise OSError  # a pipe, say, of which opening it would wait
            item = group[name]
        except (KeyError, OSError):  # a link that leads nowhere
            if is_external:
                yield place, link
            continue
        if isinstance(item, h5py.Dataset):
            yield place, item
        elif isinstance(item, h5py.Group) and _identity(item) not in seen:
            yield from _items(item, seen, f"{place}/")


def _identity(item: h5py.HLObject) -> object:
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def _must_have_filters(data: h5py.Dataset, path: Path) -> None:
    """Refuse compression by a filter that is not installed; the package hdf5plugin has the usual ones."""
    properties = data.id.get_create_plist()
    numbers = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if all(h5py.h5z.filter_avail(number) for number in numbers):
        return
    try:
        import hdf5plugin  # noqa: F401  # registers its filters
    except ImportError:
        names = ", ".join(FILTERS.get(number, f"filter {number}") for number in numbers)
        rule = "pip install hdf5plugin, or all formats: pip install 'microgan[formats]'"
        raise UserError(
            path, f"compression {names} of {data.name}", f"needs the package hdf5plugin: {rule}"
        ) from None
    lacking = [number for number in numbers if not h5py.h5z.filter_avail(number)]
    if lacking:
        names = ", ".join(FILTERS.get(number, f"filter {number}") for number in lacking)
        rule = "no installed filter reads it: repack the file with gzip (h5repack -f GZIP=4 IN OUT)"
        raise UserError(path, f"compression {names} of {data.name}", rule)
