"""Spatial statistics of phase images.

Phase images are stacks (N, H, W) of bool, true in the disc phase; for the matrix, pass ``~phase``. Results
stay one value or curve per image, so that a caller may average them or resample images. Lengths are in
pixels. Statistics of circles are in `microgan.statistics.point_patterns`.

Each descriptor has a variant for windows cut out of something larger and one for periodic cells. In windows,
what fits in as a whole is counted, over the number of places where it fits. So the border adds no bias.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy import fft, ndimage, sparse
from scipy.sparse import csgraph

from microgan.core.errors import UserError
from microgan.statistics.estimators import Distribution

FFT_BATCH_PX = 1 << 21  # padded pixels transformed at a time: bounds memory to some 100 MB
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, columns): along rows, along columns, both diagonals


def volume_fraction(phase: np.ndarray) -> np.ndarray:
    """Return the fraction of the disc phase in each image.

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
    """Return the two-point correlation S2(r), the probability that two points r apart are both in discs.

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
    S. Torquato, Random Heterogeneous Materials, Springer 2002, chapters 2 (definition) and 12 (of images).

    Examples
    --------
    >>> stripes = np.zeros((1, 8, 8), bool)
    >>> stripes[:, ::2] = True
    >>> float(two_point_correlation(stripes, max_lag_px=0)[0, 0])
    0.5
    """
    max_lag_px = _checked_lag(phase, max_lag_px)
    return _radial(_pair_counts(phase, _power_spectrum, max_lag_px, periodic), phase.shape[1:], periodic)


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
    return _pair_counts(phase, _power_spectrum, max_lag_px, periodic) / fitting


def directional_correlation(
    phase: np.ndarray, max_lag_px: int | None = None, periodic: bool = False
) -> np.ndarray:
    """Return the two-point correlation S2 along rows, columns and both diagonals.

    Parameters as in `two_point_correlation`.

    Returns
    -------
    ndarray of shape (N, 4, max_lag_px + 1)
        ``[n, d, k]`` is S2 at ``k`` times the vector ``DIRECTIONS[d]``; diagonal ones are sqrt(2) px long.
    """
    by_vector = two_point_map(phase, max_lag_px, periodic)
    lags = np.arange(by_vector.shape[1])
    return np.stack([by_vector[:, row * lags, lags[-1] + col * lags] for row, col in DIRECTIONS], axis=1)


def two_point_cluster(
    phase: np.ndarray,
    max_lag_px: int | None = None,
    periodic: bool = False,
    connectivity: Literal[1, 2] = 2,
) -> np.ndarray:
    """Return the two-point cluster function C2(r): the probability that both ends are in the same cluster.

    A cluster is a connected part of the disc phase, as far as the image shows it: connections outside of a
    window are not known. C2 equals S2 where all discs are connected; else it shows how far clusters reach.

    Parameters
    ----------
    phase, max_lag_px, periodic
        As in `two_point_correlation`, of which C2 is a part, counted in the same way.
    connectivity
        Whether pixels that share a side are connected (1), or those that share a corner too (2).

    Returns
    -------
    ndarray of shape (N, max_lag_px + 1)
        C2 at the distances of `radial_lags`; the first one is the volume fraction.

    References
    ----------
    S. Torquato, J. D. Beasley and Y. C. Chiew, Two-point cluster function for continuum percolation,
    J. Chem. Phys. 88 (1988) 6540-6547.
    """
    max_lag_px = _checked_lag(phase, max_lag_px)
    clusters = _labelled(phase, periodic, connectivity)
    if periodic:
        counts = _pair_counts(clusters, _cluster_power_spectrum, max_lag_px, periodic)
    else:
        counts = _cluster_pair_counts(clusters, max_lag_px)
    return _radial(counts, phase.shape[1:], periodic)


def radial_lags(max_lag_px: int) -> np.ndarray:
    """Return the mean length (max_lag_px + 1,), in pixels, of the vectors that round to 0, 1, 2 ...

    Examples
    --------
    >>> radial_lags(1).round(3)  # of length 1, and of length sqrt(2)
    array([0.   , 1.207])
    """
    bins = _ring_sums(max_lag_px)
    return bins @ _lag_lengths(max_lag_px).ravel() / bins.sum(axis=1).A1


