"""`microgan homogenise`: decks, solved by CalculiX, are as stiff as what was exported."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skfem import MeshQuad, MeshTri

from benchmarks.solving import CARBON, periodic_stiffness
from microgan.commands.homogenise import homogenise, in_words
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.files import write_tiff
from microgan.detection.circles import Circles
from microgan.evaluation.homogenisation import (
    MATERIALS,
    PhaseProperties,
    PropertiesConfig,
    conductivity,
    hashin_shtrikman,
    stiffness,
)
from microgan.evaluation.transverse_bounds import transverse_bounds
from microgan.exporters.formats.abaqus import write_inp
from microgan.exporters.formats.abaqus_mesh import write_inp_mesh
from microgan.exporters.rendering import render_phase
from microgan.exporters.structure import Structure
from tests.commands.helpers import json_result, run_command
from tests.exporters.test_abaqus import read_inp

needs_ccx = pytest.mark.skipif(
    shutil.which("ccx") is None, reason="needs ccx of CalculiX (Debian package calculix-ccx)"
)
DOMAIN = Domain((20, 24), periodic=True)
CELL = Circles.from_table([[3, 4, 5.0], [12, 17, 5.5], [17, 6, 3.5]])
HOLES = Circles.from_table([[1, 4, 4.0], [12, 17, 4.5], [10, 0, 2.5]])  # over the corner and the sides
CONFIG = PropertiesConfig()
ELASTIC = {"matrix": CONFIG.matrix, "fibre": CONFIG.discs}
IN_PLANE = ["xx", "yy", "xy"]
OURS = [1, 0, 2]  # rr, cc, rc to xx, yy, xy


def cell(phase: np.ndarray | None = None, planes: int = 1, **others: Any) -> Structure:
    phase = render_phase(CELL, DOMAIN) if phase is None else phase
    fields = {"voxel_size_um": 0.3, "periodic": True, "materials": ELASTIC}
    return Structure("cell", phase[None].astype(np.uint8), **{**fields, **others}).extruded(planes)


def solved(folder: Path, name: str) -> dict[str, Any]:
    """Run a deck as it stands, without a word of warning, and read it back."""
    ran = subprocess.run(["ccx", name], cwd=folder, capture_output=True, text=True, check=True)
    assert "WARNING" not in ran.stdout and "ERROR" not in ran.stdout, ran.stdout
    return homogenise(folder / f"{name}.dat")


def matrix_of(result: dict[str, Any], components: list[str]) -> np.ndarray:
    where = [result["components"].index(name) for name in components]
    return np.array(result["stiffness_gpa"])[np.ix_(where, where)]


def must_equal(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@needs_ccx
@pytest.mark.parametrize("unit", ["um", "m"])
def test_a_deck_of_voxels_is_as_stiff_as_the_structure(tmp_path: Path, unit: str) -> None:
    write_inp(cell(length_unit=unit), tmp_path / "cell.inp", "stiffness")
    result = solved(tmp_path, "cell_stiffness")
    ours = stiffness(render_phase(CELL, DOMAIN)[None], CONFIG)[0][np.ix_(OURS, OURS)]
    assert result["components"] == IN_PLANE
    must_equal(matrix_of(result, IN_PLANE), ours)
    assert result["symmetry_error"] < 1e-8
    assert all(part["inside"] for part in result["isotropic_part"].values())
    compliance = np.linalg.inv(ours)
    constants = result["engineering"]
    assert constants["young_modulus_x_gpa"] == pytest.approx(1 / compliance[0, 0], rel=1e-5)
    assert constants["poisson_ratio_yx"] == pytest.approx(-compliance[0, 1] / compliance[1, 1], rel=1e-5)
    assert constants["shear_modulus_xy_gpa"] == pytest.approx(1 / compliance[2, 2], rel=1e-5)


@needs_ccx
def test_an_extruded_deck_has_all_six_components(tmp_path: Path) -> None:
    write_inp(cell(planes=2), tmp_path / "cell.inp", "stiffness")
    result = solved(tmp_path, "cell_stiffness")
    phase = render_phase(CELL, DOMAIN)[None]
    must_equal(matrix_of(result, IN_PLANE), stiffness(phase, CONFIG)[0][np.ix_(OURS, OURS)])
    # Shear along the discs is a problem of conduction, with shear moduli for conductivities.
    shear = {
        name: PhaseProperties.model_validate({**dict(elastic), "conductivity_w_mk": elastic.shear_gpa})
        for name, elastic in (("discs", CONFIG.discs), ("matrix", CONFIG.matrix))
    }
    flow = conductivity(phase, PropertiesConfig.model_validate({**dict(CONFIG), **shear}))[0]
    must_equal(matrix_of(result, ["yz", "xz"]), flow)
    assert result["symmetry_error"] < 1e-8
    assert result["state"] == "three-dimensional"


@needs_ccx
@pytest.mark.parametrize("planes", [1, 2])
def test_a_uniaxial_deck_needs_no_periodicity(tmp_path: Path, planes: int) -> None:
    write_inp(cell(planes=planes, periodic=False), tmp_path / "cell.inp", "uniaxial")
    result = solved(tmp_path, "cell_uniaxial")
    mixed = PropertiesConfig.model_validate({**dict(CONFIG), "boundary": "mixed"})
    ours = stiffness(render_phase(CELL, DOMAIN)[None], mixed)[0][np.ix_(OURS, OURS)]
    must_equal(matrix_of(result, ["xx", "yy"]), ours[:2, :2])
    assert result["engineering"] is None and "shear" not in result["isotropic_part"]


@needs_ccx
def test_a_deck_with_holes_is_as_stiff_as_another_code_finds(tmp_path: Path) -> None:
    phase = render_phase(HOLES, DOMAIN)
    write_inp(cell(phase, holes=("fibre",)), tmp_path / "cell.inp", "stiffness")
    result = solved(tmp_path, "cell_stiffness")
    deck = read_inp(tmp_path / "cell.inp")
    nodes = np.array([deck.nodes[number] for number in range(1, len(deck.nodes) + 1)])
    quads = np.array([corners for _, corners in deck.elements.values()]) - 1
    mesh = MeshQuad(nodes.T.copy(), quads.T.copy())
    solid = periodic_stiffness(mesh, np.zeros(len(quads), int), CONFIG)[np.ix_(OURS, OURS)]
    must_equal(matrix_of(result, IN_PLANE), solid * len(quads) / phase.size)
    assert result["isotropic_part"]["bulk_modulus_gpa"]["hashin_shtrikman"][0] == 0
    assert all(part["inside"] for part in result["isotropic_part"].values())
    assert "fibre 0.2" in in_words(result) and "(hole)" in in_words(result)


@pytest.fixture(scope="module")
def by_triangles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a deck of triangles, carbon in epoxy."""
    pytest.importorskip("gmsh")
    folder = tmp_path_factory.mktemp("triangles")
    materials = {"matrix": CARBON.matrix, "fibre": CARBON.discs}
    write_inp_mesh(cell(circles=CELL, materials=materials), folder / "cell.inp", 0.35, "stiffness")
    return folder


