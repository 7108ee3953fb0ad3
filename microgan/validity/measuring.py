"""What the rules read from images, before any limit: the discs of each image, and its measures.

Finding discs takes most of the time of judging and depends on no limit. So it is done once, kept in two
files, and judged again (`microgan.validity.judging`) whenever limits change.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor

from microgan.core.errors import UserError
from microgan.core.files import write_csv
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.validity.evidence import gather_evidence
from microgan.validity.phase import phase_image
from microgan.validity.rules import RULES, Rule, measure
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
        further = _measures(images, segmentation, self.circles, rules)
        return type(self)(self.circles, [a | b for a, b in zip(self.measures, further, strict=True)])

    def save(self, measures: Path, circles: Path) -> None:
        """Write two CSV files with a row for each image, and for each circle (in pixels)."""
        names = list(self.measures[0]) if self.measures else []
        rows = [(index, *(row[name] for name in names)) for index, row in enumerate(self.measures)]
        write_csv(measures, ("image", *names), rows)
        write_circles(circles, self.circles)

    @classmethod
    def load(cls, measures: Path, circles: Path) -> Self:
        """Read what `save` wrote."""
        with measures.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        values = [{name: float(value) for name, value in row.items() if name != "image"} for row in rows]
        return cls(read_circles(circles, len(values)), values)


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
        If the file has a circle of an image beyond these.
    """
    with path.open(newline="") as stream:
        rows = [[float(value) for value in row] for row in list(csv.reader(stream))[1:]]
    table = np.array(rows).reshape(-1, 1 + len(CIRCLE_COLUMNS))
    image = table[:, 0].astype(int)
    if len(image) and image[-1] >= count:
        raise UserError(path, f"image {image[-1]}", f"must be below the number of images, {count}")
    ends = np.searchsorted(image, np.arange(count + 1))
    return [Circles(*table[start:end, 1:].T) for start, end in pairwise(ends)]
