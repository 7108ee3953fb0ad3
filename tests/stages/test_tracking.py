"""Tracking by MLflow: one run an execution, and no stage stops when it fails."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from stages.project import project_root
from stages.tracking import Tracker, _user
from tests.stages.helpers import error_line


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
    assert error_line(capsys).startswith("warning: no longer tracked by MLflow: ")


def test_without_mlflow_a_stage_warns_once_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    _track(Tracker())
    assert error_line(capsys).startswith("warning: no longer tracked by MLflow: ")


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


ODD = "a b (c) #1 'q' ?x %20 ü"


@pytest.mark.filterwarnings("ignore")
def test_a_project_works_under_any_name_and_a_copy_on_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("stages.tracking._executor", psutil.Process)

    def track_in(project: Path) -> None:
        monkeypatch.chdir(project)
        monkeypatch.setenv("DVC_ROOT", str(project))
        _track(Tracker())
        assert capsys.readouterr().err == ""

    original, copy = tmp_path / ODD, tmp_path / "copy"
    (original / "reports").mkdir(parents=True)
    (original / "reports/page.html").write_text("page")
    track_in(original)
    before = sorted(original.rglob("*"))
    assert [path for path in before if path.name == "page.html" and "mlartifacts" in path.parts]
    shutil.copytree(original, copy)
    track_in(copy)
    assert sorted(original.rglob("*")) == before
    assert len([path for path in copy.rglob("page.html") if "mlartifacts" in path.parts]) == 2
    shutil.rmtree(original)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("microgan").experiment_id])
    assert len(runs) == 3  # the parent, and the stage twice
    for run in runs:
        assert run.info.artifact_uri.startswith(copy.as_uri())
        for artifact in client.list_artifacts(run.info.run_id, "reports"):
            assert Path(client.download_artifacts(run.info.run_id, artifact.path)).read_text() == "page"


def test_a_user_without_a_name_is_known_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", no_name)
    assert _user() == str(os.getuid())
