"""What the tests of the stages share: a folder with small parameters, and stages started in it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from microgan.core.json_files import read_sealed_json, write_sealed_json
from stages.stage import Stage, run
from stages.tracking import Tracker

ROOT = Path(__file__).parents[2]
SMALL: dict[str, dict[str, Any]] = {
    "simulate": {"planes": 3, "size_px": 96, "angles": 60},
    "calibrate": {"windows": 100, "planted": 10, "bootstrap": 0}
    | {"learnt": {"windows": 10, "packings": 10, "steps": 2, "batch": 4}},
    "train": {"steps": 100_000, "batch": 2, "latent_channels": 2, "base_channels": 4}
    | {"preview_count": 4, "preview_every": 5, "save_every": 5, "log_every": 5, "threads": 1}
    | {"validation_every": 5, "validation_count": 4},
}


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages run in ``folder``, untracked."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(Tracker, "start", lambda tracker, name, params: None)
    monkeypatch.setattr("stages.heartbeat.BEAT_EVERY_S", 1e6)


def write_params(folder: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section] |= values
    params["window_px"] = 32
    params["scans"]["simulated"]["split"] = {"calibration": [1], "held_out": [2]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def edit(**changes: Any) -> None:
    """Set parameters of the current project by path; dots are written as ``__``. None removes a section."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    for path, value in changes.items():
        *sections, name = path.split("__")
        place = params
        for section in sections:
            place = place[section]
        if value is None:
            del place[name]
        else:
            place[name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def edit_reference(**fields: Any) -> None:
    """Replace fields of reference.json, with a digest that fits."""
    path = Path("reference/reference.json")
    write_sealed_json(path, {**read_sealed_json(path, "", dict), **fields})


def start(main: Callable[[Stage], None], *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a stage as its program would; returns the exit status."""
    monkeypatch.setattr(sys, "argv", [f"stages/{main.__module__.rpartition('.')[2]}.py", *arguments])
    try:
        run(main)
    except SystemExit as end:
        assert isinstance(end.code, int)
        assert end.code != 70, "a defect: an error that nobody foresaw"
        return end.code
    return 0


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the text on standard error, which must be one line of ours."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("microgan: "), text
    return text.removeprefix("microgan: ").strip()


def state_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below ``folder``."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def results(project: Path) -> dict[str, bytes]:
    """Return the content of the files that a training writes."""
    return {
        f"{folder}/{name}": content
        for folder in ("models", "metrics", "reports")
        for name, content in state_of(project / folder).items()
    }


def program(name: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a stage as its own process, untracked."""
    code = "import sys; sys.modules['mlflow'] = None; sys.argv[0] = sys.argv.pop(1)\n"
    code += f"from stages import stage, {name}; stage.run({name}.main)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, name, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def lines(text: str) -> list[str]:
    """Return the lines of ``text`` without the warning that nothing is tracked, and without signs of life."""
    aside = re.compile(r"microgan: (warning: not tracked by MLflow|[\w.@]+: \d+\.\d min)")
    return [line for line in text.splitlines() if not aside.match(line)]
