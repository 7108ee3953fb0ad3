"""Triangle meshes that follow the edges of the discs: `.msh` of gmsh, and VTU through meshio.

The mesh is of the plane across the discs' axis. x runs along columns, y along rows (downwards in the
image), the corner of the first pixel is the origin. Physical groups are named by the phases and, for
boundary conditions, X_MIN, X_MAX, Y_MIN and Y_MAX. In a periodic cell the nodes of opposite borders match,
and the file says which belong together. Where discs overlap they are one. Holes are left out; the curves
around them are FREE_SURFACE.

Triangles have straight sides, so the edge of a disc becomes a polygon. Its corners lie a little outside of
the disc, such that the polygon has the disc's area.
"""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from microgan.core.domain import Domain
from microgan.core.errors import UserError, one_line
from microgan.exporters.formats.format import Format
from microgan.exporters.outlines import INSTALL, gmsh_session, phase_surfaces
from microgan.exporters.rendering import visible_discs
from microgan.exporters.solid import FREE_SURFACE
from microgan.exporters.solid_surfaces import free_curves, solid_surfaces
from microgan.exporters.structure import Structure
from microgan.statistics.point_patterns import Discs

ELEMENT_SIZE = 0.25  # side of a triangle at the edge of a disc, over the radius
LARGEST_SIZE = 0.8
LEAST_GAP = 0.02  # least distance of two edges, or of an edge and the border, over the radius: else needles
LEAST_CORNER = 0.04  # least distance of an edge and a corner of the cell, over the radius
LEAST_LAYER = 0.05  # thickness of an interphase over the radius
LAYER_ASPECT = 1.5  # side of a triangle at its edges over its thickness
MOST_PUSHES = 500
MOST_TRIANGLES = 2_000_000  # of one structure: some minutes, some gigabytes
MESH_OPTIONS = {"Mesh.Algorithm": 6, "Mesh.MshFileVersion": 4.1, "Mesh.RandomSeed": 1}
WHOLE = 2 * np.pi
TRANSLATION = (3, 7, 11)  # entries of a matrix (4, 4), row by row


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
        Side of a triangle at the edge of a disc, over the disc's radius.

    Raises
    ------
    UserError
        If circles or voxel size are not known, the size is not from above 0 to 0.8, gmsh is not installed, or
        it cannot mesh these circles.
    """
    with meshed(structure, element_size) as (gmsh, _):
        gmsh.write(str(path))
        _must_be_whole(path)
        _scale_translations(path, structure.spacing)


@contextmanager
def meshed(structure: Structure, element_size: float) -> Iterator[tuple[Any, dict[int, list[int]]]]:
    """Yield gmsh with the mesh of a structure, in pixels, and the tags of the meshed surfaces by phase id.

    Parameters, errors
    ------------------
    As of `write_msh`; an error while gmsh is in use is told as one of these circles.
    """
    if structure.circles is None or structure.voxel_size_um is None:
        unknown = "circles" if structure.circles is None else "voxel_size_um"
        raise UserError(unknown, "unknown", "must be known: a mesh follows circles, in a unit of length")
    if not 0 < element_size <= LARGEST_SIZE:
        raise UserError("element_size", element_size, f"must be above 0 and at most {LARGEST_SIZE}")
    circles, domain = structure.circles, structure.domain
    at_edges = size_at_edges(circles, element_size, structure.interphase_px)
    must_be_few_triangles(circles, domain, at_edges, "element_size")
    per_disc = 3 * int(np.ceil(WHOLE / 3 / at_edges))
    rings = polygon_discs(circles, domain, per_disc, structure.interphase_px)
    with gmsh_session() as gmsh:
        try:
            for name, value in MESH_OPTIONS.items():
                gmsh.option.setNumber(name, value)
            surfaces = _draw(gmsh, structure, rings, per_disc, element_size)
            gmsh.model.mesh.generate(2)
            yield gmsh, surfaces
        except (OSError, UserError):  # a full disk, bad input
            raise
        except Exception as error:  # gmsh raises nothing finer
            raise UserError(structure.name, one_line(error), "must be circles that gmsh can mesh") from error


def size_at_edges(circles: Discs, element_size: float, interphase_px: float) -> float:
    """Return the side of a triangle at the edges, over the mean radius: about as long as a layer is thick.

    Raises
    ------
    UserError
        If the layer is too thin for a mesh.
    """
    if not interphase_px or not len(circles.radius_px):
        return element_size
    thinnest = LEAST_LAYER * float(np.max(circles.radius_px))
    if interphase_px < thinnest:
        given = f"{interphase_px / np.max(circles.radius_px):.3f} of the largest radius"
        raise UserError("interphase_um", given, f"must be at least {LEAST_LAYER} of it in a mesh")
    return min(element_size, LAYER_ASPECT * interphase_px / float(np.mean(circles.radius_px)))


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


def must_be_few_triangles(circles: Discs, domain: Domain, element_size: float, where: str) -> None:
    """Refuse a mesh so fine that it would take hours and all memory, by an estimate of its triangles.

    Parameters
    ----------
    circles, domain, element_size
        As of the structure and in `write_msh`.
    where
        Name of the parameter, for the error.

    Raises
    ------
    UserError
        Names the number of triangles.
    """
    visible = visible_discs(circles, domain)
    if not len(visible) or not 0 < element_size <= LARGEST_SIZE:
        return
    # equilateral ones, of the side that they have at the mean edge
    side_px = element_size * float(visible[:, 2].mean())
    largest = 0.25 * np.sqrt(3) * side_px**2 * MOST_TRIANGLES
    if domain.pixels > largest:
        least = element_size * np.sqrt(domain.pixels / largest) if largest > 0 else LARGEST_SIZE
        fix = f"raise it, to {least:.2g} at least" if least <= LARGEST_SIZE else "take smaller images"
        rule = f"a structure would have more than {MOST_TRIANGLES:.0e} triangles: {fix}"
        raise UserError(where, element_size, rule)


# From circles to discs that can be meshed --------------------------------------------------------------


@dataclass(frozen=True)
class _Discs:
    """Arrays (n,) in pixels, see `microgan.statistics.point_patterns.Discs`."""

    row: np.ndarray
    col: np.ndarray
    radius_px: np.ndarray


def polygon_discs(circles: Discs, domain: Domain, corners: int, interphase_px: float = 0.0) -> list[Discs]:
    """Return discs on whose edges the corners of polygons lie that have the circles' areas.

    Edges nearer than LEAST_GAP x radius, to each other or to the border, are moved that far apart, and from
    corners LEAST_CORNER x radius. This moves discs by a few hundredths of a radius, less than a detector of
    circles can resolve. Pairs that overlap
    still do, by at least as much.

    Parameters
    ----------
    circles, domain
        As in `microgan.exporters.outlines.phase_surfaces`.
    corners
        Of the polygon that a whole disc becomes.
    interphase_px
        Thickness of a layer around the discs, whose outer edges are the second discs that are returned.
    """
    layers_px = (0.0, interphase_px) if interphase_px else (0.0,)
    radii = [np.asarray(circles.radius_px, float) + layer_px for layer_px in layers_px]
    of_corners = [radius * np.sqrt(WHOLE / (corners * np.sin(WHOLE / corners))) for radius in radii]
    centres = np.stack([circles.row, circles.col], axis=1).astype(float) + 0.5
    sides = np.array(domain.size_px, float)
    if domain.periodic:
        centres %= sides
        centres[centres >= sides] = 0
    rings = [(outer, outer - radius) for outer, radius in zip(of_corners, radii, strict=True)]
    centres = _cleared(centres, rings, domain)
    return [_Discs(centres[:, 0] - 0.5, centres[:, 1] - 0.5, radius) for radius in of_corners]


def _cleared(
    centres: np.ndarray, rings: Sequence[tuple[np.ndarray, np.ndarray]], domain: Domain
) -> np.ndarray:
    """Move centres (n, 2), all at once and repeatedly, until every gap and every overlap is wide enough.

    Of each ring the radii are those of the polygons' corners. They exceed those of the discs, by which a pair
    has a gap or an overlap, by the second array. Pairs meet by the last ring, the border by all.
    """
    if not len(centres):
        return centres
    slack, sides = 1e-3, np.array(domain.size_px, float)
    radius, surplus = rings[-1]
    reach = (2 + 10 * LEAST_GAP) * radius.max()
    tree = cKDTree(centres, boxsize=sides if domain.periodic and reach < sides.min() / 2 else None)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    least = LEAST_GAP * radius[pairs].min(axis=1)
    away = _gaps(centres, radius, domain, pairs)[1] >= -surplus[pairs].sum(axis=1)
    # A border is one of two lines along each axis; a disc reaches over it or does not.
    beyond = [
        (place, edge, np.abs(centres - place) >= (edge - excess)[:, None])
        for place in (np.zeros(2), sides)
        for edge, excess in rings
    ]
    corners = [
        (corner, edge, _from_corner(centres, corner, domain)[1] >= edge - excess)
        for corner in _corners(domain)
        for edge, excess in rings
    ]
    for _ in range(MOST_PUSHES):
        direction, gap = _gaps(centres, radius, domain, pairs)
        push = direction * (_lacking(gap, least, away) * (0.5 + slack))[:, None]
        step = np.zeros_like(centres)
        np.add.at(step, pairs[:, 0], push)
        np.add.at(step, pairs[:, 1], -push)
        for place, edge, outside in beyond:
            offset = centres - place
            lacking = _lacking(np.abs(offset) - edge[:, None], LEAST_GAP * edge[:, None], outside)
            step += np.sign(offset) * lacking * (1 + slack)
        for corner, edge, outside in corners:
            direction, distance = _from_corner(centres, corner, domain)
            lacking = _lacking(distance - edge, LEAST_CORNER * edge, outside)
            step += direction * lacking[:, None] * (1 + slack)
        if not step.any():
            break
        centres = centres + step
    return centres


def _lacking(gap: np.ndarray, least: np.ndarray, away: np.ndarray) -> np.ndarray:
    """How much further a gap must be, or an overlap, then negative."""
    return np.where(away, np.maximum(least - gap, 0), -np.maximum(least + gap, 0))


def _corners(domain: Domain) -> list[np.ndarray]:
    """The corners of the cell; of a periodic one they are the same."""
    rows, cols = domain.size_px
    places = [(0, 0)] if domain.periodic else [(0, 0), (0, cols), (rows, 0), (rows, cols)]
    return [np.array(place, float) for place in places]


def _from_corner(centres: np.ndarray, corner: np.ndarray, domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Directions (n, 2) from a corner to centres, and distances (n,)."""
    offset = centres - corner
    if domain.periodic:
        sides = np.array(domain.size_px, float)
        offset -= sides * np.rint(offset / sides)
    distance = np.maximum(np.hypot(*offset.T), 1e-9)
    return offset / distance[:, None], distance


