"""Kills at any moment: ``python -m benchmarks.kill_matrix [--moments 40] [--change simulate.seed]``.

A small project has its results. A parameter is changed, `dvc repro` is started, and at some moment a signal
(SIGKILL, SIGTERM, SIGINT) is sent to all of its processes, to dvc alone, or to the stage alone. Then:

- earlier: each place has the earlier result or the new one, whole;
- orphan: a process that goes on though dvc was killed;
- results: `dvc repro` runs again, and must give what an undisturbed run gives, bit for bit;
- left over: drafts, locks or states of training that are still there after that.

A signal that a process ignores (SIGINT, in dvc while a stage runs) lets the run go on to its end.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import yaml

from microgan.core.atomic import atomic

ROOT = Path(__file__).parents[1]
TARGET = "generate@dcgan"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
RECEIVERS = ("group", "dvc", "stage")
ORPHAN_S = 60.0  # longer than a stage takes to save its state
COPIED = ("microgan", "stages", "dvc.yaml", "data/raw/dvc.yaml", ".dvcignore", ".gitignore")
SMALL: dict[str, dict[str, Any]] = {
    "simulate": {"planes": 3, "size_px": 96, "angles": 60},
    "calibrate": {"windows": 100, "planted": 10, "bootstrap": 0},
    "train": {
        "steps": 60,
        "minutes": 60.0,
        "batch": 2,
        "latent_channels": 2,
        "base_channels": 4,
        "threads": 1,
    }
    | {"preview_count": 4, "preview_every": 5, "save_every": 5, "log_every": 5}
    | {"validation_every": 20, "validation_count": 16},
    "generate": {"count": 20},
}
# What an undisturbed run gives again bit for bit: the others have times in them
COMPARED = (
    "data/planes",
    "models/dcgan/generator.safetensors",
    "models/dcgan/last.safetensors",
    "reference/standard.json",
    "reports/train/dcgan",
    "samples/dcgan/generated.tif",
)


@dataclass(frozen=True)
class Kill:
    """One try: when, which signal, to whom; and what came of it."""

    moment_s: float
    signal: signal.Signals
    receiver: str
    faults: tuple[str, ...]
    stage: str  # that ran at the moment


def make_project(folder: Path) -> None:
    """Write a small project, without git, and run it."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section] |= values
    params |= {"window_px": 32, "launch": "python"}
    params["scans"]["simulated"]["split"] = {"calibration": [1], "held_out": [2]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (folder / "mlflow.py").write_text("raise ImportError('not in this project')\n")
    finish(folder)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start `dvc repro` as the leader of a group of processes."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SHELL": "/bin/sh", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "dvc", "repro", TARGET]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def finish(folder: Path) -> None:
    """Run `dvc repro` to its end."""
    if start(folder).wait() != 0:
        raise RuntimeError((folder / "log").read_text()[-3000:])


