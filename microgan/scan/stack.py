"""An opened scan, and what all formats share: planes read when asked for, errors in one line."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from microgan.core.errors import UserError
from microgan.scan.voxel_size import UNKNOWN, VoxelSize

LONGEST_REASON = 240  # characters of what a library says
SLAB_BYTES = 1 << 28  # most that is kept of planes which chunks hold together


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
    voxel_size : VoxelSize
        Side of a pixel, and where it is stated.
    notes : tuple of str
        What was doubtful: a sentence each, of the file, of how it was read, of what to do.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype
    read_plane: Callable[[int], np.ndarray] = field(repr=False)
    close: Callable[[], None] = field(repr=False, default=lambda: None)
    voxel_size: VoxelSize = UNKNOWN
    notes: tuple[str, ...] = ()

    @property
    def voxel_size_um(self) -> float | None:
        """Side of a pixel in micrometres; None where nothing states it."""
        return self.voxel_size.um

    @property
    def voxel_size_source(self) -> str | None:
        """What states the voxel size: a parameter, a tag, an attribute of the file."""
        return self.voxel_size.source

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
        with as_user_error(self.file_of(index)):
            values = np.asarray(self.read_plane(index))
            if values.shape != self.shape[1:]:
                raise ValueError(f"plane {index} is of shape {values.shape}, not {self.shape[1:]}")
            return np.array(values, self.dtype, order="C")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def as_user_error(path: Path) -> Iterator[None]:
    """Turn whatever is raised while a file is read into one line.

    What libraries raise on broken files has no end, and what they return is not always what they document: an
    error here is an error of the file. The cause stays with the error, for who looks for a fault of microgan.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        reason = "".join(char if char.isprintable() else "?" for char in text)[:LONGEST_REASON]
        rule = f"must be whole and of the format that its suffix says ({reason})"
        raise UserError(path, "unreadable", rule) from error


@contextmanager
def closed_on_error(resource: Any) -> Iterator[None]:
    """Close ``resource`` where what follows fails."""
    try:
        yield
    except BaseException:
        resource.close()
        raise


