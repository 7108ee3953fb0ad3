"""Triangle meshes that follow the rims of the circles: `.msh` of gmsh, and VTU through meshio.

The mesh is of the plane that the discs are seen in. x runs along columns, y along rows (downwards in the
image), the corner of the first pixel is the origin. Physical groups are named by the phases and, for
boundary conditions, X_MIN, X_MAX, Y_MIN and Y_MAX. In a periodic cell the nodes of opposite borders match,
and the file says which belong together. Where discs overlap they are one.

Triangles have straight sides, so a rim becomes a polygon. Its corners lie a little outside of the rim, such
that the polygon has the area of the disc.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import points_in_poly

from microgan.core.errors import UserError, one_line
from microgan.exporters.formats.format import Format
from microgan.exporters.outlines import WHOLE, Outline, outline
from microgan.exporters.structure import DISCS, MATRIX, Structure
from microgan.statistics.point_patterns import Discs

ELEMENT_SIZE = 0.25  # side of a triangle at a rim over the radius
LARGEST_SIZE = 0.8
LEAST_GAP = 0.02  # least distance of two rims, or of a rim and the border, over the radius: else needles
MOST_PUSHES = 500
SIDES = ("Y_MIN", "X_MAX", "Y_MAX", "X_MIN")  # as `microgan.exporters.outlines.Line` counts them
INSTALL = (
    "must be installed: pip install 'microgan[mesh]' (and the system libraries libGLU and libXft for gmsh)"
)


def write_msh(structure: Structure, path: Path, element_size: float = ELEMENT_SIZE) -> None:
    """Mesh the circles of a structure and write the mesh as gmsh's MSH 4.1.

    The same circles give the same mesh.

    Parameters
    ----------
    structure
        Its circles and its voxel size must be known; of ``phase`` the shape alone matters.
    path
        File to write.
    element_size
        Side of a triangle at a rim over the disc's radius.

    Raises
    ------
    UserError
        If circles or voxel size are not known, the size is not from above 0 to 0.8, gmsh is not installed, or
        it cannot mesh these circles.
    """
    if structure.circles is None or structure.voxel_size_um is None:
        unknown = "circles" if structure.circles is None else "voxel_size_um"
        raise UserError(unknown, "unknown", "must be known: a mesh follows circles, in a unit of length")
    if not 0 < element_size <= LARGEST_SIZE:
        raise UserError("element_size", element_size, f"must be above 0 and at most {LARGEST_SIZE}")
    shape = structure.phase.shape[1], structure.phase.shape[2]
    per_third = int(np.ceil(WHOLE / 3 / element_size))
    discs = polygon_discs(structure.circles, shape, structure.periodic, 3 * per_third)
    bounds = outline(discs, shape, structure.periodic)
    with _gmsh() as gmsh:
        try:
            _draw(gmsh, bounds, structure, per_third)
            gmsh.model.mesh.generate(2)
            gmsh.write(str(path))
        except Exception as error:  # gmsh raises nothing finer
            raise UserError(structure.name, one_line(error), "must be circles that gmsh can mesh") from error


def write_vtu(structure: Structure, path: Path, element_size: float = ELEMENT_SIZE) -> None:
    """Write the mesh of `write_msh` as VTU, with the phase ids as cell data ``material``."""
    try:
        import meshio
    except ImportError as error:
        raise UserError("meshio", one_line(error), INSTALL) from error
    with tempfile.TemporaryDirectory() as folder:
        msh = Path(folder) / "mesh.msh"
        write_msh(structure, msh, element_size)
        mesh = meshio.gmsh.read(msh)
    triangles = mesh.get_cells_type("triangle")
    phase = mesh.get_cell_data("gmsh:physical", "triangle") - 1
    meshio.vtu.write(
        path,
        meshio.Mesh(mesh.points, [("triangle", triangles)], cell_data={"material": [phase.astype(np.int32)]}),
    )


# From circles to discs that can be meshed --------------------------------------------------------------


@dataclass(frozen=True)
class _Discs:
    """Arrays (n,) in pixels, see `microgan.statistics.point_patterns.Discs`."""

    row: np.ndarray
    col: np.ndarray
    radius_px: np.ndarray


def polygon_discs(circles: Discs, shape: tuple[int, int], periodic: bool, corners: int) -> Discs:
    """Return the discs whose rims the corners of polygons of the circles' area lie on, clear of each other.

    Rims nearer than LEAST_GAP x radius, to each other or to the border, are moved that far apart, by a few
    hundredths of a radius: what a detector of circles cannot tell anyway. Pairs that overlap stay so, by that
    much at least.

    Parameters
    ----------
    circles, shape, periodic
        As in `microgan.exporters.outlines.outline`.
    corners
        Of the polygon that a whole disc becomes.
    """
    radius = np.asarray(circles.radius_px, float) * np.sqrt(WHOLE / (corners * np.sin(WHOLE / corners)))
    centres = np.stack([circles.row, circles.col], axis=1).astype(float) + 0.5
    sides = np.array(shape, float)
    if periodic:
        centres %= sides
        centres[centres >= sides] = 0
    surplus = radius - circles.radius_px
    centres = _cleared(centres, radius, surplus, sides, periodic)
    return _Discs(centres[:, 0] - 0.5, centres[:, 1] - 0.5, radius)


def _cleared(
    centres: np.ndarray, radius: np.ndarray, surplus: np.ndarray, sides: np.ndarray, periodic: bool
) -> np.ndarray:
    """Move centres (n, 2), all at once and again, until no gap is almost closed and no overlap almost none.

    Radii are those of the polygons' corners: ``surplus`` over those that tell gaps from overlaps.
    """
    if not len(centres):
        return centres
    slack = 1e-3
    reach = (2 + 10 * LEAST_GAP) * radius.max()
    tree = cKDTree(centres, boxsize=sides if periodic and reach < sides.min() / 2 else None)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    least = LEAST_GAP * radius[pairs].min(axis=1)
    away = _gaps(centres, radius, sides, periodic, pairs)[1] >= -surplus[pairs].sum(axis=1)
    # A border is one of two lines along each axis; a rim reaches over it or does not.
    beyond = [
        (place, np.abs(centres - place) >= (radius - surplus)[:, None]) for place in (np.zeros(2), sides)
    ]
    for _ in range(MOST_PUSHES):
        direction, gap = _gaps(centres, radius, sides, periodic, pairs)
        missing = np.where(away, np.maximum(least - gap, 0), -np.maximum(least + gap, 0))
        push = direction * (missing * (0.5 + slack))[:, None]
        step = np.zeros_like(centres)
        np.add.at(step, pairs[:, 0], push)
        np.add.at(step, pairs[:, 1], -push)
        for place, outside in beyond:
            offset = centres - place
            gap_there = np.abs(offset) - radius[:, None]
            least_there = LEAST_GAP * radius[:, None]
            lacking = np.where(
                outside, np.maximum(least_there - gap_there, 0), -np.maximum(least_there + gap_there, 0)
            )
            step += np.sign(offset) * lacking * (1 + slack)
        if not step.any():
            break
        centres = centres + step
    return centres


def _gaps(
    centres: np.ndarray, radius: np.ndarray, sides: np.ndarray, periodic: bool, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Directions (m, 2) from the second to the first of each pair, and the gaps (m,) between their rims."""
    offset = centres[pairs[:, 0]] - centres[pairs[:, 1]]
    if periodic:
        offset -= sides * np.rint(offset / sides)
    distance = np.maximum(np.hypot(*offset.T), 1e-9)
    return offset / distance[:, None], distance - radius[pairs].sum(axis=1)


