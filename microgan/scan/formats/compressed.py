"""Values in a compressed stream, read plane by plane in their order, so that memory stays bounded."""

import bz2
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal

import numpy as np

PIECE = 1 << 20  # bytes of a file that are decompressed at once


class CompressedValues:
    """Values that are decompressed from the beginning on; to go back means to begin again.

    Parameters
    ----------
    path : Path
    offset : int
        Where the stream begins, bytes.
    kind : {"gzip", "bzip2", "zlib"}
    """

    def __init__(self, path: Path, offset: int, kind: Literal["gzip", "bzip2", "zlib"]) -> None:
        self._file, self._offset, self._kind = path.open("rb"), offset, kind
        self._begin()

    def _begin(self) -> None:
        self._file.seek(self._offset)
        self._values: gzip.GzipFile | bz2.BZ2File | _Inflated
        if self._kind == "zlib":
            self._values = _Inflated(self._file)
        else:
            self._values = (
                gzip.GzipFile(fileobj=self._file) if self._kind == "gzip" else bz2.BZ2File(self._file)
            )
        self._position = 0

    def read(self, position: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``position`` on."""
        if position < self._position:
            self._begin()
        while self._position < position:
            skipped = self._values.read(min(position - self._position, 1 << 24))
            if not skipped:
                return b""
            self._position += len(skipped)
        values = self._values.read(length)
        self._position += len(values)
        return values

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Inflated:
    """A stream of zlib, which the standard library reads as a whole only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._inflate = file, zlib.decompressobj(32 + zlib.MAX_WBITS)  # with either header

    def read(self, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(PIECE)
            if not packed:
                break
            part = self._inflate.decompress(packed, length)
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


def plane_reader(
    values: CompressedValues, dtype: np.dtype, shape: tuple[int, int, int]
) -> Callable[[int], np.ndarray]:
    """Return a function that reads a plane; with the last one the values must end."""
    planes, rows, cols = shape
    length = rows * cols * dtype.itemsize

    def read(index: int) -> np.ndarray:
        plane = values.read(index * length, length)
        if len(plane) < length:
            raise EOFError(f"ends in plane {index}")
        if index == planes - 1 and values.read(planes * length, 1):
            raise ValueError(f"holds more values than its header says, {planes} x {rows} x {cols} of {dtype}")
        return np.frombuffer(plane, dtype).reshape(rows, cols)

    return read
