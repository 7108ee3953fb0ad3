"""The stages in a row, from simulation to report, and as DVC runs them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from stages import (
    evaluate,
    export,
    generate,
    measure,
    report,
    train,
    validate,
    verdict,
)
from stages.samples import read_samples, read_stack
from tests.stages.helpers import ROOT, edit, edit_reference, error_line, lines, start, state_of


def test_samples_are_judged_by_own_rules_only_if_params_yaml_names_them(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"mine": {"function": "microgan.validity.rules.largest_nearest_neighbour_gap", "side": "too_large"}}
    edit_reference(own=own)
    edit(generate__count=2)
    for each in (generate, measure):
        assert start(each.main, "dcgan", monkeypatch=monkeypatch) == 0
    capsys.readouterr()
    assert start(validate.main, "dcgan", monkeypatch=monkeypatch) == 2
    assert "microgan.validity.rules.largest_nearest_neighbour_gap: would run Python code" in error_line(
        capsys
    )
    edit(calibrate__own=own)
    assert start(validate.main, "dcgan", monkeypatch=monkeypatch) == 0


def test_all_stages_in_a_row_make_everything_that_is_promised(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(train.main, "wgan_gp", monkeypatch=monkeypatch) == 0
    assert json.loads(Path("reference/reference.json").read_text())["detection_rates"]["blank"]["rate"] == 1
    assert Path("reports/calibrate/planted_defects.png").is_file()
    # Of one model, whatever it makes is taken for valid; of the other, nothing is
    for name, limits in {"dcgan": {}, "wgan_gp": {"volume_fraction": [2.0, 3.0]}}.items():
        edit_reference(limits=limits, limits_interval={})
        for each in (generate, measure, validate, evaluate, verdict, export):
            assert start(each.main, name, monkeypatch=monkeypatch) == 0
    packing = Path("models/random_packing/packing.json").read_bytes()
    sampled = json.loads(Path("samples/random_packing/generated.json").read_text())
    assert sampled["packing_sha256"] == hashlib.sha256(packing).hexdigest()
    assert sampled["weights_sha256"] is None  # no generator drew them
    for each in (measure, validate, evaluate):
        assert start(each.main, "random_packing", monkeypatch=monkeypatch) == 0
    monkeypatch.setattr(report, "CELL_WINDOWS", 2)
    assert start(report.main, monkeypatch=monkeypatch) == 0

    validity = {
        name: json.loads(Path(f"metrics/{name}/validity.json").read_text()) for name in ("dcgan", "wgan_gp")
    }
    assert validity["dcgan"]["pass_rate"] == 1 and validity["wgan_gp"]["pass_rate"] == 0
    assert validity["wgan_gp"]["n"] == validity["wgan_gp"]["rejected_by"]["volume_fraction"] == 24
    exported = json.loads(Path("exports/dcgan/export.json").read_text())
    assert exported["structures"] == 24
    for name in ("planes", "mask"):
        planes = Path(f"data/planes/{name}.npy").read_bytes()
        assert exported["provenance"][f"{name}_sha256"] == hashlib.sha256(planes).hexdigest()
    assert json.loads(Path("exports/wgan_gp/export.json").read_text())["structures"] == 0
    assert len(read_stack(Path("samples/dcgan/valid.tif"))) == 24
    samples = read_samples(Path("samples/wgan_gp"))
    assert samples.grey.dtype == np.uint16 and samples.grey.shape == (24, 32, 32)
    assert all(verdict.reasons == ("volume_fraction",) for verdict in samples.verdicts)
    fidelity = json.loads(Path("metrics/dcgan/fidelity.json").read_text())
    assert fidelity["n"]["after"] == 20 and fidelity["after"]["stiffness"]["value"] > 3.35
    assert fidelity["images"]["memorisation"]["samples"] == 20
    judged = fidelity["images"]["judge"]
    assert judged["after"]["n"] == judged["before"]["n"] == 24 and judged["held_out"]["n"] == 20
    assert "after" not in json.loads(Path("metrics/wgan_gp/fidelity.json").read_text())["images"]
    headline = json.loads(Path("metrics/dcgan/headline.json").read_text())
    flagged = judged["after"]["flagged"] if judged["qualified"] else None  # hardly trained, it may not judge
    assert headline["judge_flagged"] == flagged
    assert headline["volume_fraction.ratio"] == fidelity["after"]["volume_fraction"]["ratio"]
    verdicts = {
        name: json.loads(Path(f"models/{name}/verdict.json").read_text()) for name in ("dcgan", "wgan_gp")
    }
    assert {one["verdict"] for one in verdicts.values()} == {"not learnt"}  # after five steps
    assert verdicts["wgan_gp"]["figures"]["pass_rate_ratio"] == 0
    assert exported["provenance"]["verdict"]["weights_sha256"] == verdicts["dcgan"]["weights_sha256"]
    comparison = json.loads(Path("metrics/headline.json").read_text())  # of `dvc exp show`
    assert list(comparison) == ["real", "dcgan", "wgan_gp"]
    assert comparison["real"]["pass_rate"] == validity["dcgan"]["reference_pass_rate"]
    assert comparison["dcgan"]["pass_rate"] == 1 and comparison["dcgan"]["kernel_distance"] is not None
    assert comparison["wgan_gp"]["kernel_distance"] is None
    assert comparison["wgan_gp"]["verdict"] == "not learnt"
    found = capsys.readouterr().out
    assert "microgan: wgan_gp: 8 steps in 0.0 minutes; kept that of step " in found
    assert "microgan: dcgan: 24 of 24 samples are valid (100.0%; real held-out windows: " in found
    assert "microgan: wgan_gp: no valid samples to compare" in found
    assert "microgan: exports/dcgan: 24 of 24 samples, 24 of them valid, as vti, tiff, csv" in found
    assert "none of 24 samples is valid" in found.splitlines()[-1]
    page = Path("reports/report.html").read_text()
    assert "Detection rate of planted defects" in page and "random_packing" in page
    assert "wgan_gp" in page and "http" not in page.split("<img")[0]
    words = " ".join(page.split())
    assert "No model has learnt the material" in words
    assert "this scan was simulated" in words.lower() and "simulate 0, calibrate 0, train 0" in words
    assert "dcgan, 64 x 64 px: 0 of 16 valid" in words  # by the last limits
    assert "that of a cell of 32 px (32 µm), a window, differs from it by up to 0." in words
    about = json.loads(Path("models/dcgan/model.json").read_text())["training"]
    for key in ("ended", "machine", "software"):
        assert about[key] and f"<td>{about[key]}</td>" in page
    assert f"torch {version('torch')}" in about["software"]
    shown = {path.name for path in Path("reports/report").iterdir()}
    assert {"scan.png", "planted_defects.png", "contact_sheet_dcgan.png", "rules_dcgan.png"} <= shown
    assert {"judge_dcgan.png", "judge_wgan_gp.png", "judge_random_packing.png"} <= shown
    assert {"checkpoint_selection.svg", "periodic_cells.svg", "representative.svg"} <= shown
    assert Path("reports/calibrate/limits.svg").is_file()


def test_dvc_runs_what_changed_and_a_failed_stage_leaves_its_earlier_results(project: Path) -> None:
    for name in ("microgan", "stages"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "data/raw").mkdir(parents=True)
    for name in ("dvc.yaml", "data/raw/dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, project / name)
    folder = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_TRACKING_URI": "nonsense://",
        "OMP_NUM_THREADS": "1",
    }

    def dvc(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert dvc("init", "--no-scm").returncode == 0
    first = dvc("repro", "ingest")
    assert first.returncode == 0, first.stderr
    assert "Running" not in dvc("repro", "ingest").stdout
    earlier = state_of(project / "data/planes")

    edit(scans__simulated__radius_px=[8, 4])
    failed = dvc("repro", "ingest")
    assert failed.returncode != 0 and "Traceback" not in failed.stderr
    assert lines(failed.stderr)[0].startswith("microgan: scans.simulated.radius_px: [8, 4]: ")
    assert state_of(project / "data/planes") == earlier

    edit(scans__simulated__radius_px=[4, 8])
    assert "Running" not in dvc("repro", "ingest").stdout
    with (project / "microgan/gan/losses.py").open("a") as stream:
        stream.write("# edited\n")
    plan = dvc("repro", "--dry", "train@dcgan").stdout
    assert "Stage 'ingest' didn't change" in plan
    with (project / "microgan/scan/planes.py").open("a") as stream:
        stream.write("# edited\n")
    assert "Running stage 'ingest'" in dvc("repro", "--dry", "ingest").stdout
