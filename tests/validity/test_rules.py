"""Each rule against drawings of which the answer is known, and with nothing to see."""

import sys
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import ndimage

from microgan.detection.circles import Circles
from microgan.validity import rules
from microgan.validity.evidence import Evidence
from microgan.validity.rules import RULES, Rule, measure

Disc = tuple[float, float, float]


def _evidence(
    discs: list[Disc], found: list[Disc] | None = None, phase: np.ndarray | None = None, noise: float = 0.0
) -> Evidence:
    """Draw discs of grey 0.5 in a matrix of -0.5; the circles ``found`` are those drawn unless given."""
    row, col = np.mgrid[:64, :64]
    if phase is None:
        depth = [radius - np.hypot(row - r, col - c) for r, c, radius in discs]
        phase = np.max([np.full((64, 64), -9.0), *depth], axis=0) > 0
    grey = ndimage.gaussian_filter(phase - 0.5, 0.6)
    grey = grey + np.random.default_rng(0).normal(0, noise, grey.shape)
    circles = Circles.from_table(np.array(discs if found is None else found, float).reshape(-1, 3))
    return Evidence(grey.astype(np.float32), phase, circles)


def _packing(count: int = 400, least_px: float = 10.5, seed: int = 0, radius: float = 4.5) -> list[Disc]:
    """Place discs at random, at least ``least_px`` apart, also a little outside of the image."""
    rng = np.random.default_rng(seed)
    placed: list[Disc] = []
    for place in rng.uniform(-3, 67, (count, 2)):
        if all(np.hypot(place[0] - r, place[1] - c) >= least_px for r, c, _ in placed):
            placed.append((*place, radius))
    return placed


def _lattice(angle: float, step_px: float = 11.0, square: bool = False, radius: float = 4.5) -> list[Disc]:
    n = np.arange(-10, 11)
    i, j = (part.ravel() for part in np.meshgrid(n, n))
    x, y = (i * step_px, j * step_px) if square else ((i + j / 2) * step_px, j * step_px * np.sqrt(0.75))
    row = 31 + x * np.cos(angle) - y * np.sin(angle)
    col = 33 + x * np.sin(angle) + y * np.cos(angle)
    near = (np.abs(row - 31.5) < 35) & (np.abs(col - 31.5) < 35)
    return [(r, c, radius) for r, c in zip(row[near], col[near], strict=True)]


ONE, OTHER = (20.0, 20.0, 6.0), (42.0, 40.0, 6.0)


# Discs and their places ---------------------------------------------------------------------------------


def test_overlap_is_that_of_the_worst_pair_inside() -> None:
    discs = [(20, 20, 6), (20, 29, 6), (40, 40, 5), (-2, 50, 6), (3, 50, 6)]
    # the pair at the border is cut: not judged
    assert rules.overlap(_evidence(discs)) == pytest.approx(1 - 9 / 12)
    assert rules.overlap(_evidence([(20, 20, 6), (20, 33, 6)])) == 0
    assert rules.overlap(_evidence([])) == 0


def test_high_confidence_overlap_is_that_of_two_well_fitted_discs() -> None:
    grey, phase = np.zeros((64, 64), np.float32), np.zeros((64, 64), bool)
    table = np.array([[20, 20, 6, 0.9], [20, 29, 6, 0.5], [20, 10, 6, 0.6], [-0.4, 20, 30, 0.9]])
    evidence = Evidence(grey, phase, Circles.from_table(table))
    assert rules.overlap(evidence) == pytest.approx(1 - 9 / 12)
    assert rules.high_confidence_overlap(evidence) == pytest.approx(1 - 10 / 12)


def test_the_smallest_gap_is_negative_where_discs_overlap() -> None:
    assert rules.smallest_gap_px(_evidence([(20, 20, 6), (20, 34, 6), (45, 34, 5)])) == pytest.approx(2)
    assert rules.smallest_gap_px(_evidence([(20, 20, 6), (20, 29, 6)])) == pytest.approx(-3)
    assert rules.smallest_gap_px(_evidence([ONE])) == 64
    assert rules.smallest_gap_px(_evidence([])) == -64