def optional(module: str, package: str, path: Path, extra: str = "formats") -> ModuleType:
    """Import a package that only some formats need.

    Raises
    ------
    UserError
        If it is not installed: the line names the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        rule = f"pip install {package}, or all formats: pip install 'microgan[{extra}]' ({error})"
        raise UserError(path, f"needs the package {package}", rule) from None


def native(dtype: np.dtype) -> np.dtype:
    """Return ``dtype`` in the byte order of this machine."""
    return np.dtype(dtype).newbyteorder("=")


def of_slices(
    paths: Sequence[Path],
    headers: Sequence[tuple[tuple[int, int], np.dtype]],
    read: Callable[[int], np.ndarray],
    voxel_size: VoxelSize = UNKNOWN,
    notes: tuple[str, ...] = (),
) -> Scan:
    """Return the scan of files that each hold one plane, all of one size and type.

    Raises
    ------
    UserError
        If one differs from the first.
    """
    (rows, cols), dtype = headers[0]
    for path, header in zip(paths, headers, strict=True):
        if header != headers[0]:
            shape = "{} x {}".format(*header[0])
            raise UserError(
                path, f"{shape} {header[1]}", f"must be {rows} x {cols} {dtype} as {paths[0].name}"
            )
    return Scan(
        tuple(paths), (len(paths), rows, cols), native(dtype), read, voxel_size=voxel_size, notes=notes
    )


def of_values(
    path: Path,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    offset: int,
    voxel_size: VoxelSize = UNKNOWN,
    notes: tuple[str, ...] = (),
) -> Scan:
    """Map plain values of a file into memory, from ``offset`` bytes on."""
    # numpy maps what is there without a word; reading beyond the end would kill the process.
    if path.stat().st_size < offset + int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise ValueError(f"too short for {shape[0]} planes of {shape[1]} x {shape[2]} {dtype}")
    values = np.memmap(path, dtype, "r", offset, shape)
    return Scan(
        (path,), shape, native(dtype), lambda index: values[index], voxel_size=voxel_size, notes=notes
    )


def of_array(path: Path, values: Any, voxel_size: VoxelSize, notes: Sequence[str] = ()) -> Scan:
    """Return the scan in an array-like of any library, with axes of length 1 dropped.

    Raises
    ------
    UserError
        If it has more than three axes or fewer than two.
    """
    if 0 in values.shape:
        raise UserError(path, f"shape {values.shape}", "must hold at least one plane of at least one pixel")
    kept = kept_axes(values.shape)
    shape = tuple(int(values.shape[axis]) for axis in kept)
    if len(shape) not in (2, 3):
        rule = "must be (planes, rows, columns) or (rows, columns)"
        raise UserError(path, f"shape {tuple(values.shape)}", rule)

    planes, rows, cols = (1, *shape)[-3:]
    stack = (planes, rows, cols)

    def slab(first: int, end: int) -> np.ndarray:
        wanted = iter((slice(first, end), slice(None), slice(None))[-len(shape) :])
        part = values[tuple(next(wanted) if axis in kept else 0 for axis in range(len(values.shape)))]
        return part if len(shape) == 3 else part[None]

    # Of chunks that hold many planes, each read would decompress them all: they are read together.
    depth = values.chunks[kept[0]] if len(shape) == 3 and getattr(values, "chunks", None) else 1
    depth = max(1, min(depth, SLAB_BYTES // (rows * cols * values.dtype.itemsize)))
    read = _slab_reader(slab, depth, planes)
    told = (*notes, *planes_last_note(path, stack))
    return Scan((path,), stack, native(values.dtype), read, voxel_size=voxel_size, notes=told)


def _slab_reader(
    slab: Callable[[int, int], np.ndarray], depth: int, planes: int
) -> Callable[[int], np.ndarray]:
    """Return a function that reads a plane, and keeps the last ``depth`` planes that were read together."""
    if depth == 1:
        return lambda index: slab(index, index + 1)[0]
    last: dict[int, np.ndarray] = {}

    def read(index: int) -> np.ndarray:
        first = index // depth * depth
        if first not in last:
            last.clear()
            last[first] = np.asarray(slab(first, min(first + depth, planes)))
        return last[first][index - first]

    return read


def kept_axes(shape: Sequence[int]) -> list[int]:
    """Return which axes are planes, rows and columns: those left when axes of length 1 are dropped.

    A trailing axis of length 1 is a channel; of the others only those beyond three are dropped.

    Examples
    --------
    >>> kept_axes((5, 40, 30, 1)), kept_axes((1, 1, 40, 30)), kept_axes((40, 30, 1)), kept_axes((1, 40, 30))
    ([0, 1, 2], [1, 2, 3], [0, 1], [0, 1, 2])
    """
    axes = list(range(len(shape)))
    while len(axes) > 2 and shape[axes[-1]] == 1:
        axes.pop()
    for axis in list(axes):
        if len(axes) > 3 and shape[axis] == 1:
            axes.remove(axis)
    return axes


def surplus_note(path: Path, surplus: int, said: object) -> tuple[str, ...]:
    """Return a note where a file holds more bytes of values than its header says."""
    if surplus <= 0:
        return ()
    return (f"{path}: holds {surplus} bytes more than its header says ({said}): is the header right?",)


def planes_last_note(path: Path, shape: Sequence[int]) -> tuple[str, ...]:
    """Return a note where the last axis looks as if it counted planes, not columns."""
    first, rows, cols = shape
    if cols > 1 and ((first == rows != cols and first > 8) or 4 * cols < min(first, rows)):
        return (
            f"{path}: shape {tuple(shape)}: read as (planes, rows, columns), though the last axis looks like "
            "planes; if so, store the array with the planes first",
        )
    return ()
