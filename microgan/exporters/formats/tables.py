"""Tables of all structures: their circles and their phases."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from microgan import __version__
from microgan.core.json_files import write_json
from microgan.core.tables import write_csv
from microgan.exporters.formats.format import JointFormat
from microgan.exporters.structure import DISCS, Structure

CIRCLES_SCHEMA = "microgan-circles-1"


def circle_columns(structure: Structure) -> dict[str, np.ndarray]:
    """Return the circles as columns (n,): in px and, where the voxel size is known, in the length unit.

    The centre of the first pixel is at row 0, col 0. Half a pixel from there is its corner, where x and y are
    0, as in the files of voxels.
    """
    discs = structure.circles
    if discs is None:
        return {}
    columns = {"row": discs.row, "col": discs.col, "radius": discs.radius_px}
    if structure.voxel_size_um is not None:
        lengths = {"x": discs.col + 0.5, "y": discs.row + 0.5, "radius": discs.radius_px}
        unit, spacing = structure.unit, structure.spacing
        columns |= {f"{name}_{unit}": values * spacing for name, values in lengths.items()}
    return columns


def write_csv_tables(structures: Sequence[Structure], folder: Path) -> None:
    """Write phases.csv, and circles.csv where circles are known."""
    header = ["structure", "id", "name", "voxels", "volume_fraction", "circles"]
    write_csv(
        folder / "phases.csv", header, (row for structure in structures for row in _phase_rows(structure))
    )
    if structures[0].circles is not None:
        rows = [
            [page, *(f"{value:.8g}" for value in circle)]
            for page, structure in enumerate(structures)
            for circle in zip(*circle_columns(structure).values(), strict=True)
        ]
        write_csv(folder / "circles.csv", ["image", *circle_columns(structures[0])], rows)


def write_circles_json(structures: Sequence[Structure], folder: Path) -> None:
    """Write circles.json: for each structure a list of circles, with the same names as in circles.csv."""
    listed = [
        {"name": structure.name, "image": page, "circles": list(_circles(structure))}
        for page, structure in enumerate(structures)
    ]
    first = structures[0]
    header = {"schema": CIRCLES_SCHEMA, "microgan": __version__, "length_unit": first.unit}
    size = {"note": first.unit_note, "spacing": first.spacing, "periodic": first.periodic}
    write_json(folder / "circles.json", {**header, **size, "structures": listed})


def _circles(structure: Structure) -> Iterator[dict[str, float]]:
    columns = circle_columns(structure)
    for circle in zip(*columns.values(), strict=True):
        yield {name: float(f"{value:.8g}") for name, value in zip(columns, circle, strict=True)}


def _phase_rows(structure: Structure) -> Iterator[list[object]]:
    voxels = structure.phase.size
    for phase, name in enumerate(structure.phases):
        count = int((structure.phase == phase).sum())
        discs = len(structure.circles.row) if structure.circles is not None and phase == DISCS else ""
        yield [structure.name, phase, name, count, f"{count / voxels:.6f}", discs]


PLACES = (
    "row, col in px, centre of the first pixel at 0; x = col, y = row in the length unit, where the voxel "
    "size is known, corner of that pixel at 0"
)
CSV = JointFormat(
    write_csv_tables,
    "circles.csv (where circles are known; image = page) and phases.csv, one row a circle and a phase",
    axes=PLACES,
)
JSON = JointFormat(write_circles_json, "circles.json, circles by structure", needs_circles=True, axes=PLACES)
