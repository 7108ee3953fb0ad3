"""What the judge learns from: sound images and the same with one fault, real ones and random packings.

Faults of real windows are made by `microgan.evaluation.judge_brush`. Those of random packings are drawn: a
disc that overlaps, is half there or too large is part of the drawing, before blur and noise. It has no trace.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from microgan.core.domain import Domain
from microgan.detection.circles import Circles
from microgan.evaluation import judge_brush as brush
from microgan.evaluation.judge_brush import FAULTS, FILTERS, TRACES, DiscWindow
from microgan.validity.random_packing import RandomPacking

KINDS = tuple(FAULTS)
SOUND_IMAGES, FAULTY_IMAGES = 2, 3  # made of each window
MOST_TRACES = 2  # sound changes in an image; one less where a fault follows
FILTERED = 0.4  # fraction of the images that are softened, sharpened or denoised
PAD_PX = 8  # around a drawn packing, so that what is cut off at the border is blurred as the rest


@dataclass(frozen=True)
class JudgeLessons:
    """Images of bright discs, and what is wrong with them.

    Attributes
    ----------
    images : Tensor (n, 1, S, S), float32, in [-1, 1]
    kind : Tensor (n,), int64; 0: sound, k: `KINDS` [k - 1]
    """

    images: Tensor
    kind: Tensor

    @classmethod
    def of_windows(cls, windows: Tensor, circles: Sequence[Circles], seed: int) -> Self:
        """Make faults in real windows (N, 1, S, S) of bright discs."""
        return cls._of(
            pair
            for index, discs in enumerate(circles)
            for pair in _real(windows[index, 0].numpy(), discs, np.random.default_rng([seed, index]))
        )

    @classmethod
    def of_packing(cls, packing: RandomPacking, count: int, side_px: int, seed: int, sign: float) -> Self:
        """Draw random packings with faults; ``sign`` -1 turns dark discs into bright ones."""
        images, circles = packing.sample(count, Domain((side_px, side_px)), seed)
        return cls._of(
            (sign * grey, kind)
            for index, discs in enumerate(circles)
            for grey, kind in _drawn(
                packing, images[index, 0].numpy(), discs, np.random.default_rng([seed, index, 1])
            )
        )

    @classmethod
    def _of(cls, pairs: Iterator[tuple[np.ndarray, int]]) -> Self:
        greys, kinds = zip(*pairs, strict=True)
        images = np.clip(np.stack(greys), -1, 1).astype(np.float32)
        return cls(torch.from_numpy(images)[:, None], torch.tensor(kinds))

    def __add__(self, other: Self) -> Self:
        return type(self)(torch.cat([self.images, other.images]), torch.cat([self.kind, other.kind]))


# Real windows -------------------------------------------------------------------------------------------


def _real(grey: np.ndarray, circles: Circles, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, int]]:
    window = DiscWindow.of(grey, circles)
    yield window.grey, 0
    for _ in range(SOUND_IMAGES - 1):
        yield _filtered(_with_traces(window, rng, MOST_TRACES).grey, rng), 0
    for turn in rng.permutation(len(KINDS))[:FAULTY_IMAGES].tolist():
        faulty = FAULTS[KINDS[turn]](_with_traces(window, rng, MOST_TRACES - 1), rng)
        if faulty is not None:
            yield _filtered(faulty, rng), 1 + turn


def _with_traces(window: DiscWindow, rng: np.random.Generator, most: int) -> DiscWindow:
    """Make some sound changes; a disc that is touched is left alone afterwards."""
    for _ in range(int(rng.integers(most + 1))):
        change = TRACES[str(rng.choice(list(TRACES)))](window, rng)
        if change is not None:
            window = window.after(change)
    return window


def _filtered(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= FILTERED:
        return grey
    return FILTERS[str(rng.choice(list(FILTERS)))](grey.astype(np.float32), rng)


# Drawn packings -----------------------------------------------------------------------------------------


def _drawn(
    packing: RandomPacking, image: np.ndarray, circles: Circles, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, int]]:
    yield _filtered(image, rng), 0
    appearance = packing.appearances[int(rng.integers(len(packing.appearances)))]
    discs = circles.table()[:, :3] + [PAD_PX, PAD_PX, 0]
    size_px = image.shape[0] + 2 * PAD_PX, image.shape[1] + 2 * PAD_PX
    inside = ((discs[:, :2] > PAD_PX) & (discs[:, :2] < np.array(size_px) - 1 - PAD_PX)).all(1)
    whole = np.flatnonzero(inside)

    def finished(coverage: np.ndarray) -> np.ndarray:
        grey = packing.grey_of(coverage, appearance, rng)[PAD_PX:-PAD_PX, PAD_PX:-PAD_PX]
        return _filtered(grey, rng)

    yield finished(_coverage(discs, size_px)), 0
    for turn in rng.permutation(len(KINDS))[:FAULTY_IMAGES].tolist():
        coverage = _DRAWN[KINDS[turn]](discs, whole, size_px, rng)
        if coverage is not None:
            yield finished(coverage), 1 + turn


def _coverage(discs: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    return np.clip(0.5 - brush.distances(size_px, discs).min(0, initial=np.inf), 0, 1)


Drawing = Callable[[np.ndarray, np.ndarray, tuple[int, int], np.random.Generator], np.ndarray | None]


def _overlap(
    discs: np.ndarray, whole: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    """Move a disc into its nearest neighbour."""
    if not len(whole) or len(discs) < 2:
        return None
    index = int(rng.choice(whole))
    way = discs[:, :2] - discs[index, :2]
    reach = np.linalg.norm(way, axis=1)
    gap = np.where(np.arange(len(discs)) == index, np.inf, reach - discs[:, 2])
    near = int(gap.argmin())
    wanted = (1 - rng.uniform(0.12, 0.45)) * (discs[index, 2] + discs[near, 2])
    moved = discs.copy()
    moved[index, :2] += way[near] * (1 - wanted / max(reach[near], 1e-6))
    return _coverage(moved, size_px)


def _partial(
    discs: np.ndarray, whole: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    if not len(whole):
        return None
    index = int(rng.choice(whole))
    rest = _coverage(np.delete(discs, index, axis=0), size_px)
    lost = brush.missing_part(size_px, discs[index], rng)
    return np.maximum(rest, (1 - lost) * _coverage(discs[[index]], size_px))


def _joined(
    discs: np.ndarray, whole: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    pair = brush.near_pair(discs[whole], rng)
    if pair is None:
        return None
    return np.maximum(_coverage(discs, size_px), np.clip(0.5 - pair[1](size_px), 0, 1))


def _wrong_radius(
    discs: np.ndarray, whole: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    if not len(whole):
        return None
    changed = discs.copy()
    changed[int(rng.choice(whole)), 2] *= brush.wrong_scale(rng)
    return _coverage(changed, size_px)


def _wrong_contrast(
    discs: np.ndarray, whole: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    if not len(whole):
        return None
    index = int(rng.choice(whole))
    own = _coverage(discs[[index]], size_px)
    rest = _coverage(np.delete(discs, index, axis=0), size_px)
    return rest * (1 - own) + brush.contrast_factor(rng) * own


_DRAWN: dict[str, Drawing] = {
    "overlap": _overlap,
    "partial_disc": _partial,
    "joined_pair": _joined,
    "wrong_radius": _wrong_radius,
    "wrong_contrast": _wrong_contrast,
}
