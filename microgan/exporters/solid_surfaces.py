"""What is left of exact surfaces without the holes: the largest piece that holds together."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from microgan.core.errors import UserError
from microgan.core.notes import warn
from microgan.core.words import counted
from microgan.exporters.structure import Structure

Surfaces = dict[int, list[int]]  # gmsh's tags by phase id
SAME_PLACE_PX = 1e-4


def solid_surfaces(gmsh: Any, surfaces: Surfaces, structure: Structure) -> Surfaces:
    """Take the holes, and what hangs on nothing in them, out of gmsh's model; return what stays.

    Surfaces hold together by curves, in a periodic structure across the borders, too.

    Parameters
    ----------
    gmsh
        Its model holds the surfaces, in pixels.
    surfaces
        Of all phases.
    structure
        Names the holes.

    Raises
    ------
    UserError
        If all of it is hole.
    """
    if not structure.holes:
        return surfaces
    solid = [tag for phase in structure.solid_ids for tag in surfaces.get(phase, ())]
    if not solid:
        raise UserError(structure.name, "all of it is hole", "must have a solid phase")
    _, pieces = connected_components(_neighbours(gmsh, solid, structure), directed=False)
    areas = np.bincount(pieces, [gmsh.model.occ.getMass(2, tag) for tag in solid])
    kept = {tag for tag, piece in zip(solid, pieces, strict=True) if piece == areas.argmax()}
    if len(areas) > 1:
        loose = counted(len(areas) - 1, "piece")
        warn(f"{structure.name}: {loose} of solid inside of holes left out, as nothing would hold them")
    gone = [(2, tag) for tags in surfaces.values() for tag in tags if tag not in kept]
    gmsh.model.occ.remove(gone, recursive=True)
    gmsh.model.occ.synchronize()
    return {phase: [tag for tag in tags if tag in kept] for phase, tags in surfaces.items()}


def free_curves(gmsh: Any, surfaces: Surfaces, on_border: set[int]) -> list[int]:
    """Return the curves around holes: those of one surface alone that are not on the border of the cell."""
    counts = Counter(curve for tags in surfaces.values() for tag in tags for curve in _curves(gmsh, tag))
    return sorted(curve for curve, count in counts.items() if count == 1 and curve not in on_border)


def _curves(gmsh: Any, surface: int) -> list[int]:
    boundary = gmsh.model.getBoundary([(2, surface)], combined=False, oriented=False)
    return [tag for _, tag in boundary]


def _neighbours(gmsh: Any, solid: list[int], structure: Structure) -> coo_array:
    """Graph (n, n) of surfaces that share a curve; opposite curves of a periodic cell are one."""
    sides = np.array([structure.domain.cols, structure.domain.rows], float)
    of_curve: dict[tuple[int, ...], list[int]] = {}
    for number, tag in enumerate(solid):
        for curve in _curves(gmsh, tag):
            low, high = np.reshape(gmsh.model.getBoundingBox(1, curve), (2, 3))[:, :2]
            keys: list[tuple[int, ...]] = [(curve,)]
            for axis in range(2) if structure.periodic else ():
                if high[axis] - low[axis] < SAME_PLACE_PX and (
                    min(abs(low[axis]), abs(low[axis] - sides[axis])) < SAME_PLACE_PX
                ):
                    middle = (low[1 - axis] + high[1 - axis]) / 2
                    keys.append((axis, round(middle / SAME_PLACE_PX / 10)))
            for key in keys:
                of_curve.setdefault(key, []).append(number)
    edges = np.array([pair for numbers in of_curve.values() for pair in pairwise(numbers)], int).reshape(
        -1, 2
    )
    return coo_array((np.ones(len(edges)), edges.T), shape=(len(solid), len(solid)))
