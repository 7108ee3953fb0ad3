"""Abaqus files of triangles: they follow the circles, match across borders, and leave holes out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.solving import SIDE_PX, packed_cell
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.evaluation.homogenisation import MATERIALS
from microgan.exporters.formats.abaqus_mesh import write_inp_mesh
from microgan.exporters.formats.mesh import write_msh, write_vtu
from microgan.exporters.outlines import disc_area
from microgan.exporters.structure import Structure
from tests.exporters.test_abaqus import Deck, read_inp
from tests.exporters.test_abaqus_deck import read_deck

gmsh = pytest.importorskip("gmsh")
meshio = pytest.importorskip("meshio")

ROWS, COLS, VOXEL_UM = 30, 40, 0.5
SIZE = np.array([COLS, ROWS]) * VOXEL_UM
DOMAIN = Domain((ROWS, COLS), periodic=True)
DISCS = Circles.from_table([[14, 12, 5.0], [0, 30, 5.5], [12, 38, 4.0]])  # within, over a side, over another
# Three that overlap and enclose a piece of matrix
RING = Circles.from_table([[8, 14, 5.2], [8, 24, 5.2], [16.5, 19, 5.2]])
MIDDLES = ((0, 1, 3), (1, 2, 4), (2, 0, 5))  # corners and the node between them


def cell(circles: Circles = DISCS, **others: Any) -> Structure:
    fields = {"voxel_size_um": VOXEL_UM, "periodic": True}
    return Structure("cell", np.zeros((1, ROWS, COLS), np.uint8), circles, **{**fields, **others})


def written(structure: Structure, folder: Path, **options: Any) -> Deck:
    write_inp_mesh(structure, folder / "cell.inp", **{"element_size": 0.5, **options})
    return read_inp(folder / "cell.inp")


def places(deck: Deck) -> np.ndarray:
    assert sorted(deck.nodes) == list(range(1, len(deck.nodes) + 1))
    return np.array([deck.nodes[number] for number in sorted(deck.nodes)])


def areas(deck: Deck, name: str) -> np.ndarray:
    corners = np.array([deck.elements[number][1][:3] for number in deck.elsets[name]]) - 1
    first, second, third = np.moveaxis(places(deck)[corners], 1, 0)
    (x, y), (u, v) = (second - first).T, (third - first).T
    return (x * v - y * u) / 2


def test_quadratic_triangles_have_the_area_of_the_discs(tmp_path: Path) -> None:
    deck = written(cell(), tmp_path)
    assert {kind for kind, _ in deck.elements.values()} == {"CPE6"}
    fibre, matrix = areas(deck, "FIBRE"), areas(deck, "MATRIX")
    assert (fibre > 0).all() and (matrix > 0).all()  # the right way round
    assert fibre.sum() == pytest.approx(disc_area(DISCS, DOMAIN) * VOXEL_UM**2, rel=5e-3)
    assert fibre.sum() + matrix.sum() == pytest.approx(SIZE.prod())
    node = places(deck)
    triangles = np.array([nodes for _, nodes in deck.elements.values()]) - 1
    for first, second, middle in MIDDLES:
        between = (node[triangles[:, first]] + node[triangles[:, second]]) / 2
        np.testing.assert_allclose(node[triangles[:, middle]], between, atol=1e-8)
    assert sorted(np.unique(triangles) + 1) == sorted(deck.nodes)
    assert any("worst quality" in comment for comment in deck.comments)


def test_nodes_of_opposite_borders_match_and_the_deck_ties_them_all(tmp_path: Path) -> None:
    elastic = {"matrix": MATERIALS["epoxy"], "fibre": MATERIALS["e_glass"]}
    deck = written(
        cell(materials=elastic).extruded(3), tmp_path, deck="stiffness"
    )  # planes are not for meshes
    node = places(deck)
    for axis, letter in enumerate("XY"):
        low, high = (node[np.array(deck.nsets[f"{letter}_{end}"]) - 1] for end in ("MIN", "MAX"))
        assert (low[:, axis] == 0).all() and (high[:, axis] == SIZE[axis]).all()
        np.testing.assert_allclose(np.sort(low[:, 1 - axis]), np.sort(high[:, 1 - axis]), atol=1e-8)
        assert len(low) == (node[:, axis] < 1e-6).sum() == (node[:, axis] > SIZE[axis] - 1e-6).sum()
    assert {len(deck.nsets[f"X_{x}_Y_{y}"]) for x in ("MIN", "MAX") for y in ("MIN", "MAX")} == {1}
    job = read_deck(tmp_path / "cell_stiffness.inp")
    far = set(deck.nsets["X_MAX"]) | set(deck.nsets["Y_MAX"])
    assert sorted({terms[0][0] for terms in job.equations}) == sorted(far)


def test_the_interface_is_named_from_either_side(tmp_path: Path) -> None:
    deck = written(cell(), tmp_path)
    node = places(deck)
    sides = {}
    for name, other in (("FIBRE", "MATRIX"), ("MATRIX", "FIBRE")):
        of_phase, of_other = set(deck.elsets[name]), set(deck.elsets[other])
        assert {element for element, _ in deck.surfaces[f"INTERFACE_{name}"]} <= of_phase - of_other
        sides[name] = []
        for element, side in deck.surfaces[f"INTERFACE_{name}"]:
            nodes = deck.elements[element][1]
            sides[name].append(frozenset(nodes[corner] for corner in MIDDLES[int(side[1]) - 1]))
        assert set(deck.nsets[f"INTERFACE_{name}"]) == set().union(*sides[name])
    assert len(sides["FIBRE"]) == len(set(sides["FIBRE"])) > 40
    assert set(sides["FIBRE"]) == set(sides["MATRIX"])
    centre, radius = np.array([12.5, 14.5]) * VOXEL_UM, 5.0 * VOXEL_UM
    on_circle = np.abs(np.hypot(*(node - centre).T) - radius) < 0.06 * radius
    interface = np.zeros(len(node), bool)
    interface[np.array(deck.nsets["INTERFACE_FIBRE"]) - 1] = True
    assert on_circle.sum() >= 24 and interface[on_circle].mean() > 0.9


def test_a_split_interface_has_its_nodes_twice_in_the_same_order(tmp_path: Path) -> None:
    whole = written(cell(), tmp_path)
    split = written(cell(), tmp_path, split_interface=True)
    node = places(split)
    matrix, fibre = (split.nsets[f"INTERFACE_{name}"] for name in ("MATRIX", "FIBRE"))
    assert matrix == sorted(matrix) == whole.nsets["INTERFACE_MATRIX"]
    np.testing.assert_array_equal(node[np.array(matrix) - 1], node[np.array(fibre) - 1])
    assert len(split.nodes) == len(whole.nodes) + len(matrix)
    nodes_of = {
        name: {number for element in split.elsets[name] for number in split.elements[element][1]}
        for name in ("MATRIX", "FIBRE")
    }
    assert not nodes_of["MATRIX"] & nodes_of["FIBRE"]
    assert set(matrix) <= nodes_of["MATRIX"] and set(fibre) <= nodes_of["FIBRE"]
    assert split.surfaces == whole.surfaces
    for name in ("FIBRE", "MATRIX"):
        np.testing.assert_allclose(areas(split, name), areas(whole, name))
    assert len(split.nsets["X_MAX"]) > len(whole.nsets["X_MAX"])  # both copies of a node on the border


def test_holes_are_left_out_with_what_they_enclose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    structure = cell(RING, holes=("void",), phases=("resin", "void"))
    deck = written(structure, tmp_path)
    assert set(deck.elsets) == set(deck.sections) == {"RESIN"} and not deck.surfaces
    assert "cell: 1 piece of solid inside of holes left out" in caplog.text
    used = {number for _, nodes in deck.elements.values() for number in nodes}
    assert sorted(used) == sorted(deck.nodes)  # none of a hole alone
    surface = places(deck)[np.array(deck.nsets["FREE_SURFACE"]) - 1] / VOXEL_UM - 0.5
    distance = np.hypot(RING.row - surface[:, 1:], RING.col - surface[:, :1])
    assert (np.abs(distance.min(axis=1) - 5.2) < 0.3).all()
    hole = SIZE.prod() / VOXEL_UM**2 - areas(deck, "RESIN").sum() / VOXEL_UM**2
    assert hole > disc_area(RING, DOMAIN) + 0.5  # the piece in the middle, too


@pytest.mark.parametrize("periodic", [False, True])
def test_other_meshes_have_the_same_holes(tmp_path: Path, periodic: bool) -> None:
    structure = cell(periodic=periodic, holes=("fibre",))
    write_msh(structure, tmp_path / "cell.msh")
    write_vtu(structure, tmp_path / "cell.vtu")
    mesh, vtu = meshio.gmsh.read(tmp_path / "cell.msh"), meshio.vtu.read(tmp_path / "cell.vtu")
    assert set(mesh.field_data) == {"X_MIN", "X_MAX", "Y_MIN", "Y_MAX", "matrix", "FREE_SURFACE"}
    triangles = mesh.get_cells_type("triangle")
    assert sorted(np.unique(triangles)) == list(range(len(mesh.points)))
    np.testing.assert_array_equal(vtu.get_cells_type("triangle"), triangles)
    lines = mesh.get_cells_type("line")
    group = mesh.get_cell_data("gmsh:physical", "line")
    ends, counts = np.unique(
        np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)), axis=0, return_counts=True
    )
    outer = {tuple(end) for end in ends[counts == 1]}
    assert outer == {tuple(line) for line in np.sort(lines)}  # sides and free surface, and nothing else
    free = mesh.points[lines[group == mesh.field_data["FREE_SURFACE"][0]]].mean(axis=1)[:, :2]
    assert ((free > 0) & (free < SIZE)).all()


@pytest.mark.parametrize("seed", [3, 16])
def test_no_triangle_is_a_needle_where_discs_meet_the_border(tmp_path: Path, seed: int) -> None:
    packed = Structure(
        "cell", np.zeros((1, SIDE_PX, SIDE_PX), np.uint8), packed_cell(seed), None, 1.0, periodic=True
    )
    deck = written(packed, tmp_path, element_size=0.25)
    (worst,) = [comment.rpartition(" ")[2] for comment in deck.comments if "worst quality" in comment]
    assert float(worst.rstrip(".")) > 0.2


@pytest.mark.parametrize("radius_px", [4.99, 5.01])
@pytest.mark.parametrize("interphase_px", [0.0, 0.5])
def test_no_triangle_is_a_needle_where_an_outline_passes_a_corner(
    tmp_path: Path, radius_px: float, interphase_px: float
) -> None:
    disc = Circles.from_table([[2.5, 3.5, radius_px - interphase_px]])  # 5 px from the corner
    phases = ("matrix", "fibre", "interphase") if interphase_px else ("matrix", "fibre")
    deck = written(cell(disc, phases=phases, interphase_px=interphase_px), tmp_path, element_size=0.25)
    (worst,) = [comment.rpartition(" ")[2] for comment in deck.comments if "worst quality" in comment]
    assert float(worst.rstrip(".")) > 0.15


def test_bad_input_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cell.inp"
    with pytest.raises(UserError, match="circles: unknown: must be known"):
        write_inp_mesh(cell(None), path)
    with pytest.raises(UserError, match="deck: stiffness: needs elastic constants of matrix and fibre"):
        write_inp_mesh(cell(), path, deck="stiffness")
    elastic = {"matrix": MATERIALS["epoxy"], "fibre": MATERIALS["e_glass"]}
    with pytest.raises(UserError, match="deck: stiffness: needs a periodic structure"):
        write_inp_mesh(cell(materials=elastic, periodic=False), path, deck="stiffness")
    with pytest.raises(UserError, match="split_interface: true: must be written without deck"):
        write_inp_mesh(cell(materials=elastic), path, deck="uniaxial", split_interface=True)
    full = replace(cell(Circles.from_table([[15, 20, 40.0]])), holes=("fibre",))
    with pytest.raises(UserError, match="cell: all of it is hole: must have a solid phase"):
        write_inp_mesh(full, path)
    assert not path.exists()