def lineal_path(phase: np.ndarray, max_length_px: int | None = None, periodic: bool = False) -> np.ndarray:
    """Return the lineal-path function L(r): the probability that a line of length r lies wholly in discs.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool.
    max_length_px
        Largest distance r of the line's two end pixels; half of the shorter side by default.
    periodic
        Whether opposite borders of the images fit together.

    Returns
    -------
    ndarray of shape (N, 2, max_length_px + 1)
        ``[n, 0]`` is L along rows, ``[n, 1]`` along columns; at length 0 it is the volume fraction.

    Raises
    ------
    UserError
        If ``phase`` is no stack of bool, or ``max_length_px`` does not fit into the images.

    References
    ----------
    B. Lu and S. Torquato, Lineal-path function for random heterogeneous materials, Phys. Rev. A 45 (1992)
    922-929.

    Examples
    --------
    >>> stripes = np.zeros((1, 8, 8), bool)
    >>> stripes[:, :4] = True
    >>> lineal_path(stripes, 2, periodic=True)[0]
    array([[0.5  , 0.5  , 0.5  ],
           [0.5  , 0.375, 0.25 ]])
    """
    length_px = _checked_lag(phase, max_length_px, "max_length_px")
    directions = phase, phase.swapaxes(1, 2)
    return np.stack([_path_along_rows(lines, length_px, periodic) for lines in directions], axis=1)


def chord_lengths(phase: np.ndarray, periodic: bool = False) -> Distribution:
    """Collect the lengths in pixels of all chords: runs of disc phase along rows and along columns.

    A chord of length l is known whole only with the pixel before and the one after it, and l + 2 pixels fit
    into a row of W in W - l - 1 places: chords that the border cuts are left out, and each whole one is
    weighted by 1 / (number of places in all rows). Chords longer than W - 2 are never whole. In a periodic
    cell all chords count the same, but a line without interruption has none.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool.
    periodic
        Whether opposite borders of the images fit together.

    Raises
    ------
    UserError
        If ``phase`` is no stack of bool.

    References
    ----------
    S. Torquato and B. Lu, Chord-length distribution function for two-phase random media, Phys. Rev. E 47
    (1993) 2950-2953; weights by the principle of minus sampling, as in `microgan.statistics.point_patterns`.

    Examples
    --------
    >>> chord_lengths(np.array([[[0, 1, 1, 0, 1], [0, 0, 0, 0, 0]]], bool)).values
    array([2.])
    """
    _check_phase(phase)
    return Distribution.joined(_chords_along_rows(lines, periodic) for lines in (phase, phase.swapaxes(1, 2)))


class Minkowski(NamedTuple):
    """The Minkowski functionals of N images per area; arrays (N,)."""

    area_fraction: np.ndarray
    perimeter_per_px: np.ndarray
    euler_per_px2: np.ndarray


def minkowski(phase: np.ndarray, periodic: bool = False) -> Minkowski:
    """Return area, perimeter and Euler number of the disc phase, each per area of the image.

    The perimeter follows from Crofton's formula in four directions: pi / 2 times the number of crossings of
    the boundary per length of test line. Lines that only graze a disc pass between pixels, therefore discs of
    radius r lack 1 / (16 r^2) of their perimeter, 0.4 % at 4 px. The Euler number, parts minus holes, is that
    of pixels connected by sides and corners, from counts of 2 x 2 pixels: (with one pixel - with three
    - 2 x with a diagonal) / 4. Of a window only pairs and squares inside are counted: the border is no
    boundary.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool, at least 2 x 2.
    periodic
        Whether opposite borders of the images fit together.

    Raises
    ------
    UserError
        If ``phase`` is no stack of bool, or too small.

    References
    ----------
    J. Ohser and F. Muecklich, Statistical Analysis of Microstructures in Materials Science, Wiley 2000,
    chapter 4. S. B. Gray, Local properties of binary images in two dimensions, IEEE Trans. Comput. C-20
    (1971) 551-561.

    Examples
    --------
    >>> pixel = np.zeros((1, 5, 5), bool)
    >>> pixel[0, 2, 2] = True
    >>> float(minkowski(pixel, periodic=True).euler_per_px2[0] * 25)
    1.0
    """
    _check_phase(phase)
    if min(phase.shape[1:]) < 2:
        raise UserError("phase", phase.shape, "must be of at least 2 x 2 pixels")
    return Minkowski(volume_fraction(phase), _perimeter(phase, periodic), _euler(phase, periodic))


