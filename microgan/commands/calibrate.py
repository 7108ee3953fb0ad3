"""`microgan calibrate`: a scan, read and split, and the rules of validity fixed on its windows."""

from pathlib import Path
from typing import Any

import numpy as np

from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.core.notes import warn
from microgan.detection.detect import detect_all
from microgan.scan.config import ScanConfig
from microgan.scan.ingest import ingest
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.calibration import CalibrationConfig, is_enabled
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.random_packing import FITTED, fit_packing
from microgan.validity.real_measures import RealMeasures
from microgan.validity.reference import LEARNT_FILE
from microgan.validity.rules import LEARNT_FAULT, LEARNT_RULE

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
    files = [PLANES, REFERENCE, STANDARD]
    with atomic(out) as draft:
        draft.mkdir()
        planes = ingest(scan.stem, folder, config, window_px, draft / PLANES)
        real = RealMeasures.of(planes, window_px, rules)
        if is_enabled(LEARNT_RULE, rules.of(LEARNT_FAULT)):
            real = real.and_learnt(planes, rules, _learnt(planes, real, rules, draft / LEARNT_FILE))
            files.append(LEARNT_FILE)
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
        "files": [str(out / name) for name in files],
    }


def _learnt(planes: Planes, real: RealMeasures, rules: CalibrationConfig, file: Path) -> LearntFaults:
    """Let networks learn what faults look like, and write them."""
    segmentation = real.segmentation
    windows = Windows(planes, "train", segmentation.window_px)
    fitted = windows.draw(np.random.default_rng(rules.seed), FITTED)
    packing = fit_packing(fitted, detect_all(fitted, segmentation.detector, progress=False), segmentation)
    LearntFaults.learn(planes, segmentation, packing, rules.seed, rules.learnt).save(file)
    return LearntFaults.load(file)
