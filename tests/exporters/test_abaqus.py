"""Abaqus files, read by the rules of its keywords; by meshio where that can be trusted."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from microgan.core.errors import UserError
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.exporters.formats.abaqus import ABAQUS, write_inp
from microgan.exporters.formats.abaqus_text import legal_label
from microgan.exporters.structure import Structure

VOXEL_UM = 0.8
FLAT = (1, 5, 7)
EXTRUDED = (3, 4, 5)
CONFIG = PropertiesConfig()


@dataclass
class Deck:
    """What a file holds."""

    nodes: dict[int, tuple[float, ...]] = field(default_factory=dict)
    elements: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    elsets: dict[str, list[int]] = field(default_factory=dict)
    nsets: dict[str, list[int]] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    materials: dict[str, tuple[float, ...] | None] = field(default_factory=dict)
    surfaces: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


def read_inp(path: Path) -> Deck:
    """Read keyword lines (*), their comma-separated parameters, data lines and comments (**)."""
    deck, keyword, given, material = Deck(), "", {}, ""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("**"):
            deck.comments.append(line[2:].strip())
        elif line.startswith("*"):
            keyword, *rest = (part.strip() for part in line[1:].split(","))
            given = dict(part.upper().split("=", 1) for part in rest)
            keyword = keyword.upper()
            if keyword == "SOLID SECTION":
                deck.sections[given["ELSET"]] = given["MATERIAL"]
            if keyword == "MATERIAL":
                material = given["NAME"]
                deck.materials[material] = None
        elif keyword != "HEADING":
            values = [part.strip() for part in line.split(",")]
            assert len(values) <= 16
            if keyword == "NODE":
                deck.nodes[int(values[0])] = tuple(map(float, values[1:]))
            elif keyword == "ELEMENT":
                deck.elements[int(values[0])] = given["TYPE"], tuple(map(int, values[1:]))
                deck.elsets.setdefault(given["ELSET"], []).append(int(values[0]))
            elif keyword == "NSET":
                deck.nsets.setdefault(given["NSET"], []).extend(map(int, values))
            elif keyword == "SURFACE":
                deck.surfaces.setdefault(given["NAME"], []).append((int(values[0]), values[1]))
            elif keyword == "ELASTIC":
                deck.materials[material] = tuple(map(float, values))
            else:
                assert keyword == "SOLID SECTION" and float(values[0]) == 1
    return deck


def random_structure(shape: tuple[int, int, int], **others: object) -> Structure:
    phase = (np.random.default_rng(1).random(shape) < 0.4).astype(np.uint8)
    return Structure(**{"name": "cell", "phase": phase, "voxel_size_um": VOXEL_UM, **others})


def written(structure: Structure, folder: Path) -> Deck:
    ABAQUS.write(structure, folder / "cell.inp")
    return read_inp(folder / "cell.inp")


@pytest.mark.parametrize(("shape", "kind", "corners"), [(FLAT, "CPE4", 4), (EXTRUDED, "C3D8", 8)])
def test_each_voxel_is_an_element_of_its_phase(
    tmp_path: Path, shape: tuple[int, int, int], kind: str, corners: int
) -> None:
    structure = random_structure(shape)
    deck = written(structure, tmp_path)
    read = np.full(shape, 255)
    for name, members in deck.elsets.items():
        for number in members:
            element, nodes = deck.elements[number]
            assert element == kind and len(set(nodes)) == corners
            centre = np.mean([deck.nodes[node] for node in nodes], axis=0) / VOXEL_UM - 0.5
            place = np.rint(np.append(centre, 0)[:3]).astype(int)  # x, y, z
            np.testing.assert_allclose(centre, place[: len(centre)], atol=1e-9)
            read[tuple(place[::-1])] = ["MATRIX", "FIBRE"].index(name)
    np.testing.assert_array_equal(read, structure.phase)
    assert sorted(deck.elements) == list(range(1, structure.phase.size + 1))
    assert deck.sections == {"MATRIX": "MATRIX", "FIBRE": "FIBRE"}
    assert set(deck.materials) == {"MATRIX", "FIBRE"}


@pytest.mark.parametrize("shape", [FLAT, EXTRUDED])
def test_elements_are_the_right_way_round(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    deck = written(random_structure(shape), tmp_path)
    for _, nodes in deck.elements.values():
        place = np.array([deck.nodes[node] for node in nodes])
        edges = place[[1, 3, 4] if len(nodes) == 8 else [1, 3]] - place[0]
        assert np.linalg.det(edges) == pytest.approx(VOXEL_UM ** len(edges))


@pytest.mark.parametrize("shape", [FLAT, EXTRUDED])
def test_node_sets_are_sides_edges_and_corners(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    deck = written(random_structure(shape), tmp_path)
    axes = "XYZ"[: 2 if shape[0] == 1 else 3]
    sets = {name: set(nodes) for name, nodes in deck.nsets.items()}
    assert len(sets) == 3 ** len(axes) - 1
    for name, nodes in sets.items():
        ends = dict(re.findall("([XYZ])_(MIN|MAX)", name))
        border = [
            (axis, 0.0 if end == "MIN" else shape[::-1][axis] * VOXEL_UM)
            for axis, end in ((axes.index(letter), end) for letter, end in ends.items())
        ]
        there = {
            node
            for node, place in deck.nodes.items()
            if all(np.isclose(place[axis], value) for axis, value in border)
        }
        assert nodes == there, name


def test_meshio_reads_the_same_nodes_and_hexahedra(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    deck = written(random_structure(EXTRUDED), tmp_path)
    mesh = meshio.abaqus.read(tmp_path / "cell.inp")
    cells = np.concatenate([block.data for block in mesh.cells if block.type == "hexahedron"])
    order = [number for members in deck.elsets.values() for number in members]
    np.testing.assert_array_equal(cells + 1, [deck.elements[number][1] for number in order])
    np.testing.assert_allclose(mesh.points, [deck.nodes[number] for number in sorted(deck.nodes)])


@pytest.mark.parametrize(
    ("unit", "edge", "gpa", "words"),
    [("um", 0.8, 1e3, "um, uN, MPa"), ("mm", 8e-4, 1e3, "mm, N, MPa"), ("m", 8e-7, 1e9, "m, N, Pa")],
)
def test_units_are_consistent_and_said(
    tmp_path: Path, unit: str, edge: float, gpa: float, words: str
) -> None:
    structure = random_structure(FLAT, length_unit=unit)
    materials = {"matrix": CONFIG.matrix, "fibre": CONFIG.discs}
    write_inp(replace(structure, materials=materials), tmp_path / "cell.inp")
    deck = read_inp(tmp_path / "cell.inp")
    assert max(x for x, _ in deck.nodes.values()) == pytest.approx(7 * edge)
    assert deck.materials == {
        "MATRIX": pytest.approx((3.35 * gpa, 0.35)), "FIBRE": pytest.approx((74 * gpa, 0.2))
    }  # fmt: skip
    assert f"Units: {words}." in deck.comments[0]


def test_materials_that_are_not_known_are_to_be_filled_in(tmp_path: Path) -> None:
    deck = written(random_structure(FLAT), tmp_path)
    assert deck.materials == {"MATRIX": None, "FIBRE": None}
    assert sum("not known" in comment for comment in deck.comments) == 2


def test_a_phase_without_voxels_has_no_set(tmp_path: Path) -> None:
    deck = written(random_structure(FLAT, phase=np.zeros(FLAT, np.uint8)), tmp_path)
    assert set(deck.elsets) == set(deck.sections) == set(deck.materials) == {"MATRIX"}


@pytest.mark.parametrize("name", ["E-glass", "2nd", "_x", "Härter, alt", "x" * 200, "", "*NODE"])
def test_labels_are_legal(name: str) -> None:
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,79}", legal_label(name))


def test_bad_input_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cell.inp"
    with pytest.raises(UserError, match="voxel_size_um: unknown: must be known"):
        write_inp(random_structure(FLAT, voxel_size_um=None), path)
    with pytest.raises(UserError, match="phases: a-b, A_b: must differ as labels"):
        write_inp(random_structure(FLAT, phases=("a-b", "A_b")), path)
    with pytest.raises(UserError, match="materials: matrix: must have fibre"):
        write_inp(random_structure(FLAT, materials={"matrix": CONFIG.matrix}), path)
    assert not path.exists()
