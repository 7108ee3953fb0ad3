"""The tags of a TIFF page: whether they make sense, alone and together."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from microgan.core.errors import UserError

Page = tifffile.TiffPage | tifffile.TiffFrame


def must_be_sound(frame: Page, path: Path) -> None:
    """Refuse a page whose tags cannot be true, or that lacks values.

    Raises
    ------
    UserError
        Names the tag and its value.
    """
    page: Any = frame.keyframe  # whose tags a frame shares
    for name, value in (("ImageWidth", page.imagewidth), ("ImageLength", page.imagelength)):
        _must_be(path, name, value, type(value) is int and value > 0, "at least 1")
    if page.is_tiled:
        for name, value in (("TileWidth", page.tilewidth), ("TileLength", page.tilelength)):
            _must_be(path, name, value, type(value) is int and value > 0, "at least 1")
    bits, kind = page.bitspersample, page.sampleformat
    _must_be(path, "BitsPerSample", bits, _is_number(bits) and 1 <= np.max(bits) <= 64, "1 to 64")
    _must_be(path, "SampleFormat", kind, _is_number(kind) and kind in (1, 2, 3, 4), "1, 2 or 3")
    if page.dtype is None:
        _must_be(path, "BitsPerSample", f"{bits} of SampleFormat {kind}", False, "a type of numbers")
    samples = page.samplesperpixel
    _must_be(path, "SamplesPerPixel", samples, type(samples) is int and samples > 0, "at least 1")
    known = tifffile.PHOTOMETRIC
    if page.photometric in (known.RGB, known.YCBCR) and samples < 3 and page.planarconfig != 2:
        _must_be(path, "SamplesPerPixel", samples, False, "at least 3, as PhotometricInterpretation says")
    _must_have_values(frame, path)


def _must_have_values(frame: Page, path: Path) -> None:
    page: Any = frame.keyframe
    offsets, counts = frame.dataoffsets, frame.databytecounts
    if not len(offsets) or len(offsets) != len(counts):
        what = f"page {frame.index}: {len(offsets)} offsets and {len(counts)} lengths"
        raise UserError(path, f"{what} of strips or tiles", "must be as many of both")
    lacking = sum(not offset or not count for offset, count in zip(offsets, counts, strict=True))
    if lacking:
        what = f"page {frame.index}: {lacking} of {len(offsets)} strips or tiles were never written"
        raise UserError(path, what, "must be whole: they would be read as 0")
    expected = int(np.prod(page.chunked, dtype=object))
    if len(offsets) != expected and (page.compression != 1 or page.is_tiled):
        what = f"page {frame.index}: {len(offsets)} strips or tiles"
        size = f"{page.imagelength} x {page.imagewidth}"
        raise UserError(path, what, f"must be {expected}, for {size} px, or its tags are damaged")


def _must_be(path: Path, tag: str, value: object, is_right: bool, rule: str) -> None:
    if not is_right:
        raise UserError(path, f"tag {tag} is {value}", f"must be {rule}")


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (
        isinstance(value, tuple) and all(isinstance(part, int) for part in value)
    )


def surplus_notes(page: Any, path: Path, planes: int) -> tuple[str, ...]:
    """Return a note where plain values are more than the tags say, by a row, or a plane after the only one.

    Many planes behind one page, as ImageJ writes them, are known from its text alone.
    """
    if page.compression != 1 or page.is_tiled or page.dtype is None:
        return ()
    bits = int(np.max(page.bitspersample)) * page.samplesperpixel
    row = -(-page.imagewidth * bits // 8)
    held = int(sum(page.databytecounts))
    surplus = held - row * page.imagelength
    size = f"{page.imagelength} x {page.imagewidth} px of {bits} bits"
    if surplus >= row:
        return (f"{path}: holds {surplus} bytes more than its tags say, {size}: are its tags right?",)
    behind = path.stat().st_size - max(page.dataoffsets) - held
    if planes == 1 and len(page.parent.pages) == 1 and behind >= held:
        return (f"{path}: {behind} bytes follow its only page, {size}: has it lost pages?",)
    return ()


def must_be_decodable(page: tifffile.TiffPage, path: Path) -> None:
    """Refuse a compression that no installed codec reads."""
    compression = (
        tifffile.COMPRESSION(page.compression).name
        if page.compression in set(tifffile.COMPRESSION)
        else page.compression
    )
    try:
        if page.compression != 1:
            tifffile.TIFF.DECOMPRESSORS[page.compression]
    except (KeyError, ImportError, ValueError) as error:
        rule = f"no installed codec reads it: save the file uncompressed, or with deflate or LZW ({error})"
        raise UserError(path, f"compression {compression}", " ".join(rule.split())) from None
