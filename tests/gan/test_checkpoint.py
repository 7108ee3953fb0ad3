import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from microgan.core.errors import UserError
from microgan.core.files import file_sha256
from microgan.core.json_files import read_json, write_json, write_sealed_json
from microgan.gan.checkpoint import State, load_model, load_state, save_model, save_state
from microgan.gan.networks import Generator, NetworkConfig
from tests.helpers import lively


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = lively(NetworkConfig(latent_channels=4, base_channels=4))
    save_model(tmp_path / "model", generator, {"model": "dcgan"})
    return tmp_path / "model"


def test_a_saved_model_draws_the_same_images(folder: Path) -> None:
    generator, card = load_model(folder)
    expected = lively(NetworkConfig(latent_channels=4, base_channels=4))
    latent = torch.randn(1, 4, 18, 18)
    assert torch.equal(generator(latent), expected(latent))
    assert card["model"] == "dcgan"
    assert card["network"] == {"latent_channels": 4, "base_channels": 4, "scanner_noise": 0}


def test_the_card_names_the_weights_by_the_sha256_of_their_file(folder: Path) -> None:
    weights = (folder / "generator.safetensors").read_bytes()
    assert read_json(folder / "model.json")["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_other_weights_than_the_card_names_are_refused(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    save_model(tmp_path / "other", Generator(NetworkConfig(latent_channels=4, base_channels=4)), {})
    (folder / "generator.safetensors").write_bytes((tmp_path / "other/generator.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"generator.safetensors: changed: must have the weights_sha256"):
        load_model(folder)


def test_missing_truncated_and_foreign_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model.json in it: must be a folder that a training wrote"):
        load_model(tmp_path)
    weights = folder / "generator.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"generator.safetensors: unusable"):
        load_model(folder)
    weights.write_bytes(whole)
    edited = {**read_json(folder / "model.json"), "network": {"latent_channels": 4, "base_channels": 8}}
    write_sealed_json(folder / "model.json", edited)
    with pytest.raises(UserError, match=r"generator.safetensors: unusable: must hold the weights"):
        load_model(folder)


def test_a_card_that_was_changed_is_refused(folder: Path) -> None:
    card = read_json(folder / "model.json")
    write_json(folder / "model.json", {**card, "model": "wgan_gp"})
    with pytest.raises(UserError, match=r"model.json: changed since it was written: .*train anew"):
        load_model(folder)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("network", None, "network: missing"),
        ("network", [1], "network: [1]: input should be"),
        ("network", {"base_channels": 10**9}, "network.base_channels: 1000000000: input should be less"),
        ("weights_sha256", "0" * 63, "weights_sha256: '000"),
        ("scan", {"name": "x"}, "scan.source: missing"),
        ("window_px", -1, "window_px: -1: input should be greater"),
        ("training", 3, "training: 3: input should be"),
    ],
)
def test_fields_of_the_card_are_checked(folder: Path, field: str, value: object, line: str) -> None:
    card = {name: held for name, held in read_json(folder / "model.json").items() if name != field}
    write_sealed_json(folder / "model.json", card if value is None else {**card, field: value})
    with pytest.raises(UserError) as error:
        load_model(folder)
    assert "model.json" in str(error.value) and line in str(error.value)


def _with_nan(values: torch.Tensor) -> torch.Tensor:
    return values * torch.nan if values.is_floating_point() else values


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (lambda values: values.bfloat16(), "bfloat16: must hold the weights of model.json: of float32"),
        (lambda values: values.double(), "is float64 of shape"),
        (lambda values: values > 0, "is bool of shape"),
        (lambda values: values.to(torch.complex64), "complex64: must hold the weights"),
        (_with_nan, "NaN or infinity: must hold the weights of model.json"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(
    folder: Path, changed: Callable[[torch.Tensor], torch.Tensor], line: str
) -> None:
    weights = folder / "generator.safetensors"
    tensors = {name: changed(value) for name, value in load_file(weights).items()}
    save_file(tensors, weights)
    write_sealed_json(
        folder / "model.json", {**read_json(folder / "model.json"), "weights_sha256": file_sha256(weights)}
    )
    with pytest.raises(UserError) as error:
        load_model(folder)
    assert line in str(error.value)


def test_weights_are_readable_by_whom_the_umask_lets(folder: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes["generator.safetensors"] == modes["model.json"] != 0o600


@pytest.fixture
def state(tmp_path: Path) -> tuple[Path, State]:
    """The state of a training of a small layer after a step, in a file and in memory."""
    torch.manual_seed(0)
    state = _state()
    state.modules["generator"](torch.ones(2, 3)).sum().backward()
    state.optimisers["adam"].step()
    state.step, state.history = 3, [{"step": 3, "loss": 0.1}]
    save_state(tmp_path / "state.safetensors", state)
    return tmp_path / "state.safetensors", state


def _state() -> State:
    layer = torch.nn.Linear(3, 2)
    return State({"generator": layer}, {"adam": torch.optim.Adam(layer.parameters())})


def test_a_state_comes_back_as_it_was(state: tuple[Path, State]) -> None:
    path, saved = state
    loaded = _state()
    load_state(path, loaded)
    assert (loaded.step, loaded.history) == (3, [{"step": 3, "loss": 0.1}])
    assert isinstance(loaded.history[0]["step"], int)
    for name, values in saved.modules["generator"].state_dict().items():
        assert torch.equal(loaded.modules["generator"].state_dict()[name], values)
    moments = loaded.optimisers["adam"].state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, saved.optimisers["adam"].state_dict()["state"][0]["exp_avg"])


def test_every_flipped_bit_of_a_state_is_noticed(state: tuple[Path, State]) -> None:
    path, saved = state
    whole = path.read_bytes()
    fresh = _state()
    before = {name: values.clone() for name, values in fresh.modules["generator"].state_dict().items()}
    for place in range(8, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            load_state(path, fresh)
        except UserError:
            after = fresh.modules["generator"].state_dict()
            assert all(torch.equal(after[name], before[name]) for name in before)
            continue
        # A bit of the header that means nothing, or of the name of the digest: all values are right.
        assert torch.equal(fresh.modules["generator"].weight, saved.modules["generator"].weight)
        assert fresh.step == 3 and fresh.history == saved.history
        before = {name: values.clone() for name, values in fresh.modules["generator"].state_dict().items()}


def test_a_state_without_a_step_is_refused(state: tuple[Path, State]) -> None:
    path, _ = state
    for progress, line in (("{}", "progress.step: missing"), ("[[", "damaged"), ("[]", "must be a section")):
        save_file(load_file(path), path, {"progress": progress})
        with pytest.raises(UserError) as error:
            load_state(path, _state())
        assert line in str(error.value)


def test_a_failed_save_leaves_the_earlier_model(folder: Path) -> None:
    before = (folder / "model.json").read_bytes()
    generator = Generator(NetworkConfig(latent_channels=4, base_channels=4))
    with pytest.raises(TypeError):
        save_model(folder, generator, {"model": object()})
    assert (folder / "model.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
