"""The accumulator against drawn discs and finite differences."""

import numpy as np
import torch
from torch import Tensor

from microgan.detection.hough import accumulate
from tests.helpers import drawn


def test_the_accumulator_is_near_one_at_the_centre_of_its_disc() -> None:
    votes = accumulate(drawn((30.0, 22.0, 6.0)), torch.tensor([4.0, 5.7, 8.0]), smoothing_px=0.7)
    assert votes.shape == (1, 3, 64, 64)
    plane, row, col = np.unravel_index(int(votes.argmax()), (3, 64, 64))
    assert (plane, row, col) == (1, 30, 22)
    assert 0.6 < votes.max() <= 1


def test_the_derivative_is_that_of_finite_differences() -> None:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 16, 16))).requires_grad_(True)

    def votes(image: Tensor) -> Tensor:
        return accumulate(image, torch.tensor([3.0, 4.0], dtype=torch.float64))

    assert torch.autograd.gradcheck(votes, (image,), eps=1e-6, atol=1e-8, rtol=1e-6)


def test_the_derivative_moves_a_disc() -> None:
    """Brighter just outside of the edge means a larger disc: the gradient must say so, and not be zero."""
    image = drawn((32.0, 32.0, 6.0)).requires_grad_(True)
    accumulate(image, torch.tensor([7.0]))[0, 0, 32, 32].backward()
    assert image.grad is not None
    axis = torch.arange(64.0) - 32
    distance = (axis[:, None] ** 2 + axis**2).sqrt()
    assert image.grad[0, 0][(distance - 6.7).abs() < 0.5].sum() > 0.01
    assert image.grad.isfinite().all()


def test_a_rolled_periodic_image_has_a_rolled_accumulator() -> None:
    image = torch.rand(1, 1, 32, 48, dtype=torch.float64)
    radii = torch.tensor([4.0, 6.0], dtype=torch.float64)
    rolled = accumulate(image.roll((5, 7), (-2, -1)), radii, periodic=True)
    torch.testing.assert_close(rolled, accumulate(image, radii, periodic=True).roll((5, 7), (-2, -1)))
