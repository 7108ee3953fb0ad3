"""The physical loss on soft circles: how far images are from discs in a matrix that do not overlap.

Maxima of the accumulator (`microgan.detection.hough`) say which circles there are and how sure they are; a few Newton
steps against the soft phase make them fit: in dense packings the rims of touching neighbours pull the votes
towards radii that are 0.8 px too small. Then circles and phase must explain each other, no area may be
claimed twice, and no disc may be longer than real ones are.

The gradient flows through the phase alone, not through the votes. Descent through votes draws dark rings into
sound discs, which ruin their votes or raise others; descent through the phase parts discs where they overlap.

The loss is the generator's alone. Added to the critic's output instead, for real and generated images, it
would change nothing in the end: a critic is free to learn its negative too, and at its optimum the sum is
what the critic would have been without it.

Coordinates are (row, col) in pixels, pixel centres at integers; inside, discs are bright.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from microgan.core.config import Config
from microgan.detection.circles import Polarity
from microgan.detection.hough import smoothed, unit_gradient
from microgan.gan.soft_circles import (
    Around,
    Cells,
    centre_distances_px,
    edge_width_px,
    fitted,
    signed_edge_distance_px,
    voted_circles,
)

SMOOTHING, LEAST_SMOOTHING_PX, MOST_SMOOTHING_PX = 0.2, 0.7, 1.5  # of the grey, over the smallest radius
PHASE_WIDTH = 0.14  # of the soft phase, over the contrast
BAND = 0.05  # quantile of real windows, and 1 - it, at which a fraction is as expected; of cells, a misfit
SURE = 0.5  # confidence of circles whose overlaps and non_circularities in real windows count
LEAST_USUAL = 1e-5  # of a term's mean on real windows
AT_ONCE = 32  # windows
CIRCLE_TERMS = ("overlap", "non_circularity", "uncovered_phase", "empty_circle", "double_coverage")


class PhysicsConfig(Config):
    """The physical loss in a training, and the weights of its terms; see `Terms`."""

    weight: float = Field(default=1.0, ge=0, description="its gradient over the adversarial one")
    images: int = Field(default=8, ge=1, description="of a batch, at most, that it judges")
    warm_up: int = Field(default=500, ge=0, description="steps before it begins, in which circles come to be")
    ramp: int = Field(default=500, ge=1, description="steps in which its weight then rises")
    overlap: float = Field(default=1.0, ge=0, description="pairs of circles closer than their radii allow")
    non_circularity: float = Field(default=1.0, ge=0, description="discs that are longer than wide")
    uncovered_phase: float = Field(default=1.0, ge=0, description="disc phase in no circle")
    empty_circle: float = Field(default=1.0, ge=0, description="circle without disc phase")
    double_coverage: float = Field(default=1.0, ge=0, description="area of two circles")
    volume_fraction: float = Field(
        default=3.0, ge=0, description="more or less disc phase than in real windows"
    )
    intermediate_grey: float = Field(
        default=1.0, ge=0, description="more grey between the phases than in real windows"
    )


class Terms(NamedTuple):
    """The physical loss of each image, tensors (B,); each term is a mean over the image, 0 at best.

    ``total`` is the sum of weight x log(1 + term / what is usual of it in real windows): of order 1 in real
    windows of any material, and its gradient stays of that order on images that are far off.

    ``overlap``: over pairs, c_i c_j (1 - d / (r_i + r_j) - tolerated)_+^2, over the number of discs that
    would fill the image (c: confidence, without a gradient); ``non_circularity``: over discs, c_i (a_i / r_i -
    tolerated)_+^2, over the same number (a: how far the rim goes out along one axis and in along the other);
    ``uncovered_phase``, ``empty_circle``: squared misfit of phase and rendered circles above what is tolerated;
    ``double_coverage``: squared area of two circles; ``volume_fraction``, ``intermediate_grey``: squared distance from what
    real windows have. Without the last two a blank image would be the best of all, and a slightly blurred
    one as good as a sharp one.
    """

    total: Tensor
    overlap: Tensor
    non_circularity: Tensor
    uncovered_phase: Tensor
    empty_circle: Tensor
    double_coverage: Tensor
    volume_fraction: Tensor
    intermediate_grey: Tensor


@dataclass(frozen=True)
class Material:
    """What the physical loss knows of a material, measured once on real windows by `Material.of`.

    Attributes
    ----------
    radius_px : (smallest, largest)
    polarity : {"bright", "dark"}
    phase_threshold : float
        Grey on [-1, 1] between the phases.
    contrast : float
        Mean grey of the brighter phase minus that of the darker one.
    volume_fraction : (least, largest)
        Of the soft disc phase in an image: 5 % and 95 % quantiles.
    intermediate_grey : (median, largest)
        Of the mean of 4 p (1 - p) of the soft phase p, 1 where the grey is halfway between the phases: 50 %
        and 95 % quantiles.
    tolerated : Mapping
        Term in `Terms` -> what costs nothing: of ``overlap`` the median of the largest in each window, of
        ``non_circularity`` the 95 % quantile over discs, of ``uncovered_phase`` and ``empty_circle`` that over cells. Noise and
        irregular discs of real windows then cost little, and defects stand out.
    usual : Mapping
        Term in `Terms` -> its size in real windows.
    """

    radius_px: tuple[float, float]
    polarity: Polarity
    phase_threshold: float
    contrast: float
    volume_fraction: tuple[float, float] = (0.0, 1.0)
    intermediate_grey: tuple[float, float] = (1.0, 1.0)
    tolerated: Mapping[str, float] = field(default_factory=dict)
    usual: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, windows: Tensor, radius_px: tuple[float, float], polarity: Polarity, phase_threshold: float
    ) -> "Material":
        """Measure real windows (N, 1, H, W), a few hundred, of the size of the images that will be judged.

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
        phase = material.soft_phase(smooth).flatten(1)
        fraction = _quantiles(phase.mean(1), BAND, 1 - BAND)
        intermediate_grey = _quantiles(_intermediate_grey(phase), 0.5, 1 - BAND)
        material = replace(material, volume_fraction=fraction, intermediate_grey=intermediate_grey)
        material = replace(material, tolerated=_tolerated(windows, material))
        return replace(material, usual=_usual(windows, material))

    def soft_phase(self, bright: Tensor) -> Tensor:
        """Fraction of the disc phase in each pixel of smoothed grey, negated already for dark discs."""
        threshold = -self.phase_threshold if self.polarity == "dark" else self.phase_threshold
        return torch.sigmoid((bright - threshold) / (PHASE_WIDTH * self.contrast))


