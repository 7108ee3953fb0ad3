"""What all stages share: parameters are read and checked, errors take one line, results appear together."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from microgan.core.errors import UserError
from microgan.scan.config import ScanConfig
from stages import ingest, simulate, stage, train
from stages.heartbeat import Heartbeat
from stages.stage import Stage, drafts, flatten, load_params, naming, run
from tests.stages.helpers import ROOT, edit, error_line, lines, program, start, state_of


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"trian": {"batch": 3}}, "params.yaml: trian: unknown section: known are scan, window_px, launch,"),
        ({"simulate": None}, "params.yaml: simulate: missing: section must exist"),
        ({"simulate": 3}, "params.yaml: simulate: 3: must be a section of named values"),
        (
            {"scan": "nobody"},
            "params.yaml: scan: nobody: must be one of simulated, insegt_carbon, insegt_glass",
        ),
        ({"scan": None}, "params.yaml: scan: None: must be one of simulated"),
        ({"simulate__photon": 3}, "simulate.photon: 3: unknown parameter, known are angles,"),
        ({"simulate__planes": "many"}, "simulate.planes: 'many': input should be a valid integer"),
        ({"simulate__planes": -3}, "simulate.planes: -3: input should be greater than or equal to 1"),
        ({"simulate__photons": float("nan")}, "simulate.photons: nan: input should be a finite number"),
    ],
)
def test_a_bad_parameter_is_reported_in_one_line_and_earlier_results_stay(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    line: str,
) -> None:
    (project / "data/raw/simulated").mkdir(parents=True)
    (project / "data/raw/simulated/scan.tif").write_text("earlier")
    before = state_of(project / "data")
    edit(**changes)
    assert start(simulate.main, monkeypatch=monkeypatch) == 2
    assert error_line(capsys).startswith(line)
    assert state_of(project / "data") == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "params.yaml: missing: file must exist"),
        ("train: [1, 2", "params.yaml: unreadable: must be YAML (while parsing"),
        ("", "params.yaml: no sections: must have the sections scan"),
        ("just words", "params.yaml: no sections"),
        ("train:\n  batch: 1\n\ttabs: 2", "params.yaml: unreadable: must be YAML"),
    ],
)
def test_a_broken_file_of_parameters_is_reported_in_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    line: str,
) -> None:
    Path("params.yaml").unlink() if text is None else Path("params.yaml").write_text(text)
    assert start(simulate.main, monkeypatch=monkeypatch) == 2
    assert error_line(capsys).startswith(line)


@pytest.mark.parametrize("arguments", [(), ("gan",), ("dcgan", "wgan_gp")])
def test_an_unknown_model_is_reported_in_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    assert start(train.main, *arguments, monkeypatch=monkeypatch) == 2
    assert error_line(capsys).endswith("must be one of dcgan, wgan_gp")


@pytest.mark.parametrize("side", [0, 63, 8, 64.5, "wide", True])
def test_a_window_has_a_side_that_the_networks_can_make(project: Path, side: object) -> None:
    edit(window_px=side)
    with pytest.raises(UserError, match=r"window_px: .*: must be a multiple of 8, from 16 to 1024"):
        stage.window_px(load_params())


def test_an_argument_that_the_library_refuses_is_named_by_its_path_in_params_yaml(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(simulate__planes=1, scans__simulated__region=[0, 999, 0, 80])
    assert start(simulate.main, monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert start(ingest.main, monkeypatch=monkeypatch) == 2
    assert error_line(capsys).startswith("scans.simulated.region: (0, 999, 0, 80): must be row0 < row1 <=")


def test_what_is_doubtful_in_a_scan_is_said_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(scans__simulated__voxel_size_um=7.5)
    assert start(simulate.main, monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert start(ingest.main, monkeypatch=monkeypatch) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "microgan: warning: data/raw/simulated/scan.tif: 1 um by resolution tags per cm"
    )


def test_only_arguments_are_named_by_a_path() -> None:
    for argument in (Path("region.tif"), "window_px", "scans.x.region"):
        with pytest.raises(UserError) as refused, naming("scans.x", ScanConfig):
            raise UserError(argument, 1, "must be 2")
        assert refused.value.args == (argument, 1, "must be 2")
    with pytest.raises(UserError, match=r"^scans.x.split.held_out: 6: must"), naming("scans.x", ScanConfig):
        raise UserError("split.held_out", 6, "must be less")


def test_a_defect_is_one_line_and_shows_its_traceback_when_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(_: Stage) -> None:
        raise ZeroDivisionError("by nothing")

    def status() -> object:
        with pytest.raises(SystemExit) as ended:
            run(main)
        return ended.value.code

    monkeypatch.setattr("sys.argv", ["stages/main.py"])
    assert status() == 70
    line = error_line(capsys)
    assert line.startswith("defect of microgan (ZeroDivisionError: by nothing): please report it")
    assert line.endswith("with what the same run with MICROGAN_DEBUG=1 shows")
    monkeypatch.setenv("MICROGAN_DEBUG", "1")
    assert status() == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_full_memory_of_torch_is_bad_input(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(_: Stage) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

    assert start(main, monkeypatch=monkeypatch) == 2
    assert error_line(capsys).startswith("memory is full: use fewer or smaller images")


def test_flattened_parameters_are_named_by_their_path() -> None:
    assert flatten({"a": {"b": {"c": [1, 2]}}, "d": None}) == {"a.b.c": [1, 2], "d": None}


def test_outputs_appear_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old").write_text("earlier")
    (tmp_path / "file.txt").write_text("earlier")
    before = state_of(tmp_path)
    with pytest.raises(OSError, match="full"), drafts(tmp_path / "folder", tmp_path / "file.txt") as paths:
        (paths[0] / "new").write_text("half")
        paths[1].write_text("half")
        raise OSError("full")
    assert state_of(tmp_path) == before
    with drafts(tmp_path / "folder", tmp_path / "file.txt") as paths:
        (paths[0] / "new").write_text("whole")
        paths[1].write_text("whole")
    assert state_of(tmp_path) == {"folder/new": b"whole", "file.txt": b"whole"}


@pytest.mark.parametrize("words", [("simulate",), ("ingest",), ("train", "dcgan")], ids=" ".join)
def test_a_full_disk_is_reported_in_one_line_and_earlier_results_stay(
    trained: Path, words: tuple[str, ...]
) -> None:
    before = state_of(trained)

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    failed = program(*words, preexec_fn=no_room)
    errors = lines(failed.communicate()[1])
    assert failed.returncode == 2
    assert len(errors) == 1 and re.match(r"microgan: .+(File too large|is the disk full)", errors[0]), errors
    after = state_of(trained)
    assert {path: after[path] for path in after if not path.startswith("checkpoints/")} == before


def test_an_experiment_in_a_copy_says_what_git_may_not_know(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = project / ".dvc/tmp/exps/tmpabc"
    copy.mkdir(parents=True)
    shutil.copy("params.yaml", copy)
    assert start(ingest.main, monkeypatch=monkeypatch) == 2
    assert error_line(capsys) == "data/raw/simulated/scan.tif: missing: the scan's file or folder must exist"
    monkeypatch.chdir(copy)
    assert start(ingest.main, monkeypatch=monkeypatch) == 2
    assert error_line(capsys).endswith("in a copy of what git and DVC know: git add or dvc add what it lacks")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_is_stopped_while_it_is_being_imported_says_so_in_one_line(
    project: Path, number: signal.Signals
) -> None:
    Path("numpy.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train", "dcgan"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background
    ) as running:
        assert running.stdout and running.stdout.readline() == "importing\n"
        running.send_signal(number)
        errors = running.communicate()[1]
    assert running.returncode == 130
    assert errors == "microgan: interrupted before it began; nothing was changed\n"


def test_a_log_shows_life_and_a_terminal_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.heartbeat.BEAT_EVERY_S", 0.02)
    with Heartbeat("train@dcgan", enabled=True) as heartbeat:
        heartbeat.progress = "35 %"
        time.sleep(0.2)
    lines_of_log = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines_of_log) <= 10 and lines_of_log[-1] == "microgan: train@dcgan: 0.0 min, 35 %"
    time.sleep(0.05)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Heartbeat("train@dcgan", enabled=True):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
