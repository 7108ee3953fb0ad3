"""NPY, and raw values whose shape and type are parameters."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.config import ScanConfig
from microgan.scan.stack import Scan, of_array, of_values, planes_last_note
from microgan.scan.voxel_size import UNKNOWN

NPY, RAW = (".npy",), (".raw", ".vol", ".bin", ".dat")


def open_npy(path: Path) -> Scan:
    """Open an NPY file, in C or Fortran order."""
    return of_array(path, np.load(path, mmap_mode="r", allow_pickle=False), UNKNOWN)


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
