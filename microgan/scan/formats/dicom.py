"""DICOM: one file with one or many frames, or one file per plane, in the order of the planes' positions."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.formats.colour import WAY_OUT, inverted
from microgan.scan.stack import Scan, as_user_error, of_slices, optional
from microgan.scan.voxel_size import UNKNOWN, VoxelSize, common, square

SUFFIXES = (".dcm", ".dicom", ".ima")


def open_dicom(path: Path) -> Scan:
    """Open one DICOM file."""
    header = _header(path)
    frames = _frames(header, path)
    read, dtype, notes = _reader(header, path)
    shape = (frames, *_rows_and_columns(header, path))
    return Scan((path,), shape, dtype, read, voxel_size=_voxel_size(header, path), notes=notes)


def is_dicom(path: Path) -> bool:
    """Whether a file is named or begins as DICOM does."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdecimal():  # names without a suffix, or of numbers: 1.2.840.1
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def in_order(paths: Sequence[Path]) -> list[Path]:
    """Return files in the order of their planes' positions, or instance numbers."""
    headers = []
    for path in paths:
        with as_user_error(path):
            headers.append(_header(path))
    return [paths[index] for index in _order(headers)]


def open_dicom_slices(paths: Sequence[Path]) -> Scan:
    """Open DICOM files that each hold one plane, in the order of their positions or instance numbers."""
    headers = []
    for path in paths:
        with as_user_error(path):
            headers.append(_header(path))
    series = {str(header.get("SeriesInstanceUID")) for header in headers}
    if len(series) > 1:
        raise UserError(
            paths[0].parent, f"{len(series)} series", "must hold one scan: name the others in exclude"
        )
    order = _order(headers)
    files, headers = [paths[index] for index in order], [headers[index] for index in order]
    notes: list[str] = []
    if order != sorted(order):
        notes.append(
            f"{paths[0].parent}: the order of names is not that of the planes' positions: read by position"
        )
    readers, stacked, sizes = [], [], []
    for path, header in zip(files, headers, strict=True):
        if _frames(header, path) > 1:
            raise UserError(path, f"{header.NumberOfFrames} frames", "must be one slice, or named in path")
        read, dtype, more = _reader(header, path)
        readers.append(read)
        stacked.append((_rows_and_columns(header, path), dtype))
        sizes.append(_voxel_size(header, path))
        notes += [note for note in more if not notes or note.partition(": ")[2] not in notes[-1]]
    size = common(files, sizes)
    if size is None:
        raise UserError(paths[0].parent, "different pixel spacings", "must be the same in all slices")
    return of_slices(files, stacked, lambda index: readers[index](0), size, tuple(notes))


def _header(path: Path) -> Any:
    pydicom = optional("pydicom", "pydicom", path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values against the standard: many scanners write some
        header = pydicom.dcmread(path, stop_before_pixels=True)
    for name in ("Rows", "Columns", "BitsStored"):
        if name not in header:
            raise UserError(path, f"no {name}", "must be a DICOM image")
    if _number(header, "SamplesPerPixel", path, 1) != 1 or not str(
        header.get("PhotometricInterpretation", "MONOCHROME2")
    ).startswith("MONOCHROME"):
        raise UserError(path, str(header.get("PhotometricInterpretation")), WAY_OUT)
    return header


def _number(header: Any, name: str, path: Path, default: float) -> float:
    value = header.get(name)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise UserError(path, f"{name} {value}", "must be one finite number")
    return number


def _frames(header: Any, path: Path) -> int:
    frames = int(_number(header, "NumberOfFrames", path, 1))
    if frames < 1:
        raise UserError(path, f"NumberOfFrames {frames}", "must be at least 1")
    return frames


def _must_be_all(path: Path, header: Any, allocated: int) -> None:
    """Refuse plain pixels that are more than the header says, of which frames would be lost."""
    pydicom = optional("pydicom", "pydicom", path)
    element = pydicom.dcmread(path, defer_size=1024, specific_tags=["PixelData"]).get_item("PixelData")
    rows, cols = _rows_and_columns(header, path)
    wanted = _frames(header, path) * rows * cols * allocated // 8
    held = getattr(element, "length", 0xFFFFFFFF)
    if held != 0xFFFFFFFF and held > wanted + 1 and not header.file_meta.TransferSyntaxUID.is_compressed:
        what = f"PixelData of {held} bytes"
        raise UserError(
            path, what, f"must be {wanted}, as Rows, Columns, NumberOfFrames and BitsAllocated say"
        )


def _rows_and_columns(header: Any, path: Path) -> tuple[int, int]:
    rows, cols = (int(_number(header, name, path, 0)) for name in ("Rows", "Columns"))
    if rows < 1 or cols < 1:
        raise UserError(path, f"{rows} Rows, {cols} Columns", "must be at least 1")
    return rows, cols


def _order(headers: Sequence[Any]) -> list[int]:
    """Return the order of positions along the planes' normal; else of instance numbers; else as it is."""
    places: list[float] = []
    for header in headers:
        position, directions = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
        if position is None or directions is None:
            break
        along = np.cross(np.array(directions[:3], float), np.array(directions[3:], float))
        places.append(float(np.dot(along, np.array(position, float))))
    if len(places) < len(headers) or len(set(places)) < len(headers):
        numbers = [header.get("InstanceNumber") for header in headers]
        if None in numbers or len(set(numbers)) < len(headers):
            return list(range(len(headers)))
        places = [float(number) for number in numbers]
    return sorted(range(len(headers)), key=places.__getitem__)


def _reader(header: Any, path: Path) -> tuple[Callable[[int], np.ndarray], np.dtype, tuple[str, ...]]:
    """Return how a frame is read, its type, and notes.

    Stored values, unless the file rescales them by more than a shift: slopes may differ among slices.
    """
    pixels = optional("pydicom.pixels", "pydicom", path)
    slope, shift = (
        _number(header, name, path, n) for name, n in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    is_signed = _number(header, "PixelRepresentation", path, 0) == 1
    bits = int(_number(header, "BitsStored", path, 16))
    allocated = max(int(_number(header, "BitsAllocated", path, 16)), 8)
    if allocated not in (8, 16, 32) or not 1 <= bits <= allocated:
        raise UserError(
            path, f"BitsStored {bits} of {allocated} bits", "must be 1 to 8, 16 or 32 bits allocated"
        )
    _must_be_all(path, header, allocated)
    stored = np.dtype(f"{'int' if is_signed else 'uint'}{allocated}")
    is_inverse = header.get("PhotometricInterpretation") == "MONOCHROME1"

    def read(frame: int) -> np.ndarray:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            values = pixels.pixel_array(path, index=frame, raw=True)
        for warning in told:  # of values against the standard there are many; these are of the pixels
            if "bytes long" in str(warning.message):
                raise ValueError(str(warning.message))
        if is_inverse:
            values = inverted(values, bits)
        return (
            values if slope == 1 else (values * (-slope if is_inverse else slope) + shift).astype(np.float32)
        )

    notes = (f"{path}: MONOCHROME1: grey values are inverted, as viewers show them",) if is_inverse else ()
    return read, stored if slope == 1 else np.dtype(np.float32), notes


def _voxel_size(header: Any, path: Path) -> VoxelSize:
    spacing = header.get("PixelSpacing")
    if spacing is None and "SharedFunctionalGroupsSequence" in header:
        measures = header.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
        spacing = measures[0].get("PixelSpacing") if measures else None
    if spacing is None:
        return UNKNOWN
    row_mm, col_mm = (float(side) for side in spacing)
    return square(path, col_mm * 1e3, row_mm * 1e3, "PixelSpacing, millimetres")
