"""TIFF stacks of all structures, one page each, with the resolution where it is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from microgan.core.files import write_tiff
from microgan.exporters.formats.format import JointFormat
from microgan.exporters.structure import Structure


def write_stacks(structures: Sequence[Structure], folder: Path) -> None:
    """Write phase.tif, and grey.tif where grey values are known; of extruded ones the first plane."""
    voxel_size_um = structures[0].voxel_size_um
    write_tiff(
        folder / "phase.tif", np.stack([structure.phase[0] for structure in structures]), voxel_size_um
    )
    grey = [structure.grey for structure in structures if structure.grey is not None]
    if grey:
        write_tiff(folder / "grey.tif", np.stack(grey), voxel_size_um)


TIFF = JointFormat(
    write_stacks,
    "phase.tif (phase ids, uint8) and grey.tif (grey values as in the scan), one page a structure",
    axes="page, row, col",
)
