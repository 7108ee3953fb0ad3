"""Abaqus input files of triangles along the circles: CPE6 under plane strain, sets and materials by phase.

The mesh is that of `microgan.exporters.formats.mesh`, with a node in the middle of each side: quadratic
triangles with straight sides. In a periodic cell the nodes of opposite borders match.

Node sets are X_MIN, X_MAX, Y_MIN, Y_MAX, the corners, and FREE_SURFACE around holes. Where phases meet, each
has its surface and its node set, INTERFACE_MATRIX and INTERFACE_FIBRE by the names of the phases: the same
nodes from either side. Where the interface is split, each phase has nodes of its own there, for cohesive
elements of no thickness or for contact. Node k of one set then lies on node k of the other.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from microgan.core.errors import UserError
from microgan.exporters.deck_record import DeckKind
from microgan.exporters.formats.abaqus_deck import Border, must_take_deck, write_deck
from microgan.exporters.formats.abaqus_text import (
    ALL_NODES,
    heading,
    labels_of,
    write_materials,
    write_node_set,
    write_nodes,
    write_rows,
)
from microgan.exporters.formats.format import Format
from microgan.exporters.formats.mesh import ELEMENT_SIZE, meshed
from microgan.exporters.solid import FREE_SURFACE
from microgan.exporters.structure import Structure

TRIANGLE_6 = 9  # gmsh's type of element; corners, then the middles of sides 1, 2, 3, as in Abaqus
ON_BORDER = 1e-8  # of the cell's side
SIDES = ((0, 1), (1, 2), (2, 0))  # corners at the ends of the sides S1, S2, S3


@dataclass(frozen=True)
class _Mesh:
    """Quadratic triangles, nodes numbered from 0.

    Attributes
    ----------
    places
        Coordinates x, y of the nodes, (n, 2).
    triangles
        Their nodes, (m, 6).
    phase
        Phase ids, (m,).
    free_surface
        Nodes around holes.
    worst_quality
        The least scaled Jacobian (SICN of gmsh): 1 for an equilateral triangle, 0 for a flat one.
    """

    places: np.ndarray
    triangles: np.ndarray
    phase: np.ndarray
    free_surface: np.ndarray
    worst_quality: float

    @property
    def areas(self) -> np.ndarray:
        """Areas of the triangles, (m,)."""
        first, second, third = (self.places[self.triangles[:, corner]] for corner in range(3))
        (x, y), (u, v) = (second - first).T, (third - first).T
        return (x * v - y * u) / 2


def write_inp_mesh(
    structure: Structure,
    path: Path,
    element_size: float = ELEMENT_SIZE,
    deck: DeckKind | None = None,
    split_interface: bool = False,
) -> None:
    """Mesh the circles of a structure and write an Abaqus input file and, if asked for, a deck that runs it.

    Parameters
    ----------
    structure
        Its circles and its voxel size must be known; of ``phase`` the shape alone matters.
    path
        File to write.
    element_size
        Side of a triangle at the edge of a disc, over the disc's radius.
    deck
        Load cases of the job beside it: see `microgan.exporters.formats.abaqus_deck`.
    split_interface
        Whether each phase has nodes of its own on the interface. Such a cell falls apart: it has no deck.

    Raises
    ------
    UserError
        If a deck is asked for with a split interface, or as `microgan.exporters.formats.mesh.write_msh` and
        `microgan.exporters.formats.abaqus.write_inp` do.
    """
    structure = structure.extruded(1)
    labels = labels_of(structure)
    if deck is not None:
        must_take_deck(structure, deck)
        if split_interface:
            raise UserError(
                "split_interface", "true", "must be written without deck: nothing holds the phases"
            )
    mesh = _quadratic(structure, element_size)
    size = np.array(structure.size[:0:-1])
    present = np.unique(mesh.phase).tolist()
    interfaces = {index: _interface(mesh, index) for index in present}
    if split_interface:
        mesh = _split(mesh)
    comments = [
        f"Triangles of {element_size:g} radii at the edges; worst quality (SICN) {mesh.worst_quality:.3f}."
    ]
    if structure.holes:
        comments += [f"Holes: {', '.join(structure.holes)}. {FREE_SURFACE}: the nodes around them."]
    with path.open("w", encoding="ascii") as file:
        file.write(heading(structure, *comments))
        file.write(f"*NODE, NSET={ALL_NODES}\n")
        write_nodes(file, 1 + np.arange(len(mesh.places)), list(mesh.places.T))
        for index in present:
            of_phase = np.flatnonzero(mesh.phase == index)
            file.write(f"*ELEMENT, TYPE=CPE6, ELSET={labels[index]}\n")
            write_rows(file, ", ".join(["%d"] * 7), [of_phase + 1, *(mesh.triangles[of_phase].T + 1)])
        for name, nodes in _borders(mesh, size).items():
            write_node_set(file, name, nodes + 1)
        write_node_set(file, FREE_SURFACE, mesh.free_surface + 1)
        for index, sides in interfaces.items():
            _write_interface(file, mesh, sides, labels[index])
        write_materials(file, structure, present, labels)
    if deck is not None:
        border = np.unique(np.concatenate(list(_borders(mesh, size).values())))
        on_border = Border(border + 1, mesh.places[border], len(mesh.places))
        write_deck(structure, path, deck, on_border, _fractions(structure, mesh, size), mesh.worst_quality)


def _quadratic(structure: Structure, element_size: float) -> _Mesh:
    with meshed(structure, element_size) as (gmsh, surfaces):
        gmsh.option.setNumber("Mesh.SecondOrderLinear", 1)  # the polygons have the discs' area
        gmsh.model.mesh.setOrder(2)
        number, places = _nodes(gmsh)
        blocks, phase, tags = [], [], []
        for index, of_phase in surfaces.items():
            for surface in of_phase:
                elements, nodes = gmsh.model.mesh.getElementsByType(TRIANGLE_6, surface)
                blocks.append(number[nodes.astype(int)].reshape(-1, 6))
                phase.append(np.full(len(elements), index))
                tags.append(elements)
        free = _nodes_of_group(gmsh, FREE_SURFACE)
        quality = gmsh.model.mesh.getElementQualities(np.concatenate(tags), "minSICN")
    triangles = np.concatenate(blocks)
    used, triangles = np.unique(triangles, return_inverse=True)
    new_number = np.full(len(places), -1)
    new_number[used] = np.arange(len(used))
    return _Mesh(
        places=_snapped(places[used] * structure.spacing, structure),
        triangles=triangles.reshape(-1, 6),
        phase=np.concatenate(phase),
        free_surface=np.sort(new_number[number[free]]),
        worst_quality=float(np.min(quality)),
    )


def _nodes(gmsh: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of each of gmsh's node tags, and coordinates x, y (n, 2) by index, in pixels."""
    tags, coordinates, _ = gmsh.model.mesh.getNodes()
    number = np.full(int(tags.max()) + 1, -1)
    number[tags.astype(int)] = np.arange(len(tags))
    return number, coordinates.reshape(-1, 3)[:, :2]


