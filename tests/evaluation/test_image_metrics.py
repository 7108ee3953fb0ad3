"""Samples as images: what is measured once for a scan, and what of each set of samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.evaluation.encoder import EncoderConfig, random_encoder
from microgan.evaluation.feature_distances import ImageFidelityConfig, compare_images
from microgan.evaluation.image_metrics import ImageMetricsConfig, RealImages, image_metrics
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.calibration import calibrate
from microgan.validity.reference import CalibrationConfig, Reference
from tests.helpers import disc_planes

CONFIG = ImageMetricsConfig(
    windows=24,
    training_windows=10,
    encoder=EncoderConfig(base_channels=4, features=8, steps=2, batch=8),
    measures=ImageFidelityConfig(permutations=19, subsets=2, subset_size=10),
)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Planes:
    return disc_planes(tmp_path_factory.mktemp("discs"), size_px=192)


@pytest.fixture(scope="module")
def reference(planes: Planes) -> Reference:
    return calibrate(planes, 64, CalibrationConfig(windows=100, planted=10, bootstrap=0))


@pytest.fixture(scope="module")
def real(planes: Planes, reference: Reference) -> RealImages:
    return RealImages.of(planes, reference, CONFIG)


def drawn(planes: Planes, role: str, count: int = 24, stream: int = 0) -> Tensor:
    rng = np.random.default_rng([0, ("train", "calibration", "held_out").index(role), stream])
    return Windows(planes, role, 64).draw(rng, count)


def test_training_windows_are_compared_once_for_all_models(planes: Planes, real: RealImages) -> None:
    control = random_encoder(0, CONFIG.encoder)
    expected = compare_images(
        drawn(planes, "held_out"), drawn(planes, "train"), real.encoder, control, CONFIG.measures, 0
    )
    assert real.scale == expected
    samples = drawn(planes, "calibration")
    for valid in (np.ones(24, bool), np.zeros(24, bool)):
        assert image_metrics(samples, valid, real, planes, CONFIG).metrics["training_windows"] is real.scale


def test_what_is_measured_once_is_the_same_after_saving(
    planes: Planes, real: RealImages, tmp_path: Path
) -> None:
    real.save(tmp_path)
    again = RealImages.load(tmp_path)
    assert torch.equal(again.held_out, real.held_out) and again.scale == real.scale
    samples = drawn(planes, "calibration")
    found = [image_metrics(samples, np.arange(24) < 22, one, planes, CONFIG) for one in (real, again)]
    assert found[0].metrics == found[1].metrics
    for name in ("images", "windows"):
        np.testing.assert_array_equal(
            getattr(again.nearest_training_windows, name), getattr(real.nearest_training_windows, name)
        )
    np.testing.assert_array_equal(
        again.nearest_training_windows.nearness.margin, real.nearest_training_windows.nearness.margin
    )


def test_samples_beside_training_windows(planes: Planes, real: RealImages) -> None:
    samples = torch.cat([drawn(planes, "held_out", 4, stream=1), drawn(planes, "train", 24, stream=2)])
    found = image_metrics(samples, np.arange(28) >= 4, real, planes, CONFIG).metrics
    row = found["after"]["encoder/kernel_distance"]
    assert row["ratio"] == row["value"] / real.scale["encoder/kernel_distance"]["value"]
    assert found["memorisation"]["samples"] == 24 and found["memorisation"]["flagged"]
    assert found["diversity"]["n"] == 24


def test_few_samples_are_not_compared(planes: Planes, real: RealImages) -> None:
    found = image_metrics(drawn(planes, "held_out"), np.arange(24) < 19, real, planes, CONFIG)
    assert {"training_windows", "before"} == set(found.metrics) and found.nearest_training_windows is None


def test_samples_like_training_windows_come_first_beside_these(planes: Planes, real: RealImages) -> None:
    copies = drawn(planes, "train", 3, stream=3)
    samples = torch.cat([drawn(planes, "held_out", 18, stream=1), copies.flip(-1), copies[:1]])
    found = image_metrics(samples, np.arange(22) < 21, real, planes, CONFIG).nearest_training_windows
    assert found is not None and len(found) == 8
    near = found.nearness.training
    assert (np.diff(near) <= 0).all() and (near[:3] > 0.99).all() and near[3] < 0.9
    for image, window in zip(found.images[:3], found.windows[:3], strict=True):
        np.testing.assert_array_equal(image, window)
    assert {image.tobytes() for image in found.images[:3]} == {
        image.numpy().tobytes() for image in copies.flip(-1)[:, 0].contiguous()
    }
