"""Tracking by MLflow: one run an execution, and no stage stops when it fails."""

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from stages.project import project_root
from stages.tracking import Tracker
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
