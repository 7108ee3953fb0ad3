"""The voxel size that a file states: one table of rules, each with its source.

A size is read where a number and its unit are stated, and is unknown otherwise: never invented. What the user
states (``voxel_size_um``) always wins.

====================  =================================================================================
what states it        rule and source
====================  =================================================================================
OME-XML               ``PhysicalSizeX``, ``PhysicalSizeY``, and units: µm by default (OME schema 2016-06)
ImageJ's text         ``unit=`` is the unit of XResolution and YResolution (ij.io.TiffEncoder)
SCIFIO's text         ``scales=`` and ``units=`` by axis, else as ImageJ (io.scif.formats.TIFFFormat)
tifffile's JSON       ``"unit"`` is the unit of XResolution and YResolution ("shaped" files of tifffile);
                      where these are 1 per nothing, its default, the size is unknown
resolution tags       ResolutionUnit inch or cm (TIFF 6.0, section 8); NONE or missing states nothing
tags for print        a usual number of dots: unknown (`is_for_print`)
text against tags     where they differ by more than 1 %, the one that gives a size that a scanner can
                      have (`SCANNER_UM`); unknown where both do
====================  =================================================================================

HDF5, Zarr, DICOM, NRRD and MetaImage state sizes in attributes of their own: see ``microgan.scan.formats``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

UNIT_UM = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("å", "angstrom", "ångström"), 1e-4),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    # ImageJ escapes µ. "?m" and "\ufffdm" are what is left where an encoding lost it, as it loses no ASCII.
    **dict.fromkeys(("µm", "μm", "um", "µ", "\\u00b5m", "\\u03bcm", "&#181;m", "?m", "\ufffdm"), 1.0),
    **dict.fromkeys(("micron", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("inch", "in", "inches"), 25400.0),
}  # fmt: skip

SCANNER_UM = (1e-3, 5e3)  # from ptychography to a coarse medical scanner
SAME = 0.01  # relative difference up to which two sizes are equal: programs round them

# Per inch: what screens, cameras and printers have, and their programs write. 1: no statement.
_USUAL_PER_INCH = (
    64, 72, 75, 85, 90, 93, 96, 100, 110, 120, 144, 150, 160, 180, 192, 200, 204, 220, 240, 250, 266, 288,
    300, 320, 350, 360, 400, 480, 600, 720, 800, 1200, 1440, 2400, 2880, 3600, 4800, 5760, 9600,
)  # fmt: skip


@dataclass(frozen=True)
class VoxelSize:
    """The side of a pixel, where it is stated, and what is doubtful about it.

    Attributes
    ----------
    um
        Micrometres; None where nothing states it.
    source
        What states it, in words.
    notes
        Sentences for the user.
    oblong_um
        Width and height, where the file states pixels that are not square.
    """

    um: float | None = None
    source: str | None = None
    notes: tuple[str, ...] = ()
    oblong_um: tuple[float, float] | None = None


UNKNOWN = VoxelSize()


def unit_um(text: object) -> float | None:
    """Return the micrometres in a unit as files spell it, None for what is no unit of length.

    Examples
    --------
    >>> unit_um("mm"), unit_um("Micrometers"), unit_um("pixel")
    (1000.0, 1.0, None)
    """
    word = (text.decode("latin-1") if isinstance(text, bytes) else str(text)).strip(" \t\r\n\0\"'").lower()
    for candidate in (word, word.removesuffix("s"), _decoded_again(word)):
        if candidate in UNIT_UM:
            return UNIT_UM[candidate]
    return None


def _decoded_again(word: str) -> str:
    """Undo that UTF-8 was read as Latin-1."""
    try:
        return word.replace("â", "Â").replace("î", "Î").encode("latin-1").decode("utf-8")
    except UnicodeError:
        return word


def square(path: Path, width_um: float, height_um: float, source: str, *notes: str) -> VoxelSize:
    """Return the size of pixels of the given width and height; a size that no scanner has is unknown."""
    sides = (float(f"{width_um:.9g}"), float(f"{height_um:.9g}"))
    if not all(SCANNER_UM[0] <= side <= SCANNER_UM[1] for side in sides):
        return unknown(path, f"{source} states pixels of {sides[0]:g} x {sides[1]:g} um", *notes)
    if not same(*sides):
        return VoxelSize(None, source, notes, sides)
    return VoxelSize(sides[0], source, notes)


def unknown(path: Path, what: str, *notes: str) -> VoxelSize:
    """Return an unknown size with a note that says what is doubtful."""
    rule = "the voxel size is read as unknown; if you know it, state voxel_size_um"
    return VoxelSize(notes=(*notes, f"{path}: {what}: {rule}"))


def same(one_um: float, other_um: float) -> bool:
    """Whether two sizes are equal within what rounding explains."""
    return abs(one_um - other_um) <= SAME * max(one_um, other_um)


def chosen(read: VoxelSize, stated_um: float | None, path: Path) -> VoxelSize:
    """Return the size that the user states, with a note where the file states another one, or the file's."""
    if stated_um is None:
        return read
    file_um = read.um if read.oblong_um is None else read.oblong_um[0]
    if file_um is None or (read.oblong_um is None and same(stated_um, file_um)):
        return VoxelSize(stated_um, "the parameter voxel_size_um")
    says = f"{file_um:g}" if read.oblong_um is None else "{:g} x {:g}".format(*read.oblong_um)
    note = f"{path}: {says} um by {read.source}: voxel_size_um, {stated_um:g} um, is used instead"
    return VoxelSize(stated_um, "the parameter voxel_size_um", (note,))


