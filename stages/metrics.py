"""The files in metrics/MODEL that stages pass on, checked where they are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from microgan.core.config import Config
from microgan.core.json_files import read_json


class Validity(Config):
    """What is read of ``metrics/MODEL/validity.json``."""

    model_config = ConfigDict(extra="allow")

    pass_rate: float = Field(ge=0, le=1)
    reference_pass_rate: float = Field(ge=0, le=1)
    pass_rate_ratio: float = Field(ge=0)
    n: int = Field(ge=1)
    rejected_by: dict[str, int]
    reference_rejected_by: dict[str, int]


Numbers = dict[str, float | bool | None]


class Figures(Config):
    """What is read of ``metrics/MODEL/fidelity.json``."""

    model_config = ConfigDict(extra="allow")

    before: dict[str, Numbers]
    after: dict[str, Numbers]
    training_windows: dict[str, Numbers]
    shift: dict[str, float | None]
    n: dict[str, int | dict[str, int]]
    bounds: dict[str, dict[str, Any]] = Field(default_factory=dict)
    images: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Curves(Config):
    """What is read of ``metrics/MODEL/curves.json``: rows of numbers for each curve."""

    curves: dict[str, list[dict[str, float | None]]]


def read_checked(path: Path, check: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Read a file of metrics, of which ``check`` raises `UserError` where it is broken."""
    content = read_json(path)
    check(content)
    return content


def read_fidelity(path: Path) -> dict[str, Any]:
    """Read fidelity.json, checked."""
    return read_checked(path, lambda content: Figures.from_mapping(content, str(path)))


def read_curves(path: Path) -> dict[str, Any]:
    """Read curves.json, checked."""
    return read_checked(path, lambda content: Curves.from_mapping({"curves": content}, str(path)))


def read_validity(path: Path) -> dict[str, Any]:
    """Read validity.json, checked."""
    return read_checked(path, lambda content: Validity.from_mapping(content, str(path)))
