"""`microgan calibrate`: a scan, read and split, and the rules of validity fixed on its windows."""

from pathlib import Path
from typing import Any

from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.core.notes import warn
from microgan.scan.config import ScanConfig
from microgan.scan.ingest import ingest
from microgan.validity.calibration import CalibrationConfig
from microgan.validity.real_measures import RealMeasures

# What the folder of a calibrated scan holds
PLANES, REFERENCE, STANDARD = "planes", "reference.json", "standard.json"


def calibrate(
    scan: Path, config: ScanConfig, window_px: int, rules: CalibrationConfig, out: Path
) -> dict[str, Any]:
    """Write ``out``: the planes of ``scan``, its reference, and the standard reference for training."""
    if not scan.exists():
        raise UserError(scan, "missing", "must be a file or a folder of slices")
    if out.exists():
        raise UserError("--out", out, "exists already: name another folder, or remove this one")
    folder = scan if scan.is_dir() else scan.parent
    config = config.model_copy(update={"path": "." if scan.is_dir() else scan.name})
    with atomic(out) as draft:
        draft.mkdir()
        planes = ingest(scan.stem, folder, config, window_px, draft / PLANES)
        real = RealMeasures.of(planes, window_px, rules)
        reference = real.calibrated(rules)
        reference.save(draft / REFERENCE)
        real.standard().save(draft / STANDARD)
    for doubt in reference.doubts:
        warn(doubt)
    return {
        "planes": planes.info.shape[0],
        "voxel_size_um": planes.info.voxel_size_um,
        "calibration_pass_rate": reference.calibration_pass_rate,
        "held_out_pass_rate": reference.held_out_pass_rate,
        "detection_rates": {name: rate.rate for name, rate in reference.detection_rates.items()},
        "doubts": reference.doubts,
        "files": [str(out / name) for name in (PLANES, REFERENCE, STANDARD)],
    }
