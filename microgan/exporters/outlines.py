"""The outline of discs in a cell: where disc phase and matrix meet, exactly, as arcs and straight borders.

Discs that overlap are united, and what lies beyond the cell is cut off. Lengths are in pixels, x along
columns, y along rows, from the corner of the first pixel, so that the cell is from 0 to cols and 0 to rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from microgan.exporters.rendering import visible_discs
from microgan.statistics.point_patterns import Discs

WHOLE = 2 * np.pi


@dataclass(frozen=True)
class Arc:
    """Part of a rim: disc phase lies to its left, as the angle rises from ``angle`` by ``sweep``.

    Attributes
    ----------
    start, end
        Indices of points.
    centre
        x and y.
    radius, angle, sweep
        In pixels and radians; ``angle`` is that of ``start``, 0 along x.
    """

    start: int
    end: int
    centre: tuple[float, float]
    radius_px: float
    angle: float
    sweep: float


@dataclass(frozen=True)
class Line:
    """Part of the cell's border: the cell lies to its left.

    Attributes
    ----------
    start, end
        Indices of points.
    side
        0: y = 0, 1: x = cols, 2: y = rows, 3: x = 0.
    phase
        Phase id in the cell beside it.
    """

    start: int
    end: int
    side: int
    phase: int


@dataclass(frozen=True)
class Outline:
    """All that bounds the phases in a cell.

    Attributes
    ----------
    points
        x and y, shape (n, 2).
    arcs, lines
        Between them.
    """

    points: np.ndarray
    arcs: Sequence[Arc]
    lines: Sequence[Line]

    def disc_area(self) -> float:
        """Return the area of the disc phase in px^2: half the integral of x dy - y dx around it."""
        twice = sum(_swept(arc) for arc in self.arcs)
        for line in self.lines:
            (x, y), (next_x, next_y) = self.points[[line.start, line.end]]
            twice += line.phase * (x * next_y - next_x * y)
        return float(twice) / 2


def outline(circles: Discs, size_px: tuple[int, int], periodic: bool = False) -> Outline:
    """Find what bounds the disc phase in a cell of ``size_px`` rows and columns.

    Parameters
    ----------
    circles
        In pixels, centre of the first pixel at 0.
    size_px
        Rows and columns.
    periodic
        Whether opposite borders fit together: discs across a border are seen at both.

    Examples
    --------
    >>> from microgan.detection.circles import Circles
    >>> quarter = Circles.from_table([[-0.5, -0.5, 2.0]])  # around the cell's corner
    >>> bool(np.isclose(outline(quarter, (8, 8)).disc_area(), np.pi))
    True
    """
    visible = visible_discs(circles, size_px, periodic)
    discs = _without_hidden(np.column_stack([visible[:, 1] + 0.5, visible[:, 0] + 0.5, visible[:, 2]]))
    extent = np.array([size_px[1], size_px[0]], float)
    points: list[np.ndarray] = []
    cuts = _cuts(discs, extent, points)
    tree = _Covering(discs)
    arcs = [
        arc
        for index, disc in enumerate(discs)
        for arc in _free_arcs(index, disc, cuts[index], extent, tree, points)
    ]
    lines = _border(arcs, extent, tree, points)
    return Outline(np.array(points).reshape(-1, 2), arcs, lines)


class _Covering:
    """Answers whether points are covered by discs (n, 3)."""

    def __init__(self, discs: np.ndarray) -> None:
        self.discs = discs
        self.tree = cKDTree(discs[:, :2])
        self.reach = discs[:, 2].max(initial=0)

    def covers(self, point: np.ndarray, but: int = -1) -> bool:
        """Whether a disc, other than disc ``but``, covers ``point``."""
        near = [index for index in self.tree.query_ball_point(point, self.reach) if index != but]
        return bool((np.hypot(*(self.discs[near, :2] - point).T) < self.discs[near, 2]).any())


def _without_hidden(discs: np.ndarray) -> np.ndarray:
    """Discs that are not wholly inside another one; of equal ones, the first."""
    if len(discs) < 2:
        return discs
    pairs = cKDTree(discs[:, :2]).query_pairs(discs[:, 2].max(), output_type="ndarray")
    distance = np.hypot(*(discs[pairs[:, 0], :2] - discs[pairs[:, 1], :2]).T)
    surplus = discs[pairs[:, 0], 2] - discs[pairs[:, 1], 2]
    hidden = np.where(surplus >= 0, pairs[:, 1], pairs[:, 0])[distance <= np.abs(surplus)]
    return np.delete(discs, hidden, axis=0)


def _cuts(discs: np.ndarray, extent: np.ndarray, points: list[np.ndarray]) -> list[list[tuple[float, int]]]:
    """Angle and point of all cuts of each disc's rim; the points are added to ``points``."""
    cuts: list[list[tuple[float, int]]] = [[] for _ in discs]

    def cut(point: np.ndarray, *rims: int) -> None:
        for rim in rims:
            across = point - discs[rim, :2]
            cuts[rim].append((np.arctan2(across[1], across[0]) % WHOLE, len(points)))
        points.append(point)

    if len(discs) > 1:
        pairs = cKDTree(discs[:, :2]).query_pairs(2 * discs[:, 2].max(), output_type="ndarray")
        for one, other in sorted(map(tuple, pairs.tolist())):
            for point in _crossings(discs[one], discs[other]):
                cut(point, one, other)
    for rim, (*centre, radius) in enumerate(discs):
        for axis in (0, 1):
            for place in (0.0, extent[axis]):
                reach = radius**2 - (place - centre[axis]) ** 2
                if reach <= 0:
                    continue
                for along in (centre[1 - axis] - np.sqrt(reach), centre[1 - axis] + np.sqrt(reach)):
                    if 0 < along < extent[1 - axis]:
                        cut(np.array([place, along] if axis == 0 else [along, place]), rim)
    return cuts


