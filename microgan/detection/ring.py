"""Detection of discs by the ring accumulator: candidates, rims fitted together, and what proves itself.

The maxima of the accumulator (`microgan.detection.hough`) are candidates; `microgan.detection.circle_fit` moves them to their
rims and chooses those that are there. What comes out wrong is looked at a second time: ovals as two discs
that overlap, circles of an unusual radius as flecks in a disc.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from microgan.detection.circle_fit import (
    Maps,
    fit_circles,
    halves,
    interior,
    inward,
    median_of_image,
    select,
    true_radius,
    usual_radius,
)
from microgan.detection.circles import Circles, DetectorConfig, Polarity
from microgan.detection.hough import correlate, smoothed, unit_gradient

RADIUS_STEP_PX = 0.6  # of the accumulator's planes; well below the ring width
RADIUS_SLACK_PX = 0.5  # the ends of the radius band are soft by this much
# Noise and touching neighbours pull the accumulator's maximum to smaller radii; the fit undoes it.
SEARCH_BELOW_PX, SEARCH_ABOVE_PX = 1.5, 1.0
VOTE_SPACING_PX = 1.5  # between the accumulator's pixels in detection; the fit makes up for it
PLANES_PER_GROUP = 4  # candidates are the maxima of each group: a bright fleck must not mask its disc
CANDIDATE_FRACTION = 2 / 3  # of the threshold: the fit raises true circles
UNUSUAL_SPREADS, UNUSUAL = 2.5, 0.12  # in spreads of the radius and of itself: looked at again
MIN_OVAL = 0.12  # displacement of the rim over the usual radius: maybe two discs that overlap
MIN_EDGE = 0.4  # rim gradient over the image's median, once neighbours are subtracted
FILL_QUANTILE = 0.08  # of the grey inside a circle, which the interior test looks at
RANGE_VALUES = 1 << 12  # grey values of an image on which its range rests


def detect_ring(
    images: Tensor, radius_px: tuple[float, float], polarity: Polarity, config: DetectorConfig
) -> list[Circles]:
    """Find discs by the ring accumulator; parameters as of `microgan.detection.detect.detect`."""
    sd_px, count = smoothing_px(radius_px, config), len(images)
    fields = Fields.of(images, sd_px, polarity)
    width_px = fields.unit.new_full((count,), math.hypot(sd_px, 0.8))  # of rims, before it is measured
    wide = (radius_px[0] - SEARCH_BELOW_PX, radius_px[1] + 2 * SEARCH_ABOVE_PX)
    band = (radius_px[0] - RADIUS_SLACK_PX, radius_px[1] + RADIUS_SLACK_PX)

    # What is there, roughly; what the neighbours explain goes.
    candidates = _candidates(fields, radius_px, width_px, config)
    found = _choose(candidates, fields, wide, config)
    found, width_px = _refined(found, fields, width_px, rounds=2)

    # What looks wrong becomes something else: ovals two discs, circles of an unusual radius usual ones.
    found, ovals, width_px = _ovals_split(found, fields, width_px, radius_px[0])
    weak = _is_weak(found, count)
    wrong, found = ovals.joined(found.where(weak)), found.where(~weak)
    others = _with_usual_radius(found, fields, width_px).joined(_beside(candidates, wrong, count))
    found = _choose(found.joined(others), fields, (wide[0], band[1]), config)

    # Exactly, all together.
    found, width_px = _refined(found, fields, width_px, rounds=6, overlapping=True)
    found = found.where(~_is_weak(found, count))
    found = replace(found, circles=true_radius(found.circles, found.image, width_px))
    return per_image(_choose(found, fields, band, config), count)


@dataclass(frozen=True)
class Found:
    """Circles (n, 3) of a batch, the ``image`` (n,) of each, its score (n,) and ``oval_px`` (n, 2)."""

    image: Tensor
    circles: Tensor
    score: Tensor
    oval_px: Tensor

    def where(self, keep: Tensor) -> "Found":
        return Found(self.image[keep], self.circles[keep], self.score[keep], self.oval_px[keep])

    def joined(self, other: "Found") -> "Found":
        parts = [
            (getattr(self, name), getattr(other, name)) for name in ("image", "circles", "score", "oval_px")
        ]
        return Found(*(torch.cat(part) for part in parts))


def smoothing_px(radius_px: tuple[float, float], config: DetectorConfig) -> float:
    """Smoothing before the gradient: small discs need their gaps, large ones bear more against noise."""
    return float(np.clip(config.smoothing * radius_px[0], 0.7, 1.5))


@dataclass(frozen=True)
class Fields:
    """What is read from images: smoothed grey (B, 1, H, W), gradients (B, 2, H, W), grey range (B,)."""

    grey: Maps
    gradient: Maps
    unit: Tensor
    dark: Tensor
    bright: Tensor

    @classmethod
    def of(cls, images: Tensor, sd_px: float, polarity: Polarity) -> "Fields":
        grey, gradient = smoothed(images, sd_px, polarity)
        flat = grey.flatten(1)
        flat = flat[:, :: flat.shape[1] // RANGE_VALUES + 1]
        dark, bright = torch.quantile(flat, flat.new_tensor([0.05, 0.95]), dim=1)
        return cls(Maps.of(grey), Maps.of(gradient), unit_gradient(gradient), dark, bright)

    def fill(self, found: Found) -> Tensor:
        """Grey inside each circle, between the dark (0) and the bright (1) end of its image."""
        inside = interior(self.grey, found.image, found.circles, FILL_QUANTILE)
        span = (self.bright - self.dark).clamp_min(1e-6)
        return (inside - self.dark[found.image]) / span[found.image]


def _candidates(
    fields: Fields, radius_px: tuple[float, float], width_px: Tensor, config: DetectorConfig
) -> Found:
    """Maxima of the accumulator, moved to their rims."""
    lowest = max(radius_px[0] - SEARCH_BELOW_PX, 1.2)
    radii = tuple(np.arange(lowest, radius_px[1] + SEARCH_ABOVE_PX + RADIUS_STEP_PX, RADIUS_STEP_PX).tolist())
    margin_px = math.ceil(0.6 * radius_px[1])  # further out, less than MIN_COVERAGE of the ring is visible
    votes, pitch_px = correlate(fields.unit, radii, config.ring_width_px, margin_px, spacing=VOTE_SPACING_PX)
    found = _maxima(votes, radii, pitch_px, margin_px, CANDIDATE_FRACTION * config.threshold)
    rims = fit_circles(
        fields.gradient, found.image, found.circles, rounds=1, width_px=width_px, explain=False
    )
    return replace(found, circles=rims.circles)


def _refined(
    found: Found, fields: Fields, width_px: Tensor, rounds: int, overlapping: bool = False
) -> tuple[Found, Tensor]:
    """Fit all circles of each image together; also returns the width of the rims."""
    rims = fit_circles(
        fields.gradient, found.image, found.circles, rounds=rounds, width_px=width_px, overlapping=overlapping
    )
    return Found(found.image, rims.circles, rims.edge, rims.oval_px), rims.width_px


def _is_weak(found: Found, count: int) -> Tensor:
    """No rim of its own, once what the neighbours add is subtracted. The score is the rim's gradient here."""
    usual = median_of_image(found.score, found.image, count)
    return found.score <= MIN_EDGE * usual[found.image]