def change(folder: Path, path: str) -> None:
    """Add 1 to a parameter."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    *sections, name = path.split(".")
    place = params
    for section in sections:
        place = place[section]
    place[name] += 1
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def results(folder: Path) -> dict[str, str]:
    """Return a digest of each place that is compared; a folder is one place."""
    return {name: _digest(folder / name) for name in COMPARED}


def _digest(place: Path) -> str:
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    sha = hashlib.sha256()
    for file in files:
        if file.is_file():
            sha.update(file.name.encode() + b"\0" + file.read_bytes())
    return sha.hexdigest() if place.exists() else "missing"


def left_over(folder: Path) -> list[str]:
    """Return the drafts, locks and states of training in a project whose run is over."""
    drafts = [path for path in folder.rglob(".*.????????") if ".dvc" not in path.relative_to(folder).parts]
    states = [*(folder / "checkpoints").glob("*")]
    return [path.relative_to(folder).as_posix() for path in (*drafts, *states)]


def processes(folder: Path) -> list[psutil.Process]:
    """Return the living processes that run in a project."""
    running = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running


def stage_of(folder: Path) -> tuple[psutil.Process, str] | None:
    """Return the process of the stage that runs now, and its name."""
    for process in processes(folder):
        with suppress(psutil.Error):
            words = [word for word in process.cmdline() if word.startswith("stages.")]
            if words and Path(process.cmdline()[0]).name.startswith("python"):
                return process, words[0].removeprefix("stages.")
    return None


def kill(folder: Path, moment_s: float, number: signal.Signals, receiver: str) -> str:
    """Run `dvc repro`, send the signal at the moment, wait for the end; return the stage that ran."""
    dvc = start(folder)
    time.sleep(moment_s)
    while not (running := stage_of(folder)) and receiver == "stage" and dvc.poll() is None:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        if receiver == "group":
            os.killpg(dvc.pid, number)
        elif receiver == "dvc":
            os.kill(dvc.pid, number)
        elif running:
            os.kill(running[0].pid, number)
    with suppress(subprocess.TimeoutExpired):
        dvc.wait(600)
    return running[1] if running else "between stages"


def tried(
    earlier: Path,
    folder: Path,
    path: str,
    expected: Mapping[str, str],
    plan: tuple[float, signal.Signals, str],
) -> Kill:
    """Make one try in a copy of the project ``earlier``."""
    shutil.copytree(earlier, folder, symlinks=True)
    before = results(folder)
    change(folder, path)
    stage = kill(folder, *plan)
    faults = []
    until = time.monotonic() + ORPHAN_S
    while orphans := processes(folder):
        if time.monotonic() > until:
            faults.append("orphan")
            for process in orphans:
                process.kill()
            break
        time.sleep(0.1)
    after = results(folder)
    if any(after[name] not in (before[name], expected[name]) for name in COMPARED):
        faults.append("earlier")
    try:
        finish(folder)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        faults.append("does not go on")
    if results(folder) != expected:
        faults.append("results")
    if names := left_over(folder):
        print(names, file=sys.stderr)
        faults.append("left over")
    return Kill(*plan, tuple(faults), stage)


def kills(moments: int, path: str, folder: Path) -> Iterator[Kill]:
    """Yield what comes of kills at equal intervals over the time of an undisturbed run."""
    earlier, whole = folder / "earlier", folder / "whole"
    make_project(earlier)
    shutil.copytree(earlier, whole, symlinks=True)
    change(whole, path)
    began = time.monotonic()
    finish(whole)
    seconds, expected = time.monotonic() - began, results(whole)
    ways = list(product(SIGNALS, RECEIVERS))
    for index in range(moments):
        plan = ((index + 0.5) / moments * seconds, *ways[index % len(ways)])
        place = folder / "try"
        yield tried(earlier, place, path, expected, plan)
        shutil.rmtree(place)


def table(done: Sequence[Kill]) -> str:
    """Return the faults by signal and receiver as a Markdown table."""
    lines = ["| signal | to | kills | stages at that moment | faults |", "|---|---|---|---|---|"]
    for number, receiver in product(SIGNALS, RECEIVERS):
        rows = [kill for kill in done if (kill.signal, kill.receiver) == (number, receiver)]
        stages = ", ".join(f"{stage} {count}" for stage, count in Counter(row.stage for row in rows).items())
        faults = Counter(fault for row in rows for fault in row.faults)
        said = ", ".join(f"{fault} {count}" for fault, count in faults.items()) or "none"
        if rows:
            lines.append(f"| {number.name} | {receiver} | {len(rows)} | {stages} | {said} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--moments", type=int, default=40, help="number of kills")
    parser.add_argument("--change", default="simulate.seed", help="parameter that makes stages run again")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args(words)
    done: list[Kill] = []
    with tempfile.TemporaryDirectory() as folder:
        for one in kills(options.moments, options.change, Path(folder).resolve()):
            done.append(one)
            what = f"{one.moment_s:.1f} s, {one.stage}: {one.signal.name} to {one.receiver}"
            print(f"{what}: {', '.join(one.faults) or 'right'}", flush=True)
    text = f"# Kills at any moment\n\n{len(done)} kills, `{options.change}` changed.\n\n{table(done)}"
    print(text)
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(text)
    return int(any(kill.faults for kill in done))


if __name__ == "__main__":
    sys.exit(main())
