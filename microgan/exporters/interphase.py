"""An interphase: a layer of constant thickness around each disc, as a third phase."""

import math
from collections.abc import Iterable

import numpy as np
from scipy.spatial import cKDTree

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.exporters.rendering import render_phase, visible_discs
from microgan.exporters.structure import DISCS, INTERPHASE
from microgan.statistics.point_patterns import Discs

LEAST_VOXELS = 2  # across the layer, for voxels to show it


def render_with_interphase(
    circles: Discs, domain: Domain, refinement: int, interphase_px: float
) -> np.ndarray:
    """Draw discs and a layer of ``interphase_px`` around them, in pixels of the image.

    Parameters
    ----------
    circles, domain, refinement
        As in `microgan.exporters.rendering.render_phase`.
    interphase_px
        Thickness of the layer; 0: none.

    Returns
    -------
    ndarray of shape (rows * refinement, cols * refinement)
        Phase ids, uint8.

    Examples
    --------
    >>> disc = Circles.from_table([[2.0, 2.0, 0.5]])
    >>> render_with_interphase(disc, Domain((5, 5)), 1, 1.0)[1:4, 1:4]
    array([[2, 2, 2],
           [2, 1, 2],
           [2, 2, 2]], dtype=uint8)
    """
    discs = render_phase(circles, domain, refinement)
    if not interphase_px:
        return discs.astype(np.uint8)
    around = render_phase(_grown(circles, interphase_px), domain, refinement)
    return np.where(discs, np.uint8(DISCS), np.where(around, np.uint8(INTERPHASE), np.uint8(0)))


def must_resolve(interphase_um: float, voxel_size_um: float, refinement: int) -> None:
    """Refuse voxels of which fewer than two lie across the layer; of an image's pixel, and its refinement.

    Raises
    ------
    UserError
        Names the refinement that would do.
    """
    across = interphase_um / voxel_size_um * refinement
    if across < LEAST_VOXELS * (1 - 1e-9):
        needed = math.ceil(LEAST_VOXELS * voxel_size_um / interphase_um * (1 - 1e-9))
        rule = f"has {across:.2g} voxels across it, must have {LEAST_VOXELS}: needs refinement {needed}"
        raise UserError("export.interphase_um", interphase_um, rule)


def must_fit_between(
    structures: Iterable[tuple[str, Discs]], domain: Domain, interphase_um: float, voxel_size_um: float
) -> None:
    """Refuse a layer thicker than half the smallest gap of two discs: layers would overlap.

    Parameters
    ----------
    structures
        Name and circles of each, in pixels.
    domain
        Size of the images, and whether opposite borders fit together.
    interphase_um
        Thickness of the layer.
    voxel_size_um
        Side of a pixel.

    Raises
    ------
    UserError
        Names the two discs, and the largest thickness.
    """
    for name, circles in structures:
        gap_px, first, second = smallest_gap(circles, domain, 2 * interphase_um / voxel_size_um)
        if gap_px < 2 * interphase_um / voxel_size_um * (1 - 1e-9):
            places = " and ".join(f"({row:.1f}, {col:.1f})" for row, col in (first, second))
            half_um = gap_px * voxel_size_um / 2
            if half_um > 0:
                rule = (
                    f"must be at most {half_um:.3g}, half of the smallest gap between discs, which {name} has"
                )
            else:
                rule = f"needs a gap between all discs, and in {name} there is none between those"
            rule += f" at {places}"
            raise UserError("export.interphase_um", interphase_um, rule)


def smallest_gap(
    circles: Discs, domain: Domain, reach_px: float
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """Return the smallest gap of two discs and their centres; infinite where none is below ``reach_px``.

    In a periodic domain also those across the borders count.
    """
    visible = visible_discs(_grown(circles, reach_px), domain) - [0.0, 0.0, reach_px]
    nowhere = (math.nan, math.nan)
    if len(visible) < 2:
        return math.inf, nowhere, nowhere
    centres, radii = visible[:, :2], visible[:, 2]
    pairs = cKDTree(centres).query_pairs(2 * radii.max() + reach_px, output_type="ndarray")
    if not len(pairs):
        return math.inf, nowhere, nowhere
    gaps = np.hypot(*(centres[pairs[:, 0]] - centres[pairs[:, 1]]).T) - radii[pairs].sum(axis=1)
    first, second = pairs[gaps.argmin()]
    return float(gaps.min()), tuple(centres[first].tolist()), tuple(centres[second].tolist())


def _grown(circles: Discs, by_px: float) -> Discs:
    radius = np.asarray(circles.radius_px) + by_px
    return Circles.from_table(np.stack([circles.row, circles.col, radius], axis=1))
