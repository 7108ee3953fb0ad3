"""No command writes over what it reads, whatever the spelling of the path; no device is replaced."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microgan.cli import app
from microgan.core.errors import UserError
from microgan.core.files import atomic, write_tiff
from tests.commands.helpers import run_command

RULE = "must not be what the command reads, which would be lost"
BAND = ("--radius", 4, 8)

# Words of each command, below a folder with a scan, slices, a model, a reference, samples with a card.
CASES: dict[str, list[tuple[tuple[object, ...], str]]] = {
    "inspect": [
        (("slices", "--picture", "slices/1.png"), RULE),
        (("slices/1.png", "--picture", "./slices/1.png"), RULE),
    ],
    "simulate": [(("--out", "scan"), "must be a new or empty folder, or an earlier simulation")],
    "detect": [
        (("scan/scan.tif", *BAND, "--out", "scan/scan.tif"), "must be named *.csv"),
        (("scan/scan.tif", *BAND, "--out", "link.csv"), RULE),
        (("slices", *BAND, "--out", "o.csv", "--overlay", "slices"), "must be another folder"),
        (("slices/1.png", *BAND, "--out", "o.csv", "--overlay", "scan/../slices"), "another folder"),
    ],
    "calibrate": [
        (("scan", *BAND, "--out", "scan"), "exists already"),
        (("scan/scan.tif", *BAND, "--out", "."), "exists already"),
    ],
    "windows": [
        (("scan/scan.tif", "--out", "scan/scan.tif"), RULE),
        (("scan", "--out", "scan/../scan/scan.tif"), RULE),
        (("scan/scan.tif", "--out", "hard.tif"), RULE),
        (("scan/scan.tif", "--out", "link.tif"), RULE),
    ],
    "rve-size": [
        (("scan", "--reference", "reference.json", "--out", "reference.json"), RULE),
        (("slices", "--reference", "reference.json", "--plot", "slices/1.png"), RULE),
    ],
    "train": [
        (("scan", "--out", "scan"), "exists already"),
        (("scan", "--init-from", "model", "--out", "model"), "exists already"),
    ],
    "sample": [
        (("model", "--out", "model/generator.safetensors"), "must be named *.tif"),
        (("model", "--out", "weights.tif"), RULE),
        (("model", "--out", "."), "must be named *.tif"),
        (("model", "--repair", "reference.json", "--out", "reference.tif"), RULE),
    ],
    "validate": [
        (("new.tif", "--reference", "reference.json", "--out", "o.csv", "--keep", "new.tif"), RULE),
        (("new.tif", "--reference", "reference.json", "--out", "o.csv", "--keep", "reference.tif"), RULE),
    ],
    "compare": [
        (("new.tif", "scan", "--reference", "reference.json", "--out", "reference.json"), RULE),
        (("new.tif", "scan", "--reference", "reference.json", "--out", "new.json"), RULE),
        (("slices", "scan", "--reference", "reference.json", "--plot", "slices/1.png"), RULE),
    ],
    "export": [
        (("scan/scan.tif", "--format", "tiff", "--out", "scan"), RULE),
        (("new.tif", "--format", "tiff", "--out", "."), RULE),
        (("new.tif", "--reference", "reference.json", "--format", "tiff", "--out", "reference.json"), RULE),
    ],
    "homogenise": [
        (("job.dat", "--out", "job.dat"), "must be named *.json"),
        (("job.dat", "--out", "./job.json"), RULE),
        (("job.dat", "--out", "link.json"), "link"),
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `CASES` name; contents that no command gets to read."""
    monkeypatch.chdir(tmp_path)
    for name in ("scan", "slices", "model"):
        Path(name).mkdir()
    write_tiff("scan/scan.tif", np.zeros((1, 8, 8), np.uint8))
    write_tiff("new.tif", np.zeros((1, 8, 8), np.uint8))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("slices/1.png")
    for name in (
        "model/generator.safetensors",
        "model/model.json",
        "reference.json",
        "new.json",
        "scan/standard.json",
        "job.dat",
        "job.json",
    ):
        Path(name).write_text('{"kind": "a card"}')
    Path("link.csv").symlink_to("scan/scan.tif")
    Path("link.tif").symlink_to("scan/scan.tif")
    Path("link.json").symlink_to("job.dat")
    Path("weights.tif").symlink_to(tmp_path / "model/generator.safetensors")
    os.link("scan/scan.tif", "hard.tif")
    return tmp_path


def test_the_cases_are_all_commands() -> None:
    assert set(CASES) == {command.name for command in app.registered_commands}


@pytest.mark.parametrize(
    ("command", "words", "line"),
    [(command, words, line) for command, cases in CASES.items() for words, line in cases],
)
def test_no_command_writes_over_what_it_reads(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    words: tuple[object, ...],
    line: str,
) -> None:
    before = _contents(folder)
    assert run_command(monkeypatch, command, *words) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert _contents(folder) == before


def _contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_what_an_earlier_run_wrote_beside_images_may_be_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("new.json", "slices/figures.json")
    Path("slices/circles.csv").touch()
    words = ("slices", "scan", "--reference", "none.json", "--out", "slices/figures.json")
    assert run_command(monkeypatch, "compare", *words) == 2
    assert "none.json: missing" in capsys.readouterr().err
    assert run_command(monkeypatch, "detect", "slices", *BAND, "--out", "slices/circles.csv") == 2
    assert RULE not in capsys.readouterr().err


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "out.csv"
    make(path)
    before = path.lstat()
    with pytest.raises(UserError, match="is neither a file nor a folder"), atomic(path) as draft:
        draft.write_text("x")
    assert path.lstat().st_ino == before.st_ino
    assert [child.name for child in tmp_path.iterdir()] == ["out.csv"]
