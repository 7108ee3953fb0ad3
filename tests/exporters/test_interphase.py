"""A layer around discs as a third phase: drawn, meshed, in every format, refused where it does not fit."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import meshio
import nrrd
import numpy as np
import pytest
import tifffile
import yaml

from microgan.commands.homogenise import homogenise
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.evaluation.homogenisation import (
    MATERIALS,
    PhaseProperties,
    PropertiesConfig,
    stiffness,
    stiffness_of_phases,
)
from microgan.exporters.export import ExportConfig, export
from microgan.exporters.export_input import ExportInput
from microgan.exporters.interphase import smallest_gap
from stages.export import named_material
from tests.commands.helpers import csv_rows, run_command
from tests.exporters.test_formats import read_vti

SIDE_PX, VOXEL_UM, LAYER_UM = 24, 0.5, 0.5  # a layer of one pixel
DISCS = Circles.from_table([[5.0, 6.0, 3.5], [16.0, 9.0, 3.0], [10.5, 18.0, 4.0], [23.0, 21.0, 3.0]])
LAYER = PhaseProperties(young_modulus_gpa=1.0, poisson_ratio=0.3, conductivity_w_mk=1.0)
KNOWN = {"matrix": MATERIALS["epoxy"], "fibre": MATERIALS["e_glass"], "interphase": LAYER}


def run(out: Path, *, circles: Circles = DISCS, periodic: bool = True, **changed: Any) -> dict[str, Any]:
    values = {"voxel_size_um": VOXEL_UM, "phase_from": "circles", "refinement": 2, "interphase_um": LAYER_UM}
    materials = changed.pop("materials", KNOWN)
    config = ExportConfig.from_mapping(values | changed, "export")
    inputs = ExportInput(np.zeros((1, SIDE_PX, SIDE_PX), bool), circles=[circles], periodic=periodic)
    return export(inputs, {}, out, config, materials)


def ring_areas_px2(circles: Circles = DISCS) -> tuple[float, float]:
    radius, layer = circles.radius_px, LAYER_UM / VOXEL_UM
    return float(np.pi * (radius**2).sum()), float(np.pi * ((radius + layer) ** 2 - radius**2).sum())


@pytest.fixture(scope="module")
def voxels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every format of voxels, and the tables."""
    out = tmp_path_factory.mktemp("voxels") / "out"
    formats = ["vti", "vtk", "hdf5", "nrrd", "inp", "tiff", "csv", "json"]
    run(out, formats=formats, extrude_voxels=2, deck="stiffness", refinement=8)
    return out


def test_every_format_of_voxels_has_three_phases(voxels: Path) -> None:
    phase = tifffile.imread(voxels / "phase.tif").squeeze()
    fractions = np.bincount(phase.ravel()) / phase.size
    discs_px2, layer_px2 = ring_areas_px2()
    assert fractions[1:] * SIDE_PX**2 == pytest.approx([discs_px2, layer_px2], rel=0.01)
    stem = "structure_00000"
    ids, _ = read_vti(voxels / "vti" / f"{stem}.vti")
    assert np.array_equal(ids[0], phase)
    (legacy,) = meshio.read(voxels / "vtk" / f"{stem}.vtk").cell_data["MaterialId"]
    assert np.array_equal(legacy[: phase.size].reshape(phase.shape), phase + 1)
    text = (voxels / "vtk" / f"{stem}.vtk").read_bytes()[:200]
    assert b"materials: 1 matrix, 2 fibre, 3 interphase" in text
    with h5py.File(voxels / "hdf5" / f"{stem}.h5") as file:
        assert np.array_equal(file["phase"][0], phase)
        assert list(file["phase"].attrs["phases"]) == ["matrix", "fibre", "interphase"]
    ids, header = nrrd.read(str(voxels / "nrrd" / f"{stem}.nrrd"))
    assert np.array_equal(ids[:, :, 0].T, phase) and header["phase 2"] == "interphase"
    inp = (voxels / "inp" / f"{stem}.inp").read_text()
    assert re.findall(r"\*MATERIAL, NAME=(\w+)", inp) == ["matrix", "fibre", "interphase"]
    rows = csv_rows(voxels / "phases.csv")
    assert [(row["id"], row["name"]) for row in rows] == [
        ("0", "matrix"),
        ("1", "fibre"),
        ("2", "interphase"),
    ]
    assert [float(row["volume_fraction"]) for row in rows] == pytest.approx(fractions.tolist(), abs=1e-6)
    sidecar = json.loads((voxels / "export.json").read_text())
    assert sidecar["phases"] == {"0": "matrix", "1": "fibre", "2": "interphase"}
    assert sidecar["interphase_um"] == LAYER_UM


