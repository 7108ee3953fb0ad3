"""Equal sets are told apart as often as the level says, and planted differences are found."""

import numpy as np
import pytest

from microgan.statistics.estimators import Curve
from microgan.statistics.resampling import Resamples, equivalence, global_test

COUNT, PLACES = 150, 20


def curve(rng: np.random.Generator, shift: float = 0.0, count: int = COUNT) -> Curve:
    """A rough mean curve; its values at neighbouring places are correlated."""
    noise = rng.standard_normal((count, PLACES)).cumsum(axis=1) / np.sqrt(np.arange(1, PLACES + 1))
    return Curve(np.arange(PLACES), 5 + shift + noise, np.ones((count, 1)))


def resampled(curve: Curve, seed: int, group: np.ndarray | None = None) -> Resamples:
    return Resamples.of(np.arange(len(curve)) if group is None else group, repeats=199, seed=seed)


def p_value(samples: Curve, reference: Curve) -> float:
    return global_test(samples, reference, resampled(samples, 0), resampled(reference, 1)).p


def test_equal_sets_are_told_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    p = np.array([p_value(curve(rng), curve(rng)) for _ in range(200)])
    assert 0.02 <= np.mean(p < 0.05) <= 0.09  # 5 % of 200, 95 % interval
    assert 0.4 < p.mean() < 0.6


def test_a_difference_at_one_place_is_found() -> None:
    rng = np.random.default_rng(1)
    shifted, reference = curve(rng), curve(rng)
    shifted.numerator[:, 7] += 0.5
    test = global_test(shifted, reference, resampled(shifted, 0), resampled(reference, 1))
    assert test.p < 0.01
    outside = np.abs(shifted.mean() - reference.mean()) > test.half_width
    assert np.flatnonzero(outside).tolist() == [7]


def test_images_of_one_place_count_as_one() -> None:
    rng = np.random.default_rng(2)
    by_place, by_image = [], []
    for seed in range(200):
        levels = np.repeat(rng.standard_normal((2, 15)), 10, axis=1)  # 15 places of 10 windows that are alike
        pair = [Curve(np.zeros(1), 5 + level[:, None], np.ones((150, 1))) for level in levels]
        place = np.repeat(np.arange(15), 10)
        resamples = [resampled(pair[0], 2 * seed + k, place) for k in range(2)]
        by_place.append(global_test(*pair, *resamples).p < 0.05)
        by_image.append(p_value(*pair) < 0.05)
    assert np.mean(by_place) < 0.1 < 0.4 < np.mean(by_image)


def test_few_places_leave_their_variance_open() -> None:
    """The bootstrap alone would tell equal sets apart in 2 % of cases at a level of 1 %, in 7 % at 5 %."""
    rng = np.random.default_rng(5)
    resamples = [Resamples.of(np.arange(8), repeats=499, seed=seed) for seed in range(2)]
    sets = 5 + rng.standard_normal((2000, 2, 8, 1))
    p = np.array(
        [
            global_test(*(Curve(np.zeros(1), values, np.ones((8, 1))) for values in pair), *resamples).p
            for pair in sets
        ]
    )
    assert 0.004 < np.mean(p <= 0.01) < 0.012
    assert 0.035 < np.mean(p <= 0.05) < 0.055


def test_a_ratio_stays_the_same_when_its_denominator_varies() -> None:
    denominator = np.random.default_rng(3).uniform(1, 9, (100, 1))
    ratio = Curve(np.zeros(1), 0.25 * denominator, denominator)
    assert np.allclose(resampled(ratio, 0).deviations(ratio), 0, atol=1e-12)
    assert global_test(ratio, ratio, resampled(ratio, 0), resampled(ratio, 1)).p == 1.0


def test_equivalence_is_shown_only_with_enough_images() -> None:
    rng = np.random.default_rng(4)

    def number(count: int, mean: float) -> Curve:
        return Curve(np.zeros(1), rng.normal(mean, 0.2, (count, 1)), np.ones((count, 1)))

    shown = {}
    for count in (10, 2000):
        pair = number(count, 1.0), number(count, 1.0)
        shown[count] = equivalence(*pair, resampled(pair[0], 0), resampled(pair[1], 1), margin=0.05)
        assert shown[count].low < 0 < shown[count].high
    assert shown[2000].shown and not shown[10].shown
    far, reference = number(2000, 1.06), number(2000, 1.0)
    result = equivalence(far, reference, resampled(far, 0), resampled(reference, 1), margin=0.05)
    assert not result.shown and result.difference == pytest.approx(0.06, abs=0.02)


def test_without_a_denominator_there_is_no_answer() -> None:
    nothing = Curve(np.zeros(2), np.zeros((5, 2)), np.zeros((5, 1)))
    test = global_test(nothing, nothing, resampled(nothing, 0), resampled(nothing, 1))
    assert np.isnan(test.p) and np.isnan(test.half_width).all()


def test_a_value_of_one_image_alone_is_no_test() -> None:
    rng = np.random.default_rng(5)
    reference = Curve(np.zeros(1), rng.normal(6, 0.1, (40, 1)), np.ones((40, 1)))
    counts = np.zeros((40, 1))
    counts[3] = 1  # the others have nothing to count, as images without discs have no neighbours
    alone = Curve(np.zeros(1), 0.2 * counts, counts)
    assert np.isnan(p_value(alone, reference)) and np.isnan(p_value(reference, alone))
