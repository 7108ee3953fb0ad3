"""Readers and writers of files; what is written is either whole or not there, see `microgan.core.atomic`."""

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from microgan.core.atomic import atomic as atomic
from microgan.core.errors import UserError

BIGTIFF_BYTES = 1 << 26  # of grey values: 8192 x 8192 of one byte


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON; NaN and infinity are refused, as JSON has neither."""
    text = json.dumps(content, indent=2, allow_nan=False, default=_plain) + "\n"
    with atomic(path) as draft:
        draft.write_text(text)


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object; `UserError` names the file when it is missing or broken."""
    try:
        return dict(json.loads(Path(path).read_text()))
    except FileNotFoundError:
        raise UserError(path, "missing", "file must exist") from None
    except (ValueError, TypeError) as error:
        raise UserError(path, "unreadable", f"must hold a JSON object ({error})") from None


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


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with one header line."""
    with atomic(path) as draft, draft.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


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
    bigtiff = math.prod(shape) * native.itemsize >= BIGTIFF_BYTES
    with atomic(path) as draft, tifffile.TiffWriter(draft, bigtiff=bigtiff) as writer:
        chunks = (band.astype(native, copy=False).tobytes() for band in bands)
        writer.write(chunks, shape=shape, dtype=native, **_tags(voxel_size_um))


def _tags(voxel_size_um: float | None) -> dict[str, Any]:
    tags: dict[str, Any] = {"photometric": "minisblack"}
    if voxel_size_um is not None:
        pixels_per_cm = 1e4 / voxel_size_um
        tags |= {"resolution": (pixels_per_cm, pixels_per_cm), "resolutionunit": "CENTIMETER"}
    return tags


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits, the same as ``sha256sum`` prints."""
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
            with part.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    sha.update(chunk)
        else:
            sha.update(part.encode() if isinstance(part, str) else part)
        sha.update(b"\0")
    return sha.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
