"""YAML: bounded in time and memory, and one line for whatever is wrong."""

from pathlib import Path

import pytest

from microgan.core.errors import UserError
from stages.stage import load_params, scan_name, window_px
from stages.yaml_file import read_yaml

# 9 values, repeated 9 times, ten times over: 500 bytes that stand for 3 10^10 values
ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (ALIASES, "more than 100000 values, with those that aliases repeat"),
        ("scan: " + "[" * 100_000, "more than 32 sections or lists inside of each other"),
        ("a: &a [*a]", "an alias stands for what it is inside of"),
        ("a: " + "1" * 5000, "Exceeds the limit (4300 digits)"),
        ("a: 2024-99-99", "must be YAML"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: \0", "must be YAML"),
    ],
    ids=["aliases", "brackets", "recursion", "number", "date", "python", "nul"],
)
def test_hostile_yaml_is_one_line(tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    assert line in str(error.value) and "\n" not in str(error.value)


def test_aliases_that_are_few_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a [1, 2]\nb: [*a, *a]\nc: {<<: {d: 1}, e: 2}\n")
    values = {"a": [1, 2], "b": [[1, 2], [1, 2]], "c": {"d": 1, "e": 2}}
    assert read_yaml(tmp_path / "x.yaml") == values


@pytest.mark.parametrize(
    "scan", [[1], {"a": 1}, None, 10**5000, "x" * 10**6], ids=["list", "section", "none", "number", "text"]
)
def test_a_scan_that_is_no_name_is_one_line(scan: object) -> None:
    with pytest.raises(UserError, match=r"scan: .*must be one of mine") as error:
        scan_name({"scan": scan, "scans": {"mine": {}}})
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "side", [[64], "64", 10**5000, 8, 10**6], ids=["list", "text", "long", "small", "large"]
)
def test_a_window_that_is_none_is_one_line(side: object) -> None:
    with pytest.raises(UserError, match=r"window_px: .*must be a multiple of 8, from 16 to") as error:
        window_px({"window_px": side})
    assert len(str(error.value)) < 400
