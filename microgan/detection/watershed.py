"""Discs by threshold, distance transform and watershed: an independent check of the ring detector.

A threshold separates the phases. Peaks of the distance transform are seeds, the watershed gives each its
region, and a circle is fitted to the part of the region's outline where it borders on matrix: neither the
image's border nor a neighbour in contact makes the disc smaller. Coordinates are (row, col) in pixels, pixel
centres at integers.
"""

import math

import cv2
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import find_contours
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import expand_labels, watershed
from torch import Tensor

from microgan.detection.circles import Circles
from microgan.detection.detector import BAND_SLACK_PX, Detector, Polarity
from microgan.detection.hough import GRADIENT_FLOOR

SCALE = 2  # magnification: the distance transform knows whole pixels only
LEAST_CONTRAST = 0.01  # range of the smoothed grey on [-1, 1] below which an image is blank
PATCH_PX = 9  # least side of a constant patch; its edge is half as wide
PURE = 0.25  # quantile of the grey on either side of Otsu's threshold that stands for the phase there
# Seeds are sought above the threshold by this fraction of the way to the discs, so that necks break: more in
# small discs, whose necks the blur fills; of larger ones, it would break out dark middles.
CORE, MOST_CORE, CORE_RADIUS_PX = 0.3, 0.6, 4.0
OUTLIER_PX = 0.8  # outline further from the circle is a neck to a neighbour
GOOD_FIT = 0.5  # least score of a fitted circle; below, the outline was torn and the region itself counts
LEAST_ARC = 0.25  # fraction of a circle with outline, below which nothing can be fitted to it
# Of the smallest disc's area. Smaller holes are filled: they are noise or a fibre's own core. Smaller hollows
# within the discs are filled before seeds are sought. Smaller patches are dropped.
HOLE_FRACTION, HOLLOW_FRACTION, PATCH_FRACTION = 0.04, 0.1, 0.25


def detect_watershed(images: Tensor, detector: Detector) -> list[Circles]:
    """Find discs by watershed; parameters as of `microgan.detection.detect.detect`."""
    tables = [
        watershed_circles(image, detector.radius_px, detector.polarity, threshold=detector.settings.threshold)
        for image in images[:, 0].cpu().numpy()
    ]
    return [Circles.from_table(table) for table in tables]


