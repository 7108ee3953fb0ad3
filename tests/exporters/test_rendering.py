"""Discs that are drawn, against their areas and against each pixel's own distance."""

import numpy as np
import pytest

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.exporters.rendering import render_phase, visible_discs

SIZE_PX = (40, 56)
WINDOW, CELL = Domain(SIZE_PX), Domain(SIZE_PX, periodic=True)


def random_discs(seed: int, count: int = 12) -> Circles:
    rng = np.random.default_rng(seed)
    return Circles.from_table(
        np.column_stack([rng.uniform(-3, 43, count), rng.uniform(-3, 59, count), rng.uniform(2, 7, count)])
    )


def by_distance(circles: Circles, refinement: int, periodic: bool) -> np.ndarray:
    """Draw by the distance of each pixel from each centre."""
    rows, cols = ((np.arange(side * refinement) + 0.5) / refinement - 0.5 for side in SIZE_PX)
    offset = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1)[:, :, None] - circles.table()[:, :2]
    if periodic:
        offset -= SIZE_PX * np.rint(offset / SIZE_PX)
    return (np.hypot(offset[..., 0], offset[..., 1]) <= circles.radius_px).any(-1)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("refinement", [1, 3])
def test_a_pixel_is_disc_if_its_centre_is_in_a_disc(refinement: int, periodic: bool) -> None:
    circles = random_discs(0)
    phase = render_phase(circles, Domain(SIZE_PX, periodic), refinement)
    assert phase.dtype == np.bool_
    assert 0.1 < phase.mean() < 0.9
    np.testing.assert_array_equal(phase, by_distance(circles, refinement, periodic))


def test_area_converges_to_that_of_the_disc() -> None:
    disc = Circles.from_table([[20.3, 31.7, 6.2]])
    errors = [
        abs(render_phase(disc, WINDOW, refinement).sum() / refinement**2 / (np.pi * 6.2**2) - 1)
        for refinement in (1, 16)
    ]
    assert errors[0] < 0.05
    assert errors[1] < 0.0005


def test_a_shift_moves_the_image_by_pixels_and_by_fine_pixels() -> None:
    circles = random_discs(1)
    image = render_phase(circles, CELL, 4)
    for shift in ((5, -9), (100, 0), (0.25, -0.75)):
        moved = Circles(circles.row + shift[0], circles.col + shift[1], circles.radius_px, circles.score)
        fine = round(4 * shift[0]), round(4 * shift[1])
        np.testing.assert_array_equal(render_phase(moved, CELL, 4), np.roll(image, fine, (0, 1)))


def test_a_disc_across_a_periodic_corner_is_drawn_at_all_four() -> None:
    disc = Circles.from_table([[0.0, 55.5, 4.0]])
    image = render_phase(disc, CELL, 16)
    assert image[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert image.mean() * 40 * 56 == pytest.approx(16 * np.pi, rel=2e-3)
    assert len(visible_discs(disc, CELL)) == 4


def test_a_disc_larger_than_its_cell_meets_itself() -> None:
    disc = Circles.from_table([[10.0, 10.0, 30.0]])
    assert render_phase(disc, Domain((20, 20), periodic=True)).all()


def test_no_disc_is_all_matrix() -> None:
    assert not render_phase(Circles.from_table(np.empty((0, 3))), CELL).any()


def test_refinement_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="refinement: 0: must be at least 1"):
        render_phase(random_discs(0), WINDOW, refinement=0)
