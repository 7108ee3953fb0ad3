"""Jobs of DAMASK and FANS: complete, in their order, refused where the solver would stop."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from microgan.core.errors import UserError
from microgan.evaluation.homogenisation import MATERIALS
from microgan.exporters.export import FORMATS, decks_of
from microgan.exporters.structure import Structure

PHASE = np.zeros((2, 6, 8), np.uint8)
PHASE[:, 1:3, 2:7] = 1  # asymmetric: no two axes can be mistaken for each other
NAMES = ("epoxy resin", "no")


def cell(**changed: Any) -> Structure:
    materials = dict(zip(NAMES, (MATERIALS["epoxy"], MATERIALS["e_glass"]), strict=True))
    fields = {"voxel_size_um": 0.5, "periodic": True, "phases": NAMES, "materials": materials}
    return Structure("cell", **({"phase": PHASE} | fields | changed))


def written(name: str, structure: Structure, folder: Path) -> Path:
    path = folder / f"cell{FORMATS[name].suffix}"
    FORMATS[name].write(structure, path, deck="stiffness")
    return path


def in_plane_gpa(c_11: float, c_12: float, c_44: float) -> np.ndarray:
    return np.array([[c_11, c_12, 0], [c_12, c_11, 0], [0, 0, c_44]])


def test_damask_has_materials_in_the_order_of_the_ids_and_six_steps(tmp_path: Path) -> None:
    written("vti", cell(), tmp_path)
    text = (tmp_path / "material.yaml").read_text()
    assert "{" not in text  # block style
    config = yaml.safe_load(text)
    phases = [entry["constituents"][0]["phase"] for entry in config["material"]]
    assert phases == ["epoxy_resin", "phase_no"] == list(config["phase"])
    for name, material in zip(phases, ("epoxy", "e_glass"), strict=True):
        elastic = config["phase"][name]["mechanical"]["elastic"]
        constants = [elastic[key] / 1e9 for key in ("C_11", "C_12", "C_44")]
        assert in_plane_gpa(*constants) == pytest.approx(MATERIALS[material].stiffness_gpa, rel=1e-9)
    load = yaml.safe_load((tmp_path / "load_stiffness.yaml").read_text())
    assert load["solver"] == {"mechanical": "spectral_basic"}
    steps = [step["boundary_conditions"]["mechanical"]["F"] for step in load["loadstep"]]
    strains = np.array(steps) - np.eye(3)
    assert strains.shape == (6, 3, 3) and np.array_equal(strains, strains.swapaxes(1, 2))
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    engineering = [
        [strain[i, j] + strain[j, i] if i != j else strain[i, i] for i, j in pairs] for strain in strains
    ]
    assert np.allclose(engineering, 1e-3 * np.eye(6), atol=1e-15)
    assert all(
        step["discretization"] == {"t": 1.0, "N": 1} and step["f_out"] == 1 for step in load["loadstep"]
    )


def test_damask_reads_its_own_files(tmp_path: Path) -> None:
    damask = pytest.importorskip("damask", reason="pip install damask, to read the files by its own reader")
    path = written("vti", cell(), tmp_path)
    grid = damask.GeomGrid.load(path)
    assert np.array_equal(grid.material, PHASE.transpose(2, 1, 0)) and tuple(grid.cells) == (8, 6, 2)
    assert grid.size == pytest.approx([4.0, 3.0, 1.0])
    config = damask.ConfigMaterial.load(tmp_path / "material.yaml")
    assert config.is_complete and config.is_valid
    assert len(damask.LoadcaseGrid.load(tmp_path / "load_stiffness.yaml")["loadstep"]) == 6


def test_fans_has_a_whole_input_in_the_format_with_materials(tmp_path: Path) -> None:
    path = written("hdf5", cell(), tmp_path)
    job = json.loads(path.with_suffix(".fans.json").read_text())
    needed = {"microstructure", "problem_type", "materials", "method", "error_parameters", "n_it", "results"}
    assert needed | {"macroscale_loading"} <= set(job)
    with h5py.File(tmp_path / job["microstructure"]["filepath"]) as file:
        ids = file[job["microstructure"]["datasetname"]][()]
    groups = job["materials"]
    assert sorted(phase for group in groups for phase in group["phases"]) == list(range(int(ids.max()) + 1))
    for group, material in zip(groups, ("epoxy", "e_glass"), strict=True):
        assert group["matmodel"] == "LinearElasticIsotropic"
        (bulk,), (shear,) = (group["material_properties"][f"{name}_modulus"] for name in ("bulk", "shear"))
        constants = bulk + 4 / 3 * shear, bulk - 2 / 3 * shear, shear
        assert in_plane_gpa(*constants) == pytest.approx(MATERIALS[material].stiffness_gpa, rel=1e-9)
    loads = np.array(job["macroscale_loading"])
    shear_of_mandel = np.sqrt(2) / 2  # of an engineering shear strain
    assert loads.shape == (6, 1, 6)
    assert np.allclose(loads[:, 0], 1e-3 * np.diag([1, 1, 1, *[shear_of_mandel] * 3]))


@pytest.mark.parametrize(
    ("name", "changed", "line"),
    [
        ("vti", {"periodic": False}, "deck: stiffness: needs a periodic structure: give --periodic"),
        ("vti", {"materials": None}, "needs elastic constants of epoxy resin and no"),
        ("hdf5", {"materials": {NAMES[0]: MATERIALS["epoxy"]}, "holes": ("no",)}, "of no: .* keep holes"),
        ("hdf5", {"phase": PHASE[:1]}, "an even number of planes for FANS: give extrude_voxels 2"),
        ("hdf5", {"phase": PHASE[:, :5]}, "has 5 x 8: refinement 2 doubles them"),
        ("hdf5", {"phase": np.zeros_like(PHASE)}, "cell has no voxel of no: FANS needs every phase"),
        ("vti", {"phases": ("a b", "a-b")}, "must differ in more than signs and blanks"),
    ],
)
def test_what_a_solver_would_refuse_is_one_line(
    tmp_path: Path, name: str, changed: dict[str, Any], line: str
) -> None:
    if "phases" in changed:
        changed["materials"] = dict.fromkeys(changed["phases"], MATERIALS["epoxy"])
    with pytest.raises(UserError, match=line):
        written(name, cell(**changed), tmp_path)


def test_spectral_solvers_have_no_uniaxial_deck(tmp_path: Path) -> None:
    assert decks_of("stiffness") - decks_of("uniaxial") == {"vti", "hdf5"}
    FORMATS["hdf5"].write(cell(), tmp_path / "cell.h5")
    assert list(json.loads((tmp_path / "cell.fans.json").read_text())) == ["microstructure"]
