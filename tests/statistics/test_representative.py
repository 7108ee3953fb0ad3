"""How far cells vary: on materials whose variance is known, and on cells that are cut and counted."""

import numpy as np
import pytest

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.exporters.rendering import render_phase
from microgan.statistics.representative import (
    FractionVariance,
    PropertyVariance,
    fraction_variance,
    smallest_side_px,
)

SIDE_PX, RADIUS_PX = 256, 4.0


def boolean(rng: np.random.Generator, side_px: int, fraction: float = 0.5) -> np.ndarray:
    """Draw a Boolean model: discs anywhere, overlapping, (side_px, side_px)."""
    mean = -np.log(1 - fraction) * side_px**2 / (np.pi * RADIUS_PX**2)
    centres = rng.uniform(0, side_px, (rng.poisson(mean), 2))
    discs = Circles.from_table(np.column_stack([centres, np.full(len(centres), RADIUS_PX)]))
    return render_phase(discs, Domain((side_px, side_px), periodic=True))


def measured(*planes: np.ndarray) -> FractionVariance:
    return fraction_variance([(plane, np.ones(plane.shape, bool)) for plane in planes])


def boolean_integral_range(fraction: float) -> float:
    """Return the integral of exp(-2 l a + l K(r)) - q^2 over f q, with K the overlap of two discs."""
    void, area = 1 - fraction, np.pi * RADIUS_PX**2
    density = -np.log(void) / area
    r = np.linspace(0, 2 * RADIUS_PX, 4001)
    half = r / (2 * RADIUS_PX)
    overlap = 2 * RADIUS_PX**2 * (np.arccos(half) - half * np.sqrt(1 - half**2))
    covariance = np.exp(-density * (2 * area - overlap)) - void**2
    return float(np.trapezoid(covariance * 2 * np.pi * r, r) / (fraction * void))


def test_each_pixel_of_noise_counts_for_itself() -> None:
    planes = np.random.default_rng(0).random((20, SIDE_PX, SIDE_PX)) < 0.3
    assert np.mean([measured(plane).integral_range_px2 for plane in planes]) == pytest.approx(1, abs=0.2)
    of_noise = measured(*planes)
    assert of_noise.variance(16) == pytest.approx(0.3 * 0.7 / 16**2, rel=0.05)
    assert not of_noise.scan_is_too_small


def test_a_boolean_model_has_the_integral_range_of_its_formula() -> None:
    planes = [boolean(np.random.default_rng(seed), SIDE_PX) for seed in range(12)]
    areas = [measured(plane).integral_range_px2 for plane in planes]
    assert np.mean(areas) == pytest.approx(boolean_integral_range(0.5), rel=0.15)


