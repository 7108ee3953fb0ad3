"""`microgan detect`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microgan.core.files import write_tiff
from tests.commands.helpers import csv_rows, run_command
from tests.scan.cases import plane


def test_detect_writes_sub_pixel_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, col = np.mgrid[:64, :64]
    distance = np.hypot(row - 30.3, col - 20.6)
    Image.fromarray((np.clip(7 - distance, -0.5, 0.5) * 200 + 120).astype(np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "circles.csv"
    assert run_command(monkeypatch, "detect", tmp_path / "a.png", "--radius", 4, 9, "--out", out) == 0
    (circle,) = csv_rows(out)
    assert list(circle) == ["image", "row", "col", "radius", "score"]
    assert circle["image"] == str(tmp_path / "a.png")
    assert [float(circle[key]) for key in ("row", "col", "radius")] == pytest.approx([30.3, 20.6, 7], abs=0.3)


def _drawn(row: float, col: float) -> np.ndarray:
    rows, cols = np.mgrid[:64, :64]
    return (np.clip(7 - np.hypot(rows - row, cols - col), -0.5, 0.5) * 200 + 120).astype(np.uint8)


def test_detect_takes_a_folder_in_natural_order_and_draws_overlays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in (10, 2, 1):
        Image.fromarray(_drawn(20 + number, 30)).save(folder / f"slice{number}.png")
    write_tiff(folder / "stack.tif", np.stack([_drawn(20, 25), _drawn(20, 35)]))
    np.save(folder / "values.npy", _drawn(40, 40).astype(np.float32))
    (folder / "notes.txt").write_text("not an image")
    out, overlay = tmp_path / "circles.csv", tmp_path / "overlay"
    assert (
        run_command(monkeypatch, "detect", folder, "--radius", 4, 9, "--out", out, "--overlay", overlay) == 0
    )
    rows = csv_rows(out)
    names = ["slice1.png", "slice2.png", "slice10.png", "stack.tif[0]", "stack.tif[1]", "values.npy"]
    assert [row["image"] for row in rows] == [str(folder / name) for name in names]
    centres = [(float(row["row"]), float(row["col"])) for row in rows]
    expected = [(21, 30), (22, 30), (30, 30), (20, 25), (20, 35), (40, 40)]
    assert np.array(centres) == pytest.approx(np.array(expected), abs=0.3)
    pictures = sorted(path.name for path in overlay.iterdir())
    assert pictures[0] == "00000_slice1_png.png" and pictures[4] == "00004_stack_tif_1.png"
    assert len(pictures) == 6
    picture = np.asarray(Image.open(overlay / pictures[0])).astype(int)
    assert picture.shape == (256, 256, 3)
    row, col = np.nonzero(picture[..., 0] - picture[..., 2] > 60)
    distance_px = np.hypot((row + 0.5) / 4 - 21.5, (col + 0.5) / 4 - 30.5)
    assert len(distance_px) and np.abs(distance_px - float(rows[0]["radius"])).max() < 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--radius", 4, 8, "--polarity", "dark"),
            "bright discs explain the image far better: try --polarity bright",
        ),
        (
            ("--radius", 6, 12),
            "of the discs are at the band's lower end, 6: smaller ones are missed: try [3, 12]",
        ),
        (("--radius", 4, 8), None),
    ],
)
def test_a_wrong_polarity_or_band_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: tuple[object, ...],
    line: str | None,
) -> None:
    write_tiff(tmp_path / "a.tif", np.block([[plane(0), plane(1)]])[None])
    assert run_command(monkeypatch, "detect", tmp_path / "a.tif", *options, "--out", tmp_path / "c.csv") == 0
    assert any(line in message for message in caplog.messages) if line else not caplog.messages


def test_advice_on_the_band_is_not_given_for_what_are_no_discs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_tiff(tmp_path / "a.tif", np.block([[plane(0), plane(1)]])[None])
    words = ("--radius", 4, 8, "--polarity", "dark", "--out", tmp_path / "c.csv")
    monkeypatch.setattr("microgan.commands.detect.radius_doubts", lambda *_: ["radius_px: try [1, 9]"])
    assert run_command(monkeypatch, "detect", tmp_path / "a.tif", *words) == 0
    (message,) = caplog.messages
    assert message.endswith("try --polarity bright")


def test_pages_without_specimen_or_without_contrast_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_tiff(tmp_path / "nan.tif", np.full((1, 64, 64), np.nan, np.float32))
    write_tiff(tmp_path / "flat.tif", np.full((1, 64, 64), 7, np.uint8))
    words = ("--radius", 4, 8, "--out", tmp_path / "out.csv")
    assert run_command(monkeypatch, "detect", tmp_path / "nan.tif", *words) == 2
    assert "nan.tif: nothing but outside: must show the specimen" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
    assert run_command(monkeypatch, "detect", tmp_path / "flat.tif", *words) == 0
    assert any("flat.tif: all grey values are 7" in line for line in caplog.messages)
