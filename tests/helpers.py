"""What several tests share."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from microgan.gan.networks import Generator, NetworkConfig
from microgan.scan.config import ScanConfig, SplitConfig
from microgan.scan.ingest import ingest
from microgan.scan.planes import Planes
from microgan.scan.simulate import SimulateConfig, simulate_scan
from microgan.scan.symmetries import Augmentation


def lively(config: NetworkConfig) -> Generator:
    """Return an untrained generator whose images have full contrast; fresh weights make almost blank ones."""
    torch.manual_seed(1)
    generator = Generator(config)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    return generator.eval()


class DiscWindows:
    """Stands for `microgan.scan.windows.Windows`: one bright disc at a random place in each window."""

    size_px = 64

    def draw(self, rng: np.random.Generator, count: int, augmentation: Augmentation = "none") -> torch.Tensor:
        row, col = torch.from_numpy(rng.uniform(16, 48, (2, count, 1, 1, 1)).astype(np.float32))
        axis = torch.arange(64.0)
        distance = ((axis[:, None] - row) ** 2 + (axis - col) ** 2).sqrt()
        return (10 - distance).clamp(-0.8, 0.8)


def disc_planes(folder: Path, size_px: int = 256, angles: int = 200) -> Planes:
    """Ingest a small simulated scan: three planes of bright discs of radius 6, one for each role."""
    config = SimulateConfig(planes=3, size_px=size_px, angles=angles, photons=6000, seed=1)
    simulate_scan(config, folder / "raw")
    split = SplitConfig(calibration=[1], held_out=[2])
    scan = ScanConfig(path="scan.tif", radius_px=(4, 8), split=split)
    return ingest("discs", folder / "raw", scan, 64, folder / "planes")


def weights_digest(network: nn.Module) -> str:
    """Return a digest of the names and values of a network's weights."""
    sha = hashlib.sha256()
    for name, values in sorted(network.state_dict().items()):
        sha.update(name.encode() + values.numpy().tobytes())
    return sha.hexdigest()


def drawn(*discs: tuple[float, float, float], side: int = 64) -> Tensor:
    """Draw bright discs (row, col, radius) with rims one pixel wide, (1, 1, side, side) in [-0.6, 0.6]."""
    axis = torch.arange(float(side))
    rims = [r - ((axis[:, None] - row) ** 2 + (axis - col) ** 2).sqrt() for row, col, r in discs]
    return 1.2 * (torch.stack(rims).amax(0) + 0.5).clamp(0, 1)[None, None] - 0.6
