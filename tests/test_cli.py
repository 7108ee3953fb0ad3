import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microgan import cli
from microgan.checkpoint import save_model
from microgan.files import write_tiff
from microgan.networks import NetworkConfig
from microgan.validity import CalibrationConfig, Reference, calibrate
from tests.helpers import disc_planes, lively


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibrated reference.json, a model and a few real windows."""
    folder = tmp_path_factory.mktemp("material")
    planes = disc_planes(folder)
    calibrate(planes, 64, CalibrationConfig(windows=100)).save(folder / "reference.json")
    info = planes.info
    save_model(
        folder / "model",
        lively(NetworkConfig(latent_channels=4, base_channels=4)),
        {"scan": info.model_dump()},
    )
    windows = np.stack([np.asarray(planes.grey[0, r : r + 64, 96:160], np.float32) for r in (70, 110)])
    write_tiff(folder / "windows.tif", info.denormalise(windows))
    return folder


def _run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["microgan", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_detect_writes_sub_pixel_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, col = np.mgrid[:64, :64]
    distance = np.hypot(row - 30.3, col - 20.6)
    Image.fromarray((np.clip(7 - distance, -0.5, 0.5) * 200 + 120).astype(np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "circles.csv"
    assert _run(monkeypatch, "detect", tmp_path / "a.png", "--radius", 4, 9, "--out", out) == 0
    (found,) = _rows(out)
    assert list(found) == ["image", "row", "col", "radius", "score"]
    assert found["image"] == str(tmp_path / "a.png")
    assert [float(found[key]) for key in ("row", "col", "radius")] == pytest.approx([30.3, 20.6, 7], abs=0.3)


def test_sample_is_a_scan_like_stack_that_its_seed_fixes(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = []
    for name, seed in (("a.tif", 5), ("b.tif", 5), ("c.tif", 6)):
        words = ("--count", 3, "--size", 40, 56, "--seed", seed, "--out", tmp_path / name)
        assert _run(monkeypatch, "sample", material / "model", *words) == 0
        stacks.append(tifffile.imread(tmp_path / name))
    assert stacks[0].shape == (3, 40, 56)
    assert stacks[0].dtype == np.uint16  # as the scan
    assert np.array_equal(stacks[0], stacks[1])
    assert not np.array_equal(stacks[0], stacks[2])


def test_validate_tells_real_windows_from_blank_ones(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Reference.load(material / "reference.json")
    blank = rules.scan.denormalise(np.full((1, 64, 64), -0.5))
    stack = np.concatenate([tifffile.imread(material / "windows.tif"), blank])
    write_tiff(tmp_path / "mixed.tif", stack)
    out = tmp_path / "verdicts.csv"
    words = (tmp_path / "mixed.tif", "--reference", material / "reference.json", "--out", out)
    assert _run(monkeypatch, "validate", *words) == 0
    rows = _rows(out)
    assert [row["valid"] for row in rows] == ["True", "True", "False"]
    assert "volume_fraction" in rows[2]["reasons"]
    assert rows[2]["image"] == f"{tmp_path / 'mixed.tif'}[2]"


def test_export_takes_phase_images_and_grey_ones(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase = (np.random.default_rng(0).random((2, 16, 16)) > 0.5).astype(np.uint8)
    write_tiff(tmp_path / "phase.tif", phase)
    words = ("--format", "tiff", "--format", "vti", "--voxel-size-um", 1.3, "--out", tmp_path / "a")
    assert _run(monkeypatch, "export", tmp_path / "phase.tif", *words) == 0
    assert np.array_equal(tifffile.imread(tmp_path / "a/phase.tif"), phase)
    assert len(list((tmp_path / "a/vti").iterdir())) == 2
    words = ("--reference", material / "reference.json", "--format", "csv", "--out", tmp_path / "b")
    assert _run(monkeypatch, "export", material / "windows.tif", *words) == 0
    assert (tmp_path / "b/circles.csv").exists()


def test_bad_input_is_one_line_and_writes_nothing(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiff(tmp_path / "small.tif", np.zeros((1, 32, 32), np.uint8))
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    reference = ("--reference", material / "reference.json", "--out", tmp_path / "out.csv")
    cases = [
        (
            ("detect", tmp_path / "none.png", "--radius", 4, 8, "--out", tmp_path / "out.csv"),
            "none.png: missing",
        ),
        (("detect", tmp_path / "broken.tif", "--radius", 4, 8, "--out", tmp_path / "out.csv"), "broken.tif"),
        (
            ("detect", tmp_path / "small.tif", "--radius", 8, 4, "--out", tmp_path / "out.csv"),
            "--radius: 8 4",
        ),
        (("validate", tmp_path / "small.tif", *reference), "32 x 32 px: must be 64 x 64 px"),
        (("sample", tmp_path, "--out", tmp_path / "out.csv"), "model.json: missing"),
        (
            ("sample", material / "model", "--size", 60, 64, "--periodic", "--out", tmp_path / "o.tif"),
            "size: 60",
        ),
        (("export", tmp_path / "small.tif", "--format", "stl", "--out", tmp_path / "x"), "formats.0: 'stl'"),
    ]
    for words, line in cases:
        assert _run(monkeypatch, *words) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("microgan: "), words
        assert line in said
        assert len(said.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.tif", "small.tif"]
