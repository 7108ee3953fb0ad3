"""A command that is ended from outside leaves nothing half-written."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from microgan.core.atomic import atomic
from tests.commands.helpers import run_command


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_drafts_are_removed(
    number: signal.Signals, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)

    def ended(config: Any, out: Path) -> None:
        with atomic(out) as draft:
            draft.mkdir()
            (draft / "half").touch()
            os.kill(os.getpid(), number)

    monkeypatch.setattr("microgan.commands.simulate.simulate_scan", ended)
    assert run_command(monkeypatch, "simulate", "--out", tmp_path / "new/o") == status
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) is before
