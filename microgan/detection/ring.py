"""Detection of discs by the ring accumulator: candidates, a fit of all edges together, and a selection.

The maxima of the accumulator (`microgan.detection.hough`) are candidates. `microgan.detection.circle_fit`
moves them to their edges, `microgan.detection.circle_selection` selects those that are there. Doubtful
circles are tried a second time: elongated ones as two discs that overlap, those of an unusual radius as
bright flecks in a disc of the usual radius.
"""

import math
from dataclasses import dataclass, replace
from functools import reduce

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
    true_radius,
    usual_radius,
)
from microgan.detection.circle_selection import select
from microgan.detection.circles import Circles
from microgan.detection.detector import BAND_SLACK_PX, Detector, Polarity
from microgan.detection.hough import (
    GRADIENT_FLOOR,
    Lines,
    correlate,
    smoothed,
    unit_gradient,
    usual_edge_square,
)
from microgan.detection.peaks import (
    SEARCH_ABOVE_PX,
    SEARCH_BELOW_PX,
    along,
    greatest_around,
    search_margin_px,
    smallest_searched_px,
    vertex,
)
from microgan.detection.wide_band import Readings, is_wide, narrowed

# Distance of the accumulator's planes, as a fraction of their radius, within these limits: well below the
# width of rings, so that no disc falls between.
RADIUS_STEP, RADIUS_STEP_PX = 0.02, (0.6, 1.5)
PLANES_AT_ONCE = 16  # in memory; a multiple of PLANES_PER_GROUP
VOTE_SPACING_PX = 1.5  # between the accumulator's pixels in detection; the fit makes up for it
PLANES_PER_GROUP = 4  # candidates are the maxima of each group: a bright fleck must not mask its disc
USUAL_OVER_SMALLEST = 2.0  # radii, at most, where the band alone says what is usual
CANDIDATE_FRACTION = 2 / 3  # of the threshold: the fit raises the scores of true circles
LEAST_BEND, MOST_STEPS = 1e-9, 0.5  # see `peaks.vertex`: any bend counts, as the fit corrects the place
UNUSUAL_SPREADS, UNUSUAL = 2.5, 0.12  # off the usual radius, in spreads and as a fraction: tried again
MIN_ELONGATION = 0.12  # displacement of the edge over the usual radius: maybe two discs that overlap
MIN_STEEPNESS = 0.4  # edge gradient over the image's median, once neighbours are subtracted
FILL_QUANTILE = 0.08  # of the grey inside a circle, compared with the least fill
GREY_RANGE = (0.05, 0.95)  # quantiles of the grey values that are the dark and the bright end


def detect_ring(images: Tensor, detector: Detector) -> list[Circles]:
    """Find discs by the ring accumulator; parameters as of `microgan.detection.detect.detect`."""
    circles, smooth = _detected(images, detector)
    tables = per_image(circles, len(images))
    if not is_wide(detector.radius_px):
        return tables
    values, inside = inward(smooth.gradient, circles.image, circles.geometry)
    measured = torch.stack([circles.geometry[:, 2], _mean(values, inside), inside.float().mean((1, 2))])
    of_image, rows = circles.image.cpu().numpy(), measured.cpu().numpy()
    for index in range(len(images)):
        band = narrowed(detector.radius_px, Readings(*rows[:, of_image == index]))
        if band is not None:
            narrow = replace(detector, radius_px=band)
            tables[index] = per_image(_detected(images[index : index + 1], narrow)[0], 1)[0]
    return tables


def _detected(images: Tensor, detector: Detector) -> "tuple[BatchCircles, SmoothedImages]":
    """Find the discs of a batch in the band of the detector."""
    radius_px, sd_px, count = detector.radius_px, smoothing_px(detector), len(images)
    smooth = SmoothedImages.of(images, sd_px, detector.polarity)
    width_px = smooth.unit.new_full((count,), math.hypot(sd_px, 0.8))  # of edges, before it is measured
    wide = (radius_px[0] - SEARCH_BELOW_PX, radius_px[1] + 2 * SEARCH_ABOVE_PX)
    band = (radius_px[0] - BAND_SLACK_PX, radius_px[1] + BAND_SLACK_PX)

    # What is there, roughly; what neighbours explain goes.
    candidates = _candidates(smooth, detector, width_px)
    circles = _selected(candidates, smooth, wide, detector)
    circles, width_px = _refined(circles, smooth, width_px, rounds=2)

    # Doubtful circles are replaced: elongated ones by two, those of an unusual radius by usual ones.
    circles, elongated, width_px = _elongated_split(circles, smooth, width_px, radius_px[0])
    weak = _is_weak(circles, count)
    wrong, circles = elongated.joined(circles.where(weak)), circles.where(~weak)
    second = _with_usual_radius(circles, smooth, width_px).joined(_beside(candidates, wrong, count))
    circles = _selected(circles.joined(second), smooth, (wide[0], band[1]), detector)

    # Exactly, all together.
    circles, width_px = _refined(circles, smooth, width_px, rounds=6, overlapping=True)
    circles = circles.where(~_is_weak(circles, count))
    circles = replace(circles, geometry=true_radius(circles.geometry, circles.image, width_px))
    return _selected(circles, smooth, band, detector), smooth


