"""`microgan compare`."""

import json
from pathlib import Path

import numpy as np
import pytest

from microgan.core.files import write_tiff
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference
from tests.commands.helpers import run_command


def test_compare_tells_a_set_from_another_and_not_from_itself(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = Reference.load(material / "reference.json").scan
    planes = Planes.load(material / "planes")
    real = [Windows(planes, "train", 64).draw(np.random.default_rng(seed), 24)[:, 0] for seed in (0, 1)]
    smaller = np.clip(real[1].numpy() - 0.5, -1, 1)  # less of the bright phase
    for name, stack in (("a.tif", real[0].numpy()), ("b.tif", real[1].numpy()), ("c.tif", smaller)):
        write_tiff(tmp_path / name, info.denormalise(stack))
    figures = {}
    for name in ("b", "c"):
        words = ("--reference", material / "reference.json", "--solve", 2, "--out", tmp_path / f"{name}.json")
        words += ("--plot", tmp_path / f"{name}.png")
        assert run_command(monkeypatch, "compare", tmp_path / f"{name}.tif", tmp_path / "a.tif", *words) == 0
        figures[name] = json.loads((tmp_path / f"{name}.json").read_text())
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert figures["b"]["differing"] == []
    assert "volume_fraction" in figures["c"]["differing"]
    assert figures["c"]["descriptors"]["volume_fraction"]["difference"] < -0.1
    text = capsys.readouterr().out
    assert "Volume fraction" in text and "differing of these: none" in text
    assert f"{tmp_path / 'b.tif'} (24 images) against {tmp_path / 'a.tif'} (24 images)" in text
    assert "error: of a number, the difference over the second set's" in text
    (together,) = {line for line in text.splitlines() if line.startswith("tested together, at 5% in all: ")}
    assert "two-point correlation" in together and "lineal" not in together
    assert figures["b"]["tested_together"][0] != "" and len(figures["b"]["tested_together"]) <= 8


def test_both_sets_are_checked_before_one_is_measured(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr("microgan.commands.compare.MeasuredImages.of", measured)
    write_tiff(tmp_path / "small.tif", np.zeros((2, 32, 32), np.uint16))
    words = ("compare", material / "windows.tif", tmp_path / "small.tif", "--reference")
    assert run_command(monkeypatch, *words, material / "reference.json") == 2
    assert "small.tif[0]: 32 x 32 px: must be 64 x 64 px" in capsys.readouterr().err
    assert run_command(monkeypatch, *words, material) == 2
    assert f"is a folder: must be the file {material / 'reference.json'}" in capsys.readouterr().err
