"""Sets of images resampled: sums of each image must give what the images would give."""

import numpy as np
import pytest

from microgan.statistics.estimators import Curve, Distribution, relative_distance


def test_take_keeps_the_values_of_the_images() -> None:
    whole = Distribution(np.arange(5.0), np.ones(5), np.array([0, 0, 2, 3, 3]))
    part = whole.take(np.array([3, 1, 0]))
    np.testing.assert_array_equal(part.values, [0, 1, 3, 4])
    np.testing.assert_array_equal(part.image, [2, 2, 0, 0])
    assert len(whole.take(np.array([], int))) == 0


def test_density_integrates_to_one() -> None:
    values = Distribution(np.array([1.0, 1.2, 3.0]), np.array([1.0, 1.0, 2.0]), np.zeros(3, int))
    density = values.density(np.array([0.0, 2.0, 4.0]))
    np.testing.assert_allclose(density, [0.25, 0.25])


def test_values_know_their_image() -> None:
    parts = [
        (np.array([4.0, 5.0]), np.array([1.0, 2.0])),
        (np.empty(0), np.empty(0)),
        (np.ones(1), np.ones(1)),
    ]
    joined = Distribution.of_images(parts)
    np.testing.assert_array_equal(joined.values, [4, 5, 1])
    np.testing.assert_array_equal(joined.weights, [1, 2, 1])
    np.testing.assert_array_equal(joined.image, [0, 0, 2])
    assert len(Distribution.of_images([])) == 0


def test_histograms_of_resamples_are_a_matrix_product() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(5, size=200)
    image[image == 2] = 3  # one has no values
    whole, edges = Distribution(rng.random(200), rng.random(200), image), np.linspace(0, 1, 7)
    by_image = whole.histograms(edges, 6)
    assert by_image.shape == (6, 6)
    assert not by_image[[2, 5]].any()
    part = whole.take(np.array([0, 3]))
    expected, _ = np.histogram(part.values, edges, weights=part.weights)
    np.testing.assert_allclose(np.array([1, 0, 0, 1, 0, 0]) @ by_image, expected, atol=1e-12)
    assert whole.histograms(edges, 6).sum() == pytest.approx(whole.weights.sum())


def test_curve_is_a_ratio_of_sums() -> None:
    curve = Curve(np.arange(3.0), np.array([[1.0, 0, 0], [3, 2, 0]]), np.array([[1.0, 0, 0], [9, 1, 0]]))
    np.testing.assert_array_equal(curve.mean(), [0.4, 2, np.nan])
    np.testing.assert_array_equal(curve.take(np.array([0])).mean(), [1, np.nan, np.nan])
    assert np.isnan(curve.take(np.array([], int)).mean()).all()


@pytest.mark.parametrize("exponent", [1, 2])
def test_resampled_curve_is_that_of_the_images_drawn(exponent: int) -> None:
    rng = np.random.default_rng(1)
    curve = Curve(np.arange(4.0), rng.random((6, 4)), rng.random((6, 1)), exponent)
    resamples = rng.integers(6, size=(5, 6))
    weights = np.array([np.bincount(images, minlength=6) for images in resamples])
    expected = [curve.take(images).mean() for images in resamples]
    np.testing.assert_allclose(curve.resampled(weights), expected, rtol=1e-12)
    ratio = curve.numerator.mean(0) / curve.denominator.mean() ** exponent
    np.testing.assert_allclose(curve.mean(), ratio, rtol=1e-12)


def test_relative_distance_counts_where_both_are_known() -> None:
    curve, reference = np.array([1.0, 5.0, np.nan, 2.0]), np.array([3.0, 4.0, 7.0, np.nan])
    assert relative_distance(curve, reference) == pytest.approx(5**0.5 / 5)
    assert np.isnan(relative_distance(curve, np.zeros(4)))
    assert np.isnan(relative_distance(curve, np.full(4, np.nan)))
