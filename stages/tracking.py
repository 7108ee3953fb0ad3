"""MLflow at the edge: one parent run per execution of the pipeline, one child run per stage.

Tracking never stops a stage. Without MLflow at its start, the stage goes on untracked, with a warning. What
MLflow cannot take later is kept and sent again, see `stages.outbox`.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from stages.executions import (
    client_of,
    close_dead_runs,
    executor,
    find_execution,
    find_experiment,
    tags_of,
    tracking_uri,
)
from stages.outbox import Outbox, patiently, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_EVERY_S = 10.0
MAX_PER_BATCH = 1000  # MLflow's limit for metrics; 100 for parameters
LAST_STAGE = "report"  # with it an execution ends
Point = tuple[str, float, int, int]  # name, value, time in ms, step


class Tracker:
    """The MLflow run of one stage. Without `start` all calls do nothing."""

    def __init__(self) -> None:
        self._client: MlflowClient | None = None
        self._run = self._execution = ""
        self._ends_execution = False
        self._outbox = Outbox()
        self._metrics: list[Point] = []
        self._flushed_at = time.monotonic()
        self._monitor: Any = None

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Open the child run ``name`` under the parent of this execution, which gets ``params``."""
        try:
            patiently(lambda: self._open(name, params))
        except Exception as error:  # noqa: BLE001  whatever fails in tracking, the results matter more
            print(f"microgan: warning: not tracked by MLflow: {shortened(error)}", file=sys.stderr)

    def _open(self, name: str, params: Mapping[str, Any]) -> None:
        client = client_of()
        experiment = find_experiment(client)
        close_dead_runs(client, experiment)
        execution, is_new = find_execution(client, experiment, str(params["scan"]))
        tags = tags_of(psutil.Process()) | {"mlflow.parentRunId": execution, "mlflow.source.name": name}
        self._run = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        self._execution, self._client = execution, client
        self._ends_execution = name == LAST_STAGE or executor().pid == os.getpid()
        if is_new:
            self._send("parameters", lambda client: _log_params(client, execution, params))
        self._send("system metrics", lambda client: self._start_monitor())

    def _start_monitor(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(self._run, sampling_interval=5, tracking_uri=tracking_uri())
        self._monitor.start()

    def params(self, values: Mapping[str, Any]) -> None:
        """Log the parameters of this stage."""
        self._send("parameters", lambda client: _log_params(client, self._run, values))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; they are written in batches, as each call to the data base costs milliseconds."""
        if self._client:
            self._metrics += _points(values, step)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self._flush()

    def headline(self, values: Mapping[str, float | None]) -> None:
        """Log the few numbers by which executions are compared, on the parent and on this stage.

        None, what cannot be told, is not logged.
        """
        known = {key: value for key, value in values.items() if value is not None}
        self.metrics(known)
        points = _points(known, 0)
        self._send("headline figures", lambda client: _log_metrics(client, self._execution, points))

    def image(self, key: str, image: np.ndarray, step: int) -> None:
        """Log the picture (rows, cols), uint8, of one step."""
        self._send(
            "picture",
            lambda client: client.log_image(self._run, image, key=key, step=step, synchronous=True),
        )

    def artifact(self, *paths: str | Path) -> None:
        """Log files or folders."""
        for path in map(Path, paths):
            self._send(str(path), partial(_log_file, run=self._run, path=path))

    def dataset(self, name: str, digest: str, source: str, role: str) -> None:
        """Log which data this stage read, on the parent too where it trains; ``digest`` changes with them."""
        runs = (self._run, self._execution) if role == "training" else (self._run,)
        for run in runs:
            log = partial(_log_dataset, run=run, name=name, digest=digest, source=source, role=role)
            self._send("data set", log)

    def model(self, scan: str, folder: Path) -> None:
        """Register the generator in ``folder`` as a model of ``scan``; its alias is the folder's name."""

        def keep(client: "MlflowClient") -> None:
            from stages.registry import register  # here, as it brings torch, which most programs do without

            register(client, self._run, scan, folder)

        self._send(f"model {folder.name}", keep)

    def best_model(
        self,
        scan: str,
        figures: Mapping[str, Mapping[str, float | None]],
        verdicts: Mapping[str, str],
        reference_sha256: str,
    ) -> None:
        """Put figures and verdicts of models of ``scan`` on record; the best of all so far is ``best``."""

        def record_all(client: "MlflowClient") -> None:
            from stages.registry import promote, record

            for name, values in figures.items():
                record(client, scan, name, values, verdicts[name], reference_sha256)
            promote(client, scan, list(figures))

        self._send("figures of the models", record_all)

    def tag(self, name: str, text: str) -> None:
        """Set a tag of the execution and of this stage."""
        for run in (self._execution, self._run):
            self._send(f"tag {name}", partial(_set_tag, run=run, name=name, text=text))

    def summary(self, text: str, files: Sequence[str | Path]) -> None:
        """Describe the execution, in Markdown, and keep its page and pictures with the parent."""
        note = "mlflow.note.content"
        self._send("description", lambda client: client.set_tag(self._execution, note, text))
        for path in map(Path, files):
            self._send(str(path), partial(_log_file, run=self._execution, path=path))

    def end(self, status: str) -> None:
        """Close the run; ``status`` is FINISHED, FAILED or KILLED.

        Its parent goes on, unless this stage failed or is the last one.
        """
        self._flush()
        runs = [self._run]
        runs += [self._execution] if self._ends_execution or status != "FINISHED" else []
        if self._monitor:
            self._send("system metrics", lambda client: self._monitor.finish())
        for run in runs:
            self._send(f"status {status}", partial(_terminate, run=run, status=status))
        self._outbox.close(in_haste=status == "KILLED")

    def _flush(self) -> None:
        points, self._metrics, self._flushed_at = self._metrics, [], time.monotonic()
        if points:
            self._send("metrics", lambda client: _log_metrics(client, self._run, points))

    def _send(self, what: str, action: Callable[["MlflowClient"], object]) -> None:
        if client := self._client:
            self._outbox.send(what, lambda: action(client))


def _log_params(client: "MlflowClient", run: str, values: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    params = [Param(key, str(value)) for key, value in values.items()]
    for first in range(0, len(params), 100):
        client.log_batch(run, params=params[first : first + 100])


def _log_metrics(client: "MlflowClient", run: str, values: list[Point]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(*point) for point in values]
    for first in range(0, len(metrics), MAX_PER_BATCH):
        client.log_batch(run, metrics=metrics[first : first + MAX_PER_BATCH])


def _set_tag(client: "MlflowClient", run: str, name: str, text: str) -> None:
    client.set_tag(run, name, text)


def _terminate(client: "MlflowClient", run: str, status: str) -> None:
    client.set_terminated(run, status)


def _log_file(client: "MlflowClient", run: str, path: Path) -> None:
    if path.is_dir():
        client.log_artifacts(run, str(path), path.name)
    else:
        client.log_artifact(run, str(path))


def _log_dataset(client: "MlflowClient", run: str, name: str, digest: str, source: str, role: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = f'{{"digest": "{digest}"}}'
    entity = Dataset(name, digest[:36], "local", f'{{"uri": "{source}"}}', profile=profile)
    client.log_inputs(run, [DatasetInput(entity, [InputTag("mlflow.data.context", role)])])


def _points(values: Mapping[str, float], step: int) -> list[Point]:
    now = int(time.time() * 1000)
    return [(key, float(value), now, step) for key, value in values.items()]
