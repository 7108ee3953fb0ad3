"""Samples: images of any size from a generator and a seed, the same bits on every run.

- `sample` returns images in memory; `sample_to_tiff` writes them into a file, of any size, band by band;
  `sample_in_bands` yields the bands of one image. All three give the same bits.
- `latents` and `latent_rows` are the random numbers of a seed; `decode` and `decode_in_bands` turn latent
  grids into images.

A kernel may add the same numbers up in another order when its input has another shape. Then the last bits of
a pixel depend on how many pixels are computed at once. Every image is therefore computed in tiles, whose
shape and places follow from its own size alone, each with the latent cells around it that its pixels depend
on. A band is a row of tiles. So neither the number of images nor where they are stored changes a bit, and
the memory needed to write a file does not grow with the image.

With the kernels that were tried, the tiles give also the bits of the generator applied to the whole latent
grid; with others the two may differ by rounding, some 1e-6.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from microgan.core.domain import Domain
from microgan.core.files import write_tiff_in_bands
from microgan.gan.networks import STRIDE_PX, WRAP_CELLS, Generator, latent_cells
from microgan.scan.planes import ScanInfo

TILE_CELLS = 32  # 256 px: the context is two fifths of the latent of a tile, and its layers fit into a cache


def sample(generator: Generator, count: int, domain: Domain, seed: int, progress: bool = True) -> Tensor:
    """Draw images.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    count
        Number of images.
    domain
        Size of an image, and whether it is periodic. Any size; a multiple of 8 when periodic. Images of one
        seed that are not periodic have the same upper left corner, whatever their size, but for rounding.
    seed
        Same seed, same images.
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
    shape = latent_shape(generator, domain)
    images = torch.empty(count, 1, domain.rows, domain.cols)
    with sampling_bar(images.numel(), progress) as bar:
        for index, image in enumerate(images):
            decoded = decode(generator, latents(seed, index, 1, shape), domain.periodic)
            image.copy_(decoded[0, :, : domain.rows, : domain.cols])
            bar.update(image.numel())
    return images


def sample_to_tiff(
    generator: Generator,
    path: Path,
    info: ScanInfo,
    count: int,
    domain: Domain,
    seed: int,
    progress: bool = True,
) -> None:
    """Draw images straight into a TIFF stack, whole or not at all.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    path
        File to write; from 64 MiB on it is a BigTIFF (`microgan.core.files.write_tiff_in_bands`).
    info
        Of the generator's scan: its grey values, their type, and the voxel size.
    count
        Number of images, each a page.
    domain
        Size of an image, and whether it is periodic. Any size; a multiple of 8 when periodic.
    seed
        Same seed, same images as from `microgan.gan.sampling.sample`.
    progress
        Whether to show a bar, if there is a terminal.

    Raises
    ------
    UserError
        If a periodic size is no multiple of 8.
    """
    latent_shape(generator, domain)  # refuses a size before a file is begun
    shape = (count, *domain.size_px)

    def bands() -> Iterator[np.ndarray]:
        with sampling_bar(count * domain.pixels, progress) as bar:
            for index in range(count):
                for band in sample_in_bands(generator, index, domain, seed):
                    yield info.denormalise(band.numpy())
                    bar.update(band.numel())

    write_tiff_in_bands(path, bands(), shape, np.dtype(info.dtype), info.voxel_size_um)


def sample_in_bands(generator: Generator, index: int, domain: Domain, seed: int) -> Iterator[Tensor]:
    """Yield image ``index`` of `microgan.gan.sampling.sample` from its top to its bottom.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    index
        Which of the images of ``seed``, from 0.
    domain
        Size of the image, and whether it is periodic. Any size; a multiple of 8 when periodic.
    seed
        Same seed, same images.

    Yields
    ------
    Tensor
        Consecutive rows (rows of the band, cols), normalised grey values in [-1, 1], float32, on the CPU.

    Raises
    ------
    UserError
        If a periodic size is no multiple of 8.
    """
    channels, height, width = latent_shape(generator, domain)
    rows_of = partial(latent_rows, seed, index, width=width, channels=channels)
    top = 0
    for band in decode_in_bands(generator, rows_of, (height, width), domain.periodic):
        yield band[: domain.rows - top, : domain.cols]
        top += len(band)


def latents(seed: int, first: int, count: int, shape: tuple[int, int, int]) -> Tensor:
    """Return normal latents (count, Z, h, w) of samples ``first`` to ``first + count - 1``."""
    channels, height, width = shape
    samples = range(first, first + count)
    return torch.stack([latent_rows(seed, index, range(height), width, channels) for index in samples])


