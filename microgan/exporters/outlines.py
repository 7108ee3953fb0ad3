"""The phases of a cell as exact surfaces between arcs and straight borders, by the geometry kernel of gmsh.

Discs that overlap are united, and what lies beyond the cell is cut off. Lengths are in pixels, x along
columns, y along rows, from the corner of the first pixel, so that the cell is from 0 to cols and 0 to rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from microgan.core.domain import Domain
from microgan.core.errors import UserError, one_line
from microgan.exporters.rendering import visible_discs
from microgan.exporters.structure import DISCS, INTERPHASE, MATRIX
from microgan.statistics.point_patterns import Discs

INSTALL = (
    "must be installed: pip install 'microgan[mesh]' (and the system libraries libGLU and libXft for gmsh)"
)

STARTS = 32  # directions that the start of an outline is chosen from


@contextmanager
def gmsh_session() -> Iterator[Any]:
    """Yield gmsh with an empty model: quiet, on one thread and without a hand on signals.

    Raises
    ------
    UserError
        If gmsh is not installed.
    """
    try:
        import gmsh
    except (ImportError, OSError) as error:
        raise UserError("gmsh", one_line(error), INSTALL) from error
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("General.NumThreads", 1)
        yield gmsh
    finally:
        gmsh.finalize()


def phase_surfaces(
    gmsh: Any, circles: Discs, domain: Domain, shells: Discs | None = None
) -> dict[int, list[int]]:
    """Put the surfaces of all phases into gmsh's model and return their tags by phase id.

    Parameters
    ----------
    gmsh
        Of `gmsh_session`.
    circles
        In pixels, centre of the first pixel at 0.
    domain
        Size of the cell, and whether opposite borders fit together: a disc across a border comes in at the
        other.
    shells
        The outer edges of an interphase: larger circles about the same centres, no two of which overlap.
    """
    occ = gmsh.model.occ
    cell = [(2, occ.addRectangle(0, 0, 0, domain.cols, domain.rows))]
    discs = _disks(occ, circles, domain)
    around = [] if shells is None else _disks(occ, shells, domain)
    if len(discs) > 1 and shells is None:
        discs, _ = occ.fuse(discs[:1], discs[1:])
    in_cell, in_discs, in_shells = cell, set(), set()
    if discs or around:
        _, (in_cell, *parts) = occ.fragment(cell, [*discs, *around])
        in_discs, in_shells = (
            {part for of_one in of_some for part in of_one}
            for of_some in (parts[: len(discs)], parts[len(discs) :])
        )
        beyond = [part for part in in_discs | in_shells if part not in in_cell]
        occ.remove(beyond, recursive=True)
    occ.synchronize()
    surfaces = {
        MATRIX: [tag for dimension, tag in in_cell if (dimension, tag) not in in_discs | in_shells],
        DISCS: [tag for dimension, tag in in_cell if (dimension, tag) in in_discs],
    }
    layer = [tag for dimension, tag in in_cell if (dimension, tag) in in_shells - in_discs]
    return surfaces if shells is None else surfaces | {INTERPHASE: layer}


def _disks(occ: Any, circles: Discs, domain: Domain) -> list[tuple[int, int]]:
    """Add all discs that reach into the cell."""
    visible = visible_discs(circles, domain)
    return [
        (2, occ.addDisk(col + 0.5, row + 0.5, 0, radius, radius, zAxis=[0, 0, 1], xAxis=[*start, 0]))
        for (row, col, radius), start in zip(visible.tolist(), _starts(visible, domain), strict=True)
    ]


def _starts(visible: np.ndarray, domain: Domain) -> list[list[float]]:
    """Directions (x, y) in which outlines of discs (n, 3) start: far from what may cut them.

    The start is a corner of the mesh; between it and a cut there is an edge of its own, however short.
    """
    if not len(visible):
        return []
    centres, radii = visible[:, 1::-1] + 0.5, visible[:, 2]  # x, y
    angles = np.arange(STARTS) * (2 * np.pi / STARTS)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    sides = np.array([domain.cols, domain.rows], float)
    tree, reach = cKDTree(centres), radii.max()
    starts = []
    for index, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        points = centre + radius * directions
        room = np.minimum(np.abs(points), np.abs(points - sides)).min(axis=1)
        for near in tree.query_ball_point(centre, radius + reach):
            if near != index:
                to_edge = np.abs(np.hypot(*(points - centres[near]).T) - radii[near])
                room = np.minimum(room, to_edge)
        starts.append(directions[room.argmax()].tolist())
    return starts


def disc_area(circles: Discs, domain: Domain) -> float:
    """Return the area of the disc phase of a cell in px^2.

    Parameters
    ----------
    circles, domain
        As in `phase_surfaces`.
    """
    with gmsh_session() as gmsh:
        discs = phase_surfaces(gmsh, circles, domain)[DISCS]
        return float(sum(gmsh.model.occ.getMass(2, tag) for tag in discs))
