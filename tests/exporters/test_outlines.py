"""Areas of united and cut discs, against closed forms and against sums over scan lines."""

import numpy as np
import pytest

from microgan.core.domain import Domain
from microgan.detection.circles import Circles
from microgan.exporters.outlines import disc_area
from microgan.exporters.rendering import visible_discs

pytest.importorskip("gmsh")

SHAPE = (40, 48)


def discs(*rows: tuple[float, float, float]) -> Circles:
    return Circles.from_table(np.array(rows, float).reshape(-1, 3))


def segment(radius: float, distance: float) -> float:
    """Area of the part of a disc beyond a line at ``distance`` from its centre."""
    return float(radius**2 * np.arccos(distance / radius) - distance * np.sqrt(radius**2 - distance**2))


def area_by_scan_lines(circles: Circles, periodic: bool, lines: int = 20_000) -> float:
    """Sum, over lines of constant row, the length of the union of the intervals that discs cut out of it."""
    visible = visible_discs(circles, Domain(SHAPE, periodic)) + np.array([0.5, 0.5, 0])
    length = 0.0
    for y in (np.arange(lines) + 0.5) * SHAPE[0] / lines:
        cut = visible[np.abs(visible[:, 0] - y) < visible[:, 2]]
        half = np.sqrt(cut[:, 2] ** 2 - (cut[:, 0] - y) ** 2)
        reached = 0.0
        for start, end in sorted(zip(cut[:, 1] - half, cut[:, 1] + half, strict=True)):
            length += max(0.0, min(end, SHAPE[1]) - max(start, reached))
            reached = max(reached, end)
    return length * SHAPE[0] / lines


@pytest.mark.parametrize(
    ("circles", "periodic", "area"),
    [
        (discs(), False, 0),
        (discs((20, 20, 60)), False, 40 * 48),
        (discs((20, 20, 60)), True, 40 * 48),
        (discs((20, 20, 5)), False, 25 * np.pi),
        (discs((20, 20, 5), (20, 20, 5), (20, 20.5, 3)), False, 25 * np.pi),  # one twice, and one inside it
        (discs((20, 20, 5), (20, 26, 5)), False, 50 * np.pi - 2 * segment(5, 3)),
        (discs((20, 20, 5), (20, 30, 5)), False, 50 * np.pi),  # touch
        (discs((1.5, 20, 5)), False, 25 * np.pi - segment(5, 2)),  # cut by the border
        (discs((1.5, 20, 5)), True, 25 * np.pi),
        (discs((-0.5, -0.5, 4)), False, 4 * np.pi),  # around the corner of the cell
        (discs((-0.5, -0.5, 4)), True, 16 * np.pi),
        (discs((-0.5, 20, 5), (36.5, 20, 5)), True, 50 * np.pi - 2 * segment(5, 1.5)),  # over the border
        (discs((4.5, 20, 5), (-5.5, 30, 5)), False, 25 * np.pi),  # touch the border from both sides
    ],
)
def test_area_in_closed_form(circles: Circles, periodic: bool, area: float) -> None:
    assert disc_area(circles, Domain(SHAPE, periodic)) == pytest.approx(area, rel=1e-9)


@pytest.mark.parametrize("periodic", [False, True])
def test_area_of_many_overlapping_discs(periodic: bool) -> None:
    rng = np.random.default_rng(3)
    circles = discs(*zip(rng.uniform(0, 39, 25), rng.uniform(0, 47, 25), rng.uniform(3, 6, 25), strict=True))
    assert disc_area(circles, Domain(SHAPE, periodic)) == pytest.approx(
        area_by_scan_lines(circles, periodic), rel=1e-6
    )