def _is_oval(found: Found, least_radius_px: float, count: int) -> Tensor:
    """Strongly overlapping discs make one maximum between them, and one large oval rim."""
    radius = found.circles[:, 2]
    usual = median_of_image(radius, found.image, count)[found.image]
    large = radius * 0.75 > least_radius_px - RADIUS_SLACK_PX
    return large & (found.oval_px.norm(dim=1) > MIN_OVAL * usual)


def _ovals_split(
    found: Found, fields: Fields, width_px: Tensor, least_radius_px: float
) -> tuple[Found, Found, Tensor]:
    """Make two discs of each oval and fit anew in its image; also returns the ovals, and the rims' width."""
    oval = _is_oval(found, least_radius_px, len(width_px))
    ovals = found.where(oval)
    if not oval.any():
        return found, ovals, width_px
    here = _holds(ovals, len(width_px))[found.image]
    two = halves(ovals.circles, ovals.oval_px)
    split = Found(ovals.image.repeat(2), two, ovals.score.repeat(2), torch.zeros_like(two[:, :2]))
    fitted, width_px = _refined(found.where(here & ~oval).joined(split), fields, width_px, rounds=2)
    return found.where(~here).joined(fitted), ovals, width_px


def _holds(found: Found, count: int) -> Tensor:
    """Which images of the batch (count,) have a circle in ``found``."""
    return torch.bincount(found.image, minlength=count) > 0


def _beside(candidates: Found, wrong: Found, count: int) -> Found:
    """Candidates in the images in which something proved wrong, but for that: it had swallowed others."""
    candidates = candidates.where(_holds(wrong, count)[candidates.image])
    return candidates.where(~_resemble(candidates, wrong))


