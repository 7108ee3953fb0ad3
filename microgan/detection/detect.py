"""Finding discs in images: one signature for all detectors.

`ring` is ours and the default. `opencv` and `watershed` are there to compare with: `opencv` is the common
choice; `watershed` shares nothing with the ring detector, so it is an independent check of it.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from microgan.core.errors import UserError
from microgan.core.periodic import wrapped
from microgan.detection.circles import Circles
from microgan.detection.detector import Detector, check_band_fits
from microgan.detection.opencv import detect_opencv
from microgan.detection.ring import detect_ring
from microgan.detection.tiles import detect_in_tiles, joined, needs_tiles, tiles
from microgan.detection.watershed import detect_watershed

WRAP_RADII = 4  # by which a periodic image is continued, so that each disc and its neighbours are whole
BORDER_PX = 1.0  # by which two readings of a disc on the border differ at most, in either direction
BATCH_PX = 1 << 18  # pixels detected at once on a CPU: the accumulator of more leaves the cache
PROGRESS_IMAGES = 256  # images between two steps of a progress bar: enough for all cores

BACKENDS = {"ring": detect_ring, "opencv": detect_opencv, "watershed": detect_watershed}


def detect(images: Tensor, detector: Detector, *, periodic: bool = False) -> list[Circles]:
    """Find discs, those cut by the border too: centres may lie outside of the image.

    Parameters
    ----------
    images : Tensor of shape (B, 1, H, W), float, grey values in [-1, 1]
    detector : Detector
        Radius band, polarity and settings.
    periodic : bool
        Opposite borders fit together: no disc is cut, each is found once, with its centre in the image,
        which reaches from -0.5 to H - 0.5 and W - 0.5.

    Returns
    -------
    list of B Circles, each ordered by falling score

    Raises
    ------
    UserError
        If the image is too small for the radius band: the largest discs must fit into it, and four times
        their radius into a periodic one.

    Examples
    --------
    >>> axis = torch.arange(32.0)
    >>> distance = ((axis[:, None] - 15.0) ** 2 + (axis - 18.0) ** 2).sqrt()
    >>> (circles,) = detect((6.0 - distance).clamp(-0.5, 0.5)[None, None], Detector((4, 8)))
    >>> circles.table()[:, :3].round().tolist()
    [[15.0, 18.0, 6.0]]
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images: shape {tuple(images.shape)}: must be (B, 1, H, W)")
    if periodic:
        return _detect_wrapped(images, detector)
    check_band_fits(detector.radius_px, (images.shape[-2], images.shape[-1]))
    find = BACKENDS[detector.settings.backend]

    def circles_in(part: Tensor) -> list[Circles]:
        with torch.no_grad():
            return find(part.to(torch.float32), detector)

    shape = (images.shape[-2], images.shape[-1])
    if needs_tiles(shape):
        return [_in_tiles(image[None], detector.radius_px[1], circles_in) for image in images]
    at_once = max(1, BATCH_PX * (16 if images.is_cuda else 1) // max(1, math.prod(shape)))
    parts = images.split(at_once)
    return [circles for in_part in _map(circles_in, parts, images.is_cuda) for circles in in_part]


def _in_tiles(image: Tensor, largest_px: float, circles_in: Callable[[Tensor], list[Circles]]) -> Circles:
    """Find the discs of one large image (1, 1, H, W)."""
    found = detect_in_tiles(image, largest_px, lambda part: circles_in(part)[0])
    count = len(tiles((image.shape[-2], image.shape[-1])))
    return joined(list(tqdm(found, desc="detect", unit="tile", total=count, leave=False, disable=None)))


def detect_all(
    images: Tensor, detector: Detector, progress: bool = True, *, periodic: bool = False
) -> list[Circles]:
    """Find the discs of many images (N, 1, H, W), with a progress bar; ``periodic`` as in `detect`."""
    circles: list[Circles] = []
    bar = tqdm(total=len(images), desc="detect", unit="img", disable=None if progress else True)
    with bar:
        for part in images.split(PROGRESS_IMAGES):
            circles += detect(part, detector, periodic=periodic)
            bar.update(len(part))
    return circles


def _map(
    circles_in: Callable[[Tensor], list[Circles]], parts: Sequence[Tensor], is_cuda: bool
) -> list[list[Circles]]:
    """Detect in the parts in threads: their arrays are too small for the threads within torch's operators."""
    threads = torch.get_num_threads()
    if is_cuda or min(threads, len(parts)) < 2:
        return [circles_in(part) for part in parts]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(circles_in, parts))
    finally:
        torch.set_num_threads(threads)  # torch counts them for the whole process


def _detect_wrapped(images: Tensor, detector: Detector) -> list[Circles]:
    """Detect in images continued beyond their borders, and keep one reading of each disc."""
    shape = (images.shape[-2], images.shape[-1])
    margin_px = math.ceil(WRAP_RADII * detector.radius_px[1])
    if margin_px > min(shape):
        rule = f"must be at most 1/{WRAP_RADII} of a periodic image"
        raise UserError("radius_px", tuple(detector.radius_px), rule)
    wrapped = functional.pad(images, (margin_px,) * 4, mode="circular")
    tables = [circles.table() for circles in detect(wrapped, detector)]
    return [Circles.from_table(_once(table - (margin_px, margin_px, 0, 0), shape)) for table in tables]


def _once(table: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Keep one reading of each disc of a continued image, (n, 4) by falling score, its centre inside.

    A disc on the border shows on both sides of the image, a little differently: both readings may be just
    inside, or both just outside. So all that are within BORDER_PX are moved inside, and of two that then
    coincide the one of higher score is kept.
    """
    near = ((table[:, :2] >= -0.5 - BORDER_PX) & (table[:, :2] < np.add(shape, BORDER_PX - 0.5))).all(axis=1)
    table = table[near]
    if not len(table):
        return table
    inside = table.copy()
    inside[:, :2] = (table[:, :2] + 0.5) % shape - 0.5
    # By falling score: of a pair the second goes.
    pairs = cKDTree(wrapped(inside[:, :2] + 0.5, shape), boxsize=shape).query_pairs(
        2 * BORDER_PX, output_type="ndarray"
    )
    apart = np.linalg.norm(table[pairs[:, 0], :2] - table[pairs[:, 1], :2], axis=1)
    return np.delete(inside, pairs[apart > 2 * BORDER_PX, 1], axis=0)
