"""Patches of a latent grid that repair draws again: where they lie, and how new latents blend in.

A new latent is z' = cos(angle) z + sin(angle) xi with normal xi, the preconditioned Crank-Nicolson proposal.
Whatever the angle of each cell, z' is again normal and independent from cell to cell, as the generator was
trained. The angle is large in the middle of the patch and falls smoothly to 0.

References
----------
S. L. Cotter, G. O. Roberts, A. M. Stuart, D. White, MCMC methods for functions: modifying old algorithms to
make them faster, Statistical Science 28 (2013) 424-446.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from microgan.gan.networks import STRIDE_PX, WRAP_CELLS
from microgan.samples.window_grid import WindowGrid

CONTEXT_CELLS = 2 * WRAP_CELLS  # that pixels depend on, before and after

Block = tuple[np.ndarray, np.ndarray]  # rows and columns


def cut(grid: Tensor, block: Block) -> Tensor:
    """Return a copy of a block of a grid (..., rows, columns)."""
    return grid[..., block[0][:, None], block[1]]


def paste(grid: Tensor, block: Block, values: Tensor) -> None:
    """Put ``values`` into a block of a grid (..., rows, columns), in place."""
    grid[..., block[0][:, None], block[1]] = values


@dataclass(frozen=True)
class Patch:
    """Where a defect is drawn again.

    Attributes
    ----------
    cells : latent cells that change
    angle : mixing angle of each of them (rows, columns), radians
    context : latent cells that generate all pixels that change
    pixels : pixels that the context generates
    windows : (n,), indices of the windows that contain any of these pixels
    """

    cells: Block
    angle: np.ndarray
    context: Block
    pixels: Block
    windows: np.ndarray


def blend_angles(patch_cells: int, angle_deg: float) -> np.ndarray:
    """Return the mixing angle (K, K) in radians of each cell of a patch: full in the middle, 0 just outside.

    The weight is Hann's window of the distance from the middle.
    """
    step = np.arange(patch_cells) - (patch_cells - 1) / 2
    distance = np.hypot(step[:, None], step) / ((patch_cells + 1) / 2)
    return math.radians(angle_deg) * np.cos(np.pi / 2 * np.minimum(distance, 1)) ** 2


def propose(latent: Tensor, angle: np.ndarray, count: int, rng: np.random.Generator) -> Tensor:
    """Draw ``count`` latents (count, Z, K, L) near a normal ``latent`` (Z, K, L), each normal again.

    Preconditioned Crank-Nicolson (Cotter et al. 2013): cos(angle) z + sin(angle) xi, with the
    ``angle`` (K, L) of each cell.
    """
    noise = torch.from_numpy(rng.standard_normal((count, *latent.shape), dtype=np.float32))
    turn = torch.from_numpy(angle.astype(np.float32))
    return turn.cos() * latent + turn.sin() * noise


def separate_patches(
    invalid: np.ndarray,
    grid: WindowGrid,
    latent_size: tuple[int, int],
    angles: np.ndarray,
    rng: np.random.Generator,
) -> list[Patch]:
    """Return patches on defects, chosen at random so that no window contains pixels of two of them.

    Parameters
    ----------
    invalid
        Whether each window is invalid.
    grid
        The windows.
    latent_size
        Rows and columns of the latent grid.
    angles
        As `blend_angles` returns; its size is that of a patch.
    rng
        Source of random numbers.
    """
    taken = np.zeros(len(invalid), bool)
    patches = []
    fraction = grid.invalid_fraction(invalid, STRIDE_PX)
    for window in rng.permutation(np.flatnonzero(invalid)):
        if not taken[window]:
            square = _likely_defect(window, grid, fraction, rng)
            patch = patch_around(square, grid, latent_size, angles)
            if not taken[patch.windows].any():
                patches.append(patch)
                taken[patch.windows] = True
    return patches


def patch_around(
    square: tuple[int, int], grid: WindowGrid, latent_size: tuple[int, int], angles: np.ndarray
) -> Patch:
    """Return the patch around a square of STRIDE_PX px, given by its row and column among the squares."""
    extents = [_extent(axis, square[axis], grid, latent_size[axis], len(angles)) for axis in (0, 1)]
    cells, kept, context, pixels = zip(*extents, strict=True)
    return Patch(cells, angles[np.ix_(*kept)], context, pixels, grid.touching(pixels))


def _likely_defect(
    window: int, grid: WindowGrid, fraction: np.ndarray, rng: np.random.Generator
) -> tuple[int, int]:
    """Return a square of a window, at random among those with the largest ``fraction`` of invalid windows."""
    length = grid.window_px // STRIDE_PX
    first = grid.corners[window] // STRIDE_PX
    rows, cols = ((first[axis] + np.arange(length)) % fraction.shape[axis] for axis in (0, 1))
    inside = fraction[np.ix_(rows, cols)]
    row, col = np.unravel_index(rng.choice(np.flatnonzero(inside == inside.max())), inside.shape)
    return int(rows[row]), int(cols[col])


def _extent(
    axis: int, place: int, grid: WindowGrid, size: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis: cells of a patch, which of ``count`` they are, context, pixels."""
    length_px = grid.domain.size_px[axis]
    first = place - count // 2
    if grid.domain.periodic:
        kept = np.arange(min(count, size))
        cells = (first + kept) % size
        context = np.arange(first - CONTEXT_CELLS, first + count + CONTEXT_CELLS)
        pixels = STRIDE_PX * (context[0] + WRAP_CELLS)
        pixels = pixels + np.arange(STRIDE_PX * (len(context) - CONTEXT_CELLS))
        return cells, kept, context % size, pixels % length_px
    cells = first + WRAP_CELLS + np.arange(count)
    kept = np.flatnonzero((cells >= 0) & (cells < size))
    extent = min(count + 2 * CONTEXT_CELLS, size)
    context = np.clip(cells[0] - CONTEXT_CELLS, 0, size - extent) + np.arange(extent)
    pixels = STRIDE_PX * context[0] + np.arange(STRIDE_PX * (extent - CONTEXT_CELLS))
    return cells[kept], kept, context, pixels[pixels < length_px]
