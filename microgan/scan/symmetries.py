"""The eight symmetries of the square: which there are, how an image is put under one, which undoes which.

A symmetry is a number from 0 to 7, the sum of: 4 if rows and columns are exchanged, then 2 if the rows are
reversed, then 1 if the columns are reversed. So 0 changes nothing, 1 to 3 mirror without turning, 5 and 6
turn by 90 degrees.
"""

from typing import Literal

import numpy as np
from torch import Tensor

Augmentation = Literal["none", "mirrors", "all"]

SYMMETRIES = 8
COUNTS: dict[Augmentation, int] = {"none": 1, "mirrors": 4, "all": SYMMETRIES}  # of the first symmetries
INVERSE = (0, 1, 2, 3, 4, 6, 5, 7)  # the symmetry that undoes each
# In another order: turned counter-clockwise by 0, 90, 180 and 270 degrees, then these four mirrored
# left-right. A drawn number keeps its meaning where it was read in this order.
TURNS_FIRST = (0, 6, 3, 5, 1, 7, 2, 4)


def turned(images: np.ndarray, symmetry: int) -> np.ndarray:
    """Put images (..., H, W) under a symmetry, as a view; (..., W, H) if it exchanges rows and columns.

    Examples
    --------
    >>> turned(np.array([[1, 2], [3, 4]]), 1).tolist()
    [[2, 1], [4, 3]]
    >>> turned(np.array([[1, 2], [3, 4]]), 4).tolist()
    [[1, 3], [2, 4]]
    """
    images = images.swapaxes(-1, -2) if symmetry & 4 else images
    return images[..., :: -1 if symmetry & 2 else 1, :: -1 if symmetry & 1 else 1]


def turned_tensor(images: Tensor, symmetry: int) -> Tensor:
    """Put images (..., H, W) under a symmetry, as `turned` does; tensors know no negative steps."""
    images = images.transpose(-1, -2) if symmetry & 4 else images
    reversed_axes = [axis for axis, bit in ((-2, 2), (-1, 1)) if symmetry & bit]
    return images.flip(reversed_axes) if reversed_axes else images