def test_jobs_of_spectral_solvers_have_three_materials(voxels: Path) -> None:
    config = yaml.safe_load((voxels / "vti/material.yaml").read_text())
    assert list(config["phase"]) == ["matrix", "fibre", "interphase"] and len(config["material"]) == 3
    job = json.loads((voxels / "hdf5/structure_00000.fans.json").read_text())
    assert [group["phases"] for group in job["materials"]] == [[0], [1], [2]]


def test_the_layer_is_drawn_across_a_periodic_border(voxels: Path) -> None:
    phase = tifffile.imread(voxels / "phase.tif").squeeze()
    axis = (np.arange(8 * SIDE_PX) + 0.5) / 8 - 0.5  # in pixels of the image
    row, col = (np.abs(axis - centre) for centre in (DISCS.row[3], DISCS.col[3]))
    row, col = (np.minimum(offset, SIDE_PX - offset) for offset in (row, col))
    distance = np.hypot(row[:, None], col)
    assert (phase[distance < 2.99] == 1).all()
    assert (phase[(distance > 3.01) & (distance < 3.99)] == 2).all()
    assert (phase[(distance > 4.01) & (distance < 4.3)] == 0).all()


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every format of meshes."""
    out = tmp_path_factory.mktemp("meshes") / "out"
    run(out, formats=["msh", "vtu", "inp-mesh"], refinement=1, deck="stiffness")
    return out


def test_meshes_have_rings_of_the_right_area(meshes: Path) -> None:
    mesh = meshio.gmsh.read(meshes / "msh/structure_00000.msh")
    triangles = mesh.get_cells_type("triangle")
    corners = mesh.points[triangles][..., :2] / VOXEL_UM
    (x, y), (u, v) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    group = mesh.get_cell_data("gmsh:physical", "triangle")
    assert {name: data[0] for name, data in mesh.field_data.items() if data[1] == 2} == {
        "matrix": 1, "fibre": 2, "interphase": 3
    }  # fmt: skip
    areas = np.bincount(group, (x * v - y * u) / 2)[1:]
    discs_px2, layer_px2 = ring_areas_px2()
    assert areas == pytest.approx([SIDE_PX**2 - discs_px2 - layer_px2, discs_px2, layer_px2], rel=1e-3)
    inp = (meshes / "inp-mesh/structure_00000.inp").read_text()
    (quality,) = re.findall(r"worst quality \(SICN\) (0\.\d+)", inp)
    assert float(quality) > 0.3
    for name in ("matrix", "fibre", "interphase"):
        assert f"*NSET, NSET=INTERFACE_{name}\n" in inp


def test_edges_keep_away_from_the_corner_of_the_cell(tmp_path: Path) -> None:
    for apart_px in (-0.02, 0.02, 1.02):  # of the outer edge, then of the disc
        centre = (4.0 + apart_px) / np.sqrt(2) - 0.5  # from the corner at -0.5
        circles = Circles.from_table([[centre, centre, 3.0], [15.0, 15.0, 3.0]])
        out = tmp_path / str(apart_px)
        run(out, circles=circles, formats=["inp-mesh"], periodic=apart_px < 0.5)
        text = (out / "inp-mesh/structure_00000.inp").read_text()
        (quality,) = re.findall(r"worst quality \(SICN\) (0\.\d+)", text)
        assert float(quality) > 0.15, apart_px


def test_our_own_stiffness_takes_three_phases() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2, (2, 12, 12)).astype(np.uint8)
    two = [MATERIALS["epoxy"], MATERIALS["e_glass"]]
    assert np.allclose(stiffness_of_phases(ids, two), stiffness(ids == 1, PropertiesConfig()), rtol=1e-10)
    layers = np.repeat(np.array([0, 1, 2, 1], np.uint8), 3)[None, :, None].repeat(12, axis=2)
    laminate = stiffness_of_phases(layers, [*two, LAYER])[0]
    across = [material.stiffness_gpa[0, 0] for material in (two[0], two[1], LAYER, two[1])]
    assert laminate[0, 0] == pytest.approx(1 / np.mean(1 / np.array(across)), rel=1e-6)
    with pytest.raises(UserError, match="ids below 2"):
        stiffness_of_phases(layers, two)


@pytest.mark.skipif(shutil.which("ccx") is None, reason="needs ccx, CalculiX")
def test_calculix_solves_voxels_and_mesh_with_a_layer(tmp_path: Path, meshes: Path) -> None:
    run(tmp_path / "out", formats=["inp", "tiff"], deck="stiffness", refinement=2)
    ids = tifffile.imread(tmp_path / "out/phase.tif").reshape(1, 2 * SIDE_PX, 2 * SIDE_PX)
    rows_and_cols = stiffness_of_phases(ids, list(KNOWN.values()))[0]
    ours = rows_and_cols[np.ix_((1, 0, 2), (1, 0, 2))]  # x along columns, y along rows
    solved = []
    for folder in (tmp_path / "out/inp", meshes / "inp-mesh"):
        job = tmp_path / folder.name
        shutil.copytree(folder, job)
        command = ["ccx", "structure_00000_stiffness"]
        done = subprocess.run(command, cwd=job, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "*ERROR" not in done.stdout, done.stdout[-500:]
        solved.append(np.array(homogenise(job / "structure_00000_stiffness.dat", None)["stiffness_gpa"]))
    assert solved[0] == pytest.approx(ours, rel=1e-5, abs=1e-5)
    assert solved[1][0, 0] == pytest.approx(ours[0, 0], rel=0.15)  # coarse voxels are stiffer


# What does not fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"refinement": 1}, "has 1 voxels across it, must have 2: needs refinement 2"),
        (
            {"interphase_um": 0.9},
            r"must be at most 0\.887, half of the smallest gap between discs, which structure_00000 has at",
        ),
        ({"interphase_um": 0.05, "formats": ["msh"]}, "must be at least 0.05 of it in a mesh"),
        ({"phase_from": "grey", "refinement": 1}, "interphase_um needs phase_from circles"),
        ({"voxel_size_um": None}, "interphase_um: 0.5: needs a voxel size"),
        ({"interphase": "fibre"}, "must not name one twice"),
        ({"materials": {"matrix": KNOWN["matrix"], "fibre": KNOWN["fibre"]}}, "needs a material"),
        ({"interphase_um": -1.0}, "interphase_um: -1.0"),
    ],
)
def test_a_layer_that_cannot_be_is_one_line(tmp_path: Path, changed: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        run(tmp_path / "out", **changed)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_touching_discs_leave_no_room(tmp_path: Path) -> None:
    touching = Circles.from_table([[8.0, 6.0, 3.0], [8.0, 11.9, 3.0]])
    with pytest.raises(
        UserError, match="needs a gap between all discs, and in structure_00000 there is none"
    ):
        run(tmp_path / "out", circles=touching)


def test_the_smallest_gap_may_lie_across_the_border() -> None:
    apart = Circles.from_table([[2.0, 5.0, 2.0], [21.0, 5.0, 2.0]])
    gap_px, *_ = smallest_gap(apart, Domain((24, 24), periodic=True), 3.0)
    assert gap_px == pytest.approx(24 - 19 - 4)
    assert smallest_gap(apart, Domain((24, 24)), 3.0)[0] == np.inf


def test_the_pipeline_takes_the_layer_from_the_materials() -> None:
    properties = PropertiesConfig(materials={"sizing": LAYER})
    assert named_material(properties, "sizing") is LAYER
    for name in (None, "steel"):
        with pytest.raises(UserError, match=r"must name one of properties\.materials: sizing"):
            named_material(properties, name)


def test_the_command_line_needs_circles_and_a_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "phase.npy", np.eye(16, dtype=np.uint8))
    words = (
        "export",
        tmp_path / "phase.npy",
        "--voxel-size-um",
        1,
        "--format",
        "inp",
        "--out",
        tmp_path / "o",
    )
    two = ("--disc-material", "e_glass", "--matrix-material", "epoxy")
    layer = ("--phase-from", "circles", "--interphase-um", 1)
    for more, line in (
        (
            (*two, "--interphase-material", "carbon"),
            "--interphase-material: has no effect here: needs --interphase",
        ),
        ((*two, *layer), "needs --disc-material and --interphase-material and --matrix-material together"),
        ((*two, *layer, "--interphase-material", "carbon"), "circles: needs circles: give --reference"),
        (("--interphase-um", 1), "needs phase_from circles"),
    ):
        assert run_command(monkeypatch, *words, *more) == 2
        assert line in capsys.readouterr().err
