"""Effective properties of phase images by finite elements: in-plane stiffness and transverse conductivity.

Each pixel is one bilinear quadrilateral element of its phase, under plane strain: the discs are sections of
long fibres. Stacks are (N, H, W) of bool, true in the discs; direction r is along rising rows, c along rising
columns. Strain and stress are in the order (rr, cc, rc), with the engineering shear strain.

Boundaries: ``periodic`` repeats the image in both directions, which is exact for periodic cells; at the
borders of a window cut out of something larger, cut discs meet what happens to be on the opposite side.
``mixed`` prescribes on all four sides, for rr and cc, the normal displacement and no shear traction; for
rc, the tangential displacement and no normal traction; for the conductivity, temperatures on two sides and
no flow through the others. The image and its mirror images make a periodic cell in which just this holds at
the image's border (Pahr and Zysset 2008), so that cell is solved, of four times the pixels. Its couplings
of normal and shear, and of the two directions of flow, are zero.

References
----------
D. H. Pahr and P. K. Zysset, Influence of boundary conditions on computed apparent elastic properties of
cancellous bone, Biomechanics and Modeling in Mechanobiology 7 (2008) 463-476.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator
from scipy import fft, sparse
from scipy.sparse.linalg import LinearOperator, cg
from skfem import Basis, BilinearForm, Element, ElementQuad1, ElementVector, LinearForm, MeshQuad
from skfem.element import DiscreteField
from tqdm import tqdm

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.statistics.phase_descriptors import volume_fraction

# Relative residual of the solver. The error of the effective properties goes with its square: below 1e-10 if
# the phases differ by a factor of 30, below 1e-8 if they differ most.
RESIDUAL, MAX_CONTRAST = 1e-6, 1000
ROUNDING = 1e-13  # forces below this fraction of one pixel's are rounding: a homogeneous image has no others

# What solids have: from a soft gel to beyond diamond, from an aerogel to beyond graphene
YOUNG_GPA, CONDUCTIVITY_W_MK = (1e-6, 2000.0), (1e-3, 1e4)

Interval = tuple[np.ndarray, np.ndarray]


def _within(value: float, limits: tuple[float, float], unit: str) -> float:
    if not limits[0] <= value <= limits[1]:
        raise ValueError(f"must be from {limits[0]:g} to {limits[1]:g} {unit}")
    return value


class PhaseProperties(Config):
    """The properties of one phase, an isotropic material.

    For a fibre that is isotropic in its cross-section only, give the transverse modulus and Poisson's
    ratio: the error is of the order of (transverse / axial modulus) x (axial Poisson's ratio)^2.
    """

    young_modulus_gpa: float
    poisson_ratio: float = Field(gt=-1, le=0.45)  # near 0.5 bilinear elements lock
    conductivity_w_mk: float

    @field_validator("young_modulus_gpa")
    @classmethod
    def _is_in_gpa(cls, modulus: float) -> float:
        return _within(modulus, YOUNG_GPA, "GPa: is it in Pa or MPa? 1 GPa is 1e9 Pa")

    @field_validator("conductivity_w_mk")
    @classmethod
    def _is_in_w_mk(cls, conductivity: float) -> float:
        return _within(conductivity, CONDUCTIVITY_W_MK, "W/(m K): is it in another unit?")

    @property
    def shear_gpa(self) -> float:
        """Shear modulus, GPa."""
        return self.young_modulus_gpa / (2 * (1 + self.poisson_ratio))

    @property
    def bulk_gpa(self) -> float:
        """Bulk modulus under plane strain, GPa: mean in-plane stress over change of area."""
        return self.shear_gpa / (1 - 2 * self.poisson_ratio)

    @property
    def stiffness_gpa(self) -> np.ndarray:
        """Stiffness (3, 3) under plane strain, GPa."""
        bulk, shear = self.bulk_gpa, self.shear_gpa
        return np.array([[bulk + shear, bulk - shear, 0], [bulk - shear, bulk + shear, 0], [0, 0, shear]])


# Those of params.yaml, for the command line.
MATERIALS: dict[str, PhaseProperties] = {
    "e_glass": PhaseProperties(young_modulus_gpa=74.0, poisson_ratio=0.2, conductivity_w_mk=1.0),
    "carbon": PhaseProperties(young_modulus_gpa=15.0, poisson_ratio=0.07, conductivity_w_mk=5.0),
    "epoxy": PhaseProperties(young_modulus_gpa=3.35, poisson_ratio=0.35, conductivity_w_mk=0.2),
}


class PropertiesConfig(Config):
    """Materials of both phases, and what is solved.

    By default E-glass (Silenka) in epoxy (MY750), elastic constants of P. D. Soden, M. J. Hinton and A. S.
    Kaddour, Composites Science and Technology 58 (1998) 1011-1022. Their T300 carbon fibre has a transverse
    modulus of 15 GPa and a transverse shear modulus of 7 GPa: Poisson's ratio 0.07. Conductivities are
    rounded handbook values. ``discs`` and ``matrix`` may also be names in ``materials``.
    """

    discs: PhaseProperties = MATERIALS["e_glass"]
    matrix: PhaseProperties = MATERIALS["epoxy"]
    boundary: Literal["periodic", "mixed"] = "periodic"
    count: int = Field(default=500, ge=2)
    materials: dict[str, PhaseProperties] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        materials = values.get("materials") or {}
        named = {key: values[key] for key in ("discs", "matrix") if isinstance(values.get(key), str)}
        for key, name in named.items():
            if name not in materials:
                raise ValueError(f"{key} must be one of {', '.join(materials)}, the names of materials")
        return {**values, **{key: materials[name] for key, name in named.items()}}

    @model_validator(mode="after")
    def _contrast_is_moderate(self) -> Self:
        for name in ("young_modulus_gpa", "conductivity_w_mk"):
            pair = [getattr(phase, name) for phase in (self.discs, self.matrix)]
            if max(pair) > MAX_CONTRAST * min(pair):
                raise ValueError(
                    f"{name} of discs and matrix must differ by a factor of {MAX_CONTRAST} at most"
                )
        return self


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bounds, two arrays each, at given volume fractions.

    Attributes
    ----------
    bulk_gpa
        Of the bulk modulus under plane strain.
    shear_gpa
        Of the shear modulus in the plane.
    conductivity_w_mk
        Of the conductivity in the plane.
    """

    bulk_gpa: Interval
    shear_gpa: Interval
    conductivity_w_mk: Interval

    @property
    def stiffness_gpa(self) -> Interval:
        """Of the stiffness along r or c; in an isotropic material it is the sum of bulk and shear modulus."""
        return self.bulk_gpa[0] + self.shear_gpa[0], self.bulk_gpa[1] + self.shear_gpa[1]


# Effective properties -------------------------------------------------------------------------------------


def stiffness(phase: np.ndarray, config: PropertiesConfig) -> np.ndarray:
    """Return the effective in-plane stiffness of each image under plane strain.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool, true in the discs.
    config
        Materials and boundaries.

    Returns
    -------
    ndarray of shape (N, 3, 3)
        In GPa, order (rr, cc, rc). Pixels as elements err on the stiff side: with glass discs of radius 6 px
        in epoxy by some 6 %, of 12 px by 1 % (`benchmarks.properties`): compare at equal pixel size.

    Raises
    ------
    UserError
        If ``phase`` is no stack of bool.

    Examples
    --------
    >>> glass_only = np.ones((1, 4, 4), bool)
    >>> stiffness(glass_only, PropertiesConfig())[0].round(2)
    array([[82.22, 20.56,  0.  ],
           [20.56, 82.22,  0.  ],
           [ 0.  ,  0.  , 30.83]])
    """
    materials = np.stack([config.matrix.stiffness_gpa, config.discs.stiffness_gpa])
    pixel = _pixel(ElementVector(ElementQuad1()), _strain, materials)
    return _effective(phase, config.boundary, pixel)


def stiffness_of_phases(
    ids: np.ndarray, materials: Sequence[PhaseProperties], boundary: Literal["periodic", "mixed"] = "periodic"
) -> np.ndarray:
    """Return the effective in-plane stiffness of images of any number of phases; as `stiffness`.

    Parameters
    ----------
    ids
        Stack (N, H, W) of uint8: the index of each pixel's material.
    materials
        Of the phases, by their ids.
    boundary
        As in `PropertiesConfig`.

    Raises
    ------
    UserError
        If ``ids`` is no such stack, or has an id without a material.
    """
    if ids.ndim != 3 or ids.dtype != np.uint8 or ids.size == 0 or ids.max() >= len(materials):
        given = f"{ids.dtype} of shape {ids.shape}"
        rule = f"must be uint8 of shape (N, H, W), ids below {len(materials)}, the number of materials"
        raise UserError("ids", given, rule)
    pixel = _pixel(
        ElementVector(ElementQuad1()), _strain, np.stack([phase.stiffness_gpa for phase in materials])
    )
    return _solved(ids, boundary, pixel)


def conductivity(phase: np.ndarray, config: PropertiesConfig) -> np.ndarray:
    """Return the effective conductivity in the plane of each image; parameters as in `stiffness`.

    Returns
    -------
    ndarray of shape (N, 2, 2)
        In W/(m K), order (r, c).
    """
    values = np.array([config.matrix.conductivity_w_mk, config.discs.conductivity_w_mk])
    pixel = _pixel(ElementQuad1(), _gradient, values[:, None, None] * np.eye(2))
    return _effective(phase, config.boundary, pixel)


def voigt_reuss(volume_fraction: np.ndarray | float, config: PropertiesConfig) -> Bounds:
    """Return the bounds by Reuss (harmonic mean of the phases) and Voigt (arithmetic mean).

    Parameters
    ----------
    volume_fraction
        Of the discs, any shape.
    config
        Materials.
    """
    return _bounds(volume_fraction, config, np.tile([0.0, np.inf], (3, 1)))


def hashin_shtrikman(volume_fraction: np.ndarray | float, config: PropertiesConfig) -> Bounds:
    """Return the bounds of Hashin and Shtrikman in the plane; parameters as in `voigt_reuss`.

    They hold for composites that are isotropic in the plane, whatever the shape of the phases; in any other
    cell for the moduli of the isotropic part of the stiffness, and for the mean conductivity along r and c.

    References
    ----------
    Z. Hashin, On elastic behaviour of fibre reinforced materials of arbitrary transverse phase geometry,
    Journal of the Mechanics and Physics of Solids 13 (1965) 119-134. L. J. Walpole, On the overall elastic
    moduli of composite materials, ibid. 17 (1969) 235-251: also where one phase has the larger bulk and the
    other the larger shear modulus.

    Examples
    --------
    >>> low, high = hashin_shtrikman(0.5, PropertiesConfig()).conductivity_w_mk
    >>> float(low.round(3)), float(high.round(3))
    (0.4, 0.5)
    """
    bulk, shear, flow = np.sort(_moduli(config))
    return _bounds(volume_fraction, config, np.stack([shear, shear * bulk / (bulk + 2 * shear), flow]))


# Bounds ------------------------------------------------------------------------------------------------


def _moduli(config: PropertiesConfig) -> np.ndarray:
    """Bulk modulus, shear modulus and conductivity (3, 2) of discs and matrix."""
    phases = (config.discs, config.matrix)
    return np.array([[phase.bulk_gpa, phase.shear_gpa, phase.conductivity_w_mk] for phase in phases]).T


def _bounds(fraction: np.ndarray | float, config: PropertiesConfig, shifts: np.ndarray) -> Bounds:
    """Bounds of each modulus, from its lower and upper shift (3, 2)."""
    fraction = np.asarray(fraction, np.float64)
    if not ((fraction >= 0) & (fraction <= 1)).all():
        raise UserError("volume_fraction", fraction, "must be from 0 to 1")
    bounds = [
        (_shifted_mean(fraction, discs, matrix, low), _shifted_mean(fraction, discs, matrix, high))
        for (discs, matrix), (low, high) in zip(_moduli(config), shifts, strict=True)
    ]
    return Bounds(*bounds)


def _shifted_mean(fraction: np.ndarray, discs: float, matrix: float, shift: float) -> np.ndarray:
    """Mean of the phases: harmonic for shift 0, arithmetic for infinity, harmonic of shifted ones between."""
    if np.isinf(shift):
        return fraction * discs + (1 - fraction) * matrix
    return 1 / (fraction / (discs + shift) + (1 - fraction) / (matrix + shift)) - shift


# Finite elements ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pixel:
    """The element that a pixel is, with d degrees of freedom; first axis: matrix, discs (or p phases).

    Attributes
    ----------
    materials
        Stress (or flow) for strain (or gradient), shape (2, s, s).
    stiffness
        Shape (2, d, d).
    forces
        Nodal forces under each unit strain, shape (2, s, d).
    corner
        Row and column, 0 or 1, of the node of each degree of freedom, shape (2, d).
    component
        Its direction, shape (d,).
    """

    materials: np.ndarray
    stiffness: np.ndarray
    forces: np.ndarray
    corner: np.ndarray
    component: np.ndarray


def _strain(u: DiscreteField) -> np.ndarray:
    return np.stack([u.grad[0, 0], u.grad[1, 1], u.grad[0, 1] + u.grad[1, 0]])


def _gradient(u: DiscreteField) -> np.ndarray:
    return u.grad


def _pixel(element: Element, strain: Callable[[DiscreteField], np.ndarray], materials: np.ndarray) -> _Pixel:
    basis = Basis(MeshQuad.init_tensor(np.arange(2.0), np.arange(2.0)), element)

    def stiffness(material: np.ndarray) -> np.ndarray:
        energy = BilinearForm(lambda u, v, _: np.einsum("i...,ij,j...->...", strain(u), material, strain(v)))
        return energy.assemble(basis).toarray()

    def force(stress: np.ndarray) -> np.ndarray:
        return LinearForm(lambda v, _: np.einsum("i,i...->...", stress, strain(v))).assemble(basis)

    component = np.empty(basis.N, int)
    for direction, dofs in enumerate(basis.nodal_dofs):
        component[dofs] = direction
    return _Pixel(
        materials=materials,
        stiffness=np.stack([stiffness(material) for material in materials]),
        forces=np.stack([[force(stress) for stress in material] for material in materials]),
        corner=basis.doflocs.astype(int),
        component=component,
    )


class _Cell:
    """A periodic cell (H, W) of pixels: what all images of one shape have in common.

    Nodal values are an array (n,), n = components x H x W. Node (row, col) is the corner of pixel (row, col)
    that is the nearest to the origin.
    """

    def __init__(self, shape: tuple[int, int], pixel: _Pixel) -> None:
        self.shape, self.pixel = shape, pixel
        self.components = pixel.component.max() + 1
        rows, cols = (
            (axis.ravel() + corner[:, None]) % side
            for axis, corner, side in zip(np.indices(shape), pixel.corner, shape, strict=True)
        )
        dofs = np.ravel_multi_index((pixel.component[:, None], rows, cols), (self.components, *shape))
        self.dofs = dofs.astype(np.int32)  # as sparse matrices have them: spares a copy for each image
        count = len(self.dofs)
        self.entries = np.repeat(self.dofs, count, axis=0).ravel(), np.tile(self.dofs, (count, 1)).ravel()
        self.size = self.components * shape[0] * shape[1]
        self.preconditioner = self._homogeneous_inverse()

    def effective(self, phase: np.ndarray) -> np.ndarray:
        """Return the effective property (s, s) of one image (H, W).

        It is the energy under unit strains. With the second product, what the solver leaves unsolved enters
        in second order only.
        """
        matrix, forces = self._stiffness(phase), -self._forces(phase)
        u = np.stack([self._solve(matrix, force) for force in forces])
        residuals = forces - (matrix @ u.T).T
        mean = self.pixel.materials[phase.ravel().astype(int)].mean(0)
        return mean - (forces @ u.T + u @ residuals.T) / phase.size

    def _solve(self, matrix: sparse.csr_array, force: np.ndarray) -> np.ndarray:
        rounding = ROUNDING * np.abs(self.pixel.forces).max() * np.sqrt(self.size)
        u, failed = cg(matrix, force, rtol=RESIDUAL, atol=rounding, M=self.preconditioner)
        assert not failed, "contrasts are limited"
        return u

    def _stiffness(self, phase: np.ndarray) -> sparse.csr_array:
        values = np.moveaxis(self.pixel.stiffness, 0, -1)[..., phase.ravel().astype(int)]
        return sparse.coo_array((values.ravel(), self.entries), shape=(self.size, self.size)).tocsr()

    def _forces(self, phase: np.ndarray) -> np.ndarray:
        values = np.moveaxis(self.pixel.forces, 0, -1)[..., phase.ravel().astype(int)]  # (s, d, H * W)
        return np.stack([np.bincount(self.dofs.ravel(), force.ravel(), self.size) for force in values])

    def _homogeneous_inverse(self) -> LinearOperator:
        """Invert the stiffness of a cell that is all matrix, a small matrix for each wave vector.

        It makes the number of iterations independent of the number of pixels: M. Ladecky et al., An optimal
        preconditioned FFT-accelerated finite element solver for homogenization, Applied Mathematics and
        Computation 446 (2023) 127835.
        """
        components, nodes = self.components, self.size // self.components
        impulses = np.zeros((self.size, components))
        impulses[np.arange(components) * nodes, np.arange(components)] = 1
        response = (self._stiffness(np.zeros(self.shape, bool)) @ impulses).T
        # Real, as a pixel is symmetric about its centre.
        symbol = fft.rfft2(response.reshape(components, components, *self.shape)).real
        symbol[..., 0, 0] = np.eye(components)  # a translation needs no energy, and forces cause none
        inverse = np.moveaxis(np.linalg.inv(np.moveaxis(symbol, (0, 1), (-2, -1))), (-2, -1), (0, 1)).copy()

        def apply(force: np.ndarray) -> np.ndarray:
            waves = fft.rfft2(force.reshape(components, *self.shape))
            return fft.irfft2(np.einsum("ij...,j...->i...", inverse, waves), self.shape).ravel()

        return LinearOperator((self.size, self.size), matvec=apply, dtype=np.float64)


def _effective(phase: np.ndarray, boundary: str, pixel: _Pixel) -> np.ndarray:
    volume_fraction(phase)  # refuses what is no stack of images
    return _solved(phase, boundary, pixel)


def _solved(phase: np.ndarray, boundary: str, pixel: _Pixel) -> np.ndarray:
    """Solve images of phase ids, or of bool."""
    if boundary == "mixed":
        phase = np.concatenate([phase, phase[:, ::-1]], axis=1)
        phase = np.concatenate([phase, phase[:, :, ::-1]], axis=2)
    cell = _Cell(phase.shape[1:], pixel)
    return np.stack([cell.effective(image) for image in tqdm(phase, desc="solve", unit="img", disable=None)])
