"""What an error advises can be done: each command that reads images has the options of reading."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from PIL import Image

from microgan.cli import app
from tests.commands.helpers import run_command
from tests.scan.cases import plane

READERS = ("inspect", "detect", "windows", "calibrate", "validate", "compare", "export", "rve-size")
OPTIONS = {"dataset", "follow_outside", "largest_plane_px", "shape", "dtype", "byte_order"}


@pytest.mark.parametrize("command", READERS)
def test_each_command_that_reads_images_has_the_options(command: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {param.name for param in commands[command].params} >= OPTIONS


def test_advice_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(status: int, *words: object) -> str:
        assert (
            run_command(monkeypatch, "windows", *words, "--size", 16, "--count", 2, "--out", "o.tif")
            == status
        )
        return capsys.readouterr().err.strip()

    monkeypatch.chdir(tmp_path)
    plane(0).astype(np.uint8).tofile("x.raw")
    rows, cols = plane(0).shape
    assert line(2, "x.raw").startswith("microgan: --shape: None: raw file x.raw needs shape and dtype")
    assert line(0, "x.raw", "--shape", 1, rows, cols, "--dtype", "uint8") == ""
    Image.fromarray(np.pad(plane(0).astype(np.uint8), ((0, 2000), (0, 2000)))).save(
        "bomb.png", compress_level=9
    )
    size = (rows + 2000) * (cols + 2000)
    said = line(2, "bomb.png", "--largest-plane-px", 1000)
    assert f"if you trust it, give --largest-plane-px {size}" in said
    assert line(0, "bomb.png", "--largest-plane-px", size) == ""
    Path("other").mkdir()
    Path("in").mkdir()
    with h5py.File("other/a.h5", "w") as file:
        file["data"] = plane(0)
    with h5py.File("in/b.h5", "w") as file:
        file["data"] = h5py.ExternalLink("../other/a.h5", "/data")
    assert "allow others with --follow-outside" in line(2, "in/b.h5")
    assert line(0, "in/b.h5", "--follow-outside") == ""
    assert "--dataset: none: must name one of data" in line(2, "other/a.h5", "--dataset", "none")


def test_a_link_to_what_is_no_hdf5_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("near.txt").write_text("text")
    for target, line in (
        ("/etc/passwd", "takes values from /etc/passwd: must be in"),
        ("near.txt", "cannot be opened: must be an HDF5 file that has /data"),
        ("none.h5", "the file that it links to must be there"),
    ):
        with h5py.File("a.h5", "w") as file:
            file["data"] = h5py.ExternalLink(target, "/data")
        for more in ((), ("--dataset", "data")):
            assert run_command(monkeypatch, "windows", "a.h5", *more, "--out", "o.tif") == 2
            assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--shape", 1, 1, 1), ("--dtype", "uint8"), ("--byte-order", "big"), ("--dataset", "x")]
)
def test_an_option_that_a_format_has_no_use_for_is_refused(
    words: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save(tmp_path / "a.npy", plane(0))
    assert run_command(monkeypatch, "inspect", tmp_path / "a.npy", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"microgan: {words[0]}: ") and "has no effect, as a.npy is no" in said
