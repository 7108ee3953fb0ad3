"""Random packings of hard discs in periodic boxes: placed one by one, then pushed apart.

Coordinates are (row, col) in pixels. A box has no walls, so the volume fraction does not fall off towards its
border.
"""

import numpy as np
from scipy.spatial import cKDTree

from microgan.core.errors import UserError
from microgan.core.periodic import wrapped

MOST_PUSHES = 5000  # of all discs, until they count as jammed; a dense packing takes a few hundred

Sides = float | tuple[float, float]  # of a box, in px: of a square, or rows and columns


def place(
    rng: np.random.Generator, radii: np.ndarray, box_px: Sides, gap_px: float, rounds: int = 20
) -> np.ndarray:
    """Place discs at random where they keep their gap; once that jams, the rest goes anywhere.

    Parameters
    ----------
    rng : numpy.random.Generator
    radii : ndarray of shape (n,)
        In pixels, best the largest first.
    box_px : float or (float, float)
        Rows and columns of the box.
    gap_px : float
        Least distance between the edges of two discs.
    rounds : int
        Of 16 tries for a disc, until it counts as jammed.

    Returns
    -------
    ndarray of shape (n, 2)
        Centres, row and col; for `relax` to sort out.

    References
    ----------
    B. Widom, Random sequential addition of hard spheres to a volume, J. Chem. Phys. 44 (1966) 3888.
    """
    centres = rng.uniform(0, box_px, (len(radii), 2))
    for index, radius in enumerate(radii):
        for _ in range(rounds):
            tries = rng.uniform(0, box_px, (16, 2))
            offset = np.abs(tries[:, None] - centres[None, :index])  # (16, placed, 2)
            offset = np.minimum(offset, box_px - offset)
            reach_px = radii[:index] + radius + gap_px
            free = np.flatnonzero(np.all((offset**2).sum(-1) >= reach_px**2, axis=1))
            if len(free):
                centres[index] = tries[free[0]]
                break
        else:
            return centres
    return centres


def relax(
    centres: np.ndarray, radii: np.ndarray, box_px: Sides, gap_px: float, box: np.ndarray | None = None
) -> np.ndarray:
    """Push overlapping discs apart, all pairs at once, until every pair keeps its gap.

    Parameters
    ----------
    centres : ndarray of shape (n, 2)
    radii : ndarray of shape (n,)
    box_px, gap_px
        As in `place`.
    box : ndarray of shape (n,), int, optional
        Which of several boxes of the same size each disc is in; all in one by default.

    Returns
    -------
    ndarray of shape (n, 2)

    Raises
    ------
    UserError
        If the overlaps do not relax.
    """
    slack_px = 1e-3  # push a little too far, so that the approach to contact ends
    sides = np.broadcast_to(np.asarray(box_px, float), 2)
    reach_px = 2 * radii.max() + gap_px
    box = np.zeros(len(radii), int) if box is None else box
    centres, moving = centres % sides, np.arange(len(radii))
    for _ in range(MOST_PUSHES):
        # Boxes lie above each other, out of reach: one tree serves all.
        place_px = np.column_stack([centres[moving], 2 * reach_px * box[moving]])
        pairs = cKDTree(place_px, boxsize=[*sides, 0]).query_pairs(reach_px, output_type="ndarray")
        offset = place_px[pairs[:, 0], :2] - place_px[pairs[:, 1], :2]
        offset -= sides * np.round(offset / sides)
        distance_px = np.maximum(np.hypot(*offset.T), 1e-9)
        missing_px = radii[moving][pairs].sum(1) + gap_px - distance_px
        if not np.any(missing_px > 0):
            return centres
        push = offset * (np.maximum(missing_px + slack_px, 0) / distance_px / 2)[:, None]
        # A box without overlaps stays as it is, whatever goes on in others.
        stirred = np.isin(box[moving], box[moving][pairs[missing_px > 0, 0]])
        for axis in (0, 1):
            there = np.bincount(pairs[:, 0], push[:, axis], len(moving))
            back = np.bincount(pairs[:, 1], push[:, axis], len(moving))
            centres[moving, axis] = (
                place_px[:, axis] + np.where(stirred, there, 0) - np.where(stirred, back, 0)
            )
        moving = moving[stirred]
        centres[moving] = wrapped(centres[moving], sides)
    raise UserError("gap_px", gap_px, "the discs with their gap do not fit, lower it")
