"""Scans in the formats that scanners and their software write, read one plane at a time.

Every format has one function that reads the headers and returns a `Scan`, whose planes are read when
asked for. Arrays are ``(plane, row, col)``.
"""

import logging
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import tifffile
from PIL import Image

from microgan.core.errors import UserError
from microgan.core.files import natural_order
from microgan.scan.config import GREY_DTYPES, ScanConfig
from microgan.scan.voxel_size import UNIT_UM, tiff_voxel_size_um

TIFF, PNG = (".tif", ".tiff"), (".png",)
HDF5, NPY, RAW = (".h5", ".hdf5", ".nxs", ".hdf"), (".npy",), (".raw", ".vol", ".bin", ".dat")

# What the readers' libraries raise on a file that is broken, truncated or of another kind.
UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, IndexError, RuntimeError, SyntaxError, MemoryError,
    struct.error, zlib.error, tifffile.TiffFileError, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """A stack of planes that are read when asked for. Close it, or use it in a ``with`` statement.

    Attributes
    ----------
    files : tuple of Path
        One file with all planes, or one file per plane.
    shape : tuple
        Planes, rows, columns.
    dtype : numpy.dtype
        In the byte order of this machine.
    voxel_size_um : float or None
        Side of a pixel in micrometres; None where nothing states it.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_size_um: float | None
    read_plane: Callable[[int], np.ndarray] = field(repr=False)
    close: Callable[[], None] = field(repr=False, default=lambda: None)

    def file_of(self, index: int) -> Path:
        """Return the file that holds plane ``index``."""
        return self.files[index if len(self.files) > 1 else 0]

    def plane(self, index: int) -> np.ndarray:
        """Read plane ``index``, an ndarray of shape (rows, columns).

        Raises
        ------
        UserError
            If the file is truncated or broken there.
        """
        if not 0 <= index < self.shape[0]:
            raise IndexError(f"plane {index} of {self.shape[0]}")
        with _as_user_error(self.file_of(index)):
            return np.array(self.read_plane(index), self.dtype, order="C")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_scan(folder: Path, config: ScanConfig) -> Scan:
    """Open the scan in ``folder``; planes are read later, one at a time.

    TIFF (multi-page, OME, ImageJ, BigTIFF), PNG, a folder of TIFF or PNG slices in natural order, HDF5,
    NPY, and raw values with ``shape`` and ``dtype`` in ``config``.

    The voxel size comes from ``config`` or the file's metadata (OME, ImageJ, TIFF resolution tags). If
    both state it they must agree within 1 %. Without a unit, or with a resolution for print as editors
    write it unasked (72, 96, 150, 300, 600 per inch, 1), the size is unknown.

    Raises
    ------
    UserError
        If the scan is missing, empty, truncated, in colour, of mixed slice sizes or of an unknown format,
        or if the voxel sizes disagree.
    """
    path = Path(folder) / config.path
    if not path.exists():
        raise UserError(path, "missing", "the scan's file or folder must exist")
    scan = _open_slices(path) if path.is_dir() else _open_file(path, config)
    if 0 in scan.shape:
        scan.close()
        raise UserError(path, f"shape {scan.shape}", "must hold at least one plane of at least one pixel")
    if str(scan.dtype) not in GREY_DTYPES:
        scan.close()
        raise UserError(path, f"values of type {scan.dtype}", f"must be one of {', '.join(GREY_DTYPES)}")
    return _with_stated_voxel_size(scan, config)


def open_image(path: Path) -> Scan:
    """Open one file that says by itself how to read it: TIFF, PNG, NPY, or HDF5 with one data set.

    Raises
    ------
    UserError
        As `open_scan` does.
    """
    return open_scan(path.parent, ScanConfig(path=path.name, radius_px=(1, 2)))  # the band is not used


def _open_file(path: Path, config: ScanConfig) -> Scan:
    suffix = path.suffix.lower()
    if suffix not in (*TIFF, *PNG, *HDF5, *NPY, *RAW):
        raise UserError(path, f"suffix {suffix!r}", "must be a TIFF, PNG, HDF5, NPY or raw file")
    if path.stat().st_size == 0:
        raise UserError(path, "0 bytes", "must not be empty")
    with _as_user_error(path):
        if suffix in TIFF:
            return _open_tiff(path)
        if suffix in PNG:
            return _open_png_slices((path,))
        if suffix in HDF5:
            return _open_hdf5(path, config.dataset)
        if suffix in NPY:
            return _open_npy(path)
        return _open_raw(path, config)


def _open_slices(folder: Path) -> Scan:
    """Open a folder: PNG slices, TIFF slices, or one multi-page TIFF. Everything else in it is ignored."""
    pictures = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (*TIFF, *PNG) and not path.name.startswith(".")
    ]
    if not pictures:
        raise UserError(folder, "no slices", f"must hold {', '.join((*TIFF, *PNG))} files")
    slices = tuple(sorted(pictures, key=natural_order))
    empty = [path for path in slices if path.stat().st_size == 0]
    if empty:
        raise UserError(empty[0], "0 bytes", "must not be empty")
    suffixes = {path.suffix.lower() for path in slices}
    if suffixes <= set(PNG):
        return _open_png_slices(slices)
    if not suffixes <= set(TIFF):
        raise UserError(folder, "TIFF and PNG slices", "must hold slices of one format")
    if len(slices) == 1:
        with _as_user_error(slices[0]):
            return _open_tiff(slices[0])
    return _open_tiff_slices(slices)


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Turn what the reading libraries raise on a broken file into one line."""
    try:
        yield
    except UserError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            path, "unreadable", f"must be whole and of the format that its suffix says ({reason})"
        ) from None


