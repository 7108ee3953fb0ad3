"""Scans with one trap each are read right, and what was doubtful is said; or they are refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from microgan.core.errors import UserError
from microgan.scan.config import ScanConfig
from microgan.scan.readers import open_image, open_scan
from tests.commands.helpers import csv_rows, run_command
from tests.scan.cases import CASES, COLS, ROWS, draw, outside_of_circle, plane, stack

# Masks have two values, and JPEG is lossy; all other pixels come back as they were drawn, up to a scale.
LOSSY = {"mask_1bit.tif": 0.9, "mask_bool.npy": 0.9, "compressed_jpeg.tif": 0.99}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all cases."""
    folder = tmp_path_factory.mktemp("cases")
    draw(folder)
    return folder


@pytest.mark.parametrize("name", [name for name, expected in CASES.items() if not expected.refused])
def test_case_is_read_right(folder: Path, name: str) -> None:
    expected = CASES[name]
    with open_scan(folder, ScanConfig(path=name, radius_px=(4, 8))) as scan:
        planes = np.stack([scan.plane(index) for index in range(scan.shape[0])]).astype(float)
        size_um, notes = scan.voxel_size_um, scan.notes
    assert planes.shape == scan.shape == (expected.planes, ROWS, COLS)
    assert size_um == (None if expected.voxel_size_um is None else pytest.approx(expected.voxel_size_um))
    assert (expected.note in notes[0]) if expected.note else notes == ()
    for drawn, read in zip(stack(), planes, strict=False):
        seen = np.isfinite(read)
        correlation = np.corrcoef(drawn[seen], read[seen])[0, 1]  # positive: discs are the brighter ones
        assert correlation > LOSSY.get(name, 1 - 1e-9)


@pytest.mark.parametrize("name", [name for name, expected in CASES.items() if expected.refused])
def test_case_is_refused_in_one_line(folder: Path, name: str) -> None:
    with pytest.raises(UserError) as error:
        open_scan(folder, ScanConfig(path=name, radius_px=(4, 8)))
    line = str(error.value)
    assert "\n" not in line
    for words in CASES[name].refused:
        assert words in line


@pytest.mark.parametrize(
    "name", ["min_is_white.tif", "grey_as_rgba.png", "external_link.h5", "compressed_zstd.tif"]
)
def test_images_of_commands_are_read_alike(folder: Path, name: str) -> None:
    with open_image(folder / name) as image:
        assert np.corrcoef(image.plane(0).ravel(), plane(0).ravel())[0, 1] == pytest.approx(1)


def _discs(monkeypatch: pytest.MonkeyPatch, path: Path, out: Path) -> np.ndarray:
    assert run_command(monkeypatch, "detect", path, "--radius", 4, 8, "--out", out) == 0
    return np.array([[float(row["row"]), float(row["col"])] for row in csv_rows(out)])


def test_detect_reads_inverted_and_compressed_files_alike(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = _discs(monkeypatch, folder / "grey_palette.tif", tmp_path / "a.csv")
    assert 55 <= len(truth) <= 62
    for name in ("min_is_white.tif", "grey_as_rgb.tif", "grey_as_rgba.png"):
        assert (_discs(monkeypatch, folder / name, tmp_path / "b.csv") == truth).all()


@pytest.mark.parametrize(
    ("dtype", "outside"), [("float32", np.nan), ("int16", -3024), ("uint16", 0), ("int32", -3024)]
)
def test_detect_uses_the_field_of_view_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, outside: float
) -> None:
    """Padding changes neither the grey values nor the discs inside of the circle, and has none of its own."""
    np.save(tmp_path / "whole.npy", plane(0).astype(dtype))
    padded = plane(0).astype(dtype)
    padded[outside_of_circle()] = outside
    np.save(tmp_path / "padded.npy", padded)
    whole = _discs(monkeypatch, tmp_path / "whole.npy", tmp_path / "a.csv")
    discs = _discs(monkeypatch, tmp_path / "padded.npy", tmp_path / "b.csv")
    middle = np.array([ROWS - 1, COLS - 1]) / 2
    assert np.hypot(*(discs - middle).T).max() < 78
    inner = whole[np.hypot(*(whole - middle).T) < 66]
    assert len(inner) > 25
    nearest = np.hypot(*(inner[:, None] - discs[None]).transpose(2, 0, 1)).min(1)
    assert nearest.max() < 0.5
    assert len(discs) < len(whole)


@pytest.mark.parametrize("command", ["detect", "export"])
def test_nan_inside_is_refused_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    values = plane(0).astype(np.float32)
    values[80:84, 90:93] = np.nan
    np.save(tmp_path / "hole.npy", values)
    options = {
        "detect": ("--radius", 4, 8, "--out", tmp_path / "out.csv"),
        "export": ("--format", "json", "--out", tmp_path / "out"),
    }[command]
    assert run_command(monkeypatch, command, tmp_path / "hole.npy", *options) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"microgan: {tmp_path / 'hole.npy'}: 12 px are NaN or infinite, ")
    assert [path.name for path in tmp_path.iterdir()] == ["hole.npy"]


@pytest.mark.parametrize("name", ["mask_1bit.tif", "mask_bool.npy"])
def test_export_takes_masks(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    command = ("export", folder / name, "--format", "tiff", "--voxel-size-um", 1, "--out", tmp_path / "out")
    assert run_command(monkeypatch, *command) == 0


def test_export_refuses_three_values_with_their_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "three.npy", np.arange(3, dtype=np.uint8).repeat(100).reshape(15, 20))
    command = ("export", tmp_path / "three.npy", "--format", "tiff", "--out", tmp_path / "out")
    assert run_command(monkeypatch, *command) == 2
    assert "3 values (0, 1, 2): phase image must hold two values" in capsys.readouterr().err


def test_warnings_are_printed_once_per_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "many").mkdir()
    for number in range(3):
        (tmp_path / f"many/{number}.tif").write_bytes((folder / "min_is_white.tif").read_bytes())
    for path, more in ((folder / "min_is_white.tif", ""), (tmp_path / "many", " (and 2 more files)")):
        _discs(monkeypatch, path, tmp_path / "out.csv")
        lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
        first = path if path.is_file() else path / "0.tif"
        assert len(lines) == 1
        assert lines[0].startswith(f"microgan: warning: {first}: photometric interpretation MinIsWhite")
        assert lines[0].endswith(f"as viewers show them{more}")
