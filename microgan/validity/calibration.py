"""Limits of the rules, as quantiles of real windows at one false-rejection budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from skimage.filters import threshold_otsu
from torch import Tensor

from microgan.core.errors import UserError
from microgan.detection.detect import detect_all
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.statistics.intervals import Interval
from microgan.validity.judging import (
    broken_rules,
    disc_phase,
    gather_evidence,
    judge,
    pass_rate,
    smoothed_grey,
)
from microgan.validity.own_rules import RuleConfig, own_rules
from microgan.validity.reference import CalibrationConfig, Reference
from microgan.validity.rules import RULES, Rule, measure

LARGEST_ONE_MINUS_IOU = 0.4  # between circles and phase on real windows; wrong radii or polarity: 0.5 to 0.9
CONFIDENCE = 0.9  # of the intervals from resampled windows
HELD_OUT_WINDOWS = 500  # at most, for the pass rate on held-out planes


# Calibration -------------------------------------------------------------------------------------------


def calibrate(planes: Planes, window_px: int, config: CalibrationConfig) -> Reference:
    """Fix the phase threshold and the limits of all rules on windows of the calibration and training parts.

    Half of the windows come from each: the calibration part alone, often one band of one plane, does not show
    how much the material varies from place to place. Held-out planes are never looked at.

    Raises
    ------
    UserError
        If the discs found do not cover the disc phase: radius band or polarity do not fit the scan; or if a
        rule of the user's cannot be imported or fails.
    """
    rules = {**RULES, **own_rules(config.own)}
    images = real_windows(planes, ("calibration", "train"), window_px, config.windows, config.seed)
    info = planes.info
    threshold = float(threshold_otsu(smoothed_grey(images).numpy()))
    phase = disc_phase(images, threshold, info.polarity)
    circles = detect_all(images, info.radius_px, info.polarity, config.detector)
    seen = gather_evidence(images, phase, circles, info.polarity)
    measured = [measure(evidence, rules) for evidence in seen]
    mismatch = np.mean([one["one_minus_iou"] for one in measured])
    if mismatch > LARGEST_ONE_MINUS_IOU:
        rule = (
            f"fits nothing: {info.polarity} discs of these radii differ from the disc phase on {mismatch:.0%}"
            f" of their area, must be at most {LARGEST_ONE_MINUS_IOU:.0%} (or is the polarity wrong?)"
        )
        raise UserError(f"scans.{info.name}.radius_px", list(info.radius_px), rule)
    limits, uncertainty = _all_limits(measured, rules, config)
    passed = [not broken_rules(one, limits, rules) for one in measured]
    return Reference(
        scan=info,
        window_px=window_px,
        detector=config.detector,
        phase_threshold=threshold,
        limits=limits,
        limits_interval=uncertainty.limits,
        own=config.own,
        false_rejection_budget=config.false_rejection_budget,
        false_rejection_interval=uncertainty.false_rejection,
        calibration_windows=config.windows,
        calibration_pass_rate=float(np.mean(passed)),
    )


def with_held_out(
    reference: Reference, planes: Planes, seed: int, allow_own_rules: bool = False
) -> Reference:
    """Return ``reference`` with its pass rate on held-out planes; its limits are frozen."""
    count = min(reference.calibration_windows, HELD_OUT_WINDOWS)
    windows = real_windows(planes, ("held_out",), reference.window_px, count, seed)
    rate = pass_rate(judge(windows, reference, allow_own_rules=allow_own_rules))
    return reference.model_copy(update={"held_out_windows": count, "held_out_pass_rate": rate})


def real_windows(planes: Planes, roles: Sequence[str], window_px: int, count: int, seed: int) -> Tensor:
    """Draw ``count`` windows (count, 1, S, S) at random, the same number from each role, not turned."""
    fractions = np.diff(np.linspace(0, count, len(roles) + 1).round().astype(int))
    parts = [
        Windows(planes, role, window_px).draw(np.random.default_rng([seed, index]), fraction)
        for index, (role, fraction) in enumerate(zip(roles, fractions.tolist(), strict=True))
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class _Uncertainty:
    limits: dict[str, tuple[Interval | None, Interval | None]]
    false_rejection: Interval | None


def _all_limits(
    measured: Sequence[Mapping[str, float]], rules: Mapping[str, Rule], config: CalibrationConfig
) -> tuple[dict[str, tuple[float | None, float | None]], _Uncertainty]:
    """Limits of all rules that are used, in the order of ``rules``, and how sure the calibrated ones are."""
    used = [name for name in rules if config.of(name).enabled]
    names = [name for name in used if rules[name].calibrated and not config.of(name).by_hand]
    table = np.array([[one[name] for name in names] for one in measured])  # (N, measures)
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


def _tails(rule: Rule, config: RuleConfig) -> tuple[float, float]:
    """Fractions of real windows that may be too small and too large, at tail level 1."""
    weight = rule.weight if config.weight is None else config.weight
    return {"too_small": (weight, 0.0), "too_large": (0.0, weight), "both": (weight / 2, weight / 2)}[
        rule.side
    ]


def _calibrated(table: np.ndarray, tails: np.ndarray, budget: float) -> np.ndarray:
    """Least and largest allowed (2, measures) when all together reject the budget, by bisection."""
    if not table.size:
        return np.zeros((2, 0))
    ordered = np.sort(table, axis=0)
    low, high = 0.0, budget / tails.sum(0).min()  # above, the lightest rule alone would reject the budget
    for _ in range(30):
        level = (low + high) / 2
        low, high = (
            (level, high) if _rejected(table, _bounds(ordered, tails, level)) <= budget else (low, level)
        )
    return _bounds(ordered, tails, low)


def _bounds(ordered: np.ndarray, tails: np.ndarray, level: float) -> np.ndarray:
    """Quantiles (2, measures) of columns that rise; infinite on the side on which no value is wrong.

    Values of windows, none in between: of few windows, an interpolated quantile would reject the outermost of
    every rule at once, however small its tail.
    """
    beyond = (np.minimum(level * tails, 0.5) * (len(ordered) - 1)).astype(
        int
    )  # windows outside of each limit
    columns = np.arange(ordered.shape[1])
    values = np.stack([ordered[beyond[0], columns], ordered[-1 - beyond[1], columns]])
    return np.where(tails > 0, values, np.array([[-np.inf], [np.inf]]))


def _rejected(table: np.ndarray, bounds: np.ndarray) -> float:
    return float(((table < bounds[0]) | (table > bounds[1])).any(1).mean())


def _bootstrap(
    table: np.ndarray, tails: np.ndarray, names: Sequence[str], config: CalibrationConfig
) -> _Uncertainty:
    """Calibrate on windows drawn with replacement, again and again; each time, judge the windows left out."""
    if not config.bootstrap or not names:
        return _Uncertainty({}, None)
    rng = np.random.default_rng([config.seed, config.bootstrap])
    bounds, rejected = [], []
    for _ in range(config.bootstrap):
        drawn = rng.integers(len(table), size=len(table))
        bounds.append(_calibrated(table[drawn], tails, config.false_rejection_budget))
        rejected.append(_rejected(np.delete(table, drawn, axis=0), bounds[-1]))
    ends = (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2)
    low, high = np.quantile(
        bounds, ends, axis=0, method="nearest"
    )  # (2, measures) each; infinite values stay
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
