"""The command line: `app`, and the commands on it; they import their code when they run.

`scans`      commands that begin with a scan
`structures` commands of models and their samples
`options`    what several commands share
`targets`    what a command may not write

Torch takes seconds to import, and help and refusals must not.
"""

import io
import os
import sys
import traceback

import typer

from microgan.cli import scans, structures  # noqa: F401  each puts its commands into `app`
from microgan.cli.app import app
from microgan.cli.options import as_typed
from microgan.core.errors import DEBUG, UserError, defect_in_words, memory_is_full, one_line, printable
from microgan.core.notes import warnings_on_stderr
from microgan.core.signals import ended_by_signals

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line.

    Bad input ends in one line and exit status 2, a defect of microgan in one line and 70. After SIGTERM or
    SIGHUP, too, nothing is left half-written.
    """
    debug = _takes_debug()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may have bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        with ended_by_signals(), warnings_on_stderr():
            # Without a command, its help; usage errors are raised, as they would else be a box of many lines.
            status = app(prog_name="microgan", standalone_mode=len(sys.argv) < 2)
    except Exception as error:  # noqa: BLE001  the unknown, too, is one line
        if debug:
            traceback.print_exception(error)
        _leave(*_in_words(error))
    sys.exit(status or 0)


def _takes_debug() -> bool:
    """Return whether tracebacks are wanted: --debug may stand anywhere."""
    given = "--debug" in sys.argv[1:]
    sys.argv = [word for index, word in enumerate(sys.argv) if index == 0 or word != "--debug"]
    return given or bool(os.environ.get(DEBUG))


def _in_words(error: Exception) -> tuple[int, str]:
    """Return the exit status and the line for an error."""
    command = sys.argv[1:2]
    if isinstance(error, UserError):
        return 2, one_line(as_typed(error, command))
    if isinstance(error, OSError):
        return 2, one_line(error)
    if hasattr(error, "format_message"):  # of typer, or of click, on which earlier ones rest
        help_of = " ".join(["microgan", *(word for word in command if not word.startswith("-")), "--help"])
        said = printable(error.format_message()).removesuffix(".").replace("Value error, ", "")
        return 2, f"{said}; see {help_of}"
    if full := memory_is_full(error):
        return 2, full
    return 70, defect_in_words(error, "the same command with --debug shows")


def _leave(status: int, words: str) -> None:
    typer.echo(f"microgan: {words}", err=True)
    sys.exit(status)
