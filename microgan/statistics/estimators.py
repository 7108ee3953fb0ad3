"""What is measured on a set of images, kept image by image.

A mean over images of unequal content is a ratio of sums, not a mean of ratios. `Distribution` and `Curve`
therefore keep both sums of each image, and images can be drawn again: a bootstrap is a matrix product.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Distribution:
    """Weighted values, such as lengths in pixels, each with the image that it comes from.

    Attributes
    ----------
    values
        Shape (n,).
    weights
        Weight of each value, shape (n,), which corrects the bias of a bounded window.
    image
        Index of the image of each value, shape (n,).
    """

    values: np.ndarray
    weights: np.ndarray
    image: np.ndarray

    @classmethod
    def of_images(cls, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Self:
        """Join the values and the weights of image 0, 1, 2 ..."""
        return cls.joined(
            cls(values, weights, np.full(len(values), index)) for index, (values, weights) in enumerate(parts)
        )

    @classmethod
    def joined(cls, parts: Iterable["Distribution"]) -> Self:
        """Put values of the same images together."""
        parts = [Distribution(np.empty(0), np.empty(0), np.empty(0, int)), *parts]
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.image for part in parts]),
        )

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
        """Return the probability density (n_bins,) per unit of the values between ``edges`` (n_bins + 1,)."""
        counts, _ = np.histogram(self.values, edges, weights=self.weights)
        return counts / np.diff(edges) / (self.weights.sum() or 1.0)

    def histograms(self, edges: np.ndarray, images: int) -> np.ndarray:
        """Return the sum of weights between ``edges`` (n_bins + 1,) in each of ``images``: (images, n_bins).

        Numbers of times (B, images) that each image is drawn, times this, are the histograms of B resamples.
        """
        by_image = np.arange(images + 1)
        counts, _, _ = np.histogram2d(self.image, self.values, [by_image, edges], weights=self.weights)
        return counts

    def means(self, images: int) -> "Curve":
        """Return the mean as a curve of a single place, from the sums in each of ``images``."""
        sums = np.bincount(self.image, self.weights * self.values, images)
        return Curve(np.zeros(1), sums[:, None], np.bincount(self.image, self.weights, images)[:, None])

    def cumulative(self, edges: np.ndarray, images: int) -> "Curve":
        """Return the fraction of values up to each of ``edges`` (n,), from the sums in each of ``images``."""
        counts = self.histograms(np.concatenate([[-np.inf], edges]), images)
        return Curve(edges, counts.cumsum(axis=1), np.bincount(self.image, self.weights, images)[:, None])


@dataclass(frozen=True)
class Curve:
    """A function estimated as a ratio, such as pairs found over pairs that were possible.

    Attributes
    ----------
    axis
        Where the function is known, shape (L,).
    hits
        Numerator of each of N images, shape (N, L).
    chances
        Denominator of each image, shape (N, L), or (N, 1) if it is the same all along.
    degree
        1; or 2 where hits are pairs of what chances count: then the mean of hits is divided by the square of
        the mean of chances.
    """

    axis: np.ndarray
    hits: np.ndarray
    chances: np.ndarray
    degree: int = 1

    def __len__(self) -> int:
        return len(self.hits)

    def mean(self) -> np.ndarray:
        """Return the estimate (L,) from all images; NaN where there are no chances."""
        return self.resampled(np.ones((1, len(self))))[0]

    def take(self, images: np.ndarray) -> "Curve":
        """Keep ``images`` (indices)."""
        return Curve(self.axis, self.hits[images], self.chances[images], self.degree)

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """Return the estimates (B, L) of B resamples, in which image n counts ``weights[b, n]`` times."""
        drawn = weights.sum(axis=1, keepdims=True)
        hits = weights @ self.hits * drawn ** (self.degree - 1)
        chances = np.broadcast_to((weights @ self.chances) ** self.degree, hits.shape)
        return np.divide(hits, chances, out=np.full(hits.shape, np.nan), where=chances > 0)


def relative_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the L2 distance of two curves (L,) over the norm of the other, where both are known.

    NaN if nothing of the other is known, or it is 0 all along.
    """
    known = np.isfinite(one) & np.isfinite(other)
    whole = float(np.linalg.norm(other[known]))
    return float(np.linalg.norm((one - other)[known])) / whole if whole > 0 else float("nan")
