"""What is left of a structure without its holes: the largest piece that holds together."""

import numpy as np
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from microgan.core.errors import UserError
from microgan.exporters.structure import Structure

FREE_SURFACE = "FREE_SURFACE"  # what is around holes, in files


def largest_solid(structure: Structure) -> tuple[np.ndarray, int]:
    """Return the voxels that carry load, bool like the phase, and how many solid voxels hang on nothing.

    Voxels hold together by whole faces, in a periodic structure across the borders, too.

    Raises
    ------
    UserError
        If all of it is hole.
    """
    hole_ids = [index for index in range(len(structure.phases)) if index not in structure.solid_ids]
    solid = ~np.isin(structure.phase, hole_ids)
    if not solid.any():
        raise UserError(structure.name, "all of it is hole", "must have a solid phase")
    pieces, count = label(solid)
    if structure.periodic:
        pieces = _joined_across_borders(pieces, count)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = pieces == sizes.argmax()
    return largest, int(sizes.sum() - sizes.max())


def _joined_across_borders(pieces: np.ndarray, count: int) -> np.ndarray:
    """Give one number to pieces that meet at opposite borders; 0 stays what is no piece."""
    pairs = [
        np.stack([pieces.take(0, axis).ravel(), pieces.take(-1, axis).ravel()]) for axis in range(pieces.ndim)
    ]
    first, last = np.concatenate(pairs, axis=1)
    both = (first > 0) & (last > 0)
    graph = coo_array((np.ones(both.sum()), (first[both], last[both])), shape=(count + 1, count + 1))
    _, joined = connected_components(graph, directed=False)  # piece 0, the holes, has no neighbour
    return (joined + 1)[pieces] * (pieces > 0)
