"""Samples beside real windows as images: features of an encoder, copies of training windows, diversity.

Descriptors of phase and circles miss three things: whether discs look like discs, whether samples repeat the
training data, and whether they repeat each other.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from microgan.core.config import Config
from microgan.core.json_files import read_json, write_json
from microgan.detection.detect import detect_all
from microgan.evaluation.arrays import read_arrays, write_arrays
from microgan.evaluation.diversity import diversity
from microgan.evaluation.encoder import (
    Encoder,
    EncoderConfig,
    load_encoder,
    random_encoder,
    save_encoder,
    train_encoder,
)
from microgan.evaluation.fault_judge import JudgeConfig
from microgan.evaluation.feature_distances import FeatureDistancesConfig, compare_images, given_away
from microgan.evaluation.memorisation import (
    NearestCorrelation,
    NearestTrainingWindows,
    memorisation_test,
    nearest_correlation,
    nearest_training_windows,
)
from microgan.scan.planes import ROLES, Planes
from microgan.scan.windows import Windows
from microgan.statistics.grid_power import grid_power
from microgan.validity.segmentation import Segmentation

ENCODER, WINDOWS, FIGURES = "encoder.safetensors", "windows.safetensors", "images.json"
LEAST = 20  # images; fewer are not compared
SHOWN = 8  # images shown beside their nearest training windows


class ImageMetricsConfig(Config):
    """How many images are compared, and with which encoder."""

    windows: int = Field(default=500, ge=LEAST)
    training_windows: int = Field(default=300, ge=10)
    encoder: EncoderConfig = EncoderConfig()
    measures: FeatureDistancesConfig = FeatureDistancesConfig()
    judge: JudgeConfig = JudgeConfig()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _subsets_are_smaller_than_sets(self) -> Self:
        if self.measures.subset_size > self.windows:
            raise ValueError(
                f"measures.subset_size, {self.measures.subset_size}, must be at most windows, {self.windows}"
            )
        return self


@dataclass(frozen=True)
class RealImageStatistics:
    """What samples are compared with, made once for all models.

    Attributes
    ----------
    held_out
        Windows (N, 1, S, S) in [-1, 1].
    correlation
        Of the held-out windows with the nearest windows of the training part and of the control.
    nearest_training_windows
        The held-out windows that are nearest to the training part, with their nearest windows.
    encoder
        Trained on windows of the training part.
    training_metrics
        `compare_images` of training windows with held-out ones: what samples as good as real would give.
    grid_power
        `microgan.statistics.grid_power` of ``held_out`` and ``training_windows``: period -> power.
    """

    held_out: Tensor
    correlation: NearestCorrelation
    nearest_training_windows: NearestTrainingWindows
    encoder: Encoder
    training_metrics: Mapping[str, Mapping[str, float]]
    grid_power: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, planes: Planes, segmentation: Segmentation, config: ImageMetricsConfig) -> Self:
        """Draw real windows, train the encoder, and compare training windows with held-out ones."""

        def windows(role: str, count: int, stream: int) -> Tensor:
            rng = np.random.default_rng([config.seed, ROLES.index(role), stream])
            return Windows(planes, role, segmentation.window_px).draw(rng, count)

        held_out, train = (windows(role, config.windows, 0) for role in ("held_out", "train"))
        learnt = windows("train", config.training_windows, 1)
        circles = detect_all(learnt, segmentation.detector)
        encoder = train_encoder(learnt, circles, config.seed, config.encoder, segmentation.polarity)
        images = held_out[:, 0].numpy()
        correlation = nearest_correlation(images, planes, seed=config.seed)
        nearest = nearest_training_windows(images, correlation, planes, SHOWN, seed=config.seed)
        compared = _compared(held_out, train, encoder, config)
        power = {"held_out": _grid_power(held_out), "training_windows": _grid_power(train)}
        return cls(held_out, correlation, nearest, encoder, compared, power)

    def save(self, folder: Path) -> None:
        """Write windows, encoder and figures into ``folder``, with the SHA-256 of the encoder."""
        arrays = {"held_out": self.held_out.numpy(), **_arrays("correlation", self.correlation)}
        arrays |= {
            "nearest_training_windows.images": self.nearest_training_windows.images,
            "nearest_training_windows.windows": self.nearest_training_windows.windows,
        }
        nearest = self.nearest_training_windows.correlation
        arrays |= _arrays("nearest_training_windows.correlation", nearest)
        write_arrays(arrays, folder / WINDOWS)
        sha256 = save_encoder(self.encoder, folder / ENCODER)
        figures = {"training_windows": self.training_metrics, "grid_power": self.grid_power}
        write_json(folder / FIGURES, {"encoder_sha256": sha256, **figures})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        figures = read_json(folder / FIGURES)
        encoder = load_encoder(folder / ENCODER, str(figures.get("encoder_sha256")))
        arrays = read_arrays(folder / WINDOWS)
        nearest = NearestTrainingWindows(
            images=arrays["nearest_training_windows.images"],
            windows=arrays["nearest_training_windows.windows"],
            correlation=_correlation("nearest_training_windows.correlation", arrays),
        )
        held_out, correlation = torch.from_numpy(arrays["held_out"]), _correlation("correlation", arrays)
        return cls(
            held_out, correlation, nearest, encoder, figures["training_windows"], figures["grid_power"]
        )


def _arrays(name: str, correlation: NearestCorrelation) -> dict[str, np.ndarray]:
    return {f"{name}.training": correlation.training, f"{name}.control": correlation.control}


def _correlation(name: str, arrays: Mapping[str, np.ndarray]) -> NearestCorrelation:
    return NearestCorrelation(arrays[f"{name}.training"], arrays[f"{name}.control"])


@dataclass(frozen=True)
class ImageMetrics:
    """Results of `image_metrics`.

    Attributes
    ----------
    metrics : figures for ``fidelity.json``
    given_away : indices of the samples that a classifier tells most surely from real windows
    nearest_training_windows : the samples nearest to training data, or None
    """

    metrics: dict[str, Any]
    given_away: np.ndarray
    nearest_training_windows: NearestTrainingWindows | None


def image_metrics(
    samples: Tensor,
    valid: np.ndarray,
    nearest: NearestCorrelation,
    real: RealImageStatistics,
    planes: Planes,
    config: ImageMetricsConfig,
) -> ImageMetrics:
    """Compare samples (N, 1, S, S) with real windows.

    Parameters
    ----------
    samples
        In [-1, 1].
    valid
        Which of them are valid, (N,) of bool.
    nearest
        `nearest_correlation` of all samples, by the seed of ``config``.
    real
        Statistics of real windows.
    planes
        The scan.
    config
        How much is compared.

    Returns
    -------
    ImageMetrics
        Its metrics are, for ``before``, ``after`` filtering and, for scale, ``training_windows``: measure ->
        figures of `compare_images`; the kernel distance also has ``ratio``, the value over that of training
        windows. ``grid_power`` has, for the same sets, period in px -> `grid_power` over that of held-out
        windows. ``memorisation`` (see `Memorisation`) and ``diversity`` (see `microgan.evaluation.diversity`)
        are those of the valid samples. Sets of fewer than 20 images are left out; None is infinity.
    """
    compared = slice(config.windows)
    sets = {"before": samples[compared], "after": samples[valid][compared]}
    metrics: dict[str, Any] = {"training_windows": real.training_metrics} | {
        name: _compared(real.held_out, images, real.encoder, config)
        for name, images in sets.items()
        if len(images) >= LEAST
    }
    power = {"training_windows": real.grid_power["training_windows"]} | {
        name: _grid_power(images) for name, images in sets.items() if name in metrics
    }
    metrics["grid_power"] = {
        name: {key: each[key] / max(value, 1e-12) for key, value in real.grid_power["held_out"].items()}
        for name, each in power.items()
    }
    scale = real.training_metrics["encoder/kernel_distance"]["value"]
    for name in ("before", "after"):
        if name in metrics and scale > 0:
            row = metrics[name]["encoder/kernel_distance"]
            row["ratio"] = row["value"] / scale
    unlike = given_away(real.held_out, sets["before"], real.encoder, config.measures, config.seed, 2 * SHOWN)
    if "after" not in metrics:
        return ImageMetrics(metrics, unlike, None)
    images = sets["after"][:, 0].numpy()
    correlation = nearest.take(np.flatnonzero(valid)[compared])
    metrics["memorisation"] = asdict(memorisation_test(correlation, real.correlation))
    figures = diversity(images, real.held_out[:, 0].numpy())
    metrics["diversity"] = {name: value if np.isfinite(value) else None for name, value in figures.items()}
    shown = nearest_training_windows(images, correlation, planes, SHOWN, seed=config.seed)
    return ImageMetrics(metrics, unlike, shown)


def _grid_power(images: Tensor) -> dict[str, float]:
    return {str(period): power for period, power in grid_power(images[:, 0].numpy()).items()}


def _compared(
    held_out: Tensor, images: Tensor, encoder: Encoder, config: ImageMetricsConfig
) -> dict[str, dict[str, float]]:
    control = random_encoder(config.seed, config.encoder)
    return compare_images(held_out, images, encoder, control, config.measures, config.seed)


# The figures by which models are compared.
IMAGE_HEADLINE = (
    "kernel_distance",
    "kernel_distance.training_windows",
    "memorised",
    "memorised.p",
    "diversity",
    "grid_power",
)


def image_headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures of `image_metrics` by which models are compared, of the valid samples.

    None is what cannot be told, where too few samples are valid.
    """
    if "after" not in metrics:
        return dict.fromkeys(IMAGE_HEADLINE)
    return {
        "kernel_distance": metrics["after"]["encoder/kernel_distance"]["value"],
        "kernel_distance.training_windows": metrics["training_windows"]["encoder/kernel_distance"]["value"],
        "memorised": metrics["memorisation"]["excess"],
        "memorised.p": metrics["memorisation"]["p_value"],
        "diversity": metrics["diversity"]["vendi_ratio"],
        "grid_power": max(metrics["grid_power"]["after"].values()),
    }
