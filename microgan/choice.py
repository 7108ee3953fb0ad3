"""What says which of a training's generators to keep: how well physics and statistics like its samples."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from microgan.descriptors import two_point_correlation
from microgan.planes import Planes
from microgan.rules import RULES
from microgan.validity import Reference, judge, pass_rate, phase_image
from microgan.windows import Windows

REAL_WINDOWS = 1000  # on which the two-point correlation of the scan rests


@dataclass(frozen=True)
class Choice:
    """Judges samples on calibration windows; the held-out ones are for the final figures alone.

    Attributes
    ----------
    reference
        The rules of validity. Those of the user's own do not take part.
    pass_rate
        Share of calibration windows that pass.
    two_point
        Two-point correlation of calibration windows, by lag.
    two_point_floor
        Relative L2 distance of that of training windows from it.
    """

    reference: Reference
    pass_rate: float
    two_point: np.ndarray
    two_point_floor: float

    @classmethod
    def on(cls, planes: Planes, reference: Reference, seed: int) -> "Choice":
        """Measure the calibration windows of a scan, and the training windows for the floor."""
        rng = np.random.default_rng(seed)
        limits = {name: limit for name, limit in reference.limits.items() if name in RULES}
        reference = reference.model_copy(update={"own": {}, "limits": limits})
        real, train = (
            two_point(
                phase_image(Windows(planes, role, reference.window_px).draw(rng, REAL_WINDOWS), reference)
            )
            for role in ("calibration", "train")
        )
        return cls(reference, reference.calibration_pass_rate, real, _distance(train, real))

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Judge samples (n, 1, H, W) in [-1, 1].

        Returns
        -------
        dict
            ``pass_rate_ratio``: share of samples that pass, over that of calibration windows.
            ``two_point_error``: relative L2 distance of the two-point correlations.
            ``score``: the first, at most 1, minus what the second is above the noise floor, which real
            windows of other places have, too.
            ``score_error``: standard error of the first, from as many samples.
        """
        share = pass_rate(judge(samples, self.reference, progress=False))
        real = max(self.pass_rate, 1e-9)
        ratio = share / real
        error = _distance(two_point(phase_image(samples, self.reference)), self.two_point)
        excess = max(error - self.two_point_floor, 0.0)
        return {
            "pass_rate_ratio": ratio,
            "two_point_error": error,
            "score": min(ratio, 1.0) - excess,
            "score_error": math.sqrt(share * (1 - share) / len(samples)) / real,
        }


def two_point(phase: Tensor) -> np.ndarray:
    """Return the mean two-point correlation by lag of phase images (n, H, W), bool."""
    return two_point_correlation(phase.numpy()).mean(0)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
