"""What the tests of the commands share."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from microgan import cli

ROOT = Path(__file__).parents[2]


def run_command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line; returns the exit status."""
    monkeypatch.setattr("sys.argv", ["microgan", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    status = int(ended.value.code or 0)
    assert status != 70, "a defect: an error that nobody foresaw"
    return status


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file, a dictionary for each row."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def json_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> dict[str, Any]:
    """Run a command with --json, which must leave nothing else on standard output."""
    capsys.readouterr()
    assert run_command(monkeypatch, *words, "--json") == 0
    return json.loads(capsys.readouterr().out)
