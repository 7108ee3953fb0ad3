"""The stages as programs: bad input, interruption, full disk and lost tracking, each told in one line."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from microgan.core.errors import UserError
from microgan.gan.training import ModelConfig, TrainConfig
from microgan.scan.planes import Planes
from stages import (
    calibrate,
    evaluate,
    export,
    generate,
    ingest,
    random_packing,
    real_statistics,
    report,
    select,
    simulate,
    stage,
    train,
    validate,
)
from stages.project import project_root
from stages.samples import read_samples, read_stack
from stages.stage import Stage, drafts, flatten, load_params, run
from stages.tracking import Tracker

ROOT = Path(__file__).parents[2]
SMALL: dict[str, dict[str, Any]] = {
    "simulate": {"planes": 3, "size_px": 96, "angles": 60},
    "train": {"steps": 100_000, "minutes": 5.0, "batch": 2, "latent_channels": 2, "base_channels": 4}
    | {"preview_count": 4, "preview_every": 5, "save_every": 5, "log_every": 5, "threads": 1}
    | {"validation_every": 5, "validation_count": 4},
}


def _enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages run in ``folder``, untracked."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(Tracker, "start", lambda tracker, name, params: None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the parameters of a quick run; stages run in it, untracked."""
    _write_params(tmp_path)
    _enter(tmp_path, monkeypatch)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    _write_params(folder)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _enter(folder, monkeypatch)
        edit(train__steps=5, calibrate__windows=100, calibrate__planted=10, calibrate__bootstrap=0)
        edit(evaluate__windows=20, evaluate__floor_repeats=2, evaluate__resamples=19, properties__count=4)
        edit(image_metrics__windows=20, image_metrics__training_windows=10, image_metrics__encoder__steps=2)
        edit(image_metrics__measures__permutations=19, image_metrics__measures__subset_size=10)
        for main in (simulate.main, ingest.main, calibrate.main, real_statistics.main):
            assert start(main, monkeypatch=monkeypatch) == 0
        assert start(train.main, "dcgan", monkeypatch=monkeypatch) == 0
    signal.signal(signal.SIGTERM, handler)
    return folder


@pytest.fixture
def trained(project: Path, trained_once: Path) -> Path:
    """A project whose scan is ingested and calibrated and whose model dcgan was trained for a few steps."""
    shutil.copytree(trained_once, project, dirs_exist_ok=True)
    return project


def _write_params(folder: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section] |= values
    params["window_px"] = 32
    params["scans"]["simulated"]["split"] = {"calibration": [1], "held_out": [2]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def edit(**changes: Any) -> None:
    """Set parameters of the current project by path; dots are written as ``__``. None removes a section."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    for path, value in changes.items():
        *sections, name = path.split("__")
        place = params
        for section in sections:
            place = place[section]
        if value is None:
            del place[name]
        else:
            place[name] = value
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def start(main: Callable[[Stage], None], *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a stage as its program would; returns the exit status."""
    monkeypatch.setattr(sys, "argv", [f"stages/{main.__module__}.py", *arguments])
    try:
        run(main)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code
    return 0


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said, which must be one line."""
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("microgan: "), said
    return said.removeprefix("microgan: ").strip()


def state_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def program(name: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a stage as its own process, untracked."""
    code = "import sys; sys.modules['mlflow'] = None; sys.argv[0] = sys.argv.pop(1)\n"
    code += f"from stages import stage, {name}; stage.run({name}.main)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, name, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if "warning: no longer tracked" not in line]


# Parameters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"trian": {"batch": 3}}, "params.yaml: trian: unknown section: known are scan, window_px, launch,"),
        ({"simulate": None}, "params.yaml: simulate: missing: section must exist"),
        ({"simulate": 3}, "params.yaml: simulate: 3: must be a section of named values"),
        (
            {"scan": "nobody"},
            "params.yaml: scan: nobody: must be one of simulated, insegt_carbon, insegt_glass",
        ),
        ({"scan": None}, "params.yaml: scan: None: must be one of simulated"),
        ({"simulate__photon": 3}, "simulate.photon: 3: unknown parameter, known are angles,"),
        ({"simulate__planes": "many"}, "simulate.planes: 'many': input should be a valid integer"),
        ({"simulate__planes": -3}, "simulate.planes: -3: input should be greater than or equal to 1"),
        ({"simulate__photons": float("nan")}, "simulate.photons: nan: input should be a finite number"),
    ],
)
def test_a_bad_parameter_is_told_in_one_line_and_earlier_results_stay(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    line: str,
) -> None:
    (project / "data/raw/simulated").mkdir(parents=True)
    (project / "data/raw/simulated/scan.tif").write_text("earlier")
    before = state_of(project / "data")
    edit(**changes)
    assert start(simulate.main, monkeypatch=monkeypatch) == 2
    assert the_line(capsys).startswith(line)
    assert state_of(project / "data") == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "params.yaml: missing: file must exist"),
        ("train: [1, 2", "params.yaml: unreadable: must be YAML (while parsing"),
        ("", "params.yaml: no sections: must have the sections scan"),
        ("just words", "params.yaml: no sections"),
        ("train:\n  batch: 1\n\ttabs: 2", "params.yaml: unreadable: must be YAML"),
    ],
)
def test_a_broken_file_of_parameters_is_told_in_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    line: str,
) -> None:
    Path("params.yaml").unlink() if text is None else Path("params.yaml").write_text(text)
    assert start(simulate.main, monkeypatch=monkeypatch) == 2
    assert the_line(capsys).startswith(line)


