"""Decks that run: load cases for an Abaqus file, so that `ccx structure_00000_stiffness` needs no editing.

``stiffness``: the cell is repeated without end, under one mean strain after the other. A node on a border
differs from its image on the opposite border by the mean strain times their distance: an ``*EQUATION``. The
components of the mean strain are degrees of freedom of two reference nodes: xx, yy, zz are 1, 2, 3 of
REF_NORMAL; xy, xz, yz are 1, 2, 3 of REF_SHEAR. At edges and corners all nodes that are one and the same in
the periodic cell are tied to the first of them, so that no equation is redundant.

``uniaxial``: strain along x, then y (then z), the borders flat and free of shear. It needs no periodicity.

Stress is read from the forces on X_MAX, Y_MAX (and Z_MAX), of which CalculiX prints seven digits. Strains of
the load cases are proportional to the area of the border that their stress acts on: the figures of a
symmetric stiffness are then printed as equal ones. CalculiX gives no forces at the reference nodes; Abaqus
does, volume times stress.

References
----------
J. C. Michel, H. Moulinec and P. Suquet, Effective properties of composite materials with periodic
microstructure: a computational approach, Computer Methods in Applied Mechanics and Engineering 172 (1999)
109-143: mean strains as degrees of freedom.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from microgan.core.errors import UserError
from microgan.core.json_files import write_json
from microgan.exporters.deck_record import Component, DeckKind, DeckPhase, DeckRecord, LoadCase
from microgan.exporters.formats.abaqus_text import UNITS, write_rows
from microgan.exporters.structure import Structure

AXES = "XYZ"
NORMAL, SHEAR = "REF_NORMAL", "REF_SHEAR"  # sets of one reference node each
STRAIN = 1e-3  # of the load case on the largest border
SAME_PLACE = 1e-7  # of the cell's longest side: nodes nearer than that are images of each other
# Reference node and its degree of freedom, and the axes that belong to each component of strain
COMPONENTS: dict[Component, tuple[str, int, tuple[int, int]]] = {
    "xx": (NORMAL, 1, (0, 0)),
    "yy": (NORMAL, 2, (1, 1)),
    "zz": (NORMAL, 3, (2, 2)),
    "xy": (SHEAR, 1, (0, 1)),
    "xz": (SHEAR, 2, (0, 2)),
    "yz": (SHEAR, 3, (1, 2)),
}


@dataclass(frozen=True)
class Border:
    """The nodes on the borders of a cell.

    Attributes
    ----------
    numbers
        Of the nodes, (n,).
    places
        Their coordinates x, y (and z), (n, 2) or (n, 3).
    last_node
        Highest number of all nodes of the mesh.
    """

    numbers: np.ndarray
    places: np.ndarray
    last_node: int


def must_take_deck(structure: Structure, kind: DeckKind) -> None:
    """Refuse a deck that the structure has not what it takes for.

    Raises
    ------
    UserError
        If elastic constants of a solid phase are not known, or a periodic deck is asked for a structure that
        is not periodic.
    """
    if structure.materials is None:
        solids = " and ".join(structure.solids)
        rule = f"needs elastic constants of {solids}: give materials (--matrix-material, --disc-material)"
        raise UserError("deck", kind, rule)
    if kind == "stiffness" and not structure.periodic:
        rule = (
            "needs a periodic structure: give --periodic if opposite borders fit together, else deck uniaxial"
        )
        raise UserError("deck", kind, rule)


def write_deck(
    structure: Structure,
    mesh: Path,
    kind: DeckKind,
    border: Border,
    volume_fractions: Sequence[float],
    worst_element_quality: float | None = None,
) -> None:
    """Write a deck that includes ``mesh`` beside it, and its record: ``NAME_stiffness.inp`` and ``.json``.

    Parameters
    ----------
    structure
        What the mesh is of.
    mesh
        Abaqus file with nodes, elements, sets, sections and materials.
    kind
        Load cases.
    border
        Nodes of the mesh on the borders of the cell.
    volume_fractions
        Of the phases, holes too.
    worst_element_quality
        Of triangles.

    Raises
    ------
    UserError
        If the solid does not reach from one border to the opposite one.
    """
    record = _record(structure, mesh, kind, volume_fractions, worst_element_quality)
    at_x_max = np.abs(border.places[:, 0] - record.size[0]) < SAME_PLACE * max(record.size)
    digest = DeckRecord.nodes_digest(border.numbers[at_x_max].tolist())
    record = record.model_copy(update={"x_max_nodes_sha256": digest})
    path = mesh.with_name(f"{mesh.stem}_{kind}.inp")
    with path.open("w", encoding="ascii") as file:
        file.write(f"*INCLUDE, INPUT={mesh.name}\n")
        file.write(f"** Deck {kind}: {len(record.load_cases)} steps, each a mean strain of one component.\n")
        file.write(f"** ccx {path.stem}; then microgan homogenise {path.stem}.dat\n")
        if kind == "stiffness":
            _write_periodicity(file, structure, border, record)
        else:
            _must_reach_borders(structure, border, record)
            _write_rollers(file, record)
        for case in record.load_cases:
            _write_step(file, case, record)
    write_json(path.with_suffix(".json"), record.model_dump(by_alias=True))


def _record(
    structure: Structure, mesh: Path, kind: DeckKind, fractions: Sequence[float], quality: float | None
) -> DeckRecord:
    planes, rows, cols = structure.phase.shape
    sides = (cols, rows) if planes == 1 else (cols, rows, planes)
    _, stress, per_gpa = UNITS[structure.length_unit]
    materials = structure.materials or {}
    phases = []
    for name, fraction in zip(structure.phases, fractions, strict=True):
        elastic = None if name in structure.holes else materials[name]
        phases.append(
            DeckPhase(
                name=name,
                volume_fraction=fraction,
                young_modulus_gpa=None if elastic is None else elastic.young_modulus_gpa,
                poisson_ratio=None if elastic is None else elastic.poisson_ratio,
            )
        )
    size = tuple(count * structure.spacing for count in sides)
    areas = np.prod(size) / np.array(size)
    return DeckRecord(
        deck=kind,
        mesh=mesh.name,
        size=size,
        length_unit=structure.length_unit,
        stress_unit=stress,
        stress_per_gpa=per_gpa,
        load_cases=tuple(
            LoadCase(component=component, strain=float(STRAIN * areas[first] / areas.max()))
            for component, (first, second) in _components(len(size))
            if kind == "stiffness" or first == second
        ),
        phases=tuple(phases),
        worst_element_quality=quality,
    )


def _components(dimensions: int) -> Iterator[tuple[Component, tuple[int, int]]]:
    """Yield the components of strain that a cell has, and their axes."""
    for component, (_, _, axes) in COMPONENTS.items():
        if max(axes) < dimensions:
            yield component, axes


# Periodic cells ----------------------------------------------------------------------------------------


def _write_periodicity(file: TextIO, structure: Structure, border: Border, record: DeckRecord) -> None:
    """Write reference nodes, equations, and what holds the cell in its place."""
    dimensions = len(record.size)
    references = {NORMAL: border.last_node + 1, SHEAR: border.last_node + 2}
    for name, number in references.items():
        file.write(f"*NODE, NSET={name}\n" + ", ".join([str(number), *["0."] * dimensions]) + "\n")
    nodes, images, distances = tied_nodes(border, np.array(record.size))
    for axis in range(dimensions):
        if not (np.abs(distances[:, axis]) > 0.5 * record.size[axis]).any():
            raise _not_connected(structure, axis)
    file.write("*EQUATION\n")
    for direction in range(dimensions):
        for distance in np.unique(distances, axis=0):
            rows = (distances == distance).all(axis=1)
            terms = _strain_terms(direction, distance, references)
            form = f"{2 + len(terms)}\n%d, {direction + 1}, 1., %d, {direction + 1}, -1."
            form += "".join(
                f",{'' if number % 4 else chr(10)} {term}" for number, term in enumerate(terms, 2)
            )
            write_rows(file, form, [nodes[rows], images[rows]])
    fixed = np.setdiff1d(images, nodes)[0]
    file.write(f"*BOUNDARY\n{fixed}, 1, {dimensions}\n")


def tied_nodes(border: Border, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which nodes of a periodic cell follow which: numbers (m,) of both, and their distances (m, d).

    Nodes whose places differ by whole sides of the cell are images of each other. All of them follow the one
    on the fewest far borders, which follows none. A node at a hole may have no image.
    """
    tolerance = SAME_PLACE * size.max()
    steps = np.abs(border.places - size) < tolerance  # (n, d), on the far border along each axis
    wrapped = np.where(steps | (np.abs(border.places) < tolerance), 0, border.places)
    pairs = cKDTree(wrapped).query_pairs(tolerance, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(wrapped), len(wrapped)))
    _, classes = connected_components(graph, directed=False)
    order = np.lexsort((*steps.T, steps.sum(axis=1), classes))
    starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
    first = order[starts][np.cumsum(np.diff(classes[order], prepend=-1) != 0) - 1]
    follows = order != first
    node, image = order[follows], first[follows]
    distances = (steps[node].astype(float) - steps[image]) * size
    return border.numbers[node], border.numbers[image], distances


