"""Which images are physically possible: rules, their calibration on real windows, verdicts.

A rule measures one thing that should be small or lie in a band. What is "small" is not invented: every limit
is a quantile of real windows, all at one common tail level, chosen so that all rules together reject a stated
share of real windows, the false-rejection budget.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.filters import threshold_otsu
from torch import Tensor
from tqdm import tqdm

from microgan.config import Config
from microgan.errors import UserError
from microgan.files import read_json, write_json
from microgan.hough import Circles, HoughConfig, detect
from microgan.planes import Planes, ScanInfo
from microgan.windows import Windows

REASONS = {  # measure -> reason code
    "overlap": "overlap",
    "smallest_radius_px": "radius",
    "largest_radius_px": "radius",
    "unexplained_phase": "unexplained_phase",
    "disagreement": "unexplained_phase",
    "unfilled_circle": "unfilled_circle",
    "mean_score": "faint_circles",
    "volume_fraction": "volume_fraction",
}
# Measures that can be wrong in one direction only; the others have a limit on either side.
TOO_SMALL = ("smallest_radius_px", "mean_score")
TOO_LARGE = ("overlap", "largest_radius_px", "unexplained_phase", "disagreement", "unfilled_circle")
SMOOTHING_PX = 0.7  # before the phase threshold: pixel noise is no structure
RIM_PX = 1.0  # at the rim of a disc, where pixels are partly filled, nothing is judged
MOST_DISAGREEMENT = 0.4  # between circles and phase on real windows; wrong radii or polarity: 0.5 to 0.9


class CalibrationConfig(Config):
    """How the rules are fixed on real windows."""

    windows: int = Field(2000, ge=100, description="real windows, overlapping, at random")
    false_rejection_budget: float = Field(0.05, gt=0, lt=0.5, description="share of them that may fail")
    # On real carbon the detector's own, smaller separation reads a fibre twice in a quarter of the windows.
    detector: HoughConfig = HoughConfig(min_separation=0.7)
    seed: int = Field(0, ge=0)


class Reference(Config):
    """All that judging needs, frozen before any training; stored as ``reference.json``.

    Attributes
    ----------
    scan : what the windows came from, with the digest of its planes
    phase_threshold : normalised grey; brighter (darker, for dark discs) is disc phase
    limits : measure -> (least, largest) allowed, None where any value is
    calibration_pass_rate : share of the calibration windows that pass
    noise_floor : error of each descriptor, real against real; see `microgan.fidelity.noise_floor`
    """

    scan: ScanInfo
    window_px: int
    detector: HoughConfig
    phase_threshold: float
    limits: dict[str, tuple[float | None, float | None]]
    false_rejection_budget: float
    calibration_windows: int
    calibration_pass_rate: float
    noise_floor: dict[str, float] = Field(default_factory=dict)

    @property
    def radius_px(self) -> tuple[float, float]:
        """Band in which discs are searched."""
        return self.scan.radius_px

    @property
    def polarity(self) -> Literal["bright", "dark"]:
        """Of the discs."""
        return self.scan.polarity

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


def calibrate(planes: Planes, window_px: int, config: CalibrationConfig) -> Reference:
    """Fix the phase threshold and the limits of all rules on windows of the calibration and training parts.

    Half of the windows come from each: the calibration part alone, often one band of one plane, does not show
    how much the material varies from place to place. Held-out planes are never looked at.

    Raises
    ------
    UserError
        If the discs found do not cover the disc phase: radius band or polarity do not fit the scan.
    """
    images = real_windows(planes, ("calibration", "train"), window_px, config.windows, config.seed)
    info = planes.info
    threshold = float(threshold_otsu(_smooth(images).numpy()))
    phase = _phase(images, threshold, info.polarity)
    circles = detect_all(images, info.radius_px, info.polarity, config.detector)
    measured = [measure(one, found) for one, found in zip(phase.numpy(), circles, strict=True)]
    mismatch = np.mean([one["disagreement"] for one in measured])
    if mismatch > MOST_DISAGREEMENT:
        rule = (
            f"fits nothing: {info.polarity} discs of these radii differ from the disc phase on {mismatch:.0%}"
            f" of their area, must be at most {MOST_DISAGREEMENT:.0%} (or is the polarity wrong?)"
        )
        raise UserError(f"scans.{info.name}.radius_px", list(info.radius_px), rule)
    limits = _limits(measured, config.false_rejection_budget)
    passed = [not broken_rules(one, limits) for one in measured]
    return Reference(
        scan=info,
        window_px=window_px,
        detector=config.detector,
        phase_threshold=threshold,
        limits=limits,
        false_rejection_budget=config.false_rejection_budget,
        calibration_windows=config.windows,
        calibration_pass_rate=float(np.mean(passed)),
    )


def real_windows(planes: Planes, roles: Sequence[str], window_px: int, count: int, seed: int) -> Tensor:
    """Draw ``count`` windows (count, 1, S, S) at random, the same number from each role, not turned."""
    shares = np.diff(np.linspace(0, count, len(roles) + 1).round().astype(int))
    parts = [
        Windows(planes, role, window_px).draw(np.random.default_rng([seed, index]), share, augment=False)
        for index, (role, share) in enumerate(zip(roles, shares.tolist(), strict=True))
    ]
    return torch.cat(parts)


def judge(images: Tensor, reference: Reference) -> list[Verdict]:
    """Judge normalised images (N, 1, H, W) by the rules of ``reference``."""
    phase = phase_image(images, reference).numpy()
    circles = detect_all(images, reference.radius_px, reference.polarity, reference.detector)
    verdicts = []
    for one, found in zip(phase, circles, strict=True):
        measures = measure(one, found)
        reasons = broken_rules(measures, reference.limits)
        verdicts.append(Verdict(not reasons, reasons, measures, found))
    return verdicts


def phase_image(images: Tensor, reference: Reference) -> Tensor:
    """Return where normalised images (N, 1, H, W) are disc phase: bool (N, H, W), whatever the polarity."""
    return _phase(images, reference.phase_threshold, reference.polarity)


def pass_rate(verdicts: Sequence[Verdict]) -> float:
    """Return the share of valid images."""
    return float(np.mean([verdict.valid for verdict in verdicts]))


def rejected_by(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Count the images that each rule rejects; one image may break several."""
    counts = Counter(reason for verdict in verdicts for reason in verdict.reasons)
    return {reason: counts[reason] for reason in dict.fromkeys(REASONS.values())}


