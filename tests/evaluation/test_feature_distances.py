"""Measures on features against plain double loops, and against sets whose difference is known."""

import numpy as np
import pytest
import torch

from microgan.core.errors import UserError
from microgan.evaluation.encoder import EncoderConfig, random_encoder
from microgan.evaluation.feature_distances import (
    SIDES,
    FeatureDistancesConfig,
    classifier_auc,
    compare_features,
    compare_images,
    density_coverage_precision_recall,
    given_away,
    kernel_distance,
    permutation_p_value,
    permuted_labels,
    standardised,
)

MEASURES = ("density", "coverage", "precision", "recall")


def neighbour_measures(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    labels = np.arange(len(real) + len(fake))[None] < len(real)
    measures = density_coverage_precision_recall(np.concatenate([real, fake]), labels, k)
    return {name: float(values[0]) for name, values in measures.items()}


def classified(x: np.ndarray, y: np.ndarray, folds: int, permutations: int) -> tuple[float, np.ndarray]:
    """Area under the curve of two sets, and of the same images with permuted labels."""
    labels = np.arange(len(x) + len(y)) < len(x)
    permuted = permuted_labels(labels, None, permutations, seed=0)
    joined = standardised(np.concatenate([x, y]))
    areas = classifier_auc(joined, np.concatenate([labels[None], permuted]), folds, seed=0)
    return areas[0], areas[1:]


def normal(count: int, seed: int, mean: float = 0.0, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (count, width))


def mmd2_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


def test_kernel_distance_is_what_a_double_loop_gives() -> None:
    x, y = normal(12, 0), normal(12, 1, mean=0.5)
    distance = kernel_distance(x, y, subsets=2, subset_size=12, seed=0)  # each subset is everything
    assert distance.value == pytest.approx(mmd2_by_loops(x, y), abs=1e-10)
    assert distance.standard_error == pytest.approx(0, abs=1e-10)


def test_whole_sets_of_unequal_size_give_the_same_as_loops() -> None:
    x, y = normal(14, 0), normal(9, 1, mean=0.5)
    config = FeatureDistancesConfig(neighbours=2, folds=2, permutations=19, subsets=2, subset_size=5)
    permuted = permuted_labels(np.arange(23) < 14, None, 19, seed=0)
    measures = compare_features(x, y, permuted, config, seed=0)
    joined = standardised(np.concatenate([x, y]))
    null = [mmd2_by_loops(joined[labels], joined[~labels]) for labels in permuted]
    assert measures["kernel_distance"]["value"] == pytest.approx(
        mmd2_by_loops(joined[:14], joined[14:]), abs=1e-10
    )
    assert measures["kernel_distance"]["null_mean"] == pytest.approx(np.mean(null), abs=1e-10)


def test_kernel_distance_of_equal_sets_is_zero_on_average() -> None:
    values = [
        kernel_distance(normal(60, 2 * i), normal(60, 2 * i + 1), 2, 60, seed=0).value for i in range(100)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10
    assert min(values) < 0  # unbiased, so it falls below as often


def test_standard_error_is_the_scatter_of_disjoint_subsets() -> None:
    x, y = normal(6000, 0), normal(6000, 1)
    estimates = [kernel_distance(x, y, 10, 30, seed) for seed in range(60)]  # subsets share hardly an image
    scatter = np.std([estimate.value for estimate in estimates], ddof=1)
    errors = [estimate.standard_error for estimate in estimates]
    assert np.mean(errors) == pytest.approx(scatter, rel=0.35)


def neighbours_by_loops(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, ...]:
    def reaches(points: np.ndarray) -> list[float]:
        return [sorted(np.linalg.norm(points - point, axis=1))[k] for point in points]  # 0 is itself

    apart = [[float(np.linalg.norm(point - other)) for other in fake] for point in real]
    of_fakes = reaches(fake)
    in_real = np.array([[d < reach for d in row] for row, reach in zip(apart, reaches(real), strict=True)])
    in_fake = np.array([[d < reach for d, reach in zip(row, of_fakes, strict=True)] for row in apart])
    density = in_real.sum() / (k * len(fake))
    return density, in_real.any(1).mean(), in_real.any(0).mean(), in_fake.any(1).mean()


@pytest.mark.parametrize(("k", "mean"), [(1, 0.0), (3, 1.0), (8, 2.5)])
def test_neighbours_are_those_of_plain_loops(k: int, mean: float) -> None:
    real, fake = normal(130, 0, width=2), normal(70, 1, mean, width=2)
    measures = neighbour_measures(real, fake, k)
    assert tuple(measures) == MEASURES
    np.testing.assert_allclose(list(measures.values()), neighbours_by_loops(real, fake, k), atol=1e-12)


def test_identical_sets_have_all_of_it_and_far_ones_nothing() -> None:
    x = normal(150, 0)
    same = neighbour_measures(x, x.copy(), 5)
    assert all(same[name] == 1 for name in ("coverage", "precision", "recall"))
    assert same["density"] == pytest.approx(1, abs=0.01)
    assert set(neighbour_measures(x, x + 100, 5).values()) == {0}


def test_one_mode_lost_costs_recall_and_coverage_and_not_precision() -> None:
    real = np.concatenate([normal(100, 0), normal(100, 1, mean=30)])
    measures = neighbour_measures(real, normal(200, 2), 5)
    assert measures["precision"] > 0.85
    assert measures["recall"] == pytest.approx(0.5, abs=0.1)
    assert measures["coverage"] == pytest.approx(0.5, abs=0.02)


def test_classifier_is_at_chance_on_equal_sets_and_sure_on_far_ones() -> None:
    equal, null = classified(normal(300, 0), normal(300, 1), 5, 99)
    assert equal == pytest.approx(0.5, abs=0.07) and permutation_p_value(equal, null) > 0.05
    assert null.mean() == pytest.approx(0.5, abs=0.01)
    far, null = classified(normal(300, 0), normal(300, 1, mean=2), 5, 99)
    assert far > 0.99 and permutation_p_value(far, null) == pytest.approx(0.01)


def test_classifier_reaches_the_area_that_theory_gives() -> None:
    # Two normals at distance d: the best area under the curve is Phi(d / sqrt 2), for d = 1 0.760.
    area, _ = classified(normal(2000, 0), normal(2000, 1, mean=0.5), 5, 19)
    assert area == pytest.approx(0.760, abs=0.025)


def test_p_values_of_equal_sets_are_uniform() -> None:
    config = FeatureDistancesConfig(neighbours=2, folds=3, permutations=39, subsets=2, subset_size=10)
    p: dict[str, list[float]] = {name: [] for name in SIDES}
    for repeat in range(80):
        x, y = normal(30, 2 * repeat), normal(30, 2 * repeat + 1)
        permuted = permuted_labels(np.arange(60) < 30, None, config.permutations, repeat)
        for name, figures in compare_features(x, y, permuted, config, repeat).items():
            p[name].append(figures["p"])
    for name, values in p.items():
        assert np.mean(np.array(values) <= 0.1) < 0.1 + 3 * np.sqrt(0.09 / 80), name
        tied = name in ("precision", "recall", "coverage", "density")  # few values, hence larger p
        assert 0.4 < np.mean(values) < (0.7 if tied else 0.6), name


def test_p_value_counts_the_value_itself() -> None:
    null = np.arange(99.0)
    assert permutation_p_value(200, null) == pytest.approx(0.01)
    assert permutation_p_value(-1, null) == 1
    assert permutation_p_value(-1, null, side=-1) == pytest.approx(0.01)


def test_blocks_are_dealt_out_whole() -> None:
    labels, groups = np.repeat([True, False], 20), np.repeat(np.arange(8), 5)
    permuted = permuted_labels(labels, groups, 50, seed=0)
    assert permuted.shape == (50, 40)
    blocks = permuted.reshape(50, 8, 5)
    assert (blocks == blocks[:, :, :1]).all() and (blocks[:, :, 0].sum(1) == 4).all()
    assert not np.array_equal(permuted[0], permuted[1])
    singles = permuted_labels(labels, None, 50, seed=0)
    assert (singles.sum(1) == 20).all() and not (singles.reshape(50, 8, 5).std(2) == 0).all()


def test_blocks_keep_a_shift_between_planes_from_passing_for_a_difference() -> None:
    """Real against real: each block has a shift of its own, as places of a scan do."""
    config = FeatureDistancesConfig(neighbours=3, folds=4, permutations=99, subsets=2, subset_size=10)
    labels, groups = np.arange(160) < 80, np.repeat(np.arange(16), 10)
    alarms = np.zeros(2)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values = rng.normal(0, 1, (160, 4)) + np.repeat(rng.normal(0, 0.7, (16, 4)), 10, axis=0)
        for index, blocks in enumerate((None, groups)):
            permuted = permuted_labels(labels, blocks, 99, seed)
            measures = compare_features(values[:80], values[80:], permuted, config, seed)
            alarms[index] += measures["kernel_distance"]["p"] <= 0.05
    assert alarms[0] / 30 > 0.3 and alarms[1] / 30 < 0.2


def test_compare_images_flags_what_differs_by_encoder_and_control() -> None:
    config = FeatureDistancesConfig(permutations=39, subsets=5, subset_size=20)
    small = EncoderConfig(base_channels=4, features=8)
    encoder, control = random_encoder(0, small), random_encoder(1, small)
    images = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (120, 1, 32, 32))).float()
    same = compare_images(images[:60], images[60:], encoder, control, config, seed=0)
    assert set(same) == {f"{network}/{name}" for network in ("encoder", "control") for name in SIDES}
    assert set(same["encoder/coverage"]) == {"value", "null_mean", "null_bound", "p"}
    assert same["encoder/kernel_distance"]["standard_error"] > 0
    assert same == compare_images(images[:60], images[60:], encoder, control, config, seed=0)
    fainter = compare_images(images[:60], 0.5 * images[60:], encoder, control, config, seed=0)
    for name in ("kernel_distance", "classifier_auc", "coverage"):
        assert same[f"encoder/{name}"]["p"] > 0.05 and fainter[f"encoder/{name}"]["p"] <= 0.05


