"""Detection rates: the fraction of images with a planted defect that the rules reject.

Limits are set so that real windows pass (`microgan.validity.calibration`). That says nothing about what else
passes. So each defect of `microgan.validity.planted_defects` is planted into real windows that pass, and the
rules judge the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microgan.scan.planes import Planes
from microgan.statistics.intervals import wilson_interval
from microgan.validity.calibration import CONFIDENCE, real_windows
from microgan.validity.judging import Verdict, judge, pass_rate
from microgan.validity.planted_defects import DEFECTS, plant
from microgan.validity.reference import DetectionRate, Reference

# "missing_disc" alone is left out: an erased disc leaves a pocket of matrix, as real materials have it.
PLANTED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "overlap_15_to_20": ("overlap", {"degree": (0.15, 0.2)}),  # 1 - d / (r1 + r2), %
    "overlap_20_to_30": ("overlap", {"degree": (0.2, 0.3)}),
    "overlap_30_to_40": ("overlap", {"degree": (0.3, 0.4)}),
    **{name: (name, {}) for name in DEFECTS if name not in ("overlap", "missing_disc")},
}


@dataclass(frozen=True)
class Planted:
    """Images (n, H, W) in [-1, 1] that one kind of defect was planted into, and their verdicts."""

    images: np.ndarray
    verdicts: list[Verdict]

    @property
    def detection_rate(self) -> DetectionRate:
        """How many of them the rules reject."""
        rejected, count = sum(not verdict.valid for verdict in self.verdicts), len(self.verdicts)
        interval = wilson_interval(rejected, count, confidence=CONFIDENCE)
        return DetectionRate(rate=1 - pass_rate(self.verdicts), count=count, interval=interval)


def detection_rate_by_defect(
    reference: Reference, planes: Planes, seed: int, count: int = 100
) -> dict[str, DetectionRate]:
    """Return the detection rate of each kind of defect; parameters as in `plant_every_defect`."""
    planted = plant_every_defect(reference, planes, seed, count)
    return {name: defects.detection_rate for name, defects in planted.items()}


def plant_every_defect(
    reference: Reference, planes: Planes, seed: int, count: int = 100
) -> dict[str, Planted]:
    """Plant each kind of defect into real windows that pass, and judge the results.

    Parameters
    ----------
    reference : Reference
        Rules and limits.
    planes : Planes
        The scan; windows come from its calibration and training parts.
    seed : int
        Fixes windows and defects.
    count : int
        Number of windows to plant into, at most: those that fail without a defect are left out.

    Returns
    -------
    dict
        Name in `PLANTED` -> images and verdicts; without the defects that no window had a place for.
    """
    # As many more windows as are expected to fail, so that about ``count`` pass.
    tried = round(count / (1 - reference.false_rejection_budget))
    windows = real_windows(planes, ("calibration", "train"), reference.window_px, tried, seed + 1)
    verdicts = judge(windows, reference, progress=False)
    passing = [index for index, verdict in enumerate(verdicts) if verdict.valid]
    planted: dict[str, Planted] = {}
    for kind, name in enumerate(PLANTED):
        images = [
            image
            for index in passing[:count]
            if (image := _plant(name, windows[index, 0], verdicts[index], reference, [seed, kind, index]))
            is not None
        ]
        if images:
            stack = np.stack(images)
            defective = judge(torch.from_numpy(stack)[:, None], reference, progress=False)
            planted[name] = Planted(stack, defective)
    return planted


def _plant(
    name: str, window: Tensor, verdict: Verdict, reference: Reference, seed: list[int]
) -> np.ndarray | None:
    defect, degree = PLANTED[name]
    rng = np.random.default_rng(seed)
    return plant(defect, window.numpy(), verdict.circles, rng, reference.polarity, **degree)
