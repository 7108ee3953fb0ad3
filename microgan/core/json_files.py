"""JSON files: the one place where they are read and written, and the digest that some have of themselves."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from microgan.core.errors import UserError, one_line, shortened, shortened_name
from microgan.core.files import atomic, read_small
from microgan.core.notes import warn

T = TypeVar("T")
DEEPEST = 32  # objects and lists inside of each other; files of microgan have less than ten
LARGEST_INTEGER = 2**63
DIGEST = "digest"  # field of a file that has the SHA-256 of all its other fields


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON; NaN and infinity are refused, as JSON has neither."""
    text = json.dumps(content, indent=2, allow_nan=False, default=_plain) + "\n"
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    UserError
        If the file is missing or broken, no file but a pipe or a device, or has what no file of microgan
        has: NaN and infinity, numbers of more than 64 bits, a name twice in an object, more than `DEEPEST`
        objects and lists inside of each other.
    """
    try:
        text = read_small(path)
        content = json.loads(text, object_pairs_hook=lambda pairs: _Fields(path, pairs))
    except FileNotFoundError:
        raise UserError(path, "missing", "file must exist") from None
    except RecursionError:
        raise UserError(path, "unreadable", "too many brackets inside of each other") from None
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(path, "unreadable", f"must hold a JSON object ({_reason(error)})") from None
    if not isinstance(content, dict):
        rule = "must hold a JSON object, { ... }"
        raise UserError(path, shortened(content, 40), rule)
    for name, value, depth in _values(content):
        if depth > DEEPEST:
            raise UserError(path, "unreadable", f"must have at most {DEEPEST} brackets inside of each other")
        if isinstance(value, float) and not np.isfinite(value):
            raise UserError(f"{path}: {shortened_name(name)}", value, "must be finite")
        if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
            raise UserError(f"{path}: {shortened_name(name)}", value, "must be below 2^63")
    return content


def read_numbers(path: str | Path) -> dict[str, float | None]:
    """Read numbers by their names; null where one is not known.

    Raises
    ------
    UserError
        As `read_json` does, or if a value is no number.
    """
    content = read_json(path)
    for name, value in content.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"{path}: {shortened_name(name)}", value, "must be a number, or null")
    return content


class _Fields(dict[str, Any]):
    """The fields of a JSON object; one that is missing is told with the file."""

    def __init__(self, path: str | Path, fields: Sequence[tuple[str, Any]]) -> None:
        super().__init__(fields)
        if len(self) < len(fields):
            twice = next(name for name, count in Counter(name for name, _ in fields).items() if count > 1)
            raise UserError(f"{path}: {shortened_name(twice)}", "stands there twice", "must be there once")
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise UserError(self._path, f"no {name}", "must have it: make the file again with what wrote it")


def _reason(error: Exception) -> str:
    return one_line(error).removeprefix("disk: ").partition("; use sys.")[0]


def _values(content: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Yield each value with its path (``scan.shape.0``) and the number of brackets around it."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        yield path, value, depth
        if depth > DEEPEST or not isinstance(value, dict | list):
            continue
        items = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [(f"{path}.{name}" if path else f"{name}", inner, depth + 1) for name, inner in items]


def write_sealed_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` with a digest of itself, so that `read_sealed_json` notices every change."""
    plain = json.loads(json.dumps(content, allow_nan=False, default=_plain))
    write_json(path, {**plain, DIGEST: digest_of(plain)})


def read_sealed_json(path: str | Path, remedy: str, kind: Callable[[dict[str, Any]], T]) -> T:
    """Read what `write_sealed_json` wrote, without its digest.

    Files of earlier versions have no digest and are accepted, with a warning.

    Parameters
    ----------
    path
        The file.
    remedy
        What to do where the file was changed.
    kind
        Makes of the fields what is returned, or raises `UserError` where it is no file of this kind.

    Raises
    ------
    UserError
        As `read_json` does, or if the file was changed since it was written.
    """
    content = read_json(path)
    digest = content.pop(DIGEST, None)
    if digest is not None and digest != digest_of(content):
        raise UserError(path, "changed since it was written", f"must have the digest that it names: {remedy}")
    value = kind(content)
    if digest is None:
        warn(f"{path}: has no digest, as those of earlier versions: a change by hand would not be noticed")
    return value


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the values of a JSON object, whatever the order of its fields, 64 hex digits."""
    text = json.dumps({name: content[name] for name in content if name != DIGEST}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
