"""The circles of an image: place, radius and score of each."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Circles:
    """Circles of one image: float arrays (n,) of row, col, radius in pixels, and score in [0, 1]."""

    row: np.ndarray
    col: np.ndarray
    radius_px: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def table(self) -> np.ndarray:
        """Return row, col, radius, score as an ndarray of shape (n, 4)."""
        return np.stack([self.row, self.col, self.radius_px, self.score], axis=1)

    @classmethod
    def from_table(cls, table: np.ndarray) -> "Circles":
        """Build from an array-like of shape (n, 4); (n, 3) has score 1."""
        table = np.asarray(table, float).reshape(-1, np.shape(table)[-1] if np.size(table) else 4)
        score = table[:, 3] if table.shape[1] > 3 else np.ones(len(table))
        return cls(table[:, 0], table[:, 1], table[:, 2], score)


def border_distance_px(row: np.ndarray, col: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Return the distance (n,) of centres to the border of the image, negative outside.

    Pixel centres are at integers, so an image of H rows reaches from -0.5 to H - 0.5.
    """
    row, col = np.asarray(row), np.asarray(col)
    return np.min([row + 0.5, size_px[0] - 0.5 - row, col + 0.5, size_px[1] - 0.5 - col], axis=0)


def centres_inside(
    row: np.ndarray, col: np.ndarray, size_px: tuple[int, int], margin_px: np.ndarray | float = 0.0
) -> np.ndarray:
    """Return whether centres are in the image and at least ``margin_px`` from its border, (n,) of bool.

    Examples
    --------
    >>> row = np.array([-0.6, -0.4, 31.0, 63.4])
    >>> centres_inside(row, row, (64, 64)).tolist()
    [False, True, True, True]
    >>> centres_inside(row, row, (64, 64), margin_px=0.5).tolist()
    [False, False, True, False]
    """
    return border_distance_px(row, col, size_px) >= margin_px
