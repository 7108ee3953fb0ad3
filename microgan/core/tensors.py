"""Tensors in a safetensors file: nothing that is loaded can run code. The one place where they are read."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from microgan.core.config import AnyConfig, Config
from microgan.core.errors import UserError, one_line
from microgan.core.files import atomic, file_sha256, must_be_regular

CARD = "card"  # of the metadata

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


def write_with_card(path: Path, tensors: Mapping[str, Tensor], card: Config) -> str:
    """Write tensors and their card as one file; return its SHA-256."""
    with atomic(path) as draft:
        write_tensors(draft, tensors, {CARD: card.model_dump_json()})
    return file_sha256(path)


def read_with_card(
    path: Path, kind: type[AnyConfig], rule: str, sha256: str | None = None
) -> tuple[dict[str, Tensor], AnyConfig]:
    """Read what `write_with_card` wrote.

    Parameters
    ----------
    path
        The file.
    kind
        Of the card.
    rule
        What the file must hold, for the error.
    sha256
        That it must have.

    Raises
    ------
    UserError
        If the file is missing or damaged, is another one, or has no such card.
    """
    tensors, metadata = read_tensors(path, rule)
    if sha256 is not None and file_sha256(path) != sha256:
        raise UserError(path, "changed", f"must have the SHA-256 {sha256}, as the file that names it says")
    try:
        card = json.loads(metadata.get(CARD, ""))
    except (ValueError, RecursionError):
        raise UserError(path, "unusable", f"{rule}, with a card") from None
    return tensors, kind.from_mapping(card, f"{path}: card")


def fill(path: Path, tensors: Mapping[str, Tensor], network: nn.Module, rule: str) -> None:
    """Give a network the weights that were read from ``path``.

    Raises
    ------
    UserError
        If they belong to another network or are not finite.
    """
    must_be_like(path, tensors, network.state_dict(), rule)
    must_be_finite(path, tensors, rule)
    network.load_state_dict(dict(tensors))


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
