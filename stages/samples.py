"""The files in samples/MODEL that stages pass on: generated images, their verdicts and their circles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgan.core.tables import number, text, truth, write_csv
from microgan.detection.circles import Circles
from microgan.scan.images import pages
from microgan.validity.judging import Verdict
from microgan.validity.learnt.learnt_rule import SeenFault
from microgan.validity.measuring import read_circles, read_image_table
from microgan.validity.reference import LEARNT_FILE

MEASURES, CIRCLES = "measures.csv", "circles.csv"  # by microgan's own rules, and what they rest on
PACKING = Path("models/random_packing/packing.json")
LEARNT = Path("reference") / LEARNT_FILE
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
    """Read a stack (N, rows, cols), also one of a single page, by the reader of scans."""
    return np.stack([page for _, page in pages([path])])


def read_samples(folder: Path) -> Samples:
    """Read the files that the stages generate, measure and validate wrote."""
    grey = read_stack(folder / "generated.tif")
    circles = read_circles(folder / CIRCLES, len(grey))
    columns = {"valid": truth, "reasons": _reasons, "faults": _faults}
    rows = read_image_table(folder / "verdicts.csv", columns, others=number, count=len(grey))
    verdicts = [
        Verdict(
            row.pop("valid"), row.pop("reasons"), faults=row.pop("faults"), circles=of_image, measures=row
        )
        for row, of_image in zip(rows, circles, strict=True)
    ]
    return Samples(grey, verdicts)


def _reasons(cell: str) -> tuple[str, ...]:
    return tuple(text(cell).split())


def _faults(cell: str) -> tuple[SeenFault, ...]:
    return tuple(SeenFault.of_text(fault) for fault in text(cell).split("; ") if fault)


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write one row for each sample: image (its page), valid, reasons, faults, and all measures."""
    measures = sorted(verdicts[0].measures)
    rows = [
        (
            index,
            verdict.valid,
            " ".join(verdict.reasons),
            "; ".join(map(str, verdict.faults)),
            *(verdict.measures[name] for name in measures),
        )
        for index, verdict in enumerate(verdicts)
    ]
    write_csv(path, ("image", "valid", "reasons", "faults", *measures), rows)