@needs_ccx
def test_a_deck_of_triangles_is_as_stiff_as_another_code_finds(by_triangles: Path) -> None:
    result = solved(by_triangles, "cell_stiffness")
    deck = read_inp(by_triangles / "cell.inp")
    nodes = np.array([deck.nodes[number] for number in range(1, len(deck.nodes) + 1)])
    corners = np.array([deck.elements[number][1][:3] for number in range(1, len(deck.elements) + 1)]) - 1
    used, corners = np.unique(corners, return_inverse=True)
    ids = np.isin(np.arange(len(corners.reshape(-1, 3))) + 1, deck.elsets["FIBRE"]).astype(int)
    mesh = MeshTri(nodes[used].T.copy(), corners.reshape(-1, 3).T.copy())
    theirs = periodic_stiffness(mesh, ids, CARBON)[np.ix_(OURS, OURS)]
    np.testing.assert_allclose(matrix_of(result, IN_PLANE), theirs, rtol=1e-6, atol=1e-6)
    assert result["symmetry_error"] < 1e-8
    assert all(part["inside"] for part in result["isotropic_part"].values())
    assert 0.2 < result["worst_element_quality"] <= 1


@needs_ccx
def test_a_deck_of_triangles_is_within_half_a_percent_of_refined_voxels(by_triangles: Path) -> None:
    result = solved(by_triangles, "cell_stiffness")
    fine = render_phase(CELL, DOMAIN, 12)
    voxels = stiffness(fine[None], CARBON)[0][np.ix_(OURS, OURS)]
    difference = np.abs(matrix_of(result, IN_PLANE) - voxels).max() / voxels.max()
    assert difference < 0.005


@needs_ccx
def test_a_deck_of_triangles_with_holes_between_flat_borders(tmp_path: Path) -> None:
    pytest.importorskip("gmsh")
    structure = cell(circles=HOLES, holes=("fibre",), periodic=False)
    write_inp_mesh(structure, tmp_path / "mesh.inp", 0.35, "uniaxial")
    fine = render_phase(HOLES, Domain(DOMAIN.size_px), 4)
    write_inp(cell(fine, holes=("fibre",), periodic=False), tmp_path / "cell.inp", "uniaxial")
    mesh, voxels = (
        matrix_of(solved(tmp_path, f"{name}_uniaxial"), ["xx", "yy"]) for name in ("mesh", "cell")
    )
    assert np.abs(mesh - voxels).max() / voxels.max() < 0.02  # steps of voxels at a free surface


