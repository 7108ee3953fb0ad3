"""Damaged files, read as the product reads them: ``python -m benchmarks.fuzz [--tries 5000] [--seed 0]``.

Each try mutates a small valid file (bytes, cuts, headers by structure, numbers at their limits) and reads it,
in a forked child under limits of memory and time. What comes of it:

- one line: a `UserError`, which is right;
- accepted: it was read, with the content of the valid file, or with a warning, or pixels were mutated;
- other content: it was read without a warning, and differs though pixels were left alone. Some of these are
  valid files of another kind (more rows, another type): they are looked at, not counted as failures;
- traceback, too slow, crash: failures. The file is kept in ``--keep`` and the exit status is 1.
"""

import argparse
import contextlib
import faulthandler
import gc
import logging
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.fuzz_targets import Target, same_content
from microgan.core.errors import UserError
from microgan.core.notes import LOGGER

MODULES = ("benchmarks.fuzz_images", "benchmarks.fuzz_records")  # each has a tuple TARGETS

OUTCOMES = ("one line", "accepted", "other content", "traceback", "too slow", "crash")
UNKNOWN = "?"  # what a child that is gone was at
FAILURES = ("traceback", "too slow", "crash")

MEMORY_BYTES = 3 << 30  # beyond what is mapped when a child begins
SLOW_S = 10.0  # of the processor
HANGS_S = 30.0  # of the clock


@dataclass(frozen=True)
class Try:
    """One mutated file: its number, target, mutation, outcome, and what was said."""

    number: int
    target: str
    mutation: str
    outcome: str
    said: str


def targets(names: Sequence[str] = ()) -> tuple[Target, ...]:
    """Return all targets, or those whose name begins with one of ``names``."""
    known = tuple(target for module in MODULES for target in import_module(module).TARGETS)
    return tuple(target for target in known if not names or target.name.startswith(tuple(names)))


def fuzz(
    chosen: Sequence[Target], tries: int, seed: int, folder: Path, keep: Path | None = None
) -> Iterator[Try]:
    """Yield what comes of ``tries`` mutated files, in turns of the targets; failures are copied to ``keep``.

    Try ``number`` depends on the seed and its number alone, so that one alone can be repeated.
    """
    seeds = {target.name: _seeds(target, folder) for target in chosen}

    def work(number: int) -> Try:
        result = _one(chosen[number % len(chosen)], seeds, seed, number, folder)
        if result.outcome in FAILURES:  # here, as this process goes on to the next
            _keep(folder, keep, number)
        return result

    number = 0
    while number < tries:
        for result in _in_child(work, number, tries):
            number = result.number + 1
            if result.target == UNKNOWN:  # the child is gone
                _keep(folder, keep, result.number)
            yield result


@dataclass(frozen=True)
class Seed:
    """A valid input, its content, and what reading it warns of, without its path."""

    path: Path
    content: object
    notes: frozenset[str]


def _seeds(target: Target, folder: Path) -> list[Seed]:
    """Write the valid inputs of a target, and read each."""
    home = folder / "seeds" / target.name
    home.mkdir(parents=True)
    seeds = []
    for path in target.seeds(home):
        with _warned(path) as notes:
            content = target.read(path)
        seeds.append(Seed(path, content, frozenset(notes)))
    return seeds


def _one(target: Target, seeds: dict[str, list[Seed]], seed: int, number: int, folder: Path) -> Try:
    rng = np.random.default_rng((seed, number))
    source = seeds[target.name][int(rng.integers(len(seeds[target.name])))]
    names = sorted(target.mutations)
    mutation = names[int(rng.integers(len(names)))]
    path, mutation = _mutated(source.path, target, mutation, rng, folder)
    outcome, said = _outcome(target, path, source, mutation)
    return Try(number, target.name, f"{source.path.name}: {mutation}", outcome, said)


