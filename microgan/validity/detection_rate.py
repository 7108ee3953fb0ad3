"""The power of the filter: which fraction of images with a defect planted into them it rejects.

Limits are set so that real windows pass (`microgan.validity.judging`); that says nothing of what else passes. Here
each defect of `microgan.validity.planted_defects` is planted into real windows that pass, and the filter judges the result.
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

# "missing" alone is left out: a disc erased leaves a pocket of resin, which physics allows.
PLANTED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "overlap_15_to_20": ("overlap", {"degree": (0.15, 0.2)}),  # 1 - d / (r1 + r2), %
    "overlap_20_to_30": ("overlap", {"degree": (0.2, 0.3)}),
    "overlap_30_to_40": ("overlap", {"degree": (0.3, 0.4)}),
    **{name: (name, {}) for name in DEFECTS if name not in ("overlap", "missing")},
}


@dataclass(frozen=True)
class Planted:
    """Images (n, H, W) in [-1, 1] that one defect was planted into, and what the filter says of them."""

    images: np.ndarray
    verdicts: list[Verdict]

    @property
    def power(self) -> DetectionRate:
        """The fraction that is rejected."""
        rejected, count = 1 - pass_rate(self.verdicts), len(self.verdicts)
        return DetectionRate(
            rejected=rejected, count=count, interval=wilson_interval(rejected, count, confidence=CONFIDENCE)
        )


def detection_rate_by_defect(
    reference: Reference, planes: Planes, seed: int, count: int = 100, allow_own_rules: bool = False
) -> dict[str, DetectionRate]:
    """Return the fraction of each defect that the filter rejects; see `plant_every_defect` for the parameters."""
    planted = plant_every_defect(reference, planes, seed, count, allow_own_rules)
    return {name: one.power for name, one in planted.items()}


def plant_every_defect(
    reference: Reference, planes: Planes, seed: int, count: int = 100, allow_own_rules: bool = False
) -> dict[str, Planted]:
    """Plant each defect into real windows that pass, and judge the results.

    Parameters
    ----------
    reference : Reference
        The filter.
    planes : Planes
        The scan; windows come from its calibration and training parts.
    seed : int
        Fixes windows and defects.
    count : int
        Windows to plant into, at most: those that fail by themselves are left out.
    allow_own_rules : bool
        Whether rules that the reference names may run.

    Returns
    -------
    dict
        Name in `PLANTED` -> images and verdicts; without defects that found a place in no window.
    """
    # A fraction of the windows fails; the others are as many as asked for, or a few less.
    drawn = round(count / (1 - reference.false_rejection_budget))
    windows = real_windows(planes, ("calibration", "train"), reference.window_px, drawn, seed + 1)
    verdicts = judge(windows, reference, allow_own_rules=allow_own_rules, progress=False)
    sound = [index for index, verdict in enumerate(verdicts) if verdict.valid]
    planted: dict[str, Planted] = {}
    for kind, name in enumerate(PLANTED):
        images = [
            image
            for index in sound[:count]
            if (image := _plant(name, windows[index, 0], verdicts[index], reference, [seed, kind, index]))
            is not None
        ]
        if images:
            spoilt = np.stack(images)
            judged = judge(
                torch.from_numpy(spoilt)[:, None], reference, allow_own_rules=allow_own_rules, progress=False
            )
            planted[name] = Planted(spoilt, judged)
    return planted


def _plant(
    name: str, window: Tensor, verdict: Verdict, reference: Reference, seed: list[int]
) -> np.ndarray | None:
    defect, degree = PLANTED[name]
    rng = np.random.default_rng(seed)
    return plant(defect, window.numpy(), verdict.circles, rng, reference.polarity, **degree)