# Rules -------------------------------------------------------------------------------------------------


def measure(phase: np.ndarray, circles: Circles) -> dict[str, float]:
    """Measure one image by all rules; ``phase`` is bool (H, W), true in discs."""
    smallest, largest = radius_range(circles, phase.shape)
    return {
        "overlap": overlap(circles, phase.shape),
        "smallest_radius_px": smallest,
        "largest_radius_px": largest,
        "unexplained_phase": unexplained_phase(phase, circles),
        "disagreement": disagreement(phase, circles),
        "unfilled_circle": unfilled_circle(phase, circles),
        "mean_score": float(circles.score.mean()) if len(circles) else 0.0,
        "volume_fraction": float(phase.mean()),
    }


def overlap(circles: Circles, shape: tuple[int, int]) -> float:
    """Return the largest 1 - d / (r1 + r2) over pairs with centres inside; 0 when none overlap."""
    inside = _inside(circles, shape)
    centres = np.stack([circles.row, circles.col], axis=1)[inside]
    if len(centres) < 2:
        return 0.0
    reach = circles.radius[inside][:, None] + circles.radius[inside]
    relative = 1 - cdist(centres, centres) / reach
    np.fill_diagonal(relative, 0)
    return float(max(relative.max(), 0))


def radius_range(circles: Circles, shape: tuple[int, int]) -> tuple[float, float]:
    """Return the smallest and largest radius of the discs that are whole; (0, 0) when there is none."""
    whole = circles.radius[_inside(circles, shape, circles.radius)]
    return (float(whole.min()), float(whole.max())) if len(whole) else (0.0, 0.0)


def unexplained_phase(phase: np.ndarray, circles: Circles) -> float:
    """Return the largest patch of disc phase outside of all circles, over the area of a usual disc.

    A merged pair leaves such a patch, as does a disc that no circle fits. Without circles, the patch is
    compared with the image.
    """
    distance = _distance_to_rim(phase.shape, circles)
    unexplained = phase & (distance > RIM_PX).all(0) if len(circles) else phase
    patches, count = ndimage.label(unexplained)
    largest = np.bincount(patches.ravel())[1:].max() if count else 0
    usual = np.pi * np.median(circles.radius) ** 2 if len(circles) else phase.size
    return float(largest / usual)


