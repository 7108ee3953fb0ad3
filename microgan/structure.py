"""One microstructure as solvers are given it: phases on a grid of voxels, circles, physical size."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from microgan.point_patterns import Discs

LengthUnit = Literal["um", "mm", "m"]
MICROMETRES: dict[LengthUnit, float] = {"um": 1.0, "mm": 1e3, "m": 1e6}
MATRIX, DISCS = 0, 1  # phase ids


@dataclass(frozen=True)
class Structure:
    """A microstructure, in-plane or extruded along the discs' axis.

    Attributes
    ----------
    name
        Of its files.
    phase
        Phase ids (planes, rows, cols), uint8: 0 the matrix, 1 the disc phase.
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
        Names of phase ids 0 and 1.
    """

    name: str
    phase: np.ndarray
    circles: Discs | None = None
    grey: np.ndarray | None = None
    voxel_size_um: float | None = None
    length_unit: LengthUnit = "um"
    periodic: bool = False
    phases: tuple[str, str] = ("matrix", "fibre")

    @property
    def spacing(self) -> float:
        """Edge of a voxel in ``length_unit``; 1 where it is not known."""
        if self.voxel_size_um is None:
            return 1.0
        return self.voxel_size_um / MICROMETRES[self.length_unit]

    @property
    def unit(self) -> str:
        """Unit of ``spacing``: ``length_unit``, or "px" where the size of a voxel is not known."""
        return "px" if self.voxel_size_um is None else self.length_unit
