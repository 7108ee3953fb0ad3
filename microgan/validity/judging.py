"""Which images are physically possible: the calibration of rules on real windows, and verdicts.

What is "too small" or "too large" is not invented: every limit is a quantile of real windows, at one common
tail level times the rule's weight, chosen so that all rules together reject a stated fraction of real windows,
the false-rejection budget. The rules themselves are in `microgan.validity.rules`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.validity.evidence import SMOOTHING_PX, Evidence
from microgan.validity.reference import Limits, Reference, rules_of
from microgan.validity.rules import RULES, Rule, measure


@dataclass(frozen=True)
class Verdict:
    """What was found in one image, and whether the rules allow it."""

    valid: bool
    reasons: tuple[str, ...]
    measures: dict[str, float]
    circles: Circles


# Verdicts ----------------------------------------------------------------------------------------------


def judge(
    images: Tensor, reference: Reference, *, allow_own_rules: bool = False, progress: bool = True
) -> list[Verdict]:
    """Judge normalised images (N, 1, H, W) by the rules of ``reference``.

    Raises
    ------
    UserError
        If ``reference`` names rules of its own, which are Python code, and ``allow_own_rules`` is not set.
    """
    rules = rules_of(reference, allow_own_rules)
    phase = phase_image(images, reference)
    circles = detect_all(images, reference.radius_px, reference.polarity, reference.detector, progress)
    verdicts = []
    for evidence in gather_evidence(images, phase, circles, reference.polarity):
        measures = measure(evidence, rules)
        reasons = broken_rules(measures, reference.limits, rules)
        verdicts.append(Verdict(not reasons, reasons, measures, evidence.circles))
    return verdicts


def excess(measures: Mapping[str, float], limits: Limits) -> float:
    """Return by how much ``measures`` are beyond their limits, in sum; 0 when valid.

    Each counts in its own scale: the width of the band of allowed values, or the limit itself where there is
    only one.
    """
    return sum(_beyond(measures[name], *limit) for name, limit in limits.items())


def _beyond(value: float, least: float | None, largest: float | None) -> float:
    ends = [limit for limit in (least, largest) if limit is not None]
    scale = abs(ends[-1] - ends[0]) or abs(ends[0]) or 1.0
    below = 0.0 if least is None else least - value
    above = 0.0 if largest is None else value - largest
    return max(below, above, 0.0) / scale


def phase_image(images: Tensor, reference: Reference) -> Tensor:
    """Return where normalised images (N, 1, H, W) are disc phase: bool (N, H, W), whatever the polarity."""
    return disc_phase(images, reference.phase_threshold, reference.polarity)


def pass_rate(verdicts: Sequence[Verdict]) -> float:
    """Return the fraction of valid images."""
    return float(np.mean([verdict.valid for verdict in verdicts]))


def rejected_by(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Count the images that each reason rejects; one image may have several."""
    counts = Counter(reason for verdict in verdicts for reason in verdict.reasons)
    return {
        name: counts[name] for name in dict.fromkeys([*(rule.reason for rule in RULES.values()), *counts])
    }


def broken_rules(
    measures: Mapping[str, float], limits: Limits, rules: Mapping[str, Rule] = RULES
) -> tuple[str, ...]:
    """Return the reason codes of the rules that ``measures`` break, in fixed order."""
    broken = [
        rules[name].reason
        for name, (least, largest) in limits.items()
        if (least is not None and measures[name] < least)
        or (largest is not None and measures[name] > largest)
    ]
    return tuple(dict.fromkeys(broken))


def gather_evidence(
    images: Tensor, phase: Tensor, circles: Sequence[Circles], polarity: Literal["bright", "dark"]
) -> list[Evidence]:
    grey = images[:, 0].cpu().numpy() * np.float32(1 if polarity == "bright" else -1)
    return [Evidence(*one) for one in zip(grey, phase.numpy(), circles, strict=True)]


def disc_phase(images: Tensor, threshold: float, polarity: str) -> Tensor:
    smooth = smoothed_grey(images)[:, 0]
    return smooth > threshold if polarity == "bright" else smooth < threshold


def smoothed_grey(images: Tensor) -> Tensor:
    smooth = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, SMOOTHING_PX, SMOOTHING_PX), mode="nearest")
    return torch.from_numpy(smooth)
