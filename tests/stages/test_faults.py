"""What happens to a stage while it runs: edits, signals, neighbours, a parent that is killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pathspec import GitIgnoreSpec

from microgan.core.errors import UserError
from microgan.gan.state_folder import state_folder
from stages import simulate, train
from stages.declared import Declaration
from stages.stage import Stage, load_params
from tests.stages.helpers import ROOT, edit, error_line, lines, start, state_of


@pytest.fixture
def declared(project: Path) -> Path:
    """A project with its dvc.yaml."""
    (project / "data/raw").mkdir(parents=True)
    for name in ("dvc.yaml", "data/raw/dvc.yaml"):
        shutil.copy(ROOT / name, project / name)
    return project


def test_a_stage_knows_what_dvc_yaml_says_of_it(declared: Path) -> None:
    declaration = Declaration.of("train@dcgan", load_params())
    assert declaration.params == ("models.dcgan", "train", "window_px")
    assert Path("data/planes") in declaration.deps
    assert Path("models/dcgan/generator.safetensors") in declaration.outs
    assert Path("data/raw/simulated") in Declaration.of("ingest", load_params()).deps
    assert Path("metrics/headline.json") in Declaration.of("report", load_params()).outs
    assert Declaration.of("simulate", load_params()).outs == (Path("data/raw/simulated"),)
    assert Declaration.of("nobody", load_params()) == Declaration()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"simulate__planes": 2},
            r"params.yaml: simulate.planes: \d+ became 2: changed while the stage ran",
        ),
        ({}, r"microgan/core/words.py: another content: changed while the stage ran"),
    ],
)
def test_what_a_stage_reads_must_stay_as_it_was_or_its_results_are_not_kept(
    declared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    line: str,
) -> None:
    code = Path("microgan/core/words.py")
    code.parent.mkdir(parents=True)
    code.write_text("old")
    Path("data/raw/simulated").mkdir()
    Path("data/raw/simulated/scan.tif").write_text("earlier")
    before = state_of(declared / "data")

    def edited(stage: Stage) -> None:
        with stage.drafts("data/raw/simulated") as (folder,):
            (folder / "scan.tif").write_text("new")
            edit(train__batch=77, **change)  # train: of another stage
            code.write_text("old" if change else "new")

    edited.__module__ = "simulate"
    assert start(edited, monkeypatch=monkeypatch) == 2
    assert re.match(line, error_line(capsys))
    assert state_of(declared / "data") == before
    assert start(simulate.main, monkeypatch=monkeypatch) == 0


def test_a_place_that_cannot_be_written_is_found_before_the_work(
    declared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("metrics").write_text("in the way")
    assert start(train.main, "dcgan", monkeypatch=monkeypatch) == 2
    assert error_line(capsys).startswith("metrics/dcgan: ")  # and not data/planes, which are missing
    assert not Path("models").exists()


@pytest.mark.parametrize(
    ("file", "draft"),
    [(".dvcignore", "samples/dcgan/.valid.tif.x7_abcde"), (".gitignore", "metrics/.headline.json.0bcdefgh/")],
)
def test_drafts_of_killed_stages_are_hidden_from_dvc_and_from_git(file: str, draft: str) -> None:
    ignored = GitIgnoreSpec.from_lines((ROOT / file).read_text().splitlines())
    assert ignored.match_file(draft)
    assert not ignored.match_file("metrics/.headline.json")


STAGE = """
import sys, time
sys.modules["mlflow"] = None
sys.argv[0] = sys.argv.pop(1)
from stages import stage
def main(_):
    print("running", flush=True)
    time.sleep(600)
stage.run(main)
"""
PARENT = f"""
import subprocess, sys, time
stage = subprocess.Popen([sys.executable, "-c", {STAGE!r}, "simulate"], stderr=open("errors", "w"))
print(stage.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_stage_ends_when_dvc_is_killed_and_not_when_a_shell_is(declared: Path, is_watched: bool) -> None:
    """The parent is no dvc, but dies as dvc does; DVC_STAGE says that it started the stage."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"DVC_STAGE": "simulate"} if is_watched else {})
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "running\n"
        parent.kill()
    if is_watched:
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        assert lines(Path("errors").read_text()) == [
            "microgan: the program that started this stage is gone",
            "microgan: interrupted: earlier results are intact, run the same command again to go on",
        ]
    else:
        time.sleep(1.5)
        os.kill(pid, signal.SIGKILL)


def test_a_stage_ends_whose_dvc_was_killed_before_it_could_look(declared: Path) -> None:
    """Its parent is a shell that has nobody above it; by its own name it is no DVC."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_STAGE": "simulate"}
    command = ["setsid", "--fork", sys.executable, "-c", STAGE, "simulate"]
    with Path("errors").open("w") as errors:
        subprocess.run(command, env=environment, stderr=errors, stdout=errors, check=True)
    wait_until(lambda: "interrupted" in Path("errors").read_text())
    assert "the program that started this stage is gone" in Path("errors").read_text()


OWNER = """
import sys
from pathlib import Path
from microgan.gan.state_folder import state_folder
with state_folder(Path("checkpoints/a"), lambda owner: print("waits for", owner, flush=True)) as folder:
    print("has it", flush=True)
    sys.stdin.readline()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "state").open("a") as state:
        print(f"{sys.argv[1]} begins", file=state)
    print((folder / "state").read_text().splitlines(), flush=True)
"""


def owner(name: str) -> subprocess.Popen[str]:
    """Start a process that trains in words only."""
    command = [sys.executable, "-c", OWNER, name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def test_the_same_training_waits_for_the_one_that_runs_and_takes_its_result(project: Path) -> None:
    killed = owner("killed")
    assert killed.stdout and killed.stdout.readline() == "has it\n"
    killed.kill()
    killed.communicate()
    with owner("first") as first, owner("second") as second:
        outputs = {first: first.stdout, second: second.stdout}
        said = {process: stream.readline() for process, stream in outputs.items() if stream}
        owners = [process for process, line in said.items() if line == "has it\n"]
        assert len(owners) == 1, "not of the killed one"
        waiting = ({first, second} - set(owners)).pop()
        assert re.match(rf"waits for process {owners[0].pid} on ", said[waiting])
        owned = owners[0].communicate("go\n")[0]
        taken = waiting.communicate("go\n")[0]
    assert owned.count(" begins") == 1
    assert taken.count(" begins") == 2, "the state of a finished training is left to who waits for it"
    assert not list((project / "checkpoints").iterdir())


def test_of_several_processes_the_first_one_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with state_folder(tmp_path / "a", print):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with (
            pytest.raises(UserError, match=r"in use by process .*: the same training runs already"),
            state_folder(tmp_path / "a", print),
        ):
            pass
        monkeypatch.setenv("RANK", "1")
        with state_folder(tmp_path / "a", print) as folder:
            assert folder == tmp_path / "a"
    assert not list(tmp_path.iterdir())


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
