"""Tensors in a safetensors file: nothing that is loaded can run code. The one place where they are read."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from microgan.core.errors import UserError, one_line
from microgan.core.files import must_be_regular

NUMBERS = (torch.float16, torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8, torch.bool)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name.

    The file has the mode of every other one: safetensors' own writer lets nobody but its owner read it.
    """
    own = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    path.write_bytes(safetensors.torch.save(own, metadata))


def read_tensors(path: Path, rule: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata.

    Parameters
    ----------
    path
        The file.
    rule
        What it must hold, for the error.

    Raises
    ------
    UserError
        If the file is missing or damaged, or holds another type of number than `NUMBERS`.
    """
    if not path.exists():
        raise UserError(path, "missing", "file must exist")
    must_be_regular(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise UserError(path, "unusable", f"{rule} ({one_line(error)})") from None
    for name, value in tensors.items():
        if value.dtype not in NUMBERS:
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(f"{path}: {name[:80]}", kind, f"{rule}: of float32, or another type that is read")
    return tensors, metadata


def must_be_finite(path: Path, tensors: Mapping[str, Tensor], rule: str) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    UserError
        Names the first tensor that has them.
    """
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise UserError(f"{path}: {name[:80]}", "NaN or infinity", f"{rule}: of finite numbers")


def must_be_like(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], rule: str
) -> None:
    """Refuse tensors of other names, shapes or types of number than ``expected``.

    Raises
    ------
    UserError
        Names the first that differs.
    """
    for name in [*expected, *(tensors.keys() - expected.keys())]:
        given, right = (_form(group.get(name)) for group in (tensors, expected))
        if given != right:
            raise UserError(path, "unusable", f"{rule} ({name[:80]} is {given}, must be {right})")


def _form(value: Tensor | None) -> str:
    if value is None:
        return "not there"
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
