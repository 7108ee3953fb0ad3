"""Generators in MLflow's model registry: one registered model a scan, one version for each set of weights.

``mlflow.pyfunc.load_model("models:/microgan-SCAN@best").predict({"count": 4})`` gives samples. The registry
has the two files of the model, which `microgan.samples.served` loads, and neither a pickle nor code.
"""

import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from microgan import __version__
from microgan.core.files import read_json
from microgan.gan.checkpoint import CARD, WEIGHTS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

LOADER = "microgan.samples.served"
LIBRARIES = ("torch", "numpy", "pydantic", "safetensors", "tqdm")  # that the loader needs, besides microgan
BEST = "best"
SIMILAR_PASS_RATE = 0.1  # of real windows' pass rate: models nearer than this differ in fidelity only


def registered_name(scan: str) -> str:
    """Return the name under which the models of a scan are registered."""
    return f"microgan-{scan}"


def register(client: "MlflowClient", run: str, scan: str, folder: Path) -> None:
    """Keep the generator in ``folder`` as a model of ``run``, with the folder's name as its alias.

    Weights that are registered already are not kept again; the alias moves to them.
    """
    registered, weights = registered_name(scan), read_json(folder / CARD)["weights_sha256"]
    number = _version_of(client, registered, weights) or _keep(client, run, registered, folder, weights)
    client.set_registered_model_alias(registered, folder.name, number)


def promote(client: "MlflowClient", scan: str, name: str) -> None:
    """Give the model with the alias ``name`` the alias ``best``."""
    registered = registered_name(scan)
    number = client.get_model_version_by_alias(registered, name).version
    client.set_registered_model_alias(registered, BEST, number)


def best_model(figures: Mapping[str, Mapping[str, float | None]]) -> str:
    """Choose among models by their headline figures.

    Candidates are the models whose pass rate, over that of real windows and at most 1, is less than
    `SIMILAR_PASS_RATE` below the highest. Of these, the model with the smallest kernel distance is chosen.

    Examples
    --------
    >>> best_model({"a": {"pass_rate_ratio": 0.95, "kernel_distance": 0.9}, "b": {"pass_rate_ratio": 0.7}})
    'a'
    """
    passed = {name: min(values.get("pass_rate_ratio") or 0.0, 1.0) for name, values in figures.items()}
    near = [name for name in passed if passed[name] > max(passed.values()) - SIMILAR_PASS_RATE]

    def distance(name: str) -> float:
        value = figures[name].get("kernel_distance")
        return float("inf") if value is None else value

    return min(near, key=lambda name: (distance(name), -passed[name]))


def _version_of(client: "MlflowClient", registered: str, weights: str) -> str | None:
    versions = client.search_model_versions(f"name = '{registered}' and tags.`weights_sha256` = '{weights}'")
    return str(versions[0].version) if versions else None


def _keep(client: "MlflowClient", run: str, registered: str, folder: Path, weights: str) -> str:
    """Copy the generator to MLflow and return the number of its version."""
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run).info.experiment_id
    entry = client.create_logged_model(experiment, folder.name, source_run_id=run)
    model, place = entry.model_id, entry.artifact_location
    with tempfile.TemporaryDirectory() as scratch:
        _write(folder, Path(scratch) / "model", run, model)
        client.log_model_artifacts(model, str(Path(scratch) / "model"))
    client.finalize_logged_model(model, "READY")
    client.log_outputs(run, [LoggedModelOutput(model, step=0)])
    if not client.search_registered_models(f"name = '{registered}'"):
        client.create_registered_model(registered)
    tags = {"weights_sha256": weights}
    return str(client.create_model_version(registered, place, run, tags=tags, model_id=model).version)


def _write(folder: Path, out: Path, run: str, model: str) -> None:
    """Write the generator in ``folder`` as an MLflow model."""
    import mlflow
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / folder.name
        data.mkdir()
        for file in (WEIGHTS, CARD):
            shutil.copy(folder / file, data)
        mlflow.pyfunc.save_model(
            out,
            mlflow_model=Model(run_id=run, model_id=model),
            loader_module=LOADER,
            data_path=str(data),
            signature=_signature(read_json(folder / CARD)["scan"]["dtype"]),
            input_example={"count": 4, "rows": 64, "cols": 64, "seed": 0, "periodic": False},
            pip_requirements=[f"{name}=={_public(version(name))}" for name in LIBRARIES],
            metadata={"microgan": __version__},
        )


def _signature(dtype: str) -> "ModelSignature":
    """Return the columns of a request (`microgan.samples.served.Request`) and the type of the result."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    kinds = {"count": "long", "rows": "long", "cols": "long", "seed": "long", "periodic": "boolean"}
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(kind, name, required=name == "count") for name, kind in kinds.items()
    ]
    return ModelSignature(Schema(columns), Schema([TensorSpec(np.dtype(dtype), (-1, -1, -1))]))


def _public(number: str) -> str:
    """Return a version without the local part of its build: 2.13.0 of 2.13.0+cpu."""
    return number.partition("+")[0]
