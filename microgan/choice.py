"""Which of a training's generators to keep: the one whose samples physics and statistics like best."""

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
    """

    reference: Reference
    pass_rate: float
    two_point: np.ndarray

    @classmethod
    def on(cls, planes: Planes, reference: Reference, seed: int) -> "Choice":
        """Measure the calibration windows of a scan."""
        limits = {name: limit for name, limit in reference.limits.items() if name in RULES}
        reference = reference.model_copy(update={"own": {}, "limits": limits})
        windows = Windows(planes, "calibration", reference.window_px)
        real = windows.draw(np.random.default_rng(seed), REAL_WINDOWS)
        return cls(reference, reference.calibration_pass_rate, two_point(phase_image(real, reference)))

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Judge samples (n, 1, H, W) in [-1, 1].

        Returns
        -------
        dict
            ``pass_rate_ratio``: share of samples that pass, over that of calibration windows.
            ``two_point_error``: relative L2 distance of the two-point correlations.
                ``score``: the first, at most 1, minus what the second is above the noise floor, which real
            windows of other planes have, too.
        """
        ratio = pass_rate(judge(samples, self.reference, progress=False)) / max(self.pass_rate, 1e-9)
        difference = two_point(phase_image(samples, self.reference)) - self.two_point
        error = float(np.linalg.norm(difference) / np.linalg.norm(self.two_point))
        excess = max(error - self.reference.noise_floor.get("two_point_correlation", 0.0), 0.0)
        return {"pass_rate_ratio": ratio, "two_point_error": error, "score": min(ratio, 1.0) - excess}


def two_point(phase: Tensor) -> np.ndarray:
    """Return the mean two-point correlation by lag of phase images (n, H, W), bool."""
    return two_point_correlation(phase.numpy()).mean(0)
