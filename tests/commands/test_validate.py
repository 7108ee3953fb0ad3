"""`microgan validate`."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microgan.core.domain import Domain
from microgan.core.files import write_tiff
from microgan.samples.card import SampleCard, SampleConfig
from microgan.scan.readers import open_image
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
    assert valid[1, 1, 2] > 1.5 * valid[1, 1, 0] and invalid[1, 1, 0] > 1.5 * invalid[1, 1, 2]  # blue, orange
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


def test_valid_images_are_kept_with_their_card(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = Reference.load(material / "reference.json")
    real = tifffile.imread(material / "windows.tif")
    blank = rules.scan.denormalise(np.full((1, 64, 64), -0.5))
    samples, kept = tmp_path / "new.tif", tmp_path / "kept.tif"
    write_tiff(samples, np.stack([real[0], blank[0], real[1]]), 0.65)
    model = json.loads((material / "model/model.json").read_text())
    card = SampleCard.of(samples, model, SampleConfig(count=3, seed=4), Domain((64, 64)))
    card.write(tmp_path / "new.json")
    words = (samples, "--reference", material / "reference.json", "--out", tmp_path / "v.csv", "--keep", kept)
    assert run_command(monkeypatch, "validate", *words) == 0
    assert f"valid images to {kept}" in capsys.readouterr().out
    assert np.array_equal(tifffile.imread(kept), real)
    with open_image(kept) as scan:
        assert scan.voxel_size_um == pytest.approx(0.65)
    selected = SampleCard.load(kept)
    assert (selected.count, selected.seed, selected.selected["judged"], selected.selected["valid"]) == (
        2,
        4,
        3,
        2,
    )

    write_tiff(samples, blank)
    (tmp_path / "new.json").unlink()
    assert run_command(monkeypatch, "validate", *words[:-1], tmp_path / "none.tif") == 0
    assert "none is valid" in capsys.readouterr().out and not (tmp_path / "none.tif").exists()
    assert run_command(monkeypatch, "validate", *words[:-1], samples) == 2
    assert "must not be what the command reads" in capsys.readouterr().err
    assert np.array_equal(tifffile.imread(samples), blank[0])


def test_a_name_promises_the_content(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = ("--reference", material / "reference.json")
    windows = material / "windows.tif"
    for words, rule in (
        (("sample", material / "model", "--count", 2, "--out", tmp_path / "s.png"), "*.tif or *.tiff"),
        (("detect", windows, "--radius", 4, 8, "--out", tmp_path / "d.xlsx"), "*.csv"),
        (("validate", windows, *reference, "--out", tmp_path / "v.json"), "*.csv"),
        (
            ("validate", windows, *reference, "--out", tmp_path / "v.csv", "--keep", tmp_path / "k.png"),
            "*.tif",
        ),
        (("compare", windows, windows, *reference, "--out", tmp_path / "c.csv"), "*.json"),
        (("compare", windows, windows, *reference, "--plot", tmp_path / "c.tif"), "*.png"),
    ):
        assert run_command(monkeypatch, *words) == 2
        text = capsys.readouterr().err
        assert rule in text and text.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_inverted_images_get_a_hint_of_polarity(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = tifffile.imread(material / "windows.tif")
    low, high = Reference.load(material / "reference.json").scan.intensity_window
    write_tiff(tmp_path / "inverted.tif", np.clip(low + high - real, low, high).astype(real.dtype))
    words = ("--reference", material / "reference.json", "--out", tmp_path / "v.csv")
    assert run_command(monkeypatch, "validate", tmp_path / "inverted.tif", *words) == 0
    assert any("dark discs explain them far better" in line for line in caplog.messages)
    caplog.clear()
    assert run_command(monkeypatch, "validate", material / "windows.tif", *words) == 0
    assert not any("inverted" in line for line in caplog.messages)


def test_the_standard_reference_is_told_from_the_users(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(material / "reference.json", tmp_path / "standard.json")
    words = ("--reference", tmp_path / "standard.json", "--out", tmp_path / "v.csv")
    assert run_command(monkeypatch, "validate", material / "windows.tif", *words) == 0
    assert any("standard.json: has the standard limits, which training uses" in m for m in caplog.messages)
