"""Arrays in a safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from microgan.core.errors import UserError
from microgan.core.tensors import read_tensors


class _Arrays(dict[str, np.ndarray]):
    """Arrays by name; one that is missing is told with the file."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self._path = path

    def __missing__(self, name: str) -> np.ndarray:
        raise UserError(self._path, f"no {name}", "must be whole: run the stage again that writes it")


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays by name."""
    # safetensors writes memory as it lies: arrays that are not contiguous would come back mixed up.
    own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path.write_bytes(safetensors.numpy.save(own))  # its other writer lets nobody but the owner read the file


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    UserError
        If the file is missing or damaged, or lacks an array that is asked for.
    """
    tensors, _ = read_tensors(path, "must be whole")
    return _Arrays(path, {name: value.numpy() for name, value in tensors.items()})
