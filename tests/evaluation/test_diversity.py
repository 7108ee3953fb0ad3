"""Figures of diversity on sets whose number of different images is known."""

import numpy as np
import pytest
from scipy import ndimage

from microgan.core.errors import UserError
from microgan.evaluation.diversity import distinct_images, diversity, vendi_score
from microgan.scan.symmetries import turned


def _blobs(count: int, seed: int, width_px: float = 3.0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((count, 48, 48))
    blobs = ndimage.gaussian_filter(noise, (0, width_px, width_px), mode="wrap")
    return 0.5 * blobs / blobs.std()


def test_real_against_real_is_1() -> None:
    figures = diversity(_blobs(200, 0), _blobs(200, 1))
    assert figures["distance_ratio"] == pytest.approx(1, abs=0.05)
    assert figures["vendi_ratio"] == pytest.approx(1, abs=0.06)
    assert figures["duplicates"] == figures["real_duplicates"] == 0
    assert figures["distinct"] == figures["real_distinct"] == 200 * 199 / 2 / 3


def test_one_image_again_and_again() -> None:
    figures = diversity(np.repeat(_blobs(1, 0), 60, axis=0), _blobs(60, 1))
    assert figures["distinct"] == 1
    assert figures["vendi_score"] == pytest.approx(1)
    assert figures["distance"] == pytest.approx(0, abs=1e-9)
    assert figures["duplicates"] == 1


def test_blank_images_are_one_image() -> None:
    figures = diversity(np.zeros((20, 48, 48)), _blobs(20, 1))
    assert figures["vendi_score"] == pytest.approx(1)
    assert figures["distinct"] == 1


def test_planted_duplicates_are_counted_whatever_their_grain_and_symmetry() -> None:
    images = _blobs(100, 0)
    for symmetry in range(8):
        images[50 + symmetry] = turned(images[symmetry], symmetry)
    images += np.random.default_rng(1).normal(0, 0.2, images.shape)
    figures = diversity(images, _blobs(100, 2))
    assert figures["duplicates"] == 16 / 100
    assert figures["distinct"] == 100 * 99 / 2 / 8


def test_number_of_images_that_are_repeated_at_random() -> None:
    drawn = np.random.default_rng(3).integers(50, size=400)
    figures = diversity(_blobs(50, 0)[drawn], _blobs(400, 1))
    assert figures["distinct"] == pytest.approx(50, rel=0.1)
    assert figures["vendi_ratio"] < 0.75


def test_images_of_one_kind_are_less_distant() -> None:
    mixed = np.concatenate([_blobs(50, 0, 2.5), _blobs(50, 1, 4.0)])
    assert diversity(_blobs(100, 2, 2.5), mixed)["distance_ratio"] < 0.9


def test_as_many_of_each_set_are_used() -> None:
    images, reference = _blobs(40, 0), _blobs(30, 1)
    assert diversity(images, reference) == diversity(images[:30], reference)
    assert diversity(images, reference)["n"] == 30


def test_vendi_score_of_equal_groups_is_their_number() -> None:
    assert vendi_score(np.kron(np.eye(4), np.ones((5, 5)))) == pytest.approx(4)


def test_birthday_paradox() -> None:
    drawn = np.random.default_rng(4).integers(1000, size=3000)
    pairs = int((drawn[:, None] == drawn).sum() - 3000) // 2
    assert distinct_images(pairs, 3000) == pytest.approx(1000, rel=0.1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match=r"must be \(N, S, S\) and \(M, S, S\)"):
        diversity(np.zeros((3, 8, 8)), np.zeros((3, 8, 9)))
    with pytest.raises(UserError, match="must be 2 images or more of each"):
        diversity(np.zeros((1, 8, 8)), np.zeros((3, 8, 8)))
