"""Damaged LZW data are told before they are decoded.

The decoder that tifffile uses follows codes that nothing has defined: then the values are whatever was in
memory, or the process ends.
"""

import numpy as np

CLEAR, END, FIRST_FREE, MOST_CODES = 256, 257, 258, 4096
# A decoder widens codes one early (TIFF 6.0, section 13): bits of the n-th code after a clear code
_BITS = np.repeat([9, 10, 11, 12], [254, 512, 1024, 4096])
_STARTS = np.cumsum(_BITS) - _BITS


def is_sound(data: np.ndarray) -> bool:
    """Return whether all codes of an LZW strip or tile are defined, up to its end code or the last one.

    Parameters
    ----------
    data
        Bytes (n,), uint8.

    Examples
    --------
    >>> is_sound(np.array([0x80, 0x10, 0x60, 0x20], np.uint8)), is_sound(np.full(3, 0x80, np.uint8))
    (True, False)
    """
    bits = np.unpackbits(data)
    if len(bits) < 9 or _codes(bits[:9])[0] != CLEAR:
        return False
    start = 9
    while True:
        codes = _codes(bits[start:])
        special = np.flatnonzero((codes == CLEAR) | (codes == END))
        count = int(special[0]) if len(special) else len(codes)
        largest = np.minimum(FIRST_FREE - 1 + np.arange(count), MOST_CODES - 1)
        largest[:1] = CLEAR - 1
        if (codes[:count] > largest).any():
            return False
        if count == len(codes):  # no more data, or more codes than a table has
            return len(codes) < len(_BITS)
        if codes[count] == END:
            return True
        start += int(_STARTS[count] + _BITS[count])


def _codes(bits: np.ndarray) -> np.ndarray:
    """Return the codes that follow a clear code, as many as are whole; what follows the next one is noise."""
    count = int(np.searchsorted(_STARTS + _BITS, len(bits), side="right"))
    places = _STARTS[:count, None] + np.arange(12)
    used = np.arange(12) < _BITS[:count, None]
    values = np.where(used, bits[np.minimum(places, len(bits) - 1)], 0).astype(np.int64)
    return (values << (11 - np.arange(12))).sum(axis=1) >> (12 - _BITS[:count])
