"""MLflow at the edge: one parent run per execution of the pipeline, one child run per stage.

Tracking never stops a stage: the first failure is a warning, and the stage goes on untracked.
Run as a program (``make setup`` does), it prepares the data base and prints the address of its page.
"""

import getpass
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np
import psutil

from microgan.core.errors import one_line
from microgan.samples.moved_store import ARTIFACTS, EXPERIMENT, STORE, follow_moved_store
from stages.project import git_commit, project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_EVERY_S = 10.0
MAX_PER_BATCH = 1000  # MLflow's limit for metrics; 100 for parameters
Arguments = ParamSpec("Arguments")


def _warns_only(
    method: Callable[Concatenate["Tracker", Arguments], None],
) -> Callable[Concatenate["Tracker", Arguments], None]:
    @wraps(method)
    def guarded(tracker: "Tracker", *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if tracker.failed:
            return
        try:
            method(tracker, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  whatever fails in tracking, the results matter more
            tracker.failed = True
            print(f"microgan: warning: no longer tracked by MLflow: {one_line(error)[:300]}", file=sys.stderr)

    return guarded


class Tracker:
    """The MLflow run of one stage. Without `start` all calls do nothing."""

    def __init__(self) -> None:
        self.failed = False
        self._client: MlflowClient | None = None
        self._run = self._parent = ""
        self._metrics: list[tuple[str, float, int]] = []
        self._flushed_at = time.monotonic()
        self._monitor: Any = None

    @_warns_only
    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Open the child run ``name`` under the parent of this execution, which gets ``params``."""
        client = _client()
        experiment = _experiment(client)
        _close_dead_runs(client, experiment)
        self._parent = _find_parent(client, experiment, params)
        tags = _tags(psutil.Process()) | {"mlflow.parentRunId": self._parent, "mlflow.source.name": name}
        self._run = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        self._client = client
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(self._run, sampling_interval=5, tracking_uri=tracking_uri())
        self._monitor.start()

    @_warns_only
    def params(self, values: Mapping[str, Any]) -> None:
        """Log the parameters of this stage."""
        if self._client:
            _log_params(self._client, self._run, values)

    @_warns_only
    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; they are written in batches, as each call to the data base costs milliseconds."""
        if self._client:
            self._metrics += [(key, float(value), step) for key, value in values.items()]
            if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
                self._flush()

    @_warns_only
    def headline(self, values: Mapping[str, float | None]) -> None:
        """Log the few numbers by which executions are compared, on the parent and on this stage.

        None, what cannot be told, is not logged.
        """
        if self._client:
            known = {key: value for key, value in values.items() if value is not None}
            self.metrics(known)
            _log_metrics(self._client, self._parent, [(key, float(value), 0) for key, value in known.items()])

    @_warns_only
    def image(self, key: str, image: np.ndarray, step: int) -> None:
        """Log the picture (rows, cols), uint8, of one step."""
        if self._client:
            self._client.log_image(self._run, image, key=key, step=step, synchronous=True)

    @_warns_only
    def artifact(self, *paths: str | Path) -> None:
        """Log files or folders."""
        for path in map(Path, paths):
            if self._client and path.is_dir():
                self._client.log_artifacts(self._run, str(path), path.name)
            elif self._client:
                self._client.log_artifact(self._run, str(path))

    @_warns_only
    def dataset(self, name: str, digest: str, source: str, role: str) -> None:
        """Log which data this stage read; ``digest`` changes with them."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if self._client:
            entity = Dataset(
                name, digest[:36], "local", f'{{"uri": "{source}"}}', profile=f'{{"digest": "{digest}"}}'
            )
            tags = [InputTag("mlflow.data.context", role)]
            self._client.log_inputs(self._run, [DatasetInput(entity, tags)])

    @_warns_only
    def model(self, scan: str, folder: Path) -> None:
        """Register the generator in ``folder`` as a model of ``scan``; its alias is the folder's name."""
        from stages.registry import register  # here, as it brings torch, which most programs do without

        if self._client:
            register(self._client, self._run, scan, folder)

    @_warns_only
    def best_model(
        self, scan: str, figures: Mapping[str, Mapping[str, float | None]], reference_sha256: str
    ) -> None:
        """Put figures of models of ``scan`` on record; the best of these and of all before is ``best``."""
        from stages.registry import promote, record

        if self._client:
            for name, values in figures.items():
                record(self._client, scan, name, values, reference_sha256)
            promote(self._client, scan, list(figures))

    @_warns_only
    def end(self, status: str) -> None:
        """Close the run and its parent; ``status`` is FINISHED, FAILED or KILLED."""
        if self._client:
            self._flush()
            self._monitor.finish()
            for run in (self._run, self._parent):
                self._client.set_terminated(run, status)

    def _flush(self) -> None:
        assert self._client
        _log_metrics(self._client, self._run, self._metrics)
        self._metrics, self._flushed_at = [], time.monotonic()


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the data base in the user's repository.

    Its path is relative where an address cannot have the characters of its folders.
    """
    store = project_root() / STORE
    path = os.path.relpath(store) if set("?#%") & set(str(store)) else store
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path}"


def _client() -> "MlflowClient":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a lost server must not hold up a stage
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        follow_moved_store(project_root() / STORE)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri())


def _experiment(client: "MlflowClient") -> str:
    """Return the id of the experiment; make it if it is not there."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment:
        return experiment.experiment_id
    local = tracking_uri().startswith("sqlite:")
    place = (project_root() / ARTIFACTS).as_uri() if local else None
    # By this tag its page opens in the view for machine-learning runs, not in the one for language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return client.create_experiment(EXPERIMENT, artifact_location=place, tags=tags)


def _find_parent(client: "MlflowClient", experiment: str, params: Mapping[str, Any]) -> str:
    """Return the parent run: that of the dvc process that started this stage, or else of this process."""
    tags = _tags(_executor())
    name = os.environ.get("DVC_EXP_NAME", "")
    query = " and ".join(
        f"tags.`{key}` = '{tags[key]}'" for key in ("microgan.process", "microgan.experiment") if key in tags
    )
    runs = client.search_runs([experiment], f"{query} and tags.`microgan.role` = 'execution'", max_results=1)
    if runs:
        client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id
    name = name or f"{params['scan']} {time.strftime('%Y-%m-%d %H:%M:%S')}"
    tags |= {"microgan.role": "execution", "mlflow.source.name": "dvc repro"}
    run = client.create_run(experiment, tags=tags, run_name=name)
    _log_params(client, run.info.run_id, params)
    return run.info.run_id


def _executor() -> psutil.Process:
    """Return the nearest dvc process above this one; this process where a stage was started by hand."""
    for process in psutil.Process().parents():
        try:
            command = [Path(word).name for word in process.cmdline()]
        except psutil.Error:
            continue
        if "dvc" in command[:3]:  # python dvc repro; python -m dvc repro
            return process
    return psutil.Process()


def _tags(process: psutil.Process) -> dict[str, str]:
    tags = {
        "microgan.process": f"{socket.gethostname()}/{process.pid}/{process.create_time():.2f}",
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
    }
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        tags["microgan.git"] = commit
    if name := os.environ.get("DVC_EXP_NAME"):
        tags["microgan.experiment"] = name
    return tags


def _user() -> str:
    """Return the user's name; the number where a container has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return str(os.getuid())


def _close_dead_runs(client: "MlflowClient", experiment: str) -> None:
    """Mark runs of this machine as killed that are still marked as running though their process has gone."""
    host = socket.gethostname()
    query = f"attributes.status = 'RUNNING' and tags.`microgan.process` LIKE '{host}/%'"
    for run in client.search_runs([experiment], query):
        _, pid, created = run.data.tags["microgan.process"].rsplit("/", 2)
        if not _alive(int(pid), float(created)):
            client.set_terminated(run.info.run_id, "KILLED")


def _alive(pid: int, created: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - created) < 1
    except psutil.Error:
        return False


def _log_params(client: "MlflowClient", run: str, values: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    params = [Param(key, str(value)) for key, value in values.items()]
    for first in range(0, len(params), 100):
        client.log_batch(run, params=params[first : first + 100])


def _log_metrics(client: "MlflowClient", run: str, values: list[tuple[str, float, int]]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, step) for key, value, step in values]
    for first in range(0, len(metrics), MAX_PER_BATCH):
        client.log_batch(run, metrics=metrics[first : first + MAX_PER_BATCH])


def main() -> None:
    """Prepare the data base, and print the address of its page on the server of ``make ui``."""
    experiment = _experiment(_client())
    port = os.environ.get("PORT", "5000")
    print(f"http://127.0.0.1:{port}/#/experiments/{experiment}?workflowType=machine_learning")


if __name__ == "__main__":
    main()
