"""Circles with a gradient, on drawn discs whose places and radii are known."""

import pytest
import torch

from microgan.detection.hough import smoothed, unit_gradient
from microgan.gan import soft_circles
from microgan.gan.soft_circles import Cells, fit, signed_edge_distance_px, voted_circles
from tests.helpers import drawn

BAND = (4.0, 8.0)


def test_votes_find_drawn_discs_to_a_pixel_and_the_fit_to_a_fifth() -> None:
    discs = torch.tensor([(13.3, 14.6, 5.3), (40.7, 20.2, 6.4), (30.1, 47.8, 7.2), (64.0, 40.0, 6.0)])
    smooth, gradient = smoothed(drawn(*discs.tolist()), 0.8, "bright")
    circles, confidence = voted_circles(unit_gradient(gradient), BAND)
    assert circles.shape == (1, 4, 3) and (confidence > 0.9).all()
    fitted, after, non_circularity = fit(circles, confidence, Cells.of(torch.sigmoid(8 * smooth), BAND), BAND)
    order = torch.cdist(discs[:, :2], circles[0, :, :2]).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    whole = order[:3]  # the border cuts the last one in half
    assert (circles[0, order] - discs).abs().max() < 1
    assert (fitted[0, whole] - discs[:3]).abs().max() < 0.2
    assert (after[0, whole] > 0.9).all() and (non_circularity[0, whole] < 0.05).all()


def test_radii_stay_within_half_a_pixel_of_the_band() -> None:
    circles = torch.tensor([[[9.0, 9.0, radius] for radius in (1.0, 3.4, 3.6, 8.4, 9.0)]])
    limited = soft_circles._in_band(circles, BAND)
    torch.testing.assert_close(limited[0, :, 2], torch.tensor([3.5, 3.5, 3.6, 8.4, 8.5]))
    assert torch.equal(limited[..., :2], circles[..., :2])


@pytest.mark.parametrize(("separation", "stays"), [(0.53, False), (0.57, True)])
def test_a_weaker_circle_closer_than_the_least_separation_is_suppressed(
    separation: float, stays: bool
) -> None:
    """Two discs of radius 6 and 5: the overlap at which they are resolved is 45 %."""
    circles = torch.tensor([[[20.0, 20.0, 6.0], [20.0, 20.0 + 11 * separation, 5.0], [20.0, 50.0, 5.0]]])
    is_peak = torch.tensor([[True, True, False]])
    assert soft_circles._unsuppressed(circles, is_peak).tolist() == [[True, stays, False]]


def test_what_a_suppressed_circle_suppressed_stays() -> None:
    row = torch.tensor([[[20.0, 20.0 + 5 * k, 6.0] for k in range(4)]])  # each is too close to the next
    stays = soft_circles._unsuppressed(row, torch.ones(1, 4, dtype=torch.bool))
    assert stays.tolist() == [[True, False, True, False]]


def test_cells_around_circles_are_added_up_where_they_were_read() -> None:
    """Values of each cell around two circles, one of them near a corner, by the cells themselves."""
    phase = torch.rand((1, 1, 20, 24), generator=torch.Generator().manual_seed(0))
    cells = Cells(phase[:, 0], 1)
    circles = torch.tensor([[[10.2, 11.7, 4.0], [0.6, 22.3, 5.0]]])
    around = soft_circles.Around.of(circles, cells, 8.0)
    values = around.gathered(cells.phase)
    beyond, by_row, by_col = signed_edge_distance_px(circles, around)
    inside = around.gathered(torch.ones_like(cells.phase))
    assert torch.equal(values != 0, inside == 1)
    rows, cols = torch.arange(20.0)[:, None], torch.arange(24.0)
    near = torch.zeros(20, 24)
    for k, (row, col, radius) in enumerate(circles[0].tolist()):
        distance = ((rows - row) ** 2 + (cols - col) ** 2).sqrt() - radius
        window = (rows - round(row)).abs().maximum((cols - round(col)).abs()) <= (values.shape[2] - 1) // 2
        expected = distance[window]
        torch.testing.assert_close(beyond[0, k][inside[0, k] == 1], expected, rtol=1e-3, atol=2e-3)
        near += window
    assert torch.equal(around.summed(values)[0], near * phase[0, 0])
    torch.testing.assert_close(
        by_row.square() + by_col.square(), torch.ones_like(by_row), rtol=0.02, atol=0.01
    )