def test_radii_are_those_of_whole_discs() -> None:
    discs = _evidence([(20, 20, 6), (40, 40, 5), (3, 30, 9)])
    assert (rules.smallest_radius_px(discs), rules.largest_radius_px(discs)) == (5, 6)
    cut = _evidence([(2, 2, 6)])
    assert (rules.smallest_radius_px(cut), rules.largest_radius_px(cut)) == (0, 0)


def test_discs_count_by_their_centres() -> None:
    assert rules.discs_per_1000px2(_evidence([ONE, OTHER, (-2, 30, 6)])) == pytest.approx(2000 / 64**2)
    assert rules.discs_per_1000px2(_evidence([])) == 0


@pytest.mark.parametrize("place", [(-0.4, 30.0), (30.0, -0.4), (63.4, 30.0), (30.0, 63.4)])
def test_a_disc_in_the_outermost_half_pixel_counts_but_is_in_no_pair(place: tuple[float, float]) -> None:
    at_border = (*place, 6.0)
    inwards = (31.5 + 0.7 * (place[0] - 31.5), 31.5 + 0.7 * (place[1] - 31.5), 6.0)
    pair = _evidence([at_border, inwards])
    assert rules.discs_per_1000px2(pair) == pytest.approx(2000 / 64**2)
    assert rules.overlap(pair) == 0 and rules.smallest_gap_px(pair) == 64
    row, col = (31.5 + 1.01 * (part - 31.5) for part in place)
    beyond = _evidence([(row, col, 6.0)])
    assert rules.discs_per_1000px2(beyond) == 0


def test_the_gap_around_a_disc_ends_at_the_border() -> None:
    assert rules.largest_nearest_neighbour_gap(_evidence([(30, 30, 5), (30, 42, 5)])) == pytest.approx(2 / 5)
    # 20 px to the neighbour's edge, 25 px to the border; then 20 px to the border alone
    assert rules.largest_nearest_neighbour_gap(_evidence([(30, 30, 5), (30, 60, 5)])) == pytest.approx(20 / 5)
    assert rules.largest_nearest_neighbour_gap(_evidence([(25, 30, 5)])) == pytest.approx(20 / 5)
    assert rules.largest_nearest_neighbour_gap(_evidence([])) == 64


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.9, 2.0])
@pytest.mark.parametrize("square", [False, True])
def test_a_lattice_has_order_at_any_rotation(angle: float, square: bool) -> None:
    discs = _lattice(angle, square=square)
    assert rules.lattice_order(_evidence(discs)) > 0.95
    shaken = np.array(discs) + np.random.default_rng(1).normal(0, 0.4, (len(discs), 1)) * [1, -1, 0]
    assert rules.lattice_order(_evidence(shaken.tolist())) > 0.75


def test_a_random_packing_has_little_order() -> None:
    orders = [rules.lattice_order(_evidence(_packing(seed=seed))) for seed in range(8)]
    assert max(orders) < 0.5
    assert rules.lattice_order(_evidence([ONE, OTHER])) == 0  # too few to tell
    assert rules.lattice_order(_evidence([])) == 1


# Discs against the disc phase ---------------------------------------------------------------------------


def test_a_merged_pair_leaves_uncovered_phase() -> None:
    pair: list[Disc] = [(30, 24, 6), (30, 34, 6)]
    assert rules.uncovered_phase(_evidence(pair)) == 0
    assert rules.uncovered_phase(_evidence(pair, pair[:1])) > 0.5
    assert rules.uncovered_phase(_evidence([ONE], [])) == pytest.approx(np.pi * 36 / 64**2, rel=0.1)


@pytest.mark.parametrize("turn", [0.0, 0.7, 2.4, 4.0])
def test_half_a_disc_has_an_empty_half(turn: float) -> None:
    row, col = np.mgrid[:64, :64]
    away = (row - 20) * np.cos(turn) + (col - 20) * np.sin(turn) > 0
    half = _evidence([ONE, OTHER]).phase & ~(away & (np.hypot(row - 20, col - 20) < 7))
    assert rules.least_half_disc_fill(_evidence([], [ONE, OTHER], half)) < 0.25
    assert rules.least_half_disc_fill(_evidence([ONE, OTHER])) > 0.8
    assert rules.least_half_disc_fill(_evidence([])) == 0


