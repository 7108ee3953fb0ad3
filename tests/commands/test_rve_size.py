"""`microgan rve-size`."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microgan.core.files import write_tiff
from microgan.scan.planes import Planes
from tests.commands.helpers import json_result, run_command


def test_a_scan_says_how_large_a_cell_must_be(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("rve-size", material / "planes", "--reference", material / "reference.json", "--solve", 12)
    written = ("--out", tmp_path / "cells.json", "--plot", tmp_path / "cells.png")
    figures = json_result(monkeypatch, capsys, *words, *written)
    assert json.loads((tmp_path / "cells.json").read_text()).items() <= figures.items()
    with Image.open(tmp_path / "cells.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    low, high = figures["volume_fraction_interval"]
    assert low < figures["volume_fraction"] < high and 0.4 < figures["volume_fraction"] < 0.7
    assert [row["side_px"] for row in figures["cells"]] == [64, 128, 256, 512, 1024]
    for name in ("volume_fraction_half_width", "stiffness_relative_half_width"):
        widths = [row[name] for row in figures["cells"]]
        assert all(0 < after < before for before, after in pairwise(widths))
    wanted = figures["wanted"]
    size_um = Planes.load(material / "planes").info.voxel_size_um
    assert size_um is not None
    assert wanted["stiffness"]["side_um"] == pytest.approx(wanted["stiffness"]["side_px"] * size_um)
    assert figures["planes"] == 3 and 1 <= figures["independent_planes"] <= 3

    more = ("--cell-px", 100, "--half-width", 0.05, "--confidence", 0.9)
    assert run_command(monkeypatch, *words[:4], "--solve", 0, *more) == 0
    text = capsys.readouterr().out
    assert "100 px" in text and "stiffness within" not in text
    assert "for volume fraction within 0.05: a cell of" in text
    assert "in 90 % of the cells" in text


def test_slices_are_read_on_the_scale_of_the_scan(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--reference", material / "reference.json", "--solve", 0)
    scan = material / "raw/scan.tif"
    from_slices = json_result(monkeypatch, capsys, "rve-size", scan, *words)
    from_planes = json_result(monkeypatch, capsys, "rve-size", material / "planes", *words)
    assert from_slices["volume_fraction"] == pytest.approx(from_planes["volume_fraction"], abs=0.02)
    write_tiff(tmp_path / "other.tif", (tifffile.imread(scan) / 257).astype(np.uint8))
    assert run_command(monkeypatch, "rve-size", tmp_path / "other.tif", *words) == 2
    assert "--grey-scale own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--half-width", 0), "--half-width: 0.0: must be above 0 and below 1"),
        (("--confidence", 1), "--confidence: 1.0: must be above 0"),
        (("--solve", 5), "--solve: 5: must be at least 10"),
        (("--disc-material", "steel"), "--disc-material: steel: must be e_glass, carbon, epoxy"),
    ],
)
def test_bad_input_is_one_line(
    material: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
    line: str,
) -> None:
    command = ("rve-size", material / "planes", "--reference", material / "reference.json")
    assert run_command(monkeypatch, *command, *words) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