@torch.no_grad()
def _tolerated(windows: Tensor, material: Material) -> dict[str, float]:
    overlaps, non_circularities, misfits = [], [], []
    for part in windows.split(AT_ONCE):
        found = _Found.of(part, material)
        sure = found.confidence > SURE
        pairs = (sure[:, :, None] & sure[:, None]).triu(1)
        overlaps.append(torch.where(pairs, _overlaps(found.circles), 0).flatten(1).amax(1))
        non_circularities.append(found.non_circularity[sure])
        misfits.append(_softened(found.cells.phase - found.claimed.clamp_max(1)).flatten())
    non_circularity = torch.cat(non_circularities).numpy()
    misfit = torch.cat(misfits).numpy()  # torch.quantile has a limit on how many values there are
    return {
        "overlap": max(float(torch.cat(overlaps).median()), 0.0),
        "non_circularity": float(np.quantile(non_circularity, 1 - BAND)) if len(non_circularity) else 0.0,
        "uncovered_phase": float(np.quantile(misfit.clip(min=0), 1 - BAND)),
        "empty_circle": float(np.quantile((-misfit).clip(min=0), 1 - BAND)),
    }


@torch.no_grad()
def _usual(windows: Tensor, material: Material) -> dict[str, float]:
    """Mean of the terms of circles in real windows, and squared half-widths of what fractions are expected."""
    terms = [_terms(part, material) for part in windows.split(AT_ONCE)]
    circles = {
        name: max(float(torch.cat([one[name] for one in terms]).mean()), LEAST_USUAL) for name in CIRCLE_TERMS
    }
    half_width = (material.volume_fraction[1] - material.volume_fraction[0]) / 2
    intermediate_grey = material.intermediate_grey[1] - material.intermediate_grey[0]
    fractions = {"volume_fraction": half_width**2, "intermediate_grey": intermediate_grey**2}
    return circles | {name: max(square, LEAST_USUAL) for name, square in fractions.items()}


def _quantiles(values: Tensor, low: float, high: float) -> tuple[float, float]:
    least, largest = torch.quantile(values, values.new_tensor([low, high])).tolist()
    return least, largest


def weight_at(step: int, config: PhysicsConfig) -> float:
    """Return the weight of the physical loss in a training step: 0, then rising, then full."""
    return config.weight * min(max((step - config.warm_up) / config.ramp, 0.0), 1.0)


