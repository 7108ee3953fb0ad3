"""Rules of the user's own: Python functions of one image, imported by name."""

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field, field_validator

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.validity.evidence import Evidence
from microgan.validity.rules import Rule, Side


class RuleConfig(Config):
    """How one rule is used."""

    enabled: bool = Field(default=True, description="false: measured, but rejects nothing")
    weight: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="fraction of the budget against the others; null: the rule's own",
    )
    least: float | None = Field(default=None, description="limit set by hand instead of the calibrated ones")
    largest: float | None = Field(default=None, description="the same, from above")

    @property
    def by_hand(self) -> bool:
        """Whether limits are set by hand: nothing is calibrated then."""
        return self.least is not None or self.largest is not None


class OwnRule(RuleConfig):
    """A rule of the user's: a Python function ``(Evidence) -> float``, imported by its dotted path."""

    function: str = Field(description="module.name, the module in the folder that microgan is run in")
    side: Side = "both"
    title: str = Field(default="", description="for people; empty: the rule's name")

    @field_validator("function")
    @classmethod
    def _is_dotted(cls, path: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", path):
            raise ValueError("must be the dotted path of a function, as my_rules.worst_angle")
        return path


def own_rules(own: Mapping[str, OwnRule]) -> dict[str, Rule]:
    """Import a user's own rules; only for names that this very user wrote, since importing runs their code.

    Raises
    ------
    UserError
        If a function cannot be imported or called.
    """
    return {
        name: Rule(_imported(name, rule.function), name, rule.side, rule.title or name.replace("_", " "))
        for name, rule in own.items()
    }


def _imported(name: str, path: str) -> Callable[[Evidence], float]:
    where, (module, _, attribute) = f"calibrate.own.{name}.function", path.rpartition(".")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # an installed program does not look into the folder that it is run in
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(where, path, f"could not be imported ({said})") from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise UserError(where, path, "must be a function of (Evidence) that returns a number")
    return function
