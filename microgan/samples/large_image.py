"""A generated image that is larger than a window, with its latent, and the defects in its windows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from microgan.core.domain import Domain
from microgan.detection.circles import Circles
from microgan.gan.networks import Generator
from microgan.gan.sampling import decode
from microgan.samples.patches import Patch, cut, paste
from microgan.samples.window_grid import WindowGrid
from microgan.validity.judging import Verdict, excess, judge
from microgan.validity.large_images import cut_windows, discs_and_overlaps, judge_large_image
from microgan.validity.reference import Reference


class Defects(NamedTuple):
    """The defects of windows.

    Attributes
    ----------
    invalid : (n,) of bool, whether each window is invalid
    excess : (n,), how far the measures of each window are beyond the limits
    """

    invalid: np.ndarray
    excess: np.ndarray

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], reference: Reference) -> "Defects":
        """Return the defects of judged windows."""
        invalid = np.array([not verdict.valid for verdict in verdicts], bool)
        return cls(invalid, np.array([excess(verdict.measures, reference.limits) for verdict in verdicts]))

    def among(self, windows: np.ndarray) -> "Defects":
        """Return the defects of a part of the windows."""
        return Defects(self.invalid[windows], self.excess[windows])

    @property
    def severity(self) -> tuple[int, float]:
        """What repair makes smaller: the number of invalid windows, then the sum of their excess."""
        return int(self.invalid.sum()), float(self.excess.sum())


class Change(NamedTuple):
    """A new latent (Z, K, L) for a patch, and the image of the patch's pixels (1, 1, rows, cols)."""

    patch: Patch
    latent: Tensor
    image: Tensor


class LargeImage:
    """A generated image with its latent, its verdict, and the defects in its windows.

    Parameters
    ----------
    generator
        A trained generator in evaluation mode.
    latent
        Shape (1, Z, h, w); changed in place.
    domain
        Size of the image, and whether it is periodic.
    reference
        Rules and limits.
    as_stored
        Maps images to the grey values that a file of them contains, pixel by pixel.

    Attributes
    ----------
    image : Tensor of shape (1, 1, H, W), as stored
    verdict : of the image when it was last judged as a whole
    defects : of each window, after every change since then
    """

    def __init__(
        self,
        generator: Generator,
        latent: Tensor,
        domain: Domain,
        reference: Reference,
        as_stored: Callable[[Tensor], Tensor],
    ) -> None:
        self.generator, self.latent, self.domain = generator, latent, domain
        self.reference, self.as_stored = reference, as_stored
        self.generate()

    def generate(self) -> None:
        """Generate the whole image from its latent and judge it."""
        image = self.as_stored(decode(self.generator, self.latent, self.domain.periodic))
        self.image = image[..., : self.domain.rows, : self.domain.cols].contiguous()
        self.verdict = judge_large_image(self.image, self.reference, self.domain.periodic, progress=False)
        self.grid = WindowGrid(self.verdict.row, self.verdict.col, self.reference.window_px, self.domain)
        self.defects = Defects.of(self.verdict.verdicts, self.reference)
        self._mark(self.verdict.circles, self.verdict.overlapping)

    def find_overlaps(self) -> None:
        """Detect discs in the whole image; mark windows as invalid that contain two that overlap."""
        self._mark(*discs_and_overlaps(self.image, self.reference, self.domain.periodic))

    @property
    def valid(self) -> bool:
        """Whether no window is known to be invalid."""
        return not self.defects.invalid.any()

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of the latent grid."""
        return self.latent.shape[2], self.latent.shape[3]

    def changes(self, patches: Sequence[Patch], latents: Sequence[Tensor]) -> list[Change]:
        """Generate the pixels of each patch for each of its new latents (n, Z, K, L), all at once."""
        blocks = []
        for patch, candidates in zip(patches, latents, strict=True):
            before = cut(self.latent, patch.cells)
            for latent in candidates:
                paste(self.latent, patch.cells, latent)
                blocks.append(cut(self.latent, patch.context))
            paste(self.latent, patch.cells, before)
        if not blocks:
            return []
        images = iter(self._generated(torch.cat(blocks)).split(1))
        return [
            Change(patch, latent, next(images)[..., : len(patch.pixels[0]), : len(patch.pixels[1])])
            for patch, candidates in zip(patches, latents, strict=True)
            for latent in candidates
        ]

    def judged(self, changes: Sequence[Change], windows: Sequence[np.ndarray]) -> list[Defects]:
        """Judge, for each change alone, the windows with the given indices."""
        if not changes:
            return []
        cut_outs = []
        for change, indices in zip(changes, windows, strict=True):
            before = cut(self.image, change.patch.pixels)
            paste(self.image, change.patch.pixels, change.image)
            cut_outs.append(cut_windows(self.image, self.grid.corners[indices], self.grid.window_px))
            paste(self.image, change.patch.pixels, before)
        verdicts = iter(judge(torch.cat(cut_outs), self.reference, progress=False))
        return [Defects.of([next(verdicts) for _ in indices], self.reference) for indices in windows]

    def apply(self, change: Change, defects: Defects) -> None:
        """Keep a change, after which the patch's windows have ``defects``."""
        paste(self.latent, change.patch.cells, change.latent)
        paste(self.image, change.patch.pixels, change.image)
        self.defects.invalid[change.patch.windows] = defects.invalid
        self.defects.excess[change.patch.windows] = defects.excess

    def _mark(self, circles: Circles, pairs: np.ndarray) -> None:
        self.defects.invalid[self.grid.contain_pairs(circles, pairs)] = True

    def _generated(self, latent: Tensor) -> Tensor:
        device = next(self.generator.parameters()).device
        return self.as_stored(self.generator(latent.to(device)).float().cpu())
