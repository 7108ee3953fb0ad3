"""Effective properties against exact ones, bounds, and finite elements that are solved in another way."""

import numpy as np
import pytest
from skfem import (
    Basis,
    BilinearForm,
    ElementQuad0,
    ElementQuad1,
    ElementVector,
    MeshQuad,
    MeshQuad1DG,
    condense,
    solve,
)
from skfem.helpers import ddot, dot, eye, grad, sym_grad, trace

from benchmarks.properties import discs as packed
from benchmarks.properties import draw, iterations
from microgan.core.errors import UserError
from microgan.evaluation.homogenisation import (
    PhaseProperties,
    PropertiesConfig,
    conductivity,
    hashin_shtrikman,
    stiffness,
    voigt_reuss,
)

CONFIG = PropertiesConfig()
MIXED = PropertiesConfig(boundary="mixed")
# The discs have the larger bulk modulus and the smaller shear modulus.
CROSSED = PropertiesConfig(
    discs=PhaseProperties(young_modulus_gpa=6.0, poisson_ratio=0.4, conductivity_w_mk=0.1),
    matrix=PhaseProperties(young_modulus_gpa=12.0, poisson_ratio=0.0, conductivity_w_mk=3.0),
)


def discs(shape: tuple[int, int], centres: np.ndarray, radius_px: float) -> np.ndarray:
    """Draw discs into a periodic cell, (1, H, W)."""
    size = np.array(shape)
    pixels = np.moveaxis(np.indices(shape), 0, -1)
    offsets = (pixels[:, :, None] - centres + size / 2) % size - size / 2
    return (np.linalg.norm(offsets, axis=-1) < radius_px).any(-1)[None]


