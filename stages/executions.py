"""Executions of the pipeline in MLflow: each is a parent run, whose children are the stages."""

import getpass
import json
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from microgan.core.files import fingerprint
from microgan.samples.moved_store import ARTIFACTS, EXPERIMENT, STORE, follow_moved_store
from stages.project import git_commit, project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXECUTION = {"microgan.role": "execution"}
# By this tag its page opens in the view for machine-learning runs, not in the one for language models.
KIND = {"mlflow.experimentKind": "custom_model_development"}
COLUMNS = ("pass_rate", "pass_rate_ratio", "kernel_distance")  # of each model
VIEW = "mlflow.sharedViewState."  # tags of an experiment that hold a view of its page


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or else the data base in the user's repository.

    Its path is relative where an address cannot have the characters of its folders.
    """
    store = project_root() / STORE
    path = os.path.relpath(store) if set("?#%") & set(str(store)) else store
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path}"


def client_of() -> "MlflowClient":
    """Return a client of the user's store, quiet."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a lost server must not hold up a stage
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        follow_moved_store(project_root() / STORE)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri())


def find_experiment(client: "MlflowClient") -> str:
    """Return the id of the experiment; make it if it is not there."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment:
        return experiment.experiment_id
    is_local = tracking_uri().startswith("sqlite:")
    place = (project_root() / ARTIFACTS).as_uri() if is_local else None
    return client.create_experiment(EXPERIMENT, artifact_location=place, tags=KIND)


def find_execution(client: "MlflowClient", experiment: str, scan: str) -> tuple[str, bool]:
    """Return the run of this execution, and whether it is new.

    It belongs to the dvc process that started this stage, or to this process where there is none.
    """
    tags = tags_of(executor()) | EXECUTION
    keys = [key for key in ("microgan.process", "microgan.experiment", *EXECUTION) if key in tags]
    query = " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in keys)
    if runs := client.search_runs([experiment], query, max_results=1):
        client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id, False
    name = os.environ.get("DVC_EXP_NAME") or f"{scan} {time.strftime('%Y-%m-%d %H:%M:%S')}"
    tags |= {"mlflow.source.name": "dvc repro"}
    return client.create_run(experiment, tags=tags, run_name=name).info.run_id, True


def executor() -> psutil.Process:
    """Return the nearest dvc process above this one; this process where a stage was started by hand."""
    for process in psutil.Process().parents():
        try:
            command = [Path(word).name for word in process.cmdline()]
        except psutil.Error:
            continue
        if "dvc" in command[:3]:  # python dvc repro; python -m dvc repro
            return process
    return psutil.Process()


def tags_of(process: psutil.Process) -> dict[str, str]:
    """Return the tags of a run that ``process`` makes."""
    tags = {
        "microgan.process": f"{socket.gethostname()}/{process.pid}/{process.create_time():.2f}",
        "mlflow.user": user(),
        "mlflow.source.type": "LOCAL",
    }
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        tags["microgan.git"] = commit
    if name := os.environ.get("DVC_EXP_NAME"):
        tags["microgan.experiment"] = name
    return tags


def user() -> str:
    """Return the user's name; the number where a container has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return str(os.getuid())


def close_dead_runs(client: "MlflowClient", experiment: str) -> None:
    """Close runs of this machine that are still marked as running though their process has gone.

    A stage was killed. An execution ended as its stages did: `dvc repro` of some stages alone tells nobody.
    """
    host = socket.gethostname()
    query = f"attributes.status = 'RUNNING' and tags.`microgan.process` LIKE '{host}/%'"
    dead = [run for run in client.search_runs([experiment], query) if not _is_alive(run.data.tags)]
    for run in sorted(dead, key=lambda run: _is_execution(run.data.tags)):  # stages first
        status = _outcome(client, experiment, run.info.run_id) if _is_execution(run.data.tags) else "KILLED"
        client.set_terminated(run.info.run_id, status)


def save_view(client: "MlflowClient", experiment: str, models: Sequence[str]) -> str:
    """Keep the view that compares executions, with the headline figures as columns; return its key.

    It is found under "Views" on the page of the experiment. A view that was changed there stays.
    """
    metrics = [f"metrics.`{model}.{figure}`" for model in models for figure in COLUMNS]
    columns = ["params.`scan`", *metrics, "attributes.`Dataset`"]
    widths = dict.fromkeys(metrics, 170)
    state = json.dumps({"selectedColumns": columns, "columnOrder": columns, "columnWidths": widths})
    key = f"executions-{fingerprint(state)[:8]}"
    if VIEW + key not in client.get_experiment(experiment).tags:
        now = int(time.time() * 1000)
        view = {"name": "Executions", "createdAt": now, "updatedAt": now, "state": state}
        client.set_experiment_tag(experiment, VIEW + key, json.dumps(view))
    return key


def _is_execution(tags: Mapping[str, Any]) -> bool:
    return EXECUTION.items() <= tags.items()


def _outcome(client: "MlflowClient", experiment: str, execution: str) -> str:
    stages = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{execution}'")
    ended = {run.info.status for run in stages}
    return next((status for status in ("FAILED", "KILLED") if status in ended), "FINISHED")


def _is_alive(tags: Mapping[str, str]) -> bool:
    _, pid, created = tags["microgan.process"].rsplit("/", 2)
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(created)) < 1
    except psutil.Error:
        return False
