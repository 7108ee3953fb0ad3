"""Statistics of circles: how large discs are, and how their centres are arranged.

Each takes the circles of N images and the rows and columns of an image, and has a variant for windows cut out
of something larger and one for periodic cells. Lengths are in pixels; pixel centres are at integers, so a
window of H rows reaches from -0.5 to H - 0.5. Results are kept image by image (see
`microgan.statistics.estimators`).

A window cuts off large things more often than small ones. Therefore whatever lies wholly inside, such as a
pair or a cell, counts 1 / (area of the places where it would): Horvitz and Thompson's estimator, which
has no bias (Baddeley, Rubak and Turner, Spatial Point Patterns, CRC 2015, chapter 7).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.spatial import QhullError, Voronoi, cKDTree

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.periodic import wrapped
from microgan.detection.circles import border_distance_px
from microgan.statistics.estimators import Curve, Distribution


class Discs(Protocol):
    """Circles of one image, such as `microgan.detection.circles.Circles`: arrays (n,) in pixels."""

    @property
    def row(self) -> np.ndarray: ...

    @property
    def col(self) -> np.ndarray: ...

    @property
    def radius_px(self) -> np.ndarray: ...


# One disc ----------------------------------------------------------------------------------------------


def radius_distribution(circles: Sequence[Discs], shape: tuple[int, int], margin_px: float) -> Distribution:
    """Collect the radii of discs whose centre is at least ``margin_px`` inside the border.

    With a margin of the largest radius all these discs are whole, and each counts, whatever its size:
    taking whole discs instead would favour small ones (minus sampling: Chiu, Stoyan, Kendall and Mecke,
    Stochastic Geometry and its Applications, 3rd ed., Wiley 2013).

    Parameters
    ----------
    circles
        The circles of each image.
    shape
        Rows and columns of an image.
    margin_px
        Margin in pixels; 0 in a periodic cell.
    """
    radii = [np.asarray(discs.radius_px)[_border_distance(discs, shape) >= margin_px] for discs in circles]
    return Distribution.of_images((values, np.ones(len(values))) for values in radii)


# The nearest neighbour ---------------------------------------------------------------------------------


def nearest_neighbour_distribution(circles: Sequence[Discs], domain: Domain) -> Distribution:
    """Collect the distances from each disc's centre to the nearest other centre.

    In a window a distance d is certain only if the border is not nearer than d. Such discs alone would favour
    short distances, therefore each one is weighted by 1 / (area where its centre might have been).

    Parameters
    ----------
    circles
        The circles of each image; centres beyond the border may be given and serve as neighbours.
    domain
        Size of the images, and whether their opposite borders fit together.

    References
    ----------
    K.-H. Hanisch, Some remarks on estimators of the distribution function of nearest neighbour distance in
    stationary spatial point processes, Statistics 15 (1984) 409-412.
    """
    nearest = [_nearest(discs, domain) for discs in circles]
    return Distribution.of_images((np.hypot(*offset.T), weights) for offset, weights in nearest)


def nearest_neighbour_angle(circles: Sequence[Discs], domain: Domain) -> Distribution:
    """Collect the directions in which the nearest other centre lies, in degrees from 0 to below 180.

    0 is along a row, 90 along a column, 45 towards larger rows and columns. Uniform if the arrangement is
    isotropic (Illian, Penttinen, Stoyan and Stoyan, Statistical Analysis and Modelling of Spatial Point
    Patterns, Wiley 2008, section 4.5). Parameters and weights as in `nearest_neighbour_distribution`: whether
    a neighbour is certain depends on its distance alone.
    """
    nearest = [_nearest(discs, domain) for discs in circles]
    return Distribution.of_images((_axis_degrees(offset), weights) for offset, weights in nearest)


# Pairs -------------------------------------------------------------------------------------------------


def ripley_k(circles: Sequence[Discs], domain: Domain, distances_px: np.ndarray) -> Curve:
    """Estimate Ripley's K(r): the mean number of further centres within r of a centre, over their density.

    It is pi r^2 in px^2 for points without interaction (Poisson). A pair with the offset x counts 1 / (area
    of the window cut with itself shifted by x), Ohser and Stoyan's translation correction, over the squared
    mean density of all images. Of few images it is too small, by one over the number of all their discs.

    Parameters
    ----------
    circles
        The circles of each image; centres beyond the border do not count.
    domain
        Size of the images, and whether their opposite borders fit together.
    distances_px
        Distances r, shape (L,), rising from 0 or more to less than the shorter side; periodic, half of it.

    Raises
    ------
    UserError
        If the distances do not rise or do not fit.

    References
    ----------
    B. D. Ripley, The second-order analysis of stationary point processes, J. Appl. Probab. 13 (1976) 255-266.
    J. Ohser and D. Stoyan, On the second-order and orientation analysis of planar stationary point processes,
    Biom. J. 23 (1981) 523-533.
    """
    _check_distances(distances_px, domain, 0.0)
    numerator = np.zeros((len(circles), len(distances_px)))
    for index, discs in enumerate(circles):
        distance, weight = _pairs(discs, domain, distances_px[-1])
        first = np.searchsorted(distances_px, distance)  # of the distances that the pair is within
        numerator[index] = np.bincount(first, weight, len(distances_px) + 1)[:-1].cumsum()
    return Curve(distances_px, numerator, _densities(circles, domain), exponent=2)


def pair_correlation(
    circles: Sequence[Discs], domain: Domain, distances_px: np.ndarray, bandwidth_px: float
) -> Curve:
    """Estimate the pair correlation g(r) = K'(r) / (2 pi r): 1 where centres are independent.

    Epanechnikov's kernel of half width ``bandwidth_px`` smooths it. The divisor is the mean radius under the
    kernel, which is r except near 0, so that points without interaction have g = 1 down to r = 0.

    Parameters
    ----------
    circles, domain
        As in `ripley_k`, and so are the edge correction and the errors.
    distances_px
        Distances r, shape (L,), rising from 0 or more; with ``bandwidth_px`` added, they must fit.
    bandwidth_px
        Positive.

    References
    ----------
    D. Stoyan and H. Stoyan, Fractals, Random Shapes and Point Fields, Wiley 1994, part III.
    """
    if not bandwidth_px > 0:
        raise UserError("bandwidth_px", bandwidth_px, "must be positive")
    _check_distances(distances_px, domain, bandwidth_px)
    rings = 2 * np.pi * _mean_radius(distances_px, bandwidth_px)
    numerator = np.zeros((len(circles), len(distances_px)))
    for index, discs in enumerate(circles):
        distance, weight = _pairs(discs, domain, distances_px[-1] + bandwidth_px)
        steps = (distance[:, None] - distances_px) / bandwidth_px
        kernel = 0.75 * np.maximum(1 - steps**2, 0) / bandwidth_px
        numerator[index] = weight @ kernel / rings
    return Curve(distances_px, numerator, _densities(circles, domain), exponent=2)


# Cells -------------------------------------------------------------------------------------------------


def local_volume_fraction(circles: Sequence[Discs], domain: Domain) -> Distribution:
    """Collect the area of each disc over that of its Voronoi cell, all points nearest to its centre.

    In a window a cell is certain only if no centre outside could cut it, which is so if the circle around
    each of its corners and through the disc's centre lies in the window. Each certain cell is weighted by
    1 / (area where its centre might have been).

    Parameters
    ----------
    circles
        The circles of each image; centres beyond the border may be given and serve as neighbours.
    domain
        Size of the images, and whether their opposite borders fit together.

    References
    ----------
    R. Pyrz, Quantitative description of the microstructure of composites. Part I: Morphology of
    unidirectional composite systems, Compos. Sci. Technol. 50 (1994) 197-208.
    """
    cells = [_cells(discs, domain) for discs in circles]
    return Distribution.of_images((each.disc_area / each.area, each.weight) for each in cells)


def hexatic_order(circles: Sequence[Discs], domain: Domain) -> Distribution:
    """Collect the hexatic order |psi_6| of each disc: 1 in a hexagonal lattice, 0 in a square one.

    psi_6 is the mean of exp(6 i angle) over the Voronoi neighbours, weighted by the side that they share:
    unlike a plain mean, it does not jump when a neighbour appears or disappears, and it is well defined on a
    square lattice. Parameters, and which cells count, as in `local_volume_fraction`.

    References
    ----------
    D. R. Nelson and B. I. Halperin, Dislocation-mediated melting in two dimensions, Phys. Rev. B 19 (1979)
    2457-2484; weighted after W. Mickel et al., Shortcomings of the bond orientational order parameters for
    the analysis of disordered particulate matter, J. Chem. Phys. 138 (2013) 044501.
    """
    cells = [_cells(discs, domain) for discs in circles]
    return Distribution.of_images((each.hexatic_order, each.weight) for each in cells)


# Kernels -----------------------------------------------------------------------------------------------


def _border_distance(discs: Discs, shape: tuple[int, int]) -> np.ndarray:
    """Distance (n,) of centres from the border of the window; negative outside."""
    return border_distance_px(discs.row, discs.col, shape)


def _centres(discs: Discs, domain: Domain) -> np.ndarray:
    """Rows and columns (n, 2); of a periodic cell in [0, side)."""
    centres = np.stack([discs.row, discs.col], axis=1).astype(np.float64)
    return wrapped(centres, domain.size_px) if domain.periodic else centres


def _shortest(offset: np.ndarray, domain: Domain) -> np.ndarray:
    """Offsets (m, 2); in a periodic cell to the nearest copy."""
    return offset - domain.size_px * np.rint(offset / domain.size_px) if domain.periodic else offset


def _nearest(discs: Discs, domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (m, 2) to the nearest neighbours that are certain, and their weights (m,)."""
    if len(discs.row) < 2:
        return np.empty((0, 2)), np.empty(0)
    centres = _centres(discs, domain)
    tree = cKDTree(centres, boxsize=domain.size_px if domain.periodic else None)
    distance, index = (column[:, 1] for column in tree.query(centres, k=2))  # first: the centre itself
    offset = _shortest(centres[index] - centres, domain)
    if domain.periodic:
        return offset, np.ones(len(offset))
    certain = distance <= _border_distance(discs, domain.size_px)
    return offset[certain], _weights(2 * distance[certain, None].repeat(2, axis=1), domain.size_px)


