"""Samples as images: what is measured once for a scan, and what of each set of samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.evaluation.encoder import EncoderConfig, random_encoder
from microgan.evaluation.feature_distances import FeatureDistancesConfig, compare_images
from microgan.evaluation.image_metrics import (
    ImageMetrics,
    ImageMetricsConfig,
    RealImageStatistics,
    image_metrics,
)
from microgan.evaluation.memorisation import nearest_correlation
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.reference import Reference
from tests.helpers import disc_planes

CONFIG = ImageMetricsConfig(
    windows=24,
    training_windows=10,
    encoder=EncoderConfig(base_channels=4, features=8, steps=2, batch=8),
    measures=FeatureDistancesConfig(permutations=19, subsets=2, subset_size=10),
)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Planes:
    return disc_planes(tmp_path_factory.mktemp("discs"), size_px=192)


@pytest.fixture(scope="module")
def reference(planes: Planes) -> Reference:
    return calibrate(planes, 64, CalibrationConfig(windows=100, planted=10, bootstrap=0))


@pytest.fixture(scope="module")
def real(planes: Planes, reference: Reference) -> RealImageStatistics:
    return RealImageStatistics.of(planes, reference, CONFIG)


def windows(planes: Planes, role: str, count: int = 24, stream: int = 0) -> Tensor:
    rng = np.random.default_rng([0, ("train", "calibration", "held_out").index(role), stream])
    return Windows(planes, role, 64).draw(rng, count)


def compared(
    samples: torch.Tensor, valid: np.ndarray, real: RealImageStatistics, planes: Planes
) -> ImageMetrics:
    nearest = nearest_correlation(samples[:, 0].numpy(), planes, seed=CONFIG.seed)
    return image_metrics(samples, valid, nearest, real, planes, CONFIG)


def test_training_windows_are_compared_once_for_all_models(planes: Planes, real: RealImageStatistics) -> None:
    control = random_encoder(0, CONFIG.encoder)
    expected = compare_images(
        windows(planes, "held_out"), windows(planes, "train"), real.encoder, control, CONFIG.measures, 0
    )
    assert real.training_metrics == expected
    samples = windows(planes, "calibration")
    for valid in (np.ones(24, bool), np.zeros(24, bool)):
        assert compared(samples, valid, real, planes).metrics["training_windows"] is real.training_metrics


def test_what_is_measured_once_is_the_same_after_saving(
    planes: Planes, real: RealImageStatistics, tmp_path: Path
) -> None:
    real.save(tmp_path)
    again = RealImageStatistics.load(tmp_path)
    assert torch.equal(again.held_out, real.held_out) and again.training_metrics == real.training_metrics
    samples = windows(planes, "calibration")
    before, after = (
        compared(samples, np.arange(24) < 22, statistics, planes) for statistics in (real, again)
    )
    assert before.metrics == after.metrics
    for name in ("images", "windows"):
        np.testing.assert_array_equal(
            getattr(again.nearest_training_windows, name), getattr(real.nearest_training_windows, name)
        )
    np.testing.assert_array_equal(
        again.nearest_training_windows.correlation.margin, real.nearest_training_windows.correlation.margin
    )


def test_samples_beside_training_windows(planes: Planes, real: RealImageStatistics) -> None:
    samples = torch.cat([windows(planes, "held_out", 4, stream=1), windows(planes, "train", 24, stream=2)])
    metrics = compared(samples, np.arange(28) >= 4, real, planes).metrics
    row = metrics["after"]["encoder/kernel_distance"]
    assert row["ratio"] == row["value"] / real.training_metrics["encoder/kernel_distance"]["value"]
    assert metrics["memorisation"]["samples"] == 24 and metrics["memorisation"]["flagged"]
    assert metrics["diversity"]["n"] == 24
    assert set(metrics["grid_power"]) == {"training_windows", "before", "after"}
    assert list(metrics["grid_power"]["after"]) == ["2", "4", "8"]
    assert all(0.5 < power < 2 for power in metrics["grid_power"]["after"].values())  # of real windows


def test_few_samples_are_not_compared(planes: Planes, real: RealImageStatistics) -> None:
    few = compared(windows(planes, "held_out"), np.arange(24) < 19, real, planes)
    assert {"training_windows", "before", "grid_power"} == set(
        few.metrics
    ) and few.nearest_training_windows is None


def test_samples_like_training_windows_come_first_beside_these(
    planes: Planes, real: RealImageStatistics
) -> None:
    copies = windows(planes, "train", 3, stream=3)
    samples = torch.cat([windows(planes, "held_out", 18, stream=1), copies.flip(-1), copies[:1]])
    nearest = compared(samples, np.arange(22) < 21, real, planes).nearest_training_windows
    assert nearest is not None and len(nearest) == 8
    near = nearest.correlation.training
    assert (np.diff(near) <= 0).all() and (near[:3] > 0.99).all() and near[3] < 0.9
    for image, window in zip(nearest.images[:3], nearest.windows[:3], strict=True):
        np.testing.assert_array_equal(image, window)
    assert {image.tobytes() for image in nearest.images[:3]} == {
        image.numpy().tobytes() for image in copies.flip(-1)[:, 0].contiguous()
    }
