"""What is measured on a set of images, kept image by image.

A mean over images of unequal content is a ratio of sums, not a mean of ratios. `Distribution` and `Curve`
therefore keep both sums of each image. So images can be resampled: a bootstrap is a matrix product.
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
        new_index = np.full(max(self.image.max(initial=-1), images.max(initial=-1)) + 1, -1)
        new_index[images] = np.arange(len(images))
        kept = new_index[self.image] >= 0
        return Distribution(self.values[kept], self.weights[kept], new_index[self.image[kept]])

    def density(self, edges: np.ndarray) -> np.ndarray:
        """Return the probability density (n_bins,) per unit of the values between ``edges`` (n_bins + 1,)."""
        counts, _ = np.histogram(self.values, edges, weights=self.weights)
        return counts / np.diff(edges) / (self.weights.sum() or 1.0)

    def histograms(self, edges: np.ndarray, images: int) -> np.ndarray:
        """Return the sum of weights between ``edges`` (n_bins + 1,) in each of ``images``: (images, n_bins).

        How often each resample contains each image, (B, images), times this gives the resamples' histograms.
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
    """A function estimated as a ratio, such as pairs counted over pairs that were possible.

    Attributes
    ----------
    axis
        Where the function is known, shape (L,).
    numerator
        Of each of N images, shape (N, L).
    denominator
        Of each image, shape (N, L), or (N, 1) if it is the same at all places.
    exponent
        1; or 2 where the numerator counts pairs of what the denominator counts. The estimate is the mean of
        the numerators over the mean of the denominators to this power.
    """

    axis: np.ndarray
    numerator: np.ndarray
    denominator: np.ndarray
    exponent: int = 1

    def __len__(self) -> int:
        return len(self.numerator)

    def mean(self) -> np.ndarray:
        """Return the estimate (L,) from all images; NaN where the denominator is 0."""
        return self.resampled(np.ones((1, len(self))))[0]

    def take(self, images: np.ndarray) -> "Curve":
        """Keep ``images`` (indices)."""
        return Curve(self.axis, self.numerator[images], self.denominator[images], self.exponent)

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """Return the estimates (B, L) of B resamples, in which image n counts ``weights[b, n]`` times."""
        counts = weights.sum(axis=1, keepdims=True)
        numerator = weights @ self.numerator * counts ** (self.exponent - 1)
        denominator = np.broadcast_to((weights @ self.denominator) ** self.exponent, numerator.shape)
        unknown = np.full(numerator.shape, np.nan)
        return np.divide(numerator, denominator, out=unknown, where=denominator > 0)


def relative_distance(curve: np.ndarray, reference: np.ndarray) -> float:
    """Return the L2 distance of two curves (L,) over the norm of the reference, where both are known.

    NaN if both are known nowhere, or the reference is 0 everywhere.
    """
    known = np.isfinite(curve) & np.isfinite(reference)
    norm = float(np.linalg.norm(reference[known]))
    return float(np.linalg.norm((curve - reference)[known])) / norm if norm > 0 else float("nan")
