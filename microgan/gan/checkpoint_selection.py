"""Checkpoint selection: a score of samples on calibration windows, and which step's generator is kept by it.

The rule (`selected`): the last checkpoint is kept whose score is within one standard error of the best.

The score (`CheckpointScore`): the pass rate over that of calibration windows, at most what training windows
attain, minus the excess of two errors, of the two-point correlation and of texture, over their noise floors.
The pass rate alone would keep an early checkpoint: its discs are cleaner than real ones and break no rule,
but are all of one grey with sharp edges, and have no noise.

Texture is the distribution of grey values, and those of the details of some sizes, the bands of a Laplacian
pyramid.

References
----------
Burt, Adelson: The Laplacian pyramid as a compact image code, IEEE Trans. Commun. 31, 532 (1983). Heeger,
Bergen: Pyramid-based texture analysis and synthesis, SIGGRAPH (1995): textures whose bands have equal
distributions look alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.statistics.estimators import relative_distance
from microgan.statistics.phase_descriptors import two_point_correlation
from microgan.validity.judging import judge, pass_rate
from microgan.validity.phase import phase_image
from microgan.validity.reference import Reference

REAL_WINDOWS = 1000  # on which the figures of the scan rest
DETAILS = 3  # sizes of details: 1 to 2, 2 to 4 and 4 to 8 px
QUANTILES = np.linspace(0.001, 0.999, 500)  # by which distributions are compared
LEAST_PASS_RATE = 1e-9  # of the scan, where not even its own windows pass
LEAST_SPREAD = 1e-6  # of grey values or details, where there are none


def selected(validations: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the last checkpoint whose score is within one standard error of the best; empty without any.

    "Within" is less than its own standard error below the best of all. Where errors are 0, or left out,
    the first of the best is kept.

    Parameters
    ----------
    validations
        One row for each checkpoint, in the order of steps: ``score`` and its standard error ``score_error``.

    Examples
    --------
    >>> rows = [{"score": score, "score_error": 0.1} for score in (0.5, 0.9, 0.85, 0.7)]
    >>> selected(rows)["score"]
    0.85
    """
    kept: dict[str, float] = {}
    best = -math.inf
    # In one pass: whatever is within reach of the best of all is within reach of the best before it, too, and
    # of what takes over here the last one is within reach of the best of all.
    for row in validations:
        if row["score"] + row.get("score_error", 0.0) > best:
            kept = row
        best = max(best, row["score"])
    return kept


@dataclass(frozen=True)
class Texture:
    """Distributions of grey values and of details of some sizes, of images (n, 1, H, W).

    Attributes
    ----------
    quantiles
        Of each, one row each.
    spread
        Standard deviation of each.
    """

    quantiles: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, images: Tensor) -> "Texture":
        """Measure images whose sides are multiples of 2 ** `DETAILS` px."""
        parts = [part.numpy() for part in (images, *details(images))]
        quantiles = np.stack([np.quantile(part, QUANTILES) for part in parts])
        return cls(quantiles, np.array([max(float(part.std()), LEAST_SPREAD) for part in parts]))

    def error(self, real: "Texture") -> float:
        """Return the sum of the Wasserstein-1 distances, each over the standard deviation in real images."""
        return sum(
            float(wasserstein_distance(own, expected)) / float(spread)
            for own, expected, spread in zip(self.quantiles, real.quantiles, real.spread, strict=True)
        )


@dataclass(frozen=True)
class CheckpointScore:
    """Scores samples against calibration windows; the held-out ones are for the final figures alone.

    Attributes
    ----------
    reference
        The rules of validity, without those of the user's own.
    pass_rate
        Fraction of calibration windows that pass; they are those on which the limits were calibrated.
    attainable
        Fraction of training windows that pass, over ``pass_rate``, at most 1.
    two_point
        Two-point correlation of calibration windows, by lag.
    texture
        Distributions of grey values and details of calibration windows.
    two_point_floor, texture_floor
        Noise floors: the distances of training windows from calibration windows.
    """

    reference: Reference
    pass_rate: float
    attainable: float
    two_point: np.ndarray
    texture: Texture
    two_point_floor: float
    texture_floor: float

    @classmethod
    def on(cls, planes: Planes, reference: Reference, seed: int) -> "CheckpointScore":
        """Measure the calibration windows of a scan, and the training windows for the floor."""
        rng = np.random.default_rng(seed)
        reference = reference.without_own_rules()
        real, train = (
            Windows(planes, role, reference.window_px).draw(rng, REAL_WINDOWS)
            for role in ("calibration", "train")
        )
        correlation, of_train = (two_point(phase_image(windows, reference)) for windows in (real, train))
        texture = Texture.of(real)
        train_fraction = pass_rate(judge(train, reference, progress=False))
        return cls(
            reference,
            pass_rate=reference.calibration_pass_rate,
            attainable=min(train_fraction / max(reference.calibration_pass_rate, LEAST_PASS_RATE), 1.0),
            two_point=correlation,
            texture=texture,
            two_point_floor=relative_distance(of_train, correlation),
            texture_floor=Texture.of(train).error(texture),
        )

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Score samples (n, 1, H, W) in [-1, 1].

        Returns
        -------
        dict
            ``calibration_pass_rate_ratio``: fraction of samples that pass, over that of calibration
            windows. (``pass_rate_ratio`` of ``validity.json`` is over that of held-out windows.)
            ``two_point_error``: relative L2 distance of the two-point correlations.
            ``texture_error``: sum, over grey values and details of each size, of the distances of the
            distributions in standard deviations.
            ``score``: the first, at most what training windows attain, minus the excess of the others over
            their noise floors.
            ``score_error``: standard error of the first, from so many samples.
        """
        fraction = pass_rate(judge(samples, self.reference, progress=False))
        real = max(self.pass_rate, LEAST_PASS_RATE)
        ratio = fraction / real
        two_point_error = relative_distance(two_point(phase_image(samples, self.reference)), self.two_point)
        texture_error = Texture.of(samples).error(self.texture)
        excesses = (two_point_error - self.two_point_floor, texture_error - self.texture_floor)
        return {
            "calibration_pass_rate_ratio": ratio,
            "two_point_error": two_point_error,
            "texture_error": texture_error,
            "score": min(ratio, self.attainable) - sum(max(excess, 0.0) for excess in excesses),
            "score_error": math.sqrt(fraction * (1 - fraction) / len(samples)) / real,
        }


def two_point(phase: Tensor) -> np.ndarray:
    """Return the mean two-point correlation by lag of phase images (n, H, W), bool."""
    return two_point_correlation(phase.numpy()).mean(0)


def details(images: Tensor) -> list[Tensor]:
    """Return the `DETAILS` bands of a Laplacian pyramid of images (n, 1, H, W), each half as large."""
    bands = []
    for _ in range(DETAILS):
        half = avg_pool2d(images, 2)
        bands.append(images - interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False))
        images = half
    return bands
