"""`microgan simulate`: a simulated tomogram, and the circles in it."""

from pathlib import Path
from typing import Any

from microgan.commands.images import written
from microgan.core.errors import UserError
from microgan.scan.simulate import SimulateConfig, simulate_scan

SCAN, CIRCLES = "scan.tif", "circles.csv"


def simulate(config: SimulateConfig, out: Path) -> dict[str, Any]:
    """Write a simulated tomogram and the circles that are in it."""
    if out.exists() and not (out.is_dir() and _is_free_or_simulated(out)):
        raise UserError(out, "holds other files", "must be a new or empty folder, or an earlier simulation")
    figures = simulate_scan(config, out)
    return {"files": written(scan=out / SCAN, circles=out / CIRCLES), **figures}


def _is_free_or_simulated(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} in (set(), {SCAN, CIRCLES})
