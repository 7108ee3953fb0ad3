"""The encoder learns to see planted defects, and is what its digest says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.core.errors import UserError
from microgan.core.files import file_sha256
from microgan.detection.circles import Circles
from microgan.evaluation.encoder import (
    KINDS,
    Encoder,
    EncoderConfig,
    defect_examples,
    features,
    load_encoder,
    random_encoder,
    save_encoder,
    train_encoder,
)
from tests.helpers import drawn

SMALL = EncoderConfig(base_channels=8, features=16, defects=2, steps=60, batch=32, learning_rate=5e-3)


def _windows(count: int, seed: int) -> tuple[Tensor, list[Circles]]:
    """Draw windows of a square lattice of discs, shaken, with noise; and their circles."""
    rng, images, circles = np.random.default_rng(seed), [], []
    places = np.stack(np.mgrid[8:64:16, 8:64:16], -1).reshape(-1, 2)
    for _ in range(count):
        table = np.column_stack([places + rng.uniform(-1.5, 1.5, (16, 2)), rng.uniform(5.5, 6.5, 16)])
        noise = torch.from_numpy(rng.normal(0, 0.08, (1, 1, 64, 64)).astype(np.float32))
        images.append((drawn(*map(tuple, table.tolist())) + noise).clamp(-1, 1))
        circles.append(Circles.from_table(table))
    return torch.cat(images), circles


def _trained(seed: int = 0, config: EncoderConfig = SMALL) -> tuple[Encoder, list[float]]:
    losses: list[float] = []
    windows, circles = _windows(40, seed=0)
    encoder = train_encoder(windows, circles, seed, config, on_step=lambda _, loss: losses.append(loss))
    return encoder, losses


def test_examples_are_the_windows_and_what_was_planted() -> None:
    windows, circles = _windows(len(KINDS), seed=3)
    images, kinds = defect_examples(windows, circles, seed=0, per_window=2)
    assert torch.equal(images[: len(windows)], windows)
    assert kinds[: len(windows)].tolist() == [0] * len(windows)
    assert len(images) == len(kinds) > 2 * len(windows)
    planted = kinds[len(windows) :].tolist()
    assert set(planted) > set(range(len(KINDS))) - {KINDS.index("merged_pair")}  # few discs are that near
    again, _ = defect_examples(windows, circles, seed=0, per_window=2)
    assert torch.equal(images, again)


def test_a_disc_put_back_where_it_was_is_no_fault_and_changes_one_place() -> None:
    windows, circles = _windows(1, seed=3)
    images, kinds = defect_examples(windows, circles, seed=0, per_window=1)
    assert kinds.tolist() == [0, 0]
    changed = (images[1] != windows[0]).squeeze()
    row, col = torch.nonzero(changed, as_tuple=True)
    assert len(row) and max(np.ptp(row.numpy()), np.ptp(col.numpy())) < 24
    assert (images[1] - windows[0]).abs().mean() < 0.02


def test_training_learns_to_name_faults_in_windows_that_it_never_saw() -> None:
    encoder, losses = _trained()
    assert np.mean(losses[:5]) > 2.0
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:5])
    images, kinds = defect_examples(*_windows(40, seed=1), seed=5, per_window=2)
    with torch.inference_mode():
        said = encoder.kind(encoder(images)).argmax(1)
    hits = [(said[kinds == kind] == kind).float().mean().item() for kind in kinds.unique()]
    assert np.mean(hits) > 3 / len(KINDS)


def test_the_seed_decides_every_bit() -> None:
    config = SMALL.model_copy(update={"steps": 5})
    images, _ = _windows(4, seed=2)
    one, same, other = (features(_trained(seed, config)[0], images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    control = random_encoder(4, SMALL)
    assert torch.equal(torch.rand(1), expected)  # no one else's random numbers are touched
    np.testing.assert_array_equal(features(control, images), features(random_encoder(4, SMALL), images))


def test_features_are_of_each_image_alone_at_any_size() -> None:
    encoder = random_encoder(0, SMALL)
    images, _ = _windows(5, seed=2)
    values = features(encoder, images)
    assert values.shape == (5, 16) and values.dtype == np.float64
    np.testing.assert_allclose(features(encoder, images[3:4]), values[3:4], atol=1e-5)
    assert features(encoder, images[:, :, :48, :32]).shape == (5, 16)


@pytest.mark.parametrize("shape", [(2, 64, 64), (2, 3, 64, 64), (2, 1, 8, 64), (2, 1, 64, 63)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"images: .*must be \(N, 1, H, W\)"):
        features(random_encoder(0, SMALL), torch.zeros(shape))


def test_circles_that_do_not_belong_to_the_windows_are_refused() -> None:
    windows, circles = _windows(2, seed=0)
    with pytest.raises(UserError, match="circles: 1: must be as many as windows, 2"):
        train_encoder(windows, circles[:1], seed=0, config=SMALL)


def test_a_file_keeps_the_encoder_and_its_digest_names_it(tmp_path: Path) -> None:
    encoder, images = random_encoder(3, SMALL), _windows(3, seed=0)[0]
    sha256 = save_encoder(encoder, tmp_path / "encoder.safetensors")
    assert sha256 == hashlib.sha256((tmp_path / "encoder.safetensors").read_bytes()).hexdigest()
    loaded = load_encoder(tmp_path / "encoder.safetensors", sha256)
    np.testing.assert_array_equal(features(loaded, images), features(encoder, images))
    assert save_encoder(loaded, tmp_path / "again.safetensors") == sha256


def test_a_file_that_is_another_or_missing_or_no_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    with pytest.raises(UserError, match="missing"):
        load_encoder(path, "0" * 64)
    sha256 = save_encoder(random_encoder(3, SMALL), path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"changed: must have the SHA-256 {sha256}"):
        load_encoder(path, sha256)
    path.write_bytes(b"no tensors")
    with pytest.raises(UserError, match="unusable: must hold an encoder"):
        load_encoder(path, file_sha256(path))
