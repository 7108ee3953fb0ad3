"""An entry of params.yaml is added as text, and YAML reads it back."""

from pathlib import Path

import pytest
import yaml

from microgan.core.errors import UserError
from microgan.inspection.entry import must_be_name, with_entry
from microgan.scan.config import ScanConfig
from stages.stage import _must_be_plain

TEXT = (Path(__file__).parents[2] / "params.yaml").read_text()
VALUES = {
    "path": "0103 a: b#.tif",
    "polarity": "dark",
    "radius_px": [4.0, 8.5],
    "field_of_view": "auto",
    "planes": "10:200:4",
    "shape": [8, 64, 64],
    "split": {
        "calibration": "104:128",
        "held_out": [130, 131],
        "margin_px": 16,
        "margin_planes": 2,
        "unused": [],
    },
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_entry_is_added_and_every_other_byte_stays(newline: str) -> None:
    before = TEXT.replace("\n", newline)
    after = with_entry(before, "mine", VALUES, "params.yaml")
    start = after.index("  mine:")
    end = start + len(after) - len(before)
    assert after[:start] + after[end:] == before
    read = yaml.safe_load(after)
    assert read["scans"].pop("mine") == VALUES and read == yaml.safe_load(before)
    ScanConfig.from_mapping(VALUES, "scans.mine")


def test_an_entry_follows_the_indentation_of_the_file() -> None:
    text = "scan: a\nscans:   # all of them\n    a:\n        path: .\n    # the end\nseed: 0"
    after = with_entry(text, "b", {"path": ".", "split": {"held_out": 0.2}}, "params.yaml")
    assert after.splitlines()[4:8] == [
        "    b:",
        "        path: .",
        "        split:",
        "            held_out: 0.2",
    ]
    assert yaml.safe_load(after)["scans"]["b"] == {"path": ".", "split": {"held_out": 0.2}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 0\n", "params.yaml: no section scans: must have the line 'scans:' once"),
        ("scans: {a: {path: .}}\n", "must have the line 'scans:' once"),
        ("scans:\n  mine:\n    path: .\n", "params.yaml: scans.mine: exists"),
        ("scans:\n  'mine':\n    path: .\n", "params.yaml: scans.mine: exists"),
    ],
)
def test_what_cannot_take_an_entry_is_refused(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line.replace(".", r"\.")):
        with_entry(text, "mine", VALUES, "params.yaml")


@pytest.mark.parametrize("name", ["on", "No", "0103", "2026-11-27", "my scan", "my.scan", "", "../x", "a:b"])
def test_a_name_that_yaml_reads_as_something_else_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="must"):
        must_be_name(name)
    with pytest.raises(UserError):
        _must_be_plain(yaml.safe_load(name) if name != "a:b" else name, "scans")


@pytest.mark.parametrize("name", ["mine", "scan_0103", "A-b"])
def test_other_names_are_taken(name: str) -> None:
    must_be_name(name)
    _must_be_plain(name, "scans")