def _nodes_of_group(gmsh: Any, name: str) -> np.ndarray:
    """Tags of the nodes of a group of curves, none where there is no such group."""
    for dimension, group in gmsh.model.getPhysicalGroups(1):
        if gmsh.model.getPhysicalName(dimension, group) == name:
            tags, _ = gmsh.model.mesh.getNodesForPhysicalGroup(dimension, group)
            return tags.astype(int)
    return np.zeros(0, int)


def _snapped(places: np.ndarray, structure: Structure) -> np.ndarray:
    """Put nodes that are on a border but for rounding exactly there."""
    size = np.array(structure.size[:0:-1])
    places = np.where(np.abs(places) < ON_BORDER * size, 0.0, places)
    return np.where(np.abs(places - size) < ON_BORDER * size, size, places)


def _borders(mesh: _Mesh, size: np.ndarray) -> dict[str, np.ndarray]:
    """Nodes of sides and corners: names such as X_MIN or X_MIN_Y_MAX."""
    ends = {
        f"{letter}_{end}": mesh.places[:, axis] == place
        for axis, letter in enumerate("XY")
        for end, place in (("MIN", 0.0), ("MAX", size[axis]))
    }
    corners = {f"{x}_{y}": ends[x] & ends[y] for x in ends if x[0] == "X" for y in ends if y[0] == "Y"}
    return {name: np.flatnonzero(nodes) for name, nodes in {**ends, **corners}.items()}


def _split(mesh: _Mesh) -> _Mesh:
    """Give each phase copies of the nodes that it shares with phases before it."""
    triangles, origin = mesh.triangles.copy(), np.arange(len(mesh.places))
    taken = np.zeros(len(mesh.places), bool)
    for index in np.unique(mesh.phase):
        own = np.unique(mesh.triangles[mesh.phase == index])
        shared = own[taken[own]]
        number = np.arange(len(mesh.places))
        number[shared] = len(origin) + np.arange(len(shared))
        triangles[mesh.phase == index] = number[mesh.triangles[mesh.phase == index]]
        origin = np.append(origin, shared)
        taken[own] = True
    free = np.flatnonzero(np.isin(origin, mesh.free_surface))
    return replace(mesh, places=mesh.places[origin], triangles=triangles, free_surface=free)


def _interface(mesh: _Mesh, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return triangles of a phase, and which of their sides are shared with another phase."""
    own = mesh.phase == index
    names, (elements, sides) = _edges(mesh, own)
    shared = np.isin(names, _edges(mesh, ~own)[0])
    return elements[shared], sides[shared]


def _write_interface(file: TextIO, mesh: _Mesh, interface: tuple[np.ndarray, np.ndarray], label: str) -> None:
    """Write the surface and the nodes of a phase where it meets other phases."""
    elements, sides = interface
    if not len(elements):
        return
    name = f"INTERFACE_{label}"
    file.write(f"*SURFACE, NAME={name}, TYPE=ELEMENT\n")
    write_rows(file, "%d, S%d", [elements + 1, sides + 1])
    ends = mesh.triangles[elements[:, None], np.array(SIDES)[sides]]
    middles = mesh.triangles[elements, 3 + sides]
    write_node_set(file, name, np.unique(np.append(ends, middles)) + 1)


def _edges(mesh: _Mesh, chosen: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the middle node of each side of the chosen triangles, which names it, and triangle and side."""
    elements = np.flatnonzero(chosen)
    names = mesh.triangles[elements, 3:]
    return names.ravel(), (np.repeat(elements, 3), np.tile(np.arange(3), len(elements)))


def _fractions(structure: Structure, mesh: _Mesh, size: np.ndarray) -> list[float]:
    """Area fractions of the phases; what is no triangle is the first hole."""
    fractions = np.bincount(mesh.phase, mesh.areas, len(structure.phases)) / size.prod()
    for name in structure.holes[:1]:
        fractions[structure.phases.index(name)] = 1 - fractions.sum()
    return [float(fraction) for fraction in np.clip(fractions, 0, 1)]


ABAQUS_MESH = Format(
    write=write_inp_mesh,
    suffix=".inp",
    description="Abaqus and CalculiX input: CPE6 triangles along the circles; sets and materials by phase",
    needs_voxel_size=True,
    needs_circles=True,
    axes="x = col, y = row (downwards in the image); origin at the corner of the first pixel",
    is_mesh=True,
    takes_deck=True,
    takes_holes=True,
    splits_interface=True,
)