def _strain_terms(direction: int, distance: np.ndarray, references: dict[str, int]) -> list[str]:
    """Terms of the mean strain in the equation of one direction: node, degree of freedom, factor."""
    terms = []
    for component, axes in _components(len(distance)):
        reference, freedom, _ = COMPONENTS[component]
        factor = 0.0
        if axes == (direction, direction):
            factor = -distance[direction]
        elif direction in axes:  # half the engineering shear strain
            factor = -distance[sum(axes) - direction] / 2
        if factor:
            terms.append(f"{references[reference]}, {freedom}, {factor:.10g}")
    return terms


# Cells between flat borders ----------------------------------------------------------------------------


def _write_rollers(file: TextIO, record: DeckRecord) -> None:
    file.write("*BOUNDARY\n")
    for axis in range(len(record.size)):
        file.write(f"{AXES[axis]}_MIN, {axis + 1}, {axis + 1}\n")


def _must_reach_borders(structure: Structure, border: Border, record: DeckRecord) -> None:
    for axis, length in enumerate(record.size):
        places, slack = border.places[:, axis], SAME_PLACE * max(record.size)
        if not ((places < slack).any() and (places > length - slack).any()):
            raise _not_connected(structure, axis)


def _not_connected(structure: Structure, axis: int) -> UserError:
    ends = f"does not reach from {AXES[axis]}_MIN to {AXES[axis]}_MAX"
    return UserError(structure.name, f"its solid {ends}", "must be connected, to carry load")


# Steps -------------------------------------------------------------------------------------------------


def _write_step(file: TextIO, case: LoadCase, record: DeckRecord) -> None:
    """Write one load case; what was prescribed in the case before is set to zero by name."""
    dimensions = len(record.size)
    file.write(f"** Strain {case.component} = {case.strain:.10g}\n*STEP\n*STATIC\n*BOUNDARY\n")
    for other in record.load_cases:
        reference, freedom, (axis, _) = COMPONENTS[other.component]
        value = case.strain if other == case else 0.0
        if record.deck == "stiffness":
            file.write(f"{reference}, {freedom}, {freedom}, {value:.15g}\n")
        else:
            file.write(f"{AXES[axis]}_MAX, {freedom}, {freedom}, {value * record.size[axis]:.15g}\n")
    for letter in AXES[:dimensions]:
        file.write(f"*NODE PRINT, NSET={letter}_MAX, TOTALS=YES\nRF\n")
    for name in (NORMAL, SHEAR) if record.deck == "stiffness" else ():
        file.write(f"*NODE PRINT, NSET={name}\nRF\n")
    file.write("*NODE FILE\nU\n*EL FILE\nS\n*END STEP\n")
