"""How long each stage took: kept while `make repro` runs, and told at its end.

``python -m stages.select`` begins the list, each stage adds itself, ``python -m stages.durations`` tells it.
Stages that are run in another way keep nothing.
"""

import time
from contextlib import suppress
from pathlib import Path

import psutil

from microgan.core.errors import UserError
from microgan.core.tables import number, read_table, text, write_csv

FILE = Path(".dvc/tmp/microgan_durations.csv")
COLUMNS = ("stage", "seconds")
START = "start"  # its seconds are since 1970
LEAST_MINUTES = 0.05  # shorter stages are summed up


def begin() -> None:
    """Begin the list, where DVC is set up."""
    if FILE.parent.is_dir():
        write_csv(FILE, COLUMNS, [(START, time.time())])


def add(name: str) -> None:
    """Add this stage, from the start of its process on."""
    if FILE.exists():
        with suppress(OSError), FILE.open("a") as file:
            file.write(f"{name},{time.time() - psutil.Process().create_time():.1f}\n")


def in_words(seconds: dict[str, float], whole: float) -> str:
    """Say where the time went, the longest first.

    Examples
    --------
    >>> in_words({"train@dcgan": 240.0, "ingest": 2.0, "learn_faults": 360.0}, 660.0)
    '11.0 minutes: learn_faults 6.0, train@dcgan 4.0, DVC and the rest 1.0'
    """
    minutes = {name: took / 60 for name, took in seconds.items() if took / 60 >= LEAST_MINUTES}
    parts = [f"{name} {took:.1f}" for name, took in sorted(minutes.items(), key=lambda item: -item[1])]
    rest = whole / 60 - sum(minutes.values())
    return f"{whole / 60:.1f} minutes: {', '.join([*parts, f'DVC and the rest {rest:.1f}'])}"


def main() -> None:
    """Run as a program, at the end of `make repro`."""
    if not FILE.exists():
        return
    try:
        rows = read_table(FILE, dict(zip(COLUMNS, (text, number), strict=True)))
    except UserError:  # two runs wrote it at once: figures that nobody needs
        return
    seconds = {row["stage"]: row["seconds"] for row in rows}
    start = seconds.pop(START, None)
    FILE.unlink(missing_ok=True)
    if start is not None and seconds:
        print(f"microgan: {in_words(seconds, time.time() - start)}")


if __name__ == "__main__":
    main()
