"""`microgan sample`: seeds, cards, repair, models in MLflow."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from microgan.core.domain import Domain
from microgan.detection.circles import Circles
from microgan.gan.checkpoint import save_model
from microgan.gan.networks import NetworkConfig
from microgan.samples import model_store
from microgan.samples.repair import Repaired
from microgan.validity.judging import Verdict
from microgan.validity.large_images import LargeImageVerdict
from microgan.validity.reference import Reference
from tests.commands.helpers import csv_rows, json_result, run_command
from tests.helpers import lively

NO_CIRCLES = Circles.from_table(np.zeros((0, 4)))


@pytest.fixture(scope="module")
def noisy_model(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose scanner's noise is apart."""
    generator = lively(NetworkConfig(latent_channels=4, base_channels=4, scanner_noise=0.5))
    assert generator.noise is not None
    generator.noise.filter[8, 8] = 0.1
    folder = tmp_path_factory.mktemp("noisy") / "model"
    save_model(folder, generator, json.loads((material / "model/model.json").read_text()))
    return folder


def test_sample_is_a_scan_like_stack_that_its_seed_fixes(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = []
    for name, seed in (("a.tif", 5), ("b.tif", 5), ("c.tif", 6)):
        words = ("--count", 3, "--size", 40, 56, "--seed", seed, "--out", tmp_path / name)
        assert run_command(monkeypatch, "sample", material / "model", *words) == 0
        stacks.append(tifffile.imread(tmp_path / name))
    assert stacks[0].shape == (3, 40, 56)
    assert stacks[0].dtype == np.uint16  # as the scan
    assert np.array_equal(stacks[0], stacks[1])
    assert not np.array_equal(stacks[0], stacks[2])


def test_a_card_takes_no_other_files_place(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reference.json").write_text("{}")
    assert run_command(monkeypatch, "sample", material / "model", "--out", tmp_path / "reference.tif") == 2
    assert "reference.json: exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["reference.json"]


def test_a_model_in_mlflow_needs_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_store, "find_spec", lambda name: None)
    assert run_command(monkeypatch, "sample", "models:/microgan-discs@best", "--out", tmp_path / "x.tif") == 2
    text = capsys.readouterr().err
    assert text.startswith("microgan: models:/microgan-discs@best: MLflow is not installed: ")
    assert text.count("\n") == 1


def test_repaired_images_are_judged_as_they_are_written(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, out = ("--reference", material / "reference.json"), tmp_path / "large.tif"
    words = ("sample", material / "model", "--count", 2, "--size", 96, 128, "--periodic", "--out", out)
    repair = ("--repair", material / "reference.json", "--rounds", 1)
    repaired = json_result(monkeypatch, capsys, *words, *repair)["repaired"]
    assert (repaired["windows"], repaired["valid"], repaired["rounds"]) == (12, 0, 1)
    verdicts = tmp_path / "verdicts.csv"
    assert (
        run_command(monkeypatch, "validate", out, *reference, "--periodic", "--out", verdicts, "--strict")
        == 1
    )
    invalid = [int(row["invalid_windows"]) for row in csv_rows(verdicts)]
    assert np.mean(invalid) == repaired["invalid_windows_after"] > 0
    assert json.loads(out.with_suffix(".json").read_text())["repaired"] == repaired
    rules = (material / "reference.json").read_bytes()
    assert repaired["reference_sha256"] == hashlib.sha256(rules).hexdigest()
    assert run_command(monkeypatch, *words, *repair, "--strict") == 1


def test_a_large_image_whose_discs_overlap_as_a_whole_is_not_counted_as_valid(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = Verdict(True, (), {}, NO_CIRCLES)
    large = LargeImageVerdict(np.array([0]), np.array([0]), [verdict], NO_CIRCLES, np.array([[0, 1]]))

    def overlaps_only(*_: object, **__: object) -> Repaired:
        image = torch.zeros(1, 1, 64, 64)
        return Repaired(image, image, image, large, large, Domain((64, 64), True), 1, 0.0, 0.0)

    monkeypatch.setattr("microgan.commands.sample.judge_any_size", lambda *_, **__: [large])
    monkeypatch.setattr("microgan.commands.sample.sample_and_repair", overlaps_only)
    words = ("sample", material / "model", "--count", 1, "--repair", material / "reference.json")
    repaired = json_result(monkeypatch, capsys, *words, "--out", tmp_path / "a.tif")["repaired"]
    assert (repaired["valid"], repaired["invalid_windows_after"]) == (0, 0)
    assert run_command(monkeypatch, *words, "--out", tmp_path / "a.tif", "--strict") == 1


def test_the_reference_itself_says_whether_a_repaired_image_is_valid(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Repair judges by a stricter limit of the overlap; `validate` and --strict do not."""
    reference = Reference.load(material / "reference.json")
    grey = reference.scan.normalise(tifffile.imread(material / "windows.tif")[:1])
    image = torch.from_numpy(grey)[None]

    def valid_by_the_reference(*_: object, **__: object) -> Repaired:
        verdict = Verdict(False, ("overlap",), {}, NO_CIRCLES)
        large = LargeImageVerdict(np.array([0]), np.array([0]), [verdict], NO_CIRCLES, np.empty((0, 2), int))
        return Repaired(image, image, image, large, large, Domain((64, 64)), 1, 0.0, 0.0)

    monkeypatch.setattr("microgan.commands.sample.sample_and_repair", valid_by_the_reference)
    out = tmp_path / "a.tif"
    words = ("sample", material / "model", "--count", 1, "--repair", material / "reference.json")
    repaired = json_result(monkeypatch, capsys, *words, "--out", out)["repaired"]
    assert (repaired["valid"], repaired["valid_by_stricter_limit"]) == (1, 0)
    assert repaired["invalid_windows_after"] == 0
    assert run_command(monkeypatch, *words, "--out", out, "--strict") == 0
    assert "1 is valid as a whole (0 by the stricter limit" in capsys.readouterr().out
    judged = ("validate", out, "--reference", material / "reference.json", "--out", tmp_path / "v.csv")
    assert run_command(monkeypatch, *judged, "--strict") == 0


def test_clean_images_show_the_same_specimen_and_are_not_judged_in_silence(
    noisy_model: Path,
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grey = {}
    for name, words in (("scanned", ()), ("clean", ("--clean",))):
        out = tmp_path / f"{name}.tif"
        assert run_command(monkeypatch, "sample", noisy_model, "--count", 2, *words, "--out", out) == 0
        grey[name] = tifffile.imread(out).astype(float)
        assert json.loads((tmp_path / f"{name}.json").read_text())["clean"] is (name == "clean")
    noise = grey["scanned"] - grey["clean"]
    assert 0 < noise.std() < grey["clean"].std() and abs(noise.mean()) < 0.1 * noise.std()
    capsys.readouterr()
    judged = ("--reference", material / "reference.json", "--out", tmp_path / "v.csv")
    for name, warned in (("scanned", False), ("clean", True)):
        assert run_command(monkeypatch, "validate", tmp_path / f"{name}.tif", *judged) == 0
        assert ("clean.tif: without the scanner's noise" in capsys.readouterr().err) is warned


def test_a_model_without_noise_apart_has_no_clean_images(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("sample", material / "model", "--clean", "--out", tmp_path / "x.tif")
    assert run_command(monkeypatch, *words) == 2
    assert "--clean: no noise apart: needs a model" in capsys.readouterr().err
    assert not (tmp_path / "x.tif").exists()


def test_repaired_images_can_be_written_clean(
    noisy_model: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = {}
    for name, words in (("scanned", ()), ("clean", ("--clean",))):
        repair = ("--repair", material / "reference.json", "--rounds", 1, *words)
        out = tmp_path / f"{name}.tif"
        assert run_command(monkeypatch, "sample", noisy_model, "--count", 1, *repair, "--out", out) == 0
        grey[name] = tifffile.imread(out).astype(float)
    assert 0 < (grey["scanned"] - grey["clean"]).std() < grey["clean"].std()
