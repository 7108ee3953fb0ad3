"""Controls: changes by the same brush that leave an image as sound as it was.

Whoever looks for planted defects must not find the traces of planting.
"""

import math

import numpy as np
from scipy.spatial.distance import cdist

from microgan.validity.planting.brush import (
    Planted,
    Scene,
    disc_distance,
    erased,
    painted,
    relative_to,
    texture_of,
)

PLACES = 200  # tried for a moved disc
LEAST_GAP_PX = -0.3  # between a moved disc and its neighbours; real discs that touch are detected so, too


def disc_put_back(scene: Scene, rng: np.random.Generator) -> Planted | None:
    """Erase a disc and paint it where it was."""
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    row, col, radius = scene.circles[index]
    return _moved(scene, index, row, col, radius, rng)


def disc_moved(scene: Scene, rng: np.random.Generator, farthest_radii: float = 6.0) -> Planted | None:
    """Erase a disc and paint it where it overlaps no other, at least a third of its radius away."""
    for index in rng.permutation(scene.whole)[:3].tolist():
        row, col, radius = scene.circles[index]
        reach_px = rng.uniform(0.35, farthest_radii, PLACES) * radius
        angle = rng.uniform(0, 2 * math.pi, PLACES)
        centres = np.stack([row + reach_px * np.sin(angle), col + reach_px * np.cos(angle)], 1)
        inside = ((centres >= radius) & (centres <= np.array(scene.grey.shape) - 1 - radius)).all(1)
        others = np.delete(scene.circles, index, axis=0)
        gap_px = (cdist(centres, others[:, :2]) - others[:, 2]).min(1, initial=np.inf) - radius
        free = np.flatnonzero(inside & (gap_px > LEAST_GAP_PX))
        if len(free):
            to_row, to_col = centres[free[0]].tolist()
            return _moved(scene, index, to_row, to_col, radius, rng)
    return None


def missing_disc(scene: Scene, rng: np.random.Generator) -> Planted | None:
    """Erase a disc.

    It leaves a pocket of matrix, which real materials have, too: a defect only beside the circles of the
    original.
    """
    if not len(scene.whole):
        return None
    index = int(rng.choice(scene.whole))
    return Planted(erased(scene, index, rng), scene.distance[index] < 0)


def _moved(
    scene: Scene, index: int, row: float, col: float, radius_px: float, rng: np.random.Generator
) -> Planted:
    texture = texture_of(scene, index, *relative_to(scene, row, col))
    shape = disc_distance(scene.grey.shape, row, col, radius_px)
    return Planted(painted(scene, erased(scene, index, rng), texture, shape, scene.others(index)), shape < 0)
