"""Large images are detected in tiles: the accumulator of a whole one may not fit into memory."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from torch import Tensor

from microgan.detection.circles import Circles

TILE_PX = 2048  # side of a tile; images up to twice its area are detected whole
MARGIN_RADII = 8  # by which a tile sees more than its own part, over the largest radius: neighbours explain
SEAM_PX = 1.0  # by which two readings of a disc on a seam differ at most, in either direction


class Tile(NamedTuple):
    """A part of an image, its first row and column, and those after its last."""

    row0: int
    row1: int
    col0: int
    col1: int


def needs_tiles(shape: tuple[int, int]) -> bool:
    """Whether an image of that many rows and columns is too large to be detected whole."""
    return math.prod(shape) > 2 * TILE_PX**2


def tiles(shape: tuple[int, int]) -> list[Tile]:
    """Return tiles of nearly equal sides that cover an image without overlap.

    Examples
    --------
    >>> [tile.row0 for tile in tiles((5000, 100))]
    [0, 1666, 3333]
    """
    rows, cols = (np.linspace(0, length, -(-length // TILE_PX) + 1).astype(int).tolist() for length in shape)
    return [Tile(*across, *along) for across in pairwise(rows) for along in pairwise(cols)]


def detect_in_tiles(
    image: Tensor, largest_px: float, find: Callable[[Tensor], Circles]
) -> Iterator[np.ndarray]:
    """Yield the circles (n, 4) of each tile of an image (1, 1, H, W), in the image's coordinates.

    Those whose centre is up to `SEAM_PX` beyond a seam are there, too: `joined` keeps one reading of each.
    """
    shape = (image.shape[-2], image.shape[-1])
    margin_px = math.ceil(MARGIN_RADII * largest_px)
    for tile in tiles(shape):
        first = np.maximum((tile.row0, tile.col0), margin_px) - margin_px
        part = image[..., first[0] : tile.row1 + margin_px, first[1] : tile.col1 + margin_px]
        table = find(part).table()
        table[:, :2] += first
        yield table[_belongs(table[:, :2], tile, shape)]


def _belongs(centres: np.ndarray, tile: Tile, shape: tuple[int, int]) -> np.ndarray:
    """Whether centres (n, 2) lie in the tile or close to its seams; at the image's border also beyond it."""
    sides = ((tile.row0, tile.row1), (tile.col0, tile.col1))
    belongs = np.ones(len(centres), bool)
    for place, (start, stop), length in zip(centres.T, sides, shape, strict=True):
        if start > 0:
            belongs &= place >= start - 0.5 - SEAM_PX
        if stop < length:
            belongs &= place < stop - 0.5 + SEAM_PX
    return belongs


def joined(tables: list[np.ndarray]) -> Circles:
    """Join the circles (n, 4) of all tiles, by falling score; of two readings of a disc the better stays."""
    table = np.concatenate(tables)
    tile_of = np.repeat(np.arange(len(tables)), [len(part) for part in tables])
    order = np.argsort(-table[:, 3], kind="stable")
    table, tile_of = table[order], tile_of[order]
    pairs = cKDTree(table[:, :2]).query_pairs(2 * SEAM_PX, output_type="ndarray")
    twice = pairs[tile_of[pairs[:, 0]] != tile_of[pairs[:, 1]], 1]
    return Circles.from_table(np.delete(table, twice, axis=0))
