"""Images of any size from a generator and a seed."""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from microgan.config import Config
from microgan.networks import Generator, latent_cells, wrap


class SampleConfig(Config):
    """How many images to draw."""

    count: int = Field(1000, ge=1)
    seed: int = Field(0, ge=0)
    batch: int = Field(64, ge=1)


def latents(seed: int, first: int, count: int, shape: tuple[int, int, int]) -> Tensor:
    """Return normal latents (count, Z, h, w) of samples ``first`` to ``first + count - 1``.

    Each sample has a random stream of its own, so that sample 7 is the same whatever the batch.
    """
    streams = [np.random.default_rng([seed, index]) for index in range(first, first + count)]
    return torch.from_numpy(np.stack([s.standard_normal(shape, dtype=np.float32) for s in streams]))


@torch.inference_mode()
def sample(
    generator: Generator,
    count: int,
    size_px: tuple[int, int],
    seed: int,
    batch: int = 64,
    periodic: bool = False,
    progress: bool = True,
) -> Tensor:
    """Draw images.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    count
        Number of images.
    size_px
        Rows and columns of an image. Any size; a multiple of 8 when ``periodic``.
    seed
        Same seed, same images.
    batch
        Images at a time, for memory only.
    periodic
        Whether opposite borders fit together.
    progress
        Whether to show a bar, if there is a terminal.

    Returns
    -------
    Tensor
        Normalised grey values in [-1, 1], shape (count, 1, rows, cols), float32, on the CPU.

    Raises
    ------
    UserError
        If a periodic size is no multiple of 8.
    """
    generator.eval()
    device = next(generator.parameters()).device
    rows, cols = size_px
    shape = (
        generator.config.latent_channels,
        latent_cells(rows, periodic),
        latent_cells(cols, periodic),
    )
    images = torch.empty(count, 1, rows, cols)
    with tqdm(total=count, desc="sample", unit="img", disable=None if progress else True) as bar:
        for first in range(0, count, batch):
            latent = latents(seed, first, min(batch, count - first), shape)
            drawn = generator((wrap(latent) if periodic else latent).to(device))
            images[first : first + len(drawn)] = drawn[..., :rows, :cols].float().cpu()
            bar.update(len(drawn))
    return images
