"""Grey values as viewers show them: of images stored as colour, with a palette, or with white as 0."""

from pathlib import Path

import numpy as np

from microgan.core.errors import UserError

WAY_OUT = "must be grey, not colour: store one channel, or convert it to grey where it was made"
JPEG_TOLERANCE = 3  # grey values that JPEG may add to a channel


def grey_of_samples(samples: np.ndarray, path: Path, tolerance: int = 0) -> np.ndarray:
    """Return the grey values of pixels (rows, columns, samples): grey or R = G = B, and opaque alpha.

    Raises
    ------
    UserError
        If channels differ by more than ``tolerance``, or alpha is not the same everywhere.
    """
    count = samples.shape[-1]
    if count > 4:
        raise UserError(path, f"{count} channels", WAY_OUT)
    if count in (2, 4) and (samples[..., -1] != samples.flat[count - 1]).any():
        rule = "opacity must be the same everywhere: remove the alpha channel where the image was made"
        raise UserError(path, "partly transparent", rule)
    grey = samples[..., 0]
    for channel in range(1, count if count == 3 else count - 1):
        other = samples[..., channel]
        if tolerance:
            differs = np.abs(grey.astype(np.int32) - other.astype(np.int32)).max() > tolerance
        else:
            differs = not np.array_equal(grey, other)
        if differs:
            raise UserError(path, "colour", WAY_OUT)
    return samples[..., 1] if count >= 3 else grey


def grey_palette(colours: np.ndarray, path: Path) -> np.ndarray:
    """Return the grey value of each entry of a palette, an ndarray of shape (3, entries).

    Values of 16 bits that only repeat 8 bits, as palettes of TIFF do, become 8 bits.

    Raises
    ------
    UserError
        If the palette has colours.
    """
    if (colours != colours[0]).any():
        raise UserError(path, "colour palette", WAY_OUT)
    grey = colours[0]
    if grey.dtype == np.uint16 and ((grey % 257 == 0).all() or (grey % 256 == 0).all()):
        return (grey >> 8).astype(np.uint8)
    return grey


def inverted(values: np.ndarray, bits: int) -> np.ndarray:
    """Return grey values with black and white exchanged: ``bits`` is how many an unsigned integer uses.

    Examples
    --------
    >>> inverted(np.array([0, 255], np.uint8), 8), inverted(np.array([True, False]), 1)
    (array([255,   0], dtype=uint8), array([False,  True]))
    """
    if values.dtype.kind == "b":
        return ~values
    if values.dtype.kind == "u":
        return values.dtype.type(2**bits - 1) - values
    return ~values if values.dtype.kind == "i" else -values
