"""What a training on a prepared scan needs besides the loop: the material, a name for its state, its card."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from microgan.core.files import fingerprint
from microgan.detection.detect import detect_all
from microgan.gan.checkpoint import CRITIC, LAST
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.noise_filter import noise_filter
from microgan.gan.physical_loss import Material
from microgan.gan.runtime import choose_device, choose_precision, environment
from microgan.gan.training import Trained
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.segmentation import Segmentation

NOISE_WINDOWS = 200  # real ones, in whose discs the scanner's noise is measured
MATERIAL_WINDOWS = 400  # real ones, on which rests what the physical loss expects


def material_of(windows: Windows, segmentation: Segmentation, seed: int) -> Material:
    """Measure on real windows of a scan what the physical loss expects."""
    real = windows.draw(np.random.default_rng(seed), MATERIAL_WINDOWS)
    return Material.of(real, segmentation.radius_px, segmentation.polarity, segmentation.phase_threshold)


def noise_of(windows: Windows, segmentation: Segmentation, config: TrainConfig) -> Tensor | None:
    """Measure on real windows of a scan the filter that gives the scanner's noise; none with a share of 0."""
    if not config.scanner_noise:
        return None
    real = windows.draw(np.random.default_rng([config.seed, 2]), NOISE_WINDOWS)
    circles = detect_all(real, segmentation.detector, progress=False)
    return noise_filter(real, circles, config.scanner_noise)


def state_name(
    config: TrainConfig, model: ModelConfig, window_px: int, planes: Planes, reference: Path
) -> str:
    """Return a name for the state of this training and of no other: parameters, scan, rules and code."""
    loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "microgan")
    files = [Path(str(sys.modules[name].__file__)) for name in loaded]
    files += [reference] if reference.exists() else []
    files += [config.init_from / file for file in (LAST, CRITIC)] if config.init_from else []
    params = json.dumps([config.model_dump(mode="json"), model.model_dump(), window_px])
    scan = (planes.info.planes_sha256, planes.info.mask_sha256)
    return fingerprint(params, *scan, *files)[:32]


def model_card(
    name: str,
    window_px: int,
    planes: Planes,
    config: TrainConfig,
    model: ModelConfig,
    trained: Trained,
    git_commit: str | None,
) -> dict[str, object]:
    """Say where the generator comes from, and why this one was kept."""
    device = choose_device(config.device)
    noise = trained.generator.noise
    reason = f"last of {len(trained.validations)} checkpoints within one standard error of the best score"
    return {
        "model": name,
        "window_px": window_px,
        "scan": planes.info.excerpt().model_dump(),
        "training": {
            "config": config.model_dump(mode="json"),
            "model": model.model_dump(),
            "device": device.type,
            "precision": choose_precision(config.precision, device),
            "steps": trained.steps,
            "seconds": trained.seconds,
            "stopped_by_clock": trained.stopped_by_clock,
            "kept": {**trained.kept, "reason": reason},
            "scanner_noise_sd": 0.0 if noise is None else float(noise.filter.norm()),  # grey in [-1, 1]
            "git_commit": git_commit,
            **environment(device),
        },
    }


def curve(rows: Sequence[dict[str, float]]) -> tuple[list[str], list[list[float]]]:
    """Return the header and the rows of a table of losses or validations."""
    return list(rows[0]), [list(row.values()) for row in rows]