def _weights(extent: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """One over the area of the places in the window where something of ``extent`` (m, 2) px has room."""
    # What just fits has no room to move: it is known to be within one pixel.
    return 1 / np.maximum(np.prod(shape - extent, axis=1), 1.0)


def _axis_degrees(offset: np.ndarray) -> np.ndarray:
    angle = np.degrees(np.arctan2(offset[:, 0], offset[:, 1])) % 180
    return np.where(angle == 180, 0, angle)  # the remainder of a tiny negative number


def _pairs(discs: Discs, domain: Domain, reach_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances (m,) of all pairs up to ``reach_px``, and twice their weights: each pair counts both ways."""
    inside = slice(None) if domain.periodic else _border_distance(discs, domain.size_px) >= 0
    centres = _centres(discs, domain)[inside]
    if len(centres) < 2:
        return np.empty(0), np.empty(0)
    tree = cKDTree(centres, boxsize=domain.size_px if domain.periodic else None)
    first, second = tree.query_pairs(reach_px, output_type="ndarray").T
    offset = _shortest(centres[second] - centres[first], domain)
    shift = np.zeros(offset.shape) if domain.periodic else np.abs(offset)
    return np.hypot(*offset.T), 2 / np.prod(domain.size_px - shift, axis=1)


def _densities(circles: Sequence[Discs], domain: Domain) -> np.ndarray:
    """Centres per px^2 in each image, shape (N, 1)."""
    counts = [
        len(discs.row) if domain.periodic else np.count_nonzero(_border_distance(discs, domain.size_px) >= 0)
        for discs in circles
    ]
    return np.array(counts, float).reshape(-1, 1) / np.prod(domain.size_px)


def _check_distances(distances_px: np.ndarray, domain: Domain, bandwidth_px: float) -> None:
    limit = min(domain.size_px) / (2 if domain.periodic else 1) - bandwidth_px
    rising = distances_px.ndim == 1 and len(distances_px) and np.all(np.diff(distances_px) > 0)
    if not rising or distances_px[0] < 0 or distances_px[-1] >= limit:
        raise UserError("distances_px", distances_px, f"must rise from 0 or more to less than {limit:g}")


def _mean_radius(distances_px: np.ndarray, bandwidth_px: float) -> np.ndarray:
    """Integral (L,) of kernel x radius over all radii above 0: the distance itself from a bandwidth on."""
    low = np.maximum(-distances_px / bandwidth_px, -1)
    fraction = 0.5 - 0.75 * low + 0.25 * low**3  # of the kernel above ``low``
    moment = 0.75 * (0.25 - low**2 / 2 + low**4 / 4)
    return distances_px * fraction + bandwidth_px * moment


@dataclass(frozen=True)
class _Cells:
    """Voronoi cells that are certain; all arrays (m,)."""

    area: np.ndarray
    disc_area: np.ndarray
    hexatic_order: np.ndarray
    weight: np.ndarray


def _cells(discs: Discs, domain: Domain) -> _Cells:
    centres = _centres(discs, domain)
    try:
        diagram = (
            Voronoi(_with_copies(centres, domain.size_px) if domain.periodic else centres)
            if len(centres)
            else None
        )
    except QhullError:  # too few centres, or all on one line: no cell is bounded
        diagram = None
    if diagram is None:
        return _Cells(*(np.empty(0),) * 4)
    return _measured_cells(diagram, np.asarray(discs.radius_px), domain)


def _with_copies(centres: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Centres (9 n, 2) of a periodic cell, its own first, then of the eight around it: enough."""
    steps = sorted(((row, col) for row in (-1, 0, 1) for col in (-1, 0, 1)), key=np.linalg.norm)
    return np.concatenate([centres + np.multiply(step, shape) for step in steps])


def _measured_cells(diagram: Voronoi, radius: np.ndarray, domain: Domain) -> _Cells:
    """Measure the cells of the first discs of a diagram, as many as there are radii."""
    cell, neighbour = np.concatenate([diagram.ridge_points, diagram.ridge_points[:, ::-1]]).T
    corners = np.tile(diagram.ridge_vertices, (2, 1))  # -1: at infinity
    own = cell < len(radius)
    cell, neighbour, corners = cell[own], neighbour[own], corners[own]

    centre, corner = diagram.points[cell], diagram.vertices[corners]  # (m, 2), (m, 2 corners, 2)
    offset = diagram.points[neighbour] - centre
    side = np.linalg.norm(corner[:, 1] - corner[:, 0], axis=1)
    # Each side and the centre make a triangle, half as high as the neighbour is far.
    area = np.bincount(cell, side * np.hypot(*offset.T) / 4, len(radius))
    turn = side * np.exp(6j * np.arctan2(*offset.T))
    total = [np.bincount(cell, part, len(radius)) for part in (turn.real, turn.imag, side)]

    certain = area > 0  # 0 for the second of two discs in the same place
    certain[cell[(corners < 0).any(axis=1)]] = False
    weight = np.ones(len(radius))
    if not domain.periodic:
        around = np.linalg.norm(corner - centre[:, None], axis=2)[:, :, None]  # radius of the circles
        low, high = np.full((2, len(radius), 2), [[[np.inf]], [[-np.inf]]])
        np.minimum.at(low, cell, (corner - around).min(axis=1))
        np.maximum.at(high, cell, (corner + around).max(axis=1))
        certain &= np.all((low >= -0.5) & (high <= np.array(domain.size_px) - 0.5), axis=1)
        weight[certain] = _weights((high - low)[certain], domain.size_px)
    order = np.hypot(total[0][certain], total[1][certain]) / total[2][certain]
    return _Cells(area[certain], np.pi * radius[certain] ** 2, order, weight[certain])
