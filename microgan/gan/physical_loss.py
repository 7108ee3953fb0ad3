"""The physical loss: how far images are from discs in a matrix that do not overlap.

Maxima of the accumulator (`microgan.detection.hough`) give circles and their confidence. A few Newton steps
fit the circles to the soft phase: in dense packings the edges of touching neighbours pull the votes towards
radii that are 0.8 px too small. Then each image is compared with its circles, by the terms in `TERMS`.

Where gradients flow
--------------------
None flows through the votes. Descent through votes draws dark rings into sound discs, which ruin their votes
or raise others. So which circles there are, where the fit starts, and their confidence before it are
constants.

Gradients flow through the soft phase: directly, through the fitted centres and radii, and through the
fraction of each circle that is phase of its own. The last one is a factor of the fitted confidence. Overlap
and non-circularity take the fitted confidence as a constant. In the area that circles cover (uncovered phase,
empty circle, double coverage) its gradient counts.

Where the loss belongs
----------------------
The loss is the generator's alone. Added to the critic's output instead, for real and generated images, it
would change nothing in the end. A critic is free to learn its negative, and at its optimum the sum is what
the critic would have been without it.

Coordinates are (row, col) in pixels, pixel centres at integers; inside, discs are bright.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from microgan.core.config import Config
from microgan.detection.detector import Polarity
from microgan.detection.hough import smoothed, unit_gradient
from microgan.gan.soft_circles import (
    Around,
    Cells,
    centre_distances_px,
    edge_width_px,
    fit,
    signed_edge_distance_px,
    voted_circles,
)

SMOOTHING, LEAST_SMOOTHING_PX, MOST_SMOOTHING_PX = 0.2, 0.7, 1.5  # of the grey, over the smallest radius
PHASE_WIDTH = 0.14  # of the soft phase, over the contrast
BAND = 0.05  # the quantiles BAND and 1 - BAND of real windows bound what is tolerated
CONFIDENT = 0.5  # least confidence of circles whose overlaps and non-circularity in real windows count
LEAST_SCALE = 1e-5  # of a term
WINDOWS_AT_ONCE = 32

Interval = tuple[float, float]


class PhysicsConfig(Config):
    """The physical loss in a training: its size, its schedule, and the weights of its terms (`TERMS`).

    The gradient of the whole loss is scaled to ``weight`` times the size of the adversarial gradient. So the
    weights of the terms matter by their ratios alone: to double all of them changes nothing.
    """

    weight: float = Field(default=1.0, ge=0)
    images: int = Field(default=8, ge=1)
    warm_up: int = Field(default=500, ge=0)
    ramp: int = Field(default=500, ge=1)
    overlap: float = Field(default=1.0, ge=0)
    non_circularity: float = Field(default=1.0, ge=0)
    uncovered_phase: float = Field(default=1.0, ge=0)
    empty_circle: float = Field(default=1.0, ge=0)
    double_coverage: float = Field(default=1.0, ge=0)
    volume_fraction: float = Field(default=3.0, ge=0)
    intermediate_grey: float = Field(default=1.0, ge=0)


class PhysicalLoss(NamedTuple):
    """The physical loss of each image, tensors (B,).

    ``total`` is the sum over `TERMS` of weight x log(1 + term / scale), where the scale is the usual size of
    the term in real windows. So it is of order 1 in real windows of any material, and its gradient stays of
    that order on images that are far off.
    """

    total: Tensor
    terms: Mapping[str, Tensor]  # by name, before weight, scale and logarithm; 0 at best


@dataclass(frozen=True)
class Material:
    """What the physical loss needs of a material, measured once on real windows by `Material.of`.

    Attributes
    ----------
    radius_px : (smallest, largest)
    polarity : {"bright", "dark"}
    phase_threshold : float
        Grey on [-1, 1] between the phases.
    contrast : float
        Mean grey of the brighter phase minus that of the darker one.
    tolerated : Mapping
        Name of a term -> least and largest value of what it measures that cost nothing. Noise and irregular
        discs of real windows then cost little, and defects stand out.
    scale : Mapping
        Name of a term -> its usual size in real windows.
    """

    radius_px: tuple[float, float]
    polarity: Polarity
    phase_threshold: float
    contrast: float
    tolerated: Mapping[str, Interval] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    @torch.no_grad()
    def of(
        cls, windows: Tensor, radius_px: tuple[float, float], polarity: Polarity, phase_threshold: float
    ) -> "Material":
        """Measure real windows (N, 1, H, W), a few hundred, of the size of the images of the training.

        Raises
        ------
        ValueError
            If ``phase_threshold`` does not part the grey values, or the radius band does not rise.
        """
        if not 1 <= radius_px[0] < radius_px[1]:
            raise ValueError(f"radius_px: {radius_px}: must be (min, max) with 1 <= min < max")
        smooth, _ = smoothed(windows.float(), _smoothing_px(radius_px), polarity)
        above = smooth > (-phase_threshold if polarity == "dark" else phase_threshold)
        if above.all() or not above.any():
            raise ValueError(f"phase_threshold: {phase_threshold}: must lie between the windows' grey values")
        contrast = float(smooth[above].mean() - smooth[~above].mean())
        material = cls(radius_px, polarity, phase_threshold, contrast)
        batches = [FittedCircles.of(batch, material) for batch in windows.split(WINDOWS_AT_ONCE)]
        real = RealWindows(material.soft_phase(smooth).flatten(1), batches)
        tolerated = {name: term.tolerated(real) for name, term in TERMS.items()}
        scale = {name: max(term.scale(real, tolerated[name]), LEAST_SCALE) for name, term in TERMS.items()}
        return replace(material, tolerated=tolerated, scale=scale)

    def soft_phase(self, bright: Tensor) -> Tensor:
        """Fraction of the disc phase in each pixel of smoothed grey, negated already for dark discs."""
        threshold = -self.phase_threshold if self.polarity == "dark" else self.phase_threshold
        return torch.sigmoid((bright - threshold) / (PHASE_WIDTH * self.contrast))


def physical_loss(images: Tensor, material: Material, config: PhysicsConfig | None = None) -> PhysicalLoss:
    """Judge each image by itself, differentiably, in float32 also under autocast.

    Parameters
    ----------
    images : Tensor of shape (B, 1, H, W), float, grey values in [-1, 1]
    material : Material
    config : PhysicsConfig, optional

    Returns
    -------
    PhysicalLoss of tensors of shape (B,)

    Raises
    ------
    ValueError
        If ``images`` has another shape.

    Notes
    -----
    Where a circle appears or goes, the loss jumps: which circles there are is decided without a gradient.
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images: shape {tuple(images.shape)}: must be (B, 1, H, W)")
    config = config or PhysicsConfig()
    with torch.autocast(images.device.type, enabled=False):
        fitted = FittedCircles.of(images if images.dtype == torch.float64 else images.float(), material)
        terms = {name: term.value(fitted, material.tolerated[name]) for name, term in TERMS.items()}
    costs = [getattr(config, name) * torch.log1p(term / material.scale[name]) for name, term in terms.items()]
    return PhysicalLoss(torch.stack(costs).sum(0), terms)


