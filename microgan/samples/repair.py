"""Fields that are valid as a whole: what breaks a rule is drawn again, the rest of the field stays.

A large field rarely passes, since one defect anywhere rejects it. With a spatial latent, it can be mended
where it is wrong: the latent cells around a defect are drawn anew, blended into their surroundings, and the
change is kept if the windows that see it are better for it. This goes on until all windows are valid or the
budget ends.

A new latent is z' = cos(angle) z + sin(angle) xi with normal xi, the preconditioned Crank-Nicolson proposal:
whatever the angle of each cell, z' is again normal and independent from cell to cell, as the generator was
trained. The angle is large in the middle of the patch and falls smoothly to 0. Accepting only what breaks no
more rules than before is what repair is for: it samples the generator's fields given that they are valid, not
exactly, but from nearby. What it does to the statistics is told by `before_and_after`.

Valid are then all windows of one grid and all pairs of discs in the field as a whole. Windows in between fail
about as often as real ones: a defect at its limit is read a little otherwise in each window.

References
----------
S. L. Cotter, G. O. Roberts, A. M. Stuart, D. White, MCMC methods for functions: modifying old algorithms to
make them faster, Statistical Science 28 (2013) 424-446.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from microgan.core.config import Config
from microgan.detection.circles import Circles
from microgan.gan.networks import STRIDE_PX, WRAP_CELLS, Generator
from microgan.gan.sampling import decode, latent_shape, latents
from microgan.statistics.phase_descriptors import two_point_correlation, volume_fraction
from microgan.validity.judging import Verdict, excess, judge, phase_image
from microgan.validity.large_images import (
    LargeImageVerdict,
    cut_windows,
    discs_and_overlaps,
    judge_large_image,
)
from microgan.validity.reference import Reference

STREAM = 1  # of random numbers for repair, beside that of the latent


class RepairConfig(Config):
    """How fields are repaired, and for how long."""

    rounds: int = Field(default=100, ge=0, description="at most; each repairs all defects that are far apart")
    candidates: int = Field(default=4, ge=1, le=256, description="new draws of each defect in a round")
    patch_cells: int = Field(default=1, ge=1, le=15, description="width of what is drawn again, latent cells")
    angle_deg: float = Field(
        default=90, gt=0, le=90, description="in the middle of a patch; 90: what was there is forgotten"
    )
    overlaps: Literal["calibrated", "clear"] = Field(
        default="clear",
        description="limit of overlaps: as calibrated, which irregular real discs set; or for all discs that "
        "of clear ones",
    )
    seconds: float | None = Field(
        default=None, gt=0, description="stop after these, too; the result then depends on the machine"
    )


@dataclass(frozen=True)
class Repaired:
    """A field and how it came about.

    Attributes
    ----------
    image : Tensor of shape (1, 1, H, W), in [-1, 1]
    latent : Tensor of shape (1, Z, h, w) that the image is generated from
    drawn : Tensor of shape (1, 1, H, W), the image before repair
    before, after : verdicts of both
    periodic : whether opposite borders fit together
    rounds : that were needed, or spent
    changed : fraction of the latent cells that are not as they were drawn
    seconds : that it took
    """

    image: Tensor
    latent: Tensor
    drawn: Tensor
    before: LargeImageVerdict
    after: LargeImageVerdict
    periodic: bool
    rounds: int
    changed: float
    seconds: float

    def figures(self) -> dict[str, float]:
        """Return what came of it in figures."""
        return {
            "windows": len(self.after.verdicts),
            "invalid_windows_before": self.before.invalid_windows,
            "invalid_windows_after": self.after.invalid_windows,
            "rounds": self.rounds,
            "changed": self.changed,
        }


@dataclass(frozen=True)
class LargeImageStatistics:
    """What a set of fields is like.

    Attributes
    ----------
    valid_fraction : of their windows
    volume_fraction : mean
    two_point : mean two-point correlation by lag (L,), px
    discs : mean number in a field
    """

    valid_fraction: float
    volume_fraction: float
    two_point: np.ndarray
    discs: float


def valid_large_image(
    generator: Generator,
    seed: int,
    index: int,
    size_px: tuple[int, int],
    periodic: bool,
    reference: Reference,
    config: RepairConfig,
    *,
    rounded: Callable[[Tensor], Tensor] = lambda images: images,
    allow_own_rules: bool = False,
    progress: bool = True,
) -> Repaired:
    """Draw sample ``index`` of ``seed`` and repair it.

    Before repair it is the image that `microgan.gan.sampling.sample` gives, ``rounded``. Parameters and errors as
    in `repair` and `sample`.
    """
    return repair(
        generator,
        latents(seed, index, 1, latent_shape(generator, size_px, periodic)),
        size_px,
        periodic,
        reference,
        config,
        np.random.default_rng([seed, index, STREAM]),
        rounded=rounded,
        allow_own_rules=allow_own_rules,
        progress=progress,
    )


@torch.inference_mode()
def repair(
    generator: Generator,
    latent: Tensor,
    size_px: tuple[int, int],
    periodic: bool,
    reference: Reference,
    config: RepairConfig,
    rng: np.random.Generator,
    *,
    rounded: Callable[[Tensor], Tensor] = lambda images: images,
    allow_own_rules: bool = False,
    progress: bool = True,
) -> Repaired:
    """Draw parts of a latent again until its field is valid as a whole, or the budget ends.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    latent
        Shape (1, Z, h, w), as for `microgan.gan.sampling.sample`; not changed.
    size_px
        Rows and columns of the field, at least a window of ``reference`` each.
    periodic
        Whether opposite borders fit together.
    reference
        Rules and limits.
    config
        Parameters.
    rng
        Source of new latents: same state, same field, unless ``config.seconds`` ends it.
    rounded
        Maps images to what a file of them will hold, pixel by pixel; this is what is judged and returned.
    allow_own_rules, progress
        As in `microgan.validity.judging.judge`.

    Raises
    ------
    UserError
        As `microgan.validity.large_images.judge_large_image` does.
    """
    start = time.monotonic()
    generator.eval()
    if config.overlaps == "clear":
        reference = without_overlaps(reference)
    field = _Field(generator, latent.clone(), size_px, periodic, reference, rounded, allow_own_rules)
    drawn, before = field.image.clone(), field.verdict
    rounds = 0
    with tqdm(desc="repair", unit="round", disable=None if progress else True) as bar:
        while field.broken.any() and rounds < config.rounds:
            if config.seconds is not None and time.monotonic() - start > config.seconds:
                break
            field.mend(config, rng)
            rounds += 1
            if not field.broken.any():
                field.find_overlaps()
            if not field.broken.any():
                field.generate()  # the last word is the whole field's
            bar.set_postfix_str(f"{field.broken.sum()} invalid windows", refresh=False)
            bar.update()
    if rounds and field.broken.any():
        field.generate()
    return Repaired(
        image=field.image,
        latent=field.latent,
        drawn=drawn,
        before=before,
        after=field.verdict,
        periodic=periodic,
        rounds=rounds,
        changed=(field.latent != latent).any(dim=1).double().mean().item(),
        seconds=time.monotonic() - start,
    )


def without_overlaps(reference: Reference) -> Reference:
    """Return the rules with the limit of clear discs for the overlap of all.

    In real windows the deepest overlaps are irregular discs that no circle fits, and they set the limit of
    ``overlap``. In a generated field they are defects, and whether a disc counts as clear changes a little
    from window to window.
    """
    limit = reference.limits.get("high_confidence_overlap")
    return (
        reference.model_copy(update={"limits": {**reference.limits, "overlap": limit}})
        if limit
        else reference
    )


def before_and_after(
    fields: Sequence[Repaired], reference: Reference
) -> tuple[LargeImageStatistics, LargeImageStatistics]:
    """Return what fields of one size were like as drawn, and what they are like repaired."""
    periodic = fields[0].periodic
    return (
        _statistics([one.drawn for one in fields], [one.before for one in fields], reference, periodic),
        _statistics([one.image for one in fields], [one.after for one in fields], reference, periodic),
    )


def _statistics(
    images: Sequence[Tensor], verdicts: Sequence[LargeImageVerdict], reference: Reference, periodic: bool
) -> LargeImageStatistics:
    stack = torch.cat(list(images))
    phase = phase_image(stack, reference).numpy()
    height, width = phase.shape[1:]
    inside = [
        np.count_nonzero((c.row >= -0.5) & (c.row < height - 0.5) & (c.col >= -0.5) & (c.col < width - 0.5))
        for c in (verdict.circles for verdict in verdicts)
    ]
    return LargeImageStatistics(
        valid_fraction=float(np.mean([verdict.valid_fraction for verdict in verdicts])),
        volume_fraction=float(volume_fraction(phase).mean()),
        two_point=two_point_correlation(phase, periodic=periodic).mean(axis=0),
        discs=float(np.mean(inside)),
    )


# New draws ---------------------------------------------------------------------------------------------


def angles(patch_cells: int, angle_deg: float) -> np.ndarray:
    """Return the angle (K, K) in radians of each cell of a patch: full in the middle, falling to 0 beside it.

    The weight is that of Hann's window of the distance from the middle.
    """
    step = np.arange(patch_cells) - (patch_cells - 1) / 2
    distance = np.hypot(step[:, None], step) / ((patch_cells + 1) / 2)
    return math.radians(angle_deg) * np.cos(np.pi / 2 * np.minimum(distance, 1)) ** 2


def proposals(latent: Tensor, angle: np.ndarray, count: int, rng: np.random.Generator) -> Tensor:
    """Draw ``count`` latents (count, Z, K, L) near a normal ``latent`` (Z, K, L), each normal again.

    Preconditioned Crank-Nicolson (Cotter et al. 2013): cos(angle) z + sin(angle) xi, with the
    ``angle`` (K, L) of each cell.
    """
    drawn = torch.from_numpy(rng.standard_normal((count, *latent.shape), dtype=np.float32))
    turn = torch.from_numpy(angle.astype(np.float32))
    return turn.cos() * latent + turn.sin() * drawn


# The field ---------------------------------------------------------------------------------------------

_Square = tuple[np.ndarray, np.ndarray]  # rows and columns


@dataclass(frozen=True)
class _Patch:
    """Where a defect is drawn again.

    Attributes
    ----------
    cells : latent cells that change
    angle : of each of them (rows, columns)
    block : latent cells that generate all pixels that change
    pixels : that the block generates
    windows : (n,), that see some of these
    """

    cells: _Square
    angle: np.ndarray
    block: _Square
    pixels: _Square
    windows: np.ndarray


class _Change(NamedTuple):
    """One new draw of a patch: its latent (Z, K, L) and what its pixels become."""

    patch: _Patch
    latent: Tensor
    image: Tensor


class _Field:
    """A field that is being repaired: its latent, its image and which of its windows are broken.

    Attributes
    ----------
    broken : (n,) of bool, for each window
    excess : (n,), by how much each window is beyond the limits
    """

    def __init__(
        self,
        generator: Generator,
        latent: Tensor,
        size_px: tuple[int, int],
        periodic: bool,
        reference: Reference,
        rounded: Callable[[Tensor], Tensor],
        allow_own_rules: bool,
    ) -> None:
        self.generator, self.latent, self.size_px, self.periodic = generator, latent, size_px, periodic
        self.reference, self.rounded, self.allow_own_rules = reference, rounded, allow_own_rules
        self.generate()

    def generate(self) -> None:
        """Generate and judge all of the field."""
        image = self.rounded(decode(self.generator, self.latent, self.periodic))
        self.image = image[..., : self.size_px[0], : self.size_px[1]].contiguous()
        self.verdict = judge_large_image(
            self.image, self.reference, self.periodic, allow_own_rules=self.allow_own_rules, progress=False
        )
        self.corners = self.verdict.corners
        self.broken, self.excess = self._faults(self.verdict.verdicts)
        self.broken |= self._seeing(self.verdict.circles, self.verdict.overlapping)

    def find_overlaps(self) -> None:
        """Take the windows for broken that see discs overlap when the field is looked at as a whole."""
        self.broken |= self._seeing(*discs_and_overlaps(self.image, self.reference, self.periodic))

    def mend(self, config: RepairConfig, rng: np.random.Generator) -> None:
        """Draw all defects again that are far apart, and keep what is better.

        Broken windows are judged first. Only the best draw of each defect is judged by all windows that see
        it, since most draws do not mend what they should.
        """
        patches = self._patches(config, rng)
        drawn = [
            proposals(_at(self.latent, patch.cells)[0], patch.angle, config.candidates, rng)
            for patch in patches
        ]
        images = self._drawn_images(patches, drawn)
        changes = [
            _Change(patch, *new)
            for patch, *own in zip(patches, drawn, images, strict=True)
            for new in zip(*own, strict=True)
        ]
        seen = [change.patch.windows[self.broken[change.patch.windows]] for change in changes]
        ranks = [_rank(*defects) for defects in self._judged(changes, seen)]
        best = []
        for first in range(0, len(changes), config.candidates):
            index = min(range(first, first + config.candidates), key=ranks.__getitem__)
            if ranks[index] < self._rank(seen[index]):
                best.append(changes[index])
        for change, defects in zip(
            best, self._judged(best, [change.patch.windows for change in best]), strict=True
        ):
            if _rank(*defects) < self._rank(change.patch.windows):
                self._keep(change, *defects)

    def _rank(self, windows: np.ndarray) -> tuple[int, float]:
        return _rank(self.broken[windows], self.excess[windows])

    def _keep(self, change: _Change, broken: np.ndarray, beyond: np.ndarray) -> None:
        _put(self.latent, change.patch.cells, change.latent)
        _put(self.image, change.patch.pixels, change.image)
        self.broken[change.patch.windows], self.excess[change.patch.windows] = broken, beyond

    def _patches(self, config: RepairConfig, rng: np.random.Generator) -> list[_Patch]:
        """Choose defects at random of which no two are seen by the same window."""
        taken = np.zeros(len(self.broken), bool)
        patches = []
        fraction = self._broken_fraction()
        for window in rng.permutation(np.flatnonzero(self.broken)):
            if not taken[window]:
                patch = self._patch(self._place(window, fraction, rng), config)
                if not taken[patch.windows].any():
                    patches.append(patch)
                    taken[patch.windows] = True
        return patches

    def _broken_fraction(self) -> np.ndarray:
        """Fraction of the windows on each square of STRIDE_PX px that are broken: high where the defect is."""
        rows, cols = (
            self._within(
                np.minimum(np.arange(STRIDE_PX // 2, size + STRIDE_PX // 2, STRIDE_PX), size - 1), start, size
            )
            for size, start in zip(self.size_px, (self.verdict.row, self.verdict.col), strict=True)
        )
        broken = self.broken.reshape(len(self.verdict.row), len(self.verdict.col))
        return (rows.T @ broken @ cols) / (rows.sum(0)[:, None] * cols.sum(0))

    def _seeing(self, circles: Circles, pairs: np.ndarray) -> np.ndarray:
        """Whether each window has both discs of one of the pairs (p, 2) in it."""
        seen = []
        for axis, centres in enumerate((circles.row, circles.col)):
            start, size = (self.verdict.row, self.verdict.col)[axis], self.size_px[axis]
            both = self._within(centres[pairs.ravel()], start, size).reshape(len(start), -1, 2)
            seen.append(np.logical_and(both[..., 0], both[..., 1]))
        return (seen[0][:, None] & seen[1]).any(axis=2).ravel()

    def _within(self, place_px: np.ndarray, start: np.ndarray, size_px: int) -> np.ndarray:
        """Whether places (k,) lie between the first and the last row of windows (n,): (n, k) of 0 and 1."""
        after = place_px - start[:, None]
        if self.periodic:
            after %= size_px
        return ((after >= 0) & (after < self.reference.window_px)).astype(int)

    def _place(self, window: int, fraction: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
        """Return a square of a window, one of those that most of their windows find broken."""
        length = self.reference.window_px // STRIDE_PX
        first = self.corners[window] // STRIDE_PX
        rows, cols = ((first[axis] + np.arange(length)) % fraction.shape[axis] for axis in (0, 1))
        here = fraction[np.ix_(rows, cols)]
        row, col = np.unravel_index(rng.choice(np.flatnonzero(here == here.max())), here.shape)
        return int(rows[row]), int(cols[col])

    def _patch(self, place: tuple[int, int], config: RepairConfig) -> _Patch:
        """Return the patch around a square of STRIDE_PX px."""
        angle = angles(config.patch_cells, config.angle_deg)
        parts = [self._along(axis, place[axis], config.patch_cells) for axis in (0, 1)]
        cells, kept, block, pixels, touched = zip(*parts, strict=True)
        windows = np.flatnonzero(np.outer(*touched))
        return _Patch(cells, angle[np.ix_(*kept)], block, pixels, windows)

    def _along(self, axis: int, place: int, count: int) -> tuple[np.ndarray, ...]:
        """Along one axis: cells of a patch, which of ``count`` they are, block, pixels, windows touched."""
        size, length = self.latent.shape[2 + axis], self.size_px[axis]
        start = (self.verdict.row, self.verdict.col)[axis]
        context = 2 * WRAP_CELLS
        first = place - count // 2
        if self.periodic:
            kept = np.arange(min(count, size))
            cells = (first + kept) % size
            block = np.arange(first - context, first + count + context)
            pixels = STRIDE_PX * (block[0] + WRAP_CELLS) + np.arange(STRIDE_PX * (len(block) - context))
            return cells, kept, block % size, pixels % length, self._touched(pixels % length, start, length)
        cells = first + WRAP_CELLS + np.arange(count)
        kept = np.flatnonzero((cells >= 0) & (cells < size))
        extent = min(count + 2 * context, size)
        block = np.clip(cells[0] - context, 0, size - extent) + np.arange(extent)
        pixels = STRIDE_PX * block[0] + np.arange(STRIDE_PX * (extent - context))
        pixels = pixels[pixels < length]
        return cells[kept], kept, block, pixels, self._touched(pixels, start, length)

    def _touched(self, pixels: np.ndarray, start: np.ndarray, size_px: int) -> np.ndarray:
        """Which windows see one of the pixels."""
        return self._within(pixels, start, size_px).max(axis=1) > 0

    def _drawn_images(self, patches: Sequence[_Patch], drawn: Sequence[Tensor]) -> list[list[Tensor]]:
        """Generate the pixels of each patch for each of its new draws, all at once."""
        blocks = []
        for patch, candidates in zip(patches, drawn, strict=True):
            before = _at(self.latent, patch.cells)
            for latent in candidates:
                _put(self.latent, patch.cells, latent)
                blocks.append(_at(self.latent, patch.block))
            _put(self.latent, patch.cells, before)
        images = iter(self._generated(torch.cat(blocks)).split(1))
        return [
            [next(images)[..., : len(patch.pixels[0]), : len(patch.pixels[1])] for _ in candidates]
            for patch, candidates in zip(patches, drawn, strict=True)
        ]

    def _generated(self, latent: Tensor) -> Tensor:
        device = next(self.generator.parameters()).device
        return self.rounded(self.generator(latent.to(device)).float().cpu())

    def _judged(
        self, changes: Sequence[_Change], seen: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Judge the windows ``seen`` under each change alone: which are broken, and by how much."""
        if not changes:
            return []
        windows = []
        for change, which in zip(changes, seen, strict=True):
            before = _at(self.image, change.patch.pixels)
            _put(self.image, change.patch.pixels, change.image)
            windows.append(cut_windows(self.image, self.corners[which], self.reference.window_px))
            _put(self.image, change.patch.pixels, before)
        verdicts = iter(
            judge(torch.cat(windows), self.reference, allow_own_rules=self.allow_own_rules, progress=False)
        )
        return [self._faults([next(verdicts) for _ in which]) for which in seen]

    def _faults(self, verdicts: Sequence[Verdict]) -> tuple[np.ndarray, np.ndarray]:
        broken = np.array([not verdict.valid for verdict in verdicts], bool)
        return broken, np.array([excess(verdict.measures, self.reference.limits) for verdict in verdicts])


def _rank(broken: np.ndarray, beyond: np.ndarray) -> tuple[int, float]:
    """What is less is better: fewer broken windows, then less excess."""
    return int(broken.sum()), float(beyond.sum())


def _at(grid: Tensor, square: _Square) -> Tensor:
    return grid[..., square[0][:, None], square[1]]


def _put(grid: Tensor, square: _Square, values: Tensor) -> None:
    grid[..., square[0][:, None], square[1]] = values
