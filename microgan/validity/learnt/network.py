"""The network that sees faults: an image -> how much each place looks like each kind of fault.

It is fully convolutional. A place is a square of 4 x 4 px; what it says of a place depends on about 40 px
around. Fine and coarse maps are added as in a feature pyramid (Lin et al., arXiv:1612.03144).
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_unshuffle

from microgan.core.config import Config

PLACE_PX = 4  # side of a place
BLOCK_PX = 8  # the networks' maps need multiples of it


class FaultNetworkConfig(Config):
    """Size of the network: channels of its maps at 2, 4 and 8 px."""

    fine: int = Field(default=16, ge=2, le=256)
    middle: int = Field(default=40, ge=2, le=256)
    coarse: int = Field(default=64, ge=2, le=256)


class FaultNetwork(nn.Module):
    """Images of bright discs (N, 1, H, W) in [-1, 1] -> logits (N, 1 + kinds, H / 4, W / 4), sound first.

    Sides that are no multiple of 8 px are continued by their last pixels.
    """

    def __init__(self, kinds: int, config: FaultNetworkConfig | None = None) -> None:
        super().__init__()
        config = config or FaultNetworkConfig()
        fine, middle, coarse = config.fine, config.middle, config.coarse
        self.down = nn.Sequential(
            *_block(4, fine), *_block(fine, middle, 2), *_block(middle, middle), *_block(middle, middle)
        )
        self.wide = nn.Sequential(*_block(middle, coarse, 2), *_block(coarse, coarse))
        self.back = nn.Conv2d(coarse, middle, 1)
        self.joined = nn.Sequential(*_block(middle, middle))
        self.kind = nn.Conv2d(middle, 1 + kinds, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        rows, cols = images.shape[2:]
        images = pad(images, (0, -cols % BLOCK_PX, 0, -rows % BLOCK_PX), mode="replicate")
        middle = self.down(pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))
        coarse = interpolate(self.back(self.wide(middle)), scale_factor=2.0)
        logits: Tensor = self.kind(self.joined(middle + coarse))
        return logits[:, :, : -(-rows // PLACE_PX), : -(-cols // PLACE_PX)]


def _block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)]


def fault_evidence(logits: Tensor) -> Tensor:
    """Return the log odds (N, rows, cols) of any fault against none at each place."""
    return torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]
