"""Fit and selection of circles against drawn discs and hand-made geometry."""

import math
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.detection.circle_fit import (
    ANGLES,
    EdgeFit,
    Maps,
    fit_circles,
    halves,
    interior,
    inward,
    median_of_image,
    neighbours,
    true_radius,
    usual_radius,
)
from microgan.detection.circle_selection import select
from microgan.detection.hough import smoothed, unit_gradient

SMOOTHING_PX = 1.2
ONE = torch.zeros(1, dtype=torch.long)


@cache
def soft_discs(*discs: tuple[float, float, float], side: int = 64) -> Tensor:
    """Draw bright discs (row, col, radius) without noise, by their coverage of 9 x 9 parts of a pixel."""
    parts = (torch.arange(9 * side) + 0.5) / 9 - 0.5
    inside = torch.zeros(9 * side, 9 * side)
    for row, col, radius in discs:
        inside[(parts[:, None] - row).square() + (parts - col).square() < radius**2] = 1.0
    return torch.nn.functional.avg_pool2d(inside[None, None], 9) * 1.2 - 0.6


def fitted(
    image: Tensor, start: list[tuple[float, float, float]], rounds: int = 8, **options: bool
) -> EdgeFit:
    _, gradient = smoothed(image, SMOOTHING_PX, "bright")
    circles, which = torch.tensor(start), torch.zeros(len(start), dtype=torch.long)
    width_px = torch.tensor([SMOOTHING_PX])
    fit = fit_circles(Maps.of(gradient), which, circles, rounds=rounds, width_px=width_px, **options)
    return fit._replace(circles=true_radius(fit.circles, which, fit.edge_width_px))


@pytest.mark.parametrize("radius", [3.0, 6.0, 11.0])
def test_a_circle_moves_to_the_edge_of_its_disc(radius: float) -> None:
    fit = fitted(soft_discs((30.3, 28.6, radius)), [(31.0, 28.0, radius + 0.7)])
    np.testing.assert_allclose(fit.circles, [[30.3, 28.6, radius]], atol=0.02)
    # The pixel's own blur, 1 / sqrt(12), adds to that of the smoothing.
    assert fit.edge_width_px.item() == pytest.approx(math.hypot(SMOOTHING_PX, 12**-0.5), rel=0.1)
    # A Gaussian edge of height 1.2 is steepest with 1.2 / (sqrt(2 pi) width).
    height = 1.2 / math.sqrt(2 * math.pi) / fit.edge_width_px.item()
    assert fit.edge_gradient.item() == pytest.approx(height, rel=0.1)
    assert fit.elongation_px.abs().max() < 0.02


def test_discs_in_contact_are_fitted_as_if_alone() -> None:
    truth = [(32.0, 22.0, 6.0), (32.0, 34.3, 6.0), (42.5, 28.1, 6.0)]
    start = [(row + 0.5, col - 0.4, 5.5) for row, col, _ in truth]
    np.testing.assert_allclose(fitted(soft_discs(*truth), start).circles, truth, atol=0.1)
    alone = fitted(soft_discs(*truth), start, subtract_neighbours=False).circles
    assert (alone - torch.tensor(truth)).abs().max() > 0.15


def test_overlapping_discs_are_fitted_on_their_free_arcs() -> None:
    truth = [(32.0, 24.0, 7.0), (32.0, 34.0, 7.0)]
    start = [(32.5, 24.6, 6.6), (31.6, 33.5, 6.6)]
    np.testing.assert_allclose(fitted(soft_discs(*truth), start, overlapping=True).circles, truth, atol=0.1)


def test_a_cut_disc_gets_the_usual_radius_and_its_own_place() -> None:
    whole = [(16.0, 20.0, 6.0), (16.0, 44.0, 6.1), (46.0, 20.0, 5.9), (46.0, 44.0, 6.0)]
    cut = (32.0, -3.0, 6.0)
    start = [*whole, (32.4, -2.0, 4.8)]
    circles = fitted(soft_discs(*whole, cut), start, rounds=12).circles
    np.testing.assert_allclose(circles[-1], cut, atol=0.25)


