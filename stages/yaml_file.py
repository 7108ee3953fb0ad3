"""The one place where YAML is read: bounded, whatever is in the file."""

from pathlib import Path
from typing import Any

import yaml

from microgan.core.errors import UserError, one_line
from microgan.core.files import read_small

DEEPEST = 32  # sections and lists inside of each other
MOST_VALUES = 100_000  # with those that aliases repeat


class _Loader(yaml.SafeLoader):
    """Reads plain values; counts them as they will be once every alias is what it stands for."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._values = 0
        self._sizes: dict[int, int] = {}  # of each node, by its identity; all live as long as the loader

    def compose_node(self, parent: Any, index: Any) -> Any:
        before = self._values
        self._depth += 1
        self._must_be_bounded()
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and id(node) not in self._sizes:
            raise yaml.YAMLError("an alias stands for what it is inside of")
        self._values += self._sizes[id(node)] if is_alias else 1
        self._sizes.setdefault(id(node), self._values - before)
        self._depth -= 1
        self._must_be_bounded()
        return node

    def _must_be_bounded(self) -> None:
        if self._depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} sections or lists inside of each other")
        if self._values > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES} values, with those that aliases repeat")


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain values.

    Raises
    ------
    FileNotFoundError
        If it is missing.
    UserError
        If it is broken, or has more than a file of parameters can have.
    """
    try:
        return yaml.load(read_small(path).decode("utf-8"), _Loader)
    except (FileNotFoundError, UserError):
        raise
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise UserError(path, "unreadable", f"must be YAML ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return one_line(error).partition("; use sys.")[0]
