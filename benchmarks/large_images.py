"""Large and periodic images, how good and how costly they are: `python -m benchmarks.large_images MODEL_DIR`.

Measured on images of a trained generator: whether opposite borders of periodic images fit together; whether
volume fraction and two-point correlation are equal in small and in large images of the same total area; how
fast large images are drawn into memory, without tiles, and into a file; how much memory a very large image
takes, in a process of its own. Grey values become phases as in `make repro`, by the reference of the
material. Seconds are those of the CPU.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch

from microgan.core.domain import Domain
from microgan.core.files import atomic
from microgan.gan.checkpoint import load_model
from microgan.gan.networks import Generator
from microgan.gan.sampling import decode, latent_shape, latents, sample, sample_to_tiff
from microgan.statistics.estimators import relative_distance
from microgan.statistics.phase_descriptors import two_point_correlation
from microgan.validity.phase import phase_image
from microgan.validity.reference import Reference

ROOT = Path(__file__).parents[1]
SMALL_PX, LARGE_PX = 64, 1024
MAX_LAG_PX = 32
ROLLS = ((1, 0), (0, 1), (5, 11))  # latent cells
MIB = 1 << 20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder with generator.safetensors and model.json")
    parser.add_argument("--reference", type=Path, default=ROOT / "reference/reference.json")
    parser.add_argument("--size", type=int, default=8192, help="side of the image in the file, px")
    parser.add_argument("--periodic-images", type=int, default=200, help="of 128 px")
    parser.add_argument("--large-images", type=int, default=16, help="of 1024 px, and as much of small ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the table, Markdown")
    options = parser.parse_args()
    memory = peak_memory_mib(options.model, options.reference, options.size)  # first: it begins with ours
    generator, _ = load_model(options.model)
    reference = Reference.load(options.reference)
    fraction, correlation = drift(generator, reference, options.large_images, options.seed)
    rows = [
        ("gradient across the seam / interior", f"{seam_ratio(generator, options.periodic_images, 128):.4f}"),
        ("wrap error, grey values from -1 to 1", f"{wrap_error(generator, 264, options.seed):g}"),
        (f"volume fraction, {LARGE_PX} px against {SMALL_PX} px", f"{fraction:+.2%}"),
        (f"two-point correlation, {LARGE_PX} px against {SMALL_PX} px", f"{correlation:.2%}"),
        *((f"{name}, Mpx/s", f"{speed:.2f}") for name, speed in speeds(generator, reference).items()),
        (f"peak memory of {options.size} x {options.size} px into a file, MiB", f"{memory:.0f}"),
    ]
    table = "\n".join(
        ["| measure | value |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows)]
    )
    print(table)
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(table + "\n")


def seam_ratio(generator: Generator, count: int, size_px: int) -> float:
    """Return the mean step of grey across the borders of periodic images, over that between other pixels."""
    images = sample(generator, count, Domain((size_px, size_px), periodic=True), seed=0).double()
    seam, interior = [], []
    for axis in (2, 3):
        step = (images.roll(-1, axis) - images).abs().mean((0, 1, 5 - axis))
        seam.append(step[-1])
        interior.append(step[:-1].mean())
    return float(sum(seam) / sum(interior))


def wrap_error(generator: Generator, size_px: int, seed: int) -> float:
    """Return the largest difference between the image of a rolled latent and the rolled image."""
    latent = latents(seed, 0, 1, latent_shape(generator, Domain((size_px, size_px), periodic=True)))
    image = decode(generator, latent, periodic=True)
    errors = []
    for cells in ROLLS:
        rolled = decode(generator, latent.roll(cells, (2, 3)), periodic=True)
        errors.append((rolled - image.roll((8 * cells[0], 8 * cells[1]), (2, 3))).abs().max())
    return float(max(errors))


def drift(generator: Generator, reference: Reference, count: int, seed: int) -> tuple[float, float]:
    """Return how far large images are from small ones: volume fraction, relative; correlation, relative L2.

    ``count`` large images, and small ones of another seed that have as many pixels.
    """
    many = count * (LARGE_PX // SMALL_PX) ** 2
    large = correlation(generator, reference, count, LARGE_PX, seed)
    small = correlation(generator, reference, many, SMALL_PX, seed + 1)
    return large[0] / small[0] - 1, relative_distance(large, small)


def correlation(
    generator: Generator, reference: Reference, count: int, size_px: int, seed: int
) -> np.ndarray:
    """Return the two-point correlation up to `MAX_LAG_PX`, mean over images; at lag 0 the volume fraction."""
    images = sample(generator, count, Domain((size_px, size_px)), seed)
    groups = phase_image(images, reference).numpy().reshape(-1, max(1, count // 16), size_px, size_px)
    return np.mean([two_point_correlation(group, MAX_LAG_PX).mean(0) for group in groups], axis=0)


def speeds(generator: Generator, reference: Reference) -> dict[str, float]:
    """Return Mpx/s of CPU of the ways to draw a large image, taken in turns, and of small images."""
    small, large = Domain((SMALL_PX, SMALL_PX)), Domain((2 * LARGE_PX, 2 * LARGE_PX))
    count = large.pixels // small.pixels
    shape = latent_shape(generator, large)

    @torch.inference_mode()
    def untiled() -> None:
        generator(latents(0, 0, 1, shape))

    with TemporaryDirectory() as folder:
        ways: dict[str, Callable[[], object]] = {
            "small images": lambda: sample(generator, count, small, 0, progress=False),
            "large image, untiled": untiled,
            "large image into memory": lambda: sample(generator, 1, large, 0, progress=False),
            "large image into a file": lambda: sample_to_tiff(
                generator, Path(folder) / "large.tif", reference.scan, 1, large, 0, progress=False
            ),
        }
        seconds = {name: sum(timed(way) for _ in range(2)) / 2 for name, way in ways.items()}
    return {name: large.pixels / 1e6 / second for name, second in seconds.items()}


def timed(way: Callable[[], object]) -> float:
    """Return the seconds of CPU that a call takes."""
    start = process_time()
    way()
    return process_time() - start


def peak_memory_mib(model: Path, reference: Path, size_px: int) -> float:
    """Return the peak memory, libraries included, of a new process that draws one image into a file."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_draw_large_image, model, reference, size_px).result()


def _draw_large_image(model: Path, reference: Path, size_px: int) -> float:
    generator, _ = load_model(model)
    with TemporaryDirectory() as folder:
        scan = Reference.load(reference).scan
        sample_to_tiff(generator, Path(folder) / "large.tif", scan, 1, Domain((size_px, size_px)), seed=0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


if __name__ == "__main__":
    main()
