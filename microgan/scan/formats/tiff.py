"""TIFF: multi-page, OME, ImageJ, BigTIFF, pyramids, in any compression; one file, or one file per plane."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from microgan.core.errors import UserError
from microgan.scan.allowed import Allowed
from microgan.scan.formats import lzw
from microgan.scan.formats.colour import JPEG_TOLERANCE, WAY_OUT, grey_of_samples, grey_palette, inverted
from microgan.scan.formats.tiff_header import must_be_decodable, must_be_sound, surplus_notes
from microgan.scan.stack import Scan, as_user_error, closed_on_error, native, of_slices, of_values
from microgan.scan.voxel_size import common, tiff_voxel_size

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")

ToGrey = Callable[[np.ndarray], np.ndarray]

# What tifffile logs, and goes on, where a file is truncated or parts of it are away.
_DEFECTS = re.compile("(page|value) offset|offset to page|failed to reshape|corrupted|failed to (open|read)")


def open_tiff(path: Path, allowed: Allowed) -> Scan:
    """Open a TIFF with one or many planes."""
    tiff = _whole_tiff(path)
    with closed_on_error(tiff):
        series = _only_series(tiff, path)
        files = _files_of(series, path, allowed)
        allowed.must_fit(_plane_axes(series, path), path)
        to_grey, dtype, notes = _grey(series, path)
        planes, rows, cols = (1, *_plane_axes(series, path))[-3:]
        notes = (*notes, *surplus_notes(series.keyframe, path, planes))
        shape = (planes, rows, cols)
        size = tiff_voxel_size(tiff, path)
        offset = series.dataoffset
        if offset is None or to_grey is not None or len(files) > 1:  # compressed, tiled, scattered, colour
            read = _page_reader(series, to_grey, path)
            files = files if len(files) == planes else (path,)
            return Scan(files, shape, dtype, read, tiff.close, size, notes)
        stored = np.dtype(tiff.byteorder + series.dtype.char)
    tiff.close()
    return of_values(path, shape, stored, offset, size, notes)


def open_tiff_slices(paths: Sequence[Path], allowed: Allowed) -> Scan:
    """Open TIFF files that each hold one plane, or that hold one OME-TIFF together."""
    headers, sizes, notes = [], [], []
    for path in paths:
        with as_user_error(path), _whole_tiff(path) as tiff:
            series = _only_series(tiff, path)
            files = _files_of(series, path, allowed)
            if path == paths[0] and set(files) == set(paths) and len(paths) > 1:
                return open_tiff(path, allowed)
            shape = _plane_axes(series, path)
            allowed.must_fit(shape, path)
            if len(shape) != 2:
                raise UserError(path, f"{shape[0]} pages", "must be one slice, or the folder's only TIFF")
            _, dtype, more = _grey(series, path)
            headers.append((shape, dtype))
            sizes.append(tiff_voxel_size(tiff, path))
            notes.append((*more, *surplus_notes(series.keyframe, path, 1)))
    size = common(paths, sizes)
    if size is None:
        stated = sorted({f"{size.um:g}" for size in sizes if size.um is not None})
        raise UserError(
            paths[0].parent, f"voxel sizes {', '.join(stated)} um", "must be the same in all slices"
        )
    return of_slices(paths, headers, lambda index: _only_plane(paths[index]), size, _joined(notes))


def _joined(notes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the notes of the first slice that has any, and how many more have some."""
    told = [more for more in notes if more]
    more = f" (and {len(told) - 1} more files)" if len(told) > 1 else ""
    return tuple(note + more for note in told[0]) if told else ()


def _only_plane(path: Path) -> np.ndarray:
    with _whole_tiff(path) as tiff:
        series = _only_series(tiff, path)
        return _page_reader(series, _grey(series, path)[0], path)(0)