def random_discs(seed: int, shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return discs(shape, rng.random((8, 2)) * shape, 4.5)


def laminate(fraction: float, along: int, side: int = 8) -> np.ndarray:
    """Layers normal to axis ``along``, (1, H, W)."""
    layer = np.arange(side) < fraction * side
    return np.broadcast_to(layer[:, None] if along == 0 else layer, (1, side, side)).copy()


def laminate_stiffness(fraction: float, config: PropertiesConfig) -> np.ndarray:
    """Layers normal to r: equal strain cc, equal stresses rr and rc."""
    weights = np.array([fraction, 1 - fraction])
    c = np.stack([config.discs.stiffness_gpa, config.matrix.stiffness_gpa])
    normal = 1 / (weights / c[:, 0, 0]).sum()
    ratio = (weights * c[:, 0, 1] / c[:, 0, 0]).sum()
    across = (weights * (c[:, 1, 1] - c[:, 0, 1] ** 2 / c[:, 0, 0])).sum() + normal * ratio**2
    shear = 1 / (weights / c[:, 2, 2]).sum()
    return np.array([[normal, normal * ratio, 0], [normal * ratio, across, 0], [0, 0, shear]])


def turned(stiffness_gpa: np.ndarray) -> np.ndarray:
    """Swap the axes of (..., 3, 3)."""
    swap = [1, 0, 2]
    return stiffness_gpa[..., swap, :][..., :, swap]


def isotropic_moduli(stiffness_gpa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk and shear modulus of the isotropic part of stiffnesses (..., 3, 3)."""
    rr, cc, rc = (stiffness_gpa[..., i, i] for i in range(3))
    coupling = 2 * stiffness_gpa[..., 0, 1]
    return (rr + cc + coupling) / 4, (rr + cc - coupling) / 8 + rc / 2


@pytest.mark.parametrize("config", [CONFIG, MIXED])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 4)])
def test_a_homogeneous_image_has_the_stiffness_of_its_phase(
    config: PropertiesConfig, shape: tuple[int, int]
) -> None:
    both = np.stack([np.zeros(shape, bool), np.ones(shape, bool)])
    expected = np.stack([config.matrix.stiffness_gpa, config.discs.stiffness_gpa])
    np.testing.assert_allclose(stiffness(both, config), expected, atol=1e-12, rtol=1e-12)
    np.testing.assert_allclose(conductivity(both, config), [0.2 * np.eye(2), np.eye(2)], atol=1e-12)


def test_phase_has_the_moduli_of_plane_strain() -> None:
    glass = PhaseProperties(young_modulus_gpa=70.0, poisson_ratio=0.25, conductivity_w_mk=1.0)
    lame, shear = 28.0, 28.0  # E nu / (1 + nu) / (1 - 2 nu), E / 2 / (1 + nu)
    expected = np.array([[lame + 2 * shear, lame, 0], [lame, lame + 2 * shear, 0], [0, 0, shear]])
    np.testing.assert_allclose(glass.stiffness_gpa, expected, rtol=1e-14)
    assert glass.bulk_gpa == pytest.approx(lame + shear)


@pytest.mark.parametrize("config", [CONFIG, MIXED, CROSSED])
@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_laminates_are_exact(config: PropertiesConfig, fraction: float) -> None:
    expected = laminate_stiffness(fraction, config)
    np.testing.assert_allclose(stiffness(laminate(fraction, 0), config)[0], expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        stiffness(laminate(fraction, 1), config)[0], turned(expected), rtol=1e-10, atol=1e-10
    )
    mean = voigt_reuss(fraction, config).conductivity_w_mk
    np.testing.assert_allclose(conductivity(laminate(fraction, 0), config)[0], np.diag(mean), atol=1e-10)
    np.testing.assert_allclose(
        conductivity(laminate(fraction, 1), config)[0], np.diag(mean[::-1]), atol=1e-10
    )


def reference_stiffness(image: np.ndarray, config: PropertiesConfig) -> np.ndarray:
    """Assemble all elements with their own moduli, fix a node and solve directly."""
    rows, cols = (np.arange(side + 1.0) for side in image.shape)
    basis = Basis(MeshQuad1DG.init_tensor(rows, cols, periodic=[0, 1]), ElementVector(ElementQuad1()))
    place = np.floor(np.asarray(basis.global_coordinates())).astype(int)
    inside = image[place[0], place[1]]
    shear = np.where(inside, config.discs.shear_gpa, config.matrix.shear_gpa)
    lame = np.where(inside, config.discs.bulk_gpa, config.matrix.bulk_gpa) - shear

    def stress(strain: np.ndarray) -> np.ndarray:
        return 2 * shear * strain + lame * eye(trace(strain), 2)

    matrix = BilinearForm(lambda u, v, _: ddot(stress(sym_grad(u)), sym_grad(v))).assemble(basis)
    units = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 0.5], [0.5, 0]]])
    strains = [np.broadcast_to(unit[..., None, None], (2, 2, *basis.dx.shape)) for unit in units]
    fields = []
    for strain in strains:
        force = -_force(basis, stress(strain))
        u = solve(*condense(matrix, force, D=basis.nodal_dofs[:, 0]))
        fields.append(strain + sym_grad(basis.interpolate(u)))
    energies = [[(ddot(stress(a), b) * basis.dx).sum() for b in fields] for a in fields]
    return np.array(energies) / image.size


def _force(basis: Basis, stress: np.ndarray) -> np.ndarray:
    unit_pressure = BilinearForm(lambda u, v, w: ddot(w["stress"], sym_grad(v)) * u)
    constant = basis.with_element(ElementQuad0())
    return unit_pressure.assemble(constant, basis, stress=stress) @ np.ones(constant.N)


@pytest.mark.parametrize("config", [CONFIG, CROSSED])
def test_stiffness_is_that_of_a_direct_solution(config: PropertiesConfig) -> None:
    noise = np.random.default_rng(0).random((12, 9)) < 0.4
    for image in (noise, random_discs(1, (20, 24))[0]):
        expected = reference_stiffness(image, config)
        np.testing.assert_allclose(stiffness(image[None], config)[0], expected, rtol=1e-8, atol=1e-9)


def test_mixed_boundaries_prescribe_normal_displacements_or_tangential_ones() -> None:
    image = np.random.default_rng(3).random((10, 7)) < 0.5
    height, width = image.shape
    basis = Basis(
        MeshQuad.init_tensor(np.arange(height + 1.0), np.arange(width + 1.0)), ElementVector(ElementQuad1())
    )
    place = np.floor(np.asarray(basis.global_coordinates())).astype(int)
    shear = np.where(image[place[0], place[1]], CONFIG.discs.shear_gpa, CONFIG.matrix.shear_gpa)
    lame = np.where(image[place[0], place[1]], CONFIG.discs.bulk_gpa, CONFIG.matrix.bulk_gpa) - shear
    matrix = BilinearForm(
        lambda u, v, _: 2 * shear * ddot(sym_grad(u), sym_grad(v)) + lame * trace(grad(u)) * trace(grad(v))
    ).assemble(basis)
    row, col = basis.mesh.p
    ends = [np.isin(row, (0, height)), np.isin(col, (0, width))]  # sides with normal r, with normal c
    normal = [basis.nodal_dofs[axis, ends[axis]] for axis in (0, 1)]
    tangential = [basis.nodal_dofs[1 - axis, ends[axis]] for axis in (0, 1)]

    def energy(r: np.ndarray, c: np.ndarray, fixed: list[np.ndarray]) -> float:
        """Of the field that is (r, c) where it is fixed."""
        u = basis.zeros()
        u[basis.nodal_dofs[0]], u[basis.nodal_dofs[1]] = r, c
        u = solve(*condense(matrix, x=u, D=np.concatenate(fixed)))
        return float(u @ matrix @ u) / image.size

    rr, cc = energy(row, 0 * col, normal), energy(0 * row, col, normal)
    rc = (energy(row, col, normal) - rr - cc) / 2
    expected = np.array([[rr, rc, 0], [rc, cc, 0], [0, 0, energy(col / 2, row / 2, tangential)]])
    np.testing.assert_allclose(stiffness(image[None], MIXED)[0], expected, rtol=1e-8, atol=1e-9)


def test_mixed_boundaries_insulate_two_sides() -> None:
    image = np.random.default_rng(4).random((7, 10)) < 0.5
    basis = Basis(MeshQuad.init_tensor(np.arange(8.0), np.arange(11.0)), ElementQuad1())
    place = np.floor(np.asarray(basis.global_coordinates())).astype(int)
    local = np.where(image[place[0], place[1]], 1.0, 0.2)
    matrix = BilinearForm(lambda u, v, _: local * dot(grad(u), grad(v))).assemble(basis)
    expected = []
    for axis, side in enumerate(image.shape):
        at = basis.mesh.p[axis]
        u = solve(*condense(matrix, x=at.copy(), D=np.flatnonzero(np.isin(at, (0, side)))))
        expected.append(u @ matrix @ u / image.size)
    np.testing.assert_allclose(conductivity(image[None], MIXED)[0], np.diag(expected), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("config", [CONFIG, MIXED, CROSSED])
def test_random_cells_are_inside_all_bounds(config: PropertiesConfig) -> None:
    squares = np.random.default_rng(0).random((3, 4, 4)) < np.array([0.2, 0.5, 0.8])[:, None, None]
    for phase in (np.kron(squares, np.ones((8, 8), bool)), *(random_discs(seed) for seed in range(3))):
        fraction = phase.mean(axis=(1, 2))
        bulk, shear = isotropic_moduli(stiffness(phase, config))
        flow = conductivity(phase, config).trace(axis1=1, axis2=2) / 2
        outer, inner = voigt_reuss(fraction, config), hashin_shtrikman(fraction, config)
        for value, (least, largest), (low, high) in (
            (bulk, outer.bulk_gpa, inner.bulk_gpa),
            (shear, outer.shear_gpa, inner.shear_gpa),
            (flow, outer.conductivity_w_mk, inner.conductivity_w_mk),
        ):
            assert (np.stack([least, low, value, high]) < np.stack([low, value, high, largest])).all()


def test_bounds_meet_without_a_second_phase_and_refuse_what_is_no_fraction() -> None:
    for bounds in (voigt_reuss, hashin_shtrikman):
        ends = bounds(np.array([0.0, 1.0]), CONFIG)
        for low in ends.bulk_gpa:
            np.testing.assert_allclose(low, [CONFIG.matrix.bulk_gpa, CONFIG.discs.bulk_gpa])
        for low in ends.shear_gpa:
            np.testing.assert_allclose(low, [CONFIG.matrix.shear_gpa, CONFIG.discs.shear_gpa])
        with pytest.raises(UserError, match=r"volume_fraction: 1\.2: must be from 0 to 1"):
            bounds(1.2, CONFIG)


def test_hashin_shtrikman_bounds_are_those_of_hashin() -> None:
    f, m, v = CONFIG.discs, CONFIG.matrix, 0.4
    k, g, kf, gf = m.bulk_gpa, m.shear_gpa, f.bulk_gpa, f.shear_gpa
    low = hashin_shtrikman(v, CONFIG)
    assert low.bulk_gpa[0] == pytest.approx(k + v / (1 / (kf - k) + (1 - v) / (k + g)))
    assert low.shear_gpa[0] == pytest.approx(
        g + v / (1 / (gf - g) + (1 - v) * (k + 2 * g) / (2 * g * (k + g)))
    )
    assert low.conductivity_w_mk[0] == pytest.approx(0.2 + v / (1 / 0.8 + (1 - v) / 0.4))
    assert low.conductivity_w_mk[1] == pytest.approx(1 + (1 - v) / (-1 / 0.8 + v / 2))


@pytest.mark.parametrize("config", [CONFIG, MIXED])
def test_turning_an_image_turns_its_properties(config: PropertiesConfig) -> None:
    phase = random_discs(2, (24, 32))
    upright, lying = (stiffness(image, config) for image in (phase, np.rot90(phase, axes=(1, 2))))
    signs = np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])  # the shear of turned axes changes its sign
    np.testing.assert_allclose(lying, turned(upright) * signs, rtol=1e-9, atol=1e-9)
    flow, lying_flow = (conductivity(image, config) for image in (phase, np.rot90(phase, axes=(1, 2))))
    np.testing.assert_allclose(
        lying_flow, flow[:, ::-1, ::-1] * np.array([[1, -1], [-1, 1]]), rtol=1e-9, atol=1e-9
    )


def test_a_periodic_cell_has_no_origin() -> None:
    phase = random_discs(3)
    rolled = np.roll(phase, (5, -11), axis=(1, 2))
    np.testing.assert_allclose(stiffness(rolled, CONFIG), stiffness(phase, CONFIG), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        conductivity(rolled, CONFIG), conductivity(phase, CONFIG), rtol=1e-10, atol=1e-10
    )


def test_properties_scale_with_those_of_the_phases() -> None:
    def scaled(phase: PhaseProperties) -> PhaseProperties:
        return PhaseProperties(
            young_modulus_gpa=1e-6 * phase.young_modulus_gpa,
            poisson_ratio=phase.poisson_ratio,
            conductivity_w_mk=1e3 * phase.conductivity_w_mk,
        )

    phase = random_discs(4)
    other_units = PropertiesConfig(discs=scaled(CONFIG.discs), matrix=scaled(CONFIG.matrix))
    np.testing.assert_allclose(
        stiffness(phase, other_units), 1e-6 * stiffness(phase, CONFIG), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(
        conductivity(phase, other_units), 1e3 * conductivity(phase, CONFIG), rtol=1e-9, atol=1e-6
    )


def test_images_of_a_stack_do_not_mix() -> None:
    stack = np.concatenate([random_discs(seed) for seed in (5, 6)])
    alone = np.concatenate([stiffness(stack[i : i + 1], CONFIG) for i in (0, 1)])
    np.testing.assert_array_equal(stiffness(stack, CONFIG), alone)


def test_few_discs_raise_the_moduli_as_the_dilute_estimate_says() -> None:
    phase = discs((96, 96), np.array([[48.0, 48.0]]), 10.0)
    fraction = float(phase.mean())
    f, m = CONFIG.discs, CONFIG.matrix
    bulk, _ = isotropic_moduli(stiffness(phase, CONFIG))
    dilute = fraction * (f.bulk_gpa - m.bulk_gpa) * (m.bulk_gpa + m.shear_gpa) / (f.bulk_gpa + m.shear_gpa)
    dilute /= 1 - fraction  # of the matrix's strain to that of the cell, to first order
    assert bulk[0] - m.bulk_gpa == pytest.approx(dilute, rel=0.03)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_discs_on_a_square_lattice_conduct_as_rayleigh_found(fraction: float) -> None:
    side = 96
    phase = discs((side, side), np.array([[47.5, 47.5]]), side * np.sqrt(fraction / np.pi))
    fraction = float(phase.mean())
    beta = (1 - 0.2) / (1 + 0.2)
    expected = 0.2 * (
        1 + 2 * fraction / (1 / beta - fraction - beta * (0.305827 * fraction**4 + 0.013363 * fraction**8))
    )
    np.testing.assert_allclose(conductivity(phase, CONFIG)[0], expected * np.eye(2), rtol=0.005, atol=1e-9)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="phase: float64 of shape"):
        stiffness(np.zeros((1, 4, 4)), CONFIG)
    with pytest.raises(UserError, match="phase: bool of shape"):
        conductivity(np.zeros((4, 4), bool), CONFIG)
    with pytest.raises(
        UserError, match=r"properties\.discs\.poisson_ratio: 0\.5: .*less than or equal to 0\.45"
    ):
        PropertiesConfig.from_mapping(
            {"discs": {"young_modulus_gpa": 1, "poisson_ratio": 0.5, "conductivity_w_mk": 1}}, "properties"
        )
    fibre = {"young_modulus_gpa": 1500, "poisson_ratio": 0.2, "conductivity_w_mk": 1}
    with pytest.raises(
        UserError, match="young_modulus_gpa of discs and matrix must differ by a factor of 1000"
    ):
        PropertiesConfig.from_mapping(
            {"discs": fibre, "matrix": fibre | {"young_modulus_gpa": 1}}, "properties"
        )
    with pytest.raises(UserError, match=r"young_modulus_gpa: 7\d+\.0: must be from .* is it in Pa or MPa"):
        PhaseProperties.from_mapping(fibre | {"young_modulus_gpa": 70e9}, "steel.json")


def test_the_benchmark_draws_what_it_says_and_counts_iterations() -> None:
    centres = packed(64 / 6, seed=0)
    cell = draw(centres, 64 / 6, 64)
    assert cell.mean() == pytest.approx(len(centres) * np.pi / (64 / 6) ** 2, abs=0.005)  # none overlap
    assert cell.mean() == pytest.approx(0.45, abs=0.02)
    assert 15 < iterations(stiffness, cell[None], CONFIG) < 40
    assert iterations(stiffness, np.ones((1, 8, 8), bool), CONFIG) == 0
