"""Images in files and folders, as users name them on the command line: every page is an image."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from microgan.core.errors import UserError
from microgan.core.files import natural_order
from microgan.scan.readers import open_image

SUFFIXES = (".tif", ".tiff", ".png", ".npy")  # of the images that are read from folders
BATCH_PX = 1 << 18  # of the pages that are worked on, and in memory, at once; a larger page is alone


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and for each folder the images in it, in natural order: slice2 before slice10.

    Raises
    ------
    UserError
        If a folder has no images.
    """
    return list(chain.from_iterable(_images_of(path) if path.is_dir() else [path] for path in paths))


def pages(paths: Sequence[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each page of each file with its name: ``scan.png``, or ``stack.tif[3]`` of several."""
    for path in image_files(paths):
        with open_image(path) as scan:
            for index in range(scan.shape[0]):
                name = str(path) if scan.shape[0] == 1 else f"{path}[{index}]"
                yield name, scan.plane(index)


def batches(paths: Sequence[Path], what: str) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield names and pages (N, rows, cols) of all files, beside a progress bar of pages called ``what``.

    The pages of a batch have one size, and are few enough that memory does not grow with their number. All
    files are opened once before, to count their pages and to find the missing ones early.
    """
    total = 0
    for path in image_files(paths):
        with open_image(path) as scan:
            total += scan.shape[0]
    names: list[str] = []
    batch: list[np.ndarray] = []
    for name, page in tqdm(pages(paths), desc=what, total=total, unit="img", disable=None):
        if batch and (page.shape != batch[0].shape or (len(batch) + 1) * page.size > BATCH_PX):
            yield names, np.stack(batch)
            names, batch = [], []
        names.append(name)
        batch.append(page)
    if batch:
        yield names, np.stack(batch)


def voxel_size_um(paths: Sequence[Path]) -> float | None:
    """Return the side of a pixel that all files state, to within 1 %; none where none or only some do.

    Raises
    ------
    UserError
        If two files state different sizes.
    """
    sizes: dict[Path, float | None] = {}
    for path in image_files(paths):
        with open_image(path) as scan:
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


def stack(paths: Sequence[Path]) -> tuple[list[str], np.ndarray]:
    """Return the names and pages (N, rows, cols) of files.

    Raises
    ------
    UserError
        If they are not all of one size.
    """
    names, images = zip(*pages(paths), strict=True)
    for name, page in zip(names, images, strict=True):
        if page.shape != images[0].shape:
            shape = "{} x {} px".format(*images[0].shape)
            raise UserError(name, "{} x {} px".format(*page.shape), f"must be {shape} as {names[0]}")
    return list(names), np.stack(images)


def stretch(image: np.ndarray) -> np.ndarray:
    """Map the grey values between the 0.5th and 99.5th percentile to [-1, 1]; a blank image becomes 0."""
    low, high = np.percentile(image, (0.5, 99.5))
    if high <= low:
        return np.zeros(image.shape, np.float32)
    return np.clip(2 * (image.astype(np.float32) - low) / (high - low) - 1, -1, 1).astype(np.float32)


def _images_of(folder: Path) -> list[Path]:
    images = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not images:
        raise UserError(folder, "no images", f"must hold {', '.join(SUFFIXES)} files")
    return sorted(images, key=natural_order)
