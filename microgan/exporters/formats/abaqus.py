"""Abaqus input files: each voxel is one element, with sets, sections and materials named by the phases.

A structure of one plane becomes CPE4 quadrilaterals under plane strain, one of several planes C3D8
hexahedra. x runs along columns, y along rows (downwards in the image), z along planes; the
corner of the first voxel is the origin. Node and element numbers start at 1 and run along x first, then y,
then z. CalculiX reads the same file.

References
----------
Abaqus Keywords Reference Guide: labels have at most 80 characters, lines of numbers at most 16 entries.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from microgan import __version__
from microgan.core.errors import UserError
from microgan.exporters.formats.format import Format
from microgan.exporters.structure import Elastic, LengthUnit, Structure

MOST_LETTERS = 80  # of a label
ENDS: dict[str, Any] = {"": slice(None), "_MIN": 0, "_MAX": -1}  # of an axis, and the nodes there
PER_LINE = 16  # numbers on a line of a set
AT_ONCE = 1 << 16  # rows of numbers that are put into text together
MPA_PER_GPA, PA_PER_GPA = 1e3, 1e9
# A unit of length asks for one of force, and both give that of stress.
UNITS: dict[LengthUnit, tuple[str, str, float]] = {
    "um": ("uN", "MPa", MPA_PER_GPA),
    "mm": ("N", "MPa", MPA_PER_GPA),
    "m": ("N", "Pa", PA_PER_GPA),
}


def write_inp(structure: Structure, path: Path) -> None:
    """Write one structure as an Abaqus input file without a step.

    Parameters
    ----------
    structure
        Its voxel size must be known. Without ``materials`` the file has their names and says what to fill in.
    path
        File to write.

    Raises
    ------
    UserError
        If the voxel size is not known, a phase has no elastic constants while others have, or the names of
        the phases become one and the same label.
    """
    if structure.voxel_size_um is None:
        raise UserError("voxel_size_um", "unknown", "must be known: an Abaqus file has lengths, not voxels")
    labels = [legal_label(name) for name in structure.phases]
    if len({label.upper() for label in labels}) < len(labels):
        raise UserError("phases", ", ".join(structure.phases), f"must differ as labels, not {labels}")
    materials = structure.materials
    missing = [name for name in structure.phases if materials is not None and name not in materials]
    if missing:
        raise UserError("materials", ", ".join(materials or ()), f"must have {', '.join(missing)}")
    with path.open("w", encoding="ascii") as file:
        file.write(_heading(structure))
        _write_nodes(file, structure)
        _write_elements(file, structure, labels)
        for name, nodes in _border_nodes(structure.phase.shape):
            file.write(f"*NSET, NSET={name}\n")
            _write_list(file, nodes)
        for index in _present(structure):
            file.write(_section(structure, labels[index]))
        for index in _present(structure):
            elastic = None if materials is None else materials[structure.phases[index]]
            file.write(_material(structure, labels[index], elastic))


def legal_label(name: str) -> str:
    """Return the label nearest to ``name`` that Abaqus and CalculiX take.

    Examples
    --------
    >>> legal_label("E-glass 2"), legal_label("2nd phase")
    ('E_glass_2', 'P_2nd_phase')
    """
    label = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return (label if re.match("[A-Za-z]", label) else f"P_{label}")[:MOST_LETTERS]


def _heading(structure: Structure) -> str:
    length = structure.length_unit
    force, stress, _ = UNITS[length]
    planes, rows, cols = structure.phase.shape
    return (
        "*HEADING\n"
        f"microgan {__version__}: {legal_label(structure.name)}\n"
        f"** Units: {length}, {force}, {stress}. Lengths are in {length}; moduli and stresses in {stress}.\n"
        f"** {cols} x {rows} x {planes} voxels with an edge of {structure.spacing:.10g} {length};"
        " element n is voxel n, along x first.\n"
        "** x = column, y = row (downwards in the image), z = plane; origin at the corner of the first one.\n"
    )


def _write_nodes(file: TextIO, structure: Structure) -> None:
    planes, rows, cols = structure.phase.shape
    sides = (rows + 1, cols + 1) if planes == 1 else (planes + 1, rows + 1, cols + 1)
    file.write("*NODE, NSET=ALL_NODES\n")
    for first, number in _chunks(int(np.prod(sides))):
        steps = np.unravel_index(np.arange(first, first + number), sides)
        numbers = first + 1 + np.arange(number)
        places = [axis * structure.spacing for axis in reversed(steps)]
        _write_rows(file, "%d, " + ", ".join(["%.10g"] * len(sides)), [numbers, *places])


def _write_elements(file: TextIO, structure: Structure, labels: Sequence[str]) -> None:
    kind = "CPE4" if len(structure.phase) == 1 else "C3D8"
    for index in _present(structure):
        voxels = np.flatnonzero(structure.phase == index)
        file.write(f"*ELEMENT, TYPE={kind}, ELSET={labels[index]}\n")
        for first, number in _chunks(len(voxels)):
            part = voxels[first : first + number]
            nodes = _nodes_of(part, structure.phase.shape)
            _write_rows(file, ", ".join(["%d"] * (1 + len(nodes))), [part + 1, *nodes])


def _nodes_of(voxels: np.ndarray, shape: Sequence[int]) -> list[np.ndarray]:
    """Numbers of the nodes of voxels: around the face z = 0 from x to y, then the same on the other face."""
    plane, row, col = np.unravel_index(voxels, shape)
    right, down = 1, shape[2] + 1
    behind = down * (shape[1] + 1)
    first = 1 + col + row * down + plane * behind
    face = [first, first + right, first + right + down, first + down]
    return face if shape[0] == 1 else [*face, *(node + behind for node in face)]


def _border_nodes(shape: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield sides, edges and corners: names such as X_MIN or X_MIN_Y_MAX, and the numbers of their nodes."""
    planes, rows, cols = shape
    sides = (rows + 1, cols + 1) if planes == 1 else (planes + 1, rows + 1, cols + 1)
    numbers = 1 + np.arange(np.prod(sides)).reshape(sides)
    axes = "XYZ"[: len(sides)]
    choices = sorted(product(ENDS, repeat=len(sides)), key=lambda ends: len("".join(ends)))
    for ends in choices[1:]:
        name = "_".join(axis + end for axis, end in zip(axes, ends, strict=True) if end)
        where = tuple(ENDS[end] for end in reversed(ends))
        yield name, np.ravel(numbers[where])


