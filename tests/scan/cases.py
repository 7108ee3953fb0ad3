"""Small scans with one trap each, as files of this trade come, and what a reader must make of each.

All pixels are drawn here: bright discs of radius 5 to 7 px on a grey matrix, with noise.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import tifffile
from PIL import Image

PIXEL_UM = 0.65
PER_CM = {"resolution": (1e4 / PIXEL_UM,) * 2, "resolutionunit": "CENTIMETER"}
ROWS, COLS = 160, 192


@dataclass(frozen=True)
class Expected:
    """What must come out: planes and voxel size, words of a note; or the words of a refusal."""

    planes: int = 1
    voxel_size_um: float | None = None
    note: str = ""
    refused: tuple[str, ...] = ()


@cache
def plane(seed: int) -> np.ndarray:
    """Draw one uint8 plane with discs that do not overlap."""
    rng = np.random.default_rng(seed)
    discs: list[tuple[float, float, float]] = []
    while len(discs) < 60:
        row, col, radius = rng.uniform(0, ROWS), rng.uniform(0, COLS), rng.uniform(5, 7)
        if all(np.hypot(row - r, col - c) > radius + s + 1 for r, c, s in discs):
            discs.append((row, col, radius))
    at = np.indices((ROWS, COLS))
    depth = np.max([s - np.hypot(at[0] - r, at[1] - c) for r, c, s in discs], axis=0)
    grey = 90 + 80 * np.clip(depth + 0.5, 0, 1) + rng.normal(0, 8, (ROWS, COLS))
    return np.clip(grey, 0, 255).astype(np.uint8)


def stack() -> np.ndarray:
    """Return three planes."""
    return np.stack([plane(seed) for seed in range(3)])


def outside_of_circle(radius_px: float = 78) -> np.ndarray:
    """Return where a plane lies outside of a reconstruction circle."""
    middle = np.array([(ROWS - 1) / 2, (COLS - 1) / 2])[:, None, None]
    return np.hypot(*(np.indices((ROWS, COLS)) - middle)) > radius_px


def slices(folder: Path, items: Mapping[str, np.ndarray], **options: object) -> None:
    """Write a folder of TIFF slices."""
    folder.mkdir(exist_ok=True)
    for name, image in items.items():
        tifffile.imwrite(folder / name, image, photometric="minisblack", **options)


def draw(folder: Path) -> None:
    """Draw all cases of `CASES`."""
    _tiff_files(folder)
    _voxel_sizes(folder)
    _hdf5_files(folder)
    _folders(folder)
    np.save(folder / "mask_bool.npy", plane(0) > 130)
    tifffile.imwrite(folder / "mask_1bit.tif", plane(0) > 130)


def _tiff_files(folder: Path) -> None:
    one, deep, tiff = plane(0), stack().astype(np.uint16) * 157 + 3000, tifffile.imwrite
    for kind in ("lzw", "zlib", "zstd", "packbits", "jpeg", "lzma"):
        source = stack() if kind == "jpeg" else deep
        tiff(folder / f"compressed_{kind}.tif", source, compression=kind, photometric="minisblack", **PER_CM)
    tiff(folder / "min_is_white.tif", 255 - one, photometric="miniswhite")
    ramp = np.repeat((np.arange(256) * 257).astype(np.uint16)[None], 3, 0)
    tiff(folder / "grey_palette.tif", one, photometric="palette", colormap=ramp)
    tiff(folder / "grey_as_rgb.tif", np.repeat(one[..., None], 3, -1), photometric="rgb")
    Image.fromarray(one).convert("RGBA").save(folder / "grey_as_rgba.png")
    tiff(folder / "coloured.tif", np.dstack([one, one // 2, 255 - one]), photometric="rgb")
    values = stack().astype(np.float32) / 255
    values[:, outside_of_circle()] = np.nan
    tiff(folder / "nan_outside_circle.tif", values, photometric="minisblack")


def _voxel_sizes(folder: Path) -> None:
    planes, tiff = stack(), tifffile.imwrite
    for dpi in (72, 93, 200, 1200):
        inch = {"resolution": (dpi, dpi), "resolutionunit": "INCH"}
        tiff(folder / f"print_{dpi}_dpi.tif", planes[0], photometric="minisblack", **inch)
    for unit, per in UNITS.items():
        options = {"resolution": (per / PIXEL_UM,) * 2, "metadata": {"axes": "ZYX", "unit": unit}}
        tiff(folder / f"imagej_{unit.replace(chr(92), '')}.tif", planes, imagej=True, **options)
    text = {"axes": "ZYX", "unit": "um"}
    tiff(folder / "imagej_unit_beside_cm.tif", planes, imagej=True, metadata=text, **PER_CM)
    text = {"axes": "ZYX", "unit": "mm"}
    with warnings.catch_warnings():  # three planes become the channels of one page
        warnings.simplefilter("ignore", DeprecationWarning)
        per_mm = {"resolution": (1e3 / PIXEL_UM,) * 2, "metadata": text}
        tiff(folder / "json_unit_mm_beside_inch.tif", planes, **per_mm)
    sizes = {f"PhysicalSize{axis}": 650.0 for axis in "XYZ"}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    tiff(folder / "ome_nm.ome.tif", planes, metadata={"axes": "ZYX", **sizes, **units})


def _hdf5_files(folder: Path) -> None:
    planes = stack()
    with h5py.File(folder / "virtual_source.h5", "w") as file:
        file["data"] = planes
    layout = h5py.VirtualLayout(planes.shape, np.uint8)
    layout[...] = h5py.VirtualSource("not_there.h5", "data", planes.shape)
    with h5py.File(folder / "virtual_without_source.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with h5py.File(folder / "external_link.h5", "w") as file:
        file["data"] = h5py.ExternalLink("virtual_source.h5", "/data")
    with h5py.File(folder / "trailing_channel.h5", "w") as file:
        file["exported_data"] = planes[..., None]


def _folders(folder: Path) -> None:
    planes, blank = stack(), np.zeros((ROWS, COLS), np.uint8)
    slices(folder / "gap_in_numbers", {f"slice_{n:03d}.tif": planes[i] for i, n in enumerate((2, 3, 5))})
    slices(folder / "two_scans_in_one", {f"{s}_{n:03d}.tif": planes[n] for s in "AB" for n in range(2)})
    mask = (planes[0] > 130) * np.uint8(255)
    numbered = {f"slice_{n:03d}.tif": planes[n] for n in range(3)}
    slices(folder / "mask_beside_slices", {**numbered, "mask.tif": mask})
    slices(folder / "blank_ends", {f"s{n}.tif": image for n, image in enumerate([blank, *planes, blank])})
    rounded = {"resolution": ((153846, 10), (153846, 10)), "resolutionunit": "CENTIMETER"}
    slices(folder / "rounded_sizes", {"a1.tif": planes[0]}, **rounded)
    slices(folder / "rounded_sizes", {"a2.tif": planes[1]}, **PER_CM)


UNITS = {
    "micron": 1.0, "um": 1.0, "\\u00B5m": 1.0, "micrometer": 1.0, "micrometers": 1.0, "nm": 1e-3, "mm": 1e3,
    "cm": 1e4,
}  # fmt: skip

CASES = {
    **{
        f"compressed_{kind}.tif": Expected(3, PIXEL_UM)
        for kind in ("lzw", "zlib", "zstd", "packbits", "jpeg", "lzma")
    },
    "min_is_white.tif": Expected(note="inverted"),
    "grey_palette.tif": Expected(),
    "grey_as_rgb.tif": Expected(),
    "grey_as_rgba.png": Expected(),
    "coloured.tif": Expected(refused=("coloured.tif: colour", "must be grey", "convert it")),
    **{
        f"print_{dpi}_dpi.tif": Expected(note=f"{dpi} per inch, which are for print")
        for dpi in (72, 93, 200, 1200)
    },
    **{f"imagej_{unit.replace(chr(92), '')}.tif": Expected(3, PIXEL_UM) for unit in UNITS},
    "imagej_unit_beside_cm.tif": Expected(3, PIXEL_UM, note="the size that a scanner can have"),
    "json_unit_mm_beside_inch.tif": Expected(3, None, note="states 0.65 um and resolution tags per inch"),
    "ome_nm.ome.tif": Expected(3, PIXEL_UM),
    "nan_outside_circle.tif": Expected(3),
    "virtual_without_source.h5": Expected(refused=("not_there.h5", "missing")),
    "external_link.h5": Expected(3),
    "trailing_channel.h5": Expected(3),
    "gap_in_numbers": Expected(3, note="without 4 (1 of 4)"),
    "two_scans_in_one": Expected(refused=("A_000.tif", "B_000.tif", "exclude: ['B_*.tif']")),
    "mask_beside_slices": Expected(refused=("mask.tif", "exclude: ['mask.tif']")),
    "blank_ends": Expected(3, note="2 blank planes at the ends (s0.tif, s4.tif)"),
    "rounded_sizes": Expected(2, PIXEL_UM),
    "mask_1bit.tif": Expected(note="1 is read as the disc phase"),
    "mask_bool.npy": Expected(),
}