def physical_loss(images: Tensor, material: Material, config: PhysicsConfig | None = None) -> Terms:
    """Judge each image by itself, differentiably, in float32 also under autocast.

    Parameters
    ----------
    images : Tensor of shape (B, 1, H, W), float, grey values in [-1, 1]
    material : Material
    config : PhysicsConfig, optional

    Returns
    -------
    Terms of tensors of shape (B,)

    Raises
    ------
    ValueError
        If ``images`` has another shape.

    Notes
    -----
    Which circles there are, where they start and how sure they are is decided without a gradient; where one
    appears or goes, the loss jumps.
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images: shape {tuple(images.shape)}: must be (B, 1, H, W)")
    config = config or PhysicsConfig()
    terms = _terms(images, material)
    costs = [getattr(config, name) * torch.log1p(term / material.usual[name]) for name, term in terms.items()]
    return Terms(total=torch.stack(costs).sum(0), **terms)


def _terms(images: Tensor, material: Material) -> dict[str, Tensor]:
    with torch.autocast(images.device.type, enabled=False):
        found = _Found.of(images if images.dtype == torch.float64 else images.float(), material)
        counts = _counts(found, (images.shape[2], images.shape[3]))
        discs = _discs_that_fill(found, counts)
        overlap = _overlap(found, counts, material.tolerated["overlap"]) / discs
        non_circularity = _non_circularity(found, counts, material.tolerated["non_circularity"]) / discs
        phase = found.phase.flatten(1)
        fractions = {
            "volume_fraction": _outside(phase.mean(1), *material.volume_fraction),
            "intermediate_grey": _outside(_intermediate_grey(phase), 0, material.intermediate_grey[0]),
        }
        return (
            dict(zip(CIRCLE_TERMS, (overlap, non_circularity, *_misfit(found, material)), strict=True))
            | fractions
        )


def _smoothing_px(radius_px: tuple[float, float]) -> float:
    return min(max(SMOOTHING * radius_px[0], LEAST_SMOOTHING_PX), MOST_SMOOTHING_PX)


# Terms -------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What images hold: soft phase, whole and in cells, circles, how non-circular, how often they claim each cell."""

    phase: Tensor
    cells: Cells
    circles: Tensor
    confidence: Tensor
    non_circularity: Tensor
    claimed: Tensor

    @classmethod
    def of(cls, images: Tensor, material: Material) -> "_Found":
        smooth, gradient = smoothed(images, _smoothing_px(material.radius_px), material.polarity)
        phase = material.soft_phase(smooth)
        cells = Cells.of(phase, material.radius_px)
        circles, confidence = voted_circles(unit_gradient(gradient), material.radius_px)
        circles, confidence, non_circularity = fitted(circles, confidence, cells, material.radius_px)
        around = Around.of(circles, cells, material.radius_px[1])
        disc = torch.sigmoid(-signed_edge_distance_px(circles, around)[0] / edge_width_px(cells.side_px))
        claimed = around.summed(confidence[..., None, None] * disc)
        return cls(phase, cells, circles, confidence, non_circularity, claimed)


def _overlaps(circles: Tensor) -> Tensor:
    """Overlaps (B, K, K) of all pairs, 1 - d / (r1 + r2); negative for a gap."""
    radius = circles[..., 2]
    return 1 - centre_distances_px(circles) / (radius[:, :, None] + radius[:, None])


def _counts(found: _Found, shape: tuple[int, int]) -> Tensor:
    """How much each circle (B, K) counts: as sure as it is; centres near the border or outside count less."""
    centres, radius = found.circles[..., :2].detach(), found.circles[..., 2].detach()
    inset_px = torch.minimum(centres, centres.new_tensor(shape) - 1 - centres).amin(2)
    return found.confidence.detach() * (2 * inset_px / radius).clamp(0, 1)


def _overlap(found: _Found, counts: Tensor, tolerated: float) -> Tensor:
    """Sum over pairs of what they overlap beyond the tolerated, squared."""
    pairs = counts[:, :, None] * counts[:, None]
    excess = (_overlaps(found.circles) - tolerated).clamp_min(0)
    return (pairs * excess.square()).triu(1).sum((1, 2))


def _non_circularity(found: _Found, counts: Tensor, tolerated: float) -> Tensor:
    """Sum over discs of what they are non_circularity beyond the tolerated, squared."""
    excess = (found.non_circularity - tolerated).clamp_min(0)
    return (counts * excess.square()).sum(1)


def _discs_that_fill(found: _Found, counts: Tensor) -> Tensor:
    """How many discs as large as those of each image would fill it; infinitely many where there are none."""
    square_px = (counts * found.circles[..., 2].detach().square()).sum(1) / counts.sum(1).clamp_min(1e-3)
    return found.phase[0].numel() / (math.pi * square_px)


def _misfit(found: _Found, material: Material) -> tuple[Tensor, Tensor, Tensor]:
    """Mean square of phase in no circle, of circle without phase, and of area that circles claim twice."""
    misfit = _softened(found.cells.phase - found.claimed.clamp_max(1))
    uncovered_phase = (misfit - material.tolerated["uncovered_phase"]).clamp_min(0)
    empty_circle = (-misfit - material.tolerated["empty_circle"]).clamp_min(0)
    twice = (found.claimed - 1).clamp_min(0)
    uncovered_phase, empty_circle, twice = (
        part.square().mean((1, 2)) for part in (uncovered_phase, empty_circle, twice)
    )
    return uncovered_phase, empty_circle, twice


def _softened(maps: Tensor) -> Tensor:
    """Average maps (B, h, w) over 3 x 3 cells by 1 2 1: a rim a little too soft is bright beside dark."""
    maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = (maps[:, :-2] + 2 * maps[:, 1:-1] + maps[:, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def _intermediate_grey(phase: Tensor) -> Tensor:
    return (4 * phase * (1 - phase)).mean(1)


def _outside(fraction: Tensor, least: float, largest: float) -> Tensor:
    return ((least - fraction).clamp_min(0) + (fraction - largest).clamp_min(0)).square()