def _mean(values: Tensor, inside: Tensor) -> Tensor:
    return (values * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


@dataclass(frozen=True)
class BatchCircles:
    """Circles of a batch of images.

    ``image`` (n,) which image of the batch; ``geometry`` (n, 3) row, col, radius; ``score`` (n,);
    ``elongation_px`` (n, 2) as in `microgan.detection.circle_fit.EdgeFit`, 0 where it is not measured.
    """

    image: Tensor
    geometry: Tensor
    score: Tensor
    elongation_px: Tensor

    @classmethod
    def of(cls, image: Tensor, geometry: Tensor, score: Tensor) -> "BatchCircles":
        return cls(image, geometry, score, torch.zeros_like(geometry[:, :2]))

    def where(self, keep: Tensor) -> "BatchCircles":
        return BatchCircles(self.image[keep], self.geometry[keep], self.score[keep], self.elongation_px[keep])

    def joined(self, more: "BatchCircles") -> "BatchCircles":
        names = ("image", "geometry", "score", "elongation_px")
        return BatchCircles(*(torch.cat([getattr(self, name), getattr(more, name)]) for name in names))


def smoothing_px(detector: Detector) -> float:
    """Smoothing before the gradient: small discs need their gaps, large ones bear more against noise."""
    return float(np.clip(detector.settings.smoothing * detector.radius_px[0], 0.7, 1.5))


def _grey_range(grey: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the dark and the bright end (B,) of the grey values of each image (B, 1, H, W).

    Constant patches do not count: a slice is often surrounded by black, which is no matrix.
    """
    varies = (gradient.square().sum(1) > GRADIENT_FLOOR**2).flatten(1).cpu().numpy()
    ends = np.zeros((2, len(grey)), np.float32)
    for index, values in enumerate(grey.flatten(1).cpu().numpy()):
        values = values[varies[index]]
        if len(values):
            at = [int(fraction * (len(values) - 1)) for fraction in GREY_RANGE]
            ends[:, index] = np.partition(values, at)[at]
    dark, bright = torch.from_numpy(ends).to(grey)
    return dark, bright


@dataclass(frozen=True)
class SmoothedImages:
    """Smoothed images, discs bright, with their gradients.

    ``grey`` (B, 1, H, W); ``gradient`` (B, 2, H, W) by row and col; ``unit`` (B, 2, H, W) the gradient
    divided by about its length; ``dark``, ``bright`` (B,) the ends of the range of grey values.
    """

    grey: Maps
    gradient: Maps
    unit: Tensor
    dark: Tensor
    bright: Tensor

    @classmethod
    def of(cls, images: Tensor, sd_px: float, polarity: Polarity) -> "SmoothedImages":
        grey, gradient = smoothed(images, sd_px, polarity)
        dark, bright = _grey_range(grey, gradient)
        return cls(
            Maps.of(grey),
            Maps.of(gradient),
            unit_gradient(gradient, usual_edge_square(gradient)),
            dark,
            bright,
        )

    def fill(self, circles: BatchCircles) -> Tensor:
        """Grey inside each circle, between the dark (0) and the bright (1) end of its image."""
        inside = interior(self.grey, circles.image, circles.geometry, FILL_QUANTILE)
        span = (self.bright - self.dark).clamp_min(1e-6)
        return (inside - self.dark[circles.image]) / span[circles.image]


def _candidates(smooth: SmoothedImages, detector: Detector, width_px: Tensor) -> BatchCircles:
    """Maxima of the accumulator, moved to their edges."""
    radii, settings = _searched_radii(detector.radius_px), detector.settings
    # Smaller rings need more votes, as their mean has more noise. The middle of a wide band says nothing.
    usual_px = min((radii[0] + radii[-1]) / 2, USUAL_OVER_SMALLEST * detector.radius_px[0])
    maxima = []
    for start in range(0, len(radii), PLANES_AT_ONCE):
        # A plane more on either side shows which maxima along the radius belong to other planes.
        first, last = max(start - 1, 0), min(start + PLANES_AT_ONCE, len(radii) - 1)
        planes = tuple(radii[first : last + 1])
        votes, lines = correlate(
            smooth.unit,
            planes,
            settings.ring_width_px,
            search_margin_px(detector.radius_px),
            spacing=VOTE_SPACING_PX,
            largest_px=radii[-1],
        )
        own = range(start - first, min(start + PLANES_AT_ONCE, len(radii)) - first)
        maxima.append(_maxima(votes, planes, own, lines, CANDIDATE_FRACTION * settings.threshold, usual_px))
    circles = reduce(BatchCircles.joined, maxima)
    fit = fit_circles(
        smooth.gradient,
        circles.image,
        circles.geometry,
        rounds=1,
        width_px=width_px,
        subtract_neighbours=False,
    )
    return replace(circles, geometry=fit.circles)


def _searched_radii(radius_px: tuple[float, float]) -> list[float]:
    """Radii of the accumulator's planes, further apart the larger they are."""
    radii = [smallest_searched_px(radius_px)]
    while radii[-1] < radius_px[1] + SEARCH_ABOVE_PX:
        radii.append(radii[-1] + float(np.clip(RADIUS_STEP * radii[-1], *RADIUS_STEP_PX)))
    return radii


def _refined(
    circles: BatchCircles, smooth: SmoothedImages, width_px: Tensor, rounds: int, overlapping: bool = False
) -> tuple[BatchCircles, Tensor]:
    """Fit all circles of each image together; scores are edge gradients. Also returns the edges' width."""
    fit = fit_circles(
        smooth.gradient,
        circles.image,
        circles.geometry,
        rounds=rounds,
        width_px=width_px,
        overlapping=overlapping,
    )
    return BatchCircles(circles.image, fit.circles, fit.edge_gradient, fit.elongation_px), fit.edge_width_px


def _is_weak(circles: BatchCircles, count: int) -> Tensor:
    """No edge of its own, once what the neighbours add is subtracted. The score is the edge gradient here."""
    usual = median_of_image(circles.score, circles.image, count)
    return circles.score <= MIN_STEEPNESS * usual[circles.image]


def _is_elongated(circles: BatchCircles, least_radius_px: float, count: int) -> Tensor:
    """Strongly overlapping discs make one maximum between them, and one large elongated edge."""
    radius = circles.geometry[:, 2]
    usual = median_of_image(radius, circles.image, count)[circles.image]
    large = radius * 0.75 > least_radius_px - BAND_SLACK_PX
    return large & (circles.elongation_px.norm(dim=1) > MIN_ELONGATION * usual)


def _elongated_split(
    circles: BatchCircles, smooth: SmoothedImages, width_px: Tensor, least_radius_px: float
) -> tuple[BatchCircles, BatchCircles, Tensor]:
    """Make two discs of each elongated one and fit anew in its image.

    Returns the circles of all images, the elongated ones that were split, and the width of the edges.
    """
    is_elongated = _is_elongated(circles, least_radius_px, len(width_px))
    elongated = circles.where(is_elongated)
    if not is_elongated.any():
        return circles, elongated, width_px
    affected = _has_circles(elongated, len(width_px))[circles.image]
    two = halves(elongated.geometry, elongated.elongation_px)
    split = BatchCircles.of(elongated.image.repeat(2), two, elongated.score.repeat(2))
    anew = circles.where(affected & ~is_elongated).joined(split)
    fitted, width_px = _refined(anew, smooth, width_px, rounds=2)
    return circles.where(~affected).joined(fitted), elongated, width_px


def _has_circles(circles: BatchCircles, count: int) -> Tensor:
    """Which images of the batch (count,) have a circle."""
    return torch.bincount(circles.image, minlength=count) > 0


def _beside(candidates: BatchCircles, wrong: BatchCircles, count: int) -> BatchCircles:
    """Candidates in the images that had wrong circles, but for those: they may have suppressed true ones."""
    candidates = candidates.where(_has_circles(wrong, count)[candidates.image])
    return candidates.where(~_resemble(candidates, wrong))


def _with_usual_radius(circles: BatchCircles, smooth: SmoothedImages, width_px: Tensor) -> BatchCircles:
    """Second readings of circles of an unusual radius: a bright fleck in a disc may have passed for it."""
    usual, spread = usual_radius(circles.geometry, circles.image, len(width_px))
    unusual = (circles.geometry[:, 2] - usual).abs() > torch.maximum(
        UNUSUAL_SPREADS * spread, UNUSUAL * usual
    )
    again = circles.where(unusual)
    start = torch.cat([again.geometry[:, :2], usual[unusual, None]], 1)
    fit = fit_circles(
        smooth.gradient, again.image, start, rounds=3, width_px=width_px, subtract_neighbours=False
    )
    return replace(again, geometry=fit.circles)


def _resemble(circles: BatchCircles, models: BatchCircles) -> Tensor:
    """Which circles are readings of much the same place and size as one of the models."""
    apart = torch.cdist(circles.geometry[:, :2], models.geometry[:, :2])
    like = apart < 0.3 * models.geometry[:, 2]
    like &= circles.geometry[:, 2, None] > 0.8 * models.geometry[:, 2]
    return (like & (circles.image[:, None] == models.image)).any(1)


def _maxima(
    votes: Tensor,
    radii_px: tuple[float, ...],
    own: range,
    lines: tuple[Lines, Lines],
    threshold: float,
    usual_px: float,
) -> BatchCircles:
    """List the local maxima of the accumulator's own planes, refined by parabolas in radius, row and col."""
    # The noise of a ring's mean falls with its length: weigh by the root, so that planes compare.
    radii = votes.new_tensor(radii_px)
    weight = radii.sqrt()
    fair = (radii / usual_px).sqrt().clamp_max(1.0)
    parts = []
    for start in own[::PLANES_PER_GROUP]:
        group = slice(start, min(start + PLANES_PER_GROUP, own.stop))
        best, plane = (votes[:, group] * weight[group, None, None]).max(1)
        around = greatest_around(functional.pad(best, (1, 1, 1, 1), value=-math.inf))  # the ends count too
        image, row, col = torch.nonzero(best == around, as_tuple=True)
        plane = start + plane[image, row, col]
        is_clear = votes[image, plane, row, col] * fair[plane] > threshold
        parts.append(torch.stack([image, plane, row, col])[:, is_clear])
    image, plane, row, col = torch.cat(parts, 1)
    at = (plane, (plane - 1).clamp_min(0), (plane + 1).clamp_max(len(radii) - 1))
    middle, below, above = (votes[image, near, row, col] * weight[near] for near in at)
    # A true maximum along the radius, not the flank of one in the next group.
    true = (middle >= below) & (middle >= above)
    image, plane, row, col = (part[true] for part in (image, plane, row, col))
    offsets = [
        vertex(*along(votes, axis, image, plane, row, col), LEAST_BEND, MOST_STEPS) for axis in (1, 2, 3)
    ]
    step_px = (radii[1:] - radii[:-1])[plane.clamp_max(len(radii) - 2)]
    circles = torch.stack(
        [
            lines[0].first_px + (row + offsets[1]) * lines[0].pitch_px,
            lines[1].first_px + (col + offsets[2]) * lines[1].pitch_px,
            radii[plane] + step_px * offsets[0],
        ],
        1,
    )
    return BatchCircles.of(image, circles, votes[image, plane, row, col])


def _selected(
    circles: BatchCircles, smooth: SmoothedImages, band_px: tuple[float, float], detector: Detector
) -> BatchCircles:
    """Keep circles in the band that are bright inside, then those that `select` accepts, with its scores."""
    settings, radius = detector.settings, circles.geometry[:, 2]
    filled = smooth.fill(circles) >= settings.min_fill  # not the dark gap between discs
    circles = circles.where((radius > band_px[0]) & (radius < band_px[1]) & filled)
    values, inside = inward(Maps.of(smooth.unit), circles.image, circles.geometry)
    selected, score = select(
        circles.image,
        circles.geometry,
        values[:, 0],
        inside[:, 0],
        settings.threshold,
        settings.min_separation,
    )
    return replace(circles, score=score).where(selected)


def per_image(circles: BatchCircles, count: int) -> list[Circles]:
    """Return the circles of each image by falling score, scores limited to [0, 1]."""
    table = torch.cat([circles.geometry, circles.score[:, None]], 1).double().cpu().numpy()
    table[:, 3] = np.clip(table[:, 3], 0, 1)
    order = np.argsort(-table[:, 3], kind="stable")
    table, image = table[order], circles.image.cpu().numpy()[order]
    return [Circles.from_table(table[image == index]) for index in range(count)]