def watershed_circles(
    image: np.ndarray,
    radius_px: tuple[float, float],
    polarity: Polarity = "bright",
    *,
    smoothing_px: float = 0.9,
    depth: float = 0.05,
    threshold: float = 0.3,
) -> np.ndarray:
    """Find the discs of one image by watershed.

    Parameters
    ----------
    image : ndarray of shape (H, W)
        Grey values in [-1, 1].
    radius_px : (smallest, largest)
    polarity : {"bright", "dark"}
    smoothing_px : float
        Standard deviation of the Gaussian before the threshold.
    depth : float
        A peak of the distance transform is a disc of its own if the saddle to a higher one lies this fraction
        lower. Two equal discs at the relative overlap v have a saddle 1 - sqrt(v (2 - v)) lower.
    threshold : float
        Least score of a disc.

    Returns
    -------
    ndarray of shape (n, 4)
        Row, col, radius in pixels, and score: 1 if the disc's region and its circle are the same, 0 if half
        of what they cover together is common to both.
        Ordered by falling score.

    References
    ----------
    .. [1] S. Beucher, C. Lantuejoul, "Use of watersheds in contour detection", International Workshop on
       Image Processing, Rennes, 1979.
    .. [2] N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems,
       Man, and Cybernetics 9 (1979) 62-66.

    Examples
    --------
    >>> row, col = np.mgrid[:32, :32]
    >>> image = np.clip(6.0 - np.hypot(row - 15, col - 18), -0.5, 0.5)
    >>> watershed_circles(image, (4, 8), smoothing_px=0.5)[:, :3].round().tolist()
    [[15.0, 18.0, 6.0]]
    """
    grey = ndimage.gaussian_filter((-image if polarity == "dark" else image).astype(float), smoothing_px)
    if np.ptp(grey) < LEAST_CONTRAST:
        return np.zeros((0, 4))
    level, bright = _phase_levels(grey)
    # Pixel p of the image is at SCALE (p + 1/2) - 1/2 in the magnified one.
    large = cv2.resize(grey, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    phase, core = _phase_and_core(large, level, bright, radius_px[0])
    regions = _regions(phase, core, depth)
    if not regions.any():
        return np.zeros((0, 4))
    table = _circles(large, level, phase, regions)
    table[:, :2] = (table[:, :2] + 0.5) / SCALE - 0.5
    table[:, 2] /= SCALE
    in_band = (table[:, 2] > radius_px[0] - BAND_SLACK_PX) & (table[:, 2] < radius_px[1] + BAND_SLACK_PX)
    table = table[in_band & (table[:, 3] >= threshold)]
    return table[np.argsort(-table[:, 3], kind="stable")]


def _phase_levels(grey: np.ndarray) -> tuple[float, np.floating]:
    """Return the grey halfway between the phases, where a blurred edge is, and the grey of the discs.

    Many pixels are edges: the grey of a phase is that of the pixels far from Otsu's threshold. Constant
    patches do not count: the black around a slice would be one phase, and the whole slice the other.
    """
    varies = np.hypot(*np.gradient(grey)) > GRADIENT_FLOOR
    # The edge of such a patch does not count either, unless most edges are: those of drawn discs.
    patches = ndimage.minimum_filter(~varies, PATCH_PX)
    away = varies & ~ndimage.maximum_filter(patches, 2 * PATCH_PX)
    counts = away if 2 * away.sum() > varies.sum() else varies
    grey = grey[counts] if counts.any() else grey
    split = threshold_otsu(grey)
    dark, bright = np.quantile(grey[grey <= split], PURE), np.quantile(grey[grey > split], 1 - PURE)
    return float(dark + bright) / 2, bright


def _phase_and_core(
    large: np.ndarray, level: float, bright: np.floating, least_radius_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the magnified image is disc phase, and the part of it in which seeds are sought."""
    least_px = math.pi * (SCALE * least_radius_px) ** 2
    phase = _without_small(large <= level, HOLE_FRACTION * least_px)
    phase = _without_small(~phase, PATCH_FRACTION * least_px)
    fraction = min(CORE * max(1, CORE_RADIUS_PX / least_radius_px) ** 1.5, MOST_CORE)
    core = phase & (large > level + fraction * (bright - level))
    return phase, _without_hollows(core, phase, HOLLOW_FRACTION * least_px)


def _without_small(mask: np.ndarray, least_px: float) -> np.ndarray:
    """Drop patches of fewer than ``least_px`` pixels."""
    patches, _ = ndimage.label(mask)
    return mask & (np.bincount(patches.ravel()) >= least_px)[patches]


def _without_hollows(core: np.ndarray, phase: np.ndarray, least_px: float) -> np.ndarray:
    """Fill small holes of ``core`` in which there is no matrix: a darker middle makes no ring of a disc."""
    patches, count = ndimage.label(~core)
    no_matrix = np.bincount(patches[~phase], minlength=count + 1) == 0
    return core | (no_matrix & (np.bincount(patches.ravel()) < least_px))[patches]


def _regions(phase: np.ndarray, core: np.ndarray, depth: float) -> np.ndarray:
    """Label the watershed regions of the disc phase, (H, W), 0 in the matrix."""
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(core), SCALE / 2)
    # In the logarithm, an equal depth means an equal fraction of the radius, for small discs and large.
    height = np.log(distance + 1)
    peaks = local_maxima(reconstruction(height - depth, height))
    seeds, _ = ndimage.label(peaks & phase, np.ones((3, 3)))
    return watershed(-height, seeds, mask=phase)


def _circles(grey: np.ndarray, level: float, phase: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Fit a circle to each region, (n, 4); where that fails, it gets the region's area and centroid."""
    # Holes that were filled have no outline.
    outline = np.concatenate(find_contours(np.where(phase, np.maximum(grey, level), grey), level))
    owner = expand_labels(regions, 2)[tuple(outline.round().astype(int).T)]
    rows = []
    for index, box in enumerate(ndimage.find_objects(regions), start=1):
        inside = np.argwhere(regions[box] == index) + np.array([box[0].start, box[1].start])
        circle = _fitted(outline[owner == index])
        if circle is None or _score(circle, inside, phase.shape) < GOOD_FIT:
            circle = np.array([*inside.mean(0), math.sqrt(len(inside) / math.pi)])
        rows.append([*circle, _score(circle, inside, phase.shape)])
    return np.array(rows).reshape(-1, 4)


def _fitted(points: np.ndarray) -> np.ndarray | None:
    """Fit a circle to points (n, 2) by least squares, leaving out those far off; None if they are too few."""
    for _ in range(3):
        if len(points) < 6:
            return None
        # |p|^2 = 2 p . c + (r^2 - |c|^2), about the points' mean (I. Kasa, 1976)
        middle = points.mean(0)
        offset = points - middle
        square = (offset**2).sum(1)
        (row, col, rest), *_ = np.linalg.lstsq(np.column_stack([2 * offset, np.ones(len(offset))]), square)
        circle = np.array([middle[0] + row, middle[1] + col, math.sqrt(max(rest + row**2 + col**2, 0))])
        residual = np.abs(np.hypot(*(points - circle[:2]).T) - circle[2])
        near = points[residual <= max(OUTLIER_PX * SCALE, np.median(residual))]
        if len(near) == len(points):
            break
        points = near
    angle = np.arctan2(*(points - circle[:2]).T)
    arc = len(np.unique(((angle + math.pi) / (2 * math.pi) * 36).astype(int))) / 36
    return circle if arc >= LEAST_ARC else None


def _score(circle: np.ndarray, inside: np.ndarray, shape: tuple[int, ...]) -> float:
    """Twice the area common to a circle and its region over that of both together, less 1; in the image."""
    row, col, radius = circle
    rows = np.arange(max(math.floor(row - radius), 0), min(math.ceil(row + radius) + 1, shape[0]))
    cols = np.arange(max(math.floor(col - radius), 0), min(math.ceil(col + radius) + 1, shape[1]))
    disc = int(((rows[:, None] - row) ** 2 + (cols - col) ** 2 < radius**2).sum())
    common = int((((inside - [row, col]) ** 2).sum(1) < radius**2).sum())
    return max(2 * common / max(disc + len(inside) - common, 1) - 1, 0.0)
