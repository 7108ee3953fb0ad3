"""What the judge learns from: sound images beside the same with one fault, real ones and random packings.

Faults of real windows are made by `microgan.evaluation.judge_brush`. Those of random packings are drawn: a
disc that overlaps, is half there or too large is part of the drawing, before blur and noise. It has no trace.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.evaluation import judge_brush as brush
from microgan.evaluation.judge_brush import FAULTS, FILTERS, TRACES, DiscWindow
from microgan.validity.random_packing import RandomPacking

KINDS = tuple(FAULTS)
TRACED = 0.5  # fraction of the sound images that have a sound change, and of the windows that had one before
FILTERED = 0.3  # fraction of the pairs that are softened, sharpened or denoised
DRAWN_WEIGHT = 0.25  # of a fault in a packing: what cannot be told there must count as sound
PAD_PX = 8  # around a drawn packing, so that what is cut off at the border is blurred as the rest


@dataclass(frozen=True)
class JudgeLessons:
    """Pairs of images of bright discs: a sound one, and the same window with one fault.

    Attributes
    ----------
    images : Tensor (n, 2, S, S), float32, in [-1, 1]; the sound one first
    place : int64 (n, 2, 2), row and column of the sound change and of the fault, px
    kind : Tensor (n,), int64; index of the fault into `KINDS`
    weight : Tensor (n,), of the faulty image in training
    """

    images: Tensor
    place: np.ndarray
    kind: Tensor
    weight: Tensor

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
        _, circles = packing.sample(count, Domain((side_px, side_px)), seed)
        pairs = cls._of(
            pair
            for index, discs in enumerate(circles)
            for pair in _drawn(packing, side_px, discs, np.random.default_rng([seed, index, 1]))
        )
        return cls(sign * pairs.images, pairs.place, pairs.kind, DRAWN_WEIGHT * pairs.weight)

    @classmethod
    def _of(cls, pairs: Iterator["_Pair"]) -> Self:
        every = list(pairs)
        if not every:
            raise UserError("windows", "no disc", "must have discs that are whole, to make faults of")
        images = np.stack([[pair.sound, pair.faulty] for pair in every])
        places = np.array([[_place(pair.sound_change), _place(pair.fault_change)] for pair in every])
        kind = torch.tensor([pair.kind for pair in every])
        images = np.clip(images, -1, 1).astype(np.float32)
        return cls(torch.from_numpy(images), places, kind, torch.ones(len(every)))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            torch.cat([self.images, other.images]),
            np.concatenate([self.place, other.place]),
            torch.cat([self.kind, other.kind]),
            torch.cat([self.weight, other.weight]),
        )


class _Pair(NamedTuple):
    sound: np.ndarray
    faulty: np.ndarray
    sound_change: np.ndarray
    fault_change: np.ndarray
    kind: int


def _place(change: np.ndarray) -> tuple[int, int]:
    """Return row and column of the middle of a change (H, W)."""
    weight = np.abs(change)
    rows, cols = np.indices(change.shape)
    total = max(float(weight.sum()), 1e-9)
    return round(float((rows * weight).sum()) / total), round(float((cols * weight).sum()) / total)


# Real windows -------------------------------------------------------------------------------------------


def _real(grey: np.ndarray, circles: Circles, rng: np.random.Generator) -> Iterator[_Pair]:
    original = DiscWindow.of(grey, circles)
    for turn in range(len(KINDS)):
        window = original
        before = _traced(window, rng)
        if before is not None:
            window = window.after(before)
        faulty, sound = FAULTS[KINDS[turn]](window, rng), _traced(window, rng)
        if faulty is None:
            continue
        fault = faulty - window.grey
        change = fault if sound is None else sound - window.grey
        yield _filtered(window.grey if sound is None else sound, faulty, change, fault, turn, rng)


def _traced(window: DiscWindow, rng: np.random.Generator) -> np.ndarray | None:
    """Make a sound change, or none."""
    if rng.random() > TRACED:
        return None
    return TRACES[str(rng.choice(list(TRACES)))](window, rng)


def _filtered(
    sound: np.ndarray,
    faulty: np.ndarray,
    sound_change: np.ndarray,
    fault_change: np.ndarray,
    kind: int,
    rng: np.random.Generator,
) -> _Pair:
    """Return a pair, of which both may be filtered in the same way."""
    if rng.random() < FILTERED:
        change, seed = FILTERS[str(rng.choice(list(FILTERS)))], int(rng.integers(2**31))
        sound, faulty = (
            change(grey.astype(np.float32), np.random.default_rng(seed)) for grey in (sound, faulty)
        )
    return _Pair(sound, faulty, sound_change, fault_change, kind)


# Drawn packings -----------------------------------------------------------------------------------------


def _drawn(
    packing: RandomPacking, side_px: int, circles: Circles, rng: np.random.Generator
) -> Iterator[_Pair]:
    discs = circles.table()[:, :3] + [PAD_PX, PAD_PX, 0]
    size_px = side_px + 2 * PAD_PX, side_px + 2 * PAD_PX
    inside = ((discs[:, :2] > PAD_PX) & (discs[:, :2] < np.array(size_px) - 1 - PAD_PX)).all(1)
    whole, sound = np.flatnonzero(inside), _coverage(discs, size_px)
    inner = np.s_[PAD_PX:-PAD_PX, PAD_PX:-PAD_PX]
    for turn in range(len(KINDS)):
        faulty = _DRAWN[KINDS[turn]](discs, whole, size_px, rng)
        if faulty is None:
            continue
        appearance = packing.appearances[int(rng.integers(len(packing.appearances)))]
        seed = int(rng.integers(2**31))
        grey, faulty_grey = (
            packing.grey_of(coverage, appearance, np.random.default_rng(seed))[inner]
            for coverage in (sound, faulty)
        )
        change = (faulty - sound)[inner]
        yield _filtered(grey, faulty_grey, change, change, turn, rng)


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
    wanted = (1 - rng.uniform(0.15, 0.45)) * (discs[index, 2] + discs[near, 2])
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


def _warped(
    discs: np.ndarray, whole: np.ndarray, size_px: tuple[int, int], rng: np.random.Generator
) -> np.ndarray | None:
    return np.clip(brush.warped_picture(_coverage(discs, size_px), discs, rng), 0, 1)


_DRAWN: dict[str, Drawing] = {
    "overlap": _overlap,
    "partial_disc": _partial,
    "joined_pair": _joined,
    "wrong_radius": _wrong_radius,
    "wrong_contrast": _wrong_contrast,
    "warped": _warped,
}
