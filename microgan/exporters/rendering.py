"""Phase images drawn from circles: clean, and as fine as wanted."""

import numpy as np

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.statistics.point_patterns import Discs


def render_phase(circles: Discs, domain: Domain, refinement: int = 1) -> np.ndarray:
    """Draw discs: a pixel is disc phase if its centre is in a disc.

    Discs that overlap are united. Where a solver takes each pixel as an element, draw finer than the image
    that the circles were found in: at a radius of 5 px and a volume fraction of 0.56, the stiffness
    is right to 1 % from ``refinement`` 4 on with carbon in epoxy, from 16 on with glass
    (`benchmarks.solving`).

    Parameters
    ----------
    circles
        In pixels of the image, centre of the first pixel at 0; centres may lie outside of it.
    domain
        Size of the image, and whether opposite borders fit together: what a disc has beyond one comes in at
        the other.
    refinement
        Pixels drawn along one pixel of the image.

    Returns
    -------
    ndarray of shape (rows * refinement, cols * refinement)
        Bool, true in the discs.

    Raises
    ------
    UserError
        If ``refinement`` is below 1.

    Examples
    --------
    >>> from microgan.detection.circles import Circles
    >>> disc = Circles.from_table([[1.0, 1.5, 1.2]])
    >>> render_phase(disc, Domain((3, 4))).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 1, 1, 0]])
    """
    if refinement < 1:
        raise UserError("refinement", refinement, "must be at least 1")
    image = np.zeros((domain.rows * refinement, domain.cols * refinement), bool)
    for row, col, radius in visible_discs(circles, domain):
        # Fine pixel k has its centre at (k + 0.5) / refinement - 0.5 pixels.
        centre = (row + 0.5) * refinement - 0.5, (col + 0.5) * refinement - 0.5
        _draw(image, centre, radius * refinement)
    return image


def visible_discs(circles: Discs, domain: Domain) -> np.ndarray:
    """Return row, col and radius (n, 3) of all discs that reach into the image.

    Parameters
    ----------
    circles, domain
        As in `render_phase`. Of a disc across a periodic border there are several, one at each side.
    """
    table = np.stack([circles.row, circles.col, circles.radius_px], axis=1).astype(np.float64)
    sides = np.array(domain.size_px, float)
    if domain.periodic:
        table[:, :2] = (table[:, :2] + 0.5) % sides - 0.5
        reach = int(np.ceil(table[:, 2].max(initial=0) / sides.min()))
        steps = np.arange(-reach, reach + 1)
        shifts = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2) * sides
        copies = table[:, None, :].repeat(len(shifts), axis=1)
        copies[..., :2] += shifts
        table = copies.reshape(-1, 3)
    beyond = np.maximum(np.maximum(-0.5 - table[:, :2], table[:, :2] - (sides - 0.5)), 0)
    return table[np.hypot(*beyond.T) < table[:, 2]]


def _draw(image: np.ndarray, centre: tuple[float, float], radius: float) -> None:
    """Fill a disc in place; its centre may lie outside."""
    rows, cols = (
        np.arange(max(0, int(np.ceil(middle - radius))), min(side, int(np.floor(middle + radius)) + 1))
        for middle, side in zip(centre, image.shape, strict=True)
    )
    if len(rows) and len(cols):
        inside = (rows[:, None] - centre[0]) ** 2 + (cols - centre[1]) ** 2 <= radius**2
        image[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] |= inside
