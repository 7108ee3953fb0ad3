"""Fully convolutional generator with a spatial latent, and the strided critic that scores its images.

Both models, ``dcgan`` and ``wgan_gp``, are spatial, unpadded variants of the DCGAN of Radford et al.: a
latent grid in place of a vector, and a generator without zero padding. They differ in the loss
(`microgan.gan.losses`), and the critic of ``wgan_gp`` has no batch norm.

The generator draws the specimen; where ``scanner_noise`` is above 0, a layer without weights adds the noise
of the scanner (`microgan.gan.scanner_noise`).

A microstructure is stationary, so an image must not depend on where it begins or ends. Without padding there
is no border artefact, one set of weights gives images of any size, and a wrapped latent grid gives exact
periodicity.

References
----------
Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional generative adversarial
networks, arXiv:1511.06434. Jetchev, Bergmann, Vollgraf: Texture synthesis with spatial generative adversarial
networks, arXiv:1611.08207 (the spatial latent).
"""

import copy

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad, pixel_shuffle, pixel_unshuffle

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.gan.distributed import BatchNorm2d
from microgan.gan.scanner_noise import REACH_PX, ScannerNoise

STRIDE_PX = 8  # three transposed convolutions of stride 2: one latent cell is 8 x 8 pixels
SLOPE = 0.2  # of the leaky ReLU, for negative values
COARSE_LAYERS = 2  # convolutions at 8 px, on the latent grid itself
FINE_LAYERS = 4  # convolutions at 4 px
WRAP_CELLS = COARSE_LAYERS + FINE_LAYERS // 2 + 1  # cells of context of an output pixel, on either side
NOISE_CELLS = WRAP_CELLS - REACH_PX // STRIDE_PX  # of these, cells that the noise of no output pixel needs


class NetworkConfig(Config):
    """Size of both networks."""

    latent_channels: int = Field(24, ge=1, le=1024)
    base_channels: int = Field(32, ge=4, le=1024)
    scanner_noise: float = Field(default=0.0, ge=0, le=1)

    @property
    def numbers_a_cell(self) -> int:
        """Random numbers a latent cell: what the network draws from, and the noise of each pixel."""
        return self.latent_channels + (STRIDE_PX**2 if self.scanner_noise else 0)


