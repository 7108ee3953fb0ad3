"""Defects of an image as a whole, or of a patch of it, whatever discs are there."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from microgan.validity.planting.brush import (
    BLEND_PX,
    Planted,
    Scene,
    coverage,
    disc_distance,
    everywhere,
    noise_of,
)

SEAM_PX = 3.0  # on either side of a seam, where it is seen
NOISE_SD_PX = 1.0  # sd of the Gaussian that separates noise from what is coarser


def blank(scene: Scene, rng: np.random.Generator, phase: str = "matrix", noisy: bool = True) -> Planted:
    """Give all pixels the grey of the "matrix" or of the "disc" phase, with the image's noise or without."""
    if phase not in ("matrix", "disc"):
        raise ValueError(f"phase: {phase!r}: must be 'matrix' or 'disc'")
    grey = scene.matrix_grey if phase == "matrix" else scene.disc_grey
    return everywhere(np.full(scene.grey.shape, grey) + (noise_of(scene, rng) if noisy else 0))


def noise(scene: Scene, rng: np.random.Generator) -> Planted:
    """Put the pixels of the image in random order."""
    return everywhere(rng.permutation(scene.grey.ravel()).reshape(scene.grey.shape))


def lattice(scene: Scene, rng: np.random.Generator) -> Planted | None:
    """Draw a hexagonal lattice of equal discs at the image's volume fraction, contrast, blur and noise."""
    if not len(scene.circles):
        return None
    height, width = scene.grey.shape
    radius = float(np.median(scene.circles[:, 2]))
    fraction = float((scene.distance.min(0) < 0).mean())
    step_px = max(2.0 * radius, math.sqrt(math.pi * radius**2 / (math.sqrt(3) / 2 * max(fraction, 1e-3))))
    count = math.ceil(math.hypot(height, width) / step_px) + 2
    i, j = np.mgrid[-count : count + 1, -count : count + 1]
    centres = step_px * np.stack([j * math.sqrt(3) / 2, i + (j % 2) / 2], -1).reshape(-1, 2)
    angle = rng.uniform(0, math.pi / 3)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    size_px = np.array([height, width])
    centres = centres @ rotation + size_px / 2 + rng.uniform(0, step_px, 2)
    centres = centres[((centres > -2 * radius) & (centres < size_px + 2 * radius)).all(1)]
    distance = np.min(
        [disc_distance(scene.grey.shape, row, col, radius) for row, col in centres.tolist()], axis=0
    )
    return everywhere(
        scene.matrix_grey + scene.contrast * coverage(distance, scene.blur_px) + noise_of(scene, rng)
    )


def blurred(scene: Scene, rng: np.random.Generator, sd_over_radius: float = 0.5) -> Planted | None:
    """Blur by a Gaussian whose sd is a fraction of the median radius."""
    if not len(scene.circles):
        return None
    blur_px = sd_over_radius * np.median(scene.circles[:, 2])
    return everywhere(gaussian_filter(scene.grey, blur_px, mode="nearest"))


def seam(scene: Scene, rng: np.random.Generator) -> Planted | None:
    """Turn the image upside down on the right of a column that cuts through discs, as if two were joined."""
    col, radius = scene.circles[:, 1], scene.circles[:, 2]
    width = scene.grey.shape[1]
    columns = rng.permutation(np.arange(width // 4 + 1, 3 * width // 4))
    cut = (np.abs(columns[:, None] - 0.5 - col) < radius / 2).sum(1)
    if not cut.any():
        return None
    column = int(columns[cut.argmax()])
    joined = np.concatenate([scene.grey[:, :column], scene.grey[::-1, column:]], axis=1)
    off = np.abs(np.arange(width) - column + 0.5)
    return Planted(joined, np.broadcast_to(off < SEAM_PX, joined.shape))


def checkerboard_patch(
    scene: Scene,
    rng: np.random.Generator,
    contrast: tuple[float, float] = (0.15, 0.35),
    radius_radii: tuple[float, float] = (1.2, 2.5),
) -> Planted | None:
    """Lay a checkerboard of 1 or 2 px over a round patch, as transposed convolutions do.

    ``contrast`` is its amplitude over that of the discs, ``radius_radii`` the patch's radius over a disc's.
    """
    patch = _patch(scene, rng, radius_radii)
    if patch is None:
        return None
    side_px = int(rng.integers(1, 3))
    rows, cols = np.indices(scene.grey.shape) // side_px
    sign = 1 - 2 * ((rows + cols) % 2)
    return Planted(scene.grey + rng.uniform(*contrast) * scene.contrast * sign * patch, patch > 0.5)


def shapeless_patch(
    scene: Scene,
    rng: np.random.Generator,
    radius_radii: tuple[float, float] = (1.5, 2.5),
    direction: tuple[float, float] = (0.0, 1.5),
) -> Planted | None:
    """Give a round patch a texture with the image's own spectrum and grey values, but without any disc.

    Generators that have not learnt draw such. ``radius_radii`` is the patch's radius over a disc's; it may
    reach beyond the image. ``direction`` is how much longer than wide the texture may be: 0 as in the image.
    """
    if not len(scene.circles):
        return None
    shape = scene.grey.shape
    radius_px = rng.uniform(*radius_radii) * float(np.median(scene.circles[:, 2]))
    row, col = (rng.uniform(0, np.array(shape) - 1)).tolist()
    patch = coverage(disc_distance(shape, row, col, radius_px), 2 * BLEND_PX)
    rows, cols = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])
    along = np.cos(2 * (np.arctan2(rows, cols) - rng.uniform(0, math.pi)))
    amplitude = np.abs(np.fft.fft2(scene.grey - scene.grey.mean())) * np.exp(rng.uniform(*direction) * along)
    texture = np.fft.ifft2(amplitude * np.exp(2j * math.pi * rng.random(shape))).real
    texture[np.unravel_index(texture.argsort(axis=None), shape)] = np.sort(scene.grey, axis=None)
    return Planted(scene.grey + patch * (texture - scene.grey), patch > 0.5)


def noise_patch(
    scene: Scene,
    rng: np.random.Generator,
    factor: tuple[float, ...] = (0.0, 3.0),
    radius_radii: tuple[float, float] = (1.5, 2.5),
) -> Planted | None:
    """Multiply the noise in a round patch by one of several factors: 0 smooths it away."""
    patch = _patch(scene, rng, radius_radii)
    if patch is None:
        return None
    fine = scene.grey - gaussian_filter(scene.grey, NOISE_SD_PX, mode="nearest")
    calm = np.where(scene.noise != 0, fine, 0)  # what is fine at an edge is the edge
    return Planted(scene.grey + (float(rng.choice(factor)) - 1) * calm * patch, patch > 0.5)


def _patch(scene: Scene, rng: np.random.Generator, radius_radii: tuple[float, float]) -> np.ndarray | None:
    """Choose a round place with a soft edge: 1 inside, 0 outside (H, W)."""
    if not len(scene.circles):
        return None
    radius_px = rng.uniform(*radius_radii) * float(np.median(scene.circles[:, 2]))
    low, high = radius_px, np.array(scene.grey.shape) - 1 - radius_px
    if (high <= low).any():
        return None
    row, col = rng.uniform(low, high).tolist()
    return coverage(disc_distance(scene.grey.shape, row, col, radius_px), 2 * BLEND_PX)
