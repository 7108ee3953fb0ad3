"""Whether images are on the grey scale of a scan, before they are judged by what was learnt from it.

The limits, the threshold between the phases and the detector hold for grey values on one scale: those of the
scan, between the two values of its intensity window. On another scale, such as that of the same images saved
with eight bits, all of an image may lie below the threshold, and look like matrix.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from microgan.core.errors import UserError
from microgan.core.notes import warn
from microgan.scan.config import AS_IT_SAYS, Reading
from microgan.scan.images import image_files
from microgan.scan.planes import ScanInfo
from microgan.scan.readers import open_image

GreyScale = Literal["scan", "own"]

SAMPLE_VALUES = 2_000_000  # grey values of all images on which the decision rests
FAR_OUTSIDE = 0.25  # of the window's width: further from it is on another scale
MOST_FAR_OUTSIDE = 0.5  # fraction of the values
NARROW, NARROW_OF_OTHER_TYPE = 0.002, 0.25  # range of the values over the window's width
OWN = "for images saved on another scale, --grey-scale own maps their values to those of the scan"
DOUBTFUL_OUTSIDE = 0.1  # fraction of the values beyond the window; in the scan itself about 0.01


def intensity_window(
    paths: Sequence[Path], scan: ScanInfo, scale: GreyScale, reading: Reading = AS_IT_SAYS
) -> tuple[float, float]:
    """Return the raw grey values of images that become -1 and 1.

    Parameters
    ----------
    paths
        Files and folders; all of their pages are on one scale.
    scan
        Whose scale they should be on.
    scale
        ``scan``: the images must be on the scale of the scan, and its window is returned. ``own``: the 0.5th
        and the 99.5th percentile of the images themselves.
    reading
        How to read files that do not say so by themselves.

    Raises
    ------
    UserError
        If the images are on another scale than the scan, or all of one value where their own scale is asked
        for.
    """
    values, dtype = _grey_values(paths, reading)
    if scale == "scan":
        _must_fit(values, dtype, scan, paths)
        return scan.intensity_window
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    if high <= low:
        raise UserError(paths[0], f"all grey values {low:g}", "must differ, for a scale of their own")
    return low, high


def _must_fit(values: np.ndarray, dtype: np.dtype, scan: ScanInfo, paths: Sequence[Path]) -> None:
    low, high = scan.intensity_window
    far = FAR_OUTSIDE * (high - low)
    far_outside = np.mean((values < low - far) | (values > high + far))
    first, last = np.percentile(values, (0.5, 99.5))
    narrow = NARROW if dtype == np.dtype(scan.dtype) else NARROW_OF_OTHER_TYPE
    too_narrow = first < last < first + narrow * (high - low)
    given = f"grey values {first:g} to {last:g} of {dtype}"
    expected = f"{low:g} to {high:g} of {scan.dtype}, as in the scan {scan.name}"
    if far_outside > MOST_FAR_OUTSIDE or too_narrow:
        rule = f"must be on the scale of the reference, about {expected}; {OWN}"
        raise UserError(paths[0], given, rule)
    outside = np.mean((values < low) | (values > high))
    if outside > DOUBTFUL_OUTSIDE:
        beyond = f"{100 * outside:.0f} % are beyond the scale of the reference, {expected}"
        warn(f"{paths[0]}: {given}: {beyond}; {OWN}")


def _grey_values(paths: Sequence[Path], reading: Reading) -> tuple[np.ndarray, np.dtype]:
    """Return evenly spaced grey values of all pages, and the type of the first."""
    files, parts, dtypes = image_files(paths), [], []
    for path in files:
        with open_image(path, reading) as images:
            dtypes.append(images.dtype)
            pages, rows, cols = images.shape
            step = 1 + len(files) * pages * rows * cols // SAMPLE_VALUES
            parts += [images.plane(index).ravel()[::step] for index in range(pages)]
    return np.concatenate(parts).astype(np.float64), dtypes[0]