def _mutated(
    source: Path, target: Target, mutation: str, rng: np.random.Generator, folder: Path
) -> tuple[Path, str]:
    """Write a mutated copy of an input, of a folder one file of it; return it and the mutation's name."""
    home = folder / "try"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    path = home / source.name
    if source.is_dir():
        shutil.copytree(source, path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        file = files[int(rng.integers(len(files)))]
    else:
        file = path
    data = (file if source.is_dir() else source).read_bytes()
    try:
        changed = target.mutations[mutation](data, rng)
    except ValueError:  # a structure that this file of the folder does not have
        mutation = "bytes"
        changed = target.mutations[mutation](data, rng)
    file.write_bytes(changed)
    return path, mutation


def _outcome(target: Target, path: Path, source: Seed, mutation: str) -> tuple[str, str]:
    began = time.process_time()
    try:
        with _warned(path) as notes:
            read = target.read(path)
        is_told = bool(set(notes) - source.notes)
        same = mutation not in target.keeping or is_told or same_content(read, source.content)
        result = ("accepted" if same else "other content", _shape(read))
    except UserError as error:
        text = str(error)
        result = ("traceback", f"of more than one line: {text!r}") if "\n" in text else ("one line", text)
    except Exception as error:  # noqa: BLE001  # which is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        result = (
            "traceback",
            f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})",
        )
    seconds = time.process_time() - began
    return ("too slow", f"{seconds:.1f} s, {result[1]}") if seconds > SLOW_S else result


def _shape(read: object) -> str:
    return f"{read.shape} {read.dtype}" if isinstance(read, np.ndarray) else type(read).__name__


@contextlib.contextmanager
def _warned(path: Path) -> Iterator[list[str]]:
    """Yield what the user is warned of, without the path."""
    notes: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: notes.append(record.getMessage().replace(str(path), ""))  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield notes
    finally:
        LOGGER.removeHandler(handler)


# Children ----------------------------------------------------------------------------------------------


def _in_child(work: Callable[[int], Try], first: int, end: int) -> Iterator[Try]:
    """Yield the results of a forked child until it ends; what ends or stops it is a result, too."""
    reading, writing = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        _child(work, range(first, end), writing)
    writing.close()
    number, said = first, ""
    try:
        while number < end and reading.poll(HANGS_S):
            result = reading.recv()
            if isinstance(result, str):
                raise RuntimeError(f"try {number}: {result}")
            number = result.number + 1
            yield result
        if number < end:
            yield Try(number, UNKNOWN, UNKNOWN, "too slow", f"more than {HANGS_S:g} s")
    except EOFError:
        _, status = os.waitpid(child, 0)
        child = 0
        said = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {status >> 8}"
    finally:
        reading.close()
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if said:
        yield Try(number, UNKNOWN, UNKNOWN, "crash", said)


def _child(work: Callable[[int], Try], numbers: range, writing: Connection) -> None:
    """Do the work in this process, which ends here."""
    gc.disable()
    faulthandler.disable()
    nothing = os.open(os.devnull, os.O_WRONLY)  # C libraries print what they think of a file
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        try:
            result: Try | str = work(number)
        except BaseException:  # noqa: BLE001  # a fault of the fuzzer itself
            result = traceback.format_exc()
        writing.send(result)
    os._exit(0)


def _keep(folder: Path, keep: Path | None, number: int) -> None:
    """Copy the input of a failed try."""
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    for path in (folder / "try").glob("*"):
        to = keep / f"{number}_{path.name}"
        (shutil.copytree if path.is_dir() else shutil.copy)(path, to)


# The table ---------------------------------------------------------------------------------------------


def table(counts: Counter[tuple[str, str]]) -> str:
    """Return a Markdown table of outcomes by target."""
    names = sorted({target for target, _ in counts})
    rows = [(name, [counts[name, outcome] for outcome in OUTCOMES]) for name in names]
    rows.append(("all", [sum(column) for column in zip(*(row for _, row in rows), strict=True)]))
    lines = [f"| file | {' | '.join(OUTCOMES)} |", "|---|" + "---|" * len(OUTCOMES)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(map(str, row))} |" for name, row in rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fuzzer, print failures as they come and the table at the end; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--tries", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=(), help="targets, by how their names begin")
    parser.add_argument("--keep", type=Path, help="folder that failing files are copied to")
    parser.add_argument("--show", nargs="*", default=(), help="outcomes to print each try of")
    options = parser.parse_args(arguments)
    chosen = targets(options.only)
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for result in fuzz(chosen, options.tries, options.seed, Path(folder), options.keep):
            name = chosen[result.number % len(chosen)].name
            counts[name, result.outcome] += 1
            if result.outcome in (*FAILURES, *options.show):
                print(
                    f"{result.number} {name}, {result.mutation}: {result.outcome}: {result.said}", flush=True
                )
    print(table(counts))
    return int(any(counts[key] for key in counts if key[1] in FAILURES))


if __name__ == "__main__":
    raise SystemExit(main())
