"""Verdicts: which images are valid by the rules and limits of a reference, and which rules the others break.

Valid means typical of the scan within the false-rejection budget: no measure is beyond those of real windows,
except the stated fraction of them. Limits come from `microgan.validity.calibration`; the rules are in
`microgan.validity.rules`. Images larger than the windows that the limits were calibrated on are judged by
`microgan.validity.large_images`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from microgan.detection.circles import Circles
from microgan.validity.learnt.learnt_rule import SeenFault
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.reference import Limits, Reference
from microgan.validity.rules import LEARNT_FAULT, RULES, Rule


@dataclass(frozen=True)
class Verdict:
    """Whether one image is valid, and why not.

    Attributes
    ----------
    valid : whether all measures are within their limits
    reasons : of the rules that are broken, each once
    measures : name of the measure -> value
    circles : the detected discs
    faults : what the network saw and where, if it is one of the reasons
    """

    valid: bool
    reasons: tuple[str, ...]
    measures: dict[str, float]
    circles: Circles
    faults: tuple[SeenFault, ...] = ()

    @property
    def invalid_windows(self) -> int:
        """Number of windows that are not valid: 1 or 0, as the image is one window."""
        return int(not self.valid)


def judge(images: Tensor, reference: Reference, *, progress: bool = True) -> list[Verdict]:
    """Judge normalised images (N, 1, H, W) by the rules of ``reference``.

    Raises
    ------
    UserError
        If ``reference`` has own rules and was loaded without allowing them, or one of them fails.
    """
    rules = {name: rule for name, rule in reference.rules.items() if name != LEARNT_FAULT}
    measured = MeasuredWindows.of(images, reference, rules, progress)
    if reference.networks is not None:  # many images at once, which is six times as fast
        measured = measured.and_learnt(images, reference.networks)
    return with_faults(judge_measured(measured, reference), images, reference)


def judge_measured(measured: MeasuredWindows, reference: Reference) -> list[Verdict]:
    """Judge images whose measures are known, those of the user's own rules too."""
    verdicts = []
    for circles, measures in zip(measured.circles, measured.measures, strict=True):
        reasons = broken_rules(measures, reference.limits, reference.rules)
        verdicts.append(Verdict(not reasons, reasons, measures, circles))
    return verdicts


def with_faults(verdicts: Sequence[Verdict], images: Tensor, reference: Reference) -> list[Verdict]:
    """Return the verdicts with what the network saw in the images (N, 1, H, W) that it rejects."""
    chosen = [index for index, verdict in enumerate(verdicts) if LEARNT_FAULT in verdict.reasons]
    if not chosen or reference.networks is None:
        return list(verdicts)
    seen = dict(zip(chosen, reference.networks.see(images[chosen]), strict=True))
    return [
        replace(verdict, faults=(seen[index],)) if index in seen else verdict
        for index, verdict in enumerate(verdicts)
    ]


def broken_rules(
    measures: Mapping[str, float], limits: Limits, rules: Mapping[str, Rule] = RULES
) -> tuple[str, ...]:
    """Return the reasons of the rules that ``measures`` break, in the order of ``limits``, each once."""
    reasons = [
        rules[name].reason
        for name, (least, largest) in limits.items()
        if (least is not None and measures[name] < least)
        or (largest is not None and measures[name] > largest)
    ]
    return tuple(dict.fromkeys(reasons))


def excess(measures: Mapping[str, float], limits: Limits) -> float:
    """Return by how much ``measures`` are beyond their limits, summed over all; 0 when valid.

    Each measure counts relative to the width of its band of allowed values, or relative to the limit itself
    where there is only one.
    """
    return sum(max(beyond(measures[name], *limit), 0.0) for name, limit in limits.items())


def beyond(value: float, least: float | None, largest: float | None) -> float:
    """Return by how much a value is beyond its limits, as `excess` does; below 0 by how much it is within."""
    ends = [limit for limit in (least, largest) if limit is not None]
    if not ends:
        return -math.inf
    scale = abs(ends[-1] - ends[0]) or abs(ends[0]) or 1.0
    below = -math.inf if least is None else least - value
    above = -math.inf if largest is None else value - largest
    return max(below, above) / scale


# Of many images ----------------------------------------------------------------------------------------


def pass_rate(verdicts: Sequence[Verdict]) -> float:
    """Return the fraction of valid images."""
    return float(np.mean([verdict.valid for verdict in verdicts]))


def rejected_by(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Count the images that are rejected for each reason; one image may have several."""
    counts = Counter(reason for verdict in verdicts for reason in verdict.reasons)
    return {
        name: counts[name] for name in dict.fromkeys([*(rule.reason for rule in RULES.values()), *counts])
    }
