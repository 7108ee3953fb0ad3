"""Whether a generator collapses: how different its images are from each other, beside real windows.

Three figures, each for the samples and for as many real windows. Images are smoothed before, so that new
noise over the same arrangement does not count as diversity.

distance
    Mean distance between two images in the space of their radial power spectra, which shifts, turns and
    mirroring do not change: falls when all images have the same density or order.
vendi_score
    Effective number of different images, the exponential of the entropy of the similarity matrix's
    eigenvalues (D. Friedman and A. B. Dieng, The Vendi Score, TMLR 2023): n if all are unlike each other,
    1 if all are alike. The similarity is the correlation of the images, place by place.
distinct
    Estimated number of images that the generator chooses from: pairs over pairs that are duplicates, after
    the birthday paradox (S. Arora, A. Risteski and Y. Zhang, Do GANs learn the distribution?, ICLR 2018).
    Duplicates have a correlation of at least `DUPLICATE` in one of the 8 symmetries. Without duplicates the
    number is at least pairs / 3 (at 95 %), which is returned then. Random windows of a finite scan have
    duplicates too: those that happen to lie a pixel or two apart.
"""

from itertools import pairwise

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.distance import pdist

from microgan.core.errors import UserError
from microgan.scan.symmetries import SYMMETRIES, turned

DUPLICATE = 0.75  # copies with new noise and blur have 0.8 and more, disjoint real windows at most 0.62
RULE_OF_THREE = 3.0  # none observed: at 95 %, no more than 3 are to be expected
ROUNDING = 1e-12


def diversity(images: np.ndarray, reference: np.ndarray, smoothing_px: float = 2.0) -> dict[str, float]:
    """Compare the diversity of images with that of real windows.

    Parameters
    ----------
    images
        Square images (N, S, S), grey in [-1, 1].
    reference
        Real windows (M, S, S). The first min(N, M) of both are used, as the figures depend on the number.
    smoothing_px
        Standard deviation of the Gaussian blur before; a third of the disc radius is about right.

    Returns
    -------
    dict
        ``n``, images of each set; ``distance``, ``vendi_score``, ``distinct``, ``duplicates`` (fraction of
        images that have a duplicate); ``real_...`` the same of the reference; and ``distance_ratio`` and
        ``vendi_ratio``, images over reference.

    Raises
    ------
    UserError
        If there are fewer than 2 images of a kind, or their shapes differ or are no squares.
    """
    _check(images, reference)
    count = min(len(images), len(reference))
    spectra = [_log_spectra(_smooth(part[:count], smoothing_px)) for part in (images, reference)]
    scale = np.maximum(spectra[1].std(axis=0), ROUNDING)
    figures, real = (
        _figures(_standardised(_smooth(part[:count], smoothing_px)), spectrum / scale)
        for part, spectrum in zip((images, reference), spectra, strict=True)
    )
    ratios = {
        "distance_ratio": figures["distance"] / max(real["distance"], ROUNDING),
        "vendi_ratio": figures["vendi_score"] / real["vendi_score"],
    }
    of_real = {f"real_{name}": value for name, value in real.items()}
    return {"n": float(count), **figures, **of_real, **ratios}


def vendi_score(similarity: np.ndarray) -> float:
    """Return the effective number of different items.

    Parameters
    ----------
    similarity
        Positive semi-definite, with ones on the diagonal, shape (n, n).

    References
    ----------
    D. Friedman and A. B. Dieng, The Vendi Score: A Diversity Evaluation Metric for Machine Learning,
    TMLR 2023, definition 3.1.

    Examples
    --------
    >>> round(vendi_score(np.eye(5)), 6), round(vendi_score(np.ones((5, 5))), 6)
    (5.0, 1.0)
    """
    weights = np.linalg.eigvalsh(similarity / len(similarity))
    weights = weights[weights > ROUNDING]
    return float(np.exp(-(weights * np.log(weights)).sum()))


def distinct_images(duplicates: int, count: int) -> float:
    """Return from how many equally likely images ``count`` were drawn, if ``duplicates`` pairs are the same.

    Two draws from d images are the same with probability 1 / d; see the docstring of the module.

    Examples
    --------
    >>> distinct_images(duplicates=45, count=10), distinct_images(duplicates=0, count=10)
    (1.0, 15.0)
    """
    return count * (count - 1) / 2 / (duplicates or RULE_OF_THREE)


def _figures(images: np.ndarray, spectra: np.ndarray) -> dict[str, float]:
    """Of standardised images (n, S, S) and their radial spectra (n, bins)."""
    flat = images.reshape(len(images), -1)
    alike = _largest_correlation(images) >= DUPLICATE
    return {
        "distance": float(pdist(spectra).mean()),
        "vendi_score": vendi_score(flat @ flat.T),
        "distinct": distinct_images(int(np.triu(alike, 1).sum()), len(images)),
        "duplicates": float(alike.any(axis=1).mean()),
    }


def _largest_correlation(images: np.ndarray) -> np.ndarray:
    """Largest correlation (n, n) over the 8 symmetries; 0 on the diagonal."""
    flat = images.reshape(len(images), -1)
    largest = np.full((len(images),) * 2, -1.0)
    for symmetry in range(SYMMETRIES):
        turned_images = np.stack([turned(image, symmetry) for image in images]).reshape(flat.shape)
        np.maximum(largest, flat @ turned_images.T, out=largest)
    np.maximum(largest, largest.T, out=largest)  # the two turns by 90 degrees undo each other
    np.fill_diagonal(largest, 0)
    return largest


def _log_spectra(images: np.ndarray) -> np.ndarray:
    """Logarithm of the mean power in rings of one frequency step, (n, S // 4): what smoothing leaves."""
    side = images.shape[1]
    frequency = fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(frequency[:, None], frequency)).astype(int).ravel()
    edges = np.searchsorted(np.sort(ring), np.arange(1, side // 4 + 2))
    power = (np.abs(fft.fft2(images * np.outer(np.hanning(side), np.hanning(side)))) ** 2).reshape(
        len(images), -1
    )
    ordered = power[:, np.argsort(ring, kind="stable")]
    return np.stack([np.log(ordered[:, a:b].mean(axis=1) + ROUNDING) for a, b in pairwise(edges)], axis=1)


def _smooth(images: np.ndarray, smoothing_px: float) -> np.ndarray:
    return ndimage.gaussian_filter(
        np.asarray(images, np.float64), (0, smoothing_px, smoothing_px), mode="nearest"
    )


def _standardised(images: np.ndarray) -> np.ndarray:
    """Images of mean 0 and norm 1; blank ones are constant, so like each other and like nothing else."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True))
    return np.where(norm > images.shape[1] * 1e-6, centred / np.maximum(norm, ROUNDING), 1 / images.shape[1])


def _check(images: np.ndarray, reference: np.ndarray) -> None:
    given = f"shapes {images.shape} and {reference.shape}"
    if images.ndim != 3 or images.shape[1:] != reference.shape[1:] or images.shape[1] != images.shape[2]:
        raise UserError("images, reference", given, "must be (N, S, S) and (M, S, S)")
    if min(len(images), len(reference)) < 2:
        raise UserError("images, reference", given, "must be 2 images or more of each")
