"""Arrays in a safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from microgan.core.errors import UserError
from microgan.core.tensors import read_tensors, write_tensors


class _Arrays(dict[str, np.ndarray]):
    """Arrays by name; one that is missing is told with the file."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self._path = path

    def __missing__(self, name: str) -> np.ndarray:
        raise UserError(self._path, f"no {name}", "must be whole: run the stage again that writes it")


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays by name."""
    write_tensors(path, {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()})


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    UserError
        If the file is missing or damaged, or lacks an array that is asked for.
    """
    tensors, _ = read_tensors(path, "must be whole")
    return _Arrays(path, {name: value.numpy() for name, value in tensors.items()})
