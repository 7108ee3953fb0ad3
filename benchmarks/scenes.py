"""Simulated tomograms with their truth: what detectors are measured on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from microgan.detection.circles import Circles
from microgan.detection.detector import Polarity
from microgan.scan.simulate import SimulateConfig, pack, scan_plane
from microgan.validity.planted_defects import plant

SIDE_PX = 128  # of a scene; four of them fit into the field of view of one scan
WINDOW_PX = 64  # of a window, in which an overlap is planted: what the validity filter judges
SCAN_PX, ANGLES = 384, 400
# With the ramp filter the noise is white, and its strength goes with the root of the photons.
PHOTONS_AT_SIGNAL_TO_NOISE_1 = 1700


@dataclass(frozen=True)
class Condition:
    """What is scanned. Radii in pixels, the radius band for the detectors among them."""

    volume_fraction: float = 0.5
    radius_px: float = 6.5
    signal_to_noise: float = 4.0
    polarity: Polarity = "bright"
    radius_sd_px: float = 0.35
    band_px: tuple[float, float] = (4.0, 9.0)


@dataclass(frozen=True)
class Scene:
    """An image (H, W), float32 in [-1, 1], and the true circles (n, 3), some of them outside of it."""

    image: np.ndarray
    truth: np.ndarray


def wide_band(condition: Condition) -> Condition:
    """Radii from 4 to 20 px."""
    return replace(condition, radius_px=12.0, radius_sd_px=3.19, band_px=(4.0, 20.0))


def scenes(condition: Condition, scans: int, seed: int) -> list[Scene]:
    """Simulate ``scans`` planes and cut four scenes from the middle of each."""
    attenuation = (0.001, 0.002) if condition.polarity == "bright" else (0.002, 0.001)
    config = SimulateConfig(
        size_px=SCAN_PX,
        angles=ANGLES,
        filter="ramp",
        volume_fraction=condition.volume_fraction,
        radius_px=condition.radius_px,
        radius_sd_px=condition.radius_sd_px,
        photons=PHOTONS_AT_SIGNAL_TO_NOISE_1 * condition.signal_to_noise**2,
        matrix_attenuation_per_um=attenuation[0],
        disc_attenuation_per_um=attenuation[1],
    )
    made = []
    for scan in range(scans):
        rng = np.random.default_rng([seed, scan])
        circles, _ = pack(rng, config)
        grey = _normalised(scan_plane(rng, circles, config))
        first = SCAN_PX // 2 - SIDE_PX
        for row in (first, first + SIDE_PX):
            for col in (first, first + SIDE_PX):
                image = grey[row : row + SIDE_PX, col : col + SIDE_PX]
                made.append(Scene(image, _seen(circles - [row, col, 0], SIDE_PX)))
    return made


def _normalised(plane: np.ndarray) -> np.ndarray:
    low, high = np.nanpercentile(plane, (0.5, 99.5))
    return np.clip(2 * (plane - low) / (high - low) - 1, -1, 1).astype(np.float32)


def _seen(circles: np.ndarray, side_px: int) -> np.ndarray:
    middle = (side_px - 1) / 2
    return circles[(np.abs(circles[:, :2] - middle) < side_px / 2 + circles[:, 2:]).all(1)]


def windows(source: list[Scene]) -> list[Scene]:
    """Cut each scene into four windows."""
    half = range(0, SIDE_PX, WINDOW_PX)
    return [
        Scene(
            scene.image[row : row + WINDOW_PX, col : col + WINDOW_PX],
            _seen(scene.truth - [row, col, 0], WINDOW_PX),
        )
        for scene in source
        for row in half
        for col in half
    ]


def with_overlap(
    source: list[Scene], degree: tuple[float, float], polarity: Polarity, seed: int
) -> Iterator[np.ndarray]:
    """Plant one overlapping pair into each window that has a place for it."""
    for index, scene in enumerate(source):
        rng = np.random.default_rng([seed, index])
        circles = Circles.from_table(scene.truth)
        planted = plant("overlap", scene.image, circles, rng, polarity, degree=degree)
        if planted is not None:
            yield planted


def signal_to_noise(scene: Scene) -> float:
    """Contrast of disc cores and matrix over the scatter inside the cores."""
    row, col = np.indices(scene.image.shape)
    depth_px = np.max([r - np.hypot(row - y, col - x) for y, x, r in scene.truth], axis=0)
    core, matrix = scene.image[depth_px > 2], scene.image[depth_px < -1.5]
    return float(abs(core.mean() - matrix.mean()) / core.std()) if len(matrix) > 1 else float("nan")
