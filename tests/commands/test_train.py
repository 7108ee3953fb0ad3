"""From a scan to samples by commands alone: calibrate, train, sample, validate."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from microgan.cli import app
from microgan.core.errors import UserError
from microgan.gan.config import MODELS, ModelConfig
from microgan.scan.simulate import SimulateConfig, simulate_scan
from microgan.validity.reference import Reference

ROOT = Path(__file__).parents[2]


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    simulate_scan(SimulateConfig(planes=3, size_px=160, angles=100, seed=1), folder / "raw")
    parts = ("--calibration", "1:2", "--held-out", "2:3", "--windows", 100, "--learning-steps", 2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("microgan.commands.calibrate.FITTED", 60)
        run("calibrate", folder / "raw/scan.tif", "--radius", 4, 8, *parts, "--out", folder / "ready")
    return folder / "ready"


def test_a_scan_is_calibrated_trained_on_sampled_and_judged(calibrated: Path, tmp_path: Path) -> None:
    reference = Reference.load(calibrated / "reference.json")
    assert reference.held_out_windows == 100 and reference.detection_rates["blank"].rate == 1
    assert reference.scan.voxel_size_um == 1.0
    model, samples = tmp_path / "model", tmp_path / "new.tif"
    words = run("train", calibrated, "--steps", 2, "--model", "dcgan", "--out", model)
    assert words.startswith("2 steps in 0.")
    assert not list((calibrated / "checkpoints").glob("*")), "a finished training leaves no state"
    assert json.loads((model / "model.json").read_text())["model"] == "dcgan"
    run("sample", model, "--count", 2, "--out", samples)
    judged = run(
        "validate", samples, "--reference", calibrated / "reference.json", "--out", tmp_path / "v.csv"
    )
    assert "of 2" in judged


def test_nothing_that_exists_is_replaced(calibrated: Path, tmp_path: Path) -> None:
    before = (calibrated / "reference.json").read_bytes()
    with pytest.raises(UserError, match=r"--out: .*ready: exists already"):
        run("calibrate", calibrated.parent / "raw/scan.tif", "--radius", 4, 8, "--out", calibrated)
    with pytest.raises(UserError, match=r"--out: .*ready: exists already"):
        run("train", calibrated, "--out", calibrated)
    assert (calibrated / "reference.json").read_bytes() == before
    with pytest.raises(UserError, match=r"no standard.json: must be the folder that `microgan calibrate"):
        run("train", tmp_path, "--out", tmp_path / "model")


@pytest.mark.parametrize("part", ["some", "2-3"])
def test_a_part_is_planes_or_a_fraction(tmp_path: Path, part: str) -> None:
    with pytest.raises(UserError, match=f"--held-out: {part}: must be planes"):
        run("calibrate", tmp_path, "--radius", 4, 8, "--held-out", part, "--out", tmp_path / "out")


def test_the_models_are_those_of_params_yaml() -> None:
    models = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
    assert {name: ModelConfig.from_mapping(values, name) for name, values in models.items()} == MODELS
