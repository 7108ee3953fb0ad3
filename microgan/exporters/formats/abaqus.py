"""Abaqus input files: each voxel is one element, with sets, sections and materials named by the phases.

A structure of one plane becomes CPE4 quadrilaterals under plane strain, one of several planes C3D8
hexahedra. x runs along columns, y along rows (downwards in the image), z along planes; the
corner of the first voxel is the origin. Node and element numbers start at 1 and run along x first, then y,
then z. CalculiX reads the same file.

Voxels of a hole have no element, and nodes that only they have are left out; the other nodes are numbered
without gaps. Element n stays voxel n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np

from microgan.core.notes import warn
from microgan.core.words import counted
from microgan.exporters.deck_record import DeckKind
from microgan.exporters.formats.abaqus_deck import Border, must_take_deck, write_deck
from microgan.exporters.formats.abaqus_text import (
    ALL_NODES,
    chunks,
    heading,
    labels_of,
    write_materials,
    write_node_set,
    write_nodes,
    write_rows,
)
from microgan.exporters.formats.format import Format
from microgan.exporters.solid import FREE_SURFACE, largest_solid
from microgan.exporters.structure import Structure

ENDS: dict[str, Any] = {"": slice(None), "_MIN": 0, "_MAX": -1}  # of an axis, and the nodes there


def write_inp(structure: Structure, path: Path, deck: DeckKind | None = None) -> None:
    """Write one structure as an Abaqus input file without a step and, if asked for, a deck that runs it.

    Parameters
    ----------
    structure
        Its voxel size must be known. Without ``materials`` the file has their names and says what to fill in.
    path
        File to write.
    deck
        Load cases of the job beside it: see `microgan.exporters.formats.abaqus_deck`.

    Raises
    ------
    UserError
        If the voxel size is not known, a phase has no elastic constants while others have, the names of
        the phases become one and the same label, or the structure has not what the deck needs.
    """
    labels = labels_of(structure)
    if deck is not None:
        must_take_deck(structure, deck)
        if structure.holes:
            words = "necks of the solid that are a voxel wide decide the stiffness"
            warn(f"{structure.name}: {words}: draw finer until it stays (--refinement), or use inp-mesh")
    grid = _Grid.of(structure)
    planes, rows, cols = structure.phase.shape
    voxels = (
        f"{cols} x {rows} x {planes} voxels with an edge of {structure.spacing:.10g} {structure.length_unit}"
    )
    comments = [f"{voxels}; element n is voxel n, along x first."]
    if structure.holes:
        comments += [f"Holes: {', '.join(structure.holes)}. {FREE_SURFACE}: the nodes around them."]
    present = [index for index in structure.solid_ids if grid.voxels_of(structure, index).size]
    with path.open("w", encoding="ascii") as file:
        file.write(heading(structure, *comments))
        _write_nodes(file, grid, structure.spacing)
        for index in present:
            _write_elements(file, grid, grid.voxels_of(structure, index), labels[index])
        for name, where in _borders(grid.sides):
            write_node_set(file, name, grid.numbered(where))
        if structure.holes:
            write_node_set(file, FREE_SURFACE, grid.numbered(grid.free_surface))
        write_materials(file, structure, present, labels)
    if deck is not None:
        write_deck(structure, path, deck, grid.border(structure.spacing), _fractions(structure, grid.solid))


def _fractions(structure: Structure, solid: np.ndarray | None) -> list[float]:
    """Volume fractions of the phases; solid that is left out counts as the first hole."""
    there = structure.phase if solid is None else structure.phase[solid]
    fractions = np.bincount(there.ravel(), minlength=len(structure.phases)) / structure.phase.size
    if structure.holes:
        fractions[structure.phases.index(structure.holes[0])] += 1 - fractions.sum()
    return [float(fraction) for fraction in fractions]


# The grid of nodes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """Nodes at the corners of voxels, with indices along (plane, row, col), or (row, col) for one plane.

    Attributes
    ----------
    shape
        Voxels along (plane, row, col).
    solid
        Voxels that have an element, bool; none where all have.
    numbers
        Of the nodes, 0 where there is none; none where all nodes are there, numbered as they lie.
    """

    shape: tuple[int, ...]
    solid: np.ndarray | None = None
    numbers: np.ndarray | None = None

    @classmethod
    def of(cls, structure: Structure) -> Self:
        """Leave out the holes, and what hangs on nothing in them."""
        if not structure.holes:
            return cls(structure.phase.shape)
        solid, loose = largest_solid(structure)
        if loose:
            voxels = counted(loose, "voxel")
            warn(f"{structure.name}: {voxels} of solid inside of holes left out, as nothing would hold them")
        grid = cls(structure.phase.shape, solid)
        there = grid._touched(solid)
        return cls(grid.shape, solid, np.cumsum(there).reshape(there.shape) * there)

    @property
    def sides(self) -> tuple[int, ...]:
        """Nodes along each axis."""
        nodes = tuple(count + 1 for count in self.shape)
        return nodes if self.shape[0] > 1 else nodes[1:]

    @property
    def free_surface(self) -> np.ndarray:
        """Where solid and hole share a node; flat indices."""
        assert self.solid is not None
        return np.flatnonzero(self._touched(self.solid) & self._touched(~self.solid))

    def _touched(self, voxels: np.ndarray) -> np.ndarray:
        """Nodes of any of the ``voxels``, bool of shape ``sides``."""
        voxels = voxels if self.shape[0] > 1 else voxels[0]
        nodes = np.zeros(self.sides, bool)
        for corner in product((slice(None, -1), slice(1, None)), repeat=voxels.ndim):
            nodes[corner] |= voxels
        return nodes

    def voxels_of(self, structure: Structure, index: int) -> np.ndarray:
        """Flat indices of the voxels of a phase that have an element."""
        of_phase = structure.phase == index
        return np.flatnonzero(of_phase if self.solid is None else of_phase & self.solid)

    def numbered(self, where: np.ndarray) -> np.ndarray:
        """Numbers of the nodes that are there, by flat indices."""
        if self.numbers is None:
            return where + 1
        numbers = self.numbers.ravel()[where]
        return numbers[numbers > 0]

    def places(self, where: np.ndarray, spacing: float) -> list[np.ndarray]:
        """Coordinates x, y (and z) by flat indices."""
        return [axis * spacing for axis in reversed(np.unravel_index(where, self.sides))]

    def border(self, spacing: float) -> Border:
        """Nodes on the borders of the cell."""
        on_border = np.zeros(self.sides, bool)
        for axis in range(len(self.sides)):
            for end in (0, -1):
                on_border[(slice(None),) * axis + (end,)] = True
        if self.numbers is not None:
            on_border &= self.numbers > 0
        where = np.flatnonzero(on_border)
        total = int(np.prod(self.sides) if self.numbers is None else self.numbers.max())
        return Border(self.numbered(where), np.stack(self.places(where, spacing), axis=1), total)


def _write_nodes(file: TextIO, grid: _Grid, spacing: float) -> None:
    there = None if grid.numbers is None else np.flatnonzero(grid.numbers)
    file.write(f"*NODE, NSET={ALL_NODES}\n")
    for first, number in chunks(int(np.prod(grid.sides)) if there is None else len(there)):
        where = np.arange(first, first + number) if there is None else there[first : first + number]
        write_nodes(file, grid.numbered(where), grid.places(where, spacing))


def _write_elements(file: TextIO, grid: _Grid, voxels: np.ndarray, label: str) -> None:
    kind = "CPE4" if grid.shape[0] == 1 else "C3D8"
    file.write(f"*ELEMENT, TYPE={kind}, ELSET={label}\n")
    for first, number in chunks(len(voxels)):
        part = voxels[first : first + number]
        nodes = [grid.numbered(corner) for corner in _corners_of(part, grid.shape)]
        write_rows(file, ", ".join(["%d"] * (1 + len(nodes))), [part + 1, *nodes])


def _corners_of(voxels: np.ndarray, shape: Sequence[int]) -> list[np.ndarray]:
    """Flat indices of nodes of voxels: around the face z = 0 from x to y, then the same on the other face."""
    plane, row, col = np.unravel_index(voxels, shape)
    right, down = 1, shape[2] + 1
    behind = down * (shape[1] + 1)
    first = col + row * down + plane * behind
    face = [first, first + right, first + right + down, first + down]
    return face if shape[0] == 1 else [*face, *(node + behind for node in face)]


def _borders(sides: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield sides, edges and corners: names such as X_MIN or X_MIN_Y_MAX, and flat indices of their nodes."""
    nodes = np.arange(np.prod(sides)).reshape(sides)
    axes = "XYZ"[: len(sides)]
    choices = sorted(product(ENDS, repeat=len(sides)), key=lambda ends: len("".join(ends)))
    for ends in choices[1:]:
        name = "_".join(axis + end for axis, end in zip(axes, ends, strict=True) if end)
        where = tuple(ENDS[end] for end in reversed(ends))
        yield name, np.ravel(nodes[where])


ABAQUS = Format(
    write=write_inp,
    suffix=".inp",
    description=(
        "Abaqus and CalculiX input: CPE4, or C3D8 where extruded; element sets and materials by phase"
    ),
    needs_voxel_size=True,
    takes_deck=True,
    takes_holes=True,
)
