"""A small part of ``python -m benchmarks.fuzz``: damaged files end in one line, or are read."""

from pathlib import Path

import pytest

from benchmarks.fuzz import FAILURES, fuzz, main, targets
from benchmarks.fuzz_targets import Target
from microgan.core.errors import UserError
from microgan.core.notes import warn

TRIES = 30  # for each kind of file


def test_damaged_files(tmp_path: Path) -> None:
    chosen = targets()
    results = list(fuzz(chosen, TRIES * len(chosen), 25, tmp_path))
    assert [result.number for result in results] == list(range(TRIES * len(chosen)))
    assert [result for result in results if result.outcome in FAILURES] == []
    for target in chosen:
        outcomes = [result.outcome for result in results if result.target == target.name]
        assert "one line" in outcomes, target.name  # the files are damaged,
    assert sum(result.outcome == "accepted" for result in results) > len(results) // 10  # not beyond reading


def _target(tmp_path: Path, read: object) -> Target:
    def seeds(folder: Path) -> list[Path]:
        (folder / "a.txt").write_text("0")
        return [folder / "a.txt"]

    def mutated(data: bytes, _: object) -> bytes:
        return b"1"

    return Target("text", seeds, read, {"one": mutated}, frozenset({"one"}))  # type: ignore[arg-type]


def _fails(path: Path) -> str:
    text = path.read_text()
    if text == "1":
        raise KeyError("defect")
    return text


def _refuses(path: Path) -> str:
    text = path.read_text()
    if text == "1":
        raise UserError(path, text, "must be 0")
    return text


def _warns(path: Path) -> str:
    text = path.read_text()
    if text == "1":
        warn("odd")
    return text


def _dies(path: Path) -> str:
    import os

    if path.read_text() == "1":
        os.abort()
    return "0"


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (_fails, "traceback"),
        (_refuses, "one line"),
        (_warns, "accepted"),
        (Path.read_text, "other content"),
        (lambda _: "0", "accepted"),
        (_dies, "crash"),
    ],
)
def test_each_outcome_is_seen(tmp_path: Path, read: object, outcome: str) -> None:
    results = list(fuzz([_target(tmp_path, read)], 2, 0, tmp_path, tmp_path / "kept"))
    assert [result.outcome for result in results] == [outcome] * 2
    assert (tmp_path / "kept" / "1_a.txt").exists() == (outcome in FAILURES)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tries", "4", "--only", "NPY"]) == 0
    assert "| file | one line | accepted |" in capsys.readouterr().out
