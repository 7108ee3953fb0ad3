"""Fields of any size, written while they are drawn: memory holds a row of tiles, never the whole.

The pixels are those of `microgan.sampling.sample`, bit by bit, in the scan's own grey values.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from microgan.files import write_tiff_in_bands
from microgan.networks import Generator
from microgan.planes import ScanInfo
from microgan.sampling import decode_in_bands, latent_rows, latent_shape, sampling_bar


def sample_to_tiff(
    generator: Generator,
    path: Path,
    info: ScanInfo,
    count: int,
    size_px: tuple[int, int],
    seed: int,
    periodic: bool = False,
    progress: bool = True,
) -> None:
    """Draw images straight into a TIFF stack, whole or not at all.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    path
        File to write; from 64 MiB on it is a BigTIFF (`microgan.files.write_tiff_in_bands`).
    info
        Of the generator's scan: its grey values, their type, and the voxel size.
    count
        Number of images, each a page.
    size_px
        Rows and columns of an image. Any size; a multiple of 8 when ``periodic``.
    seed
        Same seed, same images as from `microgan.sampling.sample`.
    periodic
        Whether opposite borders fit together.
    progress
        Whether to show a bar, if there is a terminal.

    Raises
    ------
    UserError
        If a periodic size is no multiple of 8.
    """
    latent_shape(generator, size_px, periodic)  # refuses a size before a file is begun
    shape = (count, *size_px)

    def bands() -> Iterator[np.ndarray]:
        with sampling_bar(count * size_px[0] * size_px[1], progress) as bar:
            for index in range(count):
                for band in sample_in_bands(generator, index, size_px, seed, periodic):
                    yield info.denormalise(band.numpy())
                    bar.update(band.numel())

    write_tiff_in_bands(path, bands(), shape, np.dtype(info.dtype), info.voxel_size_um)


def sample_in_bands(
    generator: Generator, index: int, size_px: tuple[int, int], seed: int, periodic: bool = False
) -> Iterator[Tensor]:
    """Yield image ``index`` of `microgan.sampling.sample` from its top to its bottom.

    Parameters
    ----------
    generator
        A trained generator; it is put into evaluation mode.
    index
        Which of the images of ``seed``, from 0.
    size_px
        Rows and columns of the image. Any size; a multiple of 8 when ``periodic``.
    seed
        Same seed, same images.
    periodic
        Whether opposite borders fit together.

    Yields
    ------
    Tensor
        Consecutive rows (some rows, cols), normalised grey values in [-1, 1], float32, on the CPU.

    Raises
    ------
    UserError
        If a periodic size is no multiple of 8.
    """
    channels, height, width = latent_shape(generator, size_px, periodic)
    rows_of = partial(latent_rows, seed, index, width=width, channels=channels)
    rows, cols = size_px
    top = 0
    for band in decode_in_bands(generator, rows_of, (height, width), periodic):
        yield band[: rows - top, :cols]
        top += len(band)