def _check_phase(phase: np.ndarray) -> None:
    if phase.ndim != 3 or phase.dtype != np.bool_ or phase.size == 0:
        given = f"{phase.dtype} of shape {phase.shape}"
        raise UserError("phase", given, "must be bool of shape (N, H, W), none of them 0")


def _checked_lag(phase: np.ndarray, lag_px: int | None, name: str = "max_lag_px") -> int:
    _check_phase(phase)
    shorter = min(phase.shape[1:])
    if lag_px is None:
        return shorter // 2
    if not 0 <= lag_px < shorter:
        raise UserError(name, lag_px, f"must be from 0 to {shorter - 1}, within the image")
    return lag_px


def _pair_counts(
    images: np.ndarray,
    power: Callable[[np.ndarray, tuple[int, ...]], np.ndarray],
    max_lag_px: int,
    periodic: bool,
) -> np.ndarray:
    """Count pixel pairs by vector, shape (N, L + 1, 2 L + 1), from the power spectra of images."""
    rows, cols = images.shape[1:]
    # Zeros as far as the largest lag keep pairs from meeting around the border.
    padded = (
        (rows, cols) if periodic else tuple(fft.next_fast_len(n + max_lag_px, True) for n in (rows, cols))
    )
    batch = max(1, FFT_BATCH_PX // (padded[0] * padded[1]))
    col_lags = np.arange(-max_lag_px, max_lag_px + 1) % padded[1]
    parts = []
    for first in range(0, len(images), batch):
        counts = fft.irfft2(power(images[first : first + batch], padded), padded)[:, : max_lag_px + 1]
        parts.append(np.rint(counts[:, :, col_lags]))  # counts are whole numbers: rounding makes them exact
    return np.concatenate(parts)


def _power_spectrum(phase: np.ndarray, padded: tuple[int, ...]) -> np.ndarray:
    return np.abs(fft.rfft2(phase.astype(np.float64), padded)) ** 2


def _cluster_power_spectrum(clusters: np.ndarray, padded: tuple[int, ...]) -> np.ndarray:
    """Power spectra of numbered clusters, each by itself, summed over the clusters of an image."""
    power = np.zeros((len(clusters), padded[0], padded[1] // 2 + 1))
    for index, image in enumerate(clusters):
        for number in np.unique(image[image > 0]):
            power[index] += _power_spectrum(image == number, padded)
    return power


def _cluster_pair_counts(clusters: np.ndarray, max_lag_px: int) -> np.ndarray:
    """Count pairs within the numbered clusters of windows, as `_pair_counts`, in tiles that just hold them.

    So the cost grows with the area of the clusters, not with that of the image times their number.
    """
    corners, sides = _boxes(clusters)
    largest = max(clusters.shape[1:])
    padded = np.pad(clusters, ((0, 0), (0, largest), (0, largest)))
    counts = np.zeros((len(clusters), max_lag_px + 1, 2 * max_lag_px + 1))
    tile_px = np.minimum(2 ** np.ceil(np.log2(sides)).astype(int), largest)
    for size in np.unique(tile_px):
        reach, steps = min(max_lag_px, size - 1), np.arange(size)
        into = counts[:, : reach + 1, max_lag_px - reach : max_lag_px + reach + 1]
        alike = np.flatnonzero(tile_px == size)
        batch = max(1, FFT_BATCH_PX // size**2)
        for chosen in (alike[first : first + batch] for first in range(0, len(alike), batch)):
            image, row, col = corners[chosen].T[:, :, None, None]
            tiles = padded[image, row + steps[:, None], col + steps] == chosen[:, None, None] + 1
            np.add.at(into, image.ravel(), _pair_counts(tiles, _power_spectrum, reach, periodic=False))
    return counts


def _boxes(clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image, first row and column (n, 3) of clusters 1, 2 ..., and the longer sides (n,) of their boxes."""
    boxes = ndimage.find_objects(clusters)
    corners = [[part.start for part in box] for box in boxes]
    sides = [max(part.stop - part.start for part in box[1:]) for box in boxes]
    return np.array(corners, int).reshape(-1, 3), np.array(sides, int)


def _labelled(phase: np.ndarray, periodic: bool, connectivity: int) -> np.ndarray:
    """Number the clusters of all images, shape (N, H, W); 0 in the matrix."""
    neighbours = np.zeros((3, 3, 3), bool)
    neighbours[1] = ndimage.generate_binary_structure(2, connectivity)
    clusters, count = ndimage.label(phase, neighbours)
    if not periodic:
        return clusters
    borders = [(clusters[:, 0], clusters[:, -1]), (clusters[:, :, 0], clusters[:, :, -1])]
    across = [
        (low.ravel(), np.roll(high, shift, axis=1).ravel())
        for low, high in borders
        for shift in range(1 - connectivity, connectivity)
    ]
    touching = np.concatenate(across, axis=1)
    touching = touching[:, touching.all(axis=0)]
    graph = sparse.coo_matrix((np.ones(touching.shape[1]), touching), shape=(count + 1, count + 1))
    _, joined = csgraph.connected_components(graph, directed=False)
    return np.where(phase, joined[clusters] + 1, 0)


def _radial(counts: np.ndarray, shape: tuple[int, ...], periodic: bool) -> np.ndarray:
    """Average over all directions: pair counts (N, L + 1, 2 L + 1) to fractions of the pairs (N, L + 1)."""
    max_lag_px = counts.shape[1] - 1
    bins = _ring_sums(max_lag_px)
    pairs = (bins @ counts.reshape(len(counts), -1).T).T
    return pairs / (bins @ _pairs_that_fit(shape, max_lag_px, periodic).ravel())


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
    counted[0, :max_lag_px] = False  # along the row, each vector and its opposite count once
    vectors = np.flatnonzero(counted)
    entries = (np.ones(len(vectors)), (ring.ravel()[vectors], vectors))
    return sparse.csr_matrix(entries, shape=(max_lag_px + 1, lengths.size))


def _path_along_rows(phase: np.ndarray, max_length_px: int, periodic: bool) -> np.ndarray:
    cols = phase.shape[2]
    lines = np.concatenate([phase, phase[:, :, :max_length_px]], axis=2) if periodic else phase
    inside, fractions = lines, []  # inside: where a line begins that is wholly in the disc phase
    for length_px in range(max_length_px + 1):
        inside = inside[:, :, : lines.shape[2] - length_px] & lines[:, :, length_px:]
        fractions.append(inside[:, :, :cols].mean(axis=(1, 2)))
    return np.stack(fractions, axis=1)


def _chords_along_rows(phase: np.ndarray, periodic: bool) -> Distribution:
    rows, cols = phase.shape[1:]
    lines = phase.reshape(-1, cols)
    if periodic:  # begin each line in the matrix
        begin = lines.argmin(axis=1)
        lines = np.take_along_axis(lines, (begin[:, None] + np.arange(cols)) % cols, axis=1)
    change = np.diff(lines.astype(np.int8), axis=1, prepend=0, append=0)
    line, first = np.nonzero(change == 1)
    _, end = np.nonzero(change == -1)
    whole = (first > 0) & ((end < cols) | periodic)
    length, image = (end - first)[whole], line[whole] // rows
    places = np.full(len(length), cols) if periodic else cols - length - 1
    return Distribution(length.astype(np.float64), 1 / (rows * places), image)


def _perimeter(phase: np.ndarray, periodic: bool) -> np.ndarray:
    """Crofton's formula: crossings of the boundary per length of test line, mean of four directions."""
    crossings = [
        (start ^ end).mean(axis=(1, 2)) / np.hypot(*step)
        for step in DIRECTIONS
        for start, end in [_both_ends(phase, step, periodic)]
    ]
    return np.pi / 2 * np.mean(crossings, axis=0)


def _both_ends(phase: np.ndarray, step: tuple[int, int], periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """All pixels that have a pixel one ``step`` away, and these second pixels."""
    row, col = step
    if periodic:
        return phase, np.roll(phase, (-row, -col), axis=(1, 2))
    rows, cols = phase.shape[1:]
    start = phase[:, : rows - row, max(0, -col) : cols - max(0, col)]
    return start, phase[:, row:, max(0, col) : cols - max(0, -col)]


def _euler(phase: np.ndarray, periodic: bool) -> np.ndarray:
    """Euler number per area, from the squares of 2 x 2 pixels."""
    if periodic:
        phase = np.pad(phase, ((0, 0), (0, 1), (0, 1)), mode="wrap")
    a, b, c, d = phase[:, :-1, :-1], phase[:, :-1, 1:], phase[:, 1:, :-1], phase[:, 1:, 1:]
    pixels = a.astype(np.int8) + b + c + d
    diagonal = (pixels == 2) & (a == d)
    single, three, two = (part.mean(axis=(1, 2)) for part in (pixels == 1, pixels == 3, diagonal))
    return (single - three - 2 * two) / 4
