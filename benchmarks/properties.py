"""What effective properties cost, and how fine the pixels must be: `python -m benchmarks.properties`.

Cells of 64, 128 and 256 px have discs of the same radius, so the larger ones have more of them. For the
convergence the same discs are drawn coarser and finer; their volume fraction then differs a little. Materials
are the defaults, E-glass in epoxy. Seconds are those of the CPU.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.sparse.linalg import cg

from microgan.core.files import atomic
from microgan.evaluation.homogenisation import PropertiesConfig, conductivity, stiffness

CASES = ((64, "periodic"), (64, "mixed"), (128, "periodic"), (128, "mixed"), (256, "periodic"))
RADIUS_PX = 6.0
VOLUME_FRACTION = 0.45  # which random sequential placement reaches
RESOLUTIONS_PX = (32, 64, 128, 256)

Property = Callable[[np.ndarray, PropertiesConfig], np.ndarray]
PROPERTIES: tuple[Property, ...] = (stiffness, conductivity)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=4, help="of each size that are timed, at least 2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the tables, Markdown")
    options = parser.parse_args()
    tables = f"{cost_table(options.cells, options.seed)}\n\n{convergence_table(options.seed)}"
    print(tables)
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(tables + "\n")


def cost_table(count: int, seed: int) -> str:
    """Format the seconds of the first cell, set-up included, of each further one, and iterations per load."""
    lines = [
        "| cell | boundary | property | first, s | further, s | iterations |",
        "|---|---|---|--:|--:|--:|",
    ]
    for side_px, boundary in CASES:
        side = side_px / RADIUS_PX
        cells = np.stack([draw(discs(side, seed + index), side, side_px) for index in range(count)])
        config = PropertiesConfig.from_mapping({"boundary": boundary}, "properties")
        for effective in PROPERTIES:
            first, every = timed(effective, cells[:1], config), timed(effective, cells, config)
            cost = f"{first:.3f} | {(every - first) / (count - 1):.3f}"
            steps = iterations(effective, cells[:1], config)
            lines.append(f"| {side_px} px | {boundary} | {effective.__name__} | {cost} | {steps:.0f} |")
    return "\n".join(lines)


def convergence_table(seed: int) -> str:
    """Format the properties of one periodic cell of 64 px, drawn coarser and finer."""
    config, side = PropertiesConfig(), 64 / RADIUS_PX
    centres = discs(side, seed)
    lines = [
        "| cell | radius, px | volume fraction | C_rr, GPa | G_rc, GPa | k_rr, W/(m K) | iterations |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for side_px in RESOLUTIONS_PX:
        cell = draw(centres, side, side_px)[None]
        c, k = stiffness(cell, config)[0], conductivity(cell, config)[0]
        values = f"{cell.mean():.4f} | {c[0, 0]:.3f} | {c[2, 2]:.3f} | {k[0, 0]:.4f}"
        steps = iterations(stiffness, cell, config)
        lines.append(f"| {side_px} px | {side_px / side:g} | {values} | {steps:.0f} |")
    return "\n".join(lines)


def timed(effective: Property, cells: np.ndarray, config: PropertiesConfig) -> float:
    """Return the seconds of CPU that all cells take."""
    start = process_time()
    effective(cells, config)
    return process_time() - start


def iterations(effective: Property, cell: np.ndarray, config: PropertiesConfig) -> float:
    """Return the mean number of iterations of the solver per load."""
    residuals: list[int] = []
    solves: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        solves.append(1)
        return cg(*args, **options, callback=lambda _: residuals.append(1))

    with patch("microgan.evaluation.homogenisation.cg", counting):
        effective(cell, config)
    return len(residuals) / len(solves)


def discs(side: float, seed: int) -> np.ndarray:
    """Place discs of radius 1 into a periodic cell, one by one where there is room: centres (n, 2)."""
    rng = np.random.default_rng(seed)
    centres = np.empty((0, 2))
    while len(centres) < VOLUME_FRACTION * side**2 / np.pi:
        centre = side * rng.random(2)
        if (np.linalg.norm(_wrapped(centres - centre, side), axis=-1) > 2).all():
            centres = np.vstack([centres, centre])
    return centres


def draw(centres: np.ndarray, side: float, side_px: int) -> np.ndarray:
    """Draw a periodic cell, bool (side_px, side_px): pixels whose centre is in a disc."""
    axis = (np.arange(side_px) + 0.5) * side / side_px
    image = np.zeros((side_px, side_px), bool)
    for row, col in centres:
        image |= np.hypot(_wrapped(axis - row, side)[:, None], _wrapped(axis - col, side)) < 1
    return image


def _wrapped(offset: np.ndarray, side: float) -> np.ndarray:
    return (offset + side / 2) % side - side / 2


if __name__ == "__main__":
    main()
