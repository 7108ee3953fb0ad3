"""Weights and training state as safetensors: nothing that is loaded can run code."""

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from microgan.core.errors import UserError
from microgan.core.files import atomic, file_sha256, read_json, write_json
from microgan.gan.networks import Critic, Generator, NetworkConfig

WEIGHTS = "generator.safetensors"
LAST, CRITIC = "last.safetensors", "critic.safetensors"  # of the training's end; for going on from there
CARD = "model.json"
PROGRESS = ("step", "seconds", "history", "validations")


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
    progress = {name: getattr(state, name) for name in PROGRESS}
    with atomic(path, durable=True) as draft:
        _write_tensors(tensors, draft, {"progress": json.dumps(progress)})


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
        If the file is damaged or belongs to other networks.
    """
    try:
        with safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
        tensors = load_file(path)
        for name, module in state.modules.items():
            module.load_state_dict(_below(name, tensors))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(path, "unusable", f"delete it to train anew ({reason})") from None
    for name, optimiser in state.optimisers.items():
        _load_moments(optimiser, _below(name, tensors))
    for name in PROGRESS:
        setattr(state, name, progress[name])


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
        _write_tensors(_weights(generator), draft / WEIGHTS)
        for name, network in ((LAST, last), (CRITIC, critic)):
            if network is not None:
                _write_tensors(_weights(network), draft / name)
        size, sha256 = generator.config.model_dump(), file_sha256(draft / WEIGHTS)
        write_json(draft / CARD, {**card, "network": size, "weights_sha256": sha256})


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
    card = read_json(folder / CARD)
    generator = Generator(NetworkConfig.from_mapping(card.get("network"), f"{folder / CARD}: network"))
    _load_weights(folder / WEIGHTS, generator, f"must hold the weights of {CARD}")
    if file_sha256(folder / WEIGHTS) != card.get("weights_sha256"):
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


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}


def _load_weights(path: Path, network: nn.Module, rule: str) -> None:
    """Give ``network`` the weights in a file; ``rule`` says which they must be."""
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(path, "missing", "file must exist") from None
    except (SafetensorError, RuntimeError) as error:
        raise UserError(path, "unusable", f"{rule} ({str(error).splitlines()[0]})") from None


def _write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # also on a full disk
        raise OSError(errno.EIO, f"could not be written ({error})", str(path)) from None


def _load_moments(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        if value.ndim:  # fused optimisers walk memory: moments need the strides of their parameter
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        moments.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