def _smoothing_px(radius_px: tuple[float, float]) -> float:
    return min(max(SMOOTHING * radius_px[0], LEAST_SMOOTHING_PX), MOST_SMOOTHING_PX)


# What the terms are measured on ------------------------------------------------------------------------


class FittedCircles(NamedTuple):
    """Circles that are fitted to images, and how images and circles differ.

    Attributes
    ----------
    circles : Tensor of shape (B, K, 3)
        Row, col, radius.
    confidence : Tensor of shape (B, K)
        In [0, 1], after the fit; 0 for circles that are none.
    weight : Tensor of shape (B, K)
        Confidence, smaller for centres near the border or outside; without a gradient.
    non_circularity : Tensor of shape (B, K)
        How far the edge goes outwards along one axis, and inwards along the other, over the radius.
    coverage : Tensor of shape (B, h, w)
        How many circles cover each cell, by confidence.
    misfit : Tensor of shape (B, h, w)
        Phase minus coverage, at most 1, of cells, softened.
    phase : Tensor of shape (B, H W)
        Soft phase of pixels.
    filling_discs : Tensor of shape (B,)
        How many discs as large as those of the image would fill it; infinitely many where there are none.
    """

    circles: Tensor
    confidence: Tensor
    weight: Tensor
    non_circularity: Tensor
    coverage: Tensor
    misfit: Tensor
    phase: Tensor
    filling_discs: Tensor

    @classmethod
    def of(cls, images: Tensor, material: Material) -> "FittedCircles":
        """Find and fit the circles of images (B, 1, H, W)."""
        smooth, gradient = smoothed(images, _smoothing_px(material.radius_px), material.polarity)
        phase = material.soft_phase(smooth)
        cells = Cells.of(phase, material.radius_px)
        circles, confidence = voted_circles(unit_gradient(gradient), material.radius_px)
        circles, confidence, non_circularity = fit(circles, confidence, cells, material.radius_px)
        around = Around.of(circles, cells, material.radius_px[1])
        disc = torch.sigmoid(-signed_edge_distance_px(circles, around)[0] / edge_width_px(cells.side_px))
        coverage = around.summed(confidence[..., None, None] * disc)
        weight = _weight(circles.detach(), confidence.detach(), (images.shape[2], images.shape[3]))
        misfit = _softened(cells.phase - coverage.clamp_max(1))
        phase = phase.flatten(1)
        discs = _filling_discs(circles.detach(), weight, phase.shape[1])
        return cls(circles, confidence, weight, non_circularity, coverage, misfit, phase, discs)


