"""`microgan export`."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from microgan.core.files import write_tiff
from microgan.exporters.export import known_formats
from microgan.gan.checkpoint import load_model
from microgan.gan.networks import Generator
from tests.commands.helpers import json_result, run_command
from tests.helpers import disc_planes


def test_export_takes_phase_images_and_grey_ones(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase = (np.random.default_rng(0).random((2, 16, 16)) > 0.5).astype(np.uint8)
    write_tiff(tmp_path / "phase.tif", phase)
    words = ("--format", "tiff", "--format", "vti", "--voxel-size-um", 1.3, "--out", tmp_path / "a")
    assert run_command(monkeypatch, "export", tmp_path / "phase.tif", *words) == 0
    assert np.array_equal(tifffile.imread(tmp_path / "a/phase.tif"), phase)
    assert len(list((tmp_path / "a/vti").iterdir())) == 2
    words = ("--reference", material / "reference.json", "--format", "csv", "--out", tmp_path / "b")
    assert run_command(monkeypatch, "export", material / "windows.tif", *words) == 0
    assert (tmp_path / "b/circles.csv").exists()


def test_an_export_knows_its_samples_by_their_card(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("microgan.commands.sample.load_model", _of_voxel_size(1.3))
    words = ("sample", material / "model", "--count", 2, "--seed", 3, "--periodic", "--out", "new.tif")
    assert run_command(monkeypatch, *words) == 0
    words = (
        "export",
        "new.tif",
        "--reference",
        material / "reference.json",
        "--format",
        "tiff",
        "--out",
        "out",
    )
    exported = json_result(monkeypatch, capsys, *words)
    assert (exported["voxel_size_um"], exported["periodic"]) == (1.3, True)
    (source,) = json.loads(Path("out/export.json").read_text())["provenance"]["source"]
    weights = json.loads((material / "model/model.json").read_text())["weights_sha256"]
    assert source["sampled"]["weights_sha256"] == weights
    published = {
        Path("new.tif"): (source["sha256"], json.loads(Path("new.json").read_text())["sha256"]),
        material / "model/generator.safetensors": (weights,),
        material / "reference.json": (
            json.loads(Path("out/export.json").read_text())["provenance"]["reference_sha256"],
        ),
    }
    for file, digests in published.items():
        assert set(digests) == {hashlib.sha256(file.read_bytes()).hexdigest()}, file
    assert (source["sampled"]["seed"], source["sampled"]["model"]["training"]) == (3, {"git_commit": "abc"})
    exported = json_result(monkeypatch, capsys, *words, "--voxel-size-um", 2, "--no-periodic")
    assert (exported["voxel_size_um"], exported["periodic"]) == (2, False)

    write_tiff("new.tif", np.zeros((1, 64, 64), np.uint16))  # by another program, beside the old card
    assert run_command(monkeypatch, *words) == 2
    assert "new.json: card of another file" in capsys.readouterr().err


def _of_voxel_size(voxel_size_um: float) -> Callable[[Path], tuple[Generator, dict[str, Any]]]:
    def load(folder: Path) -> tuple[Generator, dict[str, Any]]:
        generator, card = load_model(folder)
        return generator, {**card, "scan": {**card["scan"], "voxel_size_um": voxel_size_um}}

    return load


def test_files_that_disagree_on_the_voxel_size_are_not_exported_together(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("a.tif", 1.0), ("b.tif", 2.0)):
        monkeypatch.setattr("microgan.commands.sample.load_model", _of_voxel_size(size))
        assert (
            run_command(monkeypatch, "sample", material / "model", "--count", 1, "--out", tmp_path / name)
            == 0
        )
    words = ("--reference", material / "reference.json", "--format", "tiff", "--out", tmp_path / "out")
    assert run_command(monkeypatch, "export", tmp_path / "a.tif", tmp_path / "b.tif", *words) == 2
    assert "b.tif: voxel_size_um 2.0: must be 1.0 as" in capsys.readouterr().err


def test_a_large_image_is_exported_with_its_verdict_and_clean_discs(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = disc_planes(tmp_path)
    write_tiff(tmp_path / "large.tif", planes.info.denormalise(np.asarray(planes.grey[:1, 64:160, 64:192])))
    words = ("--reference", material / "reference.json", "--format", "inp", "--format", "csv")
    clean = ("--phase-from", "circles", "--refinement", 2, "--length-unit", "mm", "--extrude-voxels", 2)
    out = tmp_path / "out"
    assert run_command(monkeypatch, "export", tmp_path / "large.tif", *words, *clean, "--out", out) == 0
    sidecar = json.loads((out / "export.json").read_text())
    assert [sidecar[key] for key in ("planes", "rows", "cols", "length_unit")] == [2, 192, 256, "mm"]
    assert [judged["structure"] for judged in sidecar["verdicts"]] == ["structure_00000"]
    assert "*ELEMENT, TYPE=C3D8, ELSET=fibre" in (out / "inp/structure_00000.inp").read_text()


def test_export_names_its_formats(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_command(monkeypatch, "export", "--help") == 0
    assert ", ".join(known_formats()) in capsys.readouterr().out
