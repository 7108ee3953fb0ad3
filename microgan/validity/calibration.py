"""Limits of the rules, from real windows at one false-rejection budget.

Each limit is a quantile of real windows. All have one common tail, times the weight of the rule. It is chosen
so that all rules together reject a stated fraction of real windows: the false-rejection budget.

Most tails are thinner than windows can tell: two thousand that overlap are about a hundred independent ones,
and the largest value of these is soon exceeded at another place of the scan. So quantiles in the outer tenth
are extrapolated: what exceeds the quantile of 90 % falls off exponentially (peaks over threshold). Of carbon,
limits from one half of the scan then reject 5.7 % of the other half instead of 9.5 %.

References
----------
J. Pickands, Statistical inference using extreme order statistics, Ann. Statist. 3 (1975) 119-131. S. Coles,
An introduction to statistical modeling of extreme values, Springer (2001), chapter 4.

Finding the discs of the windows takes the time. Setting limits anew on windows that are measured already
(`calibrate_measured`) takes a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator
from torch import Tensor

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.detection.detector import DetectorConfig
from microgan.scan.halves import Halves
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.statistics.intervals import Interval
from microgan.validity.judging import broken_rules, judge_measured, pass_rate
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.learnt.training import TrainingConfig
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.own_rules import OwnRule, import_own_rules
from microgan.validity.reference import LearntFile, Limit, Reference
from microgan.validity.rules import KNOWN, RULES, Rule, RuleConfig
from microgan.validity.segmentation import Segmentation

LARGEST_ONE_MINUS_IOU = 0.4  # mean over real windows; with wrong radii or polarity it is 0.5 to 0.9
CONFIDENCE = 0.9  # of the intervals from resampled windows
TAIL = 0.1  # fraction of windows at either end of a measure whose values are taken to fall off exponentially
SMALLEST_FRACTION = 1e-4  # of windows beyond a limit: what is never seen is not extrapolated further
HELD_OUT_WINDOWS = 1000  # at most, for the pass rate of the held-out part


class CalibrationConfig(Config):
    """How limits are calibrated on real windows."""

    windows: int = Field(2000, ge=100)
    false_rejection_budget: float = Field(0.05, gt=0, lt=0.5)
    bootstrap: int = Field(200, ge=0, le=10_000)
    detector: DetectorConfig = DetectorConfig()
    rules: dict[str, RuleConfig] = Field(default_factory=dict)
    own: dict[str, OwnRule] = Field(default_factory=dict)
    planted: int = Field(100, ge=10, le=10_000)
    learnt: TrainingConfig = TrainingConfig()
    seed: int = Field(0, ge=0)

    @field_validator("rules")
    @classmethod
    def _are_known(cls, rules: dict[str, RuleConfig]) -> dict[str, RuleConfig]:
        for name in rules:
            if name not in KNOWN:
                raise ValueError(f"unknown rule {name}, known are {', '.join(KNOWN)}")
        return rules

    @field_validator("own")
    @classmethod
    def _have_names_of_their_own(cls, own: dict[str, OwnRule]) -> dict[str, OwnRule]:
        for name in own:
            if name in KNOWN or not name.isidentifier():
                raise ValueError(f"{name} must be letters, digits and _, and no name of a rule that exists")
        return own

    def of(self, name: str) -> RuleConfig:
        """Return how rule ``name`` is used."""
        return self.own[name] if name in self.own else self.rules.get(name, RuleConfig())

    def load_reference(self, path: Path) -> Reference:
        """Load a reference; its own rules are allowed if they are the ones that this user has named here."""
        reference = Reference.load(path)
        named_here = reference.own == self.own
        return reference.with_own_rules(import_own_rules(self.own)) if named_here else reference


# Calibration -------------------------------------------------------------------------------------------


def calibrate(planes: Planes, window_px: int, config: CalibrationConfig) -> Reference:
    """Fix the phase threshold and the limits of all rules on real windows: `calibration_windows`.

    Raises
    ------
    UserError
        As `calibrate_measured`; also if an own rule cannot be imported or fails.
    """
    windows, _ = calibration_windows(planes, window_px, config)
    segmentation = Segmentation.of(windows, planes.info, config.detector)
    rules = {**RULES, **import_own_rules(config.own)}
    return calibrate_measured(MeasuredWindows.of(windows, segmentation, rules), segmentation, config)


def calibrate_measured(
    measured: MeasuredWindows,
    segmentation: Segmentation,
    config: CalibrationConfig,
    learnt: LearntFaults | None = None,
) -> Reference:
    """Fix the limits of all rules on windows that are measured already, by own and learnt rules too.

    Raises
    ------
    UserError
        If the detected discs do not cover the disc phase, because radius band or polarity do not fit the
        scan.
    """
    imported = import_own_rules(config.own)
    rules = {**(KNOWN if learnt else RULES), **imported}
    info = segmentation.scan
    mismatch = np.mean([measures["one_minus_iou"] for measures in measured.measures])
    if mismatch > LARGEST_ONE_MINUS_IOU:
        rule = (
            f"fits nothing: {info.polarity} discs of these radii differ from the disc phase on {mismatch:.0%}"
            f" of their area, must be at most {LARGEST_ONE_MINUS_IOU:.0%} (or is the polarity wrong?)"
        )
        raise UserError("radius_px", list(info.radius_px), rule)
    limits, uncertainty = _all_limits(measured.measures, rules, config)
    passed = [not broken_rules(measures, limits, rules) for measures in measured.measures]
    reference = Reference(
        learnt=LearntFile.of(learnt),
        **{name: getattr(segmentation, name) for name in Segmentation.model_fields},
        limits=limits,
        limits_interval=uncertainty.limits,
        own=config.own,
        false_rejection_budget=config.false_rejection_budget,
        false_rejection_interval=uncertainty.false_rejection,
        calibration_windows=len(measured),
        calibration_pass_rate=float(np.mean(passed)),
    )
    return reference.with_own_rules(imported).with_networks(learnt)


def with_held_out(reference: Reference, held_out: MeasuredWindows) -> Reference:
    """Return ``reference`` with its pass rate on held-out windows; its limits do not change."""
    rate = pass_rate(judge_measured(held_out, reference))
    return reference.model_copy(update={"held_out_windows": len(held_out), "held_out_pass_rate": rate})


def calibration_windows(
    planes: Planes, window_px: int, config: CalibrationConfig
) -> tuple[Tensor, np.ndarray]:
    """Draw the windows (n, 1, S, S) that limits are fixed on, and the half of the scan of each (n,).

    They come from the calibration and training parts, and from both halves of these, in equal numbers: the
    calibration part alone, often one band of one plane, does not show how much the material varies from place
    to place. Held-out windows are not used.
    """
    return Halves(planes, window_px).draw_both(config.windows, [config.seed])


def held_out_windows(planes: Planes, window_px: int, config: CalibrationConfig) -> Tensor:
    """Draw the windows of the held-out part by which pass rates of samples are compared."""
    count = min(config.windows, HELD_OUT_WINDOWS)
    return Windows(planes, "held_out", window_px).draw(np.random.default_rng([config.seed, 0]), count)


@dataclass(frozen=True)
class _Uncertainty:
    limits: dict[str, tuple[Interval | None, Interval | None]]
    false_rejection: Interval | None


def _all_limits(
    measured: Sequence[Mapping[str, float]], rules: Mapping[str, Rule], config: CalibrationConfig
) -> tuple[dict[str, Limit], _Uncertainty]:
    """Limits of all enabled rules, in the order of ``rules``, and the uncertainty of the calibrated ones."""
    used = [name for name, rule in rules.items() if is_enabled(rule, config.of(name))]
    names = [name for name in used if rules[name].calibrated and not config.of(name).by_hand]
    table = np.array([[measures[name] for name in names] for measures in measured])  # (N, measures)
    tails = np.array([_tails(rules[name], config.of(name)) for name in names]).reshape(-1, 2).T
    bounds = _calibrated(table, tails, config.false_rejection_budget)
    calibrated = {
        name: (_finite(least), _finite(largest)) for name, least, largest in zip(names, *bounds, strict=True)
    }
    by_hand = {
        name: (config.of(name).least, config.of(name).largest) for name in used if config.of(name).by_hand
    }
    limits = {name: (calibrated | by_hand)[name] for name in used if name in calibrated or name in by_hand}
    return limits, _bootstrap(table, tails, names, config)


def is_enabled(rule: Rule, config: RuleConfig) -> bool:
    """Return whether ``rule`` rejects images: as the user says, or else by its own default."""
    return rule.enabled if config.enabled is None else config.enabled


def _tails(rule: Rule, config: RuleConfig) -> tuple[float, float]:
    """Fractions of real windows that may be too small and too large, at tail level 1."""
    weight = rule.weight if config.weight is None else config.weight
    tails = {"too_small": (weight, 0.0), "too_large": (0.0, weight), "both": (weight / 2, weight / 2)}
    return tails[rule.side]


def _calibrated(table: np.ndarray, tails: np.ndarray, budget: float) -> np.ndarray:
    """Least and largest allowed values (2, measures) at which all rules together reject the budget."""
    if not table.size:
        return np.zeros((2, 0))
    ordered = np.sort(table, axis=0)
    low, high = 0.0, budget / tails.sum(0).min()  # above, the lightest rule alone would reject the budget
    for _ in range(30):  # bisection
        level = (low + high) / 2
        low, high = (
            (level, high) if _rejected(table, _bounds(ordered, tails, level)) <= budget else (low, level)
        )
    return _bounds(ordered, tails, low)


def _bounds(ordered: np.ndarray, tails: np.ndarray, level: float) -> np.ndarray:
    """Quantiles (2, measures) of sorted columns; infinite on the side on which no value is wrong.

    In the outer tenth they are extrapolated; further in, where none is usual, they are values of windows.
    """
    fraction = np.minimum(level * tails, 0.5)
    bounds = np.stack([-_exceeded_by(-ordered[::-1], fraction[0]), _exceeded_by(ordered, fraction[1])])
    return np.where(tails > 0, bounds, np.array([[-np.inf], [np.inf]]))


def _exceeded_by(ordered: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Return what a ``fraction`` (measures,) of the values exceeds, of sorted columns (N, measures)."""
    last, columns = len(ordered) - 1, np.arange(ordered.shape[1])
    tail = ordered[last - int(TAIL * last) :]
    mean_excess = (tail - tail[0]).mean(axis=0)
    beyond = tail[0] + mean_excess * np.log(TAIL / np.maximum(fraction, SMALLEST_FRACTION))
    return np.where(fraction < TAIL, beyond, ordered[last - (fraction * last).astype(int), columns])


