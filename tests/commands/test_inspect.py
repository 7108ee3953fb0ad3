"""`microgan inspect`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from microgan.core.files import write_tiff
from microgan.scan.config import ScanConfig
from microgan.scan.ingest import ingest
from microgan.scan.readers import open_scan
from tests.commands.helpers import ROOT, json_result, run_command
from tests.scan.cases import PIXEL_UM, plane


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 16-bit slices, as ImageJ writes them, larger than `plane` draws them."""
    folder = tmp_path_factory.mktemp("scans") / "my slices"
    folder.mkdir()
    for number in range(3):
        image = np.block([[plane(number)], [plane(number + 3)]]).astype(np.uint16) * 157 + 3000
        options = {"resolution": (1 / PIXEL_UM,) * 2, "metadata": {"unit": "um"}}
        tifffile.imwrite(folder / f"slice_{number}.tif", image, imagej=True, **options)
    (folder / "notes.txt").write_text("not a slice")
    return folder


def test_inspect_describes_a_scan_and_proposes(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = json_result(monkeypatch, capsys, "inspect", slices, "--picture", "p.png")
    assert (result["shape"], result["dtype"]) == ([3, 320, 192], "uint16")
    assert result["voxel_size_um"] == pytest.approx(PIXEL_UM) and "ImageJ" in result["voxel_size_source"]
    assert (result["polarity"], result["doubts"], result["window_px"]) == ("bright", [], 64)
    assert result["radius_px"] == pytest.approx([4, 8], abs=1)
    assert (result["planes_apart"], result["split"]["held_out"]) == (1, "2:3")
    with Image.open("p.png") as image:
        assert image.size[0] > 1000


def test_a_scan_is_added_and_the_pipeline_reads_it(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three commands and no editor."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    assert run_command(monkeypatch, "inspect", slices, "--add", "mine") == 0
    text = capsys.readouterr().out
    assert "radius_px:" in text and "3 files (" in text and "Next: make repro SCAN=mine" in text
    assert sorted(path.name for path in Path("data/raw/mine").iterdir()) == [
        f"slice_{n}.tif" for n in range(3)
    ]
    assert sorted(path.name for path in slices.iterdir())[0] == "notes.txt"  # nothing was moved
    entry = yaml.safe_load(Path("params.yaml").read_text())["scans"]["mine"]
    config = ScanConfig.from_mapping(entry, "scans.mine")
    planes = ingest("mine", Path("data/raw/mine"), config, 64, tmp_path / "planes")
    assert planes.info.shape == (3, 320, 192) and planes.info.voxel_size_um == pytest.approx(PIXEL_UM)
    assert run_command(monkeypatch, "inspect", slices, "--add", "mine") == 2
    assert "scans.mine: exists" in capsys.readouterr().err


def test_a_scan_in_its_place_is_not_copied(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("window_px: 64\nscans:\n  a:\n    path: .\n")
    shutil.copytree(slices, "data/raw/mine/sub")
    words = ("--add", "mine", "--polarity", "bright", "--radius", 4, 8)
    assert run_command(monkeypatch, "inspect", "data/raw/mine/sub", *words) == 0
    entry = yaml.safe_load(Path("params.yaml").read_text())["scans"]["mine"]
    assert (entry["path"], entry["radius_px"]) == ("sub", [4, 8])
    assert "copied" not in capsys.readouterr().out


def test_nothing_is_added_where_the_proposal_is_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = "window_px: 64\nscans:\n  a:\n    path: .\n"
    Path("params.yaml").write_text(before)
    noise = np.random.default_rng(0).normal(1000, 50, (1, 320, 160)).astype(np.uint16)
    write_tiff(tmp_path / "noise.tif", noise)
    assert run_command(monkeypatch, "inspect", "noise.tif", "--add", "mine") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no discs were found" in line and "give --polarity and --radius MIN MAX" in line
    assert Path("params.yaml").read_text() == before and not Path("data").exists()
    assert run_command(monkeypatch, "inspect", "noise.tif") == 0
    assert "nothing is proposed" in capsys.readouterr().out
    words = ("--add", "mine", "--polarity", "dark", "--radius", 4, 8)
    assert run_command(monkeypatch, "inspect", "noise.tif", *words) == 0  # who knows better decides
    assert yaml.safe_load(Path("params.yaml").read_text())["scans"]["mine"]["polarity"] == "dark"


def test_a_folder_without_params_yaml_is_refused_before_the_scan_is_read(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(monkeypatch, "inspect", slices, "--add", "mine") == 2
    assert "params.yaml: missing: --add writes into params.yaml" in capsys.readouterr().err


def test_what_cannot_be_inspected_gets_advice(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiff(tmp_path / "flat.tif", np.full((1, 64, 64), 7, np.uint8))
    write_tiff(tmp_path / "tiny.tif", plane(0)[None, :8, :8])
    assert run_command(monkeypatch, "inspect", tmp_path / "flat.tif") == 2
    assert "is it a blank plane or a mask? choose other planes with --planes" in capsys.readouterr().err
    assert run_command(monkeypatch, "inspect", tmp_path / "tiny.tif") == 0
    assert "planes of 8 x 8 px are too small for a search" in capsys.readouterr().out


def test_a_range_beyond_the_planes_is_told(slices: Path) -> None:
    config = ScanConfig(path=slices.name, radius_px=(4, 8), planes="1:99")
    with open_scan(slices.parent, config) as scan:
        assert scan.shape[0] == 2
        assert any("planes 1:99: the scan has 3 planes, so 2 are read" in note for note in scan.notes)
    with open_scan(slices.parent, config.model_copy(update={"planes": "1:"})) as scan:
        assert not any("planes" in note for note in scan.notes)


@pytest.mark.parametrize(
    "text",
    [
        b"# Gr\xf6\xdfe\nwindow_px: 64\nscans:\n",
        b"window_px: 0\nscans:\n",
        b"window_px: 0x40\nscans:\n",
        b"window_px: " + 5000 * b"9" + b"\nscans:\n",
        b"window_px: 64\nseed: 1\nseed: 2\nscans:\n",
        b"window_px: 64\nx: !!python/name:os.system\nscans:\n",
    ],
)
def test_a_params_yaml_that_cannot_be_read_gets_no_entry(
    text: bytes,
    slices: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes(text)
    assert run_command(monkeypatch, "inspect", slices, "--add", "mine") == 2
    assert capsys.readouterr().err.startswith("microgan: params.yaml")
    assert Path("params.yaml").read_bytes() == text and not Path("data").exists()


def test_a_params_yaml_behind_a_link_stays_one(
    slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shared.yaml").write_text("window_px: 64\nscans:\n")
    Path("params.yaml").symlink_to("shared.yaml")
    assert run_command(monkeypatch, "inspect", slices, "--add", "mine") == 0
    assert Path("params.yaml").is_symlink() and "mine:" in Path("shared.yaml").read_text()