def latent_rows(seed: int, index: int, rows: Sequence[int], width: int, channels: int) -> Tensor:
    """Return the given rows of the latent grid of sample ``index``: normal, (Z, rows, width).

    Each sample has a random stream of its own, in which each row begins 2^194 numbers after the one before it
    and runs from left to right. So a row can be drawn without the others, sample 7 is the same whatever is
    drawn beside it, and a grid that is wider or taller continues the smaller one.
    """
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(index,)))
    rng, state = np.random.Generator(bits), bits.state
    latent = np.empty((len(rows), width, channels), np.float32)
    for row, values in zip(rows, latent, strict=True):
        state["state"]["counter"][-1] = row  # the digit of 2^192, in steps of four numbers
        bits.state = state  # costs less than a generator for each row
        rng.standard_normal(out=values, dtype=np.float32)
    return torch.from_numpy(latent).permute(2, 0, 1)


def decode(generator: Generator, latent: Tensor, periodic: bool = False) -> Tensor:
    """Return the images of latent grids, without derivative, tile by tile.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    latent
        Latent grids (N, Z, h, w).
    periodic
        Whether the grids, and with them the images, continue periodically.

    Returns
    -------
    Tensor
        (N, 1, 8h, 8w) when periodic, otherwise (N, 1, 8h - 80, 8w - 80), float32, on the CPU.
    """
    return torch.stack([_decoded(generator, grid, periodic) for grid in latent])[:, None]


def decode_in_bands(
    generator: Generator,
    rows_of: Callable[[list[int]], Tensor],
    grid: Sequence[int],
    periodic: bool,
) -> Iterator[Tensor]:
    """Yield the image of one latent grid from its top to its bottom, a row of tiles at a time.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    rows_of
        Returns the latents (Z, rows, w) of the rows that it is asked for.
    grid
        Rows and columns of the latent grid: (h, w).
    periodic
        Whether the grid continues periodically.

    Yields
    ------
    Tensor
        Consecutive rows of the image (rows, cols), float32, on the CPU.
    """
    generator.eval()
    context = 2 * WRAP_CELLS
    height, width = grid if periodic else (length - context for length in grid)  # of the image, in cells
    tile_height = min(height, TILE_CELLS**2 // min(width, TILE_CELLS))  # long where the image is narrow
    tile_width = min(width, TILE_CELLS**2 // min(height, TILE_CELLS))
    for top in range(0, height, tile_height):
        latent = rows_of(_cells(top, tile_height + context, grid[0], periodic))
        tiles = [
            _image(generator, latent[:, :, _cells(left, tile_width + context, grid[1], periodic)])
            for left in range(0, width, tile_width)
        ]
        yield torch.cat(tiles, dim=1)[: (height - top) * STRIDE_PX, : width * STRIDE_PX]


def latent_shape(generator: Generator, domain: Domain) -> tuple[int, int, int]:
    """Return the shape (Z, h, w) of the latent grid whose image is at least as large as ``domain``.

    Raises
    ------
    UserError
        If a periodic size is no multiple of 8.
    """
    height, width = (latent_cells(length, domain.periodic) for length in domain.size_px)
    return generator.config.numbers_a_cell, height, width


def sampling_bar(pixels: int, progress: bool) -> tqdm:
    """Return a progress bar that counts pixels, shown if it is asked for and there is a terminal."""
    return tqdm(total=pixels, desc="sample", unit="px", unit_scale=True, disable=None if progress else True)


def _decoded(generator: Generator, grid: Tensor, periodic: bool) -> Tensor:
    return torch.cat(list(decode_in_bands(generator, lambda rows: grid[:, rows], grid.shape[1:], periodic)))


def _cells(first: int, count: int, length: int, periodic: bool) -> list[int]:
    """Return which rows (or columns) of a latent grid a tile needs; beyond the end the last one is repeated.

    A periodic grid is continued as `microgan.gan.networks.wrap` does.
    """
    cells = range(first, first + count)
    if periodic:
        return [(cell - WRAP_CELLS) % length for cell in cells]
    return [min(cell, length - 1) for cell in cells]


@torch.inference_mode()
def _image(generator: Generator, latent: Tensor) -> Tensor:
    """Return the image (8h - 80, 8w - 80) of a latent (Z, h, w)."""
    device = next(generator.parameters()).device
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        return generator(latent[None].to(device))[0, 0].float().cpu()
