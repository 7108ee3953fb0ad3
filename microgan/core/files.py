"""Readers and writers of files; what is written is either whole or not there, see `microgan.core.atomic`."""

import hashlib
import math
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from microgan.core.atomic import atomic as atomic
from microgan.core.errors import UserError
from microgan.core.words import in_bytes

SHA256 = "^[0-9a-f]{64}$"  # of a digest as JSON holds it
LARGEST_TEXT_BYTES = 1 << 28  # of JSON and YAML: the largest, of planes by the thousand, have some megabytes
LARGEST_RATIONAL = 2**32 - 1  # of a tag of TIFF
BIGTIFF_BYTES = 1 << 26  # of grey values: 8192 x 8192 of one byte


def natural_order(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key for files: slice9 before slice10, whatever the case; numbers before letters.

    Examples
    --------
    >>> sorted(map(Path, ["slice10", "Slice9", "slice9b"]), key=natural_order)
    [PosixPath('Slice9'), PosixPath('slice9b'), PosixPath('slice10')]
    """
    parts = re.findall(r"\d+|\D+", path.name.lower())
    words = [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]
    return words, path.name  # the name decides between names that differ in case alone


def write_tiff(path: str | Path, stack: np.ndarray, voxel_size_um: float | None = None) -> None:
    """Write an ``(n, rows, cols)`` stack, page by page; a known voxel size becomes resolution tags."""
    with atomic(path) as draft, tifffile.TiffWriter(draft, bigtiff=stack.nbytes > 2**31) as writer:
        for plane in stack:
            writer.write(plane, contiguous=True, **_tags(voxel_size_um))


def write_tiff_in_bands(
    path: str | Path,
    bands: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    voxel_size_um: float | None = None,
) -> None:
    """Write an ``(n, rows, cols)`` stack that is never in memory as a whole.

    Parameters
    ----------
    path
        File to write. From 64 MiB on it is a BigTIFF. Pages are uncompressed and contiguous, so that
        `tifffile.memmap` opens them.
    bands
        Consecutive rows of the pages, each band (rows, cols), from the first page's top to the last
        page's bottom. A band ends with its page at the latest.
    shape
        Of the stack.
    dtype
        Of the grey values.
    voxel_size_um
        Becomes resolution tags, where it is known.
    """
    native = np.dtype(dtype).newbyteorder("=")
    size_bytes = math.prod(shape) * native.itemsize
    _must_have_room(Path(path), size_bytes)
    bigtiff = size_bytes >= BIGTIFF_BYTES
    with atomic(path) as draft, tifffile.TiffWriter(draft, bigtiff=bigtiff) as writer:
        chunks = (band.astype(native, copy=False).tobytes() for band in bands)
        writer.write(chunks, shape=shape, dtype=native, **_tags(voxel_size_um))


def must_be_regular(path: str | Path) -> None:
    """Refuse a device, a pipe or a folder, of which reading would wait or never end.

    Raises
    ------
    UserError
        If there is something at ``path`` that is no file; a missing one is left to who opens it.
    """
    if Path(path).exists() and not Path(path).is_file():
        if Path(path).is_dir():
            raise UserError(path, "is a folder", "must be a file")
        rule = "must be a file: save what comes out of it as one"
        raise UserError(path, "is a device or a pipe", rule)


def read_small(path: str | Path) -> bytes:
    """Return the bytes of a file of text, of which none is large.

    Raises
    ------
    UserError
        If it is no file, or has more than `LARGEST_TEXT_BYTES`.
    """
    must_be_regular(path)
    with Path(path).open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_TEXT_BYTES:
            rule = f"must be of at most {in_bytes(LARGEST_TEXT_BYTES)}: is it another file?"
            raise UserError(path, in_bytes(size), rule)
        return stream.read(size + 1)


def free_bytes(path: Path) -> int:
    """Return how much room there is for a file or folder that may not be there yet."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return shutil.disk_usage(folder).free


def _must_have_room(path: Path, size_bytes: int) -> None:
    """Refuse a file that is larger than what is free on its disk, before hours of work end there.

    Raises
    ------
    UserError
        Names both sizes.
    """
    free = free_bytes(path)
    if size_bytes > free:
        rule = f"does not fit onto the disk, which has {in_bytes(free)} free: write fewer or smaller images"
        raise UserError(path, in_bytes(size_bytes), rule)


def _tags(voxel_size_um: float | None) -> dict[str, Any]:
    tags: dict[str, Any] = {"photometric": "minisblack"}
    pixels_per_cm = 1e4 / voxel_size_um if voxel_size_um else 0.0
    if 0 < pixels_per_cm < LARGEST_RATIONAL:  # of pixels finer than that a tag can state no size
        tags |= {"resolution": (pixels_per_cm, pixels_per_cm), "resolutionunit": "CENTIMETER"}
    return tags


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits, the same as ``sha256sum`` prints."""
    must_be_regular(path)
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(*parts: bytes | str | Path) -> str:
    """Return 64 hex digits that differ when any part differs, or where one part ends and the next begins.

    A `Path` stands for the bytes of its file. Names what was computed from these parts, such as the folder
    of a training's state. It is not the SHA-256 of a file: for that, there is `file_sha256`.
    """
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            must_be_regular(part)
            with part.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    sha.update(chunk)
        else:
            sha.update(part.encode() if isinstance(part, str) else part)
        sha.update(b"\0")
    return sha.hexdigest()
