"""`microgan export`."""

import hashlib
import json
import shutil
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
from microgan.samples.verdict_file import NOT_LEARNT, VERDICT, ModelVerdict
from microgan.validity.reference import Reference
from tests.commands.helpers import csv_rows, json_result, run_command
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
    words = ("export", "new.tif", "--reference", material / "reference.json", "--format", "tiff")
    words += ("--include-invalid", "--out", "out")
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
    words += ("--include-invalid",)
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


@pytest.fixture
def mixed(material: Path, tmp_path: Path) -> Path:
    """Two valid windows, and between them one that is blank, hence invalid."""
    rules = Reference.load(material / "reference.json")
    blank = rules.scan.denormalise(np.full((1, 64, 64), -0.5))
    real = tifffile.imread(material / "windows.tif")
    write_tiff(tmp_path / "mixed.tif", np.stack([real[0], blank[0], real[1]]), 0.65)
    return tmp_path / "mixed.tif"


def test_valid_images_alone_are_exported_and_the_line_says_so(
    material: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = mixed.parent / "out"
    words = (mixed, "--reference", material / "reference.json", "--format", "tiff", "--out", out)
    assert run_command(monkeypatch, "export", *words) == 0
    assert capsys.readouterr().out == f"2 of 3 valid, written to {out}\n"
    assert np.array_equal(tifffile.imread(out / "grey.tif"), tifffile.imread(material / "windows.tif"))
    assert run_command(monkeypatch, "export", *words, "--include-invalid") == 0
    assert capsys.readouterr().out == f"3 structures written to {out}; 2 of 3 are valid\n"
    assert np.array_equal(tifffile.imread(out / "grey.tif"), tifffile.imread(mixed))
    blank = mixed.parent / "blank.tif"
    write_tiff(blank, tifffile.imread(mixed)[1:2])
    assert run_command(monkeypatch, "export", blank, *words[1:-1], mixed.parent / "none") == 2
    text = capsys.readouterr().err
    assert "0 of 1 valid (rejected for" in text and "include_invalid" in text
    assert not (mixed.parent / "none").exists()


def _eight_bit(grey: np.ndarray) -> np.ndarray:
    return np.round(grey / 65535 * 255).astype(np.uint8)


@pytest.mark.parametrize("command", ["export", "validate", "compare"])
@pytest.mark.parametrize("saved", [_eight_bit, lambda grey: (grey / 65535).astype(np.float32)])
def test_images_on_another_grey_scale_are_refused_or_read_on_their_own(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    saved: Callable[[np.ndarray], np.ndarray],
) -> None:
    real = tifffile.imread(material / "windows.tif")
    write_tiff(tmp_path / "other.tif", saved(real))
    words: tuple[object, ...] = (tmp_path / "other.tif", "--reference", material / "reference.json")
    words += {
        "export": ("--format", "tiff", "--out", tmp_path / "out"),
        "validate": ("--out", tmp_path / "out.csv"),
        "compare": (material / "windows.tif", "--out", tmp_path / "out.json", "--solve", 2),
    }[command]
    assert run_command(monkeypatch, command, *words) == 2
    text = capsys.readouterr().err
    assert "other.tif: grey values" in text and "--grey-scale own" in text and text.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
    assert run_command(monkeypatch, command, *words, "--grey-scale", "own") == 0
    if command == "export":
        phase = tifffile.imread(tmp_path / "out/phase.tif")
        words = (material / "windows.tif", *words[1:-1], tmp_path / "as_it_was")
        assert run_command(monkeypatch, "export", *words) == 0
        assert np.mean(phase != tifffile.imread(tmp_path / "as_it_was/phase.tif")) < 0.02
    if command == "validate":
        assert [row["valid"] for row in csv_rows(tmp_path / "out.csv")] == ["True", "True"]


def test_another_scanner_setting_is_told(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = tifffile.imread(material / "windows.tif")
    write_tiff(tmp_path / "brighter.tif", np.minimum(real + 16000.0, 65535).astype(np.uint16))
    words = ("--reference", material / "reference.json", "--out", tmp_path / "out.csv")
    assert run_command(monkeypatch, "validate", material / "windows.tif", *words) == 0
    assert not caplog.messages
    assert run_command(monkeypatch, "validate", tmp_path / "brighter.tif", *words) == 0
    (line,) = caplog.messages
    assert "brighter.tif" in line and "beyond the scale of the reference" in line


def test_the_voxel_size_nearest_to_the_images_wins_and_others_are_told(
    material: Path,
    mixed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = Reference.load(material / "reference.json")
    scan = rules.scan.model_copy(update={"voxel_size_um": 1.0})
    rules.model_copy(update={"scan": scan}).save(mixed.parent / "reference.json")
    words: tuple[object, ...] = ("export", mixed, "--reference", mixed.parent / "reference.json")
    words += ("--format", "tiff", "--out", mixed.parent / "out")
    assert json_result(monkeypatch, capsys, *words)["voxel_size_um"] == 0.65
    (line,) = caplog.messages
    assert "voxel size: 0.65 um, as" in line and "the reference says 1 um" in line
    caplog.clear()
    assert json_result(monkeypatch, capsys, *words, "--voxel-size-um", 0.6)["voxel_size_um"] == 0.6
    assert [
        "mixed.tif says 0.65 um" in line or "reference says 1 um" in line for line in caplog.messages
    ] == [
        True,
        True,
    ]


def test_samples_of_a_model_that_has_not_learnt_say_so(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(material / "model", "model")
    weights = json.loads(Path("model/model.json").read_text())["weights_sha256"]
    reasons = ("kernel distance 9.0 times that of training windows",)
    verdict = ModelVerdict(
        verdict=NOT_LEARNT, reasons=reasons, weights_sha256=weights, reference_sha256="2" * 64
    )
    verdict.save(Path("model") / VERDICT)
    assert run_command(monkeypatch, "sample", "model", "--count", 1, "--out", "new.tif") == 0
    words = f"not learnt: {reasons[0]}"
    assert f"warning: model: {words}" in capsys.readouterr().err
    assert json.loads(Path("new.json").read_text())["model"]["verdict"]["verdict"] == "not learnt"
    words_of_export = ("--reference", material / "reference.json", "--format", "tiff", "--include-invalid")
    assert run_command(monkeypatch, "export", "new.tif", *words_of_export, "--out", "out") == 0
    assert f"new.tif: its model: {words}" in capsys.readouterr().err


def test_borders_that_fit_without_a_card_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows, cols = np.indices((64, 64)) / 64 * 2 * np.pi
    phase = (np.sin(2 * rows) + np.sin(3 * cols) > 0).astype(np.uint8)
    words = ("--format", "tiff", "--out", tmp_path / "out")
    for name, image, told in (("seamless.tif", phase, 1), ("cut.tif", phase[:40, :53], 0)):
        caplog.clear()
        write_tiff(tmp_path / name, image[None])
        assert run_command(monkeypatch, "export", tmp_path / name, *words) == 0
        assert len(caplog.messages) == told
    assert run_command(monkeypatch, "export", tmp_path / "seamless.tif", *words, "--periodic") == 0
    assert not caplog.messages


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--format", "csv", "--extrude-voxels", 3),
            "--extrude-voxels: has no effect here: needs --format hdf5",
        ),
        (
            ("--format", "csv", "--element-size", 0.5),
            "--element-size: has no effect here: needs --format inp-mesh or msh or vtu",
        ),
        (
            ("--format", "vti", "--include-invalid"),
            "--include-invalid: has no effect here: needs --reference",
        ),
        (("--format", "vti", "--grey-scale", "own"), "--grey-scale: has no effect here: needs --reference"),
        (
            ("--format", "vti", "--disc-material", "e_glass", "--matrix-material", "epoxy"),
            "--disc-material: has no effect here: needs --format inp",
        ),
        (("--format", "inp", "--disc-material", "e_glass"), "needs --disc-material and --matrix-material"),
        (
            ("--format", "inp", "--disc-material", "steel", "--matrix-material", "epoxy"),
            "--disc-material: steel: must be e_glass, carbon, epoxy, or a JSON file",
        ),
    ],
)
def test_an_option_without_effect_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    line: str,
) -> None:
    np.save(tmp_path / "phase.npy", np.eye(16, dtype=np.uint8))
    words = ("export", tmp_path / "phase.npy", "--voxel-size-um", 1, *options, "--out", tmp_path / "out")
    assert run_command(monkeypatch, *words) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_materials_by_name_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "phase.npy", np.eye(16, dtype=np.uint8))
    (tmp_path / "resin.json").write_text('{"young_modulus_gpa": 2.5, "poisson_ratio": 0.4}')
    materials = ("--disc-material", "e_glass", "--matrix-material", tmp_path / "resin.json")
    words = ("--voxel-size-um", 1, "--length-unit", "mm", "--format", "inp", "--out", tmp_path / "out")
    assert run_command(monkeypatch, "export", tmp_path / "phase.npy", *materials, *words) == 0
    (file,) = (tmp_path / "out/inp").glob("*.inp")
    text = file.read_text()
    elastic = [text[text.index("*ELASTIC", text.index(f"NAME={name}")) :].splitlines()[1] for name in NAMES]
    assert [[float(value) for value in line.split(",")] for line in elastic] == [[2500, 0.4], [74000, 0.2]]


NAMES = ("matrix", "fibre")
