"""Power at the strides of a network: the checkerboards and stripes that upsampling leaves in images.

A generator enlarges its maps by 2 at a time. What it does wrong in each step repeats with a period of 2, 4 or
8 px, and shows as power at the multiples of 1/2, 1/4 and 1/8 per px, where materials have none of their own.

References
----------
A. Odena, V. Dumoulin, C. Olah, Deconvolution and checkerboard artifacts, Distill (2016).
"""

import numpy as np

PERIODS_PX = (2, 4, 8)


def grid_power(images: np.ndarray) -> dict[int, float]:
    """Return the mean power of images (n, H, W) at each period of `PERIODS_PX`, over their variance.

    The zero frequency does not count, and neither do frequencies of a shorter period for a longer one. The
    mean is removed and the borders fade out (Hann), so that what does not fit a window leaks nothing there.

    Raises
    ------
    ValueError
        If a side is no multiple of the longest period.

    Examples
    --------
    >>> rows, cols = np.indices((1, 16, 16))[1:]
    >>> power = grid_power(np.sin(0.7 * rows) + 0.5 * (-1.0) ** (rows + cols))
    >>> max(power, key=power.get)
    2
    """
    rows, cols = images.shape[1:]
    longest = PERIODS_PX[-1]
    if rows % longest or cols % longest:
        raise ValueError(f"images: {rows} x {cols} px: must be multiples of {longest}")
    images = images - images.mean(axis=(1, 2), keepdims=True)
    variance = np.maximum(images.var(axis=(1, 2)), 1e-12)
    fading = np.hanning(rows + 1)[:rows, None] * np.hanning(cols + 1)[:cols]
    power = np.abs(np.fft.fft2(images * fading)) ** 2 / (fading**2).sum()
    mean = (power / variance[:, None, None]).mean(axis=0)
    counted = np.zeros((rows, cols), bool)
    counted[0, 0] = True
    found = {}
    for period in PERIODS_PX:
        grid = np.zeros((rows, cols), bool)
        grid[:: rows // period, :: cols // period] = True
        found[period] = float(mean[grid & ~counted].mean())
        counted |= grid
    return found