# From discs to a mesh ----------------------------------------------------------------------------------


@contextmanager
def _gmsh() -> Iterator[Any]:
    """Yield gmsh with an empty model: quiet, on one thread and without a hand on signals."""
    try:
        import gmsh
    except (ImportError, OSError) as error:
        raise UserError("gmsh", one_line(error), INSTALL) from error
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        for name, value in {
            "General.Terminal": 0,
            "General.NumThreads": 1,
            "Mesh.Algorithm": 6,
            "Mesh.MshFileVersion": 4.1,
            "Mesh.RandomSeed": 1,
        }.items():
            gmsh.option.setNumber(name, value)
        yield gmsh
    finally:
        gmsh.finalize()


def _draw(gmsh: Any, bounds: Outline, structure: Structure, per_third: int) -> None:
    """Put outlines, surfaces, groups and the numbers of elements along curves into gmsh's model."""
    geo = gmsh.model.geo
    for tag, (x, y) in enumerate(bounds.points, start=1):
        geo.addPoint(x, y, 0, tag=tag)
    edges = _draw_arcs(geo, bounds, per_third)
    element_px = _border_element(bounds, per_third)
    for line in bounds.lines:
        tag = geo.addLine(line.start + 1, line.end + 1)
        length = float(np.hypot(*(bounds.points[line.end] - bounds.points[line.start])))
        geo.mesh.setTransfiniteCurve(tag, max(1, round(length / element_px)) + 1)
        edges.append(
            _Edge(line.start, line.end, tag, line.phase, bounds.points[[line.start, line.end]], line.side)
        )
    surfaces = {phase: _draw_surfaces(geo, edges, phase) for phase in (MATRIX, DISCS)}
    geo.synchronize()
    for phase, tags in surfaces.items():
        if tags:
            gmsh.model.addPhysicalGroup(2, tags, phase + 1, structure.phases[phase])
    sides = [_side(edges, side) for side in range(4)]
    for side, tags in enumerate(sides):
        gmsh.model.addPhysicalGroup(1, tags, side + 1, SIDES[side])
    if structure.periodic:
        rows, cols = structure.phase.shape[1:]
        gmsh.model.mesh.setPeriodic(1, sides[1], sides[3][::-1], _shift(cols, 0))
        gmsh.model.mesh.setPeriodic(1, sides[2], sides[0][::-1], _shift(0, rows))
    gmsh.option.setNumber("Mesh.MeshSizeMax", element_px)
    gmsh.option.setNumber("Mesh.ScalingFactor", structure.spacing)


