"""`microgan windows`."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from microgan.core.files import write_tiff
from microgan.scan.planes import Planes
from microgan.scan.readers import open_image
from tests.commands.helpers import run_command
from tests.scan.cases import COLS, PIXEL_UM, ROWS, outside_of_circle, plane


def test_windows_of_slices_lie_in_the_field_of_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each pixel says by its value where it lies.
    number = np.arange(1, ROWS * COLS + 1, dtype=np.float32).reshape(ROWS, COLS)
    stack = np.stack([number, number + ROWS * COLS])
    stack[:, outside_of_circle()] = np.nan
    write_tiff(tmp_path / "scan.tif", stack, PIXEL_UM)
    out = tmp_path / "real.tif"
    words = ("windows", tmp_path / "scan.tif", "--count", 40, "--size", 48, "--seed", 3, "--out")
    assert run_command(monkeypatch, *words, out) == 0
    windows = tifffile.imread(out)
    assert windows.shape == (40, 48, 48) and windows.dtype == np.float32 and np.isfinite(windows).all()
    assert (np.diff(windows, axis=2) == 1).all() and (np.diff(windows, axis=1) == COLS).all()
    assert 10 < (windows[:, 0, 0] > ROWS * COLS).sum() < 30  # of both planes
    with open_image(out) as image:
        assert image.voxel_size_um == pytest.approx(PIXEL_UM)
    assert run_command(monkeypatch, *words, tmp_path / "again.tif") == 0
    assert (tifffile.imread(tmp_path / "again.tif") == windows).all()


def test_windows_of_a_prepared_scan_are_of_one_part(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = Planes.load(material / "planes")
    words = ("windows", material / "planes", "--count", 5, "--part", "calibration", "--out")
    assert run_command(monkeypatch, *words, tmp_path / "real.tif") == 0
    windows = tifffile.imread(tmp_path / "real.tif")
    ((index, *_),) = planes.info.regions["calibration"]
    whole = planes.info.denormalise(np.asarray(planes.grey[index], np.float32))
    places = np.lib.stride_tricks.sliding_window_view(whole, (64, 64))
    assert windows.shape == (5, 64, 64)
    for window in windows:
        assert (places[:, :, 0, 0] == window[0, 0]).any()
        row, col = np.argwhere((places[..., 0, :] == window[0]).all(-1))[0]
        assert (places[row, col] == window).all()


def test_what_has_no_windows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiff(tmp_path / "scan.tif", plane(0)[None])
    words = ("windows", tmp_path / "scan.tif", "--count", 2)
    for more, line in (
        (("--size", 200, "--out", tmp_path / "o.tif"), "scan.tif: too small: no window of 200 x 200 px fits"),
        (
            ("--part", "train", "--out", tmp_path / "o.tif"),
            "--part: train: slices have no parts: needs data/planes",
        ),
        (("--out", tmp_path / "scan.tif"), "must not be what the command reads"),
        (("--out", tmp_path / "o.png"), "must be named *.tif"),
    ):
        assert run_command(monkeypatch, *words, *more) == 2
        assert line in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scan.tif"]
