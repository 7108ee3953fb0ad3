"""What a user should know though nothing failed: notes, each shown once per command."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("microgan")


def warn(note: str) -> None:
    """Tell the user one sentence: what is doubtful, how it was read, what to do."""
    LOGGER.warning("%s", note)


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """Print warnings on standard error, each once: ``microgan: warning: ...``.

    For entry points (``stages``, ``microgan.cli``); a program that uses the library has handlers of its own.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("microgan: warning: %(message)s"))
    handler.addFilter(_Once())
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)


class _Once(logging.Filter):
    """Lets each message pass once."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_new = message not in self._shown
        self._shown.add(message)
        return is_new
