"""JSON: one reader, one line for whatever is wrong, and the digest of files that are not edited by hand."""

from pathlib import Path

import pytest

from microgan.core.errors import UserError
from microgan.core.json_files import read_json, read_sealed_json, write_json, write_sealed_json


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "must hold a JSON object (Expecting value"),
        ('{"a": 1', "must hold a JSON object (Expecting"),
        ("[" * 100_000, "unreadable: too many brackets"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "must have at most 32 brackets inside of each other"),
        ('{"a": ' + "7" * 5000 + "}", "Exceeds the limit (4300 digits)"),
        ('{"a": {"b": [1, ' + "7" * 4000 + "]}}", "a.b.1: a number of 13288 bits: must be below 2^63"),
        ('{"a": {"b": 1, "b": 2}}', "b: stands there twice: must be there once"),
        ('{"a": NaN}', "a: nan: must be finite"),
        ('{"a": [1e999]}', "a.0: inf: must be finite"),
        ('[["a", 1]]', "[['a', 1]]: must hold a JSON object"),
        ("null", "None: must hold a JSON object"),
        (b'{"a": "\xff"}', "must hold a JSON object ('utf-8' codec"),
        (b"\0", "must hold a JSON object"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_json_object_is_one_line(tmp_path: Path, content: str | bytes, line: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_json(path)
    text = str(error.value)
    assert text.startswith(str(path)) and line in text and len(text) < 400 and "\n" not in text


def test_missing_files_and_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: missing"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UserError, match="is a folder: must be a file"):
        read_json(tmp_path)


def test_a_sealed_file_shows_every_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.json"
    content = {"name": "a", "values": [0.1, 2, None], "of": {"b": True}}
    write_sealed_json(path, content)
    assert read_sealed_json(path, "make it anew", dict) == content
    whole = read_json(path)
    for changed in ({"name": "b"}, {"values": [0.1, 2]}, {"of": {}}, {"more": 1}, {"digest": "0" * 64}):
        write_json(path, whole | changed)
        with pytest.raises(UserError, match=r"changed since it was written: .*: make it anew"):
            read_sealed_json(path, "make it anew", dict)
    assert not caplog.text
    write_json(path, content)  # as earlier versions wrote it
    assert read_sealed_json(path, "make it anew", dict) == content
    assert "x.json: has no digest" in caplog.text
