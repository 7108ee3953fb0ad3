"""`microgan windows`: real windows at random, as one file: what `microgan compare` compares samples with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from microgan.commands.images import TIFF, must_be_named, written
from microgan.core.errors import UserError
from microgan.core.files import write_tiff
from microgan.core.memory import must_fit_into_memory
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.field_of_view import specimen
from microgan.scan.images import pages, voxel_size_um
from microgan.scan.planes import Planes, window_corners
from microgan.scan.windows import Windows

Part = Literal["train", "calibration", "held_out"]


def windows(
    scan: Path,
    count: int,
    size_px: int,
    seed: int,
    out: Path,
    part: Part | None = None,
    reading: Reading = AS_IT_SAYS,
) -> dict[str, Any]:
    """Draw windows uniformly over all places in the field of view, and write them in the scan's grey values.

    Parameters
    ----------
    scan
        A folder of planes (``data/planes``, or ``planes`` that ``microgan calibrate`` wrote), or a file or
        folder of slices.
    count, size_px, seed
        Number of windows, their side, and the seed of their places.
    out
        TIFF stack to write.
    part
        Of a scan that ingest has split; the held-out part by default. Slices have no parts.
    reading
        How to read slices that do not say so by themselves.
    """
    must_be_named("--out", out, *TIFF)
    must_fit_into_memory("count", count, 4 * count * size_px**2)
    rng = np.random.default_rng(seed)
    if (scan / "scan.json").is_file():
        planes = Planes.load(scan)
        drawn = Windows(planes, part or "held_out", size_px).draw(rng, count)[:, 0].numpy()
        stack, voxel_um = planes.info.denormalise(drawn), planes.info.voxel_size_um
    elif part is not None:
        rule = (
            "slices have no parts: needs data/planes of a project, or the folder planes/ that "
            "`microgan calibrate` wrote"
        )
        raise UserError("--part", part, rule)
    else:
        stack, voxel_um = _of_slices(scan, count, size_px, rng, reading), voxel_size_um([scan], reading)
    write_tiff(out, stack, voxel_um)
    return {"files": written(windows=out), "windows": count, "size_px": size_px, "seed": seed, "part": part}


def _of_slices(
    scan: Path, count: int, size_px: int, rng: np.random.Generator, reading: Reading
) -> np.ndarray:
    """Draw windows of raw slices; they are read twice, one at a time."""
    places = [int(allowed.sum()) for _, _, allowed in _allowed(scan, size_px, reading)]
    if not sum(places):
        rule = f"no window of {size_px} x {size_px} px fits into it and its field of view: take smaller ones"
        raise UserError(scan, "too small", f"{rule}, --size")
    numbers = rng.integers(sum(places), size=count)  # through all pages: one number is one place
    page_of = np.searchsorted(np.cumsum(places), numbers, side="right")
    before = np.cumsum([0, *places])
    drawn: dict[int, np.ndarray] = {}
    first: tuple[str, np.dtype] | None = None
    for index, (name, page, allowed) in enumerate(_allowed(scan, size_px, reading)):
        wanted = np.flatnonzero(page_of == index)
        first = first or (name, page.dtype)
        if page.dtype != first[1]:
            raise UserError(name, f"{page.dtype}", f"must be {first[1]} as {first[0]}")
        if not len(wanted):
            continue
        corners = np.argwhere(allowed)
        for number in wanted:
            row, col = corners[numbers[number] - before[index]]
            drawn[int(number)] = page[row : row + size_px, col : col + size_px]
    return np.stack([drawn[number] for number in range(count)])


def _allowed(scan: Path, size_px: int, reading: Reading) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each page with its name, and where the first pixel of a window may lie."""
    for name, page in pages([scan], reading=reading, with_outside=True):
        yield name, page, window_corners(specimen(page), size_px)
