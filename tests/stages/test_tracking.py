"""Tracking by MLflow: one run an execution, and no stage stops when it fails."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import numpy as np
import psutil
import pytest

from stages import ui
from stages.executions import client_of, close_dead_runs, find_experiment, user
from stages.outbox import Outbox, patiently
from stages.project import project_root
from stages.tracking import Tracker
from tests.stages.helpers import ROOT, error_line


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
    assert error_line(capsys).startswith("warning: not tracked by MLflow: ")


def test_without_mlflow_a_stage_warns_once_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    _track(Tracker())
    assert error_line(capsys).startswith("warning: not tracked by MLflow: ")


@pytest.mark.filterwarnings("ignore")
def test_one_execution_is_one_parent_run_with_a_child_for_each_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("stages.executions.executor", psutil.Process)
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


@contextmanager
def locked(store: Path, seconds: float) -> Iterator[None]:
    """Lock a data base for some seconds, as another program may do."""
    other = sqlite3.connect(store, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    opening = Timer(seconds, other.rollback)
    opening.start()
    try:
        yield
    finally:
        opening.join()
        other.close()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new data base: to make its tables takes seconds."""
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client_of().get_experiment_by_name("microgan")
    return store


@pytest.fixture
def impatient(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to track in, by an MLflow that waits 50 ms for a lock, not 20 s; tried again every 0.3 s."""
    from mlflow.store.db import utils

    plain = utils.sql.text
    monkeypatch.setattr(
        utils.sql, "text", lambda words: plain(words.replace("timeout = 20000", "timeout = 50"))
    )
    monkeypatch.setattr("stages.outbox.RETRY_EVERY_S", 0.3)
    monkeypatch.setattr("stages.outbox.PATIENCE_S", 20.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("stages.executions.executor", psutil.Process)
    monkeypatch.setattr("mlflow.system_metrics.system_metrics_monitor.SystemMetricsMonitor", QuietMonitor)
    shutil.copy(empty_store, tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/page.html").write_text("page")
    return tmp_path


class QuietMonitor:
    """Stands for the thread that measures the machine."""

    def __init__(self, run: str, sampling_interval: float, tracking_uri: str) -> None: ...
    def start(self) -> None: ...
    def finish(self) -> None: ...


@pytest.mark.filterwarnings("ignore")
def test_what_a_locked_data_base_cannot_take_is_sent_later(
    impatient: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker()
    tracker.start("train@dcgan", {"scan": "simulated"})
    with locked(impatient / "mlflow.db", 1.0):
        tracker.params({"train.batch": 2})
        tracker.metrics({"critic_loss": 1.5}, 7)
        tracker.image("samples", np.zeros((8, 8), np.uint8), 7)
        tracker.headline({"dcgan.pass_rate": 0.5})
        tracker.summary("All is well", ["reports"])
        tracker.end("FINISHED")
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("microgan: warning: MLflow is away: what it cannot take now is kept")
    assert told[1:] == ["microgan: MLflow is back: what was kept has been sent"]

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{impatient}/mlflow.db")
    execution, stage = client.get_run(tracker._execution), client.get_run(tracker._run)
    assert execution.info.status == stage.info.status == "FINISHED"
    assert stage.data.params == {"train.batch": "2"}
    assert stage.data.metrics == {"critic_loss": 1.5, "dcgan.pass_rate": 0.5}
    assert execution.data.metrics == {"dcgan.pass_rate": 0.5}
    assert execution.data.tags["mlflow.note.content"] == "All is well"
    assert [file.path for file in client.list_artifacts(tracker._execution)] == ["reports"]


def test_a_data_base_that_is_locked_at_the_start_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.outbox.RETRY_EVERY_S", 0.01)
    tries = []

    def action() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise sqlite3.OperationalError("database is locked")
        return 7

    assert patiently(action) == 7
    waiting = "microgan: MLflow's data base is locked by another program: waiting for it"
    assert capsys.readouterr().err.splitlines() == [waiting]
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        patiently(lambda: sqlite3.connect(":memory:").execute("select * from runs"))


def test_what_was_lost_is_said_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.outbox.RETRY_EVERY_S", 0.05)
    monkeypatch.setattr("stages.outbox.PATIENCE_S", 0.2)
    outbox, taken = Outbox(), []

    def lost() -> None:
        raise ConnectionError("the server has gone")

    def wrong() -> None:
        raise ValueError("no such run")

    for what, action in (
        ("a", lambda: taken.append("a")),
        ("b", wrong),
        ("c", lost),
        ("c", lost),
        ("d", lost),
    ):
        outbox.send(what, action)
    start = time.monotonic()
    outbox.close()
    assert time.monotonic() - start < 5
    assert taken == ["a"]
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("microgan: warning: MLflow is away")
    assert told[1].startswith("microgan: warning: lost, as MLflow did not take it: 1 x b, 2 x c, 1 x d (")
    assert len(told) == 2


@pytest.mark.filterwarnings("ignore")
def test_an_execution_runs_until_its_last_stage_has_ended_or_one_has_failed(
    impatient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as dvc:
        process = psutil.Process(dvc.pid)
        for place in ("stages.executions.executor", "stages.tracking.executor"):
            monkeypatch.setattr(place, lambda: process)

        def status_after(name: str, status: str) -> str:
            tracker = Tracker()
            tracker.start(name, {"scan": "simulated"})
            assert tracker._client is not None
            tracker.end(status)
            return tracker._client.get_run(tracker._execution).info.status

        assert status_after("train@dcgan", "FINISHED") == "RUNNING"
        assert status_after("validate@dcgan", "FAILED") == "FAILED"
        assert status_after("validate@dcgan", "FINISHED") == "RUNNING"
        assert status_after("report", "FINISHED") == "FINISHED"
        assert status_after("train@dcgan", "FINISHED") == "RUNNING"
        dvc.communicate(b"")

    client = client_of()
    experiment = find_experiment(client)
    close_dead_runs(client, experiment)  # as the next stage does, and the page
    (execution,) = client.search_runs([experiment], "tags.`microgan.role` = 'execution'")
    assert execution.info.status == "FAILED"


@pytest.mark.filterwarnings("ignore")
def test_the_page_compares_executions_by_their_headline_figures(
    impatient: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", impatient)
    ui.main()
    ui.main()
    address = capsys.readouterr().out.split()[0]
    key = re.search(r"/runs\?viewStateShareKey=([^&]+)&", address)[1]
    tags = client_of().get_experiment_by_name("microgan").tags
    (view,) = [
        json.loads(value) for name, value in tags.items() if name.startswith("mlflow.sharedViewState.")
    ]
    assert f"mlflow.sharedViewState.{key}" in tags and view["name"] == "Executions"
    columns = json.loads(view["state"])["selectedColumns"]
    assert {"params.`scan`", "metrics.`dcgan.pass_rate`", "metrics.`wgan_gp.kernel_distance`"} <= set(columns)


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
    monkeypatch.setattr("stages.executions.executor", psutil.Process)

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
    assert user() == str(os.getuid())
