"""Square windows of the planes, straight from disk: at random for training, in order for statistics."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from microgan.core.errors import UserError
from microgan.scan.planes import Box, Planes, window_corners
from microgan.scan.symmetries import COUNTS, Augmentation, turned


class Windows:
    """Windows of ``size_px`` x ``size_px`` that lie wholly in one role's regions and in the field of view.

    Parameters
    ----------
    planes : Planes
    role : {"train", "calibration", "held_out"}
    size_px : int
    boxes : sequence of Box, optional
        Some of the role's regions, or parts of them; all by default.

    Raises
    ------
    UserError
        If no window fits.
    """

    def __init__(self, planes: Planes, role: str, size_px: int, boxes: Sequence[Box] | None = None) -> None:
        self.planes, self.role, self.size_px = planes, role, size_px
        # A plain view: indexing a numpy.memmap costs ten times as much. The pages stay on disk.
        self._grey, self._mask = np.asarray(planes.grey), planes.mask
        boxes = planes.info.regions.get(role, []) if boxes is None else boxes
        self._boxes = [box for box in boxes if min(box[2] - box[1], box[4] - box[3]) >= size_px]
        if not any(window_corners(self._mask_in(box), size_px).any() for box in self._boxes):
            rule = f"no window fits into the {role} part of {planes.info.name} and its field of view"
            raise UserError("window_px", size_px, rule)
        # Candidate corners are numbered through all boxes: one random number is one corner.
        self._cols = np.array([box[4] - box[3] - size_px + 1 for box in self._boxes])
        rows = np.array([box[2] - box[1] - size_px + 1 for box in self._boxes])
        self._ends = np.cumsum(rows * self._cols)

    def draw(self, rng: np.random.Generator, count: int, augmentation: Augmentation = "none") -> Tensor:
        """Draw windows uniformly over all allowed positions.

        Parameters
        ----------
        rng : numpy.random.Generator
        count : int
        augmentation : {"none", "mirrors", "all"}
            Each window becomes, at random, one of its images under these: itself; mirrored up-down,
            left-right or both; or also turned by 90 degrees, which an anisotropic material does not allow.

        Returns
        -------
        Tensor of shape (count, 1, size_px, size_px), float32, in [-1, 1]
        """
        applied = rng.integers(COUNTS[augmentation], size=count)
        return self._taken(self._places(rng, count), applied)

    def draw_in_blocks(self, rng: np.random.Generator, count: int) -> tuple[Tensor, np.ndarray]:
        """Draw windows as `draw` does, not turned, and return which of them lie in one place of the scan.

        Returns
        -------
        windows : Tensor of shape (count, 1, size_px, size_px)
        block : ndarray of shape (count,)
            Number of the square of the plane, twice as wide as a window, that contains the window's middle.
            Windows of one square are alike and overlap, so statistics resample whole squares.
        """
        places = np.array(self._places(rng, count))
        middle = (places[:, 1:] + self.size_px // 2) // (2 * self.size_px)
        _, block = np.unique(np.column_stack([places[:, 0], middle]), axis=0, return_inverse=True)
        return self._taken(places.tolist(), np.zeros(count, int)), block.reshape(-1)

    def _places(self, rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
        """Draw plane, row, col of corners; rejection needs no table of allowed ones, which would grow."""
        places: list[tuple[int, int, int]] = []
        while len(places) < count:
            for plane, row, col in self._candidates(rng, count - len(places)):
                if self._mask[plane, row : row + self.size_px, col : col + self.size_px].all():
                    places.append((plane, row, col))
        return places

    def _taken(self, places: Sequence[Sequence[int]], applied: np.ndarray) -> Tensor:
        windows = np.empty((len(places), 1, self.size_px, self.size_px), np.float16)
        for index, (plane, row, col) in enumerate(places):
            window = self._grey[plane, row : row + self.size_px, col : col + self.size_px]
            windows[index, 0] = turned(window, applied[index])
        return torch.from_numpy(windows).float()  # ten times as fast as numpy's conversion

    def grid(self, stride_px: int | None = None) -> Tensor:
        """Take windows in order, as many as a row-by-row filling of each region finds.

        Parameters
        ----------
        stride_px : int, optional
            Distance between windows; ``size_px``, so that none overlap, by default.

        Returns
        -------
        Tensor of shape (n, 1, size_px, size_px), float32, n >= 1
        """
        corners = [corner for box in self._boxes for corner in self._corners(box, stride_px or self.size_px)]
        s = self.size_px
        windows = np.stack([self._grey[p, r : r + s, c : c + s] for p, r, c in corners])
        return torch.from_numpy(windows[:, None]).float()

    def _candidates(self, rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
        number = rng.integers(self._ends[-1], size=count)
        box = np.searchsorted(self._ends, number, side="right")
        row, col = np.divmod(self._ends[box] - 1 - number, self._cols[box])
        plane, row0, _, col0, _ = np.array(self._boxes)[box].T
        return list(zip(plane.tolist(), (row0 + row).tolist(), (col0 + col).tolist(), strict=True))

    def _corners(self, box: Box, stride_px: int) -> list[tuple[int, int, int]]:
        plane, row0, _, col0, _ = box
        allowed = window_corners(self._mask_in(box), self.size_px)
        corners, row = [], 0
        while row < len(allowed):
            cols, col = np.flatnonzero(allowed[row]), -stride_px
            for candidate in cols.tolist():
                if candidate >= col + stride_px:
                    col = candidate
                    corners.append((plane, row0 + row, col0 + col))
            row += stride_px if len(cols) else 1
        return corners

    def _mask_in(self, box: Box) -> np.ndarray:
        plane, row0, row1, col0, col1 = box
        return self._mask[plane, row0:row1, col0:col1]