def test_intervals_contain_as_many_cells_as_they_say() -> None:
    rng = np.random.default_rng(3)
    large = boolean(rng, 2048)
    scans = [measured(boolean(rng, SIDE_PX)) for _ in range(12)]
    for side_px in (16, 64, 128):
        blocks = large.reshape(2048 // side_px, side_px, 2048 // side_px, side_px).mean((1, 3)).ravel()
        widths = np.array([scan.half_width(side_px) for scan in scans])
        covered = np.mean(np.abs(blocks[:, None] - large.mean()) <= widths)
        assert 0.92 < covered <= 0.99, side_px
    inside = [low < large.mean() < high for low, high in (scan.scan_interval() for scan in scans)]
    assert np.mean(inside) >= 0.75


def test_the_smallest_cell_has_the_wanted_interval() -> None:
    scan = measured(boolean(np.random.default_rng(0), SIDE_PX))
    side_px = scan.side_px(0.01)
    assert scan.half_width(side_px) <= 0.01 < scan.half_width(side_px - 1)
    assert scan.side_px(0.01, 0.99) > side_px > scan.side_px(0.02)


def test_planes_of_the_same_discs_count_once() -> None:
    rng = np.random.default_rng(1)
    first, second = boolean(rng, SIDE_PX), boolean(rng, SIDE_PX)
    moved = np.roll(first, 3, axis=0)  # the discs wander along the stack
    assert measured(first, moved).independent_planes == pytest.approx(1, abs=0.1)
    assert measured(first, second, *(boolean(rng, SIDE_PX) for _ in range(4))).independent_planes > 3
    assert measured(first, moved).scan_variance > 0.8 * measured(first).scan_variance


def test_what_is_outside_of_the_field_of_view_is_not_counted() -> None:
    rng = np.random.default_rng(2)
    plane, row = boolean(rng, SIDE_PX), np.arange(SIDE_PX)
    inside = np.hypot(row[:, None] - SIDE_PX / 2, row - SIDE_PX / 2) < 0.45 * SIDE_PX
    spoilt = np.where(inside, plane, True)
    scan, same = (fraction_variance([(phase, inside)]) for phase in (plane, spoilt))
    assert scan.volume_fraction == same.volume_fraction == plane[inside].mean()
    assert np.allclose(scan.covariance, same.covariance)
    assert scan.scan_variance > measured(plane).scan_variance / 4


def test_a_scan_that_shows_no_end_of_its_structure_is_named() -> None:
    halves = np.zeros((SIDE_PX, SIDE_PX), bool)
    halves[:, : SIDE_PX // 2] = True
    assert measured(halves).scan_is_too_small


def test_a_regular_arrangement_has_a_variance_all_the_same() -> None:
    row, col = np.indices((SIDE_PX, SIDE_PX))
    scan = measured(np.hypot(row % 16 - 8, col % 16 - 8) < 5)
    assert 0 < scan.half_width(64) < measured(boolean(np.random.default_rng(0), SIDE_PX)).half_width(64) / 2


def test_stiffness_varies_with_the_fraction_and_with_the_rest() -> None:
    rng = np.random.default_rng(0)
    fraction = measured(boolean(rng, SIDE_PX))
    fractions = fraction.volume_fraction + 0.1 * rng.standard_normal(2000)
    deviation = fractions - fraction.volume_fraction
    values = 10 + 20 * deviation + 30 * deviation**2 + 0.5 * rng.standard_normal(2000)
    model = PropertyVariance.of(fraction, fractions, values, window_px=32)
    assert model.mean == pytest.approx(10, abs=0.1) and model.slope == pytest.approx(20, abs=0.5)
    assert model.residual_variance_px2 == pytest.approx(0.25 * 32**2, rel=0.1)
    expected = np.sqrt(400 * fraction.variance(64) + 0.25 / 4) / 10 * fraction.quantile()
    assert model.relative_half_width(64) == pytest.approx(expected, rel=0.05)
    side_px = model.side_px(0.02)
    assert model.relative_half_width(side_px) <= 0.02 < model.relative_half_width(side_px - 1)


def test_bad_input_is_named() -> None:
    blank = np.zeros((64, 64), bool)
    with pytest.raises(UserError, match="must have both phases"):
        measured(blank)
    with pytest.raises(UserError, match="planes of one size"):
        fraction_variance([(blank, np.ones((32, 64), bool))])
    with pytest.raises(UserError, match="at least"):
        measured(np.eye(8, dtype=bool))
    with pytest.raises(UserError, match="one at least"):
        fraction_variance([])
    scan = measured(np.random.default_rng(0).random((64, 64)) < 0.5)
    with pytest.raises(UserError, match="half_width"):
        scan.side_px(0)
    with pytest.raises(UserError, match="confidence"):
        scan.half_width(64, 1.0)
    with pytest.raises(UserError, match="at least 10"):
        PropertyVariance.of(scan, np.ones(5), np.ones(5), 64)
    with pytest.raises(UserError, match="no cell of up to"):
        smallest_side_px(lambda side: 1.0, 0.5)