def _present(structure: Structure) -> list[int]:
    """Ids of the phases that have voxels: an empty set is an error in Abaqus."""
    return [index for index in range(len(structure.phases)) if (structure.phase == index).any()]


def _section(structure: Structure, label: str) -> str:
    thickness = "1.\n" if len(structure.phase) == 1 else ""
    return f"*SOLID SECTION, ELSET={label}, MATERIAL={label}\n{thickness}"


def _material(structure: Structure, label: str, elastic: Elastic | None) -> str:
    _, stress, per_gpa = UNITS[structure.length_unit]
    if elastic is None:
        return (
            f"*MATERIAL, NAME={label}\n"
            "** Elastic constants are not known. Fill in and take off the leading stars:\n"
            f"** *ELASTIC\n** Young's modulus in {stress}, Poisson's ratio\n"
        )
    modulus = elastic.young_modulus_gpa * per_gpa
    return f"*MATERIAL, NAME={label}\n*ELASTIC\n{modulus:.10g}, {elastic.poisson_ratio:.10g}\n"


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the number of rows of each chunk."""
    for first in range(0, count, AT_ONCE):
        yield first, min(AT_ONCE, count - first)


def _write_rows(file: TextIO, form: str, columns: Sequence[np.ndarray]) -> None:
    values = [column.tolist() for column in columns]
    file.write("\n".join([form % row for row in zip(*values, strict=True)]) + "\n")


def _write_list(file: TextIO, numbers: np.ndarray) -> None:
    for first in range(0, len(numbers), PER_LINE):
        file.write(", ".join(map(str, numbers[first : first + PER_LINE].tolist())) + "\n")


ABAQUS = Format(
    write=write_inp,
    suffix=".inp",
    description=(
        "Abaqus and CalculiX input: CPE4, or C3D8 where extruded; element sets and materials by phase"
    ),
    needs_voxel_size=True,
)
