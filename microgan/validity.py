"""Which images are physically possible: the calibration of rules on real windows, and verdicts.

What is "too small" or "too large" is not invented: every limit is a quantile of real windows, at one common
tail level times the rule's weight, chosen so that all rules together reject a stated share of real windows,
the false-rejection budget. The rules themselves are in `microgan.rules`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from scipy import ndimage
from skimage.filters import threshold_otsu
from torch import Tensor
from tqdm import tqdm

from microgan.circles import Circles, DetectorConfig
from microgan.config import Config
from microgan.detection import detect
from microgan.errors import UserError
from microgan.files import read_json, write_json
from microgan.planes import Planes, ScanInfo
from microgan.rules import CLEAR, RULES, SMOOTHING_PX, Evidence, OwnRule, Rule, RuleConfig, measure, own_rules
from microgan.windows import Windows

MOST_DISAGREEMENT = 0.4  # between circles and phase on real windows; wrong radii or polarity: 0.5 to 0.9
CONFIDENCE = 0.9  # of the intervals from resampled windows
AT_ONCE = 256  # images between two steps of a progress bar: enough for all cores
HELD_OUT_WINDOWS = 500  # at most, for the pass rate on held-out planes

Limits = Mapping[
    str, tuple[float | None, float | None]
]  # measure -> (least, largest), None where any value is
Interval = tuple[float, float]


class CalibrationConfig(Config):
    """How the rules are fixed on real windows."""

    windows: int = Field(2000, ge=100, description="real windows, overlapping, at random")
    false_rejection_budget: float = Field(0.05, gt=0, lt=0.5, description="share of them that may fail")
    bootstrap: int = Field(
        200, ge=0, le=10_000, description="resamples for the uncertainty of limits; 0: none"
    )
    detector: DetectorConfig = DetectorConfig()
    rules: dict[str, RuleConfig] = Field(default_factory=dict, description="rule -> how it is used")
    own: dict[str, OwnRule] = Field(default_factory=dict, description="name -> a rule of the user's")
    planted: int = Field(100, ge=10, le=10_000, description="faults of each kind, for the filter's power")
    seed: int = Field(0, ge=0)

    @field_validator("rules")
    @classmethod
    def _are_known(cls, rules: dict[str, RuleConfig]) -> dict[str, RuleConfig]:
        for name in rules:
            if name not in RULES:
                raise ValueError(f"unknown rule {name}, known are {', '.join(RULES)}")
        return rules

    @field_validator("own")
    @classmethod
    def _have_names_of_their_own(cls, own: dict[str, OwnRule]) -> dict[str, OwnRule]:
        for name in own:
            if name in RULES or not name.isidentifier():
                raise ValueError(f"{name} must be letters, digits and _, and no name of a rule that exists")
        return own

    def names_rules_of(self, reference: "Reference") -> bool:
        """Whether the user's own rules in ``reference`` are those named here, so that they may run."""
        return reference.own == self.own

    def of(self, name: str) -> RuleConfig:
        """Return how rule ``name`` is used."""
        return self.own[name] if name in self.own else self.rules.get(name, RuleConfig())


class Power(Config):
    """How often the filter rejects one kind of fault.

    Attributes
    ----------
    rejected : share of the images that the fault was planted into
    count : these images
    interval : 90 % confidence interval of the share
    """

    rejected: float
    count: int
    interval: Interval


