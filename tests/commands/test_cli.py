"""The command line as a whole: errors, results as JSON, help, what it imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from microgan import __version__
from microgan.cli.options import as_typed
from microgan.core.errors import UserError
from microgan.core.files import write_tiff
from tests.commands.helpers import ROOT, csv_rows, json_result, run_command

COMMANDS = (
    "inspect",
    "simulate",
    "detect",
    "calibrate",
    "windows",
    "rve-size",
    "train",
    "sample",
    "validate",
    "compare",
    "export",
    "homogenise",
)


def test_bad_input_is_one_line_and_writes_nothing(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiff(tmp_path / "small.tif", np.zeros((1, 32, 32), np.uint8))
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    (tmp_path / "empty").mkdir()
    reference = ("--reference", material / "reference.json", "--out", tmp_path / "out.csv")
    cases = [
        (
            ("detect", tmp_path / "none.png", "--radius", 4, 8, "--out", tmp_path / "out.csv"),
            "none.png: missing",
        ),
        (
            ("detect", tmp_path / "empty", "--radius", 4, 8, "--out", tmp_path / "out.csv"),
            "empty: no images: must hold .tif",
        ),
        (("detect", tmp_path / "broken.tif", "--radius", 4, 8, "--out", tmp_path / "out.csv"), "broken.tif"),
        (
            ("detect", tmp_path / "small.tif", "--radius", 8, 4, "--out", tmp_path / "out.csv"),
            "--radius: 8 4",
        ),
        (
            ("detect", tmp_path / "small.tif", "--radius", 4, "inf", "--out", tmp_path / "out.csv"),
            "--radius: 4 inf: must be MIN MAX with 1 <= MIN < MAX, both finite",
        ),
        (
            ("detect", tmp_path / "small.tif", "--radius", 4, "1e9", "--out", tmp_path / "out.csv"),
            "--radius: 4 1e+09: must end at 16 or less, half the shorter side of an image of 32 x 32 px",
        ),
        (("validate", tmp_path / "small.tif", *reference), "32 x 32 px: must be at least 64 x 64 px"),
        (
            ("compare", material / "windows.tif", tmp_path / "small.tif", *reference[:2]),
            "small.tif: 32 x 32 px: must be 64 x 64 px",
        ),
        (("sample", tmp_path, "--out", tmp_path / "out.tif"), "no model.json in it"),
        (
            ("sample", tmp_path, "--strict", "--out", tmp_path / "out.tif"),
            "--strict: without --repair: needs",
        ),
        (
            ("sample", material / "model", "--size", 60, 64, "--periodic", "--out", tmp_path / "o.tif"),
            "size: 60",
        ),
        (
            ("export", tmp_path / "small.tif", "--format", "stl", "--out", tmp_path / "x"),
            "--format: 'stl': must be one of",
        ),
    ]
    for words, line in cases:
        assert run_command(monkeypatch, *words) == 2, words
        lines = capsys.readouterr().err.strip().splitlines()
        (text,) = (text for text in lines if not text.startswith("microgan: warning: "))
        assert text.startswith("microgan: ") and line in text, words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.tif", "empty", "small.tif"]


def test_every_command_gives_its_result_as_json(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reference = ("--reference", material / "reference.json")
    words = ("simulate", "--size-px", 64, "--volume-fraction", 0.3, "--seed", 2, "--out", "scan")
    simulated = json_result(monkeypatch, capsys, *words)
    assert simulated["discs"] == len(csv_rows(Path("scan/circles.csv")))
    assert simulated["files"] == {"scan": "scan/scan.tif", "circles": "scan/circles.csv"}
    words = ("detect", "scan/scan.tif", "--radius", 4, 8, "--out", "found.csv")
    assert json_result(monkeypatch, capsys, *words)["discs"] == len(csv_rows(Path("found.csv")))
    words = ("sample", material / "model", "--count", 2, "--seed", 3, "--out", "new.tif")
    sampled = json_result(monkeypatch, capsys, *words)
    assert [sampled[key] for key in ("count", "rows", "cols", "seed")] == [2, 64, 64, 3]
    words = ("validate", material / "windows.tif", *reference, "--out", "verdicts.csv")
    judged = json_result(monkeypatch, capsys, *words)
    assert (judged["images"], judged["valid"], judged["pass_rate"]) == (2, 2, 1.0)
    words = ("export", material / "windows.tif", *reference, "--format", "tiff", "--out", "out")
    exported = json_result(monkeypatch, capsys, *words)
    assert (exported["structures"], exported["judged_valid"], exported["files"]) == (2, 2, {"folder": "out"})


def test_help_lists_the_commands_as_one_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    lines = [line.strip("│| ").split() for line in text.splitlines() if line.strip("│| ")]
    assert [words[0] for words in lines if words[0] in COMMANDS] == list(COMMANDS)
    assert "--install-completion" in text and "--version" in text
    assert run_command(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


BARE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocked())
from microgan.cli import main
main()
"""