def _whole_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF and walk its pages; tifffile only logs what a truncated file lacks."""
    tiff = None
    try:
        with _logged() as messages:
            tiff = tifffile.TiffFile(path)
            must_be_sound(tiff.pages.first, path)
            count = len(tiff.pages) and len(tiff.series)
        truncated = [message for message in messages if _DEFECTS.search(message)]
        if truncated or not count:
            raise ValueError(truncated[0] if truncated else "no pages")
    except BaseException:
        if tiff is not None:
            tiff.close()
        raise
    return tiff


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Yield what tifffile logs, and keep it off the screen."""
    messages: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield messages
    finally:
        logger.removeFilter(keep)


def _only_series(tiff: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    """Return the full-resolution planes; smaller copies of them (pyramids, thumbnails) are left out."""
    whole = [series for series in tiff.series if not series.keyframe.is_reduced] or list(tiff.series)
    if len(whole) > 1:
        shapes = ", ".join(sorted({str(pages.shape) for pages in whole}))
        raise UserError(path, f"pages of shape {shapes}", "must have pages of one size and type")
    return whole[0]


def _plane_axes(series: tifffile.TiffPageSeries, path: Path) -> tuple[int, ...]:
    """Return (planes, rows, columns) or (rows, columns), without the axis of samples."""
    axes = [
        (axis, int(size))
        for axis, size in zip(series.axes, series.shape, strict=True)
        if axis in "YX" or (axis != "S" and size > 1)
    ]
    if any(axis == "C" for axis, _ in axes):
        raise UserError(path, f"shape {series.shape}, axes {series.axes}", f"channels: {WAY_OUT}")
    if len(axes) not in (2, 3) or [axis for axis, _ in axes[-2:]] != ["Y", "X"]:
        raise UserError(path, f"shape {series.shape}, axes {series.axes}", "must be a stack of planes")
    return tuple(size for _, size in axes)


def _files_of(series: tifffile.TiffPageSeries, path: Path, allowed: Allowed) -> tuple[Path, ...]:
    """Return the files of the planes, in order: several for an OME-TIFF that was split."""
    if not series.is_multifile:
        return (path,)
    pages = [page for page in series.pages if page is not None]
    names = dict.fromkeys(page.parent.filehandle.path for page in pages)
    files = tuple(Path(handle_name) for handle_name in names)
    for file in files:
        allowed.must_be_inside(file, path)
    return files


def _page_reader(
    series: tifffile.TiffPageSeries, to_grey: ToGrey | None, path: Path
) -> Callable[[int], np.ndarray]:
    offset = series.dataoffset
    is_stack = any(
        size > 1 for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS"
    )
    # Three planes that were stored as the channels of one page, which its text calls planes.
    planes_of_page = 1 if "S" in series.axes else int(np.prod(series.keyframe.shape[:-2]))

    def read(index: int) -> np.ndarray:
        if len(series.pages) == 1 and is_stack and offset is not None:
            page = _part_of_contiguous(series, index, offset)  # ImageJ above 4 GB: all planes behind one page
        else:
            number, part = divmod(index, planes_of_page)
            found = series.pages[number]
            if found is None:
                raise ValueError(f"page {number} is missing")
            must_be_sound(found, path)
            page = _pixels(found)
            page = page.reshape(-1, *page.shape[-2:])[part] if planes_of_page > 1 else page
        return page if to_grey is None else to_grey(page)

    return read


def _pixels(page: tifffile.TiffPage | tifffile.TiffFrame) -> np.ndarray:
    """Read a page; tifffile closes all files but the first of an OME-TIFF that was split."""
    handle = page.parent.filehandle
    was_closed = handle.closed
    if was_closed:
        handle.open()
    try:
        _must_have_defined_codes(page)
        with _logged() as messages:
            values = page.asarray()
    finally:
        if was_closed:
            handle.close()
    lacking = [message for message in messages if "segment" in message or _DEFECTS.search(message)]
    if lacking:
        raise ValueError(lacking[0])
    return values


def _must_have_defined_codes(page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Raise `ValueError` where LZW data would lead their decoder astray."""
    keyframe = page.keyframe
    if keyframe is None or keyframe.compression != tifffile.COMPRESSION.LZW:
        return
    handle = page.parent.filehandle
    for number, (offset, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        handle.seek(offset)
        data = np.frombuffer(handle.read(length), np.uint8)
        if keyframe.fillorder == 2:  # the lowest bit of each byte comes first
            data = np.packbits(np.unpackbits(data, bitorder="little"))
        if len(data) and not lzw.is_sound(data):
            raise ValueError(f"strip or tile {number} has LZW codes that nothing defines")


def _part_of_contiguous(series: tifffile.TiffPageSeries, index: int, offset: int) -> np.ndarray:
    shape = tuple(size for axis, size in zip(series.axes, series.shape, strict=True) if axis in "SYX")
    file, count = series.keyframe.parent, int(np.prod(shape))
    dtype = np.dtype(file.byteorder + series.dtype.char)
    return file.filehandle.read_array(dtype, count, offset + index * count * dtype.itemsize).reshape(shape)


def _grey(series: tifffile.TiffPageSeries, path: Path) -> tuple[ToGrey | None, np.dtype, tuple[str, ...]]:
    """Return how pages become grey values as viewers show them (None: as they are), their type, and notes."""
    page = series.keyframe
    must_be_decodable(page, path)
    _plane_axes(series, path)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        grey = grey_palette(np.asarray(page.colormap), path)
        return (lambda values: grey[values]), grey.dtype, _palette_notes(grey, path)
    notes: tuple[str, ...] = ()
    steps: list[ToGrey] = []
    if "S" in series.axes:
        steps.append(_samples_to_grey(series, path))
    bits = int(np.max(page.bitspersample))
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and bits == 1:
        # A mask is labels, not grey values; tifffile writes bool so, and reads True back.
        notes = (
            f"{path}: mask of 1 bit, MinIsWhite: 1 is read as the disc phase, though viewers show it black",
        )
    elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        steps.append(lambda values: inverted(values, bits))
        notes = (
            f"{path}: photometric interpretation MinIsWhite: grey values are inverted, as viewers show them",
        )
    if not steps:
        return None, native(series.dtype), notes

    def to_grey(values: np.ndarray) -> np.ndarray:
        for step in steps:
            values = step(values)
        return values

    if "S" in series.axes:
        _page_reader(series, to_grey, path)(0)  # whether it is grey is only in the pixels
    return to_grey, native(series.dtype), notes


def _samples_to_grey(series: tifffile.TiffPageSeries, path: Path) -> ToGrey:
    page, known = series.keyframe, tifffile.PHOTOMETRIC
    if page.photometric not in (known.RGB, known.YCBCR, known.MINISBLACK, known.MINISWHITE):
        raise UserError(path, f"photometric interpretation {known(page.photometric).name}", WAY_OUT)
    lossy = page.compression in (6, 7, 34712, 33003, 33005)
    samples_first = series.axes.index("S") < series.axes.index("Y")

    def to_grey(values: np.ndarray) -> np.ndarray:
        if not samples_first:
            return grey_of_samples(values, path, JPEG_TOLERANCE if lossy else 0)
        try:
            return grey_of_samples(np.moveaxis(values, 0, -1), path, JPEG_TOLERANCE if lossy else 0)
        except UserError as error:  # as tifffile writes a stack of three planes by default
            where, what, rule = error.args
            more = "; if its channels are planes, write them with photometric='minisblack'"
            raise UserError(where, what, f"{rule}{more}") from None

    return to_grey


def _palette_notes(grey: np.ndarray, path: Path) -> tuple[str, ...]:
    if len(grey) > 1 and grey[0] > grey[-1]:
        return (
            f"{path}: its palette runs from white to black: grey values are inverted, as viewers show them",
        )
    return ()