# TIFF --------------------------------------------------------------------------------------------------


def _open_tiff(path: Path) -> Scan:
    tiff = _whole_tiff(path)
    try:
        series = _only_series(tiff, path)
        planes, rows, cols = (1, *series.shape)[-3:]
        shape = (int(planes), int(rows), int(cols))
        voxel_size_um = tiff_voxel_size_um(tiff, path)
        if series.dataoffset is None:  # compressed, tiled or scattered pages
            return Scan(
                (path,), shape, _native(series.dtype), voxel_size_um, _page_reader(series), tiff.close
            )
    except BaseException:
        tiff.close()
        raise
    offset, dtype = series.dataoffset, np.dtype(tiff.byteorder + series.dtype.char)
    tiff.close()
    return _open_values(path, shape, dtype, offset, voxel_size_um)


def _open_tiff_slices(paths: tuple[Path, ...]) -> Scan:
    headers, voxel_sizes_um = [], set()
    for path in paths:
        with _as_user_error(path), _whole_tiff(path) as tiff:
            series = _only_series(tiff, path)
            if len(series.shape) != 2:
                raise UserError(
                    path, f"{series.shape[0]} pages", "must be one slice, or the folder's only TIFF"
                )
            headers.append((series.shape, series.dtype))
            voxel_sizes_um.add(tiff_voxel_size_um(tiff, path))
    if len(voxel_sizes_um) > 1:
        raise UserError(paths[0].parent, f"voxel sizes {voxel_sizes_um} um", "must be the same in all slices")
    return _stack_slices(paths, headers, voxel_sizes_um.pop(), lambda index: tifffile.imread(paths[index]))


