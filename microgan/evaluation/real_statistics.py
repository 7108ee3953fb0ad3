"""Sets of images measured by all descriptors; real windows among them, and the noise floor between these.

Two sets of real windows differ too, by chance and from place to place. The noise floor is that difference,
between training windows and calibration windows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field
from scipy.stats import wasserstein_distance
from torch import Tensor

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.json_files import read_numbers, write_json
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.evaluation.arrays import read_arrays, write_arrays
from microgan.evaluation.descriptors import (
    DescriptorValues,
    compute_descriptors,
    compute_properties,
)
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.scan.planes import ROLES, Planes
from microgan.scan.windows import Windows
from microgan.statistics.estimators import Distribution, relative_distance
from microgan.validity.phase import phase_image
from microgan.validity.segmentation import Segmentation

DESCRIPTIONS, NOISE_FLOOR = "descriptions.safetensors", "noise_floor.json"


class FidelityConfig(Config):
    """How much is compared."""

    windows: int = Field(default=1000, ge=2)
    floor_repeats: int = Field(default=100, ge=1)
    resamples: int = Field(default=499, ge=19)
    max_lag_px: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class MeasuredImages:
    """What is measured on a set of images.

    Attributes
    ----------
    structure
        Descriptors of phase and circles.
    properties
        Effective properties, of the first `PropertiesConfig.count` images, as they take long.
    """

    structure: DescriptorValues
    properties: DescriptorValues

    @classmethod
    def of(
        cls,
        images: Tensor,
        circles: Sequence[Circles],
        segmentation: Segmentation,
        config: FidelityConfig,
        properties: PropertiesConfig,
        group: np.ndarray | None = None,
    ) -> "MeasuredImages":
        """Measure normalised images (N, 1, H, W) with their circles; ``group`` as in `DescriptorValues`."""
        phase = phase_image(images, segmentation).cpu().numpy()
        group = np.arange(len(phase)) if group is None else group
        solved = slice(properties.count)
        structure = compute_descriptors(phase, circles, segmentation.radius_px[1], group, config.max_lag_px)
        return cls(structure, compute_properties(phase[solved], properties, group[solved]))

    def take(self, images: np.ndarray) -> "MeasuredImages":
        """Keep ``images`` (indices, none twice)."""
        solved = images[images < len(self.properties)]
        return MeasuredImages(self.structure.take(images), self.properties.take(solved))

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Return all arrays by name, to be kept in a file."""
        return self.structure.arrays(f"{prefix}.structure") | self.properties.arrays(f"{prefix}.properties")

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        write_arrays(self.arrays("samples"), path)

    @classmethod
    def load(cls, path: Path) -> "MeasuredImages":
        """Read what `save` wrote."""
        return cls.from_arrays(read_arrays(path), "samples")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> "MeasuredImages":
        """Return what `arrays` was made of."""
        structure, properties = (
            DescriptorValues.from_arrays(arrays, f"{prefix}.{part}") for part in ("structure", "properties")
        )
        return cls(structure, properties)