def _run_without(
    blocked: tuple[str, ...], *words: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process where some packages cannot be imported."""
    command = [sys.executable, "-W", "ignore", "-c", BARE.format(blocked=blocked), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False
    )


def test_commands_work_without_dvc_and_mlflow(material: Path, tmp_path: Path) -> None:
    words = ("sample", material / "model", "--count", 2, "--out", tmp_path / "new.tif", "--json")
    done = _run_without(("dvc", "mlflow", "yaml", "psutil", "stages"), *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["count"] == 2


def test_help_and_completion_come_without_torch() -> None:
    heavy = ("torch", "scipy", "skimage", "matplotlib")
    for words, variables, part in (
        (("export", "--help"), {}, "--voxel-size-um"),
        ((), {"_MICROGAN_COMPLETE": "source_bash"}, "complete -o"),
        (
            (),
            {"_MICROGAN_COMPLETE": "complete_bash", "COMP_WORDS": "microgan va", "COMP_CWORD": "1"},
            "validate",
        ),
    ):
        done = _run_without(heavy, *words, **variables)
        assert part in done.stdout, done.stderr


def test_refusals_come_without_torch(tmp_path: Path) -> None:
    heavy = ("torch", "scipy", "skimage", "matplotlib")
    (tmp_path / "a.tif").touch()
    for words, line in (
        (("detect", tmp_path / "none.tif", "--radius", 4, 8, "--out", "o.csv"), "none.tif: missing"),
        (("detect", tmp_path / "a.tif", "--radius", 8, 4, "--out", "o.csv"), "--radius: 8 4"),
        (
            ("validate", tmp_path / "a.tif", "--reference", "none.json", "--out", "o.csv"),
            "none.json: missing",
        ),
        (
            ("compare", *[tmp_path / "a.tif"] * 2, "--reference", tmp_path, "--plot", "p.tif"),
            "must be named *.png",
        ),
        (("windows", tmp_path / "none.tif", "--out", "o.tif"), "none.tif: missing"),
        (("inspect", tmp_path / "none.tif"), "none.tif: missing"),
        (("sample", tmp_path, "--strict", "--out", "o.tif"), "--strict: without --repair"),
    ):
        done = _run_without(heavy, *words)
        assert done.returncode == 2 and line in done.stderr, done.stderr


def test_one_of_a_thing_is_not_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row, col = np.mgrid[:64, :64]
    disc = (np.clip(7 - np.hypot(row - 30, col - 30), -0.5, 0.5) * 200 + 120).astype(np.uint8)
    write_tiff(tmp_path / "a.tif", disc[None])
    words = ("detect", tmp_path / "a.tif", "--radius", 4, 9, "--out", tmp_path / "c.csv")
    assert run_command(monkeypatch, *words) == 0
    assert capsys.readouterr().out.startswith("1 disc in 1 image, written to ")


def test_ctrl_c_ends_with_130_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("microgan.commands.simulate.simulate_scan", interrupted)
    assert run_command(monkeypatch, "simulate", "--out", tmp_path / "scan") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_python_runs_the_command_line_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "microgan", "--version"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


@pytest.mark.parametrize(
    ("where", "command", "typed"),
    [
        ("train.steps", "train", "--steps"),
        ("scan.split.held_out", "calibrate", "--held-out"),
        ("export.formats.1", "export", "--format"),
        ("window_px", "windows", "--size"),
        ("window_px", "calibrate", "--window-px"),
        ("real.tif", "validate", "real.tif"),
        ("--radius", "detect", "--radius"),
        ("reference", "unknown", "reference"),
    ],
)
def test_errors_name_options_as_they_are_typed(where: str, command: str, typed: str) -> None:
    assert as_typed(UserError(where, 1, "must be 2"), [command]).args == (typed, 1, "must be 2")


def test_a_set_is_not_compared_with_itself(
    material: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    windows, rules = material / "windows.tif", material / "reference.json"
    assert run_command(monkeypatch, "compare", windows, windows, "--reference", rules) == 2
    assert "windows.tif: is the first set too: must be another" in capsys.readouterr().err
    model = material / "model/model.json"
    assert run_command(monkeypatch, "validate", windows, "--reference", model, "--out", "v.csv") == 2
    assert "model.json: no limits in it: must be the reference.json that" in capsys.readouterr().err
