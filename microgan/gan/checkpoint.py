"""Weights and training state as safetensors: nothing that is loaded can run code."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import atomic, file_sha256
from microgan.core.json_files import write_sealed_json
from microgan.core.tensors import fill, must_be_like, read_tensors, write_tensors
from microgan.gan.model_card import CARD, read_model_card
from microgan.gan.networks import Critic, Generator, NetworkConfig

WEIGHTS = "generator.safetensors"
LAST, CRITIC = "last.safetensors", "critic.safetensors"  # of the training's end; for going on from there
STATE = "must be the whole state of this training"


class Progress(Config):
    """How far a training has come."""

    model_config = ConfigDict(allow_inf_nan=True)  # a score may be NaN

    step: int = Field(ge=0)
    seconds: float = Field(ge=0)
    history: list[dict[str, int | float]]  # a step stays a whole number
    validations: list[dict[str, int | float]]


@dataclass
class State:
    """All that a training needs to go on; its random numbers follow from (seed, step)."""

    modules: Mapping[str, nn.Module]  # generator, critic, average, best
    optimisers: Mapping[str, torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)


def save_state(path: Path, state: State) -> None:
    """Write the whole state as one file, so that it can never be half old and half new."""
    tensors = {
        f"{name}/{key}": value.detach().contiguous()
        for name, module in state.modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimiser in state.optimisers.items():
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": value.contiguous() for key, value in moments.items()}
    progress = json.dumps({name: getattr(state, name) for name in Progress.model_fields})
    with atomic(path, durable=True) as draft:
        write_tensors(draft, tensors, {"progress": progress, "sha256": _digest(tensors, progress)})


def state_bytes(state: State) -> int:
    """Return about how large a saved state is: weights, and two moments of each that an optimiser moves."""
    weights = sum(value.nbytes for module in state.modules.values() for value in module.state_dict().values())
    moved = [group["params"] for optimiser in state.optimisers.values() for group in optimiser.param_groups]
    return weights + 2 * sum(parameter.nbytes for group in moved for parameter in group)


def load_state(path: Path, state: State) -> None:
    """Put the saved values into ``state``, whose networks and optimisers must be of the same shape.

    Raises
    ------
    UserError
        If the file is damaged or belongs to other networks; ``state`` is then as it was.
    """
    tensors, metadata = read_tensors(path, STATE)
    text = metadata.get("progress", "")
    if metadata.get("sha256", "") not in ("", _digest(tensors, text)):  # states of earlier versions have none
        raise UserError(path, "damaged", f"{STATE}, with the SHA-256 that it names")
    progress = _progress(path, text)
    modules = {
        f"{name}/{key}": value
        for name, module in state.modules.items()
        for key, value in module.state_dict().items()
    }
    must_be_like(
        path,
        {key: value for key, value in tensors.items() if key.split("/")[0] in state.modules},
        modules,
        STATE,
    )
    moments = {
        name: _moments(path, optimiser, _below(name, tensors)) for name, optimiser in state.optimisers.items()
    }
    for name, module in state.modules.items():
        module.load_state_dict(_below(name, tensors))
    for name, optimiser in state.optimisers.items():
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments[name]})
    for name in Progress.model_fields:
        setattr(state, name, getattr(progress, name))


def _digest(tensors: Mapping[str, Tensor], progress: str) -> str:
    """Return the SHA-256 of names, types, shapes and values of all tensors, and of the progress."""
    sha = hashlib.sha256(progress.encode())
    for name, value in sorted(tensors.items()):
        sha.update(f"\n{name} {value.dtype} {tuple(value.shape)} ".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _progress(path: Path, text: str) -> Progress:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(path, "damaged", f"{STATE}, with its progress") from None
    return Progress.from_mapping(values, f"{path}: progress")


def save_model(
    folder: Path,
    generator: Generator,
    card: Mapping[str, Any],
    last: Generator | None = None,
    critic: Critic | None = None,
) -> None:
    """Write ``generator.safetensors`` and ``model.json`` into ``folder``, all or nothing.

    ``card`` says where the generator comes from (model, scan, training); the size of the network and the
    SHA-256 of ``generator.safetensors`` are added. ``last`` and ``critic``, the generator and the critic at
    the end of the training, are kept beside it when given.
    """
    with atomic(folder, durable=True) as draft:
        draft.mkdir()
        write_tensors(draft / WEIGHTS, generator.state_dict())
        for name, network in ((LAST, last), (CRITIC, critic)):
            if network is not None:
                write_tensors(draft / name, network.state_dict())
        size, sha256 = generator.config.model_dump(), file_sha256(draft / WEIGHTS)
        write_sealed_json(draft / CARD, {**card, "network": size, "weights_sha256": sha256})


def load_model(folder: str | Path) -> tuple[Generator, dict[str, Any]]:
    """Read what `save_model` wrote.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the weights are not those that the card names.
    """
    folder = Path(folder)
    if not (folder / CARD).exists():
        rule = f"must be a folder that a training wrote, with {WEIGHTS} and {CARD}"
        raise UserError(folder, f"no {CARD} in it" if folder.exists() else "missing", rule)
    card = read_model_card(folder / CARD)
    generator = Generator(NetworkConfig.from_mapping(card["network"], f"{folder / CARD}: network"))
    _load_weights(folder / WEIGHTS, generator, f"must hold the weights of {CARD}")
    if file_sha256(folder / WEIGHTS) != card["weights_sha256"]:
        raise UserError(folder / WEIGHTS, "changed", f"must have the weights_sha256 of {CARD}")
    return generator.eval(), card


def load_start(folder: Path, generator: Generator, critic: Critic) -> None:
    """Give two networks the weights that a finished training, in ``folder``, ended with.

    Raises
    ------
    UserError
        If a file is missing or damaged, or belongs to networks of another size or kind.
    """
    for name, network in ((LAST, generator), (CRITIC, critic)):
        _load_weights(Path(folder) / name, network, "must hold a network of the same size and kind")


def _load_weights(path: Path, network: nn.Module, rule: str) -> None:
    """Give ``network`` the weights in a file; ``rule`` says which they must be."""
    tensors, _ = read_tensors(path, rule)
    fill(path, tensors, network, rule)


def _moments(
    path: Path, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> dict[int, dict[str, Tensor]]:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise UserError(path, "unusable", f"{STATE} (a moment of no parameter)")
        parameter = parameters[int(index)]
        if value.ndim:  # fused optimisers walk memory: moments need the strides of their parameter
            must_be_like(path, {key: value}, {key: parameter.detach()}, STATE)
            value = torch.empty_like(parameter).copy_(value)
        moments.setdefault(int(index), {})[name] = value
    return moments


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
