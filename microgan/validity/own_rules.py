"""Rules of the user's own: Python functions of one image, imported by name."""

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field, field_validator

from microgan.core.errors import UserError
from microgan.validity.evidence import Evidence
from microgan.validity.rules import Rule, RuleConfig, Side


class OwnRule(RuleConfig):
    """A rule of the user's own: a Python function ``(Evidence) -> float``, imported by its dotted path."""

    function: str = Field(description="module.name, the module in the folder that microgan is run in")
    side: Side = "both"
    title: str = Field(default="", description="for figures; empty: the rule's name")

    @field_validator("function")
    @classmethod
    def _is_dotted(cls, path: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", path):
            raise ValueError("must be the dotted path of a function, as my_rules.worst_angle")
        return path


def import_own_rules(own: Mapping[str, OwnRule]) -> dict[str, Rule]:
    """Import own rules, which runs their code: only for functions that this very user named.

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
    sys.path.insert(0, here)  # an installed program does not search the folder that it is run in
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        problem = " ".join(str(error).split())
        raise UserError(where, path, f"could not be imported ({problem})") from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise UserError(where, path, "must be a function of (Evidence) that returns a number")
    return function
