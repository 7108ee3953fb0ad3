"""The most similar window of a scan, at any place and in any of the eight symmetries."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage
from tqdm import tqdm

from microgan.core.errors import UserError
from microgan.scan.planes import Box, PackedMask, Planes, window_corners
from microgan.scan.symmetries import INVERSE, SYMMETRIES, turned
from microgan.scan.windows import Windows

CANDIDATES = 6  # places, of the best of each symmetry and piece, that are compared in full resolution
PIECE_PX = 320  # longest side, in reduced pixels, of what is transformed at a time
FLAT = 1e-6  # standard deviation of grey values, in [-1, 1], below which a window is blank


@dataclass(frozen=True)
class NearestWindows:
    """The real window nearest to each of N images.

    Attributes
    ----------
    correlation
        Normalised cross-correlation of image and window, both smoothed, in [-1, 1], shape (N,).
    plane, row, col
        First pixel of the window, shape (N,) of int.
    symmetry
        What turns the window as the image lies (`microgan.scan.symmetries.turned`), shape (N,) of int.
    searched
        Fraction of all windows that were searched.
    """

    correlation: np.ndarray
    plane: np.ndarray
    row: np.ndarray
    col: np.ndarray
    symmetry: np.ndarray
    searched: float

    def windows(self, planes: Planes, size_px: int) -> np.ndarray:
        """Return the windows (N, size_px, size_px), float32, turned to the orientation of the images."""
        corners = zip(self.plane, self.row, self.col, self.symmetry, strict=True)
        return np.stack([_window(planes, size_px, *corner) for corner in corners])


def nearest_windows(
    images: np.ndarray, planes: Planes, role: str = "train", most_px: int = 150_000, seed: int = 0
) -> NearestWindows:
    """Find the nearest window of one part of a scan for each image.

    A search in reduced images, by Fourier transforms, proposes places. Around them the correlation is
    computed in full resolution, so that a window of the scan finds itself with correlation 1. Where several
    windows are almost equally near, as for most images that are no copies, it may miss the best by a few
    hundredths, for samples and real windows alike. Time is linear in images and size of the part, up to
    ``most_px``.

    Parameters
    ----------
    images
        Square images (N, S, S), grey in [-1, 1].
    planes
        The scan; it also gives the disc radius, half of which is a reduced pixel.
    role
        Part of the scan.
    most_px
        Reduced pixels to search, about. Of a larger part random boxes are searched, a fraction
        `NearestWindows.searched`.
    seed
        Fixes the boxes.

    Raises
    ------
    UserError
        If the images are not square or no window of their size fits into the part.

    References
    ----------
    J. P. Lewis, Fast template matching, Vision Interface 1995, 120-123; enlarged as Fast normalized
    cross-correlation, Industrial Light & Magic.
    """
    _check_images(images)
    size_px = images.shape[1]
    Windows(planes, role, size_px)  # which refuses a part without windows
    smoothing_px, reduction = _scales(planes)
    boxes, searched = _boxes(planes, role, size_px, reduction, most_px, np.random.default_rng(seed))
    smooth = _standardised(smoothed(images, smoothing_px))
    coarse = _standardised(_reduced(smooth, reduction))
    pieces = [_Piece.of(planes, box, size_px, smoothing_px, reduction) for box in boxes]
    pairs = tqdm(zip(smooth, coarse, strict=True), "search", len(smooth), unit="img", disable=None)
    places = [_place(image, small, pieces, reduction) for image, small in pairs]
    return _best(smooth, np.array(places), planes, smoothing_px, searched)


# The search --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """A piece of a plane, ready to be searched.

    Attributes
    ----------
    smooth : smoothed grey values in full resolution, (H, W)
    allowed : corners of windows in full resolution, (H - S + 1, W - S + 1) of bool
    corner : plane, row and column of the first pixel
    spectrum : of the reduced grey values, padded to ``shape``
    scale : 1 / norm of the window at each reduced corner, (h, w)
    blocked : reduced corners without an allowed one, (h, w)
    """

    smooth: np.ndarray
    allowed: np.ndarray
    corner: tuple[int, int, int]
    spectrum: np.ndarray
    shape: tuple[int, int]
    scale: np.ndarray
    blocked: np.ndarray

    @classmethod
    def of(cls, planes: Planes, box: Box, size_px: int, smoothing_px: float, reduction: int) -> "_Piece":
        smooth = smoothed(_cut(planes.grey, box).astype(np.float32)[None], smoothing_px)[0]
        allowed = window_corners(_cut(planes.mask, box), size_px)
        coarse = _reduced(smooth, reduction)
        side = size_px // reduction
        norm = _window_norms(coarse, side)
        blocked = ~_any_in_blocks(allowed, reduction)
        rows, cols = np.minimum(norm.shape, blocked.shape)
        shape = (fft.next_fast_len(coarse.shape[0], True), fft.next_fast_len(coarse.shape[1], True))
        return cls(
            smooth=smooth,
            allowed=allowed,
            corner=(box[0], box[1], box[3]),
            spectrum=fft.rfft2(coarse - coarse.mean(), shape),
            shape=shape,
            scale=(1 / np.maximum(norm[:rows, :cols], side * FLAT)).astype(np.float32),
            blocked=blocked[:rows, :cols],
        )

    def correlate(self, templates: np.ndarray) -> np.ndarray:
        """Correlate reduced images (n, s, s), mean 0 and norm 1, with windows at all corners (n, h, w)."""
        # Row by row first, where there is something to transform: half the time of rfft2. Windows inside
        # the piece never reach around its border, so it needs no padding.
        spectra = fft.fft(fft.rfft(templates, self.shape[1], axis=2), self.shape[0], axis=1)
        np.conj(spectra, out=spectra)
        spectra *= self.spectrum
        rows, cols = self.scale.shape
        scores = fft.irfft2(spectra, self.shape, overwrite_x=True)[:, :rows, :cols] * self.scale
        np.copyto(scores, -1, where=self.blocked)
        return scores


def _scales(planes: Planes) -> tuple[float, int]:
    """Standard deviation of the smoothing, and the factor by which images are reduced."""
    radius_px = sum(planes.info.radius_px) / 2
    return radius_px / 3, max(1, int(radius_px / 2))


def _boxes(
    planes: Planes, role: str, size_px: int, reduction: int, most_px: int, rng: np.random.Generator
) -> tuple[list[Box], float]:
    """Cut one part into overlapping boxes that contain every window once; of too many, choose at random."""
    boxes = [box for region in planes.info.regions[role] for box in _cuts(region, size_px, reduction)]
    taken: list[Box] = []
    area = 0
    for index in rng.permutation(len(boxes)):
        box = boxes[index]
        area_of_box = (box[2] - box[1]) * (box[4] - box[3]) // reduction**2
        if taken and area + area_of_box > most_px:
            break
        if window_corners(_cut(planes.mask, box), size_px).any():
            taken.append(box)
            area += area_of_box
    return taken, sum(_corners(box, size_px) for box in taken) / sum(_corners(box, size_px) for box in boxes)


def _cuts(region: Box, size_px: int, reduction: int) -> Iterator[Box]:
    plane, row0, row1, col0, col1 = region
    longest = max(PIECE_PX * reduction, 2 * size_px)
    for top, bottom in _overlapping(row0, row1, size_px, longest):
        for left, right in _overlapping(col0, col1, size_px, longest):
            yield plane, top, bottom, left, right


def _overlapping(start: int, stop: int, size_px: int, longest: int) -> list[tuple[int, int]]:
    """Cut [start, stop) into equal intervals, at most so long, that share size_px - 1 pixels."""
    corners = stop - start - size_px + 1
    if corners < 1:
        return []
    count = -(-corners // (longest - size_px + 1))
    ends = np.linspace(start, start + corners, count + 1).astype(int).tolist()
    return [(first, last + size_px - 1) for first, last in pairwise(ends)]


def _corners(box: Box, size_px: int) -> int:
    return (box[2] - box[1] - size_px + 1) * (box[4] - box[3] - size_px + 1)


def _place(
    image: np.ndarray, coarse: np.ndarray, pieces: Sequence[_Piece], reduction: int
) -> list[tuple[int, int, int, int]]:
    """Propose `CANDIDATES` places (plane, row, col, symmetry) for one image, best in their neighbourhood."""
    templates = np.stack([turned(coarse, inverse) for inverse in INVERSE])
    peaks = []
    for index, piece in enumerate(pieces):
        scores = piece.correlate(templates).reshape(SYMMETRIES, -1)
        best = scores.argmax(axis=1)
        peaks += [(scores[s, best[s]], index, int(best[s]), s) for s in range(SYMMETRIES)]
    peaks.sort(key=lambda peak: -peak[0])
    return [_refined(image, pieces[index], flat, s, reduction) for _, index, flat, s in peaks[:CANDIDATES]]


def _refined(
    image: np.ndarray, piece: _Piece, flat: int, symmetry: int, reduction: int
) -> tuple[int, int, int, int]:
    """Find the best allowed corner in full resolution, within a reduced pixel of a reduced corner."""
    row, col = (reduction * int(corner) for corner in np.unravel_index(flat, piece.scale.shape))
    top, left = max(row - reduction, 0), max(col - reduction, 0)
    near = piece.allowed[top : row + reduction + 1, left : col + reduction + 1]
    side = len(image)
    patch = piece.smooth[top : top + near.shape[0] + side - 1, left : left + near.shape[1] + side - 1]
    windows = sliding_window_view(patch, (side, side)).reshape(near.size, -1)
    scores = windows @ turned(image, INVERSE[symmetry]).ravel() / np.maximum(windows.std(axis=1), FLAT)
    down, right = np.unravel_index(np.where(near.ravel(), scores, -np.inf).argmax(), near.shape)
    plane, row0, col0 = piece.corner
    return plane, row0 + top + int(down), col0 + left + int(right), symmetry


def _best(
    smooth: np.ndarray, places: np.ndarray, planes: Planes, smoothing_px: float, searched: float
) -> NearestWindows:
    """Keep the best of the places (N, `CANDIDATES`, 4); windows are cut out, then smoothed, as images are."""
    count, candidates, _ = places.shape
    size_px = smooth.shape[1]
    windows = np.stack([_window(planes, size_px, *place) for place in places.reshape(-1, 4)])
    windows = _standardised(smoothed(windows, smoothing_px)).reshape(count, candidates, size_px, size_px)
    correlation = np.einsum("nij,ncij->nc", smooth, windows)
    best = correlation.argmax(axis=1)
    plane, row, col, symmetry = places[np.arange(count), best].T
    return NearestWindows(correlation.max(axis=1), plane, row, col, symmetry, searched)


def _check_images(images: np.ndarray) -> None:
    if images.ndim != 3 or images.shape[1] != images.shape[2] or images.size == 0:
        raise UserError("images", f"shape {images.shape}", "must be (N, S, S), none of them 0")


def _window(planes: Planes, size_px: int, plane: int, row: int, col: int, symmetry: int) -> np.ndarray:
    window = planes.grey[plane, row : row + size_px, col : col + size_px]
    return turned(window, symmetry).astype(np.float32)


def _cut(values: np.ndarray | PackedMask, box: Box) -> np.ndarray:
    plane, row0, row1, col0, col1 = box
    return np.asarray(values[plane, row0:row1, col0:col1])


def smoothed(images: np.ndarray, smoothing_px: float) -> np.ndarray:
    return ndimage.gaussian_filter(
        np.asarray(images, np.float32), (0, smoothing_px, smoothing_px), mode="nearest"
    )


def _reduced(images: np.ndarray, reduction: int) -> np.ndarray:
    """Average blocks of pixels of (..., H, W); what is left over at the end is dropped."""
    rows, cols = (length // reduction for length in images.shape[-2:])
    kept = images[..., : rows * reduction, : cols * reduction]
    return kept.reshape(*images.shape[:-2], rows, reduction, cols, reduction).mean(axis=(-3, -1))


def _any_in_blocks(allowed: np.ndarray, reduction: int) -> np.ndarray:
    padded = np.pad(allowed, [(0, -length % reduction) for length in allowed.shape])
    rows, cols = (length // reduction for length in padded.shape)
    return np.asarray(padded.reshape(rows, reduction, cols, reduction).any(axis=(1, 3)))


def _standardised(images: np.ndarray) -> np.ndarray:
    """Images (N, S, S) of mean 0 and norm 1; blank ones become 0."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True))
    return np.where(norm > images.shape[1] * FLAT, centred / np.maximum(norm, FLAT), 0)


def _window_norms(image: np.ndarray, side: int) -> np.ndarray:
    """Norm of each window about its mean, (H - side + 1, W - side + 1), from sums over the image."""
    values = image - image.mean(dtype=np.float64)
    total, squares = _window_sums(values, side), _window_sums(values**2, side)
    return np.sqrt(np.maximum(squares - total**2 / side**2, 0))


def _window_sums(values: np.ndarray, side: int) -> np.ndarray:
    sums = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