def _with_usual_radius(found: Found, fields: Fields, width_px: Tensor) -> Found:
    """Second readings of circles of an unusual radius: a bright fleck in a disc may have passed for it."""
    usual, spread = usual_radius(found.circles, found.image, len(width_px))
    unusual = (found.circles[:, 2] - usual).abs() > torch.maximum(UNUSUAL_SPREADS * spread, UNUSUAL * usual)
    again = found.where(unusual)
    start = torch.cat([again.circles[:, :2], usual[unusual, None]], 1)
    rims = fit_circles(fields.gradient, again.image, start, rounds=3, width_px=width_px, explain=False)
    return replace(again, circles=rims.circles)


def _resemble(found: Found, others: Found) -> Tensor:
    """Which circles are readings of much the same place and size as one of the others."""
    apart = torch.cdist(found.circles[:, :2], others.circles[:, :2])
    like = (apart < 0.3 * others.circles[:, 2]) & (found.circles[:, 2, None] > 0.8 * others.circles[:, 2])
    return (like & (found.image[:, None] == others.image)).any(1)


def _maxima(
    votes: Tensor,
    radii_px: tuple[float, ...],
    pitch_px: tuple[float, float],
    margin_px: int,
    threshold: float,
) -> Found:
    """List the local maxima of the accumulator, refined by parabolas in radius, row and col."""
    # The noise of a ring's mean falls with its length: weigh by the root, so that planes compare.
    radii = votes.new_tensor(radii_px)
    weight = (radii / radii.mean()).sqrt()
    votes = votes * weight[:, None, None]
    parts = []
    for start in range(0, len(radii), PLANES_PER_GROUP):
        best, plane = votes[:, start : start + PLANES_PER_GROUP].max(1)
        peak = (best == _greatest_around(best)) & (best > threshold)
        image, row, col = torch.nonzero(peak, as_tuple=True)
        parts.append(torch.stack([image, start + plane[image, row, col], row, col]))
    image, plane, row, col = torch.cat(parts, 1)
    middle, below, above = _along(votes, 1, image, plane, row, col)
    # A true maximum along the radius, not the flank of one in the next group.
    true = (middle >= below) & (middle >= above)
    image, plane, row, col = (part[true] for part in (image, plane, row, col))
    offsets = [_vertex(*_along(votes, axis, image, plane, row, col)) for axis in (1, 2, 3)]
    step_px = radii_px[1] - radii_px[0]
    circles = torch.stack(
        [
            (row + offsets[1]) * pitch_px[0] - margin_px,
            (col + offsets[2]) * pitch_px[1] - margin_px,
            radii[plane] + step_px * offsets[0],
        ],
        1,
    )
    return Found(image, circles, middle[true] / weight[plane], torch.zeros_like(circles[:, :2]))


def _greatest_around(maps: Tensor) -> Tensor:
    """Maximum over 3x3 pixels; shifted maxima are ten times as fast as `max_pool2d` on a CPU."""
    maps = functional.pad(maps, (1, 1, 1, 1), value=-math.inf)
    rows = torch.maximum(torch.maximum(maps[..., :-2, :], maps[..., 1:-1, :]), maps[..., 2:, :])
    return torch.maximum(torch.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def _along(votes: Tensor, axis: int, *index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Votes at the index, one before and one after it along ``axis`` (the same at the ends)."""
    before, after = list(index), list(index)
    before[axis] = (index[axis] - 1).clamp_min(0)
    after[axis] = (index[axis] + 1).clamp_max(votes.shape[axis] - 1)
    return votes[tuple(index)], votes[tuple(before)], votes[tuple(after)]


def _vertex(middle: Tensor, below: Tensor, above: Tensor) -> Tensor:
    bend = (2 * middle - below - above).clamp_min(1e-9)
    return (0.5 * (above - below) / bend).clamp(-0.5, 0.5)


def _choose(found: Found, fields: Fields, radius_px: tuple[float, float], config: DetectorConfig) -> Found:
    """Keep circles in the band that are bright inside, then those that `select` finds to be there."""
    radius = found.circles[:, 2]
    filled = fields.fill(found) >= config.min_fill  # not the dark gap between discs
    found = found.where((radius > radius_px[0]) & (radius < radius_px[1]) & filled)
    values, inside = inward(Maps.of(fields.unit), found.image, found.circles)
    chosen, score = select(
        found.image, found.circles, values[:, 0], inside[:, 0], config.threshold, config.min_separation
    )
    return replace(found, score=score).where(chosen)


def per_image(found: Found, count: int) -> list[Circles]:
    table = torch.cat([found.circles, found.score[:, None]], 1).double().cpu().numpy()
    table[:, 3] = np.clip(table[:, 3], 0, 1)
    order = np.argsort(-table[:, 3], kind="stable")
    table, image = table[order], found.image.cpu().numpy()[order]
    return [Circles.from_table(table[image == index]) for index in range(count)]