def test_mixed_or_missing_groups_too_few_images_and_large_subsets_are_refused() -> None:
    labels = np.array([True, True, False, False])
    with pytest.raises(UserError, match="groups: 0: must not hold images of both sets"):
        permuted_labels(labels, np.array([1, 0, 0, 2]), 3, seed=0)
    with pytest.raises(UserError, match=r"groups: \(3,\): must have one block for each image"):
        permuted_labels(labels, np.arange(3), 3, seed=0)
    with pytest.raises(UserError, match="neighbours: 5: must be 1 to 4"):
        neighbour_measures(normal(5, 0), normal(9, 1), 5)
    with pytest.raises(UserError, match="subset_size: 6: must be 2 to 5"):
        kernel_distance(normal(5, 0), normal(9, 1), 3, 6, seed=0)


def test_the_samples_that_give_themselves_away_are_those_that_are_unlike() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(0, 0.2, (200, 1, 32, 32)).astype(np.float32))
    real, samples = images[:100], images[100:].clone()
    striped = torch.arange(0, 100, 5)
    samples[striped] += 0.7 * (-1) ** torch.arange(32)
    encoder = random_encoder(0, EncoderConfig(base_channels=4, features=8))
    config = FeatureDistancesConfig(folds=4)
    found = given_away(real, samples, encoder, config, 0, 15)
    assert set(found.tolist()) < set(striped.tolist())
    assert np.array_equal(found, given_away(real, samples, encoder, config, 0, 15))