@needs_ccx
def test_from_phase_images_to_a_stiffness_without_editing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiff("cell.tif", render_phase(CELL, DOMAIN)[None].astype(np.uint8))
    words = (
        "export",
        "cell.tif",
        "--voxel-size-um",
        0.3,
        "--periodic",
        "--format",
        "inp",
        "--deck",
        "stiffness",
    )
    words += ("--disc-material", "e_glass", "--matrix-material", "epoxy", "--out", "cell")
    assert run_command(monkeypatch, *words) == 0
    assert "inp/structure_00000_stiffness.inp" in json.loads(Path("cell/export.json").read_text())["files"]
    subprocess.run(
        ["ccx", "structure_00000_stiffness"], cwd="cell/inp", stdout=subprocess.DEVNULL, check=True
    )
    dat = "cell/inp/structure_00000_stiffness.dat"
    result = json_result(monkeypatch, capsys, "homogenise", dat, "--out", "stiffness.json")
    assert json.loads(Path("stiffness.json").read_text()) == result
    assert run_command(monkeypatch, "homogenise", dat) == 0
    printed = capsys.readouterr().out
    assert f"{result['stiffness_gpa'][0][0]:.5f}" in printed and "inside Hashin-Shtrikman" in printed


FORCES = """
 forces (fx,fy,fz) for set {0}_MAX and time  0.1000000E+01

         3  5.000000E+00  1.000000E+00  0.000000E+00
         6  0.000000E+00  0.000000E+00  0.000000E+00
         9  0.000000E+00  0.000000E+00  0.000000E+00

 total force (fx,fy,fz) for set {0}_MAX and time  0.1000000E+01

        {1}  {2}  0.000000E+00
"""


def printed(folder: Path, forces: list[tuple[str, str, str]]) -> Path:
    """Write what CalculiX would print for a uniaxial deck of 2 x 2 um."""
    phase = np.zeros((2, 2), bool)
    write_inp(cell(phase, periodic=False, voxel_size_um=1.0), folder / "cell.inp", "uniaxial")
    dat = folder / "cell_uniaxial.dat"
    dat.write_text("".join(FORCES.format(*force) for force in forces))
    return dat


GOOD = [
    ("X", "1.0E+01", "0.0E+00"), ("Y", "0.0E+00", "4.0E+00"),
    ("X", "4.0E+00", "0.0E+00"), ("Y", "0.0E+00", "1.0E+01"),
]  # fmt: skip


def test_the_totals_of_forces_are_what_is_read(tmp_path: Path) -> None:
    result = homogenise(printed(tmp_path, GOOD))
    # 10 uN on 2 um^2 at a strain of 1e-3 are 5 GPa.
    np.testing.assert_allclose(result["stiffness_gpa"], [[5, 2], [2, 5]])
    assert result["isotropic_part"]["bulk_modulus_gpa"]["value"] == pytest.approx(3.5)
    assert not result["isotropic_part"]["bulk_modulus_gpa"]["inside"]
    assert "OUTSIDE of" in in_words(result)


def test_the_forces_of_another_mesh_are_refused(tmp_path: Path) -> None:
    dat = printed(tmp_path, GOOD)
    dat.write_text(dat.read_text().replace("\n         9 ", "\n        12 "))
    with pytest.raises(UserError, match=r"of another deck: must be what CalculiX printed .* of cell\.inp"):
        homogenise(dat)


def test_solid_that_nothing_holds_is_in_no_fraction(tmp_path: Path) -> None:
    phase = np.zeros((8, 8), bool)
    phase[2:7, 2:7] = True
    phase[4, 4] = False  # a voxel of matrix inside of the hole
    write_inp(cell(phase, holes=("fibre",)), tmp_path / "cell.inp", "stiffness")
    record = json.loads((tmp_path / "cell_stiffness.json").read_text())
    fractions = {one["name"]: one["volume_fraction"] for one in record["phases"]}
    assert fractions == {"matrix": pytest.approx(39 / 64), "fibre": pytest.approx(25 / 64)}


