"""Warnings reach the user once per command, and handlers do not pile up."""

import logging

import pytest

from microgan.core.notes import LOGGER, warn, warnings_on_stderr


def test_each_warning_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with warnings_on_stderr():
            for note in ("a.tif: one", "b.tif: two", "a.tif: one", "100 %s"):
                warn(note)
        lines = capsys.readouterr().err.splitlines()
        assert lines == [f"microgan: warning: {note}" for note in ("a.tif: one", "b.tif: two", "100 %s")]
    assert LOGGER.handlers == []


def test_the_library_leaves_warnings_to_its_user(caplog: pytest.LogCaptureFixture) -> None:
    warn("a.tif: one")
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("microgan", logging.WARNING, "a.tif: one")


def test_the_handler_goes_when_a_command_fails() -> None:
    with pytest.raises(KeyError), warnings_on_stderr():
        raise KeyError
    assert LOGGER.handlers == []