def disagreement(phase: np.ndarray, circles: Circles) -> float:
    """Return 1 - intersection / union of circles and disc phase: 0 if they are one, 1 without circles."""
    inside = (_distance_to_rim(phase.shape, circles) < 0).any(0)
    either = (phase | inside).sum()
    return float(1 - (phase & inside).sum() / either) if either else 1.0


def unfilled_circle(phase: np.ndarray, circles: Circles) -> float:
    """Return the largest share of a circle's inside that is not disc phase."""
    core = _distance_to_rim(phase.shape, circles) < -RIM_PX  # (n, H, W)
    area = core.sum((1, 2))
    judged = area >= 0.3 * np.pi * np.maximum(circles.radius - RIM_PX, 0) ** 2  # enough of it in the image
    if not judged.any():
        return 0.0
    return float(((core & ~phase).sum((1, 2))[judged] / np.maximum(area[judged], 1)).max())


def broken_rules(
    measures: Mapping[str, float], limits: Mapping[str, tuple[float | None, float | None]]
) -> tuple[str, ...]:
    """Return the reason codes of the rules that ``measures`` break, in fixed order."""
    broken = [
        REASONS[name]
        for name, (least, largest) in limits.items()
        if (least is not None and measures[name] < least)
        or (largest is not None and measures[name] > largest)
    ]
    return tuple(dict.fromkeys(broken))


# Parts -------------------------------------------------------------------------------------------------


def _limits(
    measured: Sequence[Mapping[str, float]], budget: float
) -> dict[str, tuple[float | None, float | None]]:
    """Find the common tail level at which all rules together reject the budget, by bisection."""
    table = np.array([[one[name] for name in REASONS] for one in measured])  # (N, measures)
    low, high = 0.0, budget  # one rule alone may not reject more than all together
    for _ in range(30):
        tail = (low + high) / 2
        least, largest = np.array([_quantiles(name, table[:, i], tail) for i, name in enumerate(REASONS)]).T
        rejected = ((table < least) | (table > largest)).any(1).mean()
        low, high = (tail, high) if rejected <= budget else (low, tail)
    bounds = {name: _quantiles(name, table[:, i], low) for i, name in enumerate(REASONS)}
    return {
        name: (least if np.isfinite(least) else None, largest if np.isfinite(largest) else None)
        for name, (least, largest) in bounds.items()
    }


def _quantiles(name: str, values: np.ndarray, tail: float) -> tuple[float, float]:
    if name in TOO_LARGE:
        return -np.inf, float(np.quantile(values, 1 - tail))
    if name in TOO_SMALL:
        return float(np.quantile(values, tail)), np.inf
    return float(np.quantile(values, tail / 2)), float(np.quantile(values, 1 - tail / 2))


def detect_all(
    images: Tensor, radius_px: tuple[float, float], polarity: Literal["bright", "dark"], detector: HoughConfig
) -> list[Circles]:
    """Find the discs of many images (N, 1, H, W), with a progress bar."""
    circles: list[Circles] = []
    with tqdm(total=len(images), desc="detect", unit="img", disable=None) as bar:
        for part in images.split(64):
            circles += detect(part, radius_px, polarity, detector)
            bar.update(len(part))
    return circles


def _phase(images: Tensor, threshold: float, polarity: str) -> Tensor:
    smooth = _smooth(images)[:, 0]
    return smooth > threshold if polarity == "bright" else smooth < threshold


def _smooth(images: Tensor) -> Tensor:
    smooth = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, SMOOTHING_PX, SMOOTHING_PX), mode="nearest")
    return torch.from_numpy(smooth)


def _distance_to_rim(shape: tuple[int, int], circles: Circles) -> np.ndarray:
    """Return the signed distance of each pixel to each circle's rim, negative inside, (n, H, W)."""
    row, col = np.ogrid[: shape[0], : shape[1]]
    centre_row, centre_col, radius = (
        part[:, None, None] for part in (circles.row, circles.col, circles.radius)
    )
    return np.hypot(row - centre_row, col - centre_col) - radius


def _inside(circles: Circles, shape: tuple[int, int], margin_px: np.ndarray | float = 0.0) -> np.ndarray:
    """Return whether each circle's centre is at least ``margin_px`` inside the image."""
    return np.logical_and.reduce(
        [
            circles.row >= margin_px,
            circles.row <= shape[0] - 1 - margin_px,
            circles.col >= margin_px,
            circles.col <= shape[1] - 1 - margin_px,
        ]
    )
