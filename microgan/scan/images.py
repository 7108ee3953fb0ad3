"""Images in files and folders, as users name them on the command line: every page is an image."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from microgan.core.errors import UserError, escaped
from microgan.core.notes import warn
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.field_of_view import must_be_finite, nan_note, nan_outside, without_nan
from microgan.scan.formats.zarr import is_zarr
from microgan.scan.readers import open_image
from microgan.scan.slices import doubts_of_images, images_of

BATCH_PX = 1 << 18  # of the pages that are worked on, and in memory, at once; a larger page is alone


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and for each folder the images in it, in natural order: slice2 before slice10.

    Raises
    ------
    UserError
        If a folder has no images.
    """
    return list(
        chain.from_iterable(
            images_of(path) if path.is_dir() and not is_zarr(path) else [path] for path in paths
        )
    )


def pages(
    paths: Sequence[Path], *, reading: Reading = AS_IT_SAYS, with_outside: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each page of each file with its name: ``scan.png``, or ``stack.tif[3]`` of several.

    Parameters
    ----------
    paths
        Files and folders.
    reading
        How to read files that do not say so by themselves.
    with_outside
        Whether NaN outside of the reconstruction is allowed, as it reaches the border; inside it never is.

    Raises
    ------
    UserError
        If a file cannot be read, or holds NaN or infinity.
    """
    is_told = False
    for path in image_files(paths):
        file = _printable(path)
        with open_image(path, reading) as scan:
            for index in range(scan.shape[0]):
                name = file if scan.shape[0] == 1 else f"{file}[{index}]"
                page = scan.plane(index)
                must_be_finite(page, ~nan_outside(page) if with_outside else np.ones(page.shape, bool), name)
                note = None if is_told else nan_note(page, name)
                if note is not None:
                    warn(note)
                    is_told = True
                yield name, page


def _printable(path: Path) -> str:
    """Return a path as text on one line; of a name that is not UTF-8, the bytes as hex."""
    return escaped(os.fsencode(path).decode("utf-8", "backslashreplace"))


def batches(
    paths: Sequence[Path], what: str, *, reading: Reading = AS_IT_SAYS, with_outside: bool = False
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield names and pages (N, rows, cols) of all files, beside a progress bar of pages called ``what``.

    The pages of a batch have one size, and are few enough that memory does not grow with their number. All
    files are opened once before, to count their pages, to find the missing ones early, and to warn of what is
    doubtful. ``reading`` and
    ``with_outside`` as in `pages`.
    """
    total = _checked(paths, reading)
    names: list[str] = []
    batch: list[np.ndarray] = []
    for name, page in tqdm(
        pages(paths, reading=reading, with_outside=with_outside),
        desc=what,
        total=total,
        unit="img",
        disable=None,
    ):
        if batch and (page.shape != batch[0].shape or (len(batch) + 1) * page.size > BATCH_PX):
            yield names, np.stack(batch)
            names, batch = [], []
        names.append(name)
        batch.append(page)
    if batch:
        yield names, np.stack(batch)


def voxel_size_um(paths: Sequence[Path], reading: Reading = AS_IT_SAYS) -> float | None:
    """Return the side of a pixel that all files state, to within 1 %; none where none or only some do.

    Raises
    ------
    UserError
        If two files state different sizes.
    """
    sizes: dict[Path, float | None] = {}
    for path in image_files(paths):
        with open_image(path, reading) as scan:
            sizes[path] = scan.voxel_size_um
    stated = {path: size for path, size in sizes.items() if size is not None}
    if len(stated) < len(sizes):
        return None
    first, size_um = next(iter(stated.items()))
    for path, other_um in stated.items():
        if abs(other_um - size_um) > 0.01 * size_um:
            rule = f"must be {size_um:g} um as {first}, or give --voxel-size-um"
            raise UserError(path, f"voxel size {other_um:g} um", rule)
    return size_um


def stack(paths: Sequence[Path], reading: Reading = AS_IT_SAYS) -> tuple[list[str], np.ndarray]:
    """Return the names and pages (N, rows, cols) of files.

    Raises
    ------
    UserError
        If they are not all of one size.
    """
    _checked(paths, reading)
    names, images = zip(*pages(paths, reading=reading), strict=True)
    for name, page in zip(names, images, strict=True):
        if page.shape != images[0].shape:
            shape = "{} x {} px".format(*images[0].shape)
            raise UserError(name, "{} x {} px".format(*page.shape), f"must be {shape} as {names[0]}")
    return list(names), np.stack(images)


def stretch(image: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Map the grey values between the 0.5th and 99.5th percentile to [-1, 1]; a blank image becomes 0.

    Parameters
    ----------
    image
        One page.
    inside
        Where it shows the specimen: the percentiles are of the values there, and NaN outside becomes their
        median. Everywhere by default.
    """
    values = image if inside is None or not inside.any() else image[inside]
    low, high = np.percentile(values, (0.5, 99.5))
    if not high > low:
        return np.zeros(image.shape, np.float32)
    finite = without_nan(image, float(np.median(values))) if image.dtype.kind == "f" else image
    return np.clip(2 * (finite.astype(np.float32) - low) / (high - low) - 1, -1, 1).astype(np.float32)


def _checked(paths: Sequence[Path], reading: Reading) -> int:
    """Return the number of pages; warn of what is doubtful, once for files of which the same is said."""
    total = 0
    said: dict[str, list[Path]] = {}
    for folder in paths:
        if folder.is_dir() and not is_zarr(folder):
            for note in doubts_of_images(folder, images_of(folder)):
                warn(note)
    for path in image_files(paths):
        with open_image(path, reading) as scan:
            total += scan.shape[0]
            for note in scan.notes:
                said.setdefault(note.removeprefix(f"{path}: "), []).append(path)
    for note, files in said.items():
        more = f" (and {len(files) - 1} more files)" if len(files) > 1 else ""
        warn(f"{files[0]}: {note}{more}")
    return total