def _gaps(
    centres: np.ndarray, radius: np.ndarray, domain: Domain, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Directions (m, 2) from the second to the first of each pair, and the gaps (m,) between their edges."""
    offset = centres[pairs[:, 0]] - centres[pairs[:, 1]]
    if domain.periodic:
        sides = np.array(domain.size_px, float)
        offset -= sides * np.rint(offset / sides)
    distance = np.maximum(np.hypot(*offset.T), 1e-9)
    return offset / distance[:, None], distance - radius[pairs].sum(axis=1)


# From discs to a mesh ----------------------------------------------------------------------------------


def _draw(
    gmsh: Any, structure: Structure, rings: Sequence[Discs], per_disc: int, element_size: float
) -> dict[int, list[int]]:
    """Put surfaces, groups and the number of elements along each curve into gmsh's model."""
    domain = structure.domain
    surfaces = solid_surfaces(gmsh, phase_surfaces(gmsh, rings[0], domain, *rings[1:]), structure)
    for phase, tags in surfaces.items():
        if tags:
            gmsh.model.addPhysicalGroup(2, tags, phase + 1, structure.phases[phase])
    rows, cols = domain.size_px
    corners = {"Y_MIN": (0, 0, cols, 0), "X_MAX": (cols, 0, cols, rows)}
    corners |= {"Y_MAX": (0, rows, cols, rows), "X_MIN": (0, 0, 0, rows)}
    sides = {name: _curves_between(gmsh, *ends) for name, ends in corners.items()}
    for number, (name, tags) in enumerate(sides.items(), start=1):
        gmsh.model.addPhysicalGroup(1, tags, number, name)
    on_border = {tag for tags in sides.values() for tag in tags}
    if structure.holes and (free := free_curves(gmsh, surfaces, on_border)):
        gmsh.model.addPhysicalGroup(1, free, len(sides) + 1, FREE_SURFACE)
    if structure.periodic:
        gmsh.model.mesh.setPeriodic(1, sides["X_MAX"], sides["X_MIN"], _shift(cols, 0))
        gmsh.model.mesh.setPeriodic(1, sides["Y_MAX"], sides["Y_MIN"], _shift(0, rows))
    whole = per_disc if len(rings) == 1 else 3 * int(np.ceil(WHOLE / 3 / element_size))
    element_px = _element_away_from_edges(rings[0], domain, whole)
    for _, tag in gmsh.model.getEntities(1):
        if tag in on_border:
            elements = max(1, round(gmsh.model.occ.getMass(1, tag) / element_px))
        else:  # an arc, which has its angle for a parameter
            (first,), (last,) = gmsh.model.getParametrizationBounds(1, tag)
            elements = max(2, int(np.ceil((last - first) / WHOLE * per_disc - 1e-6)))
        gmsh.model.mesh.setTransfiniteCurve(tag, elements + 1)
    gmsh.option.setNumber("Mesh.MeshSizeMax", element_px)
    gmsh.option.setNumber("Mesh.ScalingFactor", structure.spacing)
    return surfaces


def _curves_between(gmsh: Any, x: float, y: float, last_x: float, last_y: float) -> list[int]:
    """Curves along one side of the cell, by rising coordinates."""
    slack = 1e-6
    low, high = (x - slack, y - slack, -slack), (last_x + slack, last_y + slack, slack)
    tags = [tag for _, tag in gmsh.model.getEntitiesInBoundingBox(*low, *high, dim=1)]
    return sorted(tags, key=lambda tag: sum(gmsh.model.getBoundingBox(1, tag)))


def _element_away_from_edges(discs: Discs, domain: Domain, per_disc: int) -> float:
    """Length of an element on the border and in the matrix: as on the mean edge, or 1/16 of an empty cell."""
    visible = visible_discs(discs, domain)
    return float(visible[:, 2].mean() * WHOLE / per_disc) if len(visible) else max(domain.size_px) / 16


def _shift(x: float, y: float) -> list[float]:
    """Translation as gmsh takes it: a matrix (4, 4), row by row."""
    matrix = np.eye(4)
    matrix[:2, 3] = x, y
    return matrix.ravel().tolist()


def _must_be_whole(path: Path) -> None:
    """Raise `OSError` where the file ends early: gmsh does not notice a full disk."""
    lines = path.read_text().splitlines() if path.exists() else []
    if "$EndElements" not in lines or not lines[-1].startswith("$End"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _scale_translations(path: Path, spacing: float) -> None:
    """Scale what takes one border to the other: gmsh scales nodes as it writes, but not these translations.

    Programs that apply them, gmsh among them, would move the nodes of the borders.
    """
    lines = path.read_text().splitlines(keepends=True)
    if "$Periodic\n" not in lines:
        return
    for number in range(lines.index("$Periodic\n"), lines.index("$EndPeriodic\n")):
        count, *matrix = lines[number].split()
        if count == "16" and len(matrix) == 16:
            for entry in TRANSLATION:
                matrix[entry] = repr(float(matrix[entry]) * spacing)
            lines[number] = " ".join([count, *matrix]) + "\n"
    path.write_text("".join(lines))


MSH = Format(
    write=write_msh,
    suffix=".msh",
    description=(
        "triangle mesh along the circles, for gmsh and what reads its files; groups named by the phases"
    ),
    needs_voxel_size=True,
    needs_circles=True,
    axes="x = col, y = row (downwards in the image); origin at the corner of the first pixel",
    is_mesh=True,
    takes_holes=True,
)
VTU = Format(
    write=write_vtu,
    suffix=".vtu",
    description="the same triangle mesh for ParaView, cell data 'material' = phase id",
    needs_voxel_size=True,
    needs_circles=True,
    axes="x = col, y = row (downwards in the image); origin at the corner of the first pixel",
    is_mesh=True,
    takes_holes=True,
)
