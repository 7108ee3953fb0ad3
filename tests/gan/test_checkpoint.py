import hashlib
from pathlib import Path

import pytest
import torch

from microgan.core.errors import UserError
from microgan.core.files import read_json, write_json
from microgan.gan.checkpoint import load_model, save_model
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
    assert card["network"] == {"latent_channels": 4, "base_channels": 4}


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
    write_json(folder / "model.json", {**read_json(folder / "model.json"), "network": {"base_channels": 8}})
    with pytest.raises(UserError, match=r"generator.safetensors: unusable: must hold the weights"):
        load_model(folder)


def test_a_failed_save_leaves_the_earlier_model(folder: Path) -> None:
    before = (folder / "model.json").read_bytes()
    generator = Generator(NetworkConfig(latent_channels=4, base_channels=4))
    with pytest.raises(TypeError):
        save_model(folder, generator, {"model": object()})
    assert (folder / "model.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