def test_a_circle_without_phase_is_empty() -> None:
    assert rules.empty_circle(_evidence([ONE])) == 0
    assert rules.empty_circle(_evidence([ONE], [ONE, OTHER])) == 1
    half = _evidence([ONE]).phase & (np.arange(64) <= 20)
    assert rules.empty_circle(_evidence([], [ONE], half)) == pytest.approx(0.5, abs=0.1)
    assert rules.empty_circle(_evidence([])) == 1
    # A circle counts from 30 % of its area in the image on: 14 % at a row of -3, 40 % at a row of 0.
    assert rules.empty_circle(_evidence([ONE], [ONE, (-3, 45, 6)])) == 0
    assert rules.empty_circle(_evidence([ONE], [ONE, (-0.5, 45, 6)])) == 1


def test_one_minus_iou_counts_missing_and_superfluous_circles() -> None:
    assert rules.one_minus_iou(_evidence([ONE])) == 0
    assert rules.one_minus_iou(_evidence([ONE, OTHER], [ONE])) == pytest.approx(0.5, abs=0.01)
    assert rules.one_minus_iou(_evidence([ONE], [ONE, OTHER])) == pytest.approx(0.5, abs=0.01)
    assert rules.one_minus_iou(_evidence([])) == 1


def test_volume_fraction_is_the_fraction_of_the_phase() -> None:
    evidence = Evidence(
        np.zeros((8, 8), np.float32),
        np.arange(64).reshape(8, 8) < 16,
        Circles.from_table(np.array([[2, 2, 3, 0.4], [5, 5, 3, 0.8]])),
    )
    assert rules.volume_fraction(evidence) == 0.25


# Edges and grey values -----------------------------------------------------------------------------------


MIDDLE = (30.0, 32.0, 6.0)


def _lobed(harmonic: int, amplitude: float, turn: float, discs: tuple[Disc, ...] = ()) -> np.ndarray:
    """Phase of a disc in the middle with its edge at r (1 + amplitude cos(harmonic t)), and of others."""
    row, col = np.mgrid[:64, :64] - np.array(MIDDLE[:2])[:, None, None]
    edge_px = MIDDLE[2] * (1 + amplitude * np.cos(harmonic * (np.arctan2(row, col) - turn)))
    return (np.hypot(row, col) < edge_px) | (_evidence([*discs]).phase if discs else False)


@pytest.mark.parametrize("harmonic", [2, 3])
@pytest.mark.parametrize("turn", [0.0, 0.4, 1.1])
def test_non_circularity_is_the_amplitude_of_the_lobes(harmonic: int, turn: float) -> None:
    values = []
    for amplitude in (0.0, 0.1, 0.2, 0.3):
        lobed = _evidence([], [MIDDLE, OTHER], _lobed(harmonic, amplitude, turn, (OTHER,)))
        values.append(rules.non_circularity(lobed))
    assert values == sorted(values)
    # The ridge takes a fifth at 24 angles in sight, and lobes that reach beyond the profiles are cut.
    assert values[:3] == pytest.approx([0.03, 0.08, 0.16], abs=0.035)


def test_noise_averages_out_of_round_discs_and_ellipses_stand_out() -> None:
    packing = _packing()
    assert rules.non_circularity(_evidence(packing)) < 0.08
    assert rules.non_circularity(_evidence(packing, noise=0.15)) < 0.15
    elliptical = _evidence([], [MIDDLE], _lobed(2, 0.25, 0.7), noise=0.15)
    assert rules.non_circularity(elliptical) > 0.16
    assert rules.non_circularity(_evidence([])) == 1
    assert rules.non_circularity(_evidence([(0, 20, 6)])) == 0  # cut by the border: not measured


