"""Whether exported files give the right stiffness, and how fine they must be: `python -m benchmarks.solving`.

A periodic cell of random discs is drawn in voxels, at several refinements, and written as a triangle mesh, at
several element sizes, which is read back. Both are solved under plane strain. That a file of voxels gives
what the voxels in memory give, to rounding, is a test (`tests/exporters/test_solving.py`). Triangles are
quadratic, so that their error is small beside that of the voxels; the finest mesh is what all are compared
with. Materials: E-glass in epoxy and, transverse, T300 carbon in epoxy (see
`microgan.evaluation.homogenisation`).
"""

import argparse
import tempfile
from pathlib import Path
from time import process_time

import meshio
import numpy as np
from scipy.sparse import coo_array, csr_array, dia_array
from scipy.sparse.linalg import cg
from skfem import (
    Basis,
    BilinearForm,
    Element,
    ElementQuad1,
    ElementTriP2,
    ElementVector,
    LinearForm,
    Mesh,
    MeshQuad,
    MeshTri,
)
from skfem.element import DiscreteField

from microgan.core.domain import Domain
from microgan.core.files import atomic
from microgan.detection.circles import Circles
from microgan.evaluation.homogenisation import PhaseProperties, PropertiesConfig, stiffness
from microgan.exporters.formats.mesh import write_msh
from microgan.exporters.outlines import disc_area
from microgan.exporters.rendering import render_phase
from microgan.exporters.structure import Structure
from microgan.scan.disc_packing import place, relax

GLASS = PropertiesConfig()
CARBON = PropertiesConfig(
    discs=PhaseProperties(young_modulus_gpa=15.0, poisson_ratio=0.07, conductivity_w_mk=1.0)
)
SIDE_PX, RADIUS_PX, DISCS, GAP_PX = 53, 5.0, 20, 0.3  # volume fraction 0.56, as in the carbon scan
REFINEMENTS = (1, 2, 4, 8, 16)
ELEMENT_SIZES = (0.5, 0.25, 0.15)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the table, Markdown")
    options = parser.parse_args()
    table = convergence_table(packed_cell(options.seed))
    print(table)
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(table + "\n")


