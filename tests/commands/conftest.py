"""A material that commands work on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from microgan.core.files import write_tiff
from microgan.gan.checkpoint import save_model
from microgan.gan.networks import NetworkConfig
from microgan.scan.windows import Windows
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.judging import judge
from tests.helpers import disc_planes, lively


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibrated reference.json, a model and a few real windows."""
    folder = tmp_path_factory.mktemp("material")
    planes = disc_planes(folder)
    reference = calibrate(planes, 64, CalibrationConfig(windows=100))
    reference.save(folder / "reference.json")
    info = planes.info
    save_model(
        folder / "model",
        lively(NetworkConfig(latent_channels=4, base_channels=4)),
        {"window_px": 64, "scan": info.model_dump(), "training": {"git_commit": "abc"}},
    )
    candidates = Windows(planes, "train", 64).draw(np.random.default_rng(0), 20)
    grey = info.denormalise(candidates[:, 0].numpy())
    images = torch.from_numpy(info.normalise(grey))[:, None]
    valid = [judge(image[None], reference, progress=False)[0].valid for image in images]
    write_tiff(folder / "windows.tif", grey[np.flatnonzero(valid)[:2]])
    return folder