def test_a_close_neighbour_does_not_spoil_a_round_disc() -> None:
    apart = rules.non_circularity(_evidence([(30, 24, 6), (30, 44, 6)]))
    touching = rules.non_circularity(_evidence([(30, 24, 6), (30, 36.2, 6)]))
    assert touching == pytest.approx(apart, abs=0.05)
    around = [(31 + 12 * np.sin(a), 31 + 12 * np.cos(a), 6.0) for a in np.arange(6) * np.pi / 3]
    assert rules.non_circularity(_evidence([(31, 31, 6), *around])) < 0.1


@pytest.mark.parametrize("turn", [0.0, 0.7, 2.5, 4.0])
def test_half_a_disc_is_not_circular(turn: float) -> None:
    row, col = np.mgrid[:64, :64]
    along = (row - 30) * np.cos(turn) + (col - 32) * np.sin(turn)
    half = _evidence([MIDDLE]).phase & (along < 0)
    # What the detector makes of it: a smaller circle in the middle of the half.
    fitted = (30 - 2.5 * np.cos(turn), 32 - 2.5 * np.sin(turn), 4.5)
    assert rules.non_circularity(_evidence([], [fitted], half)) > 0.15
    assert rules.non_circularity(_evidence([MIDDLE])) < 0.02


def test_the_largest_matrix_brightness_is_that_of_a_disc_without_a_circle() -> None:
    round_ones: list[Disc] = [(16.0, 18.0, 6.0), (46.0, 40.0, 6.0)]
    clean = _evidence([*round_ones, MIDDLE])
    assert rules.largest_matrix_brightness(clean) < 0.05
    assert 0.7 < rules.largest_matrix_brightness(_evidence([*round_ones, MIDDLE], round_ones)) <= 1.05
    # half as bright as discs, below the threshold of the phase
    faded = Evidence(clean.grey - (0.5 * _lobed(2, 0, 0)).astype(np.float32), clean.phase, clean.circles)
    faint = Evidence(faded.grey, clean.phase, _evidence(round_ones).circles)
    assert 0.3 < rules.largest_matrix_brightness(faint) < 0.6
    small = _evidence([*round_ones, (30, 32, 3)], round_ones)
    assert 0.25 < rules.largest_matrix_brightness(small) < 0.8
    at_border = _evidence([*round_ones, (30, 62, 6)], round_ones)
    assert rules.largest_matrix_brightness(at_border) < 0.05
    assert rules.largest_matrix_brightness(_evidence([MIDDLE], [])) == 10


def test_contrast_is_grey_of_discs_minus_matrix() -> None:
    assert rules.contrast(_evidence([ONE, OTHER])) == pytest.approx(1, abs=0.02)
    assert rules.contrast(_evidence([])) == 0
    assert rules.contrast(_evidence([(20, 20, 0.8)])) <= 0  # no pixel is inside of the edge
    blank = Evidence(np.full((64, 64), 0.3, np.float32), np.ones((64, 64), bool), _evidence([ONE]).circles)
    assert rules.contrast(blank) == 0


@pytest.mark.parametrize(("change", "measure_of"), [(0.3, "brightest_disc"), (-0.5, "faintest_disc")])
def test_a_single_disc_of_another_grey_is_measured(change: float, measure_of: str) -> None:
    packing = _evidence(_packing(), noise=0.05)
    assert getattr(rules, measure_of)(packing) == pytest.approx(1, abs=0.06)
    row, col, radius = (round(float(values[0])) for values in (
        packing.circles.row, packing.circles.col, packing.circles.radius_px
    ))  # fmt: skip
    rows, cols = np.mgrid[:64, :64]
    grey = packing.grey + (change * (np.hypot(rows - row, cols - col) < radius)).astype(np.float32)
    changed = Evidence(grey, packing.phase, packing.circles)
    assert getattr(rules, measure_of)(changed) == pytest.approx(1 + change, abs=0.1)
    nothing = _evidence([])
    assert rules.brightest_disc(nothing) == 10 and rules.faintest_disc(nothing) == 0


