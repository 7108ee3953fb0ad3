"""What dvc.yaml says of a stage: the parameters and files that it reads, the places that it writes.

DVC records both as they are at the stage's end. Where they changed while it ran, its results would be
recorded as those of other parameters or of other code. So they are compared with those of its start.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import yaml

from microgan.core.errors import UserError
from microgan.core.files import file_sha256

FILES = (Path("dvc.yaml"), Path("data/raw/dvc.yaml"))
SMALL_BYTES = 1 << 20  # the content of larger files is not compared, but their size and time
MISSING = "missing"
PARAMS = "params.yaml: "  # before the path of a parameter


@dataclass(frozen=True)
class Declaration:
    """What one stage reads and writes; nothing where there is no dvc.yaml."""

    params: tuple[str, ...] = ()
    deps: tuple[Path, ...] = ()
    outs: tuple[Path, ...] = ()

    @classmethod
    def of(cls, name: str, params: Mapping[str, Any]) -> Self:
        """Read the entry of a stage, say ``train@dcgan``; `DVC` itself reports errors of the file."""
        stage, _, item = name.partition("@")
        entries = (stages[stage] for stages in map(_stages, FILES) if stage in stages)
        content: dict[str, Any] = next(entries, {})
        fill = {**params, **{f"item.{key}": item for key in content.get("matrix", ())}}
        read = {key: [_filled(entry, fill) for entry in _names(content.get(key))] for key in _KEYS}
        outs = [*read["outs"], *read["metrics"], *read["plots"]]
        return cls(tuple(read["params"]), tuple(map(Path, read["deps"])), tuple(map(Path, outs)))

    def state(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Return what the stage reads, in a form that differs when it has changed."""
        values = (_leaves(path, _value(params, path)) for path in self.params)
        return dict(chain.from_iterable(values)) | {
            str(file): _content(file) for dep in self.deps for file in _files(dep)
        }

    def must_be(self, before: Mapping[str, str], params: Mapping[str, Any]) -> None:
        """Raise `UserError` where what the stage reads is no longer as it was ``before``."""
        after = self.state(params)
        rule = "changed while the stage ran, so its results are not kept; earlier ones stay: run it again"
        for name in sorted(before.keys() | after.keys()):
            was, is_now = before.get(name, MISSING), after.get(name, MISSING)
            if was != is_now:
                is_param = name.startswith(PARAMS)
                raise UserError(name, f"{was} became {is_now}" if is_param else "another content", rule)


_KEYS = ("params", "deps", "outs", "metrics", "plots")


def _stages(file: Path) -> dict[str, Any]:
    try:
        stages = yaml.safe_load(file.read_text())["stages"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return {}
    return {name: entry for name, entry in dict(stages).items() if isinstance(entry, dict)}


def _names(entries: object) -> list[str]:
    """Return the paths of entries, of which each may have options below it."""
    listed = entries if isinstance(entries, list) else []
    return [str(next(iter(entry)) if isinstance(entry, dict) and entry else entry) for entry in listed]


def _filled(text: str, params: Mapping[str, Any]) -> str:
    """Put parameters in the place of ``${NAME}``, as DVC does."""
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_value(params, found[1])), text)


def _value(params: Mapping[str, Any], path: str) -> Any:
    if path in params:
        return params[path]
    value: Any = params
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _leaves(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the path and value of each parameter below ``path``."""
    if isinstance(value, Mapping) and value:
        for name, below in value.items():
            yield from _leaves(f"{path}.{name}", below)
    else:
        yield f"{PARAMS}{path}", json.dumps(value, default=str, sort_keys=True)


def _files(dep: Path) -> Iterator[Path]:
    if not dep.is_dir():
        yield dep
        return
    for file in dep.rglob("*"):
        names = file.relative_to(dep).parts
        hidden = any(
            name.startswith(".") or name == "__pycache__" for name in names
        )  # drafts, editors' files
        if not hidden and file.is_file():
            yield file


def _content(file: Path) -> str:
    try:
        size, time = file.stat().st_size, file.stat().st_mtime_ns
        return file_sha256(file) if size <= SMALL_BYTES else f"{size} bytes of {time}"
    except OSError:
        return MISSING
