"""Repair of large images: what breaks a rule is drawn again, the rest of the image stays.

A large image rarely passes, since one defect anywhere rejects it. With a spatial latent it can be repaired
where it is wrong: the latent cells around a defect are drawn again, blended into their surroundings
(`microgan.samples.patches`), and the change is kept if the windows that contain it are better for it. This
goes on until all windows are valid or the budget ends.

Accepting only what breaks no more rules than before is what repair is for. It samples the generator's images
under the condition that they are valid, not exactly but approximately; `benchmarks.repair` measures what it
does to their statistics.

Valid are then all windows of one grid and all pairs of discs in the image as a whole. Windows in between fail
about as often as real ones: a defect at its limit is measured a little differently in each window.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from microgan.core.config import Config
from microgan.core.domain import Domain
from microgan.gan.networks import Generator
from microgan.gan.sampling import latent_shape, latents
from microgan.samples.large_image import LargeImage
from microgan.samples.patches import blend_angles, cut, propose, separate_patches
from microgan.validity.large_images import LargeImageVerdict
from microgan.validity.reference import Reference

STREAM = 1  # of random numbers for repair, beside that of the latent


class RepairConfig(Config):
    """How large images are repaired, and for how long."""

    rounds: int = Field(default=100, ge=0, description="at most; each repairs all defects that are far apart")
    candidates: int = Field(default=4, ge=1, le=256, description="new draws of each defect in a round")
    patch_cells: int = Field(default=1, ge=1, le=15, description="width of what is drawn again, latent cells")
    angle_deg: float = Field(
        default=90,
        gt=0,
        le=90,
        description="how much changes in the middle of a patch; 90: all, 0: nothing",
    )
    overlap_limit: Literal["calibrated", "high_confidence"] = Field(
        default="high_confidence",
        description="limit of the overlap of all discs: as calibrated, which irregular real discs set, or "
        "that of discs of high confidence",
    )
    seconds: float | None = Field(
        default=None, gt=0, description="stop after these, too; the result then depends on the machine"
    )


@dataclass(frozen=True)
class Repaired:
    """A repaired large image, and the image before.

    Attributes
    ----------
    image : Tensor of shape (1, 1, H, W), in [-1, 1]
    latent : Tensor of shape (1, Z, h, w) that the image is generated from
    unrepaired : Tensor of shape (1, 1, H, W), the image before repair
    before, after : verdicts before and after repair
    domain : size of the image, and whether it is periodic
    rounds : number of rounds that were needed, or spent
    changed : fraction of the latent cells that were drawn again
    seconds : duration of the repair
    """

    image: Tensor
    latent: Tensor
    unrepaired: Tensor
    before: LargeImageVerdict
    after: LargeImageVerdict
    domain: Domain
    rounds: int
    changed: float
    seconds: float

    def figures(self) -> dict[str, float]:
        """Return the result in figures."""
        return {
            "windows": len(self.after.verdicts),
            "invalid_windows_before": self.before.invalid_windows,
            "invalid_windows_after": self.after.invalid_windows,
            "rounds": self.rounds,
            "changed": self.changed,
        }


def sample_and_repair(
    generator: Generator,
    seed: int,
    index: int,
    domain: Domain,
    reference: Reference,
    config: RepairConfig,
    *,
    as_stored: Callable[[Tensor], Tensor] = lambda images: images,
    progress: bool = True,
) -> Repaired:
    """Draw sample ``index`` of ``seed`` and repair it.

    Before repair it is the image that `microgan.gan.sampling.sample` gives, ``as_stored``. Parameters and
    errors as in `repair` and `sample`.
    """
    return repair(
        generator,
        latents(seed, index, 1, latent_shape(generator, domain)),
        domain,
        reference,
        config,
        np.random.default_rng([seed, index, STREAM]),
        as_stored=as_stored,
        progress=progress,
    )


@torch.inference_mode()
def repair(
    generator: Generator,
    latent: Tensor,
    domain: Domain,
    reference: Reference,
    config: RepairConfig,
    rng: np.random.Generator,
    *,
    as_stored: Callable[[Tensor], Tensor] = lambda images: images,
    progress: bool = True,
) -> Repaired:
    """Draw parts of a latent again until its image is valid as a whole, or the budget ends.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    latent
        Shape (1, Z, h, w), as for `microgan.gan.sampling.sample`; not changed.
    domain
        Size of the image, at least a window of ``reference``, and whether it is periodic.
    reference
        Rules and limits.
    config
        Parameters.
    rng
        Source of new latents: same state, same image, unless ``config.seconds`` ends it.
    as_stored
        Maps images to the grey values that a file of them will contain, pixel by pixel. These are judged and
        returned.
    progress
        Whether a progress bar is shown.

    Raises
    ------
    UserError
        As `microgan.validity.large_images.judge_large_image` does.
    """
    start = time.monotonic()
    generator.eval()
    if config.overlap_limit == "high_confidence":
        reference = with_high_confidence_limit(reference)
    large = LargeImage(generator, latent.clone(), domain, reference, as_stored)
    unrepaired, before = large.image.clone(), large.verdict
    rounds = 0
    with tqdm(desc="repair", unit="round", disable=None if progress else True) as bar:
        while not large.valid and rounds < config.rounds:
            if config.seconds is not None and time.monotonic() - start > config.seconds:
                break
            repair_round(large, config, rng)
            rounds += 1
            if large.valid:
                large.find_overlaps()
            if large.valid:
                large.generate()  # the final verdict is on the whole image, generated at once
            bar.set_postfix_str(f"{large.defects.invalid.sum()} invalid windows", refresh=False)
            bar.update()
    if rounds and not large.valid:
        large.generate()
    return Repaired(
        image=large.image,
        latent=large.latent,
        unrepaired=unrepaired,
        before=before,
        after=large.verdict,
        domain=domain,
        rounds=rounds,
        changed=(large.latent != latent).any(dim=1).double().mean().item(),
        seconds=time.monotonic() - start,
    )


def repair_round(large: LargeImage, config: RepairConfig, rng: np.random.Generator) -> None:
    """Draw all defects again that are far apart, and keep the draws that are better.

    Invalid windows are judged first. Only the best draw of each defect is judged by all windows that contain
    its pixels, since most draws do not remove the defect.
    """
    angles = blend_angles(config.patch_cells, config.angle_deg)
    patches = separate_patches(large.defects.invalid, large.grid, large.latent_size, angles, rng)
    new = [
        propose(cut(large.latent, patch.cells)[0], patch.angle, config.candidates, rng) for patch in patches
    ]
    changes = large.changes(patches, new)
    invalid = [change.patch.windows[large.defects.invalid[change.patch.windows]] for change in changes]
    severities = [defects.severity for defects in large.judged(changes, invalid)]
    best = []
    for first in range(0, len(changes), config.candidates):
        index = min(range(first, first + config.candidates), key=severities.__getitem__)
        if severities[index] < large.defects.among(invalid[index]).severity:
            best.append(changes[index])
    judged = large.judged(best, [change.patch.windows for change in best])
    for change, defects in zip(best, judged, strict=True):
        if defects.severity < large.defects.among(change.patch.windows).severity:
            large.apply(change, defects)


def with_high_confidence_limit(reference: Reference) -> Reference:
    """Return the rules with the overlap of all discs limited as that of discs of high confidence.

    In real windows the deepest overlaps are irregular discs that no circle fits, and they set the limit of
    ``overlap``. In a generated image they are defects, and whether a disc has high confidence changes a
    little from window to window.
    """
    limit = reference.limits.get("high_confidence_overlap")
    if not limit:
        return reference
    return reference.model_copy(update={"limits": {**reference.limits, "overlap": limit}})
