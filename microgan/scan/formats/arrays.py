"""NPY, and raw values whose shape and type are parameters."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.config import ScanConfig
from microgan.scan.stack import Scan, of_array, of_values, planes_last_note, surplus_note
from microgan.scan.voxel_size import UNKNOWN

NPY, RAW = (".npy",), (".raw", ".vol", ".bin", ".dat")


def open_npy(path: Path) -> Scan:
    """Open an NPY file, in C or Fortran order."""
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(stream)
        offset = stream.tell()
    if not all(type(side) is int and side > 0 for side in shape):
        raise UserError(path, f"shape {shape}", "must be integers of at least 1")
    if dtype.kind not in "biufc":
        raise UserError(path, f"values of type {dtype}", "must be numbers")
    wanted, size = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if size < wanted:
        raise ValueError(f"{size} bytes are too short for shape {shape} and {dtype}, {wanted} bytes")
    values = np.memmap(path, dtype, "r", offset, shape, "F" if is_fortran else "C")
    return of_array(path, values, UNKNOWN, surplus_note(path, size - wanted, f"shape {shape}"))


def open_raw(path: Path, config: ScanConfig) -> Scan:
    """Open raw values of the ``shape``, ``dtype`` and ``byte_order`` in ``config``."""
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
    scan = of_values(path, config.shape, dtype, 0)
    return replace(scan, notes=planes_last_note(path, config.shape))
