"""Whether a model has learnt its material: a verdict from what is measured of all its samples.

The filter cannot tell. It rejects images that break a rule, and a model that has learnt something else may
break none. So the samples are judged before they are filtered, by figures that fail in different ways. One
figure that is far off is enough.

The limits were set on models that were stopped after 100, 300 and 1000 steps; ``docs/trust.md`` has the
table.

References
----------
D. Lopez-Paz, M. Oquab, Revisiting classifier two-sample tests, ICLR 2017, arXiv:1610.06545: the classifier.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE
from microgan.samples.verdict_file import LEARNT, NOT_LEARNT, WITH_LIMITS, Level
from microgan.validity.reference import DetectionRate

SINGLE_FAULTS = (  # by which the filter is called blind or not
    "overlap_20_to_30",
    "merged_pair",
    "wrong_radius",
    "partial_disc",
    "half_formed_disc",
)
UNKNOWN = "too few samples to compare them with real windows as images"


@dataclass(frozen=True)
class Criterion:
    """From where on a figure limits what a model is good for, and from where on it has not learnt.

    Attributes
    ----------
    words : with the figure as ``{value}``
    limits, fails : where the two begin
    worse : whether ``larger`` figures are worse, or ``smaller`` ones
    """

    words: str
    limits: float
    fails: float
    worse: Literal["larger", "smaller"] = "larger"

    def beyond(self, value: float, limit: float) -> bool:
        """Whether a value is worse than a limit."""
        return value > limit if self.worse == "larger" else value < limit


CRITERIA: Mapping[str, Criterion] = {
    "pass_rate_ratio": Criterion("pass {value:.2f} times as often as real windows", 0.7, 0.1, "smaller"),
    "kernel_distance_ratio": Criterion(
        "kernel distance {value:.1f} times that of training windows", 1.5, 3.0
    ),
    "worst_descriptor_ratio": Criterion("{descriptor}: error {value:.1f} times its noise floor", 2.0, 8.0),
    "grid_power_ratio": Criterion(
        "power at the strides of the network {value:.1f} times that of held-out windows", 4.0, 15.0
    ),
    "judge_ratio": Criterion(
        "the judge of faults flags {value:.1f} times as many as of real windows", 1.5, 8.0
    ),
    "filter_detects": Criterion(
        "the filter rejects {value:.0%} of planted single faults: it sees few", 0.3, -math.inf, "smaller"
    ),
}


def verdict_figures(
    validity: Mapping[str, Any], fidelity: Mapping[str, Any], detection_rates: Mapping[str, DetectionRate]
) -> dict[str, float | None]:
    """Gather what a verdict rests on, of all samples before they are filtered; None is what cannot be told.

    Parameters
    ----------
    validity, fidelity
        Content of validity.json and fidelity.json.
    detection_rates
        Of the filter.

    Returns
    -------
    dict
        The figures of `CRITERIA`; the kernel distance is over that of training windows or, where these are
        nearer than chance, over what chance gives. Besides ``classifier_auc``, the area under the curve of a
        classifier that tells samples from held-out windows, with ``classifier_auc_training_windows``.
    """
    images = fidelity.get("images", {})
    before, training = images.get("before", {}), images.get("training_windows", {})
    distance, scale = before.get("encoder/kernel_distance"), training.get("encoder/kernel_distance")
    ratios = descriptor_ratios(fidelity)
    judge = images.get("judge", {})
    known = judge.get("qualified") and "before" in judge and judge["held_out"]["flagged"] > 0
    rates = [detection_rates[name].rate for name in SINGLE_FAULTS if name in detection_rates]
    return {
        "pass_rate_ratio": validity["pass_rate_ratio"],
        "kernel_distance_ratio": (
            distance["value"] / max(scale["value"], scale["null_bound"]) if distance and scale else None
        ),
        "worst_descriptor_ratio": max(ratios.values(), default=None),
        "grid_power_ratio": max(images.get("grid_power", {}).get("before", {}).values(), default=None),
        "judge_ratio": judge["before"]["flagged"] / judge["held_out"]["flagged"] if known else None,
        "filter_detects": float(np.mean(rates)) if rates else None,
        "classifier_auc": _area(before),
        "classifier_auc_training_windows": _area(training),
    }


def descriptor_ratios(fidelity: Mapping[str, Any]) -> dict[str, float]:
    """Return error over noise floor of the headline descriptors of all samples, where it is known."""
    table = fidelity["before"]
    ratios = {name: table.get(name, {}).get("ratio") for name in HEADLINE}
    return {name: ratio for name, ratio in ratios.items() if ratio is not None}


def judged(figures: Mapping[str, float | None], ratios: Mapping[str, float]) -> tuple[Level, tuple[str, ...]]:
    """Return the verdict and the reasons for it, the worst first.

    What cannot be told stands against nothing, but for the kernel distance: without it no model has learnt.

    Parameters
    ----------
    figures
        As `verdict_figures` gives them.
    ratios
        As `descriptor_ratios` gives them, to name the worst.

    Examples
    --------
    >>> judged({"pass_rate_ratio": 0.9, "kernel_distance_ratio": 1.5}, {})
    ('learnt', ())
    >>> judged({"pass_rate_ratio": 1.05, "kernel_distance_ratio": 13.0}, {})
    ('not learnt', ('kernel distance 13.0 times that of training windows',))
    """
    worst = max(ratios, key=lambda name: ratios[name], default=None)
    descriptor = DESCRIPTORS[worst].title if worst else ""
    failing: list[str] = []
    limiting = [UNKNOWN] if figures.get("kernel_distance_ratio") is None else []
    for name, criterion in CRITERIA.items():
        value = figures.get(name)
        if value is None:
            continue
        words = criterion.words.format(value=value, descriptor=descriptor)
        if criterion.beyond(value, criterion.fails):
            failing.append(words)
        elif criterion.beyond(value, criterion.limits):
            limiting.append(words)
    if failing:
        return NOT_LEARNT, (*failing, *limiting)
    return (WITH_LIMITS, tuple(limiting)) if limiting else (LEARNT, ())


def _area(metrics: Mapping[str, Mapping[str, float]]) -> float | None:
    return metrics.get("encoder/classifier_auc", {}).get("value")
