"""Whether cells vary as much as one scan says: `python -m benchmarks.rve_size`.

Materials of known truth, far larger than a scan: noise, discs anywhere (a Boolean model), hard discs, and
discs that gather in clusters. Each scan, one plane, says an interval for the volume fraction of cells of many
sizes and for that of the material. Cells are cut out of the whole material, and those inside of the interval
are counted. The interval of the stiffness is compared with that of cells that are solved, larger than the
windows that it was measured in (E-glass in epoxy).
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from microgan.core.domain import Domain
from microgan.core.files import atomic
from microgan.detection.circles import Circles
from microgan.evaluation.homogenisation import PropertiesConfig, stiffness
from microgan.exporters.rendering import render_phase
from microgan.scan.disc_packing import relax
from microgan.statistics.phase_descriptors import volume_fraction
from microgan.statistics.representative import FractionVariance, PropertyVariance, fraction_variance

SCAN_PX, MATERIAL_PX, MATERIALS_DRAWN = 448, 1792, 4
CELLS_PX = (32, 64, 128, 224, 448)
WINDOW_PX, WINDOWS = 64, 100
SOLVED_PX = {128: 60, 224: 30}  # side of cells -> how many are solved
RADIUS_PX = 6.0
CLUSTER_PX, CLUSTER_CONTRAST = 25.0, 0.5  # of the logarithm of the density of discs


def discs(centres: np.ndarray, radii_px: np.ndarray, side_px: int) -> np.ndarray:
    """Draw discs into a periodic square."""
    circles = Circles.from_table(np.column_stack([centres, radii_px]))
    return render_phase(circles, Domain((side_px, side_px), periodic=True))


def noise(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Draw each pixel for itself, volume fraction 0.4."""
    return rng.random((side_px, side_px)) < 0.4


def boolean_model(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Draw discs anywhere, which may overlap, volume fraction 0.5."""
    count = rng.poisson(np.log(2) * side_px**2 / (np.pi * RADIUS_PX**2))
    return discs(rng.uniform(0, side_px, (count, 2)), np.full(count, RADIUS_PX), side_px)


def hard_discs(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Draw discs that were pushed apart, as the embedded scan has them, volume fraction 0.55."""
    radii_px = rng.normal(RADIUS_PX, 0.35, int(0.55 * side_px**2 / (np.pi * RADIUS_PX**2)))
    return discs(
        relax(rng.uniform(0, side_px, (len(radii_px), 2)), radii_px, side_px, 0.5), radii_px, side_px
    )


def clusters(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Draw discs whose density varies over some 100 px, volume fraction about 0.47."""
    field = gaussian_filter(rng.normal(size=(side_px, side_px)), CLUSTER_PX, mode="wrap")
    density = np.log(2) / (np.pi * RADIUS_PX**2) * np.exp(CLUSTER_CONTRAST * field / field.std())
    density *= np.exp(-(CLUSTER_CONTRAST**2) / 2)
    centres = np.argwhere(rng.random(field.shape) < density) + 0.0
    return discs(centres, np.full(len(centres), RADIUS_PX), side_px)


Draw = Callable[[np.random.Generator, int], np.ndarray]
MATERIALS: dict[str, Draw] = {
    "noise": noise,
    "Boolean model": boolean_model,
    "hard discs": hard_discs,
    "clusters": clusters,
}


@dataclass(frozen=True)
class Cut:
    """Squares cut out of the material without overlap: phases (n, side, side)."""

    phases: np.ndarray

    @classmethod
    def of(cls, material: np.ndarray, side_px: int) -> "Cut":
        """Cut all squares out of the planes (planes, H, W) of a material."""
        across = material.shape[1] // side_px
        kept = material[:, : across * side_px, : across * side_px]
        parts = kept.reshape(len(kept), across, side_px, across, side_px).swapaxes(2, 3)
        return cls(parts.reshape(-1, side_px, side_px))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the tables, Markdown")
    options = parser.parse_args()
    text = "\n".join(tables(options.seed)) + "\n"
    print(text)
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(text)


def tables(seed: int) -> Iterator[str]:
    """Yield the lines of both tables."""
    drawn = {
        name: np.stack(
            [draw(np.random.default_rng([seed, index]), MATERIAL_PX) for index in range(MATERIALS_DRAWN)]
        )
        for name, draw in MATERIALS.items()
    }
    yield "# How large a cell must be: intervals against cells that were cut and counted\n"
    yield f"Scans of one plane of {SCAN_PX} x {SCAN_PX} px; intervals of 95 %. Mean of all scans.\n"
    yield "| material | cell, px | inside of the interval | half width, mean of scans | true half width |"
    yield "|---|---|---|---|---|"
    for name, material in drawn.items():
        scans = [of_scan(plane) for plane in Cut.of(material, SCAN_PX).phases]
        yield from fraction_rows(name, material, scans)
    yield "\n| material | cell, px | half width of the stiffness, said by scans | of solved cells | cells |"
    yield "|---|---|---|---|---|"
    for name in ("hard discs", "clusters"):
        yield from stiffness_rows(name, drawn[name], seed)


def of_scan(plane: np.ndarray) -> FractionVariance:
    """Measure one plane, all of which shows the specimen."""
    return fraction_variance([(plane, np.ones(plane.shape, bool))])


def fraction_rows(name: str, material: np.ndarray, scans: list[FractionVariance]) -> Iterator[str]:
    """Yield a row for each size of cell, and one for the scans' own volume fraction."""
    truth = material.mean()
    for side_px in CELLS_PX:
        fractions = volume_fraction(Cut.of(material, side_px).phases)
        widths = np.array([scan.half_width(side_px) for scan in scans])
        inside = np.mean(np.abs(fractions[:, None] - truth) <= widths)
        true_width = np.quantile(np.abs(fractions - truth), 0.95)
        yield f"| {name} | {side_px} | {inside:.1%} | {widths.mean():.4f} | {true_width:.4f} |"
    intervals = [scan.scan_interval() for scan in scans]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    width = np.mean([(high - low) / 2 for low, high in intervals])
    yield f"| {name} | the material, by {len(scans)} scans | {covered:.1%} | {width:.4f} | |"


def stiffness_rows(name: str, material: np.ndarray, seed: int) -> Iterator[str]:
    """Yield a row for each size of cell that is solved, beside what windows of scans say of it."""
    rng = np.random.default_rng(seed)
    said: dict[int, list[float]] = {side_px: [] for side_px in SOLVED_PX}
    for plane in Cut.of(material, SCAN_PX).phases[:8]:
        corners = rng.integers(SCAN_PX - WINDOW_PX + 1, size=(WINDOWS, 2))
        windows = np.stack([plane[row : row + WINDOW_PX, col : col + WINDOW_PX] for row, col in corners])
        model = PropertyVariance.of(of_scan(plane), volume_fraction(windows), in_plane(windows), WINDOW_PX)
        for side_px, widths in said.items():
            widths.append(model.relative_half_width(side_px))
    for side_px, count in SOLVED_PX.items():
        cells = Cut.of(material, side_px).phases
        values = in_plane(cells[rng.permutation(len(cells))[:count]])
        true_width = 1.96 * values.std(ddof=1) / values.mean()
        yield f"| {name} | {side_px} | {np.mean(said[side_px]):.1%} | {true_width:.1%} | {len(values)} |"


def in_plane(phases: np.ndarray) -> np.ndarray:
    """Return the in-plane stiffness (n,) of images, the mean along rows and columns."""
    matrices = stiffness(phases, PropertiesConfig())
    return (matrices[:, 0, 0] + matrices[:, 1, 1]) / 2


if __name__ == "__main__":
    main()
