import numpy as np

from microgan.report.image_grid import image_grid


def test_four_images_become_two_by_two() -> None:
    levels = np.array([-1.0, 0.0, 1.0, 0.5], np.float32)
    grid = image_grid(np.broadcast_to(levels[:, None, None], (4, 6, 8)))
    assert grid.shape == (2 * 7 + 1, 2 * 9 + 1)
    assert grid.dtype == np.uint8
    assert [int(grid[row, col]) for row in (3, 10) for col in (4, 13)] == [0, 128, 255, 191]