def _whole_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF and walk its pages; tifffile only logs what a truncated file lacks."""
    defects: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        defects.append(record.getMessage())
        return False  # keep it off the screen

    logger = logging.getLogger("tifffile")
    logger.addFilter(note)
    tiff = None
    try:
        tiff = tifffile.TiffFile(path)
        count = len(tiff.pages) and len(tiff.series)
    except BaseException:
        if tiff is not None:
            tiff.close()
        raise
    finally:
        logger.removeFilter(note)
    truncated = [
        defect
        for defect in defects
        if re.search("(page|value) offset|offset to page|failed to reshape|corrupted", defect)
    ]
    if truncated or not count:
        tiff.close()
        raise ValueError(truncated[0] if truncated else "no pages")
    return tiff


def _only_series(tiff: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    series = tiff.series[0]
    if len(tiff.series) > 1:
        shapes = ", ".join(sorted({str(pages.shape) for pages in tiff.series}))
        raise UserError(path, f"pages of shape {shapes}", "must have pages of one size and type")
    if (
        "S" in series.axes
        or "C" in series.axes
        or series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
    ):
        raise UserError(
            path, f"shape {series.shape}, axes {series.axes}", "must be grey, not colour or channels"
        )
    if len(series.shape) not in (2, 3) or not series.axes.endswith("YX"):
        raise UserError(path, f"shape {series.shape}, axes {series.axes}", "must be a stack of planes")
    return series


def _page_reader(series: tifffile.TiffPageSeries) -> Callable[[int], np.ndarray]:
    def read(index: int) -> np.ndarray:
        page = series.pages[index]
        if page is None:
            raise ValueError(f"page {index} is missing")
        return page.asarray()

    return read


UNIT_UM |= {"mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "in": 25400.0}


# Other formats -----------------------------------------------------------------------------------------


def _open_png_slices(paths: tuple[Path, ...]) -> Scan:
    headers = []
    for path in paths:
        with _as_user_error(path), Image.open(path) as picture:
            # Pillow reads 16-bit grey as mode I;16, and older versions as I.
            dtype = {"L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.uint16}.get(picture.mode)
            if dtype is None:
                raise UserError(path, f"colour mode {picture.mode}", "must be 8- or 16-bit grey, not colour")
            headers.append(((picture.height, picture.width), np.dtype(dtype)))

    def read(index: int) -> np.ndarray:
        with Image.open(paths[index]) as picture:
            return np.asarray(picture)

    return _stack_slices(paths, headers, None, read)


def _stack_slices(
    paths: tuple[Path, ...],
    headers: list[tuple[tuple[int, int], np.dtype]],
    voxel_size_um: float | None,
    read: Callable[[int], np.ndarray],
) -> Scan:
    (rows, cols), dtype = headers[0]
    for path, header in zip(paths, headers, strict=True):
        if header != headers[0]:
            shape = "{} x {}".format(*header[0])
            raise UserError(
                path, f"{shape} {header[1]}", f"must be {rows} x {cols} {dtype} as {paths[0].name}"
            )
    return Scan(paths, (len(paths), rows, cols), _native(dtype), voxel_size_um, read)


def _open_hdf5(path: Path, name: str | None) -> Scan:
    file = h5py.File(path, "r")
    try:
        stack = _hdf5_dataset(file, name)
        shape = (1, *stack.shape) if stack.ndim == 2 else stack.shape
        read = (lambda index: stack[:]) if stack.ndim == 2 else (lambda index: stack[index])
        return Scan((path,), shape, _native(stack.dtype), None, read, file.close)
    except BaseException:
        file.close()
        raise


def _hdf5_dataset(file: h5py.File, name: str | None) -> h5py.Dataset:
    stacks: list[str] = []

    def note(item_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim in (2, 3):
            stacks.append(item_name)

    file.visititems(note)
    known = (
        f"must name one of {', '.join(stacks)}" if stacks else f"{file.filename} holds no 2D or 3D data set"
    )
    if name is None and len(stacks) == 1:
        return file[stacks[0]]
    if name is None or name.strip("/") not in stacks:
        raise UserError("dataset", name, known)
    return file[name]


def _open_npy(path: Path) -> Scan:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.ndim not in (2, 3):
        raise UserError(path, f"shape {values.shape}", "must be (planes, rows, columns) or (rows, columns)")
    stack = values[None] if values.ndim == 2 else values
    planes, rows, cols = stack.shape
    return Scan((path,), (planes, rows, cols), _native(values.dtype), None, lambda index: stack[index])


def _open_raw(path: Path, config: ScanConfig) -> Scan:
    if config.shape is None or config.dtype is None:
        missing = "shape" if config.shape is None else "dtype"
        raise UserError(missing, None, f"raw file {path.name} needs shape and dtype")
    dtype = np.dtype(config.dtype).newbyteorder("<" if config.byte_order == "little" else ">")
    wanted = int(np.prod(config.shape)) * dtype.itemsize
    if path.stat().st_size != wanted:
        size = f"{path.stat().st_size} bytes"
        raise UserError(
            path, size, f"must be {wanted} bytes, for shape {config.shape} and dtype {config.dtype}"
        )
    return _open_values(path, config.shape, dtype, 0, None)


def _open_values(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype, offset: int, voxel_size_um: float | None
) -> Scan:
    """Map plain values of a file into memory, from ``offset`` bytes on."""
    # numpy maps what is there without a word; reading beyond the end would kill the process.
    if path.stat().st_size < offset + int(np.prod(shape)) * dtype.itemsize:
        raise ValueError(f"too short for {shape[0]} planes of {shape[1]} x {shape[2]} {dtype}")
    values = np.memmap(path, dtype, "r", offset, shape)
    return Scan((path,), shape, _native(dtype), voxel_size_um, lambda index: values[index])


def _native(dtype: np.dtype) -> np.dtype:
    return np.dtype(dtype).newbyteorder("=")


def _with_stated_voxel_size(scan: Scan, config: ScanConfig) -> Scan:
    stated, read = config.voxel_size_um, scan.voxel_size_um
    if stated is None:
        return scan
    if read is not None and abs(stated - read) > 0.01 * read:
        scan.close()
        rule = f"must agree with {scan.files[0].name}, which says {read:g} um"
        raise UserError("voxel_size_um", stated, rule)
    return Scan(scan.files, scan.shape, scan.dtype, stated, scan.read_plane, scan.close)
