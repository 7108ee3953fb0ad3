"""Generators in MLflow's model registry: one registered model a scan, one version for each set of weights.

``mlflow.pyfunc.load_model("models:/microgan-SCAN@best").predict({"count": 4})`` gives samples. The registry
has the files of the model, which `microgan.samples.served` loads, and neither a pickle nor code.

A version's tags say what it is: scan, git commit, steps of training and, once its samples were judged, the
figures of that judgement (`FIGURES`) and the SHA-256 of the reference that it rests on. The alias ``best``
moves to a new version only where its figures are better than those that the old one has on record.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from microgan import __version__
from microgan.gan.checkpoint import CARD, WEIGHTS
from microgan.gan.model_card import read_model_card
from microgan.samples.verdict_file import VERDICT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

LOADER = "microgan.samples.served"
LIBRARIES = ("torch", "numpy", "pydantic", "safetensors", "tqdm")  # that the loader needs, besides microgan
BEST = "best"
FIGURES = ("learnt", "pass_rate", "reference_pass_rate", "pass_rate_ratio", "kernel_distance")
SIMILAR_PASS_RATE = 0.1  # of real windows' pass rate: models nearer than this differ in fidelity only


def registered_name(scan: str) -> str:
    """Return the name under which the models of a scan are registered."""
    return f"microgan-{scan}"


def register(client: "MlflowClient", run: str, scan: str, folder: Path) -> None:
    """Keep the generator in ``folder`` as a model of ``run``, with the folder's name as its alias.

    Weights that are registered already are not kept again; the alias moves to them.
    """
    registered, weights = registered_name(scan), read_model_card(folder / CARD)["weights_sha256"]
    number = _version_of(client, registered, weights) or _keep(client, run, registered, folder)
    client.set_registered_model_alias(registered, folder.name, number)


def record(
    client: "MlflowClient",
    scan: str,
    name: str,
    figures: Mapping[str, float | None],
    verdict: str,
    reference_sha256: str,
) -> None:
    """Put figures and verdict of the model with the alias ``name`` on record, as tags and in words."""
    registered = registered_name(scan)
    number = client.get_model_version_by_alias(registered, name).version
    known = {key: value for key in FIGURES if (value := figures.get(key)) is not None}
    tags = {key: f"{value:.6g}" for key, value in known.items()}
    tags |= {"verdict": verdict, "reference_sha256": reference_sha256}
    for key, text in tags.items():
        client.set_model_version_tag(registered, number, key, text)
    client.update_model_version(registered, number, f"{name} of {scan}: {verdict}; {in_words(figures)}")


def in_words(figures: Mapping[str, float | None]) -> str:
    """Say in a sentence how good a model is."""
    if not figures["pass_rate"]:
        return f"none of {figures['n']} samples is valid"
    valid = f"{figures['pass_rate']:.1%} of {figures['n']} samples are valid"
    real = f"{figures['reference_pass_rate']:.1%} of real held-out windows"
    distance, scale = figures["kernel_distance"], figures["kernel_distance.training_windows"]
    far = "" if distance is None else f", kernel distance {distance:.2g} (training windows: {scale:.2g})"
    return f"{valid} ({real}){far}"


def promote(client: "MlflowClient", scan: str, names: Sequence[str]) -> str | None:
    """Give the best of the models with the aliases ``names`` the alias ``best``.

    The version that has it now keeps it, unless one of them is better by the figures on record. A model that
    has not learnt its material, or none of whose samples is valid, never gets it.

    Returns
    -------
    str or None
        The name whose version is the best now; `None` where an earlier version stays the best, or none is.
    """
    registered = registered_name(scan)
    new = {name: client.get_model_version_by_alias(registered, name) for name in names}
    best = client.get_registered_model(registered).aliases.get(BEST)
    is_new = str(best) in {str(version.version) for version in new.values()}
    old = {} if best is None or is_new else {BEST: client.get_model_version(registered, best)}
    versions = {**old, **new}  # of equals the first is chosen
    chosen = best_model({name: _on_record(version.tags) for name, version in versions.items()})
    if chosen is None or chosen == BEST:
        return None
    client.set_registered_model_alias(registered, BEST, versions[chosen].version)
    return chosen


def best_model(figures: Mapping[str, Mapping[str, float | None]]) -> str | None:
    """Choose among models by their headline figures.

    Candidates are the models whose pass rate, over that of real windows and at most 1, is less than
    `SIMILAR_PASS_RATE` below the highest. Of these, the model with the smallest kernel distance is chosen. A
    model without a valid sample, or that has not learnt its material (``learnt`` 0), is no candidate.

    Examples
    --------
    >>> best_model({"a": {"pass_rate_ratio": 0.95, "kernel_distance": 0.9}, "b": {"pass_rate_ratio": 0.7}})
    'a'
    """
    passed = {name: min(values.get("pass_rate_ratio") or 0.0, 1.0) for name, values in figures.items()}
    passed = {name: rate for name, rate in passed.items() if rate > 0 and figures[name].get("learnt") != 0}
    if not passed:
        return None
    near = [name for name in passed if passed[name] > max(passed.values()) - SIMILAR_PASS_RATE]

    def distance(name: str) -> float:
        value = figures[name].get("kernel_distance")
        return float("inf") if value is None else value

    return min(near, key=lambda name: (distance(name), -passed[name]))


def _on_record(tags: Mapping[str, str]) -> dict[str, float | None]:
    return {key: float(tags[key]) for key in FIGURES if key in tags}


def _version_of(client: "MlflowClient", registered: str, weights: str) -> str | None:
    versions = client.search_model_versions(f"name = '{registered}' and tags.`weights_sha256` = '{weights}'")
    return str(versions[0].version) if versions else None


def _keep(client: "MlflowClient", run: str, registered: str, folder: Path) -> str:
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
    card = read_model_card(folder / CARD)
    training = card["training"]
    tags = {"weights_sha256": card["weights_sha256"], "scan": card["scan"]["name"], "model": folder.name}
    tags |= {key: str(training[key]) for key in ("steps", "git_commit") if training.get(key) is not None}
    return str(client.create_model_version(registered, place, run, tags=tags, model_id=model).version)


def _write(folder: Path, out: Path, run: str, model: str) -> None:
    """Write the generator in ``folder`` as an MLflow model."""
    import mlflow
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / folder.name
        data.mkdir()
        for file in (WEIGHTS, CARD, VERDICT):
            if (folder / file).exists():
                shutil.copy(folder / file, data)
        mlflow.pyfunc.save_model(
            out,
            mlflow_model=Model(run_id=run, model_id=model),
            loader_module=LOADER,
            data_path=str(data),
            signature=_signature(read_model_card(folder / CARD)["scan"]["dtype"]),
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
