"""The eight symmetries of the square, in arrays and in tensors."""

import numpy as np
import pytest
import torch

from microgan.scan.symmetries import COUNTS, INVERSE, SYMMETRIES, TURNS_FIRST, turned, turned_tensor

IMAGES = np.arange(24).reshape(2, 3, 4)


def test_all_eight_differ_and_the_first_do_not_turn() -> None:
    square = np.arange(9).reshape(3, 3)
    images = {turned(square, symmetry).tobytes() for symmetry in range(SYMMETRIES)}
    assert len(images) == COUNTS["all"] == 8
    upright = (square, square[:, ::-1], square[::-1], square[::-1, ::-1])
    for symmetry, image in enumerate(upright):
        np.testing.assert_array_equal(turned(square, symmetry), image)
    assert COUNTS["mirrors"] == len(upright)


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_undoing_a_symmetry(symmetry: int) -> None:
    np.testing.assert_array_equal(turned(turned(IMAGES, symmetry), INVERSE[symmetry]), IMAGES)


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_a_tensor_is_turned_like_an_array(symmetry: int) -> None:
    tensor = turned_tensor(torch.from_numpy(IMAGES), symmetry)
    np.testing.assert_array_equal(tensor.numpy(), turned(IMAGES, symmetry))


@pytest.mark.parametrize("number", range(SYMMETRIES))
def test_the_order_that_turns_first(number: int) -> None:
    image = np.rot90(IMAGES, number % 4, axes=(1, 2))
    expected = image[..., ::-1] if number >= 4 else image
    np.testing.assert_array_equal(turned(IMAGES, TURNS_FIRST[number]), expected)
