"""Read the scan, normalise and split it: ``python -m stages.ingest``."""

from pathlib import Path

from microgan.report.figures.scan import contact_sheet, intensity_histogram
from microgan.scan.config import ScanConfig
from microgan.scan.ingest import ingest
from stages.stage import Stage, drafts, naming, run


def main(stage: Stage) -> None:
    """Write data/planes and reports/ingest."""
    config = stage.config(f"scans.{stage.scan}", ScanConfig)
    with (
        naming(f"scans.{stage.scan}", ScanConfig),
        drafts("data/planes", "reports/ingest") as (folder, pictures),
    ):
        planes = ingest(stage.scan, Path("data/raw") / stage.scan, config, stage.window_px, folder)
        contact_sheet(planes, pictures / "contact_sheet.png")
        intensity_histogram(planes, pictures / "histogram.png")
    stage.tracker.dataset(planes.info.name, planes.info.source_digest, f"data/raw/{stage.scan}", "raw scan")
    stage.tracker.artifact("reports/ingest", "data/planes/scan.json")


if __name__ == "__main__":
    run(main)
