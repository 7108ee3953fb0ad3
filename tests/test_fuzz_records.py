"""Damaged cards, references, weights, tables and parameters: one line, or what was written."""

from pathlib import Path

from benchmarks.fuzz import fuzz
from benchmarks.fuzz_records import TARGETS

TRIES = 3  # of each target; `python -m benchmarks.fuzz` does thousands


def test_a_damaged_record_is_one_line_or_what_was_written(tmp_path: Path) -> None:
    tries = list(fuzz(TARGETS, TRIES * len(TARGETS), 25, tmp_path))
    assert len(tries) == TRIES * len(TARGETS)
    wrong = [done for done in tries if done.outcome not in ("one line", "accepted")]
    assert not wrong