class RealWindows(NamedTuple):
    """Real windows, on which tolerances and scales are measured."""

    phase: Tensor  # (N, H W), soft
    batches: list[FittedCircles]


def _weight(circles: Tensor, confidence: Tensor, shape: tuple[int, int]) -> Tensor:
    """Weight (B, K) of circles: the confidence, less where the centre is less than half a radius inside."""
    centres, radius = circles[..., :2], circles[..., 2]
    inset_px = torch.minimum(centres, centres.new_tensor(shape) - 1 - centres).amin(2)
    return confidence * (2 * inset_px / radius).clamp(0, 1)


def _filling_discs(circles: Tensor, weight: Tensor, pixels: int) -> Tensor:
    square_px = (weight * circles[..., 2].square()).sum(1) / weight.sum(1).clamp_min(1e-3)
    return pixels / (math.pi * square_px)


def _softened(maps: Tensor) -> Tensor:
    """Average maps (B, h, w) over 3 x 3 cells by 1 2 1: an edge a little too soft is bright beside dark."""
    maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = (maps[:, :-2] + 2 * maps[:, 1:-1] + maps[:, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


# Terms: the value of each image, (B,), and what real windows show -----------------------------------------


def _overlap(fitted: FittedCircles, tolerated: Interval) -> Tensor:
    """Sum over pairs of c_i c_j (1 - d / (r_i + r_j) - tolerated)_+^2, over the number of filling discs."""
    pairs = fitted.weight[:, :, None] * fitted.weight[:, None]
    excess = (_overlaps(fitted.circles) - tolerated[1]).clamp_min(0)
    return (pairs * excess.square()).triu(1).sum((1, 2)) / fitted.filling_discs


def _tolerated_overlap(real: RealWindows) -> Interval:
    """Median, over windows, of the largest overlap of two confident circles."""
    largest = []
    for fitted in real.batches:
        confident = fitted.confidence > CONFIDENT
        pairs = (confident[:, :, None] & confident[:, None]).triu(1)
        largest.append(torch.where(pairs, _overlaps(fitted.circles), 0).flatten(1).amax(1))
    return -math.inf, max(float(torch.cat(largest).median()), 0.0)


def _overlaps(circles: Tensor) -> Tensor:
    """Overlaps (B, K, K) of all pairs, 1 - d / (r1 + r2); negative for a gap."""
    radius = circles[..., 2]
    return 1 - centre_distances_px(circles) / (radius[:, :, None] + radius[:, None])


def _non_circularity(fitted: FittedCircles, tolerated: Interval) -> Tensor:
    """Sum over discs of c_i (non-circularity - tolerated)_+^2, over the number of filling discs."""
    excess = (fitted.non_circularity - tolerated[1]).clamp_min(0)
    return (fitted.weight * excess.square()).sum(1) / fitted.filling_discs


def _tolerated_non_circularity(real: RealWindows) -> Interval:
    """95 % quantile over confident circles."""
    values = torch.cat([fitted.non_circularity[fitted.confidence > CONFIDENT] for fitted in real.batches])
    return 0.0, float(np.quantile(values.numpy(), 1 - BAND)) if len(values) else 0.0


def _uncovered_phase(fitted: FittedCircles, tolerated: Interval) -> Tensor:
    """Mean square, over cells, of phase in no circle beyond what is tolerated."""
    return (fitted.misfit - tolerated[1]).clamp_min(0).square().mean((1, 2))


def _tolerated_uncovered_phase(real: RealWindows) -> Interval:
    """95 % quantile over cells, where circles that have too little phase count as 0."""
    return 0.0, float(np.quantile(_misfits(real).clip(min=0), 1 - BAND))


def _empty_circle(fitted: FittedCircles, tolerated: Interval) -> Tensor:
    """Mean square, over cells, of circle without phase beyond what is tolerated."""
    return (-fitted.misfit - tolerated[1]).clamp_min(0).square().mean((1, 2))


def _tolerated_empty_circle(real: RealWindows) -> Interval:
    """95 % quantile over cells, where phase in no circle counts as 0."""
    return 0.0, float(np.quantile((-_misfits(real)).clip(min=0), 1 - BAND))


def _misfits(real: RealWindows) -> np.ndarray:
    # For numpy: torch.quantile has a limit on how many values there are.
    return torch.cat([fitted.misfit.flatten() for fitted in real.batches]).numpy()


def _double_coverage(fitted: FittedCircles, tolerated: Interval) -> Tensor:
    """Mean square, over cells, of coverage by more than one circle."""
    return (fitted.coverage - tolerated[1]).clamp_min(0).square().mean((1, 2))


def _volume_fraction(fitted: FittedCircles, tolerated: Interval) -> Tensor:
    """Squared distance of the fraction of disc phase from that of real windows."""
    return _outside(fitted.phase.mean(1), tolerated)


def _tolerated_volume_fraction(real: RealWindows) -> Interval:
    """5 % and 95 % quantiles over windows."""
    return _quantiles(real.phase.mean(1), BAND, 1 - BAND)


def _squared_half_width(real: RealWindows, tolerated: Interval) -> float:
    return ((tolerated[1] - tolerated[0]) / 2) ** 2


def _intermediate_grey(fitted: FittedCircles, tolerated: Interval) -> Tensor:
    """Squared excess of grey between the phases over that of real windows."""
    return _outside(_mean_intermediate(fitted.phase), tolerated)


def _mean_intermediate(phase: Tensor) -> Tensor:
    """Mean of 4 p (1 - p) of the soft phase p, which is 1 where the grey is halfway between the phases."""
    return (4 * phase * (1 - phase)).mean(1)


def _tolerated_intermediate_grey(real: RealWindows) -> Interval:
    """From none to the median over windows."""
    return 0.0, _quantiles(_mean_intermediate(real.phase), 0.5, 1 - BAND)[0]


def _squared_upper_width(real: RealWindows, tolerated: Interval) -> float:
    """Squared distance of the 95 % quantile over windows from the median."""
    median, largest = _quantiles(_mean_intermediate(real.phase), 0.5, 1 - BAND)
    return (largest - median) ** 2


def _quantiles(values: Tensor, low: float, high: float) -> Interval:
    least, largest = torch.quantile(values, values.new_tensor([low, high])).tolist()
    return least, largest


def _outside(fraction: Tensor, tolerated: Interval) -> Tensor:
    """Squared distance from the interval."""
    least, largest = tolerated
    return ((least - fraction).clamp_min(0) + (fraction - largest).clamp_min(0)).square()


@dataclass(frozen=True)
class Term:
    """One term of the physical loss; the field of its name in `PhysicsConfig` is its weight.

    Attributes
    ----------
    value : callable
        Maps fitted circles, and what is tolerated, to the term of each image, (B,).
    tolerated : callable
        Maps real windows to the least and largest value of what is measured that cost nothing.
    squared_width : callable, optional
        Maps real windows, and what is tolerated, to the scale of the term; by default its mean over them.
    """

    value: Callable[[FittedCircles, Interval], Tensor]
    tolerated: Callable[[RealWindows], Interval]
    squared_width: Callable[[RealWindows, Interval], float] | None = None

    def scale(self, real: RealWindows, tolerated: Interval) -> float:
        """Return the usual size of the term in real windows."""
        if self.squared_width:
            return self.squared_width(real, tolerated)
        return float(torch.cat([self.value(fitted, tolerated) for fitted in real.batches]).mean())


# In the order in which they are summed. Without the last two a blank image would be the best of all, and a
# slightly blurred one as good as a sharp one.
TERMS: Mapping[str, Term] = {
    "overlap": Term(_overlap, _tolerated_overlap),
    "non_circularity": Term(_non_circularity, _tolerated_non_circularity),
    "uncovered_phase": Term(_uncovered_phase, _tolerated_uncovered_phase),
    "empty_circle": Term(_empty_circle, _tolerated_empty_circle),
    "double_coverage": Term(_double_coverage, lambda real: (0.0, 1.0)),
    "volume_fraction": Term(_volume_fraction, _tolerated_volume_fraction, _squared_half_width),
    "intermediate_grey": Term(_intermediate_grey, _tolerated_intermediate_grey, _squared_upper_width),
}
