"""Pictures: PNG, and BMP and JPEG as some scanners' software writes slices; one file per plane."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from microgan.core.errors import UserError
from microgan.scan.formats.colour import JPEG_TOLERANCE, grey_of_samples
from microgan.scan.stack import Scan, as_user_error, of_slices

PNG, OTHERS = (".png",), (".bmp", ".jpg", ".jpeg")

# Pillow reads 16-bit grey as mode I;16, and older versions as I.
_GREY = {"L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I": np.uint16, "1": np.bool_}
_COLOUR = ("LA", "P", "RGB", "RGBA")


def open_pictures(paths: Sequence[Path]) -> Scan:
    """Open pictures that each hold one plane; colour must be grey, R = G = B, and alpha opaque."""
    headers = []
    for path in paths:
        with as_user_error(path), Image.open(path) as picture:
            dtype = _GREY.get(picture.mode)
            if dtype is None and picture.mode not in _COLOUR:
                raise UserError(path, f"colour mode {picture.mode}", "must be 8- or 16-bit grey, not colour")
            size = (picture.height, picture.width)
        with as_user_error(path):
            headers.append((size, np.dtype(dtype) if dtype is not None else _read(path).dtype))
    return of_slices(paths, headers, lambda index: _read(paths[index]))


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        if picture.mode in _GREY:
            return np.asarray(picture)
        if picture.format == "PNG":  # where Pillow reads colour of 16 bits as 8
            return _grey(_decoded_png(path), path)
        return _grey(
            np.asarray(picture.convert("RGB")), path, 0 if picture.format == "BMP" else JPEG_TOLERANCE
        )


def _decoded_png(path: Path) -> np.ndarray:
    import imagecodecs

    with Image.open(path) as picture:
        picture.verify()  # the checksums, of which the decoder only prints a warning
    return imagecodecs.png_decode(path.read_bytes())


def _grey(values: np.ndarray, path: Path, tolerance: int = 0) -> np.ndarray:
    return values if values.ndim == 2 else grey_of_samples(values, path, tolerance)