def test_edge_sharpness_falls_with_blur_and_grey_noise_is_measured_apart() -> None:
    sharp = _evidence(_packing())
    soft = Evidence(ndimage.gaussian_filter(sharp.grey, 1.5), sharp.phase, sharp.circles)
    assert rules.edge_sharpness(soft) < 0.7 * rules.edge_sharpness(sharp)
    assert rules.edge_sharpness(_evidence([])) == 0
    assert rules.grey_noise(_evidence([ONE, OTHER], noise=0.1)) == pytest.approx(0.1, rel=0.1)
    assert rules.grey_noise(sharp) < 0.02
    assert rules.grey_noise(_evidence([])) == 10


@pytest.mark.parametrize("axis", [0, 1])
def test_two_images_put_together_have_a_seam(axis: int) -> None:
    one, other = (_evidence(_packing(seed=seed), noise=0.05) for seed in (1, 2))
    first = np.arange(64) < 30
    first = first[:, None] if axis == 0 else first
    joined = Evidence(np.where(first, one.grey, other.grey), one.phase, one.circles)
    assert rules.seam(joined) > 2 * max(rules.seam(one), rules.seam(other))
    blank = Evidence(np.zeros((64, 64), np.float32), one.phase, _evidence([]).circles)
    assert rules.seam(blank) == 10


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_measures_of_grey_are_relative_to_the_contrast(factor: float) -> None:
    packing = _evidence(_packing(), noise=0.05)
    scaled = Evidence((factor * packing.grey + 0.1).astype(np.float32), packing.phase, packing.circles)
    assert rules.contrast(scaled) == pytest.approx(factor * rules.contrast(packing))
    before, after = measure(packing), measure(scaled)
    del before["contrast"], after["contrast"]
    assert after == pytest.approx(before, rel=1e-3, abs=1e-4)


def test_measures_do_not_change_when_rows_and_columns_are_swapped() -> None:
    discs = _packing()
    packing = _evidence(discs, discs[3:], noise=0.05)
    circles = packing.circles
    swapped = Circles(circles.col, circles.row, circles.radius_px, circles.score)
    transposed = Evidence(packing.grey.T, packing.phase.T, swapped)
    before, after = measure(packing), measure(transposed)
    del before["grey_noise"], after["grey_noise"]  # along rows alone
    assert before["largest_matrix_brightness"] > 0.3
    assert after == pytest.approx(before, rel=1e-3, abs=1e-4)


# All together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grey", [0.0, 0.5, -1.0])
def test_every_rule_measures_a_blank_image(grey: float) -> None:
    for phase in (np.zeros((32, 48), bool), np.ones((32, 48), bool)):
        blank = Evidence(np.full((32, 48), grey, np.float32), phase, Circles.from_table(np.zeros((0, 4))))
        assert np.isfinite(list(measure(blank).values())).all()


def test_every_rule_measures_one_disc_anywhere() -> None:
    for row in (-3.0, 0.0, 20.4, 31.0, 33.0):
        one = _evidence([(row, 20, 6)])
        assert np.isfinite(list(measure(one).values())).all()
    odd = Evidence(np.zeros((5, 9), np.float32), np.ones((5, 9), bool), _evidence([ONE]).circles)
    assert np.isfinite(list(measure(odd).values())).all()


def test_every_rule_has_a_title_and_a_reason() -> None:
    for name, rule in RULES.items():
        assert rule.title and rule.measure.__doc__ and rule.reason.isidentifier(), name
        assert rule.side in ("too_large", "too_small", "both")


def _calls(evidence: Evidence, used: Mapping[str, Rule] = RULES) -> int:
    """Count the calls of functions that the rules take: a loop in Python shows, whatever the machine."""
    count = 0

    def trace(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(trace)
    try:
        measure(evidence, used)
    finally:
        sys.setprofile(None)
    return count


def test_the_work_of_the_rules_does_not_grow_with_the_discs_and_is_shared() -> None:
    few, many = _packing(count=10), _packing(count=800)
    assert len(few) < 10 and 25 <= len(many) <= 60
    together = _calls(_evidence(many, noise=0.05))
    assert together < 1.2 * _calls(_evidence(few, noise=0.05))  # no loop over discs
    assert together < 1000  # nor over pixels
    alone = sum(_calls(_evidence(many, noise=0.05), {name: rule}) for name, rule in RULES.items())
    assert together < 0.5 * alone  # distances, edges and greys are computed once for all rules