def common(paths: Sequence[Path], sizes: Sequence[VoxelSize]) -> VoxelSize | None:
    """Return the size of slices, None where they state different ones.

    Slices that state none are of the size of the others, with a note.
    """
    stated = [size for size in sizes if size.um is not None or size.oblong_um is not None]
    if not stated:
        first = next((size for size in sizes if size.notes), UNKNOWN)
        count = sum(bool(size.notes) for size in sizes)
        more = f" (and {count - 1} more files)" if count > 1 else ""
        return replace(first, notes=tuple(note + more for note in first.notes))
    first = stated[0]
    for size in stated:
        for one, other in zip(first.oblong_um or (first.um,), size.oblong_um or (size.um,), strict=False):
            if one is None or other is None or not same(one, other):
                return None
    if len(stated) < len(sizes):
        silent = paths[next(index for index, size in enumerate(sizes) if size not in stated)]
        said = f"{first.um:g} um" if first.um else "a voxel size"
        among = f"{len(stated)} of {len(sizes)}"
        note = f"{silent}: no voxel size, where {among} slices state {said}: read as theirs"
        return replace(first, notes=(*first.notes, note))
    return first


# TIFF --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Statement:
    """Width and height of a pixel, and what states them; no size where its unit is no length."""

    sides_um: tuple[float, float] | None
    source: str


def tiff_voxel_size(tiff: tifffile.TiffFile, path: Path) -> VoxelSize:
    """Return the voxel size that a TIFF file states, by the table above."""
    text = next((statement for read in TEXTS if (statement := read(tiff)) is not None), None)
    tags, is_print = _tags_alone(tiff)
    if text is None:
        if tags is None or tags.sides_um is None:
            return UNKNOWN
        if is_print:
            per_inch = 25400 / tags.sides_um[0]
            if per_inch < 3:  # 1 per inch or cm: what writers put where nobody stated a resolution
                return UNKNOWN
            return unknown(path, f"resolution tags of {per_inch:.6g} per inch, which are for print")
        return square(path, *tags.sides_um, tags.source)
    if text.sides_um is None:
        if tags is None or tags.sides_um is None or is_print:
            return UNKNOWN if "pixel" in text.source else unknown(path, text.source)
        return unknown(path, f"{text.source}, while {tags.source} state {tags.sides_um[0]:g} um")
    if tags is None or tags.sides_um is None or is_print or same(text.sides_um[0], tags.sides_um[0]):
        return square(path, *text.sides_um, text.source)
    differ = f"{text.source} states {text.sides_um[0]:g} um and {tags.source} state {tags.sides_um[0]:g} um"
    possible = [side for side in (text, tags) if SCANNER_UM[0] <= side.sides_um[0] <= SCANNER_UM[1]]  # type: ignore[index]
    if len(possible) == 1 and possible[0].sides_um is not None:
        used = f"{path}: {differ}: read as {possible[0].sides_um[0]:g} um, the size that a scanner can have"
        return square(path, *possible[0].sides_um, possible[0].source, used)
    return unknown(path, differ)


def is_for_print(sides_um: tuple[float, float], per_inch_tag: bool) -> bool:
    """Whether resolution tags are those of a screen or printer, which nobody measured.

    A usual number of dots per inch, or its value per cm, also rounded; per inch any whole number up to 1200.
    Multiples of 5 µm up to 200 µm, which scanners are set to, are read as sizes: 254 per inch is 100 µm.
    """
    per_inch = 25400 / sides_um[0]
    if any(abs(sides_um[0] - um) < 2e-3 * um for um in (1e4, 25400.0)):
        return True
    if sides_um[0] <= 200.1 and _is_multiple(sides_um[0], 5.0):
        return False
    usual = [number for number in _USUAL_PER_INCH if per_inch_tag or number <= 1200]
    if any(abs(per_inch - number) < 2e-4 * number for number in usual):
        return True
    if per_inch_tag:
        return per_inch <= 1200 and abs(per_inch - round(per_inch)) < 0.015
    per_cm = round(per_inch / 2.54, 5)
    rounded = [{round(number / 2.54, decimals) for decimals in (0, 1, 2)} for number in usual]
    return any(per_cm in numbers or per_cm == int(max(numbers)) for numbers in rounded)


