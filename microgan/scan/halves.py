"""Two halves of what a scan gives to calibration: what is learnt from one is tried on the other."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from microgan.core.errors import UserError
from microgan.scan.planes import Box, Planes
from microgan.scan.windows import Windows

ROLES = ("train", "calibration")
BOTH = (0, 1)


class Halves:
    """Windows of two halves of the training and calibration parts, which share no pixel.

    Each part is cut in two. Where the halves would be too small for a window, the training part is the first
    half and the calibration part the second one.

    Parameters
    ----------
    planes : Planes
    size_px : int
        Side of the windows.

    Raises
    ------
    UserError
        If no window fits into one of the parts.
    """

    def __init__(self, planes: Planes, size_px: int) -> None:
        cut = [halves(planes.info.regions[role]) for role in ROLES]
        try:
            self._windows = [
                [Windows(planes, role, size_px, boxes[half]) for role, boxes in zip(ROLES, cut, strict=True)]
                for half in BOTH
            ]
        except UserError:
            self._windows = [[Windows(planes, role, size_px)] for role in ROLES]

    def draw(self, half: int, count: int, seed: Sequence[int]) -> Tensor:
        """Draw windows (count, 1, S, S) of one half at random, the same number of each part."""
        parts = self._windows[half]
        counts = np.diff(np.linspace(0, count, len(parts) + 1).round().astype(int)).tolist()
        drawn = [
            windows.draw(np.random.default_rng([*seed, half, index]), number)
            for index, (windows, number) in enumerate(zip(parts, counts, strict=True))
        ]
        return torch.cat(drawn)

    def draw_both(self, count: int, seed: Sequence[int]) -> tuple[Tensor, np.ndarray]:
        """Draw windows (count, 1, S, S), the same number of each half, and say of which each is (count,)."""
        half = np.arange(count) * len(BOTH) // max(count, 1)
        return torch.cat([self.draw(each, int((half == each).sum()), seed) for each in BOTH]), half


def halves(boxes: Sequence[Box]) -> tuple[list[Box], list[Box]]:
    """Divide regions of planes into two that share no pixel.

    Of several planes, every other one belongs to the first half; a single one is cut across its longer side.

    Examples
    --------
    >>> halves([(0, 0, 9, 0, 5), (3, 0, 9, 0, 5)])
    ([(0, 0, 9, 0, 5)], [(3, 0, 9, 0, 5)])
    >>> halves([(0, 0, 9, 0, 5)])
    ([(0, 0, 4, 0, 5)], [(0, 4, 9, 0, 5)])
    """
    numbers = sorted({box[0] for box in boxes})
    if len(numbers) > 1:
        first, second = ([box for box in boxes if box[0] in numbers[start::2]] for start in BOTH)
        return first, second
    return [_cut(box)[0] for box in boxes], [_cut(box)[1] for box in boxes]


def _cut(box: Box) -> tuple[Box, Box]:
    plane, row0, row1, col0, col1 = box
    row, col = (row0 + row1) // 2, (col0 + col1) // 2
    if row1 - row0 >= col1 - col0:
        return (plane, row0, row, col0, col1), (plane, row, row1, col0, col1)
    return (plane, row0, row1, col0, col), (plane, row0, row1, col, col1)