@dataclass(frozen=True)
class RealStatistics:
    """What samples are compared with, measured once for all models.

    Attributes
    ----------
    held_out, train
        As many windows as `FidelityConfig.windows`.
    floor
        Descriptor -> mean error between real windows of two places; see `noise_floor_between`.
    """

    held_out: MeasuredImages
    train: MeasuredImages
    floor: Mapping[str, float]

    @classmethod
    def of(
        cls,
        planes: Planes,
        segmentation: Segmentation,
        config: FidelityConfig,
        properties: PropertiesConfig,
    ) -> "RealStatistics":
        """Measure windows of the scan; twice as many for the floor, so that draws from them differ."""

        def measured(role: str, count: int) -> MeasuredImages:
            windows = Windows(planes, role, segmentation.window_px)
            rng = np.random.default_rng([config.seed, ROLES.index(role)])
            images, block = windows.draw_in_blocks(rng, count)
            circles = detect_all(images, segmentation.detector)
            return MeasuredImages.of(images, circles, segmentation, config, properties, block)

        train, calibration = (measured(role, 2 * config.windows) for role in ("train", "calibration"))
        draws = (config.windows, config.floor_repeats, config.seed)
        floor = noise_floor_between(train.structure, calibration.structure, *draws)
        floor |= errors(train.properties, calibration.properties)
        held_out = measured("held_out", config.windows)
        known = {name: error for name, error in floor.items() if np.isfinite(error)}
        return cls(held_out, train.take(np.arange(config.windows)), known)

    def save(self, folder: Path) -> None:
        """Write ``descriptions.safetensors`` and ``noise_floor.json`` into ``folder``."""
        arrays = self.held_out.arrays("held_out") | self.train.arrays("train")
        write_arrays(arrays, folder / DESCRIPTIONS)
        write_json(folder / NOISE_FLOOR, dict(self.floor))

    @classmethod
    def load(cls, folder: Path) -> "RealStatistics":
        """Read what `save` wrote."""
        arrays = read_arrays(folder / DESCRIPTIONS)
        held_out, train = (MeasuredImages.from_arrays(arrays, role) for role in ("held_out", "train"))
        return cls(held_out, train, _floor(folder / NOISE_FLOOR))


def _floor(path: Path) -> dict[str, float]:
    return {name: floor for name, floor in read_numbers(path).items() if floor is not None}


def errors(samples: DescriptorValues, reference: DescriptorValues) -> dict[str, float]:
    """Return how far apart two sets are, one figure a descriptor; NaN where one of them has no values.

    Of a number: the difference over the reference. Of a curve: the L2 norm of the difference over that of
    the reference's curve. Of a distribution: the Wasserstein-1 distance over the reference's mean (Vallender,
    Theory Probab. Appl. 18 (1974) 784-786).
    """
    if not len(samples) or not len(reference):
        return dict.fromkeys(samples.names, float("nan"))
    curves = {
        name: relative_distance(curve.mean(), reference.curves[name].mean())
        for name, curve in samples.curves.items()
    }
    distances = {
        name: _wasserstein(values, reference.distributions[name])
        for name, values in samples.distributions.items()
    }
    return {name: (curves | distances)[name] for name in samples.names}


def noise_floor_between(
    first: DescriptorValues, second: DescriptorValues, count: int, repeats: int, seed: int
) -> dict[str, float]:
    """Return the mean error between ``count`` images of one real set and ``count`` of another.

    Images are drawn without replacement, from sets of at least ``count`` and better twice that, so that the
    mean is the error to be expected of sets of that size. Drawing with replacement, the usual bootstrap,
    would add the chance of the draw to that of the set, and flatter whatever is compared with the floor
    (Politis and Romano, Ann. Statist. 22 (1994) 2031-2050).

    Parameters
    ----------
    first, second
        Real windows of two places.
    count
        Size of the sets that the floor is for.
    repeats
        Number of draws.
    seed
        Same seed, same floor.
    """
    draws = [errors(*pair) for pair in _random_pairs(first, second, count, repeats, seed)]
    return {name: float(np.mean([draw[name] for draw in draws])) for name in first.names}


def _random_pairs(
    first: DescriptorValues, second: DescriptorValues, count: int, repeats: int, seed: int
) -> Iterator[tuple[DescriptorValues, DescriptorValues]]:
    fewer = min(len(first), len(second))
    if fewer < count:
        raise UserError("count", count, f"must be at most the number of images, {fewer}")
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        chosen = first.take(rng.permutation(len(first))[:count])
        yield chosen, second.take(rng.permutation(len(second))[:count])


def _wasserstein(samples: Distribution, reference: Distribution) -> float:
    if not len(samples) or not len(reference) or not reference.mean() > 0:
        return float("nan")
    distance = wasserstein_distance(samples.values, reference.values, samples.weights, reference.weights)
    return float(distance / reference.mean())
