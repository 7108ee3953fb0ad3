"""Which files of a folder are the planes of a scan or the images of a command, and in which order.

One order for all: natural (slice9 before slice10), whatever the case. Hidden files, among them the twins
``._slice1.tif`` that macOS writes, and smaller previews of a reconstruction are no slices.
"""

import fnmatch
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from microgan.core.errors import UserError
from microgan.core.files import natural_order
from microgan.scan.formats import arrays, dicom, pictures, tiff, zarr

PREVIEW = re.compile(r"(?i)(^|[_\-. ])(spr|preview|thumb|thumbnail)(\.|$)")  # *_rec_spr.tif of NRecon
MASK = re.compile(r"(?i)(^|[_\-. ])(masks?|labels?|seg|segmentation|segmented)([_\-. \d]|$)")


def images_of(folder: Path) -> list[Path]:
    """Return the images in a folder in natural order: TIFF, PNG and NPY; without any, BMP and JPEG, or DICOM.

    Raises
    ------
    UserError
        If there are none.
    """
    files = _visible(folder)
    kinds = ((*tiff.SUFFIXES, *pictures.PNG, *arrays.NPY), pictures.OTHERS, dicom.SUFFIXES)
    images = _first_kind(files, kinds)
    if not images:
        raise UserError(folder, "no images", "must hold .tif, .tiff, .png, .npy files")
    if all(dicom.is_dicom(path) for path in images):
        return dicom.in_order(images)
    return images


def slices_of(folder: Path, exclude: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Return the slices of the scan in a folder in natural order, and notes on what is doubtful.

    Parameters
    ----------
    folder
        The folder.
    exclude
        Names, or patterns such as ``mask*``, of files that are no slices.

    Raises
    ------
    UserError
        If there are none, of several formats, or of several scans.
    """
    files = [path for path in _visible(folder) if not _is_excluded(path.name, exclude)]
    kinds = ((*tiff.SUFFIXES, *pictures.PNG), pictures.OTHERS, dicom.SUFFIXES)
    notes: list[str] = []
    previews = [
        path
        for path in files
        if PREVIEW.search(path.stem) and any(path.suffix.lower() in kind for kind in kinds)
    ]
    slices = _first_kind([path for path in files if path not in previews], kinds)
    if not slices:
        slices, previews = previews, []
    if not slices:
        raise UserError(folder, "no slices", "must hold .tif, .tiff, .png files")
    if previews:
        more = f" and {len(previews) - 1} more" if len(previews) > 1 else ""
        notes.append(f"{previews[0]}{more}: named as a preview: left out")
    masks = [path for path in slices if MASK.search(path.stem)]
    if masks and len(masks) < len(slices):
        rule = f"if it is no slice, name it in exclude, exclude: [{masks[0].name!r}]; if it is one, rename it"
        raise UserError(masks[0], f"named as a mask beside {len(slices) - len(masks)} slices", rule)
    if not dicom.is_dicom(slices[0]):  # whose headers state the order
        _must_be_one_format(folder, slices)
        notes += _numbering(folder, slices)
    return slices, notes


def doubts_of_images(folder: Path, images: Sequence[Path]) -> list[str]:
    """Return notes on a folder whose images a command takes one by one: a mask, a preview, two series."""
    series = [paths for paths in _series(images).values() if len(paths) > 1]
    if len(series) > 1:
        names = ", ".join(f"{paths[0].name} ({len(paths)} files)" for paths in series[:3])
        return [f"{images[0].parent}: files of several series, {names}: each is read as an image"]
    odd = [path for path in images if PREVIEW.search(path.stem) or MASK.search(path.stem)]
    if odd and len(odd) < len(images):
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        rule = "read as an image, as all files of the folder; if it is none, name the images"
        return [f"{odd[0]}{more}: named as a mask or preview beside {len(images) - len(odd)} images: {rule}"]
    return []


def _visible(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if not path.name.startswith(".") and not zarr.is_zarr(path)]
    return sorted((path for path in files if not path.is_dir()), key=natural_order)


def _first_kind(files: Sequence[Path], kinds: Sequence[tuple[str, ...]]) -> list[Path]:
    """Return the files of the first kind that there is; DICOM files often have no suffix."""
    for suffixes in kinds:
        chosen = [path for path in files if path.suffix.lower() in suffixes]
        if chosen:
            return chosen
    return [path for path in files if dicom.is_dicom(path)]


def _is_excluded(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _must_be_one_format(folder: Path, slices: Sequence[Path]) -> None:
    is_tiff = {path.suffix.lower() in tiff.SUFFIXES for path in slices}
    if len(is_tiff) > 1:
        raise UserError(
            folder, "TIFF and PNG slices", "must hold slices of one format, or name the others in exclude"
        )


def _numbering(folder: Path, slices: Sequence[Path]) -> list[str]:
    """Check that the names are those of one series; return notes on gaps and on names without numbers."""
    if len(slices) == 1:
        return []
    series = _series(slices)
    largest = max(series.values(), key=len)
    if len(largest) == 1:
        return [
            f"{folder}: names without numbers of one series: read in alphabetical order, from "
            f"{slices[0].name} to {slices[-1].name}"
        ]
    others = [paths for paths in series.values() if paths is not largest]
    if others:
        other = max(others, key=len)
        names = f"{largest[0].name} ({len(largest)} files) and {other[0].name} ({len(other)})"
        rule = f"must hold the slices of one scan: name the others in exclude, exclude: [{_pattern(other)!r}]"
        raise UserError(folder, f"files of several kinds, {names}", rule)
    return _gaps(folder, largest)


def _series(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return files by their names without numbers."""
    series: dict[str, list[Path]] = {}
    for path in paths:
        series.setdefault(re.sub(r"\d+", "#", path.stem.lower()), []).append(path)
    return series


def _pattern(paths: Sequence[Path]) -> str:
    """Return a pattern that names these files: the name, or its part before the number with a star."""
    if len(paths) == 1:
        return paths[0].name
    stem = re.split(r"\d", paths[0].name)[0]
    return f"{stem}*{paths[0].suffix}" if stem else f"*{re.split(r'[0-9]+', paths[0].name)[-1]}"


def _gaps(folder: Path, slices: Sequence[Path]) -> list[str]:
    numbers = [[int(digits) for digits in re.findall(r"\d+", path.stem)] for path in slices]
    counted = [column for column in zip(*numbers, strict=True) if len(set(column)) == len(slices)]
    if not counted:
        first, last = slices[0].name, slices[-1].name
        rule = "must hold one scan, whose names differ in one number: name the others in exclude"
        raise UserError(folder, f"names of several scans, from {first} to {last}", rule)
    column = sorted(counted[-1])
    steps = [after - before for before, after in pairwise(column)]
    step = min(steps)
    if 2 * steps.count(step) < len(steps):  # planes that somebody selected
        return []
    missing = [
        number for before, after in pairwise(column) for number in range(before + step, after, step)
    ] if max(steps) < 100_000 * step else []  # fmt: skip
    if not missing:
        return []
    named = ", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else "")
    rule = "read as neighbouring planes; if files are missing, add them"
    count = f"{len(missing)} of {len(column) + len(missing)}"
    return [f"{folder}: gap in the numbers of slices, without {named} ({count}): {rule}"]
