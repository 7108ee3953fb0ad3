"""Triangle meshes, read with meshio, against the circles that they follow."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.exporters.formats.mesh import MSH, VTU, write_msh, write_vtu
from microgan.exporters.outlines import disc_area, gmsh_session
from microgan.exporters.rendering import render_phase
from microgan.exporters.structure import LengthUnit, Structure

gmsh = pytest.importorskip("gmsh")
meshio = pytest.importorskip("meshio")

SHAPE = (40, 48)
VOXEL_UM = 0.5
PATH = "cell.msh"


def discs(*rows: tuple[float, float, float]) -> Circles:
    return Circles.from_table(np.array(rows, float).reshape(-1, 3))


def overlapping(seed: int, count: int = 25) -> Circles:
    """Discs anywhere: many overlap, and some are cut by the border."""
    rng = np.random.default_rng(seed)
    return discs(
        *zip(rng.uniform(0, 39, count), rng.uniform(0, 47, count), rng.uniform(3, 6, count), strict=True)
    )


def structure(circles: Circles | None, periodic: bool = True) -> Structure:
    return Structure("cell", np.zeros((1, *SHAPE), np.uint8), circles, None, VOXEL_UM, "um", periodic)


class Triangles:
    """What meshio reads from a file."""

    def __init__(self, path: Path) -> None:
        mesh = meshio.gmsh.read(path)
        self.names = {name: tuple(group.tolist()) for name, group in mesh.field_data.items()}
        self.points = mesh.points[:, :2]
        self.triangles = mesh.get_cells_type("triangle")
        self.group = mesh.get_cell_data("gmsh:physical", "triangle")
        self.lines = mesh.get_cells_type("line"), mesh.get_cell_data("gmsh:physical", "line")
        self.periodic = mesh.gmsh_periodic
        corners = self.points[self.triangles]
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        self.area = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
        self.centre = corners.mean(axis=1)

    def fraction(self, name: str) -> float:
        return float(self.area[self.group == self.names[name][0]].sum() / self.area.sum())

    def side(self, name: str) -> np.ndarray:
        """Points on a side, in rising order."""
        lines, group = self.lines
        points = self.points[np.unique(lines[group == self.names[name][0]])]
        return points[np.lexsort(points.round(9).T)]


def meshed(circles: Circles, folder: Path, periodic: bool = True, **options: float) -> Triangles:
    write_msh(structure(circles, periodic), folder / PATH, **options)
    return Triangles(folder / PATH)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_discs_have_their_area_and_their_place(tmp_path: Path, seed: int, periodic: bool) -> None:
    circles = overlapping(seed)
    mesh = meshed(circles, tmp_path, periodic)
    true = disc_area(circles, Domain(SHAPE, periodic)) / (40 * 48)
    assert 0.5 < true < 0.95
    assert mesh.fraction("fibre") == pytest.approx(true, rel=2e-3)
    assert (mesh.area > 0).all()
    assert mesh.area.sum() == pytest.approx(40 * 48 * VOXEL_UM**2)
    # Away from edges, each triangle has the phase that is drawn there.
    fine = render_phase(circles, Domain(SHAPE, periodic), 8)
    col, row = (mesh.centre / VOXEL_UM * 8).astype(int).T
    wrong = fine[row, col] != (mesh.group == mesh.names["fibre"][0])
    assert mesh.area[wrong].sum() < 0.01 * mesh.area.sum()


@pytest.mark.parametrize("element_size", [0.5, 0.25, 0.1])
def test_whole_discs_have_exactly_their_area(tmp_path: Path, element_size: float) -> None:
    mesh = meshed(discs((12, 12, 6), (28, 33, 4.5)), tmp_path, element_size=element_size)
    assert mesh.fraction("fibre") == pytest.approx(np.pi * (36 + 4.5**2) / (40 * 48), rel=1e-9)


def test_smaller_elements_are_more(tmp_path: Path) -> None:
    coarse, fine = (len(meshed(overlapping(0), tmp_path, element_size=size).area) for size in (0.5, 0.25))
    assert 2 < fine / coarse < 5


def test_groups_are_named_by_phases_and_sides(tmp_path: Path) -> None:
    write_msh(replace(structure(overlapping(0)), phases=("epoxy", "E-glass 2")), tmp_path / PATH)
    assert Triangles(tmp_path / PATH).names == {
        "Y_MIN": (1, 1), "X_MAX": (2, 1), "Y_MAX": (3, 1), "X_MIN": (4, 1),
        "epoxy": (1, 2), "E-glass 2": (2, 2),
    }  # fmt: skip


def test_nodes_of_opposite_sides_match_and_the_file_says_so(tmp_path: Path) -> None:
    mesh = meshed(overlapping(1), tmp_path)
    extent = np.array([48, 40]) * VOXEL_UM
    for axis, letter in enumerate("XY"):
        low, high = mesh.side(f"{letter}_MIN"), mesh.side(f"{letter}_MAX")
        assert len(low) > 10
        np.testing.assert_allclose(
            high - low, np.tile(extent * (np.arange(2) == axis), (len(low), 1)), atol=1e-9
        )
    pairs = np.concatenate([part[3] for part in mesh.periodic if part[0] == 1])
    shift = np.abs(mesh.points[pairs[:, 0]] - mesh.points[pairs[:, 1]])
    assert {tuple(row) for row in shift.round(9).tolist()} == {(24.0, 0.0), (0.0, 20.0)}
    assert len(pairs) >= len(mesh.side("X_MIN")) + len(mesh.side("Y_MIN"))


@pytest.mark.parametrize("unit", ["um", "mm", "m"])
def test_gmsh_reads_the_cell_as_large_as_it_is(tmp_path: Path, unit: LengthUnit) -> None:
    cell = replace(structure(overlapping(1)), voxel_size_um=0.6, length_unit=unit)
    write_msh(cell, tmp_path / PATH)
    with gmsh_session() as gmsh:
        gmsh.open(str(tmp_path / PATH))
        _, points, _ = gmsh.model.mesh.getNodes()
        affine = [gmsh.model.mesh.getPeriodicNodes(1, tag)[3] for _, tag in gmsh.model.getEntities(1)]
    columns = points.reshape(-1, 3)
    extent = np.array([48, 40, 0]) * cell.spacing
    np.testing.assert_allclose(columns.min(axis=0), 0, atol=1e-9 * extent[0])
    np.testing.assert_allclose(columns.max(axis=0), extent, rtol=1e-9)
    translations = {tuple(matrix.reshape(4, 4)[:3, 3]) for matrix in affine if len(matrix)}
    assert sorted(translations) == [(0, pytest.approx(extent[1]), 0), (pytest.approx(extent[0]), 0, 0)]
    in_file = meshio.gmsh.read(tmp_path / PATH).points
    np.testing.assert_allclose(np.sort(columns, axis=0), np.sort(in_file, axis=0), atol=1e-9 * extent[0])


def test_a_window_has_no_matching_nodes(tmp_path: Path) -> None:
    assert not meshed(overlapping(1), tmp_path, periodic=False).periodic


@pytest.mark.parametrize(
    "circles",
    [
        discs(),
        discs((20, 20, 60)),
        discs((20, 20, 5), (20, 30, 5)),  # touch
        discs((20, 20, 5), (20, 29.99999, 5)),
        discs((20, 20, 5), (20, 30.00001, 5)),
        discs((20, 20, 5), (20, 20, 5), (20, 20.5, 3)),  # twice the same, and one inside
        discs((4.5, 20, 5)),  # touches the border from inside
        discs((-5.5, 20, 5)),  # and from outside
        discs((-0.5, 20, 5), (39.5, -0.5, 5)),  # centres on the border and on a corner
        discs((-0.5, -0.5, 4)),
        discs(*((20 + 9 * np.sin(a), 20 + 9 * np.cos(a), 5) for a in np.arange(8) * np.pi / 4)),  # a ring
    ],
    ids=range(11),
)
@pytest.mark.parametrize("periodic", [False, True])
def test_awkward_discs(tmp_path: Path, circles: Circles, periodic: bool) -> None:
    mesh = meshed(circles, tmp_path, periodic)
    assert (mesh.area > 0).all()
    assert mesh.area.sum() == pytest.approx(40 * 48 * VOXEL_UM**2)
    true = disc_area(circles, Domain(SHAPE, periodic)) / (40 * 48)
    assert mesh.area[mesh.group == 2].sum() / mesh.area.sum() == pytest.approx(true, rel=4e-3)


def test_same_circles_same_file(tmp_path: Path) -> None:
    contents = []
    for name in ("a.msh", "b.msh"):
        write_msh(structure(overlapping(2)), tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"$MeshFormat\n4.1 0 8\n")


def test_vtu_holds_the_same_triangles(tmp_path: Path) -> None:
    MSH.write(structure(overlapping(0)), tmp_path / PATH)
    VTU.write(structure(overlapping(0)), tmp_path / "cell.vtu")
    mesh, read = Triangles(tmp_path / PATH), meshio.vtu.read(tmp_path / "cell.vtu")
    assert [block.type for block in read.cells] == ["triangle"]
    np.testing.assert_allclose(read.points[read.cells[0].data][..., :2], mesh.points[mesh.triangles])
    np.testing.assert_array_equal(read.cell_data["material"][0], mesh.group - 1)


def test_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="circles: unknown: must be known"):
        write_msh(structure(None), tmp_path / PATH)
    with pytest.raises(UserError, match="voxel_size_um: unknown: must be known"):
        write_msh(replace(structure(discs()), voxel_size_um=None), tmp_path / PATH)
    with pytest.raises(UserError, match="element_size: 0: must be above 0"):
        write_msh(structure(discs()), tmp_path / PATH, element_size=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gmsh", "meshio"])
def test_a_missing_library_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"{name}: .*: must be installed: pip install 'microgan\[mesh\]'"):
        write_vtu(structure(discs()), tmp_path / "cell.vtu")


def test_circles_that_gmsh_cannot_mesh_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise Exception("Invalid boundary mesh\n(overlapping facets)")

    monkeypatch.setattr(gmsh.model.mesh, "generate", failing)
    with pytest.raises(UserError, match=r"cell: Invalid boundary mesh \(overlapping facets\): must be"):
        write_msh(structure(overlapping(0)), tmp_path / PATH)
    monkeypatch.undo()
    write_msh(structure(overlapping(0)), tmp_path / PATH)  # gmsh was closed
