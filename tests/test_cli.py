import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from microgan import __version__, cli, commands
from microgan.core.files import write_tiff
from microgan.detection.circles import Circles
from microgan.exporters.export import known_formats
from microgan.gan.checkpoint import load_model, save_model
from microgan.gan.networks import Generator, NetworkConfig
from microgan.samples import model_store as model_folder
from microgan.samples.repair import Repaired
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.calibration import calibrate
from microgan.validity.judging import Verdict, judge
from microgan.validity.large_images import LargeImageVerdict
from microgan.validity.own_rules import OwnRule
from microgan.validity.reference import CalibrationConfig, Reference
from tests.helpers import disc_planes, lively

ROOT = Path(__file__).parents[1]
NO_CIRCLES = Circles.from_table(np.zeros((0, 4)))
COMMANDS = ("simulate", "detect", "sample", "validate", "compare", "export")


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
        {"scan": info.model_dump(), "training": {"git_commit": "abc"}},
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


def _drawn(row: float, col: float) -> np.ndarray:
    rows, cols = np.mgrid[:64, :64]
    return (np.clip(7 - np.hypot(rows - row, cols - col), -0.5, 0.5) * 200 + 120).astype(np.uint8)


def test_detect_takes_a_folder_in_natural_order_and_draws_overlays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in (10, 2, 1):
        Image.fromarray(_drawn(20 + number, 30)).save(folder / f"slice{number}.png")
    write_tiff(folder / "stack.tif", np.stack([_drawn(20, 25), _drawn(20, 35)]))
    np.save(folder / "values.npy", _drawn(40, 40).astype(np.float32))
    (folder / "notes.txt").write_text("not an image")
    out, overlay = tmp_path / "circles.csv", tmp_path / "overlay"
    assert _run(monkeypatch, "detect", folder, "--radius", 4, 9, "--out", out, "--overlay", overlay) == 0
    rows = _rows(out)
    names = ["slice1.png", "slice2.png", "slice10.png", "stack.tif[0]", "stack.tif[1]", "values.npy"]
    assert [row["image"] for row in rows] == [str(folder / name) for name in names]
    centres = [(float(row["row"]), float(row["col"])) for row in rows]
    drawn = [(21, 30), (22, 30), (30, 30), (20, 25), (20, 35), (40, 40)]
    assert np.array(centres) == pytest.approx(np.array(drawn), abs=0.3)
    pictures = sorted(path.name for path in overlay.iterdir())
    assert pictures[0] == "00000_slice1_png.png" and pictures[4] == "00004_stack_tif_1.png"
    assert len(pictures) == 6
    picture = np.asarray(Image.open(overlay / pictures[0])).astype(int)
    assert picture.shape == (256, 256, 3)
    row, col = np.nonzero(picture[..., 0] - picture[..., 2] > 60)
    rim = np.hypot((row + 0.5) / 4 - 21.5, (col + 0.5) / 4 - 30.5)
    assert len(rim) and np.abs(rim - float(rows[0]["radius"])).max() < 1


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

    monkeypatch.setattr(commands, "judge", watched)
    out, overlay = tmp_path / "verdicts.csv", tmp_path / "overlay"
    words = (tmp_path / "in", "--reference", material / "reference.json", "--out", out, "--overlay", overlay)
    assert _run(monkeypatch, "validate", *words) == 0
    assert batches == [64, 6]  # memory does not grow with the number of pages
    assert [row["valid"] for row in _rows(out)] == ["True"] * 2 + ["False"] * 68
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
    assert _run(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert "cli_rules.none_is_right" in said and "--allow-own-rules" in said and said.count("\n") == 1
    assert not Path("verdicts.csv").exists() and "cli_rules" not in sys.modules
    assert _run(monkeypatch, *words, "--allow-own-rules") == 0
    assert [row["reasons"] for row in _rows(Path("verdicts.csv"))] == ["never", "never"]
    assert _rows(Path("verdicts.csv"))[0]["never"] == "7.0"


def test_compare_tells_a_set_from_another_and_not_from_itself(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = Reference.load(material / "reference.json").scan
    planes = Planes.load(material / "planes")
    drawn = [Windows(planes, "train", 64).draw(np.random.default_rng(seed), 24)[:, 0] for seed in (0, 1)]
    smaller = np.clip(drawn[1].numpy() - 0.5, -1, 1)  # less of the bright phase
    for name, stack in (("a.tif", drawn[0].numpy()), ("b.tif", drawn[1].numpy()), ("c.tif", smaller)):
        write_tiff(tmp_path / name, info.denormalise(stack))
    found = {}
    for name in ("b", "c"):
        words = ("--reference", material / "reference.json", "--solve", 2, "--out", tmp_path / f"{name}.json")
        words += ("--plot", tmp_path / f"{name}.png")
        assert _run(monkeypatch, "compare", tmp_path / f"{name}.tif", tmp_path / "a.tif", *words) == 0
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert found["b"]["differing"] == []
    assert "volume_fraction" in found["c"]["differing"]
    assert found["c"]["descriptors"]["volume_fraction"]["difference"] < -0.1
    said = capsys.readouterr().out
    assert "Volume fraction" in said and "differing at 5% in all: none" in said


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
    (tmp_path / "empty").mkdir()
    reference = ("--reference", material / "reference.json", "--out", tmp_path / "out.csv")
    cases = [
        (
            ("detect", tmp_path / "none.png", "--radius", 4, 8, "--out", tmp_path / "out.csv"),
            "none.png: missing",
        ),
        (
            ("detect", tmp_path / "empty", "--radius", 4, 8, "--out", tmp_path / "out.csv"),
            "empty: no images: must hold .tif",
        ),
        (("detect", tmp_path / "broken.tif", "--radius", 4, 8, "--out", tmp_path / "out.csv"), "broken.tif"),
        (
            ("detect", tmp_path / "small.tif", "--radius", 8, 4, "--out", tmp_path / "out.csv"),
            "--radius: 8 4",
        ),
        (("validate", tmp_path / "small.tif", *reference), "32 x 32 px: must be at least 64 x 64 px"),
        (
            ("compare", material / "windows.tif", tmp_path / "small.tif", *reference),
            "small.tif: 32 x 32 px: must be 64 x 64 px",
        ),
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.tif", "empty", "small.tif"]


def _json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> dict[str, Any]:
    """Run a command with --json, which must leave nothing else on standard output."""
    capsys.readouterr()
    assert _run(monkeypatch, *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_every_command_gives_its_result_as_json(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reference = ("--reference", material / "reference.json")
    words = ("simulate", "--size-px", 64, "--volume-fraction", 0.3, "--seed", 2, "--out", "scan")
    simulated = _json(monkeypatch, capsys, *words)
    assert simulated["discs"] == len(_rows(Path("scan/circles.csv")))
    assert simulated["files"] == {"scan": "scan/scan.tif", "circles": "scan/circles.csv"}
    words = ("detect", "scan/scan.tif", "--radius", 4, 8, "--out", "found.csv")
    assert _json(monkeypatch, capsys, *words)["discs"] == len(_rows(Path("found.csv")))
    words = ("sample", material / "model", "--count", 2, "--seed", 3, "--out", "new.tif")
    sampled = _json(monkeypatch, capsys, *words)
    assert [sampled[key] for key in ("count", "rows", "cols", "seed")] == [2, 64, 64, 3]
    words = ("validate", material / "windows.tif", *reference, "--out", "verdicts.csv")
    judged = _json(monkeypatch, capsys, *words)
    assert (judged["images"], judged["valid"], judged["pass_rate"]) == (2, 2, 1.0)
    words = ("export", "new.tif", *reference, "--format", "tiff", "--out", "out")
    exported = _json(monkeypatch, capsys, *words)
    assert (exported["structures"], exported["files"]) == (2, {"folder": "out"})


def test_simulate_is_fixed_by_its_seed_and_spares_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("simulate", "--size-px", 64, "--volume-fraction", 0.3, "--voxel-size-um", 0.5)
    for name, seed, more in (("a", 1, ()), ("b", 1, ()), ("c", 1, ("--polarity", "dark")), ("b", 2, ())):
        assert _run(monkeypatch, *words, "--seed", seed, *more, "--out", tmp_path / name) == 0
        if name == "b" and seed == 1:
            assert (tmp_path / "a/circles.csv").read_text() == (tmp_path / "b/circles.csv").read_text()
    assert (tmp_path / "a/circles.csv").read_text() != (tmp_path / "b/circles.csv").read_text()
    bright, dark = (tifffile.imread(tmp_path / name / "scan.tif").astype(float) for name in ("a", "c"))
    inside = np.s_[..., 16:48, 16:48]  # of the specimen; around it both are black
    assert np.corrcoef(bright[inside].ravel(), dark[inside].ravel())[0, 1] < -0.5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    assert _run(monkeypatch, *words, "--out", tmp_path / "mine") == 2
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_strict_makes_an_invalid_image_the_exit_status(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiff(tmp_path / "blank.tif", np.full((1, 64, 64), 20000, np.uint16))
    words = ("--reference", material / "reference.json", "--out", tmp_path / "verdicts.csv")
    assert _run(monkeypatch, "validate", tmp_path / "blank.tif", *words) == 0
    assert _run(monkeypatch, "validate", tmp_path / "blank.tif", *words, "--strict") == 1
    assert _run(monkeypatch, "validate", material / "windows.tif", *words, "--strict") == 0


def test_an_export_knows_its_samples_by_their_card(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "load_model", _of_voxel_size(1.3))
    words = ("sample", material / "model", "--count", 2, "--seed", 3, "--periodic", "--out", "new.tif")
    assert _run(monkeypatch, *words) == 0
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
    exported = _json(monkeypatch, capsys, *words)
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
    exported = _json(monkeypatch, capsys, *words, "--voxel-size-um", 2, "--no-periodic")
    assert (exported["voxel_size_um"], exported["periodic"]) == (2, False)

    write_tiff("new.tif", np.zeros((1, 64, 64), np.uint16))  # by another program, beside the old card
    assert _run(monkeypatch, *words) == 2
    assert "new.json: card of another file" in capsys.readouterr().err


def _of_voxel_size(voxel_size_um: float) -> Callable[[Path], tuple[Generator, dict[str, Any]]]:
    def load(folder: Path) -> tuple[Generator, dict[str, Any]]:
        generator, card = load_model(folder)
        return generator, {**card, "scan": {**card["scan"], "voxel_size_um": voxel_size_um}}

    return load


def test_a_card_takes_no_other_files_place(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reference.json").write_text("{}")
    assert _run(monkeypatch, "sample", material / "model", "--out", tmp_path / "reference.tif") == 2
    assert "reference.json: exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["reference.json"]


def test_files_that_disagree_on_the_voxel_size_are_not_exported_together(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("a.tif", 1.0), ("b.tif", 2.0)):
        monkeypatch.setattr(commands, "load_model", _of_voxel_size(size))
        assert _run(monkeypatch, "sample", material / "model", "--count", 1, "--out", tmp_path / name) == 0
    words = ("--reference", material / "reference.json", "--format", "tiff", "--out", tmp_path / "out")
    assert _run(monkeypatch, "export", tmp_path / "a.tif", tmp_path / "b.tif", *words) == 2
    assert "b.tif: voxel_size_um 2.0: must be 1.0 as" in capsys.readouterr().err


def test_help_lists_the_commands_as_one_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    lines = [line.strip("│| ").split() for line in said.splitlines() if line.strip("│| ")]
    assert [words[0] for words in lines if words[0] in COMMANDS] == list(COMMANDS)
    assert "--install-completion" in said and "--version" in said
    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


BARE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocked())
from microgan.cli import main
main()
"""


def _apart(blocked: tuple[str, ...], *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process where some packages cannot be imported."""
    command = [sys.executable, "-W", "ignore", "-c", BARE.format(blocked=blocked), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False
    )


def test_commands_work_without_dvc_and_mlflow(material: Path, tmp_path: Path) -> None:
    words = ("sample", material / "model", "--count", 2, "--out", tmp_path / "new.tif", "--json")
    done = _apart(("dvc", "mlflow", "yaml", "psutil", "stages"), *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["count"] == 2


def test_a_model_in_mlflow_needs_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_folder, "find_spec", lambda name: None)
    assert _run(monkeypatch, "sample", "models:/microgan-discs@best", "--out", tmp_path / "x.tif") == 2
    said = capsys.readouterr().err
    assert said.startswith("microgan: models:/microgan-discs@best: MLflow is not installed: ")
    assert said.count("\n") == 1


def test_help_and_completion_come_without_torch() -> None:
    heavy = ("torch", "scipy", "skimage", "matplotlib")
    for words, variables, part in (
        (("export", "--help"), {}, "--voxel-size-um"),
        ((), {"_MICROGAN_COMPLETE": "source_bash"}, "complete -o"),
        (
            (),
            {"_MICROGAN_COMPLETE": "complete_bash", "COMP_WORDS": "microgan va", "COMP_CWORD": "1"},
            "validate",
        ),
    ):
        done = _apart(heavy, *words, **variables)
        assert part in done.stdout, done.stderr


def test_ctrl_c_ends_with_130_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "simulate_scan", interrupted)
    assert _run(monkeypatch, "simulate", "--out", tmp_path / "scan") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_quickstart_of_the_readme_runs(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "reference").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "reference/reference.json").write_bytes((material / "reference.json").read_bytes())
    (tmp_path / "models/dcgan").symlink_to(material / "model")
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("count=100", "count=4"), "README.md", "exec"), {})
    exported = json.loads(Path("exported/export.json").read_text())
    assert (exported["structures"], len(exported["verdicts"])) == (4, 4)
    assert len(list(Path("exported/vti").iterdir())) == 4


def test_repaired_fields_are_judged_as_they_are_written(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, out = ("--reference", material / "reference.json"), tmp_path / "field.tif"
    words = ("sample", material / "model", "--count", 2, "--size", 96, 128, "--periodic", "--out", out)
    repair = ("--repair", material / "reference.json", "--rounds", 1)
    told = _json(monkeypatch, capsys, *words, *repair)["repaired"]
    assert (told["windows"], told["valid"], told["rounds"]) == (12, 0, 1)
    verdicts = tmp_path / "verdicts.csv"
    assert _run(monkeypatch, "validate", out, *reference, "--periodic", "--out", verdicts, "--strict") == 1
    invalid = [int(row["invalid_windows"]) for row in _rows(verdicts)]
    assert np.mean(invalid) == told["invalid_windows_after"] > 0
    assert json.loads(out.with_suffix(".json").read_text())["repaired"] == told
    rules = (material / "reference.json").read_bytes()
    assert told["reference_sha256"] == hashlib.sha256(rules).hexdigest()
    assert _run(monkeypatch, *words, *repair, "--strict") == 1


def test_a_field_is_exported_with_its_verdict_and_clean_discs(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = disc_planes(tmp_path)
    write_tiff(tmp_path / "field.tif", planes.info.denormalise(np.asarray(planes.grey[:1, 64:160, 64:192])))
    words = ("--reference", material / "reference.json", "--format", "inp", "--format", "csv")
    clean = ("--phase-from", "circles", "--refinement", 2, "--length-unit", "mm", "--extrude-voxels", 2)
    out = tmp_path / "out"
    assert _run(monkeypatch, "export", tmp_path / "field.tif", *words, *clean, "--out", out) == 0
    sidecar = json.loads((out / "export.json").read_text())
    assert [sidecar[key] for key in ("planes", "rows", "cols", "length_unit")] == [2, 192, 256, "mm"]
    assert [judged["structure"] for judged in sidecar["verdicts"]] == ["structure_00000"]
    assert "*ELEMENT, TYPE=C3D8, ELSET=fibre" in (out / "inp/structure_00000.inp").read_text()


def test_export_names_its_formats(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert _run(monkeypatch, "export", "--help") == 0
    assert ", ".join(known_formats()) in capsys.readouterr().out


def test_a_field_whose_discs_overlap_as_a_whole_is_not_counted_as_valid(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def overlaps_only(*_: object, **__: object) -> Repaired:
        image, verdict = torch.zeros(1, 1, 64, 64), Verdict(True, (), {}, NO_CIRCLES)
        field = LargeImageVerdict(np.array([0]), np.array([0]), [verdict], NO_CIRCLES, np.array([[0, 1]]))
        return Repaired(image, image, image, field, field, True, 1, 0.0, 0.0)

    monkeypatch.setattr(commands, "valid_large_image", overlaps_only)
    words = ("sample", material / "model", "--count", 1, "--repair", material / "reference.json")
    told = _json(monkeypatch, capsys, *words, "--out", tmp_path / "a.tif")["repaired"]
    assert (told["valid"], told["invalid_windows_after"]) == (0, 0)
    assert _run(monkeypatch, *words, "--out", tmp_path / "a.tif", "--strict") == 1