class Reference(Config):
    """All that judging needs, frozen before any training; stored as ``reference.json``.

    Attributes
    ----------
    scan : what the windows came from, with the digest of its planes
    phase_threshold : normalised grey; brighter (darker, for dark discs) is disc phase
    limits : measure -> (least, largest) allowed, None where any value is
    limits_interval : measure -> where 90 % of the resampled windows put (least, largest)
    own : rules of the user's, by the path of a Python function; judging imports them only when allowed to
    calibration_pass_rate : share of the calibration windows that pass
    false_rejection_interval : 90 % of the resamples, on the windows that each left out
    held_out_pass_rate : share of windows of held-out planes that pass, measured after all limits were frozen
    power : kind of fault -> share that the filter rejects; see `microgan.power`
    """

    scan: ScanInfo
    window_px: int
    detector: DetectorConfig
    phase_threshold: float
    limits: dict[str, tuple[float | None, float | None]]
    limits_interval: dict[str, tuple[Interval | None, Interval | None]] = Field(default_factory=dict)
    own: dict[str, OwnRule] = Field(default_factory=dict)
    false_rejection_budget: float
    false_rejection_interval: Interval | None = None
    calibration_windows: int
    calibration_pass_rate: float
    held_out_windows: int = 0
    held_out_pass_rate: float | None = None
    power: dict[str, Power] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _limits_have_rules(self) -> Self:
        for name in self.limits:
            if name not in RULES and name not in self.own:
                raise ValueError(f"limits.{name}: no such rule, known are {', '.join([*RULES, *self.own])}")
        return self

    @property
    def radius_px(self) -> tuple[float, float]:
        """Band in which discs are searched."""
        return self.scan.radius_px

    @property
    def polarity(self) -> Literal["bright", "dark"]:
        """Of the discs."""
        return self.scan.polarity

    @property
    def titles(self) -> dict[str, str]:
        """What each measure is, in words for people."""
        own = {name: rule.title or name.replace("_", " ") for name, rule in self.own.items()}
        return {name: rule.title for name, rule in RULES.items()} | own

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, self.model_dump())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; a `UserError` names the file if it is missing or broken."""
        return cls.from_mapping(read_json(path), str(path))


@dataclass(frozen=True)
class Verdict:
    """What was found in one image, and whether the rules allow it."""

    valid: bool
    reasons: tuple[str, ...]
    measures: dict[str, float]
    circles: Circles


@dataclass(frozen=True)
class FieldVerdict:
    """Verdicts of the windows that cover a field, and the discs of the field as a whole.

    Attributes
    ----------
    row, col
        First rows (n,) and columns (m,) of the windows, px.
    verdicts
        Of the n x m windows, row by row; circles are in a window's own coordinates.
    circles
        That were found in the field as a whole.
    overlapping
        Pairs of these (p, 2) that overlap by more than the limits allow.
    """

    row: np.ndarray
    col: np.ndarray
    verdicts: Sequence[Verdict]
    circles: Circles
    overlapping: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """First row and column of each window (n * m, 2), px."""
        return np.stack(np.meshgrid(self.row, self.col, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def valid(self) -> bool:
        """Whether all windows are, and no discs overlap that must not."""
        return not self.invalid_windows and not len(self.overlapping)

    @property
    def invalid_windows(self) -> int:
        """How many windows are not valid."""
        return sum(not verdict.valid for verdict in self.verdicts)

    @property
    def valid_share(self) -> float:
        """Share of the windows that are valid."""
        return pass_rate(self.verdicts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What the field is rejected for."""
        counts = self.rejected_by
        counts["overlap"] += len(self.overlapping)
        return tuple(name for name, count in counts.items() if count)

    @property
    def rejected_by(self) -> dict[str, int]:
        """Number of windows that each reason rejects."""
        return rejected_by(self.verdicts)


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
    threshold = float(threshold_otsu(_smooth(images).numpy()))
    phase = _phase(images, threshold, info.polarity)
    circles = detect_all(images, info.radius_px, info.polarity, config.detector)
    seen = _evidence(images, phase, circles, info.polarity)
    measured = [measure(evidence, rules) for evidence in seen]
    mismatch = np.mean([one["disagreement"] for one in measured])
    if mismatch > MOST_DISAGREEMENT:
        rule = (
            f"fits nothing: {info.polarity} discs of these radii differ from the disc phase on {mismatch:.0%}"
            f" of their area, must be at most {MOST_DISAGREEMENT:.0%} (or is the polarity wrong?)"
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
    shares = np.diff(np.linspace(0, count, len(roles) + 1).round().astype(int))
    parts = [
        Windows(planes, role, window_px).draw(np.random.default_rng([seed, index]), share)
        for index, (role, share) in enumerate(zip(roles, shares.tolist(), strict=True))
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
    """Shares of real windows that may be too small and too large, at tail level 1."""
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
    for evidence in _evidence(images, phase, circles, reference.polarity):
        measures = measure(evidence, rules)
        reasons = broken_rules(measures, reference.limits, rules)
        verdicts.append(Verdict(not reasons, reasons, measures, evidence.circles))
    return verdicts


def judge_field(
    image: Tensor,
    reference: Reference,
    periodic: bool = False,
    *,
    allow_own_rules: bool = False,
    progress: bool = True,
) -> FieldVerdict:
    """Judge a normalised field (H, W) or (1, 1, H, W) of any size by all of its windows.

    The limits are those of windows of the calibration's size, so such windows are judged, each half a window
    from the next. Whatever is not larger than half a window, that is a pair of overlapping discs if their
    radii are at most an eighth of a window, is whole in at least one of them; and each pixel is at least a
    quarter of a window away from the border of one. So no fault is hidden because borders cut it.

    It may still be read differently in a window at another place: the detector and the grey scale depend on
    all that a window holds, and a circle's score may cross the threshold of a rule. Valid means valid in
    these windows; windows in between fail at times (`benchmarks/repair.py` counts them).

    Real windows fail at the rate of false rejections. A field that is valid as a whole is therefore more
    orderly than a real plane of its size.

    Parameters
    ----------
    image
        Normalised grey values.
    reference
        Its rules and limits, and the size of the windows.
    periodic
        Windows go on beyond the border, on the opposite side; if not, the last ones are moved inwards.
    allow_own_rules, progress
        As in `judge`.

    Raises
    ------
    UserError
        If the field is smaller than a window, or as `judge` does.
    """
    image = as_field(image)
    row, col = (window_starts(length, reference.window_px, periodic) for length in image.shape[-2:])
    field = FieldVerdict(row, col, [], *discs_and_overlaps(image, reference, periodic))
    parts = torch.from_numpy(field.corners).split(AT_ONCE)
    verdicts = [
        verdict
        for part in tqdm(parts, desc="judge", disable=None if progress else True)
        for verdict in judge(
            cut_windows(image, part.numpy(), reference.window_px),
            reference,
            allow_own_rules=allow_own_rules,
            progress=False,
        )
    ]
    return replace(field, verdicts=verdicts)


def discs_and_overlaps(image: Tensor, reference: Reference, periodic: bool) -> tuple[Circles, np.ndarray]:
    """Return the discs of a field (1, 1, H, W) as a whole, and which pairs are `overlapping`."""
    (circles,) = detect_all(
        image, reference.radius_px, reference.polarity, reference.detector, progress=False, periodic=periodic
    )
    size_px = image.shape[-2], image.shape[-1]
    return circles, overlapping(circles, reference.limits, size_px, periodic)


def overlapping(circles: Circles, limits: Limits, size_px: tuple[int, int], periodic: bool) -> np.ndarray:
    """Return the pairs of circles (p, 2) that overlap by more than the rules of overlap allow.

    Parameters
    ----------
    circles
        Of one image. As in the rules, those with centres outside of it do not count.
    limits
        Of which those of ``overlap`` and, between circles that fit well, ``clear_overlap`` count.
    size_px
        Rows and columns of the image.
    periodic
        Whether distances go on beyond its borders.
    """
    sides = np.array(size_px)[:, None]
    centres = np.stack([circles.row, circles.col])
    inside = ((centres >= 0) & (centres <= sides - 1)).all(axis=0) | periodic
    apart = np.abs(centres[:, :, None] - centres[:, None])
    if periodic:
        apart = np.minimum(apart % sides[..., None], -apart % sides[..., None])
    overlap = 1 - np.hypot(*apart) / (circles.radius[:, None] + circles.radius)
    chosen = {"overlap": inside, "clear_overlap": inside & (circles.score >= CLEAR)}
    forbidden = np.zeros(overlap.shape, bool)
    for name, which in chosen.items():
        _, largest = limits.get(name, (None, None))
        if largest is not None:
            forbidden |= (overlap > largest) & np.outer(which, which)
    return np.argwhere(np.triu(forbidden, 1))


def as_field(image: Tensor) -> Tensor:
    """Return one image (H, W) or (1, 1, H, W) as (1, 1, H, W)."""
    if image.ndim == 2:
        image = image[None, None]
    if image.ndim != 4 or image.shape[:2] != (1, 1):
        raise ValueError(f"image: shape {tuple(image.shape)}: must be (H, W) or (1, 1, H, W)")
    return image


def window_starts(length_px: int, window_px: int, periodic: bool) -> np.ndarray:
    """Return where windows start that cover a length, half a window apart or a little less.

    Examples
    --------
    >>> window_starts(150, 64, periodic=False).tolist()
    [0, 32, 64, 86]
    >>> window_starts(128, 64, periodic=True).tolist()
    [0, 32, 64, 96]
    """
    if length_px < window_px:
        raise UserError("size", length_px, f"must be at least {window_px} px, the size of judged windows")
    stride_px = max(window_px // 2, 1)
    if periodic:
        count = -(-length_px // stride_px)
        return np.arange(count) * length_px // count
    count = -(-(length_px - window_px) // stride_px) + 1
    return np.minimum(np.arange(count) * stride_px, length_px - window_px)


def cut_windows(image: Tensor, corners: np.ndarray, window_px: int) -> Tensor:
    """Cut windows (N, 1, S, S) out of a field (1, 1, H, W); beyond its border they go on at the other one."""
    size = np.array(image.shape[-2:])
    place = (np.asarray(corners)[:, :, None] + np.arange(window_px)) % size[:, None]  # (N, 2, S)
    index = torch.from_numpy(place)
    return image[0, 0][index[:, 0, :, None], index[:, 1, None, :]][:, None]


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


def rules_of(reference: Reference, allow_own_rules: bool = False) -> dict[str, Rule]:
    """Return all rules that ``reference`` uses; its own ones are imported, that is run, only when allowed."""
    if reference.own and not allow_own_rules:
        functions = ", ".join(rule.function for rule in reference.own.values())
        rule = "would run Python code that the reference names: must be allowed, with --allow-own-rules"
        raise UserError("reference: own rules", functions, rule)
    return {**RULES, **own_rules(reference.own)}


def phase_image(images: Tensor, reference: Reference) -> Tensor:
    """Return where normalised images (N, 1, H, W) are disc phase: bool (N, H, W), whatever the polarity."""
    return _phase(images, reference.phase_threshold, reference.polarity)


def pass_rate(verdicts: Sequence[Verdict]) -> float:
    """Return the share of valid images."""
    return float(np.mean([verdict.valid for verdict in verdicts]))


def wilson_interval(share: float, count: int, confidence: float = 0.95) -> Interval:
    """Return the confidence interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212).

    Examples
    --------
    >>> low, high = wilson_interval(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    if not count:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # At 0 and 1 the share is an end of the interval, but for rounding.
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)


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


def detect_all(
    images: Tensor,
    radius_px: tuple[float, float],
    polarity: Literal["bright", "dark"],
    detector: DetectorConfig,
    progress: bool = True,
    *,
    periodic: bool = False,
) -> list[Circles]:
    """Find the discs of many images (N, 1, H, W), with a progress bar; ``periodic`` as in `detect`."""
    circles: list[Circles] = []
    bar = tqdm(total=len(images), desc="detect", unit="img", disable=None if progress else True)
    with bar:
        for part in images.split(AT_ONCE):
            circles += detect(part, radius_px, polarity, detector, periodic=periodic)
            bar.update(len(part))
    return circles


def _evidence(
    images: Tensor, phase: Tensor, circles: Sequence[Circles], polarity: Literal["bright", "dark"]
) -> list[Evidence]:
    grey = images[:, 0].cpu().numpy() * np.float32(1 if polarity == "bright" else -1)
    return [Evidence(*one) for one in zip(grey, phase.numpy(), circles, strict=True)]


def _phase(images: Tensor, threshold: float, polarity: str) -> Tensor:
    smooth = _smooth(images)[:, 0]
    return smooth > threshold if polarity == "bright" else smooth < threshold


def _smooth(images: Tensor) -> Tensor:
    smooth = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, SMOOTHING_PX, SMOOTHING_PX), mode="nearest")
    return torch.from_numpy(smooth)
