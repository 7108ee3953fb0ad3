"""One microstructure as solvers need it: phases on a grid of voxels, circles, physical size."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.statistics.point_patterns import Discs

LengthUnit = Literal["um", "mm", "m"]
MICROMETRES: dict[LengthUnit, float] = {"um": 1.0, "mm": 1e3, "m": 1e6}
MATRIX, DISCS, INTERPHASE = 0, 1, 2  # phase ids


class Elastic(Protocol):
    """Elastic constants of a phase, such as `microgan.evaluation.homogenisation.PhaseProperties`."""

    @property
    def young_modulus_gpa(self) -> float: ...

    @property
    def poisson_ratio(self) -> float: ...


@dataclass(frozen=True)
class Structure:
    """A microstructure, in-plane or extruded along the discs' axis.

    Attributes
    ----------
    name
        Of its files.
    phase
        Phase ids (planes, rows, cols), uint8: 0 the matrix, 1 the disc phase, 2 an interphase around it.
    circles
        In pixels, centre of the first pixel at 0; none where they are not known.
    grey
        Grey values (rows, cols), where they are known.
    voxel_size_um
        Edge of a voxel in micrometres; none where it is not known. Lengths are then in voxels.
    length_unit
        Of what is written.
    periodic
        Whether opposite borders fit together.
    phases
        Names of phase ids 0 and 1, and 2 where there is an interphase.
    materials
        Elastic constants by the names of the phases; none where they are left to the solver's input.
    holes
        Names of the phases that meshes leave out, such as voids.
    interphase_px
        Thickness of the layer around each circle, for meshes, which follow the circles; 0: none.

    Raises
    ------
    UserError
        If ``phase`` is of another type or shape, or has other ids.
    """

    name: str
    phase: np.ndarray
    circles: Discs | None = None
    grey: np.ndarray | None = None
    voxel_size_um: float | None = None
    length_unit: LengthUnit = "um"
    periodic: bool = False
    phases: tuple[str, ...] = ("matrix", "fibre")
    materials: Mapping[str, Elastic] | None = None
    holes: tuple[str, ...] = ()
    interphase_px: float = 0.0

    def __post_init__(self) -> None:
        shape, dtype = self.phase.shape, self.phase.dtype
        if len(shape) != 3 or 0 in shape or dtype != np.uint8:
            rule = "must be uint8 of shape (planes, rows, cols), at least one voxel"
            raise UserError(f"phase of {self.name}", f"{dtype} of shape {shape}", rule)
        if self.phase.max() >= len(self.phases):
            rule = f"must be phase ids {' and '.join(map(str, range(len(self.phases))))}"
            raise UserError(f"phase of {self.name}", f"values up to {self.phase.max()}", rule)

    @property
    def domain(self) -> Domain:
        """Rows and columns of a plane, and whether its opposite borders fit together."""
        return Domain((self.phase.shape[1], self.phase.shape[2]), self.periodic)

    @property
    def spacing(self) -> float:
        """Edge of a voxel in ``length_unit``; 1 where it is not known."""
        if self.voxel_size_um is None:
            return 1.0
        return self.voxel_size_um / MICROMETRES[self.length_unit]

    @property
    def unit(self) -> LengthUnit | Literal["px"]:
        """Unit of ``spacing``: ``length_unit``, or "px" where the size of a voxel is not known."""
        return "px" if self.voxel_size_um is None else self.length_unit

    @property
    def unit_note(self) -> str:
        """What lengths mean, for the comments of files."""
        return f"lengths in {self.unit}" if self.voxel_size_um else "lengths in voxels, their size is unknown"

    @property
    def size(self) -> tuple[float, float, float]:
        """Lengths of the whole structure along (plane, row, col), in ``unit``."""
        planes, rows, cols = (count * self.spacing for count in self.phase.shape)
        return planes, rows, cols

    @property
    def solid_ids(self) -> list[int]:
        """Ids of the phases that are no holes."""
        return [index for index, name in enumerate(self.phases) if name not in self.holes]

    @property
    def solids(self) -> list[str]:
        """Names of the phases that are no holes."""
        return [self.phases[index] for index in self.solid_ids]

    @property
    def absent_below_the_last(self) -> list[str]:
        """Names of phases without voxels, of lower ids than one that has some."""
        lower = enumerate(self.phases[: self.phase.max()])
        return [name for index, name in lower if not (self.phase == index).any()]

    def extruded(self, planes: int) -> Self:
        """Repeat the first plane along the discs' axis, without a copy; such phases cannot be written to."""
        phase = np.broadcast_to(self.phase[:1], (planes, *self.phase.shape[1:]))
        return replace(self, phase=phase)