def convergence_table(circles: Circles) -> str:
    """Format volume fraction and C_rr by refinement and by element size, and their errors."""
    cell = Domain((SIDE_PX, SIDE_PX), periodic=True)
    true = disc_area(circles, cell) / SIDE_PX**2
    rows: list[tuple[str, float, int, float, list[float]]] = []
    for refinement in REFINEMENTS:
        phase = render_phase(circles, cell, refinement)
        start = process_time()
        values = [float(stiffness(phase[None], config)[0, 0, 0]) for config in (GLASS, CARBON)]
        name = f"voxels, refinement {refinement}, radius {RADIUS_PX * refinement:g} voxels"
        rows.append((name, float(phase.mean()), phase.size, process_time() - start, values))
    for element_size in ELEMENT_SIZES:
        mesh, ids = meshed(circles, element_size)
        start = process_time()
        values = [float(periodic_stiffness(mesh, ids, config)[0, 0]) for config in (GLASS, CARBON)]
        area = _areas(mesh)
        name = f"triangles of {element_size:g} radii"
        rows.append(
            (name, float(area[ids == 1].sum() / area.sum()), len(ids), process_time() - start, values)
        )
    lines = [
        "| elements | number | volume fraction | glass C_rr, GPa | error | carbon C_rr, GPa | error | s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, fraction, number, seconds, values in rows:
        moduli = " | ".join(
            f"{value:.4f} | {value / best - 1:+.2%}" for value, best in zip(values, rows[-1][-1], strict=True)
        )
        lines.append(f"| {name} | {number} | {fraction / true - 1:+.3%} | {moduli} | {seconds:.1f} |")
    return "\n".join(lines)


def packed_cell(seed: int) -> Circles:
    """Return a random packing of `DISCS` discs in a periodic cell of SIDE_PX."""
    rng = np.random.default_rng(seed)
    radii = np.sort(rng.normal(RADIUS_PX, 0.05 * RADIUS_PX, DISCS))[::-1]
    centres = relax(place(rng, radii, SIDE_PX, GAP_PX), radii, SIDE_PX, GAP_PX)
    return Circles.from_table(np.column_stack([centres - 0.5, radii]))


def meshed(circles: Circles, element_size: float, side_px: int = SIDE_PX) -> tuple[MeshTri, np.ndarray]:
    """Write the periodic mesh of circles, read it with meshio: mesh, and phase id of each triangle."""
    phase = np.zeros((1, side_px, side_px), np.uint8)
    structure = Structure("cell", phase, circles, voxel_size_um=1.0, periodic=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cell.msh"
        write_msh(structure, path, element_size)
        return read_triangles(path, structure.phases)


def read_triangles(path: Path, phases: tuple[str, ...]) -> tuple[MeshTri, np.ndarray]:
    """Read a triangle mesh with meshio; phase ids by the names of the physical groups."""
    mesh = meshio.gmsh.read(path)
    group = mesh.get_cell_data("gmsh:physical", "triangle")
    of_phase = [group == mesh.field_data[name][0] for name in phases]
    ids = np.select(of_phase, list(range(len(phases))), default=-1)
    return MeshTri(mesh.points[:, :2].T.copy(), mesh.get_cells_type("triangle").T.copy()), ids


def periodic_stiffness(mesh: Mesh, ids: np.ndarray, config: PropertiesConfig) -> np.ndarray:
    """Return the effective stiffness (3, 3) of a periodic cell, order (rr, cc, rc); r along y, c along x.

    Elements are bilinear quadrilaterals or quadratic triangles; nodes of opposite borders are one.

    Parameters
    ----------
    mesh
        Quadrilaterals or triangles that fill a rectangle; lengths in any unit.
    ids
        Phase of each element, 0 matrix, 1 discs.
    config
        Materials.
    """
    element: Element = ElementQuad1() if isinstance(mesh, MeshQuad) else ElementTriP2()
    basis = Basis(mesh, ElementVector(element), intorder=2)
    materials = np.stack([config.matrix.stiffness_gpa, config.discs.stiffness_gpa])
    local = np.moveaxis(materials[ids], 0, -1)[..., None]  # (3, 3, elements, 1)

    @BilinearForm
    def energy(u: DiscreteField, v: DiscreteField, _: object) -> np.ndarray:
        return np.einsum("iep,ijeq,jep->ep", _strain(u), local, _strain(v))

    def force(column: int) -> np.ndarray:
        form = LinearForm(lambda v, _: np.einsum("ie,iep->ep", local[:, column, :, 0], _strain(v)))
        return form.assemble(basis)

    wrap = _wrapping(basis)
    forces = np.stack([wrap.T @ force(column) for column in range(3)], axis=1)
    matrix = (wrap.T @ energy.assemble(basis) @ wrap).tocsr()
    u = np.stack([_solve(matrix, -column) for column in forces.T], axis=1)
    area = _areas(mesh)
    mean = np.einsum("eij,e->ij", materials[ids], area)
    # The energy: what the solver leaves unsolved enters in second order only.
    return (mean + forces.T @ u + u.T @ forces + u.T @ (matrix @ u)) / area.sum()


def _solve(matrix: csr_array, force: np.ndarray) -> np.ndarray:
    """Displacements; the translation of all nodes together is free, and no force causes it."""
    diagonal = matrix.diagonal()[None]
    u, failed = cg(matrix, force, rtol=1e-7, M=dia_array((1 / diagonal, [0]), shape=matrix.shape))
    assert not failed
    return u


def _strain(u: DiscreteField) -> np.ndarray:
    """Strains rr, cc, rc of displacements (x, y), which are (c, r)."""
    return np.stack([u.grad[1, 1], u.grad[0, 0], u.grad[0, 1] + u.grad[1, 0]])


def _wrapping(basis: Basis) -> csr_array:
    """Matrix that gives each degree of freedom the value of its counterpart at the low borders."""
    places = basis.doflocs
    low, high = places.min(axis=1, keepdims=True), places.max(axis=1, keepdims=True)
    fraction = (places - low) / (high - low)
    cell = np.rint(fraction * 1e7).astype(np.int64) % 10**7
    component = np.zeros(basis.N, int)
    for direction, dofs in enumerate((*basis.nodal_dofs, *basis.facet_dofs)):
        component[dofs] = direction % 2
    _, counterpart = np.unique(np.stack([*cell, component]), axis=1, return_inverse=True)
    rows = np.arange(basis.N)
    return coo_array((np.ones(basis.N), (rows, counterpart)), shape=(basis.N, counterpart.max() + 1)).tocsr()


def _areas(mesh: Mesh) -> np.ndarray:
    x, y = mesh.p[:, mesh.t]  # (corners, elements) each
    return (
        np.abs((x * np.roll(y, -1, axis=0) - y * np.roll(x, -1, axis=0)).sum(axis=0)) / 2
    )  # either way round


if __name__ == "__main__":
    main()