@pytest.mark.parametrize("arguments", [(), ("gan",), ("dcgan", "wgan_gp")])
def test_an_unknown_model_is_told_in_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    assert start(train.main, *arguments, monkeypatch=monkeypatch) == 2
    assert the_line(capsys).endswith("must be one of dcgan, wgan_gp")


@pytest.mark.parametrize("side", [0, 63, 8, 64.5, "wide", True])
def test_a_window_has_a_side_that_the_networks_can_make(project: Path, side: object) -> None:
    edit(window_px=side)
    with pytest.raises(UserError, match=r"window_px: .*: must be a multiple of 8, at least 16"):
        stage.window_px(load_params())


def test_a_defect_keeps_its_traceback(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(_: Stage) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        start(main, monkeypatch=monkeypatch)


def test_the_last_stage_s_parameters_are_checked_before_the_first_stage_runs(project: Path) -> None:
    select.check(load_params())
    edit(export__format="vti")
    with pytest.raises(UserError, match=r"export\.format: 'vti': unknown parameter"):
        select.check(load_params())


def test_no_model_may_have_the_name_of_the_baseline(project: Path) -> None:
    edit(models__random_packing=load_params()["models"]["dcgan"])
    with pytest.raises(UserError, match=r"models\.random_packing: a model: must have another name"):
        select.check(load_params())


def test_choosing_a_scan_changes_one_line_and_keeps_comments(project: Path) -> None:
    before = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(before.replace("scan: simulated\n", "scan: simulated   # mine\n"))
    select.choose("insegt_glass")
    assert Path("params.yaml").read_text() == before.replace(
        "scan: simulated\n", "scan: insegt_glass   # mine\n"
    )
    with pytest.raises(UserError, match="SCAN: moon: must be one of simulated, insegt_carbon, insegt_glass"):
        select.known("moon", load_params())


def test_flattened_parameters_are_named_by_their_path() -> None:
    assert flatten({"a": {"b": {"c": [1, 2]}}, "d": None}) == {"a.b.c": [1, 2], "d": None}


# Files -------------------------------------------------------------------------------------------------


def test_outputs_appear_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old").write_text("earlier")
    (tmp_path / "file.txt").write_text("earlier")
    before = state_of(tmp_path)
    with pytest.raises(OSError, match="full"), drafts(tmp_path / "folder", tmp_path / "file.txt") as paths:
        (paths[0] / "new").write_text("half")
        paths[1].write_text("half")
        raise OSError("full")
    assert state_of(tmp_path) == before
    with drafts(tmp_path / "folder", tmp_path / "file.txt") as paths:
        (paths[0] / "new").write_text("whole")
        paths[1].write_text("whole")
    assert state_of(tmp_path) == {"folder/new": b"whole", "file.txt": b"whole"}


@pytest.mark.parametrize("words", [("simulate",), ("ingest",), ("train", "dcgan")], ids=" ".join)
def test_a_full_disk_is_told_in_one_line_and_earlier_results_stay(
    trained: Path, words: tuple[str, ...]
) -> None:
    before = state_of(trained)

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    failed = program(*words, preexec_fn=no_room)
    said = lines(failed.communicate()[1])
    assert failed.returncode == 2
    assert len(said) == 1 and re.match(r"microgan: .+(File too large|is the disk full)", said[0]), said
    after = state_of(trained)
    assert {path: after[path] for path in after if not path.startswith("checkpoints/")} == before


def test_two_processes_train_one_model_and_the_first_one_writes(trained: Path) -> None:
    edit(train__seed=3)
    before = state_of(trained / "models")
    Path("both.py").write_text(
        "import sys; sys.modules['mlflow'] = None\nfrom stages import stage, train\nstage.run(train.main)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = subprocess.run([*command, "both.py", "dcgan"], env=environment, capture_output=True, text=True)
    assert both.returncode == 0, both.stderr
    after = state_of(trained / "models")
    assert before.keys() == after.keys()
    assert before["dcgan/generator.safetensors"] != after["dcgan/generator.safetensors"]
    assert json.loads(after["dcgan/model.json"])["training"]["steps"] == 5


def test_real_statistics_run_own_rules_only_if_params_yaml_names_them(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"mine": {"function": "microgan.validity.rules.largest_nearest_neighbour_gap", "side": "too_large"}}
    reference = json.loads(Path("reference/reference.json").read_text())
    Path("reference/reference.json").write_text(json.dumps({**reference, "own": own}))
    assert start(real_statistics.main, monkeypatch=monkeypatch) == 2
    assert "microgan.validity.rules.largest_nearest_neighbour_gap: would run Python code" in the_line(capsys)
    edit(calibrate__own=own)
    assert start(real_statistics.main, monkeypatch=monkeypatch) == 0


# The whole way ------------------------------------------------------------------------------------------


def test_all_stages_in_a_row_make_everything_that_is_promised(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(generate__count=24)
    assert start(train.main, "wgan_gp", monkeypatch=monkeypatch) == 0
    assert json.loads(Path("reference/reference.json").read_text())["power"]["blank"]["rejected"] == 1
    assert Path("reports/calibrate/planted_defects.png").is_file()
    # Of one model, whatever it makes is taken for valid; of the other, nothing is
    for name, limits in {"dcgan": {}, "wgan_gp": {"volume_fraction": [2.0, 3.0]}}.items():
        reference = json.loads(Path("reference/reference.json").read_text())
        Path("reference/reference.json").write_text(json.dumps({**reference, "limits": limits}))
        for each in (generate, validate, evaluate, export):
            assert start(each.main, name, monkeypatch=monkeypatch) == 0
    assert start(random_packing.main, monkeypatch=monkeypatch) == 0
    for each in (validate, evaluate):
        assert start(each.main, "random_packing", monkeypatch=monkeypatch) == 0
    assert start(report.main, monkeypatch=monkeypatch) == 0

    validity = {
        name: json.loads(Path(f"metrics/{name}/validity.json").read_text()) for name in ("dcgan", "wgan_gp")
    }
    assert validity["dcgan"]["pass_rate"] == 1 and validity["wgan_gp"]["pass_rate"] == 0
    assert validity["wgan_gp"]["n"] == validity["wgan_gp"]["rejected_by"]["volume_fraction"] == 24
    assert json.loads(Path("exports/dcgan/export.json").read_text())["structures"] == 24
    assert json.loads(Path("exports/wgan_gp/export.json").read_text())["structures"] == 0
    assert len(read_stack(Path("samples/dcgan/valid.tif"))) == 24
    samples = read_samples(Path("samples/wgan_gp"))
    assert samples.grey.dtype == np.uint16 and samples.grey.shape == (24, 32, 32)
    assert all(verdict.reasons == ("volume_fraction",) for verdict in samples.verdicts)
    fidelity = json.loads(Path("metrics/dcgan/fidelity.json").read_text())
    assert fidelity["n"]["after"] == 20 and fidelity["after"]["stiffness"]["value"] > 3.35
    assert fidelity["images"]["memorisation"]["samples"] == 20
    assert "after" not in json.loads(Path("metrics/wgan_gp/fidelity.json").read_text())["images"]
    headline = json.loads(Path("metrics/dcgan/headline.json").read_text())
    assert headline["volume_fraction.ratio"] == fidelity["after"]["volume_fraction"]["ratio"]
    page = Path("reports/report.html").read_text()
    assert "What the filter catches" in page and "random_packing" in page
    assert "wgan_gp" in page and "http" not in page.split("<img")[0]


# Interruption ------------------------------------------------------------------------------------------


def _results(project: Path) -> dict[str, bytes]:
    return {
        f"{folder}/{name}": content
        for folder in ("models", "metrics", "reports")
        for name, content in state_of(project / folder).items()
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_so_keeps_earlier_results_and_goes_on(
    trained: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = _results(trained)
    assert not list((trained / "checkpoints").iterdir()), "a finished run leaves no state"
    edit(train__steps=100_000)
    running = program("train", "dcgan")
    while not (states := list((trained / "checkpoints").glob("*/state.safetensors"))):
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    running.send_signal(number)
    said = lines(running.communicate()[1])
    assert running.returncode == 130
    assert said == ["microgan: interrupted: earlier results are intact, run the same command again to go on"]
    assert _results(trained) == before
    assert states[0].exists()


def test_a_state_serves_only_the_training_that_it_came_from(trained: Path) -> None:
    planes = Planes.load(Path("data/planes"))
    config, model = TrainConfig(), ModelConfig(loss="minimax")
    folder = train.resume_folder(config, model, 32, planes)
    assert folder == train.resume_folder(config, model, 32, planes)
    others = [
        train.resume_folder(config.model_copy(update={"steps": 4001}), model, 32, planes),
        train.resume_folder(config, model.model_copy(update={"betas": (0.4, 0.9)}), 32, planes),
        train.resume_folder(config, model, 40, planes),
        train.resume_folder(
            config,
            model,
            32,
            Planes(planes.grey, planes.mask, planes.info.model_copy(update={"digest": "0"})),
        ),
    ]
    assert folder not in others and len(set(others)) == 4


def test_a_changed_module_makes_earlier_states_stale(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        digest = "1"

    class Scan:
        info = Info

    before = train.resume_folder(TrainConfig(), ModelConfig(loss="minimax"), 32, Scan)  # type: ignore[arg-type]
    (project / "losses.py").write_text("# edited")
    monkeypatch.setattr(sys.modules["microgan.gan.losses"], "__file__", str(project / "losses.py"))
    after = train.resume_folder(TrainConfig(), ModelConfig(loss="minimax"), 32, Scan)  # type: ignore[arg-type]
    assert after != before


# Tracking ----------------------------------------------------------------------------------------------


def _track(tracker: Tracker) -> None:
    tracker.start("train@dcgan", {"scan": "simulated", "train.batch": 2})
    tracker.params({"train.batch": 2})
    for step in range(3):
        tracker.metrics({"critic_loss": 1.5 - step}, step)
    tracker.image("samples", np.zeros((8, 8), np.uint8), 2)
    tracker.dataset("simulated", "0" * 64, "data/planes", "training")
    tracker.headline({"dcgan.pass_rate": 0.5})
    tracker.artifact("reports")
    tracker.end("FINISHED")


@pytest.mark.parametrize("lost", ["sqlite:////dev/null/no.db", "http://127.0.0.1:9", "nonsense://"])
@pytest.mark.filterwarnings("ignore")
def test_a_lost_tracker_warns_once_and_stops_nothing(
    lost: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lost)
    _track(Tracker())
    assert the_line(capsys).startswith("warning: no longer tracked by MLflow: ")


def test_without_mlflow_a_stage_warns_once_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    _track(Tracker())
    assert the_line(capsys).startswith("warning: no longer tracked by MLflow: ")


@pytest.mark.filterwarnings("ignore")
def test_one_execution_is_one_parent_run_with_a_child_for_each_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("stages.tracking._executor", psutil.Process)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/page.html").write_text("page")
    _track(Tracker())
    _track(Tracker())
    assert capsys.readouterr().err == ""

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("microgan")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    runs = client.search_runs([experiment.experiment_id])
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    children = [each for each in runs if each not in parents]
    assert len(parents) == 1 and len(children) == 2
    assert {each.data.tags["mlflow.parentRunId"] for each in children} == {parents[0].info.run_id}
    assert {each.info.status for each in runs} == {"FINISHED"}
    assert parents[0].data.params == {"scan": "simulated", "train.batch": "2"}
    assert parents[0].data.metrics == {"dcgan.pass_rate": 0.5}
    child = children[0]
    curve = client.get_metric_history(child.info.run_id, "critic_loss")
    assert sorted((point.step, point.value) for point in curve) == [(0, 1.5), (1, 0.5), (2, -0.5)]
    assert child.inputs.dataset_inputs[0].dataset.name == "simulated"
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"images", "reports"}


def test_runs_of_queued_experiments_are_kept_in_the_user_s_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / ".dvc/tmp/exps/tmpabc"))
    assert project_root() == tmp_path
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / ".dvc/tmp/exps/standalone/tmpabc"))
    assert project_root() == tmp_path
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert project_root() == tmp_path


# DVC ---------------------------------------------------------------------------------------------------


def test_dvc_runs_what_changed_and_a_failed_stage_leaves_its_earlier_results(project: Path) -> None:
    for name in ("microgan", "stages"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, project / name)
    edit(train__steps=5)
    folder = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": "nonsense://",
        "OMP_NUM_THREADS": "1",
    }

    def dvc(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert dvc("init", "--no-scm").returncode == 0
    first = dvc("repro", "train@dcgan")
    assert first.returncode == 0, first.stderr
    assert "Running" not in dvc("repro", "train@dcgan").stdout
    results = _results(project)

    edit(train__batch=-3)
    failed = dvc("repro", "train@dcgan")
    assert failed.returncode != 0 and "Traceback" not in failed.stderr
    assert lines(failed.stderr)[0].startswith("microgan: train.batch: -3: input should be greater than")
    assert _results(project) == results

    edit(train__batch=2)
    assert "Running" not in dvc("repro", "train@dcgan").stdout
    with (project / "microgan/gan/losses.py").open("a") as stream:
        stream.write("# edited\n")
    said = dvc("repro", "--dry", "train@dcgan").stdout
    assert "Running stage 'train@dcgan'" in said
    assert "Stage 'ingest' didn't change" in said