@pytest.mark.parametrize("angle", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("rounds", [1, 4])
def test_the_elongation_is_that_of_an_ellipse(angle: float, rounds: int) -> None:
    axis = torch.arange(64.0) - 32
    along = axis[:, None] * math.sin(angle) + axis * math.cos(angle)
    across = axis[:, None] * math.cos(angle) - axis * math.sin(angle)
    distance = 9 * (1 - ((along / 9.6).square() + (across / 8.4).square()).sqrt())
    image = 1.2 * torch.sigmoid(distance / 0.4)[None, None] - 0.6
    (elongation,) = fitted(image, [(32.0, 32.0, 9.0)], rounds).elongation_px
    expected = 0.6 * np.array([math.cos(2 * angle), math.sin(2 * angle)])
    np.testing.assert_allclose(elongation, expected, atol=0.1)


def test_an_elongated_circle_is_halved_along_its_long_axis() -> None:
    angle = 0.4  # from the columns to the rows
    elongation_px = torch.tensor([[math.cos(2 * angle), math.sin(2 * angle)]])
    first, second = halves(torch.tensor([[20.0, 30.0, 8.0]]), elongation_px)
    apart = second - first
    assert (first[2], second[2]) == (6, 6)
    assert apart[:2].norm() == pytest.approx(8.0)  # 2/3 of the sum of the radii
    assert math.atan2(apart[0], apart[1]) == pytest.approx(angle)
    np.testing.assert_allclose((first + second)[:2] / 2, [20, 30], atol=1e-5)


# Reading -----------------------------------------------------------------------------------------------


def test_maps_are_read_between_pixels_and_by_image() -> None:
    ramps = torch.stack([torch.arange(5.0)[:, None] * 10 + torch.arange(7.0), -torch.ones(5, 7)])[:, None]
    circles = torch.tensor([[1.5, 2.25, 1.0], [1.5, 2.25, 1.0], [4.0, 6.0, 1.0]])
    offsets = torch.tensor([[[0.0, 0.0], [0.5, 1.0]]]).expand(3, 2, 2)
    values, inside = Maps.of(ramps).read(torch.tensor([0, 1, 0]), circles, offsets)
    np.testing.assert_allclose(values[0], [[17.25, 27.75], [-1, -1], [46, 46]], atol=1e-4)
    assert inside.tolist() == [[True, True], [True, True], [True, False]]
    beyond = torch.tensor([[[-9.0, 0.0], [9.0, 0.0], [0.0, -9.0], [0.0, 9.0]]]).expand(2, 4, 2)
    values, inside = Maps.of(ramps).read(torch.tensor([0, 1]), circles[:2], beyond)  # the nearest pixel
    np.testing.assert_allclose(values[0], [[15, 21, 2.25, 42.25], [-1] * 4], atol=1e-4)
    assert not inside.any()


def test_the_inward_component_is_positive_where_vectors_point_to_the_centre() -> None:
    axis = torch.arange(33.0) - 16
    to_centre = -torch.stack([axis[:, None].expand(33, 33), axis.expand(33, 33)])[None]
    circles = torch.tensor([[16.0, 16.0, 5.0]])
    values, inside = inward(Maps.of(to_centre), ONE, circles, (-1.0, 0.0, 2.0))
    assert values.shape == (1, 3, ANGLES) and inside.all()
    np.testing.assert_allclose(values.mean(2), [[4, 5, 7]], atol=1e-4)


def test_the_grey_inside_a_circle_is_a_quantile_of_its_points() -> None:
    axis = torch.arange(41.0) - 20
    distance = (axis[:, None].square() + axis.square()).sqrt()
    circles = torch.tensor([[20.0, 20.0, 10.0]])
    # Of 25 points, one is in the middle, 8 are at 0.4 and 16 at 0.7 of the radius.
    quantiles = [interior(Maps.of(distance[None, None]), ONE, circles, f).item() for f in (0.0, 0.2, 0.7)]
    np.testing.assert_allclose(quantiles, [0, 4, 7], atol=0.1)


# Geometry ----------------------------------------------------------------------------------------------


def test_neighbours_are_pairs_of_one_image_within_reach() -> None:
    circles = torch.tensor([[10.0, 10.0, 4.0], [10.0, 19.0, 4.0], [10.0, 32.0, 4.0], [10.0, 10.0, 4.0]])
    image = torch.tensor([0, 0, 0, 1])
    assert len(neighbours(image, circles)[0]) == 0
    pairs, distance = neighbours(image, circles, reach_px=2.0)
    assert pairs.tolist() == [[0, 1], [1, 0]] and distance.tolist() == [9, 9]
    assert len(neighbours(image, circles, reach_px=5.5)[0]) == 4


def test_medians_are_those_of_each_image() -> None:
    values, image = torch.tensor([5.0, 1.0, 9.0, 2.0, 4.0, 8.0]), torch.tensor([0, 0, 0, 2, 2, 2])
    assert median_of_image(values, image, 4).tolist() == [5, 0, 4, 0]
    assert median_of_image(values[:2], image[:2], 1).tolist() == [1]  # the lower one of two
    circles = torch.stack([values, values, values], 1)
    usual, spread = usual_radius(circles, image, 3)
    assert usual.tolist() == [5, 5, 5, 4, 4, 4] and spread.tolist() == [6, 6, 6, 3, 3, 3]
    whole = torch.tensor([True, True, False, True, True, True])
    assert usual_radius(circles, image, 3, whole)[0][0] == 1


# Selection ---------------------------------------------------------------------------------------------


def selected(image: Tensor, circles: list[tuple[float, float, float]]) -> tuple[list[bool], Tensor]:
    unit = unit_gradient(smoothed(image, SMOOTHING_PX, "bright")[1])
    table, which = torch.tensor(circles), torch.zeros(len(circles), dtype=torch.long)
    values, inside = inward(Maps.of(unit), which, table)
    keep, score = select(which, table, values[:, 0], inside[:, 0], threshold=0.3, min_separation=0.55)
    return keep.tolist(), score


def test_a_second_reading_goes_and_an_overlap_stays() -> None:
    discs = [(32.0, 20.0, 7.0), (32.0, 30.0, 7.0)]
    keep, score = selected(soft_discs(*discs), [discs[0], (32.5, 21.0, 6.5), discs[1]])
    assert keep == [True, False, True]
    assert score[[0, 2]].min() > 0.6 and score.max() <= 1


def test_the_order_of_the_circles_does_not_matter() -> None:
    discs = [(32.0, 20.0, 7.0), (32.0, 30.0, 6.6), (32.0, 39.0, 6.2)]
    circles = [*discs, (32.5, 21.0, 6.5), (31.5, 38.0, 5.8)]
    expected = [True] * 3 + [False] * 2
    for order in permutations(range(5)):
        keep, _ = selected(soft_discs(*discs), [circles[index] for index in order])
        assert keep == [expected[index] for index in order]


def test_of_equal_circles_one_is_kept() -> None:
    disc = (32.0, 30.0, 7.0)
    assert sum(selected(soft_discs(disc), [disc, disc, disc])[0]) == 1


def test_a_circle_between_discs_has_no_edge_of_its_own() -> None:
    around = [(32 + 13 * math.sin(a), 32 + 13 * math.cos(a), 7.0) for a in np.arange(4) * math.pi / 2]
    keep, _ = selected(soft_discs(*around), [*around, (32.0, 32.0, 8.5)])
    assert keep == [True] * 4 + [False]


def test_scores_are_compared_with_the_threshold_on_the_visible_arc() -> None:
    """Made-up edges: values and visibility are given, no image is needed."""
    circles = torch.tensor([[20.0, 20.0, 6.0], [20.0, 60.0, 6.0], [60.0, 20.0, 6.0], [60.0, 60.0, 6.0]])
    values = torch.full((4, ANGLES), 0.5)
    values[1] = 0.25  # below the threshold
    values[3] = 3.0  # scores are at most 1
    inside = torch.ones(4, ANGLES, dtype=torch.bool)
    inside[2, 5:] = False  # 5 of 24 points are in the image, less than a quarter
    image = torch.zeros(4, dtype=torch.long)
    keep, score = select(image, circles, values, inside, threshold=0.3, min_separation=0.55)
    assert keep.tolist() == [True, False, False, True]
    np.testing.assert_allclose(score, [0.5, 0.25, 0.5, 1])
    inside[2, 5] = True
    assert select(image, circles, values, inside, 0.3, 0.55)[0].tolist() == [True, False, True, True]


def test_the_hidden_part_of_an_edge_counts_against_a_circle() -> None:
    """The first circle hides a part of the second: the rest of its edge must be that much clearer."""
    circles = torch.tensor([[20.0, 20.0, 8.0], [20.0, 29.6, 8.0]])
    image, inside = torch.zeros(2, dtype=torch.long), torch.ones(2, ANGLES, dtype=torch.bool)
    values = torch.full((2, ANGLES), 0.9)
    for value, stays in ((0.40, False), (0.60, True)):
        values[1] = value
        assert select(image, circles, values, inside, 0.3, 0.5)[0].tolist() == [True, stays]
    near = torch.tensor([[20.0, 20.0, 8.0], [20.0, 22.0, 5.0]])  # almost all of it is inside the first
    values[1] = 0.8
    assert select(image, near, values, inside, 0.3, 0.1)[0].tolist() == [True, False]