class Generator(nn.Module):
    """DCGAN generator on a latent grid: (B, Z, h, w) -> (B, 1, 8h - 80, 8w - 80) in [-1, 1].

    Z is ``config.numbers_a_cell``; the first ``latent_channels`` of them are the network's.

    A latent of 18 x 18 gives exactly 64 x 64 pixels. Independent random numbers become discs without overlap
    only if the layers combine the numbers of neighbouring discs. That takes depth and a wide receptive field,
    which are cheap on coarse grids. Hence layers of 3 x 3 at 8 px, where it spans several discs, and
    at 4 px, where one disc is several cells and two discs that overlap are resolved.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = NetworkConfig(  # also when given a subclass with more fields
            latent_channels=config.latent_channels,
            base_channels=config.base_channels,
            scanner_noise=config.scanner_noise,
        )
        base = config.base_channels
        self.layers = nn.Sequential(
            *_same_scale(config.latent_channels, 4 * base),
            *(layer for _ in range(COARSE_LAYERS - 1) for layer in _same_scale(4 * base, 4 * base)),
            *_doubling(4 * base, 2 * base),
            *(layer for _ in range(FINE_LAYERS) for layer in _same_scale(2 * base, 2 * base)),
            *_doubling(2 * base, base),
            *_doubling(base, base),
            nn.Conv2d(base, 1, 3),
            nn.Tanh(),
        )
        self.noise = ScannerNoise() if config.scanner_noise else None
        self.is_clean = False  # as a scanner without noise would see the specimen
        self.apply(_dcgan_init)

    def forward(self, latent: Tensor) -> Tensor:
        of_network = self.config.latent_channels
        numbers, white = latent.split([of_network, latent.shape[1] - of_network], dim=1)
        clean = self.layers(numbers.contiguous(memory_format=torch.channels_last))  # 1.5 x as fast, on a CPU
        if self.noise is None or self.is_clean:
            return clean
        inner = slice(NOISE_CELLS, -NOISE_CELLS)
        return self.noise(clean, white[..., inner, inner])

    def without_noise(self) -> "Generator":
        """Return the same generator, with the same weights, whose images lack the scanner's noise.

        Raises
        ------
        UserError
            If the network draws the noise itself.
        """
        if self.noise is None:
            rule = "needs a model that was trained with train.scanner_noise: this one draws noise by itself"
            raise UserError("--clean", "no noise apart", rule)
        clean = copy.copy(self)
        clean.is_clean = True
        return clean


class Critic(nn.Module):
    """Strided critic: (B, 1, H, W) -> (B, P), one score for each of P overlapping patches.

    A patch is 46 pixels wide, several fibre pitches, so that it contains a merged pair with its surroundings;
    scores of several patches give more gradient per image than one score does. The critic of WGAN-GP has no
    batch norm, as its penalty is defined sample by sample (Gulrajani et al., arXiv:1704.00028, section 4).
    """

    def __init__(self, config: NetworkConfig, batch_norm: bool) -> None:
        super().__init__()
        base = config.base_channels
        self.layers = nn.Sequential(
            _HalvingOneChannel(1, base, 4, 2, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
            *_halving(base, 2 * base, batch_norm),
            *_halving(2 * base, 4 * base, batch_norm),
            nn.Conv2d(4 * base, 1, 4),
        )
        self.apply(_dcgan_init)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten(1)

    def input_gradient(self, images: Tensor) -> Tensor:
        """Return the gradient of each image's mean score, (B, 1, H, W), differentiable in the weights alone.

        Between its kinks the critic is linear, so its gradient is a chain of transposed convolutions, whose
        own gradient costs half of what `torch.autograd.grad` with ``create_graph`` does. Exact; not with
        batch norm.
        """
        activations: list[Tensor] = []
        with torch.no_grad():
            for layer in self.layers:
                images = layer(images)
                if isinstance(layer, nn.LeakyReLU):
                    activations.append(images)
        gradient = torch.full_like(images[:1], 1 / images[0].numel())  # the same for all until the first kink
        for layer in reversed(self.layers):
            if isinstance(layer, nn.LeakyReLU):
                at = activations.pop()
                gradient = torch.ops.aten.leaky_relu_backward(gradient.expand_as(at), at, SLOPE, False)
            elif isinstance(layer, _HalvingOneChannel):
                gradient = layer.transpose(gradient)
            else:
                assert isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple)
                gradient = conv_transpose2d(
                    gradient, layer.weight, stride=layer.stride, padding=layer.padding
                )
        return gradient


def latent_cells(length_px: int, periodic: bool = False) -> int:
    """Return how many latent cells give at least ``length_px`` pixels.

    Raises
    ------
    UserError
        If a periodic length is no multiple of the stride, 8 px.
    """
    if periodic:
        if length_px % STRIDE_PX:
            raise UserError(
                "size", length_px, f"the side of a periodic image must be a multiple of {STRIDE_PX} px"
            )
        return length_px // STRIDE_PX
    return -(-length_px // STRIDE_PX) + 2 * WRAP_CELLS


def wrap(latent: Tensor) -> Tensor:
    """Continue a latent grid periodically, so that its image has a period of 8 pixels a cell."""
    rows, cols = latent.shape[-2:]
    row = torch.arange(-WRAP_CELLS, rows + WRAP_CELLS, device=latent.device) % rows
    col = torch.arange(-WRAP_CELLS, cols + WRAP_CELLS, device=latent.device) % cols
    return latent[..., row[:, None], col[None, :]]


def _same_scale(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolution k3 without padding: h -> h - 2."""
    return [nn.Conv2d(inputs, outputs, 3, bias=False), BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _doubling(inputs: int, outputs: int) -> list[nn.Module]:
    """Transposed convolution k4 s2 p2: h -> 2h - 2; the padding crops every pixel with incomplete input."""
    return [
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 2, bias=False),
        BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class _HalvingOneChannel(nn.Conv2d):
    """Convolution k4 s2 p1 of one channel, written as one of 2 x 2 over four: twice as fast, on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        quarters = pixel_unshuffle(pad(input, (1, 1, 1, 1)), 2)  # (B, 4, H/2 + 1, W/2 + 1)
        return conv2d(quarters.contiguous(memory_format=torch.channels_last), self._quartered(), self.bias)

    def transpose(self, gradient: Tensor) -> Tensor:
        """Apply the transpose, without bias: (B, C, H/2, W/2) -> (B, 1, H, W)."""
        return pixel_shuffle(conv_transpose2d(gradient, self._quartered()), 2)[..., 1:-1, 1:-1]

    def _quartered(self) -> Tensor:
        weight = self.weight.unflatten(2, (2, 2)).unflatten(4, (2, 2))  # (C, 1, 2, 2, 2, 2)
        return weight.permute(0, 1, 3, 5, 2, 4).reshape(-1, 4, 2, 2)


def _halving(inputs: int, outputs: int, batch_norm: bool) -> list[nn.Module]:
    norm = [BatchNorm2d(outputs)] if batch_norm else []
    return [
        nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not batch_norm),
        *norm,
        nn.LeakyReLU(SLOPE, inplace=True),
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
