"""Where a model is: in a folder, or in MLflow under a name such as ``models:/microgan-glass@best``.

This is the only module of microgan that uses MLflow. It does not import it but runs its program, and only for
such a name, so microgan works without MLflow.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from microgan.core.errors import UserError
from microgan.core.json_files import read_json
from microgan.gan.checkpoint import CARD, WEIGHTS
from microgan.samples.moved_store import STORE, follow_moved_store

SCHEMES = ("models:/", "runs:/")


@contextmanager
def model_folder(name: str) -> Iterator[Path]:
    """Yield the folder of a generator, given by its path or by its name in MLflow, which downloads it.

    MLflow's store is the one in the environment's MLFLOW_TRACKING_URI, or else ``mlflow.db`` of the project
    that the current folder is in.

    Raises
    ------
    UserError
        If MLflow or its store is missing, or has no generator under that name.
    """
    if not name.startswith(SCHEMES):
        yield Path(name)
        return
    with tempfile.TemporaryDirectory() as scratch:
        _download(name, Path(scratch))
        folders = {  # a run may have the same generator twice: as a file and as a model
            read_json(card).get("weights_sha256"): card.parent
            for card in sorted(Path(scratch).rglob(CARD))
            if (card.parent / WEIGHTS).is_file()
        }
        if len(folders) != 1:
            raise UserError(name, f"{len(folders)} generators", f"must be one folder of {WEIGHTS} and {CARD}")
        yield next(iter(folders.values()))


def _download(name: str, out: Path) -> None:
    if find_spec("mlflow") is None:
        raise UserError(name, "MLflow is not installed", "pip install mlflow, or give the model's folder")
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", name, "-d", str(out)]
    folder, uri = _store(name)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        reason = lines[-1].partition("Exception: ")[2] or lines[-1]
        raise UserError(name, "not found", f"must be a model that MLflow has ({reason})")


def _store(name: str) -> tuple[Path, str]:
    """Return the folder in which MLflow is to run, and the address of its store from there.

    It is relative: an address cannot have all the characters that the name of a folder can.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return Path.cwd(), uri
    folder = Path.cwd()
    project = next((path for path in (folder, *folder.parents) if (path / STORE).is_file()), None)
    if project is None:
        rule = "set MLFLOW_TRACKING_URI or go to the project's folder"
        raise UserError(name, f"no {STORE} here or above", rule)
    follow_moved_store(project / STORE)
    return project, f"sqlite:///{STORE}"
