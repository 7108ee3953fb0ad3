"""The entry of a scan under ``scans:`` of params.yaml, written as text: every other byte stays.

The library reads no YAML. What it needs of the file are lines: where ``scans:`` begins and ends, and how its
entries are indented. Whatever looks otherwise is refused.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.core.words import PLAIN_NAME, PLAIN_NAME_RULE
from microgan.inspection.inspection import Inspection
from microgan.inspection.params_file import must_be_plain, params_text
from microgan.scan.config import ScanConfig

# Of the options of reading, those that an entry has only where they differ from the default.
OPTIONAL = (
    "planes", "exclude", "region", "dataset", "follow_outside", "largest_plane_px", "shape", "dtype",
    "byte_order", "voxel_size_um",
)  # fmt: skip
SPLIT = ("calibration", "held_out", "margin_px", "margin_planes", "unused")  # in the order of params.yaml
YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def must_be_name(name: str) -> None:
    """Refuse a name that YAML reads as something else, or that is no name of a folder.

    Raises
    ------
    UserError
        Names the rule.
    """
    if not re.fullmatch(PLAIN_NAME, name) or name.lower() in YAML_WORDS:
        raise UserError("--add", repr(name), PLAIN_NAME_RULE)


def entry_of(inspection: Inspection, path: str) -> dict[str, Any]:
    """Return the entry of a scan as plain values; ``path`` is that in the scan's folder.

    Raises
    ------
    UserError
        If polarity, radius band or split are in doubt.
    """
    proposal, split, config = inspection.proposal, inspection.split.split, inspection.config
    if proposal.polarity is None or proposal.radius_px is None:
        reason = "; ".join(proposal.doubts)
        rule = f"polarity and radius band are in doubt ({reason}): give --polarity and --radius MIN MAX"
        raise UserError("--add", inspection.path, rule)
    if split is None:
        raise UserError("--add", inspection.path, inspection.split.reason)
    defaults = ScanConfig(radius_px=proposal.radius_px)
    options = {name: getattr(config, name) for name in OPTIONAL}
    return {
        "path": path,
        "polarity": proposal.polarity,
        "radius_px": list(proposal.radius_px),
        "field_of_view": config.field_of_view,
        **{name: value for name, value in options.items() if value != getattr(defaults, name)},
        "split": {name: getattr(split, name) for name in SPLIT},
    }


def add_entry(params: Path, name: str, values: Mapping[str, Any]) -> None:
    """Write an entry into params.yaml, after the last one under ``scans:``.

    Raises
    ------
    UserError
        If the file is missing, has no such section, or has an entry of that name.
    """
    after = with_entry(params_text(params), name, values, params)
    with atomic(params.resolve()) as draft:  # a link stays one
        draft.write_bytes(after.encode("utf-8"))


def must_be_free(params: Path, name: str) -> None:
    """Refuse, before anything is copied, what `add_entry` would refuse."""
    must_be_name(name)
    if not params.is_file():
        raise UserError(params, "missing", "--add writes into params.yaml: run it in the project's folder")
    with_entry(params_text(params), name, {}, params)


def with_entry(text: str, name: str, values: Mapping[str, Any], where: object) -> str:
    r"""Return the text of params.yaml with one more entry.

    Examples
    --------
    >>> print(with_entry("scans:\n  a:\n    path: .\n\nseed: 0\n", "b", {"path": "x.tif"}, ""), end="")
    scans:
      a:
        path: .
      b:
        path: x.tif
    <BLANKLINE>
    seed: 0
    """
    must_be_plain(text, where)
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.split(newline)
    heads = [number for number, line in enumerate(lines) if re.match(r"scans[ \t]*:", line)]
    if len(heads) != 1 or not re.fullmatch(r"scans[ \t]*:[ \t]*(#.*)?", lines[heads[0]]):
        rule = "must have the line 'scans:' once, with an entry for each scan in the lines below it"
        raise UserError(where, "no section scans" if not heads else lines[heads[0]], rule)
    first = heads[0] + 1
    end = next((n for n in range(first, len(lines)) if re.match(r"[^\s#]", lines[n])), len(lines))
    filled = [n for n in range(first, end) if re.match(r"[ \t]+[^\s#]", lines[n])]
    indent = re.match(r"[ \t]*", lines[filled[0]])[0] if filled else "  "  # type: ignore[index]
    names = [_key(lines[n]) for n in filled if re.match(rf"{indent}\S", lines[n])]
    if name in names:
        raise UserError(f"{where}: scans.{name}", "exists", "take another name, or remove that entry")
    last = filled[-1] + 1 if filled else first
    entry = [f"{indent}{name}:", *_lines(values, 2 * indent, indent)]
    return newline.join([*lines[:last], *entry, *lines[last:]])


def _key(line: str) -> str:
    return line.strip().partition(":")[0].strip().strip("'\"")


def _lines(values: Mapping[str, Any], indent: str, step: str) -> list[str]:
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *_lines(value, indent + step, step)]
        else:
            lines.append(f"{indent}{name}: {_scalar(value)}")
    return lines


def _scalar(value: object) -> str:
    """Write a value so that YAML reads it back; JSON's strings are YAML's in double quotes."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and (
        value == "." or (PLAIN.fullmatch(value) and value.lower() not in YAML_WORDS)
    ):
        return value
    return json.dumps(value, ensure_ascii=False)
