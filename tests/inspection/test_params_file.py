"""params.yaml as text: what is accepted is what YAML reads, and anything else is one line."""

from pathlib import Path

import pytest
import yaml

from microgan.core.errors import UserError
from microgan.inspection.params_file import must_be_plain, params_text, window_px_in

GOOD = (
    "",
    "a: 1\n",
    "a:\n- 1\n- 2\nb: [1,\n 2]\n",
    "a:\n  - x: 1\n    y: 2\n  - x: 3\nb: 'it''s # no'\nc: \"a \\\" b: c\"\n",
    "a: some long\n  text goes on\nb: {c: 1, d: [2, 3]}\n",
    "'a': 1\n\"b\": 2  # a [\n",
    "a: it's\nb: x[1]\nc: d]\n",
    "a:\r\n  b: 1\r\n",
)
BAD = (
    ("a:\n\tb: 1\n", "without tabs"),
    ("a: " + "[" * 50_000, "at most 32 inside of each other"),
    ("a: &x [1]\nb: [*x, *x]\n", "anchors and aliases are not read"),
    ("a: !!python/object:os.system x\n", "is no plain value"),
    ("a: 1\na: 2\n", "line 2: a: stands there twice"),
    ("a:\n  b: 1\n  'b': 2\n", "line 3: b: stands there twice"),
    ("a: |\n  x\n", "is no plain value"),
    ("a: 1\n  b: 2\n", "or stand under a section"),
    ("a:\n    b: 1\n  c: 2\n", "line 3"),
    ("a: b: c\n", "must have one value"),
    ("a: [1\n", "no ] at the end"),
    ("a: ]\n", "matching brackets"),
    ("a: {b: 1,\n c: 2}}\n", "matching brackets"),
    ("a: 'b\n", "no ' at the end"),
    ("x\n", "must be NAME: VALUE"),
    ("a: \x07\n", "control characters"),
    ("---\na: 1\n---\na: 2\n", "is no plain value"),
)


@pytest.mark.parametrize("text", GOOD)
def test_what_yaml_reads_is_accepted(text: str) -> None:
    yaml.safe_load(text)
    must_be_plain(text, "params.yaml")


@pytest.mark.parametrize(("text", "line"), BAD)
def test_anything_else_is_one_line(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        must_be_plain(text, "params.yaml")
    assert line in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "side"), [("64", 64), (" 1024  # px", 1024), ("16", 16)])
def test_the_side_of_windows_is_read(value: str, side: int) -> None:
    assert window_px_in(f"a: 1\nwindow_px: {value}\n", "params.yaml") == side


@pytest.mark.parametrize(
    "value",
    ["0", "0x40", "0100", "1:04", "2", "12", "1032", "9" * 5000, "", "64.0", "6_4", "64 64", "-64", "64#"],
)
def test_another_side_is_refused_as_the_stages_do(value: str) -> None:
    with pytest.raises(
        UserError, match=r"params\.yaml: window_px: .*must be a multiple of 8, from 16 to 1024"
    ):
        window_px_in(f"window_px: {value}\n", "params.yaml")


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("a: 1\n# Größe\nwindow_px: 64\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 2: byte 0xf6: must be text in UTF-8"):
        params_text(path)
    assert window_px_in("window_px: 64\nwindow_pxs: 1\n", path) == 64
    with pytest.raises(UserError, match="2 lines: must be there once"):
        window_px_in("window_px: 64\nwindow_px: 64\n", path)