def _crossings(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """Points where two rims (x, y, radius) cross: none or two."""
    offset = other[:2] - one[:2]
    distance = np.hypot(*offset)
    if not abs(one[2] - other[2]) < distance < one[2] + other[2]:
        return []
    along = (distance**2 + one[2] ** 2 - other[2] ** 2) / (2 * distance)
    across = np.sqrt(max(one[2] ** 2 - along**2, 0))
    direction = offset / distance
    normal = np.array([-direction[1], direction[0]])
    return [one[:2] + along * direction + sign * across * normal for sign in (-1, 1)]


def _free_arcs(
    index: int,
    disc: np.ndarray,
    cuts: list[tuple[float, int]],
    extent: np.ndarray,
    tree: _Covering,
    points: list[np.ndarray],
) -> list[Arc]:
    """Parts of one rim that are in the cell and in no other disc."""
    centre, radius = disc[:2], float(disc[2])
    if not cuts:
        cuts = [(0.0, len(points))]
        points.append(centre + np.array([radius, 0]))
    cuts = sorted(cuts)
    arcs = []
    for (angle, start), (following, end) in zip(
        cuts, [*cuts[1:], (cuts[0][0] + WHOLE, cuts[0][1])], strict=True
    ):
        sweep = following - angle
        middle = centre + radius * np.array([np.cos(angle + sweep / 2), np.sin(angle + sweep / 2)])
        if ((middle > 0) & (middle < extent)).all() and not tree.covers(middle, but=index):
            arcs.append(Arc(start, end, (float(centre[0]), float(centre[1])), radius, angle, sweep))
    return arcs


def _border(arcs: Sequence[Arc], extent: np.ndarray, tree: _Covering, points: list[np.ndarray]) -> list[Line]:
    """Border of the cell, counter-clockwise from the origin, cut where arcs end on it."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * extent
    first = len(points)
    points.extend(corners)
    ends = np.array(sorted({end for arc in arcs for end in (arc.start, arc.end)}), int)
    places = np.array(points)[ends] if len(ends) else np.empty((0, 2))
    lines = []
    for side in range(4):
        start, finish = first + side, first + (side + 1) % 4
        fixed = 1 - side % 2  # the coordinate that is the same all along the side
        on_it = ends[places[:, fixed] == corners[side, fixed]]
        order = np.argsort(np.hypot(*(np.array(points)[on_it] - corners[side]).T))
        stops = [start, *on_it[order].tolist(), finish]
        for one, following in pairwise(stops):
            phase = tree.covers((points[one] + points[following]) / 2)
            lines.append(Line(one, following, side, int(phase)))
    return lines


def _swept(arc: Arc) -> float:
    """Integral of x dy - y dx along an arc."""
    last = arc.angle + arc.sweep
    x, y = arc.centre
    turn = x * (np.sin(last) - np.sin(arc.angle)) - y * (np.cos(last) - np.cos(arc.angle))
    return float(arc.radius_px * turn + arc.radius_px**2 * arc.sweep)
