"""Spatial statistics of phase images and of circles.

Phase images are stacks (N, H, W) of bool, true in the disc phase. Results stay one value or curve per image,
so that a caller may average them or resample images. Lengths are in pixels; pixel centres are at integers, so
a window of H rows reaches from -0.5 to H - 0.5.

Each descriptor has a variant for windows cut out of something larger and one for periodic cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import fft, sparse
from scipy.spatial import cKDTree

from microgan.errors import UserError

FFT_BATCH_PX = 1 << 21  # padded pixels transformed at a time: bounds memory to some 100 MB


class Discs(Protocol):
    """Circles as the statistics see them, such as `microgan.circles.Circles`: arrays (n,) in pixels."""

    @property
    def row(self) -> np.ndarray: ...

    @property
    def col(self) -> np.ndarray: ...

    @property
    def radius(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Distribution:
    """Weighted lengths measured on circles, each with the image that it comes from.

    Attributes
    ----------
    values
        Lengths in pixels, shape (n,).
    weights
        Weight of each value, shape (n,), which corrects the bias of a bounded window.
    image
        Index of the image of each value, shape (n,).
    """

    values: np.ndarray
    weights: np.ndarray
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def mean(self) -> float:
        """Return the weighted mean; NaN without values."""
        return float(np.average(self.values, weights=self.weights)) if len(self) else float("nan")

    def take(self, images: np.ndarray) -> "Distribution":
        """Keep the values of ``images`` (indices, none twice); the first of them becomes image 0."""
        place = np.full(max(self.image.max(initial=-1), images.max(initial=-1)) + 1, -1)
        place[images] = np.arange(len(images))
        kept = place[self.image] >= 0
        return Distribution(self.values[kept], self.weights[kept], place[self.image[kept]])

    def density(self, edges: np.ndarray) -> np.ndarray:
        """Return the probability density (n_bins,) per pixel between ``edges`` (n_bins + 1,)."""
        counts, _ = np.histogram(self.values, edges, weights=self.weights)
        return counts / np.diff(edges) / (self.weights.sum() or 1.0)


def volume_fraction(phase: np.ndarray) -> np.ndarray:
    """Return the share of the disc phase in each image.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool.

    Returns
    -------
    ndarray of shape (N,)

    Examples
    --------
    >>> volume_fraction(np.array([[[True, False], [False, False]]]))
    array([0.25])
    """
    _check_phase(phase)
    return phase.mean(axis=(1, 2), dtype=np.float64)


def two_point_correlation(
    phase: np.ndarray, max_lag_px: int | None = None, periodic: bool = False
) -> np.ndarray:
    """Return the two-point correlation S2(r): the chance that both ends of a line of length r are in a disc.

    All pairs of pixels whose distance rounds to r count once: S2(r) is the number of pairs with both ends in
    the disc phase over the number of pairs that fit into the window. Hence it is unbiased for any window.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool.
    max_lag_px
        Largest distance r, in pixels; half of the shorter side by default.
    periodic
        Whether opposite borders of the images fit together.

    Returns
    -------
    ndarray of shape (N, max_lag_px + 1)
        S2 at the distances of `radial_lags`; the first one is the volume fraction.

    Raises
    ------
    UserError
        If ``phase`` is no stack of bool, or ``max_lag_px`` does not fit into the images.

    References
    ----------
    S. Torquato, Random Heterogeneous Materials, Springer 2002, sections 2.2 and 12.4.

    Examples
    --------
    >>> stripes = np.zeros((1, 8, 8), bool)
    >>> stripes[:, ::2] = True
    >>> float(two_point_correlation(stripes, max_lag_px=0)[0, 0])
    0.5
    """
    max_lag_px = _checked_lag(phase, max_lag_px)
    bins = _ring_sums(max_lag_px)
    pairs = bins @ _pairs_that_fit(phase.shape[1:], max_lag_px, periodic).ravel()
    hits = [bins @ part.reshape(len(part), -1).T for part in _pair_counts(phase, max_lag_px, periodic)]
    return np.concatenate(hits, axis=1).T / pairs


def two_point_map(phase: np.ndarray, max_lag_px: int | None = None, periodic: bool = False) -> np.ndarray:
    """Return the two-point correlation S2 by direction; parameters as in `two_point_correlation`.

    Returns
    -------
    ndarray of shape (N, max_lag_px + 1, 2 * max_lag_px + 1)
        ``[n, i, j]`` is S2 at the vector of ``i`` rows and ``j - max_lag_px`` columns. Opposite vectors have
        the same S2, so half of the plane is all of it.
    """
    max_lag_px = _checked_lag(phase, max_lag_px)
    fitting = _pairs_that_fit(phase.shape[1:], max_lag_px, periodic)
    return np.concatenate([part / fitting for part in _pair_counts(phase, max_lag_px, periodic)])


def radial_lags(max_lag_px: int) -> np.ndarray:
    """Return the mean length (max_lag_px + 1,), in pixels, of the vectors that round to 0, 1, 2 ...

    Examples
    --------
    >>> radial_lags(1).round(3)  # of length 1, and of length sqrt(2)
    array([0.   , 1.207])
    """
    bins = _ring_sums(max_lag_px)
    return bins @ _lag_lengths(max_lag_px).ravel() / bins.sum(axis=1).A1


def radius_distribution(circles: Sequence[Discs], shape: tuple[int, int], margin_px: float) -> Distribution:
    """Collect the radii of discs whose centre is at least ``margin_px`` inside the border.

    With a margin of the largest radius all these discs are seen whole, and each counts whatever its size:
    taking whole discs instead would favour small ones (minus sampling: Chiu, Stoyan, Kendall and Mecke,
    Stochastic Geometry and its Applications, 3rd ed., Wiley 2013, section 6.5).

    Parameters
    ----------
    circles
        The circles of each image.
    shape
        Rows and columns of an image.
    margin_px
        Margin in pixels; 0 in a periodic cell.
    """
    parts = [Distribution(*(np.empty(0),) * 2, np.empty(0, int))]
    for index, discs in enumerate(circles):
        inside = _border_distance(discs, shape) >= margin_px
        parts.append(_equal_weights(np.asarray(discs.radius)[inside], index))
    return _joined(parts)


def nearest_neighbour_distribution(
    circles: Sequence[Discs], shape: tuple[int, int], periodic: bool = False
) -> Distribution:
    """Collect the distances from each disc's centre to the nearest other centre.

    In a window a distance d is certain only if the border is not nearer than d. Such discs alone would favour
    short distances, therefore each one is weighted by 1 / (area where its centre might have been).

    Parameters
    ----------
    circles
        The circles of each image; centres beyond the border may be given and serve as neighbours.
    shape
        Rows and columns of an image.
    periodic
        Whether opposite borders of the images fit together.

    References
    ----------
    K.-H. Hanisch, Some remarks on estimators of the distribution function of nearest neighbour distance in
    stationary spatial point processes, Statistics 15 (1984) 409-412.
    """
    parts = [Distribution(*(np.empty(0),) * 2, np.empty(0, int))]
    for index, discs in enumerate(circles):
        if len(discs.row) < 2:
            continue
        distance = _nearest(discs, shape, periodic)
        if periodic:
            parts.append(_equal_weights(distance, index))
            continue
        certain = distance <= _border_distance(discs, shape)
        distance = distance[certain]
        area = (shape[0] - 2 * distance) * (shape[1] - 2 * distance)
        # A centre just in the middle leaves no area: one pixel is where it is known to be.
        parts.append(Distribution(distance, 1 / np.maximum(area, 1.0), np.full(len(distance), index)))
    return _joined(parts)


def _check_phase(phase: np.ndarray) -> None:
    if phase.ndim != 3 or phase.dtype != np.bool_ or phase.size == 0:
        given = f"{phase.dtype} of shape {phase.shape}"
        raise UserError("phase", given, "must be bool of shape (N, H, W), none of them 0")


def _checked_lag(phase: np.ndarray, max_lag_px: int | None) -> int:
    _check_phase(phase)
    shorter = min(phase.shape[1:])
    if max_lag_px is None:
        return shorter // 2
    if not 0 <= max_lag_px < shorter:
        raise UserError("max_lag_px", max_lag_px, f"must be from 0 to {shorter - 1}, within the image")
    return max_lag_px


def _pair_counts(phase: np.ndarray, max_lag_px: int, periodic: bool) -> list[np.ndarray]:
    """Count pixel pairs in the disc phase by vector: parts (n, L + 1, 2 L + 1) that together make N."""
    rows, cols = phase.shape[1:]
    # Zeros as far as the largest lag keep pairs from meeting around the border.
    padded = (
        (rows, cols) if periodic else tuple(fft.next_fast_len(n + max_lag_px, True) for n in (rows, cols))
    )
    batch = max(1, FFT_BATCH_PX // (padded[0] * padded[1]))
    col_lags = np.arange(-max_lag_px, max_lag_px + 1) % padded[1]
    parts = []
    for first in range(0, len(phase), batch):
        transform = fft.rfft2(phase[first : first + batch].astype(np.float64), padded)
        counts = fft.irfft2(np.abs(transform) ** 2, padded)[:, : max_lag_px + 1]
        parts.append(np.rint(counts[:, :, col_lags]))  # counts are whole numbers: rounding makes them exact
    return parts


def _pairs_that_fit(shape: tuple[int, ...], max_lag_px: int, periodic: bool) -> np.ndarray:
    """Count pixel pairs in a window by vector, shape (L + 1, 2 L + 1)."""
    row_lags, col_lags = np.arange(max_lag_px + 1), np.abs(np.arange(-max_lag_px, max_lag_px + 1))
    if periodic:
        row_lags, col_lags = 0 * row_lags, 0 * col_lags
    return np.outer(shape[0] - row_lags, shape[1] - col_lags).astype(np.float64)


def _lag_lengths(max_lag_px: int) -> np.ndarray:
    """Lengths of the vectors of a half plane, shape (L + 1, 2 L + 1), in pixels."""
    return np.hypot(np.arange(max_lag_px + 1)[:, None], np.arange(-max_lag_px, max_lag_px + 1))


def _ring_sums(max_lag_px: int) -> sparse.csr_matrix:
    """Matrix (L + 1, number of vectors) that sums over the vectors whose length rounds to 0, 1 ... L."""
    lengths = _lag_lengths(max_lag_px)
    ring = np.rint(lengths).astype(int)
    counted = ring <= max_lag_px
    counted[0, :max_lag_px] = False  # of a vector and its opposite, along the row, one is enough
    vectors = np.flatnonzero(counted)
    entries = (np.ones(len(vectors)), (ring.ravel()[vectors], vectors))
    return sparse.csr_matrix(entries, shape=(max_lag_px + 1, lengths.size))


def _border_distance(discs: Discs, shape: tuple[int, int]) -> np.ndarray:
    """Distance (n,) of centres from the border of the window; negative outside."""
    row, col = np.asarray(discs.row), np.asarray(discs.col)
    sides = [row + 0.5, shape[0] - 0.5 - row, col + 0.5, shape[1] - 0.5 - col]
    return np.min(sides, axis=0)


def _nearest(discs: Discs, shape: tuple[int, int], periodic: bool) -> np.ndarray:
    centres = np.stack([discs.row, discs.col], axis=1).astype(np.float64)
    if periodic:
        centres %= shape
        centres[centres >= shape] = 0  # the remainder of a tiny negative number is rounded up to the whole
    distance, _ = cKDTree(centres, boxsize=shape if periodic else None).query(centres, k=2)
    return distance[:, 1]  # the first is the centre itself


def _equal_weights(values: np.ndarray, image: int) -> Distribution:
    return Distribution(values, np.ones(len(values)), np.full(len(values), image))


def _joined(parts: Sequence[Distribution]) -> Distribution:
    return Distribution(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.image for part in parts]),
    )
