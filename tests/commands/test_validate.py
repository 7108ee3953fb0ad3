"""`microgan validate`."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microgan.core.files import write_tiff
from microgan.validity import large_images
from microgan.validity.judging import judge
from microgan.validity.own_rules import OwnRule
from microgan.validity.reference import Reference
from tests.commands.helpers import csv_rows, run_command


def test_validate_tells_real_windows_from_blank_ones(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Reference.load(material / "reference.json")
    blank = rules.scan.denormalise(np.full((1, 64, 64), -0.5))
    stack = np.concatenate([tifffile.imread(material / "windows.tif"), blank])
    write_tiff(tmp_path / "mixed.tif", stack)
    out = tmp_path / "verdicts.csv"
    words = (tmp_path / "mixed.tif", "--reference", material / "reference.json", "--out", out)
    assert run_command(monkeypatch, "validate", *words) == 0
    rows = csv_rows(out)
    assert [row["valid"] for row in rows] == ["True", "True", "False"]
    assert "volume_fraction" in rows[2]["reasons"]
    assert rows[2]["image"] == f"{tmp_path / 'mixed.tif'}[2]"


def test_validate_frames_pages_and_streams_them(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Reference.load(material / "reference.json")
    real = tifffile.imread(material / "windows.tif")
    blank = rules.scan.denormalise(np.full((68, 64, 64), -0.5))
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in/1.tif", real)
    write_tiff(tmp_path / "in/2.tif", blank)
    batches = []

    def watched(images, *args, **options):
        batches.append(len(images))
        return judge(images, *args, **options)

    monkeypatch.setattr(large_images, "judge", watched)
    out, overlay = tmp_path / "verdicts.csv", tmp_path / "overlay"
    words = (tmp_path / "in", "--reference", material / "reference.json", "--out", out, "--overlay", overlay)
    assert run_command(monkeypatch, "validate", *words) == 0
    assert batches == [64, 6]  # memory does not grow with the number of pages
    assert [row["valid"] for row in csv_rows(out)] == ["True"] * 2 + ["False"] * 68
    pictures = sorted(overlay.iterdir())
    assert len(pictures) == 70
    valid, invalid = (np.asarray(Image.open(pictures[index])).astype(int) for index in (0, 2))
    assert valid[1, 1, 1] > 1.5 * valid[1, 1, 0] and invalid[1, 1, 0] > 1.5 * invalid[1, 1, 1]
    assert valid.shape == (266, 266, 3) and invalid.shape[0] > 266  # the reasons are written below


def test_own_rules_of_a_reference_run_only_when_allowed(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cli_rules.py").write_text("def none_is_right(evidence):\n    return 7.0\n")
    rules = Reference.load(material / "reference.json")
    own = {"own": {"never": OwnRule(function="cli_rules.none_is_right")}}
    limits = {"limits": {**rules.limits, "never": (None, 1.0)}}
    rules.model_copy(update=own | limits).save(tmp_path / "reference.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [folder for folder in sys.path if folder])
    words = ("validate", material / "windows.tif", "--reference", "reference.json", "--out", "verdicts.csv")
    assert run_command(monkeypatch, *words) == 2
    text = capsys.readouterr().err
    assert "cli_rules.none_is_right" in text and "--allow-own-rules" in text and text.count("\n") == 1
    assert not Path("verdicts.csv").exists() and "cli_rules" not in sys.modules
    assert run_command(monkeypatch, *words, "--allow-own-rules") == 0
    assert [row["reasons"] for row in csv_rows(Path("verdicts.csv"))] == ["never", "never"]
    assert csv_rows(Path("verdicts.csv"))[0]["never"] == "7.0"


def test_strict_makes_an_invalid_image_the_exit_status(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiff(tmp_path / "blank.tif", np.full((1, 64, 64), 20000, np.uint16))
    words = ("--reference", material / "reference.json", "--out", tmp_path / "verdicts.csv")
    assert run_command(monkeypatch, "validate", tmp_path / "blank.tif", *words) == 0
    assert run_command(monkeypatch, "validate", tmp_path / "blank.tif", *words, "--strict") == 1
    assert run_command(monkeypatch, "validate", material / "windows.tif", *words, "--strict") == 0