def _rejected(table: np.ndarray, bounds: np.ndarray) -> float:
    return float(((table < bounds[0]) | (table > bounds[1])).any(1).mean())


def _bootstrap(
    table: np.ndarray, tails: np.ndarray, names: Sequence[str], config: CalibrationConfig
) -> _Uncertainty:
    """Calibrate on windows drawn with replacement, many times; each time, judge the windows left out."""
    if not config.bootstrap or not names:
        return _Uncertainty({}, None)
    rng = np.random.default_rng([config.seed, config.bootstrap])
    bounds, rejected = [], []
    for _ in range(config.bootstrap):
        sample = rng.integers(len(table), size=len(table))
        bounds.append(_calibrated(table[sample], tails, config.false_rejection_budget))
        rejected.append(_rejected(np.delete(table, sample, axis=0), bounds[-1]))
    ends = (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2)
    # (2, measures) each; without interpolation, so that infinite values stay.
    low, high = np.quantile(bounds, ends, axis=0, method="nearest")
    least, largest = (
        [_interval(a, b) for a, b in zip(low[side], high[side], strict=True)] for side in (0, 1)
    )
    limits = {name: pair for name, *pair in zip(names, least, largest, strict=True)}
    false_rejection = np.quantile(rejected, ends)
    return _Uncertainty(
        {name: (pair[0], pair[1]) for name, pair in limits.items()},
        (float(false_rejection[0]), float(false_rejection[1])),
    )


def _finite(limit: float) -> float | None:
    return float(limit) if np.isfinite(limit) else None


def _interval(low: float, high: float) -> Interval | None:
    return (float(low), float(high)) if np.isfinite(low) and np.isfinite(high) else None