@dataclass(frozen=True)
class _Edge:
    """A curve from point ``start`` to ``end``: phase ``left`` lies to its left; ``side`` if of the border."""

    start: int
    end: int
    tag: int
    left: int
    polygon: np.ndarray  # x and y of its points, start and end included
    side: int | None = None


def _draw_arcs(geo: Any, bounds: Outline, per_third: int) -> list[_Edge]:
    """Draw arcs, in pieces of a third of a circle at most, for gmsh takes none of a half or more."""
    edges = []
    for arc in bounds.arcs:
        middle = geo.addPoint(*arc.centre, 0)
        pieces = max(1, int(np.ceil(arc.sweep / (WHOLE / 3) - 1e-9)))
        elements = max(2, int(np.ceil(arc.sweep / pieces / (WHOLE / 3) * per_third - 1e-9)))
        angles = arc.angle + arc.sweep * np.linspace(0, 1, pieces * elements + 1)
        polygon = arc.centre + arc.radius_px * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        inner = [geo.addPoint(*polygon[k * elements], 0) - 1 for k in range(1, pieces)]
        stops = [arc.start, *inner, arc.end]
        for k, (start, end) in enumerate(pairwise(stops)):
            tag = geo.addCircleArc(start + 1, middle, end + 1)
            geo.mesh.setTransfiniteCurve(tag, elements + 1)
            part = polygon[k * elements : (k + 1) * elements + 1]
            edges.append(_Edge(start, end, tag, DISCS, part))
    return edges


def _border_element(bounds: Outline, per_third: int) -> float:
    """Length of an element on the border and away from rims: as on the mean rim, or 1/16 of an empty cell."""
    if not bounds.arcs:
        return float(bounds.points.max() / 16)
    return float(np.mean([arc.radius_px for arc in bounds.arcs]) * WHOLE / 3 / per_third)


def _draw_surfaces(geo: Any, edges: list[_Edge], phase: int) -> list[int]:
    """Draw the surfaces of one phase: each an outer loop and the loops of its holes."""
    loops = [_Loop(loop) for loop in _loops(edges, phase)]
    outer = sorted((loop for loop in loops if loop.area > 0), key=lambda loop: loop.area)
    curves: list[list[int]] = [[geo.addCurveLoop(loop.tags)] for loop in outer]
    for hole in (loop for loop in loops if loop.area < 0):
        within = next(index for index, loop in enumerate(outer) if loop.encloses(hole))
        curves[within].append(geo.addCurveLoop(hole.tags))
    return [geo.addPlaneSurface(loop) for loop in curves]


def _loops(edges: list[_Edge], phase: int) -> Iterator[list[tuple[_Edge, int]]]:
    """Yield closed chains of edges with ``phase`` to their left; direction -1 is from end to start.

    A rim has the discs to its left and the matrix to its right; a piece of the border has the cell on one
    side only.
    """
    following: dict[int, tuple[_Edge, int]] = {}
    for edge in edges:
        if edge.left == phase:
            following[edge.start] = edge, 1
        elif edge.side is None:
            following[edge.end] = edge, -1
    while following:
        first = next(iter(following))
        loop, point = [], first
        while point in following:
            edge, direction = following.pop(point)
            loop.append((edge, direction))
            point = edge.end if direction > 0 else edge.start
        assert point == first, "each rim is closed, or ends on the border"
        yield loop


class _Loop:
    """A closed chain of edges, its polygon, and its area: negative around a hole."""

    def __init__(self, chain: list[tuple[_Edge, int]]) -> None:
        self.tags = [edge.tag * direction for edge, direction in chain]
        self.polygon = np.concatenate([edge.polygon[::direction][:-1] for edge, direction in chain])
        x, y = self.polygon.T
        self.area = float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2

    def encloses(self, hole: "_Loop") -> bool:
        return bool(points_in_poly(hole.polygon[:1], self.polygon)[0])


def _side(edges: list[_Edge], side: int) -> list[int]:
    """Curves of one side of the cell, in the order in which they run around it."""
    return [edge.tag for edge in edges if edge.side == side]


def _shift(x: float, y: float) -> list[float]:
    """Translation as gmsh takes it: a matrix (4, 4), row by row."""
    matrix = np.eye(4)
    matrix[:2, 3] = x, y
    return matrix.ravel().tolist()


MSH = Format(
    write=write_msh,
    suffix=".msh",
    about="triangle mesh along the circles, for gmsh and what reads its files; groups named by the phases",
    needs_voxel_size=True,
    needs_circles=True,
    axes="x = col, y = row (downwards in the image); origin at the corner of the first pixel",
    is_mesh=True,
)
VTU = Format(
    write=write_vtu,
    suffix=".vtu",
    about="the same triangle mesh for ParaView, cell data 'material' = phase id",
    needs_voxel_size=True,
    needs_circles=True,
    axes="x = col, y = row (downwards in the image); origin at the corner of the first pixel",
    is_mesh=True,
)
