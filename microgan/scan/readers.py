"""Scans in the formats that scanners and their software write, read one plane at a time.

Every format has one function in ``microgan.scan.formats`` that reads the headers and returns a `Scan`, whose
planes are read when asked for. Arrays are ``(plane, row, col)``.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.allowed import Allowed
from microgan.scan.config import AS_IT_SAYS, GREY_DTYPES, Reading, ScanConfig, planes_in_range
from microgan.scan.formats import arrays, dicom, hdf5, metaimage, nrrd, pictures, tiff, zarr
from microgan.scan.slices import slices_of
from microgan.scan.stack import Scan, as_user_error
from microgan.scan.voxel_size import chosen

__all__ = ["Scan", "open_image", "open_scan"]

READ = (
    "TIFF, PNG, BMP, JPEG, HDF5 (.h5, .hdf5, .hdf, .nxs), NPY, raw (.raw, .vol, .bin, .dat), Zarr, "
    "DICOM (.dcm), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd)"
)


def open_scan(folder: Path, config: ScanConfig) -> Scan:
    """Open the scan in ``folder``; planes are read later, one at a time.

    Any format of ``microgan.scan.formats``, and a folder of slices in natural order; raw values with
    ``shape`` and ``dtype`` in ``config``. Blank planes at both ends are left out, with a note.

    The voxel size is that in ``config``, else what the file states by the rules of
    ``microgan.scan.voxel_size``, else unknown.

    Raises
    ------
    UserError
        If the scan is missing, empty, truncated, in colour, of mixed slice sizes, of several scans or of an
        unknown format, or if pixels are not square.
    """
    path = Path(folder) / config.path
    allowed = Allowed(None if config.follow_outside else Path(folder), config.largest_plane_px)
    scan = _checked(_opened(path, config, allowed), path, config.voxel_size_um, allowed)
    try:
        return _without_blank_ends(_selected(scan, config.planes), path)
    except BaseException:
        scan.close()
        raise


def open_image(path: Path, reading: Reading = AS_IT_SAYS) -> Scan:
    """Open one file; by default it must say by itself how to read it.

    That do all formats but raw; HDF5 and Zarr with one data set.

    Raises
    ------
    UserError
        As `open_scan` does.
    """
    config = ScanConfig(path=path.name, radius_px=(1, 2), **reading.model_dump())  # the band is not used
    allowed = Allowed(None if config.follow_outside else path.parent, config.largest_plane_px)
    return _checked(_opened(path, config, allowed), path, None, allowed)


def _opened(path: Path, config: ScanConfig, allowed: Allowed) -> Scan:
    if not path.exists():
        raise UserError(path, "missing", "the scan's file or folder must exist")
    _options_must_have_effect(path, config)
    if zarr.is_zarr(path):
        with as_user_error(path):
            return zarr.open_zarr(path, config.dataset)
    if path.is_dir():
        return _open_slices(path, config.exclude, allowed)
    if not path.is_file():
        raise UserError(path, "neither a file nor a folder", "must be a file of images or a folder of slices")
    return _open_file(path, config, allowed)


def _options_must_have_effect(path: Path, config: ScanConfig) -> None:
    """Refuse what the format of the file has no use for: whoever states it expects that it is used."""
    suffix = "" if path.is_dir() else path.suffix.lower()
    of_format = {
        "raw": (suffix in arrays.RAW, ("shape", "dtype", "byte_order")),
        "HDF5 or Zarr": (suffix in hdf5.SUFFIXES or zarr.is_zarr(path), ("dataset",)),
    }
    for format, (is_it, names) in of_format.items():
        for name in names:
            value = getattr(config, name)
            if not is_it and value != ScanConfig.model_fields[name].default:
                rule = f"has no effect, as {path.name or path} is no {format} file: leave it out"
                raise UserError(name, value, rule)


def _open_file(path: Path, config: ScanConfig, allowed: Allowed) -> Scan:
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise UserError(path, "0 bytes", "must not be empty")
    with as_user_error(path):
        for suffixes, open_format in (
            (tiff.SUFFIXES, lambda path: tiff.open_tiff(path, allowed)),
            ((*pictures.PNG, *pictures.OTHERS), lambda path: pictures.open_pictures((path,), allowed)),
            (hdf5.SUFFIXES, lambda path: hdf5.open_hdf5(path, config.dataset, allowed)),
            (arrays.NPY, arrays.open_npy),
            (arrays.RAW, lambda path: arrays.open_raw(path, config)),
            (nrrd.SUFFIXES, lambda path: nrrd.open_nrrd(path, allowed)),
            (metaimage.SUFFIXES, lambda path: metaimage.open_metaimage(path, allowed)),
        ):
            if suffix in suffixes:
                return open_format(path)
        if dicom.is_dicom(path):
            return dicom.open_dicom(path)
    raise UserError(path, f"suffix {path.suffix!r}", f"must be {READ}")


def _open_slices(folder: Path, exclude: Sequence[str], allowed: Allowed) -> Scan:
    """Open a folder of slices, or with one file of many planes. Everything else in it is ignored."""
    slices, notes = slices_of(folder, exclude)
    empty = [path for path in slices if path.stat().st_size == 0]
    if empty:
        raise UserError(empty[0], "0 bytes", "must not be empty")
    suffix = slices[0].suffix.lower()
    with as_user_error(slices[0] if len(slices) == 1 else folder):
        if suffix in tiff.SUFFIXES:
            scan = (
                tiff.open_tiff(slices[0], allowed)
                if len(slices) == 1
                else tiff.open_tiff_slices(slices, allowed)
            )
        elif suffix in (*pictures.PNG, *pictures.OTHERS):
            scan = pictures.open_pictures(slices, allowed)
        else:
            scan = dicom.open_dicom(slices[0]) if len(slices) == 1 else dicom.open_dicom_slices(slices)
    return replace(scan, notes=(*notes, *scan.notes))


def _checked(scan: Scan, path: Path, stated_um: float | None, allowed: Allowed) -> Scan:
    """Refuse what no command can work on; add what is known of the voxel size."""
    size = chosen(scan.voxel_size, stated_um, scan.files[0])
    try:
        if 0 in scan.shape:
            raise UserError(path, f"shape {scan.shape}", "must hold at least one plane of at least one pixel")
        allowed.must_fit(scan.shape[1:], scan.files[0])
        if str(scan.dtype) not in (*GREY_DTYPES, "bool"):
            raise UserError(path, f"values of type {scan.dtype}", f"must be one of {', '.join(GREY_DTYPES)}")
        if size.oblong_um is not None:
            rule = "must be square; if the file is wrong, state voxel_size_um"
            pixels = "pixels of {:g} x {:g} um".format(*size.oblong_um)
            raise UserError(scan.files[0], pixels, rule)
    except BaseException:
        scan.close()
        raise
    dtype = np.dtype(np.uint8) if scan.dtype == bool else scan.dtype  # masks: 0 and 1
    return replace(scan, dtype=dtype, voxel_size=size, notes=(*scan.notes, *size.notes))


def _selected(scan: Scan, planes: str | None) -> Scan:
    """Return the planes of a range as Python writes it: ``10:200:4``."""
    if planes is None:
        return scan
    chosen_planes = planes_in_range(planes, scan.shape[0])
    if not chosen_planes:
        raise UserError("planes", planes, f"must leave planes of the {scan.shape[0]} that the scan has")
    chosen_scan = _with_planes(scan, chosen_planes)
    end = planes.split(":")[1]
    if end and int(end) > scan.shape[0]:
        note = f"planes {planes}: the scan has {scan.shape[0]} planes, so {len(chosen_planes)} are read"
        return replace(chosen_scan, notes=(*scan.notes, note))
    return chosen_scan


def _with_planes(scan: Scan, planes: range) -> Scan:
    files = tuple(scan.file_of(index) for index in planes) if len(scan.files) > 1 else scan.files
    return replace(
        scan,
        files=files,
        shape=(len(planes), *scan.shape[1:]),
        read_plane=lambda index: scan.read_plane(planes[index]),
    )


def _without_blank_ends(scan: Scan, path: Path) -> Scan:
    """Leave out planes of one value at both ends, where the specimen or the reconstruction ends."""
    count = scan.shape[0]
    first = next((index for index in range(count) if not _is_blank(scan.plane(index))), None)
    if first is None or count == 1:  # blank as a whole: whoever works with it says so
        return scan
    last = next(index for index in reversed(range(count)) if not _is_blank(scan.plane(index)))
    blank = [index for index in range(count) if not first <= index <= last]
    if not blank:
        return scan
    names = ", ".join(scan.file_of(index).name if len(scan.files) > 1 else str(index) for index in blank[:4])
    more = " ..." if len(blank) > 4 else ""
    note = (
        f"{path}: {len(blank)} blank planes at the ends ({names}{more}): left out; "
        "planes are counted from 0 without them"
    )
    return replace(_with_planes(scan, range(first, last + 1)), notes=(*scan.notes, note))


def _is_blank(plane: np.ndarray) -> bool:
    finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
    return finite.size == 0 or bool(finite.min() == finite.max())
