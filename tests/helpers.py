"""What several tests share."""

import numpy as np
import torch
from torch import nn

from microgan.networks import Generator, NetworkConfig


def lively(config: NetworkConfig) -> Generator:
    """Return an untrained generator whose images have full contrast; fresh weights make almost blank ones."""
    torch.manual_seed(1)
    generator = Generator(config)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    return generator.eval()


class DiscWindows:
    """Stands for `microgan.windows.Windows`: one bright disc at a random place in each window."""

    size_px = 64

    def draw(self, rng: np.random.Generator, count: int) -> torch.Tensor:
        row, col = torch.from_numpy(rng.uniform(16, 48, (2, count, 1, 1, 1)).astype(np.float32))
        axis = torch.arange(64.0)
        distance = ((axis[:, None] - row) ** 2 + (axis - col) ** 2).sqrt()
        return (10 - distance).clamp(-0.8, 0.8)
