"""What Abaqus files of voxels and of triangles have in common: labels, units, materials, lists of numbers.

References
----------
Abaqus Keywords Reference Guide: labels have at most 80 characters, lines of numbers at most 16 entries.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TextIO

import numpy as np

from microgan import __version__
from microgan.core.errors import UserError
from microgan.exporters.structure import Elastic, LengthUnit, Structure

MOST_LETTERS = 80  # of a label
PER_LINE = 16  # numbers on a line of a set
AT_ONCE = 1 << 16  # rows of numbers that are put into text together
MPA_PER_GPA, PA_PER_GPA = 1e3, 1e9
# A unit of length asks for one of force, and both give that of stress.
UNITS: dict[LengthUnit, tuple[str, Literal["MPa", "Pa"], float]] = {
    "um": ("uN", "MPa", MPA_PER_GPA),
    "mm": ("N", "MPa", MPA_PER_GPA),
    "m": ("N", "Pa", PA_PER_GPA),
}
ALL_NODES = "ALL_NODES"
AXES_COMMENT = (
    "** x = column, y = row (downwards in the image), z = plane; origin at the corner of the first one.\n"
)


def legal_label(name: str) -> str:
    """Return the label nearest to ``name`` that Abaqus and CalculiX take.

    Examples
    --------
    >>> legal_label("E-glass 2"), legal_label("2nd phase")
    ('E_glass_2', 'P_2nd_phase')
    """
    label = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return (label if re.match("[A-Za-z]", label) else f"P_{label}")[:MOST_LETTERS]


def labels_of(structure: Structure) -> list[str]:
    """Return the labels of the phases, of a structure that an Abaqus file can hold.

    Raises
    ------
    UserError
        If the voxel size is not known, a solid phase has no elastic constants while others have, or the names
        of the phases become one and the same label.
    """
    if structure.voxel_size_um is None:
        raise UserError("voxel_size_um", "unknown", "must be known: an Abaqus file has lengths, not voxels")
    labels = [legal_label(name) for name in structure.phases]
    if len({label.upper() for label in labels}) < len(labels):
        raise UserError("phases", ", ".join(structure.phases), f"must differ as labels, not {labels}")
    materials = structure.materials
    missing = [name for name in structure.solids if materials is not None and name not in materials]
    if missing:
        raise UserError("materials", ", ".join(materials or ()), f"must have {', '.join(missing)}")
    return labels


def heading(structure: Structure, *comments: str) -> str:
    """Return the first lines of a file: version, units and ``comments``."""
    length = structure.length_unit
    force, stress, _ = UNITS[length]
    lines = [f"Units: {length}, {force}, {stress}. Lengths are in {length}; moduli and stresses in {stress}."]
    return (
        f"*HEADING\nmicrogan {__version__}: {legal_label(structure.name)}\n"
        + "".join(f"** {line}\n" for line in [*lines, *comments])
        + AXES_COMMENT
    )


def write_materials(
    file: TextIO, structure: Structure, present: Iterable[int], labels: Sequence[str]
) -> None:
    """Write sections and materials of the phases ``present``, by their ids."""
    present = list(present)
    for index in present:
        file.write(_section(structure, labels[index]))
    for index in present:
        elastic = None if structure.materials is None else structure.materials[structure.phases[index]]
        file.write(_material(structure, labels[index], elastic))


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


def write_nodes(file: TextIO, numbers: np.ndarray, places: Sequence[np.ndarray]) -> None:
    """Write lines of nodes: ``numbers`` (n,) and the coordinates (n,) along each axis."""
    write_rows(file, "%d, " + ", ".join(["%.10g"] * len(places)), [numbers, *places])


def write_node_set(file: TextIO, name: str, numbers: np.ndarray) -> None:
    """Write a set of nodes, if there are any: an empty one is an error in Abaqus."""
    if len(numbers):
        file.write(f"*NSET, NSET={name}\n")
        write_list(file, numbers)


def chunks(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the number of rows of each chunk."""
    for first in range(0, count, AT_ONCE):
        yield first, min(AT_ONCE, count - first)


def write_rows(file: TextIO, form: str, columns: Sequence[np.ndarray]) -> None:
    """Write a line for each row of ``columns``, put into text by ``form``."""
    values: list[list[Any]] = [column.tolist() for column in columns]
    file.write("".join([f"{form % row}\n" for row in zip(*values, strict=True)]))


def write_list(file: TextIO, numbers: np.ndarray) -> None:
    """Write numbers, as many on a line as Abaqus takes."""
    for first in range(0, len(numbers), PER_LINE):
        file.write(", ".join(map(str, numbers[first : first + PER_LINE].tolist())) + "\n")
