"""Projects that stages run in: an empty one, and one with a trained model."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from microgan.core.locks import waiting_for
from stages import (
    calibrate,
    ingest,
    learn_faults,
    measure_real,
    random_packing,
    real_statistics,
    simulate,
    train,
)
from tests.stages.helpers import edit, enter, start, write_params


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the parameters of a quick run; stages run in it, untracked."""
    write_params(tmp_path)
    enter(tmp_path, monkeypatch)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A project with a trained model, made once for all processes of the tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "trained_once"
    with waiting_for(folder.with_suffix(".lock"), worker_id, lambda owner: None):
        if not folder.exists():
            _train_in(folder)
    return folder


def _train_in(folder: Path) -> None:
    draft = folder.with_suffix(".draft")
    draft.mkdir()
    write_params(draft)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(draft, monkeypatch)
        edit(train__steps=5, properties__count=4)
        edit(evaluate__windows=20, evaluate__floor_repeats=2, evaluate__resamples=19)
        edit(image_metrics__windows=20, image_metrics__training_windows=10, image_metrics__encoder__steps=2)
        edit(image_metrics__measures__permutations=19, image_metrics__measures__subset_size=10)
        edit(image_metrics__judge__windows=10, image_metrics__judge__packings=4)
        edit(image_metrics__judge__channels=4, image_metrics__judge__steps=2, image_metrics__judge__batch=4)
        edit(generate__count=24)
        monkeypatch.setattr(random_packing, "FITTED", 60)
        before = (simulate, ingest, measure_real, random_packing, learn_faults, calibrate, real_statistics)
        for stage in before:
            assert start(stage.main, monkeypatch=monkeypatch) == 0
        assert start(train.main, "dcgan", monkeypatch=monkeypatch) == 0
    signal.signal(signal.SIGTERM, handler)
    draft.rename(folder)


@pytest.fixture
def trained(project: Path, trained_once: Path) -> Path:
    """A project whose scan is ingested and calibrated and whose model dcgan was trained for a few steps."""
    shutil.copytree(trained_once, project, dirs_exist_ok=True)
    return project
