"""A material that commands work on."""

from pathlib import Path

import numpy as np
import pytest

from microgan.core.files import write_tiff
from microgan.gan.checkpoint import save_model
from microgan.gan.networks import NetworkConfig
from microgan.validity.calibration import CalibrationConfig, calibrate
from tests.helpers import disc_planes, lively


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibrated reference.json, a model and a few real windows."""
    folder = tmp_path_factory.mktemp("material")
    planes = disc_planes(folder)
    calibrate(planes, 64, CalibrationConfig(windows=100)).save(folder / "reference.json")
    info = planes.info
    save_model(
        folder / "model",
        lively(NetworkConfig(latent_channels=4, base_channels=4)),
        {"scan": info.model_dump(), "training": {"git_commit": "abc"}},
    )
    windows = np.stack([np.asarray(planes.grey[0, r : r + 64, 96:160], np.float32) for r in (70, 110)])
    write_tiff(folder / "windows.tif", info.denormalise(windows))
    return folder
