"""The files in samples/MODEL that stages pass on: generated images, their verdicts and their circles."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from microgan.core.errors import UserError
from microgan.core.files import write_csv
from microgan.detection.circles import Circles
from microgan.validity.judging import Verdict
from microgan.validity.measuring import read_circles

MEASURES, CIRCLES = "measures.csv", "circles.csv"  # by microgan's own rules, and what they rest on
DESCRIPTORS, NEAREST = "descriptors.safetensors", "nearest_windows.csv"


@dataclass(frozen=True)
class Samples:
    """All samples of one model: grey values (N, rows, cols) as in the scan, and the verdict of each."""

    grey: np.ndarray
    verdicts: list[Verdict]

    @property
    def valid(self) -> np.ndarray:
        """Which samples are valid, (N,) of bool."""
        return np.array([verdict.valid for verdict in self.verdicts], bool)

    @property
    def circles(self) -> list[Circles]:
        """The circles of each sample."""
        return [verdict.circles for verdict in self.verdicts]


def read_stack(path: Path) -> np.ndarray:
    """Read a stack (N, rows, cols), also one of a single page."""
    try:
        pages = tifffile.imread(path)
    except (ValueError, tifffile.TiffFileError) as error:
        raise UserError(path, "unreadable", f"must be a whole TIFF file ({error})") from None
    return pages.reshape(-1, *pages.shape[-2:])


def read_samples(folder: Path) -> Samples:
    """Read the files that the stages generate, measure and validate wrote."""
    grey = read_stack(folder / "generated.tif")
    circles = read_circles(folder / CIRCLES, len(grey))
    with (folder / "verdicts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if len(rows) != len(grey):
        raise UserError(
            folder / "verdicts.csv", len(rows), f"must have a row for each of {len(grey)} samples"
        )
    verdicts = []
    for row, sample_circles in zip(rows, circles, strict=True):
        valid, reasons = row.pop("valid") == "True", tuple(row.pop("reasons").split())
        measures = {name: float(value) for name, value in row.items() if name != "image"}
        verdicts.append(Verdict(valid, reasons, measures, sample_circles))
    return Samples(grey, verdicts)


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write one row for each sample: image (its page), valid, reasons, and all measures."""
    measures = sorted(verdicts[0].measures)
    rows = [
        (index, verdict.valid, " ".join(verdict.reasons), *(verdict.measures[name] for name in measures))
        for index, verdict in enumerate(verdicts)
    ]
    write_csv(path, ("image", "valid", "reasons", *measures), rows)
