"""Pictures: PNG, and BMP and JPEG as some scanners' software writes slices; one file per plane."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from microgan.core.errors import UserError
from microgan.scan.allowed import Allowed
from microgan.scan.formats.colour import JPEG_TOLERANCE, grey_of_samples
from microgan.scan.stack import Scan, as_user_error, of_slices

PNG, OTHERS = (".png",), (".bmp", ".jpg", ".jpeg")

# Pillow reads 16-bit grey as mode I;16, and older versions as I.
_GREY = {"L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.uint16, "1": np.bool_}
_COLOUR = ("LA", "P", "RGB", "RGBA")

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def open_pictures(paths: Sequence[Path], allowed: Allowed) -> Scan:
    """Open pictures that each hold one plane; colour must be grey, R = G = B, and alpha opaque."""
    headers = []
    for path in paths:
        with as_user_error(path), _opened(path) as picture:
            dtype = _GREY.get(picture.mode)
            if dtype is None and picture.mode not in _COLOUR:
                raise UserError(path, f"colour mode {picture.mode}", "must be 8- or 16-bit grey, not colour")
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                rule = "must hold one image: save each of them as a file, or all as pages of a TIFF"
                raise UserError(path, f"an animation of {frames} images", rule)
            size = (picture.height, picture.width)
            if 0 in size:
                raise UserError(path, "{} x {} px".format(*size), "must have at least one pixel")
            allowed.must_fit(size, path)
        with as_user_error(path):
            headers.append((size, np.dtype(dtype) if dtype is not None else _read(path).dtype))
    return of_slices(paths, headers, lambda index: _read(paths[index]))


def _opened(path: Path) -> ImageFile.ImageFile:
    """Open the one format that the suffix says; `Image.open` would start Ghostscript for an EPS named .png.

    Nor does it read more than 179 million pixels; `Allowed` has a limit of its own.
    """
    suffix = path.suffix.lower()
    kind = PngImageFile if suffix in PNG else BmpImageFile if suffix == ".bmp" else JpegImageFile
    return kind(path)


def _read(path: Path) -> np.ndarray:
    if path.suffix.lower() in PNG:
        _must_be_whole(path)
    with _opened(path) as picture:
        if picture.mode in _GREY:
            return np.asarray(picture)
        if picture.format == "PNG":  # where Pillow reads colour of 16 bits as 8
            return _grey(_decoded_png(path), path)
        return _grey(
            np.asarray(picture.convert("RGB")), path, 0 if picture.format == "BMP" else JPEG_TOLERANCE
        )


def _decoded_png(path: Path) -> np.ndarray:
    import imagecodecs

    return imagecodecs.png_decode(path.read_bytes())


def _grey(values: np.ndarray, path: Path, tolerance: int = 0) -> np.ndarray:
    return values if values.ndim == 2 else grey_of_samples(values, path, tolerance)


def _must_be_whole(path: Path) -> None:
    """Refuse wrong checksums, and fewer rows than the header promises, which Pillow reads as zeros."""
    inflate, length, expected, ended = zlib.decompressobj(), 0, None, False
    with path.open("rb") as stream:
        stream.seek(8)
        while not ended:
            head = stream.read(8)
            if len(head) < 8:
                raise ValueError("is truncated: chunk IEND is missing")
            size, name = int.from_bytes(head[:4]), head[4:]
            body = stream.read(size)
            if len(body) < size or zlib.crc32(name + body) != int.from_bytes(stream.read(4)):
                raise ValueError(f"chunk {name.decode('latin-1')} is truncated or damaged")
            if name == b"IHDR" and expected is None:
                expected = _length(body)
            elif name == b"IDAT":
                while body:  # in pieces, so that memory stays bounded
                    length += len(inflate.decompress(body, 1 << 22))
                    body = inflate.unconsumed_tail
                    if inflate.eof:
                        break
            ended = name == b"IEND"
    if length != expected:
        raise ValueError(f"its header promises {expected} bytes of values, it holds {length}")


def _length(header: bytes) -> int:
    """Return how many bytes the header of a PNG promises: rows of pixels, each after a byte."""
    cols, rows = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    depth, colour, is_interlaced = header[8], header[9], header[12]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(rows - top) // down), -(-(cols - left) // right)) for top, left, down, right in passes]
    return sum(count * (1 + -(-width * bits // 8)) for count, width in sizes if count > 0 and width > 0)
