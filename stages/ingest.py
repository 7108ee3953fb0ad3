"""Read the scan, normalise and split it: ``python -m stages.ingest``."""

from pathlib import Path

from microgan.report.figures.scan import contact_sheet, intensity_histogram
from microgan.scan.config import ScanConfig
from microgan.scan.ingest import ingest
from microgan.scan.planes import ROLES, Planes
from stages.stage import Stage, naming, run


def main(stage: Stage) -> None:
    """Write data/planes and reports/ingest."""
    config = stage.config(f"scans.{stage.scan}", ScanConfig)
    with (
        naming(f"scans.{stage.scan}", ScanConfig),
        stage.drafts("data/planes", "reports/ingest") as (folder, pictures),
    ):
        planes = ingest(stage.scan, Path("data/raw") / stage.scan, config, stage.window_px, folder)
        contact_sheet(planes, pictures / "contact_sheet.png")
        intensity_histogram(planes, pictures / "histogram.png")
    stage.say(found(planes))
    stage.tracker.dataset(planes.info.name, planes.info.source_digest, f"data/raw/{stage.scan}", "raw scan")
    stage.tracker.artifact("reports/ingest", "data/planes/scan.json")


def found(planes: Planes) -> str:
    """Say what was read: planes, size, voxel size, and the size of each part."""
    info = planes.info
    count, rows, cols = info.shape
    size = "unknown" if info.voxel_size_um is None else f"{info.voxel_size_um:g} um"
    area = {
        role: sum((row1 - row0) * (col1 - col0) for _, row0, row1, col0, col1 in info.regions[role])
        for role in ROLES
    }
    whole = sum(area.values())
    planes_of = {role: len({box[0] for box in info.regions[role]}) for role in ROLES}
    parts = ", ".join(f"{role} {planes_of[role]} ({area[role] / whole:.0%} of the area)" for role in ROLES)
    return f"{info.name}: {count} planes of {rows} x {cols} px, voxel size {size}; planes: {parts}"


if __name__ == "__main__":
    run(main)
