"""Fully convolutional generator with a spatial latent, and the strided critic that judges its images.

A microstructure is stationary, so nothing here knows where the image begins or ends: there is no zero
padding in the generator, hence no border artefact, any image size from one set of weights, and exact
periodicity when the latent grid is wrapped.

References
----------
Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional generative adversarial
networks, arXiv:1511.06434. Jetchev, Bergmann, Vollgraf: Texture synthesis with spatial generative adversarial
networks, arXiv:1611.08207 (the spatial latent).
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from microgan.config import Config
from microgan.errors import UserError
from microgan.parallel import BatchNorm2d

STRIDE_PX = 8  # three transposed convolutions of stride 2: one latent cell is 8 x 8 pixels
WRAP_CELLS = 2  # latent cells of context that an output pixel needs on either side


class NetworkConfig(Config):
    """Size of both networks."""

    latent_channels: int = Field(24, ge=1, le=1024)
    base_channels: int = Field(32, ge=4, le=1024)


class Generator(nn.Module):
    """DCGAN generator on a latent grid: (B, Z, h, w) -> (B, 1, 8h - 32, 8w - 32) in [-1, 1].

    A latent of 12 x 12 gives exactly 64 x 64 pixels.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = NetworkConfig(  # also when given a subclass that holds more
            latent_channels=config.latent_channels, base_channels=config.base_channels
        )
        base = config.base_channels
        self.layers = nn.Sequential(
            nn.Conv2d(config.latent_channels, 4 * base, 3, bias=False),  # h -> h - 2
            BatchNorm2d(4 * base),
            nn.ReLU(inplace=True),
            *_doubling(4 * base, 2 * base),
            *_doubling(2 * base, base),
            *_doubling(base, base),
            nn.Conv2d(base, 1, 3),
            nn.Tanh(),
        )
        self.apply(_dcgan_init)

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(latent)


class Critic(nn.Module):
    """Strided critic: (B, 1, H, W) -> (B, P), one score for each of P overlapping patches.

    A patch is 46 pixels wide, several fibre pitches, so that a merged pair is seen with its surroundings;
    scores of several patches give more gradient per image than one score does. The critic of WGAN-GP has no
    batch norm, as its penalty is defined sample by sample (Gulrajani et al., arXiv:1704.00028, section 4).
    """

    def __init__(self, config: NetworkConfig, batch_norm: bool) -> None:
        super().__init__()
        base = config.base_channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, base, 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            *_halving(base, 2 * base, batch_norm),
            *_halving(2 * base, 4 * base, batch_norm),
            nn.Conv2d(4 * base, 1, 4),
        )
        self.apply(_dcgan_init)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten(1)


def latent_cells(length_px: int, periodic: bool = False) -> int:
    """Return how many latent cells give at least ``length_px`` pixels.

    Raises
    ------
    UserError
        If a periodic field is asked whose period is no multiple of the stride, 8 px.
    """
    if periodic:
        if length_px % STRIDE_PX:
            raise UserError("size", length_px, f"a periodic field must be a multiple of {STRIDE_PX} px")
        return length_px // STRIDE_PX
    return -(-(length_px + 4 * STRIDE_PX) // STRIDE_PX)


def wrap(latent: Tensor) -> Tensor:
    """Continue a latent grid periodically, so that its image has a period of 8 pixels a cell."""
    rows, cols = latent.shape[-2:]
    row = torch.arange(-WRAP_CELLS, rows + WRAP_CELLS, device=latent.device) % rows
    col = torch.arange(-WRAP_CELLS, cols + WRAP_CELLS, device=latent.device) % cols
    return latent[..., row[:, None], col[None, :]]


def _doubling(inputs: int, outputs: int) -> list[nn.Module]:
    """Transposed convolution k4 s2 p2: h -> 2h - 2; the padding crops every pixel with incomplete input."""
    return [
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 2, bias=False),
        BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _halving(inputs: int, outputs: int, batch_norm: bool) -> list[nn.Module]:
    norm = [BatchNorm2d(outputs)] if batch_norm else []
    return [
        nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not batch_norm),
        *norm,
        nn.LeakyReLU(0.2, inplace=True),
    ]


def _dcgan_init(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02 (Radford et al., section 4)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
