"""What the fuzzer knows of a kind of file, and mutations that suit any: bytes, cuts, numbers at their limits.

Add a kind: a module with a tuple ``TARGETS`` of `Target`, named in `benchmarks.fuzz.MODULES`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

LIMITS = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 99, 127, 128, 255, 256, 1000, 32767, 32768,
    65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
WORDS = (
    "", "0", "-1", "1", "7", "1e308", "-1e308", "nan", "inf", "-inf", "1e-320", "99999999999", "1" * 400,
    "abc", "true", "null", "[]", "{}", "0x10", "1 1", "\u00b5m", "../../etc/passwd", "\x00", "%s", "=1+1",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes
    ----------
    name
        In the table.
    seeds
        Writes valid inputs into a folder and returns their paths: files, or folders of which one file at a
        time is mutated.
    read
        Reads an input as the product does, all of it; returns what was read, comparable by `same_content`.
        A `UserError` is the one error that counts as right.
    mutations
        By name.
    keeping
        Names of the mutations that leave the content as it is: what is accepted must be the content of the
        seed, or come with a warning.
    """

    name: str
    seeds: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], object]
    mutations: Mapping[str, Mutation]
    keeping: frozenset[str] = frozenset()


def same_content(one: object, other: object) -> bool:
    """Whether two contents are equal: arrays (NaN equals NaN), or anything that compares by ``==``."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return bool(one == other)


# Bytes -------------------------------------------------------------------------------------------------


def any_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace 1 to 8 bytes anywhere, or flip single bits."""
    return _bytes_at(data, np.arange(len(data)), rng)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut the file short."""
    return data[: int(rng.integers(0, max(len(data), 1)))]


def spliced(data: bytes, rng: np.random.Generator) -> bytes:
    """Remove, repeat or insert a piece."""
    start, length = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 65))
    kept = (data[start : start + length], b"", data[start : start + length] * 2)[int(rng.integers(3))]
    more = rng.bytes(length) if rng.random() < 0.3 else b""
    return data[:start] + kept + more + data[start + length :]


def header_bytes(*pixels: bytes) -> Mutation:
    """Return a mutation that replaces bytes outside of ``pixels``."""
    return lambda data, rng: _bytes_at(data, _outside(data, pixels), rng)


def header_numbers(*pixels: bytes) -> Mutation:
    """Return a mutation that writes a number at its limit outside of ``pixels``."""

    def mutate(data: bytes, rng: np.random.Generator) -> bytes:
        places, size = _outside(data, pixels), int(rng.choice((1, 2, 4, 8)))
        at = int(rng.choice(places)) // min(size, 2) * min(size, 2)
        order: Literal["little", "big"] = "little" if rng.random() < 0.7 else "big"
        old = int.from_bytes(data[at : at + size], order)
        return data[:at] + at_limit(old, size, rng).to_bytes(size, order) + data[at + size :]

    return mutate


def at_limit(old: int, size: int, rng: np.random.Generator) -> int:
    """Return a number of ``size`` bytes: a limit, or near the number that was there."""
    near = (old + 1, old - 1, 2 * old, old // 2, old ^ 1, 256 * old)
    numbers = (*LIMITS, *near) if rng.random() < 0.6 else near
    return numbers[int(rng.integers(len(numbers)))] % 256**size


def _outside(data: bytes, pixels: Sequence[bytes]) -> np.ndarray:
    is_header = np.ones(len(data), bool)
    for values in pixels:
        at = data.find(values)
        if at >= 0:
            is_header[at : at + len(values)] = False
    return np.flatnonzero(is_header)


def _bytes_at(data: bytes, places: np.ndarray, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    if len(places):
        for at in rng.choice(places, int(rng.integers(1, 9))):
            changed[at] = (
                changed[at] ^ (1 << int(rng.integers(8))) if rng.random() < 0.5 else rng.integers(256)
            )
    return bytes(changed)


# Text --------------------------------------------------------------------------------------------------


def text_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Remove, repeat or exchange a line among the first 40, or replace a word of it."""
    end = _end_of_text(data)
    lines = data[:end].split(b"\n")
    head = min(len(lines), 40)
    at, kind = int(rng.integers(head)), int(rng.integers(5))
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        other = int(rng.integers(head))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        words = re.split(rb"([^\w.+-]+)", lines[at])
        words[int(rng.integers(len(words)))] = _word(rng).encode()
        lines[at] = b"".join(words)
    return b"\n".join(lines) + data[end:]


def _end_of_text(data: bytes) -> int:
    """Return where values begin after a header in text: an empty line, or the last field of MetaImage."""
    if data.startswith(b"NRRD"):
        return data.index(b"\n\n") + 1
    at = data.find(b"ElementDataFile")
    return len(data) if at < 0 else data.index(b"\n", at)


def _word(rng: np.random.Generator) -> str:
    return (
        WORDS[int(rng.integers(len(WORDS)))]
        if rng.random() < 0.6
        else str(rng.choice(np.array(LIMITS, object)))
    )


def json_values(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace, remove, repeat or nest a value of a JSON file."""
    root = json.loads(data)
    places = list(_places(root))
    if not places:
        return b"[]"
    holder, key = places[int(rng.integers(len(places)))]
    kind = int(rng.integers(6))
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif kind == 2:
        holder[key] = [holder[key]]
    elif kind == 3 and isinstance(holder[key], int | float):
        holder[key] = type(holder[key])(-holder[key])
    else:
        holder[key] = _json_value(rng)
    return json.dumps(root).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def _json_value(rng: np.random.Generator) -> object:
    values: tuple[object, ...] = (
        None, True, False, [], {}, "", "abc", "\u00b5", [[]], {"a": 1}, 0.5, -0.5, 1e308, -1e308,
        float("nan"), float("inf"), float("-inf"), 10**400, [1, 2, 3], "1", "nan",
    )  # fmt: skip
    if rng.random() < 0.6:
        return values[int(rng.integers(len(values)))]
    return int(rng.choice((-1, 1))) * LIMITS[int(rng.integers(len(LIMITS)))]


def json_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace a JSON file by one that parsers stumble over, or insert brackets."""
    texts = (
        b"", b"null", b"[]", b"1", b'"a"', b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"{", b'{"a": 1,}',
        b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'{"a": 1e99999}',
    )  # fmt: skip
    if rng.random() < 0.5:
        return texts[int(rng.integers(len(texts)))]
    at = int(rng.integers(len(data) + 1))
    return data[:at] + b"[{"[int(rng.integers(2)) :] * int(rng.choice((1, 3, 20_000))) + data[at:]


def table_cells(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace, remove or add a cell, a row or a column name of a CSV file."""
    rows = [line.split(b",") for line in data.rstrip(b"\n").split(b"\n")]
    row = 0 if rng.random() < 0.3 else int(rng.integers(len(rows)))
    col, kind = int(rng.integers(len(rows[row]))), int(rng.integers(6))
    if kind == 0:
        del rows[row]
    elif kind == 1:
        rows.insert(row, list(rows[row]))
    elif kind == 2:
        del rows[row][col]
    elif kind == 3:
        rows[row].insert(col, _word(rng).encode())
    else:
        rows[row][col] = _word(rng).encode()
    return b"\n".join(b",".join(cells) for cells in rows) + b"\n"


TEXT: Mapping[str, Mutation] = {"bytes": any_bytes, "cut": cut, "spliced": spliced, "lines": text_lines}
JSON: Mapping[str, Mutation] = {"bytes": any_bytes, "cut": cut, "values": json_values, "text": json_text}
CSV: Mapping[str, Mutation] = {"bytes": any_bytes, "cut": cut, "cells": table_cells}
