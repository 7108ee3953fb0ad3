"""Samples beside real windows as images: features of an encoder, copies of training windows, diversity.

What descriptors of phase and circles cannot see: whether discs look like discs, whether samples repeat the
training data, and whether they repeat each other.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import read_json, write_json
from microgan.detection.detect import detect_all
from microgan.evaluation.diversity import diversity
from microgan.evaluation.encoder import (
    Encoder,
    EncoderConfig,
    load_encoder,
    random_encoder,
    save_encoder,
    train_encoder,
)
from microgan.evaluation.feature_distances import ImageFidelityConfig, compare_images
from microgan.evaluation.memorisation import (
    NearestTrainingWindows,
    Nearness,
    memorised,
    nearest_training_windows,
    nearness,
)
from microgan.scan.planes import ROLES, Planes
from microgan.scan.windows import Windows
from microgan.validity.reference import Reference

ENCODER, WINDOWS, FIGURES = "encoder.safetensors", "windows.safetensors", "images.json"
LEAST = 20  # images; fewer are not compared
SHOWN = 8  # images beside the training windows nearest to them


class ImageMetricsConfig(Config):
    """How many images are compared, and with which encoder."""

    windows: int = Field(
        default=500, ge=LEAST, description="real ones of each kind, and at most as many samples"
    )
    training_windows: int = Field(default=300, ge=10, description="that the encoder learns from")
    encoder: EncoderConfig = EncoderConfig()
    measures: ImageFidelityConfig = ImageFidelityConfig()
    seed: int = Field(default=0, ge=0, description="of windows, encoder and permutations")


@dataclass(frozen=True)
class RealImages:
    """What samples are compared with, made once for all models.

    Attributes
    ----------
    held_out
        Windows (N, 1, S, S) in [-1, 1].
    nearness
        Of the held-out windows to the training part.
    nearest_training_windows
        Those that come nearest to it.
    encoder
        Trained on windows of the training part.
    scale
        Training windows beside held-out ones, as `image_fidelity.compare_images` finds them: what samples as
        good as real would show.
    """

    held_out: Tensor
    nearness: Nearness
    nearest_training_windows: NearestTrainingWindows
    encoder: Encoder
    scale: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, planes: Planes, reference: Reference, config: ImageMetricsConfig) -> Self:
        """Draw real windows, train the encoder, and compare training windows with held-out ones."""

        def drawn(role: str, count: int, stream: int) -> Tensor:
            rng = np.random.default_rng([config.seed, ROLES.index(role), stream])
            return Windows(planes, role, reference.window_px).draw(rng, count)

        held_out, train = (drawn(role, config.windows, 0) for role in ("held_out", "train"))
        learnt = drawn("train", config.training_windows, 1)
        circles = detect_all(learnt, reference.radius_px, reference.polarity, reference.detector)
        encoder = train_encoder(learnt, circles, config.seed, config.encoder, reference.polarity)
        images = held_out[:, 0].numpy()
        near = nearness(images, planes, seed=config.seed)
        nearest = nearest_training_windows(images, near, planes, SHOWN, seed=config.seed)
        return cls(held_out, near, nearest, encoder, _compared(held_out, train, encoder, config))

    def save(self, folder: Path) -> None:
        """Write windows, encoder and figures into ``folder``, with the SHA-256 of the encoder."""
        arrays = {"held_out": self.held_out.numpy(), **_arrays("nearness", self.nearness)}
        arrays |= {
            "nearest_training_windows.images": self.nearest_training_windows.images,
            "nearest_training_windows.windows": self.nearest_training_windows.windows,
        }
        arrays |= _arrays("nearest_training_windows.nearness", self.nearest_training_windows.nearness)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / WINDOWS)
        sha256 = save_encoder(self.encoder, folder / ENCODER)
        write_json(folder / FIGURES, {"encoder_sha256": sha256, "training_windows": self.scale})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        figures = read_json(folder / FIGURES)
        encoder = load_encoder(folder / ENCODER, str(figures.get("encoder_sha256")))
        try:
            arrays = load_file(folder / WINDOWS)
        except (OSError, SafetensorError) as error:
            raise UserError(folder / WINDOWS, "unreadable", f"must be whole ({error})") from None
        nearest = NearestTrainingWindows(
            images=arrays["nearest_training_windows.images"],
            windows=arrays["nearest_training_windows.windows"],
            nearness=_nearness("nearest_training_windows.nearness", arrays),
        )
        held_out, near = torch.from_numpy(arrays["held_out"]), _nearness("nearness", arrays)
        return cls(held_out, near, nearest, encoder, figures["training_windows"])


def _arrays(name: str, near: Nearness) -> dict[str, np.ndarray]:
    return {f"{name}.training": near.training, f"{name}.control": near.control}


def _nearness(name: str, arrays: Mapping[str, np.ndarray]) -> Nearness:
    return Nearness(arrays[f"{name}.training"], arrays[f"{name}.control"])


@dataclass(frozen=True)
class ImageMetrics:
    """What `image_metrics` found: figures for ``fidelity.json``, and the samples that pass nearest to training."""

    metrics: dict[str, Any]
    nearest_training_windows: NearestTrainingWindows | None


def image_metrics(
    samples: Tensor, valid: np.ndarray, real: RealImages, planes: Planes, config: ImageMetricsConfig
) -> ImageMetrics:
    """Compare samples (N, 1, S, S) with real windows; ``valid`` (N,) says which ones pass the filter.

    Returns
    -------
    ImageMetrics
        Its metrics are, for ``before``, ``after`` filtering and, for scale, ``training_windows``: measure ->
        figures of `image_fidelity.compare_images`, with ``ratio``, the value over that of training windows,
        where that says something. ``memorisation`` (see `memorisation.Memorisation`) and ``diversity`` (see
        `diversity.diversity`) of the samples that pass. Sets of fewer than 20 images are left out; None is
        infinity.
    """
    some = slice(config.windows)
    sets = {"before": samples[some], "after": samples[valid][some]}
    found: dict[str, Any] = {"training_windows": real.scale} | {
        name: _compared(real.held_out, images, real.encoder, config)
        for name, images in sets.items()
        if len(images) >= LEAST
    }
    scale = real.scale["encoder/kernel_distance"]["value"]
    for name in ("before", "after"):
        if name in found and scale > 0:
            row = found[name]["encoder/kernel_distance"]
            row["ratio"] = row["value"] / scale
    if "after" not in found:
        return ImageMetrics(found, None)
    images = sets["after"][:, 0].numpy()
    near = nearness(images, planes, seed=config.seed)
    found["memorisation"] = asdict(memorised(near, real.nearness))
    varied = diversity(images, real.held_out[:, 0].numpy())
    found["diversity"] = {name: value if np.isfinite(value) else None for name, value in varied.items()}
    return ImageMetrics(found, nearest_training_windows(images, near, planes, SHOWN, seed=config.seed))


def _compared(
    held_out: Tensor, images: Tensor, encoder: Encoder, config: ImageMetricsConfig
) -> dict[str, dict[str, float]]:
    control = random_encoder(config.seed, config.encoder)
    return compare_images(held_out, images, encoder, control, config.measures, config.seed)


def headline(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures by which models are compared, of the samples that pass."""
    figures = {}
    if "after" in found:
        figures["kernel_distance"] = found["after"]["encoder/kernel_distance"]["value"]
        figures["kernel_distance.training_windows"] = found["training_windows"]["encoder/kernel_distance"][
            "value"
        ]
        figures["memorised"] = found["memorisation"]["excess"]
        figures["memorised.p"] = found["memorisation"]["p_value"]
        figures["diversity"] = found["diversity"]["vendi_ratio"]
    return figures
