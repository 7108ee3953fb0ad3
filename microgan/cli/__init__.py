"""The command line: `app`, and the commands on it; they import their code when they run.

`scans`      commands that begin with a scan
`structures` commands of models and their samples
`options`    what several commands share

Torch takes seconds to import, and help and refusals must not.
"""

import sys

import typer

from microgan.cli import scans, structures  # noqa: F401  each puts its commands into `app`
from microgan.cli.app import app
from microgan.cli.options import as_typed
from microgan.core.errors import UserError, one_line
from microgan.core.notes import warnings_on_stderr

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 2."""
    try:
        with warnings_on_stderr():
            app(prog_name="microgan")
    except UserError as error:
        _leave(one_line(as_typed(error, sys.argv[1:2])))
    except OSError as error:
        _leave(one_line(error))
    except MemoryError as error:
        _leave(f"memory is full: {one_line(error) or 'use fewer or smaller images'}")


def _leave(words: str) -> None:
    typer.echo(f"microgan: {words}", err=True)
    sys.exit(2)
