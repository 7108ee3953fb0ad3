"""Detection rates: the fraction of images with a planted defect that the rules reject.

Limits are set so that real windows pass (`microgan.validity.calibration`). That says nothing about what else
passes. So each defect of `microgan.validity.planted_defects` is planted into real windows, and the windows
that pass without it are judged. Planting and measuring depend on no limit: `PlantedDefects` is made once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from microgan.core.errors import UserError
from microgan.core.tables import integer, read_table, write_csv
from microgan.detection.circles import Circles
from microgan.scan.halves import Halves
from microgan.scan.planes import Planes
from microgan.statistics.intervals import wilson_interval
from microgan.validity.calibration import CONFIDENCE
from microgan.validity.judging import Verdict, judge_measured, pass_rate, with_faults
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.planted_defects import DEFECTS, plant
from microgan.validity.reference import DetectionRate, Reference
from microgan.validity.rules import LEARNT_FAULT, Rule
from microgan.validity.segmentation import Segmentation

PLANTED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "overlap_15_to_20": ("overlap", {"degree": (0.15, 0.2)}),  # 1 - d / (r1 + r2), %
    "overlap_20_to_30": ("overlap", {"degree": (0.2, 0.3)}),
    "overlap_30_to_40": ("overlap", {"degree": (0.3, 0.4)}),
    **{name: (name, {}) for name in DEFECTS if name != "overlap"},
}


# So many more windows are planted into than are wanted, since those that fail without a defect do not count.
SPARE = 1.25


@dataclass(frozen=True)
class Planted:
    """Images of one kind of defect, by their index among all planted ones, and their verdicts."""

    images: list[int]
    verdicts: list[Verdict]

    @property
    def detection_rate(self) -> DetectionRate:
        """How many of them the rules reject."""
        rejected, count = sum(not verdict.valid for verdict in self.verdicts), len(self.verdicts)
        reasons = [set(verdict.reasons) for verdict in self.verdicts]
        names = sorted(set().union(*reasons))
        return DetectionRate(
            rate=1 - pass_rate(self.verdicts),
            count=count,
            interval=wilson_interval(rejected, count, confidence=CONFIDENCE),
            without_network=sum(bool(found - {LEARNT_FAULT}) for found in reasons) / count,
            by_reason={name: sum(name in found for found in reasons) / count for name in names},
        )

    def with_faults(self, images: Tensor, reference: Reference) -> Self:
        """Return the same with what the network saw in the first images (n, 1, S, S) of this kind."""
        shown = with_faults(self.verdicts[: len(images)], images, reference)
        return replace(self, verdicts=[*shown, *self.verdicts[len(images) :]])


@dataclass(frozen=True)
class PlantedDefects:
    """Real windows with planted defects, measured without and with them.

    Attributes
    ----------
    windows : Tensor
        The windows (n, 1, S, S) in [-1, 1] without a defect.
    half : ndarray of shape (n,)
        Of the scan that each window lies in.
    without : MeasuredWindows
        These, measured.
    places : list of (str, int)
        Of each image with a defect, the name in `PLANTED` and the index of its window.
    with_defect : MeasuredWindows
        These images, measured.
    seed : int
        From which `image` draws the same defect again.
    """

    windows: Tensor
    half: np.ndarray
    without: MeasuredWindows
    places: list[tuple[str, int]]
    with_defect: MeasuredWindows
    seed: int

    @classmethod
    def plant(cls, planes: Planes, segmentation: Segmentation, seed: int, count: int = 100) -> Self:
        """Plant each kind of defect into real windows, and measure them.

        Parameters
        ----------
        planes
            The scan; windows come from its calibration and training parts.
        segmentation
            How discs are found.
        seed
            Fixes windows and defects.
        count
            Number of windows that are wanted of each kind: `SPARE` times as many are planted into. There are
            none of a defect that no window has a place for.
        """
        windows, half = _windows(planes, segmentation, seed, count)
        without = MeasuredWindows.of(windows, segmentation, progress=False)
        images = {
            (name, index): image
            for name in PLANTED
            for index, circles in enumerate(without.circles)
            if (image := _planted(name, index, windows, circles, segmentation, seed)) is not None
        }
        stack = torch.from_numpy(np.stack(list(images.values())))[:, None]
        with_defect = MeasuredWindows.of(stack, segmentation)
        return cls(windows, half, without, list(images), with_defect, seed)

    def image(self, index: int, segmentation: Segmentation) -> np.ndarray:
        """Plant the defect of the image ``index`` again: (S, S) in [-1, 1]."""
        name, window = self.places[index]
        circles = self.without.circles[window]
        image = _planted(name, window, self.windows, circles, segmentation, self.seed)
        assert image is not None  # as when it was planted first
        return image

    def and_by(self, segmentation: Segmentation, rules: Mapping[str, Rule]) -> Self:
        """Return the same with the measures of further ``rules``."""
        if not rules:
            return self
        further = self.with_defect.and_by(self._images(segmentation), segmentation, rules)
        without = self.without.and_by(self.windows, segmentation, rules)
        return replace(self, without=without, with_defect=further)

    def and_learnt(self, segmentation: Segmentation, learnt: LearntFaults) -> Self:
        """Return the same with what networks see, each in the half of the scan that it did not learn from."""
        half = self.half[[window for _, window in self.places]]
        further = self.with_defect.and_learnt(self._images(segmentation), learnt, half)
        without = self.without.and_learnt(self.windows, learnt, self.half)
        return replace(self, without=without, with_defect=further)

    def _images(self, segmentation: Segmentation) -> Tensor:
        images = [self.image(index, segmentation) for index in range(len(self.places))]
        return torch.from_numpy(np.stack(images))[:, None]

    def judged(self, reference: Reference, count: int = 100) -> dict[str, Planted]:
        """Judge the defects in the first ``count`` windows that pass without: kind of defect -> verdicts."""
        valid = [verdict.valid for verdict in judge_measured(self.without, reference)]
        passing = set(np.flatnonzero(valid)[:count].tolist())
        planted = {}
        for name in PLANTED:
            images = [i for i, (kind, window) in enumerate(self.places) if kind == name and window in passing]
            if images:
                planted[name] = Planted(images, judge_measured(self.with_defect.take(images), reference))
        return planted

    def save(self, folder: Path) -> None:
        """Write measures, circles and places into ``folder``; windows and defects follow from the seed."""
        for measured, paths in zip((self.without, self.with_defect), _files(folder), strict=True):
            measured.save(*paths)
        write_csv(folder / PLACES, ("defect", "window"), self.places)

    @classmethod
    def load(
        cls, folder: Path, planes: Planes, segmentation: Segmentation, seed: int, count: int = 100
    ) -> Self:
        """Read what `save` wrote; the other parameters as in `plant`."""
        without, with_defect = (MeasuredWindows.load(*paths) for paths in _files(folder))
        rows = read_table(
            folder / PLACES, {"defect": _planted_name, "window": integer}, count=len(with_defect.measures)
        )
        places = [(row["defect"], row["window"]) for row in rows]
        windows, half = _windows(planes, segmentation, seed, count)
        if any(window >= len(windows) for _, window in places):
            raise UserError(folder / PLACES, "window", f"must be below the number of windows, {len(windows)}")
        return cls(windows, half, without, places, with_defect, seed)


PLACES = "planted.csv"


def _planted_name(cell: str) -> str:
    if cell not in PLANTED:
        raise ValueError(f"must be one of {', '.join(PLANTED)}")
    return cell


def _files(folder: Path) -> Iterator[tuple[Path, Path]]:
    for name in ("without_defect", "with_defect"):
        yield folder / f"{name}_measures.csv", folder / f"{name}_circles.csv"


def _windows(planes: Planes, segmentation: Segmentation, seed: int, count: int) -> tuple[Tensor, np.ndarray]:
    return Halves(planes, segmentation.window_px).draw_both(round(count * SPARE), [seed + 1])


def _planted(
    name: str, index: int, windows: Tensor, circles: Circles, segmentation: Segmentation, seed: int
) -> np.ndarray | None:
    defect, degree = PLANTED[name]
    rng = np.random.default_rng([seed, list(PLANTED).index(name), index])
    return plant(defect, windows[index, 0].numpy(), circles, rng, segmentation.polarity, **degree)
