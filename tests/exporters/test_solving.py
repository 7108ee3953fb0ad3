"""Exported files solved: by another finite element code, they are as stiff as what was exported."""

from pathlib import Path

import numpy as np
import pytest
from skfem import MeshQuad

from benchmarks.solving import CARBON, meshed, periodic_stiffness
from microgan.core.domain import Domain
from microgan.detection.circles import Circles
from microgan.evaluation.homogenisation import PropertiesConfig, stiffness
from microgan.exporters.formats.abaqus import write_inp
from microgan.exporters.rendering import render_phase
from microgan.exporters.structure import Structure
from tests.exporters.test_abaqus import read_inp

SIDE_PX = 24
DOMAIN = Domain((SIDE_PX, SIDE_PX), periodic=True)
CELL = Circles.from_table([[3, 4, 5.0], [12, 17, 5.5], [20, 6, 4.5]])


def test_a_voxel_file_is_as_stiff_as_the_structure(tmp_path: Path) -> None:
    phase = render_phase(CELL, DOMAIN)
    write_inp(Structure("cell", phase[None].astype(np.uint8), voxel_size_um=0.3), tmp_path / "cell.inp")
    deck = read_inp(tmp_path / "cell.inp")
    nodes = np.array([deck.nodes[number] for number in range(1, len(deck.nodes) + 1)])
    quads = np.array([deck.elements[number][1] for number in range(1, len(deck.elements) + 1)]) - 1
    ids = np.isin(np.arange(len(quads)) + 1, deck.elsets["FIBRE"]).astype(int)
    solved = periodic_stiffness(MeshQuad(nodes.T.copy(), quads.T.copy()), ids, PropertiesConfig())
    np.testing.assert_allclose(solved, stiffness(phase[None], PropertiesConfig())[0], rtol=1e-10, atol=1e-9)


def test_voxels_and_triangles_agree_within_a_percent() -> None:
    pytest.importorskip("gmsh")
    mesh, ids = meshed(CELL, 0.4, SIDE_PX)
    by_triangles = periodic_stiffness(mesh, ids, CARBON)[[0, 1, 2], [0, 1, 2]]
    phase = render_phase(CELL, DOMAIN, 4)
    by_voxels = stiffness(phase[None], CARBON)[0][[0, 1, 2], [0, 1, 2]]
    np.testing.assert_allclose(by_voxels, by_triangles, rtol=0.01)
    coarse = stiffness(render_phase(CELL, DOMAIN, 1)[None], CARBON)[0, 0, 0]
    assert coarse > 1.005 * by_triangles[0]  # which is why one draws finer