@pytest.mark.parametrize(("forces", "message"), [
    ([], "no total forces on X_MAX: must have some: give the .dat of a deck"),
    (GOOD[:2], "forces of 1 load case: must have 2: did the solver stop"),
    (GOOD[:3], "forces of 1 load case: must have 2"),
    ([*GOOD[:3], ("Y", "0.0E+00", "NaN")], "force NaN: must be a number"),
    ([*GOOD[:3], ("Y", "0.0E+00", "************")], "force .*: must be a number"),
    ([*GOOD[:3], ("Y", "0.0E+00", "1.0E+00")], "eigenvalues of 0 or below: must be positive"),
    ([(letter, "0.0E+00", "0.0E+00") for letter in "XYXY"], "eigenvalues of 0 or below: must be positive"),
])  # fmt: skip
def test_a_job_that_failed_is_told_in_one_line(
    tmp_path: Path, forces: list[tuple[str, str, str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        homogenise(printed(tmp_path, forces))


def test_bad_input_of_the_command_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dat = printed(tmp_path, GOOD)
    record = dat.with_suffix(".json")
    cases = [
        ((record,), "must be the .dat that CalculiX wrote"),
        ((tmp_path / "no.dat",), "missing"),
        ((dat, "--out", tmp_path / "c.txt"), "must be named *.json"),
        ((dat, "--out", record), "--out"),
    ]
    for words, message in cases:
        assert run_command(monkeypatch, "homogenise", *words) == 2
        assert message in capsys.readouterr().err
    fields = json.loads(record.read_text())
    for change, message in (
        ({"size": [2.0, 0.0]}, "size.1: 0.0: "),
        (
            {"load_cases": [{"component": name, "strain": 1e-3} for name in ("xx", "xy")]},
            "must have xx and yy",
        ),
        ({"load_cases": [{"component": name, "strain": 1e-3} for name in ("xx", "yy", "zz")]}, "along x, y"),
        ({"load_cases": [{"component": "xx", "strain": 0}]}, "load_cases.0.strain"),
    ):
        record.write_text(json.dumps({**fields, **change}))
        assert run_command(monkeypatch, "homogenise", dat) == 2
        assert message in capsys.readouterr().err
    record.write_text('{"schema": "another"}')
    assert run_command(monkeypatch, "homogenise", dat) == 2
    assert "schema another: must be microgan-deck-1" in capsys.readouterr().err
    record.unlink()
    assert run_command(monkeypatch, "homogenise", dat) == 2
    assert "must be beside the .dat" in capsys.readouterr().err


def test_export_refuses_decks_and_holes_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiff(tmp_path / "cell.tif", render_phase(CELL, DOMAIN)[None].astype(np.uint8))
    given = ("--voxel-size-um", 0.3, "--out", tmp_path / "cell")
    both = ("--disc-material", "e_glass", "--matrix-material", "epoxy")
    cases = [
        (("--format", "vti", "--deck", "uniaxial"), "--deck: has no effect here: needs --format inp"),
        (("--format", "vti", "--phase", "fibre=hole"), "--phase: has no effect here: needs --format inp"),
        (("--format", "inp", "--deck", "stiffness", *both), "--deck: stiffness: needs a periodic structure"),
        (("--format", "inp", "--deck", "uniaxial"), "uniaxial: needs elastic constants of matrix and fibre"),
        (("--format", "inp", "--split-interface"), "--split-interface: has no effect here: needs"),
        (("--format", "inp", "--phase", "void=hole"), "--phase: void: must be one of the phases, matrix"),
        (("--format", "inp", "--phase", "fibre=void"), "must be NAME=hole or NAME=solid"),
        (("--format", "inp", "--phase", "fibre=hole", *both), "must not be given, as fibre is a hole"),
        (("--format", "inp", "--matrix-material", "epoxy"), "or --phase fibre=hole"),
        (
            ("--format", "inp", "--phase", "fibre=hole", "--phase", "matrix=hole"),
            "--phase: matrix, fibre: must leave a phase that is solid",
        ),
    ]  # fmt: skip
    for words, message in cases:
        assert run_command(monkeypatch, "export", tmp_path / "cell.tif", *given, *words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "cell").exists()


def test_bounds_of_many_phases_are_those_of_two() -> None:
    config = PropertiesConfig(discs=MATERIALS["carbon"], matrix=MATERIALS["epoxy"])
    two = hashin_shtrikman(0.4, config)
    phases = [config.discs, config.matrix, config.discs]
    bulk, shear = transverse_bounds(
        [0.1, 0.6, 0.3], [phase.bulk_gpa for phase in phases], [phase.shear_gpa for phase in phases]
    )
    assert bulk == pytest.approx([float(end) for end in two.bulk_gpa])
    assert shear == pytest.approx([float(end) for end in two.shear_gpa])
