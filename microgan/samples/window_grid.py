"""The grid of windows by which a large image is judged: which window contains what."""

from dataclasses import dataclass

import numpy as np

from microgan.core.domain import Domain
from microgan.detection.circles import Circles


@dataclass(frozen=True)
class WindowGrid:
    """The windows of a large image, n rows of m; arrays over all windows go row by row.

    Attributes
    ----------
    first_row, first_col
        First rows (n,) and first columns (m,) of the windows, px.
    window_px
        Side of a window.
    domain
        Size of the large image. In a periodic one, windows continue beyond the border.
    """

    first_row: np.ndarray
    first_col: np.ndarray
    window_px: int
    domain: Domain

    @property
    def firsts(self) -> tuple[np.ndarray, np.ndarray]:
        """First rows and first columns."""
        return self.first_row, self.first_col

    @property
    def corners(self) -> np.ndarray:
        """First row and first column of each window (n * m, 2), px."""
        return np.stack(np.meshgrid(*self.firsts, indexing="ij"), axis=-1).reshape(-1, 2)

    def covers(self, axis: int, places_px: np.ndarray) -> np.ndarray:
        """Return whether each window has the rows (axis 0) or columns (axis 1) ``places_px`` (k,): (n, k)."""
        after = places_px - self.firsts[axis].reshape(-1, *[1] * places_px.ndim)
        if self.domain.periodic:
            after %= self.domain.size_px[axis]
        return ((after >= 0) & (after < self.window_px)).astype(int)  # to be counted by a product

    def touching(self, pixels: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return the indices of the windows that contain any pixel of a block of rows and columns."""
        rows, cols = (self.covers(axis, pixels[axis]).max(axis=1) > 0 for axis in (0, 1))
        return np.flatnonzero(np.outer(rows, cols))

    def contain_pairs(self, circles: Circles, pairs: np.ndarray) -> np.ndarray:
        """Return for each window whether both centres of any of the pairs (p, 2) are in it."""
        in_rows, in_cols = (
            np.logical_and(*np.moveaxis(self.covers(axis, centres[pairs]), 2, 0))
            for axis, centres in enumerate((circles.row, circles.col))
        )
        return (in_rows[:, None] & in_cols).any(axis=2).ravel()

    def invalid_fraction(self, invalid: np.ndarray, square_px: int) -> np.ndarray:
        """Return for each square of ``square_px`` which fraction of its windows is invalid.

        A defect makes all windows invalid that contain it, so the fraction is high where the defect is.
        """
        rows, cols = (self.covers(axis, self._middles(axis, square_px)) for axis in (0, 1))
        by_row = invalid.reshape(len(self.first_row), len(self.first_col))
        return (rows.T @ by_row @ cols) / (rows.sum(0)[:, None] * cols.sum(0))

    def _middles(self, axis: int, square_px: int) -> np.ndarray:
        size, half = self.domain.size_px[axis], square_px // 2
        return np.minimum(np.arange(half, size + half, square_px), size - 1)
