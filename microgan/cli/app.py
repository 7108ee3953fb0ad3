"""Valid synthetic microstructures: inspect, calibrate, train, sample, validate, compare, export, homogenise.

Commands print a short result on standard output, or with --json one JSON object; progress bars and errors go
to standard error. The exit status is 0 on success, 2 for bad input (explained in one line), 1 for a negative
result under --strict, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, and 70 for a defect of
microgan. Files are written whole or not at all.
"""

from typing import Annotated

import typer

from microgan import __version__

app = typer.Typer(
    help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="After an error, print where in the program it arose.")
    ] = False,
) -> None:
    pass
