"""What the rules read from images, before any limit: the discs of each image, and its measures.

Finding discs takes most of the time of judging and depends on no limit. So it is done once, kept in two
files, and judged again (`microgan.validity.judging`) whenever limits change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from microgan.core.errors import UserError
from microgan.core.tables import Cell, integer, number, read_table, write_csv
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.validity.evidence import gather_evidence
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.phase import phase_image
from microgan.validity.rules import LEARNT_FAULT, RULES, Rule, measure
from microgan.validity.segmentation import Segmentation

CIRCLE_COLUMNS = ("row", "col", "radius", "score")
DECIMALS = 4  # of these


@dataclass(frozen=True)
class MeasuredWindows:
    """The circles of N images, and what each rule measures on them.

    Attributes
    ----------
    circles : of each image
    measures : of each image, name of the measure -> value
    """

    circles: list[Circles]
    measures: list[dict[str, float]]

    @classmethod
    def of(
        cls,
        images: Tensor,
        segmentation: Segmentation,
        rules: Mapping[str, Rule] = RULES,
        progress: bool = True,
    ) -> Self:
        """Find the discs of normalised images (N, 1, H, W) and measure them by ``rules``."""
        # As many decimals as files have: what is read later is judged as it was when it was measured.
        circles = [_rounded(found) for found in detect_all(images, segmentation.detector, progress)]
        return cls(circles, _measures(images, segmentation, circles, rules))

    def __len__(self) -> int:
        return len(self.circles)

    def take(self, indices: Sequence[int]) -> Self:
        """Keep the images with these ``indices``."""
        return type(self)([self.circles[i] for i in indices], [self.measures[i] for i in indices])

    def and_by(self, images: Tensor, segmentation: Segmentation, rules: Mapping[str, Rule]) -> Self:
        """Return the same with the measures of further ``rules``; ``images`` as in `of`, all of them."""
        if not rules:
            return self
        return self._and(_measures(images, segmentation, self.circles, rules))

    def and_learnt(self, images: Tensor, learnt: LearntFaults, half: np.ndarray | None = None) -> Self:
        """Return the same with what networks see.

        Parameters
        ----------
        images
            As in `of`, all of them.
        learnt
            The networks.
        half
            Of the scan that each image lies in (N,), for real windows; None for other images.
        """
        value = np.zeros(len(images))
        for part in [None] if half is None else np.unique(half).tolist():
            chosen = np.ones(len(images), bool) if half is None else half == part
            value[chosen] = learnt.score(images[torch.from_numpy(chosen)], part)
        return self._and([{LEARNT_FAULT: score} for score in value.tolist()])

    def _and(self, further: Sequence[dict[str, float]]) -> Self:
        return type(self)(self.circles, [a | b for a, b in zip(self.measures, further, strict=True)])

    def save(self, measures: Path, circles: Path) -> None:
        """Write two CSV files with a row for each image, and for each circle (in pixels)."""
        names = list(self.measures[0]) if self.measures else []
        rows = [(index, *(row[name] for name in names)) for index, row in enumerate(self.measures)]
        write_csv(measures, ("image", *names), rows)
        write_circles(circles, self.circles)

    @classmethod
    def load(cls, measures: Path, circles: Path, count: int | None = None) -> Self:
        """Read what `save` wrote, of ``count`` images where their number is known."""
        rows = read_image_table(measures, {}, others=number, count=count)
        return cls(read_circles(circles, len(rows)), rows)


def _measures(
    images: Tensor, segmentation: Segmentation, circles: Sequence[Circles], rules: Mapping[str, Rule]
) -> list[dict[str, float]]:
    phase = phase_image(images, segmentation)
    evidence = gather_evidence(images, phase, circles, segmentation.polarity)
    return [measure(image, rules) for image in evidence]


def _rounded(circles: Circles) -> Circles:
    return Circles.from_table(circles.table().round(DECIMALS))


def write_circles(path: Path, circles: Sequence[Circles]) -> None:
    """Write one row for each circle, in pixels: image (its page), row, col, radius, score."""
    rows = [
        (index, *(f"{value:.{DECIMALS}f}" for value in circle))
        for index, of_image in enumerate(circles)
        for circle in of_image.table()
    ]
    write_csv(path, ("image", *CIRCLE_COLUMNS), rows)


def read_circles(path: Path, count: int) -> list[Circles]:
    """Read the circles of ``count`` images that `write_circles` wrote.

    Raises
    ------
    UserError
        If the file is broken, or has a circle of an image beyond these.
    """
    columns = {"image": integer, **dict.fromkeys(CIRCLE_COLUMNS, number)}
    rows = [list(row.values()) for row in read_table(path, columns)]
    table = np.array(rows).reshape(-1, len(columns))
    image = table[:, 0].astype(int)
    if len(image) and image.max() >= count:
        raise UserError(path, f"image {image.max()}", f"must be below the number of images, {count}")
    if (np.diff(image) < 0).any():
        raise UserError(path, "images out of order", "must be sorted by image, from 0 on")
    if not (table[:, 1 + CIRCLE_COLUMNS.index("radius")] > 0).all():
        raise UserError(path, "a radius of 0 or below", "must be above 0")
    ends = np.searchsorted(image, np.arange(count + 1))
    return [Circles(*table[start:end, 1:].T) for start, end in pairwise(ends)]


def read_image_table(
    path: Path, columns: Mapping[str, Cell], *, others: Cell | None = None, count: int | None = None
) -> list[dict[str, Any]]:
    """Read a table with a row for each image, numbered from 0 on; as `microgan.core.tables.read_table`.

    Returns
    -------
    list of dict
        The other columns of each row.
    """
    rows = read_table(path, {"image": integer, **columns}, others=others, count=count)
    for index, row in enumerate(rows):
        if row.pop("image") != index:
            raise UserError(f"{path}, row {index + 1}, column image", "another number", f"must be {index}")
    return rows