def _is_multiple(number: float, of: float) -> bool:
    return round(number / of) >= 1 and abs(number / of - round(number / of)) < 1e-3


def _ome(tiff: tifffile.TiffFile) -> _Statement | None:
    if not tiff.is_ome:
        return None
    pixels: Any = tifffile.xml2dict(tiff.ome_metadata or "")
    for name in ("OME", "Image", "Pixels"):
        pixels = pixels.get(name) if isinstance(pixels, dict) else None
        pixels = pixels[0] if isinstance(pixels, list) and pixels else pixels
    if not isinstance(pixels, dict):
        return None
    sides_um = []
    for axis in "XY":
        size, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if size is None:
            return None
        um = unit_um(unit)
        if um is None:
            return _Statement(None, f"OME-XML states a size in {unit!r}, which is no unit of length")
        if not float(size) > 0:
            return None
        sides_um.append(float(size) * um)
    return _Statement((sides_um[0], sides_um[1]), "OME-XML")


def _scifio(tiff: tifffile.TiffFile) -> _Statement | None:
    text = tiff.pages.first.description
    if not text.startswith("SCIFIO="):
        return None
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    axes, scales, units = (
        [word.strip() for word in values.get(key, "").split(",")] for key in ("axes", "scales", "units")
    )
    try:
        sides = [float(scales[axes.index(axis)]) * (unit_um(units[axes.index(axis)]) or 0) for axis in "XY"]
    except (ValueError, IndexError):
        return None
    return _Statement((sides[0], sides[1]), "SCIFIO's text") if min(sides) > 0 else None


def _imagej(tiff: tifffile.TiffFile) -> _Statement | None:
    if not tiff.is_imagej:
        return None
    return _in_text_unit(tiff, (tiff.imagej_metadata or {}).get("unit"), "ImageJ's text")


def _json(tiff: tifffile.TiffFile) -> _Statement | None:
    try:
        values = json.loads(tiff.pages.first.description) if tiff.is_shaped else {}
    except ValueError:  # an older form: shape=(3, 160, 192)
        return None
    if not isinstance(values, dict) or "unit" not in values:
        return None
    statement = _in_text_unit(tiff, values["unit"], "tifffile's JSON")
    if (
        _per_unit(tiff) == (1, 1) and _tag_unit_um(tiff) is None
    ):  # its defaults, where no resolution was given
        return None
    return statement


TEXTS: tuple[Callable[[tifffile.TiffFile], _Statement | None], ...] = (_ome, _scifio, _imagej, _json)


def _in_text_unit(tiff: tifffile.TiffFile, unit: Any, name: str) -> _Statement | None:
    per_unit = _per_unit(tiff)
    if per_unit is None or unit is None or not str(unit).strip():
        return None
    um = unit_um(unit)
    if um is None:
        return _Statement(None, f"{name} has the unit {unit!r}, which is no unit of length")
    sides_um = (um / per_unit[0], um / per_unit[1])
    if um >= 1e4 and is_for_print(sides_um, um == 25400):
        return None
    return _Statement(sides_um, f"{name} (unit {unit})")


def _tags_alone(tiff: tifffile.TiffFile) -> tuple[_Statement | None, bool]:
    """Return what the resolution tags state by themselves, and whether that is for print."""
    um, per_unit = _tag_unit_um(tiff), _per_unit(tiff)
    if um is None or per_unit is None:
        return None, False
    sides_um = (um / per_unit[0], um / per_unit[1])
    name = "inch" if um == 25400 else "cm"
    return _Statement(sides_um, f"resolution tags per {name}"), is_for_print(sides_um, um == 25400)


def _tag_unit_um(tiff: tifffile.TiffFile) -> float | None:
    # 2 is the tag's default in the standard, but a file that states no unit states no size
    tags = tiff.pages.first.tags
    unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 1
    return {2: 25400.0, 3: 1e4}.get(unit) if isinstance(unit, int) else None


def _per_unit(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    tags = tiff.pages.first.tags
    numbers = []
    for name in ("XResolution", "YResolution"):
        value = np.atleast_1d(tags[name].value) if name in tags else np.zeros(2)
        if len(value) != 2 or value[1] == 0 or not value[0] / value[1] > 0:
            return None
        numbers.append(float(value[0]) / float(value[1]))
    return numbers[0], numbers[1]
