"""Values that nobody means: each is one line, at once; what nobody foresaw is one line, too."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microgan import cli
from microgan.core.files import write_tiff
from tests.commands.helpers import run_command


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning: " not in line]
    (line,) = (line for line in lines if line.strip() and "%|" not in line and "img/s" not in line)
    assert line.startswith("microgan: ")
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("sample", "model", "--count", 10**12, "--out", "o.tif"), "does not fit onto the disk, which has"),
        (("sample", "model", "--size", 10**9, 10**9, "--out", "o.tif"), "does not fit onto the disk"),
        (("sample", "model", "--count", "many", "--out", "o.tif"), "Invalid value for '--count': "),
        (("sample", "model", "--seed", 10**30, "--out", "o.tif"), "--seed"),
        (("sample", "model"), "Missing option '--out'; see microgan sample --help"),
        (("sampel", "model"), "No such command 'sampel'"),
        (("sample", "model", "--out", "o.tif", "--colour"), "No such option: --colour"),
        (
            ("windows", "windows.tif", "--count", 10**12, "--out", "o.tif"),
            "--count: 1000000000000: would take 1.64e+04 TB of memory",
        ),
        (("detect", "windows.tif", "--radius", 1, "inf", "--out", "o.csv"), "--radius: 1 inf"),
        (("detect", "windows.tif", "--radius", "nan", 8, "--out", "o.csv"), "--radius: nan 8"),
        (("calibrate", "windows.tif", "--radius", 1, "inf", "--out", "o"), "--radius: 1 inf"),
        (("inspect", "windows.tif", "--radius", 500, 900), "--radius: 500 900: must end at 32 or less"),
        (("inspect", "windows.tif", "--picture", "o.jpg"), "must be named *.png"),
        (
            ("simulate", "--planes", 10**12, "--out", "o"),
            "--planes: 1000000000000: would take 4.01e+05 TB of memory",
        ),
        (
            ("simulate", "--voxel-size-um", 1e-9, "--out", "o"),
            "--voxel-size-um: 1e-09: must be from 1e-05 to",
        ),
        (("simulate", "--voxel-size-um", 1e300, "--out", "o"), "--voxel-size-um: 1e+300: must be from 1e-05"),
        (("simulate", "--voxel-size-um", 1e5, "--out", "o"), "less than one photon comes through"),
        (("simulate", "--min-gap-px", 1e308, "--out", "o"), "--min-gap-px: 1e+308: "),
        (("simulate", "--radius-px", 1e300, "--out", "o"), "--radius-px: 1e+300: "),
        (("simulate", "--photons", 1e-300, "--out", "o"), "--photons: 1e-300: "),
        (
            ("export", "phase.tif", "--format", "inp", "--voxel-size-um", 1e308, "--out", "o"),
            "--voxel-size-um: 1e+308: must be from 1e-05 to 1e+06 um: is it in another unit?",
        ),
        (
            (
                "export",
                "phase.tif",
                "--format",
                "vti",
                "--voxel-size-um",
                1e-320,
                "--length-unit",
                "m",
                "--out",
                "o",
            ),
            "--voxel-size-um: ",
        ),
        (("inspect", "windows.tif", "--voxel-size-um", 1e7), "must be from 1e-05 to 1e+06 um"),
        (
            (
                "export",
                "windows.tif",
                "--reference",
                "reference.json",
                "--format",
                "msh",
                "--voxel-size-um",
                1,
                "--element-size",
                1e-9,
                "--out",
                "o",
            ),
            "--element-size: 1e-09: a structure would have more than 2e+06 triangles: raise it, to 0.0",
        ),
        (
            ("export", "phase.tif", "--format", "vti", "--extrude-voxels", 10**9, "--out", "o"),
            "--extrude-voxels: 1000000000: a structure would have 4.1e+12 voxels",
        ),
        (("export", "windows.tif", "--format", "vti", "--out", "o"), "grey images need --reference"),
    ],
)
def test_hostile_values_are_one_line(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model", "windows.tif", "reference.json"):
        Path(name).symlink_to(material / name)
    write_tiff("phase.tif", np.eye(64, dtype=np.uint8)[None])
    before = set(Path().iterdir())
    assert run_command(monkeypatch, *words) == 2
    assert line in _one_line(capsys)
    assert set(Path().iterdir()) == before


def test_a_simulation_without_a_core_has_no_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "simulate",
        "--radius-px",
        2,
        "--radius-sd-px",
        0,
        "--size-px",
        48,
        "--out",
        tmp_path / "scan",
        "--json",
    )
    assert run_command(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out)["signal_to_noise"] is None


def test_names_that_are_no_utf_8_are_read_and_written(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"sc\xe4n.tif")
    write_tiff(name, np.random.default_rng(0).integers(0, 255, (1, 64, 64), np.uint8))
    out = os.fsdecode(b"\xe4")
    assert (
        run_command(monkeypatch, "detect", name, "--radius", 4, 8, "--out", f"{out}.csv", "--overlay", "o")
        == 0
    )
    words = ("validate", name, "--reference", material / "reference.json", "--grey-scale", "own")
    assert run_command(monkeypatch, *words, "--out", f"{out}.csv", "--json") == 0
    name_written = Path(f"{out}.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[0]
    assert name_written.startswith("sc") and name_written.endswith("n.tif")
    capsys.readouterr()


def test_what_nobody_foresaw_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("microgan.commands.simulate.simulate_scan", fails)
    line = "microgan: defect of microgan (KeyError: 'x'): please report it"
    for words, shows in (((), False), (("--debug",), True)):
        monkeypatch.setattr("sys.argv", ["microgan", "simulate", "--out", str(tmp_path / "x"), *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        error = capsys.readouterr().err
        assert ended.value.code == 70 and line in error and ("Traceback" in error) == shows
        assert shows or error.count("\n") == 1


def test_full_memory_of_torch_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("microgan.commands.simulate.simulate_scan", fails)
    assert run_command(monkeypatch, "simulate", "--out", tmp_path / "x") == 2
    assert "microgan: memory is full: use fewer or smaller images" in capsys.readouterr().err


def test_small_samples_are_told_from_windows(
    tmp_path: Path, material: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("sample", material / "model", "--size", 4, 4, "--count", 1, "--out", tmp_path / "o.tif")
    assert run_command(monkeypatch, *words) == 0
    assert "--size: 4 x 4 px is smaller than 64 x 64 px, the windows" in capsys.readouterr().err


def test_a_name_is_one_line_whatever_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In what is printed and in tables: a name is no way to write lines, nor commands to a terminal."""
    monkeypatch.chdir(tmp_path)
    write_tiff("a\n\x1b[31m.tif", np.arange(64 * 64, dtype=np.uint16).reshape(1, 64, 64) % 97)
    words = ("detect", "a\n\x1b[31m.tif", "--radius", 4, 8, "--out", "b\n\x1b[31m.csv")
    assert run_command(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "written to b\\n\\x1b[31m.csv" in out
    text = Path("b\n\x1b[31m.csv").read_text()
    assert "\x1b" not in text and all(line.count(",") == 4 for line in text.splitlines())


def test_an_animation_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [Image.fromarray(np.full((64, 64), 40 * number, np.uint8)) for number in range(3)]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:])
    words = ("detect", tmp_path / "a.png", "--radius", 4, 8, "--out", tmp_path / "o.csv")
    assert run_command(monkeypatch, *words) == 2
    assert "a.png: an animation of 3 images: must hold one image" in capsys.readouterr().err
