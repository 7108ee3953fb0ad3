import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from microgan.commands.sample import sample as sample_command
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.gan.checkpoint import load_model, save_model
from microgan.gan.networks import NetworkConfig
from microgan.gan.sampling import sample
from microgan.samples.card import SampleConfig
from microgan.samples.model_store import model_folder
from microgan.samples.moved_store import EXPERIMENT
from microgan.scan.planes import ScanInfo
from stages.executions import client_of, find_experiment
from stages.registry import FIGURES, best_model, promote, record, register
from stages.tracking import Tracker
from tests.helpers import lively

SCAN = {
    "name": "discs",
    "source": ["scan.tif"],
    "source_digest": "0" * 64,
    "shape": (3, 128, 128),
    "dtype": "uint16",
    "voxel_size_um": 1.3,
    "polarity": "bright",
    "radius_px": (4, 8),
    "intensity_window": (10000, 50000),
    "regions": {},
    "planes_sha256": "1" * 64,
    "mask_sha256": "2" * 64,
}

GOOD = {
    **{"pass_rate": 0.72, "reference_pass_rate": 0.8, "pass_rate_ratio": 0.9, "n": 100},
    **{"learnt": 1, "kernel_distance": 0.5, "kernel_distance.training_windows": 0.25},
}

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow warns of its own code on import


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an MLflow store in which a small generator is registered, and that generator."""
    folder = tmp_path_factory.mktemp("store")
    save_model(
        folder / "dcgan",
        lively(NetworkConfig(latent_channels=4, base_channels=4)),
        {"model": "dcgan", "scan": SCAN, "training": {"git_commit": "abc", "steps": 70}},
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("DVC_ROOT", str(folder))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        client = client_of()
        run = client.create_run(find_experiment(client)).info.run_id
        register(client, run, "discs", folder / "dcgan")
        register(client, run, "discs", folder / "dcgan")
        record(client, "discs", "dcgan", GOOD, "learnt", "3" * 64)
        promote(client, "discs", ["dcgan"])
        yield folder


def test_a_generator_is_registered_once_without_pickle_or_code(registered: Path) -> None:
    client = client_of()
    (version,) = client.search_model_versions("name = 'microgan-discs'")
    for alias in ("best", "dcgan"):
        assert client.get_model_version_by_alias("microgan-discs", alias).version == version.version
    card = json.loads((registered / "dcgan/model.json").read_text())
    assert version.tags == {
        **{"weights_sha256": card["weights_sha256"], "scan": "discs", "model": "dcgan"},
        **{"steps": "70", "git_commit": "abc", "reference_sha256": "3" * 64, "verdict": "learnt"},
        **{name: str(GOOD[name]) for name in FIGURES},
    }
    assert version.description == (
        "dcgan of discs: learnt; 72.0% of 100 samples are valid (80.0% of real held-out windows), "
        "kernel distance 0.5 (training windows: 0.25)"
    )
    (entry,) = client.search_logged_models([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    files = [path.suffix for path in (registered / "mlartifacts").rglob("*") if path.is_file()]
    assert (version.source, version.run_id) == (entry.artifact_location, entry.source_run_id)
    assert ".safetensors" in files and not {".py", ".pkl", ".pt"} & set(files)


def test_best_moves_to_a_better_model_only(registered: Path) -> None:
    client = client_of()
    run = client.create_run(find_experiment(client)).info.run_id
    first = client.get_model_version_by_alias("microgan-discs", "best").version
    for number, (figures, moves) in enumerate(
        (
            ({**GOOD, "pass_rate": 0.4, "pass_rate_ratio": 0.5, "kernel_distance": 0.1}, False),
            ({**GOOD, "pass_rate": 0.0, "pass_rate_ratio": 0.0, "kernel_distance": None}, False),
            ({**GOOD, "kernel_distance": 0.6}, False),
            ({**GOOD, "learnt": 0.0, "kernel_distance": 0.1}, False),
            ({**GOOD, "kernel_distance": 0.4}, True),
        )
    ):
        network = NetworkConfig(latent_channels=5 + number, base_channels=4)
        about = {"model": "other", "scan": SCAN, "training": {}}
        save_model(registered / "other", lively(network), about)
        register(client, run, "discs", registered / "other")
        record(client, "discs", "other", figures, "learnt", "4" * 64)
        assert promote(client, "discs", ["other"]) == ("other" if moves else None)
        best = client.get_model_version_by_alias("microgan-discs", "best").version
        assert best == (
            client.get_model_version_by_alias("microgan-discs", "other").version if moves else first
        )
    client.set_registered_model_alias("microgan-discs", "best", first)


def test_what_mlflow_serves_is_what_the_generator_draws(registered: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{registered / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/microgan-discs@best")
    info = ScanInfo.from_mapping(SCAN, "scan")
    generator, _ = load_model(registered / "dcgan")
    truth = info.denormalise(sample(generator, 3, Domain((40, 48), periodic=True), 5)[:, 0].numpy())
    request: dict[str, Any] = {"count": 3, "rows": 40, "cols": 48, "seed": 5, "periodic": True}
    assert np.array_equal(model.predict(request), truth)
    assert model.predict({"count": 2}).shape == (2, 64, 64)
    assert model.predict({"count": 2}).dtype == np.uint16
    with pytest.raises(UserError, match=r"request.count: 0"):
        model.predict({"count": 0})
    with pytest.raises(UserError, match="2 rows: must be a table of one row"):
        model.predict([{"count": 1}, {"count": 1}])


def test_sample_takes_a_model_by_its_name(registered: Path, tmp_path: Path) -> None:
    for name, out in (("models:/microgan-discs@best", "a.tif"), (str(registered / "dcgan"), "b.tif")):
        sample_command(name, SampleConfig(count=2, seed=1), Domain((64, 64)), tmp_path / out)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), tifffile.imread(tmp_path / "b.tif"))


def test_a_name_that_mlflow_does_not_know_is_told_in_one_line(registered: Path) -> None:
    with (
        pytest.raises(UserError, match=r"models:/microgan-foam@best: not found: .*microgan-foam.*not found"),
        model_folder("models:/microgan-foam@best"),
    ):
        pass


def test_a_name_without_a_store_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with (
        pytest.raises(UserError, match=r"no mlflow.db here or above: set MLFLOW_TRACKING_URI"),
        model_folder("models:/microgan-discs@best"),
    ):
        pass


def test_one_generator_kept_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(seeds: tuple[int, ...], out: Path) -> None:
        for number, seed in enumerate(seeds):
            generator = lively(NetworkConfig(latent_channels=seed, base_channels=4))
            save_model(out / str(number) / "dcgan", generator, {"model": "dcgan"})

    monkeypatch.setattr("microgan.samples.model_store._download", lambda name, out: download((2, 2), out))
    with model_folder("runs:/abc/dcgan") as folder:
        assert load_model(folder)[1]["model"] == "dcgan"
    monkeypatch.setattr("microgan.samples.model_store._download", lambda name, out: download((2, 3), out))
    with (
        pytest.raises(UserError, match="runs:/abc/dcgan: 2 generators: must be one folder"),
        model_folder("runs:/abc/dcgan"),
    ):
        pass


def test_a_failure_to_register_does_not_stop_a_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker()
    tracker._client = object()  # type: ignore[assignment]  # a server that knows nothing
    (tmp_path / "dcgan").mkdir()
    tracker.model("discs", tmp_path / "dcgan")
    tracker._outbox.close()
    assert "warning: lost, as MLflow did not take it: 1 x model dcgan" in capsys.readouterr().err


def test_the_best_model_passes_about_as_often_as_any_and_is_nearest_to_real_images() -> None:
    much = {"pass_rate_ratio": 0.9, "kernel_distance": 2.0}
    near = {"pass_rate_ratio": 0.85, "kernel_distance": 0.5}
    rare = {"pass_rate_ratio": 0.3, "kernel_distance": 0.1}
    assert best_model({"a": much, "b": near, "c": rare}) == "b"
    assert best_model({"a": much, "c": rare}) == "a"
    assert best_model({"a": {"pass_rate_ratio": 0.0, "kernel_distance": None}}) is None
    assert best_model({"a": much, "b": {**near, "learnt": 0.0}}) == "a"  # whatever passes its rules
    often = {"pass_rate_ratio": 1.3, "kernel_distance": 2.0}
    assert best_model({"a": often, "b": {**near, "pass_rate_ratio": 0.95}}) == "b"
