"""The embedded scan: discs in a matrix as a tomography scanner images them, with the truth beside it.

Nothing is drawn on the pixel grid. The projections are integrals of the exact chord lengths over each
detector pixel, so the reconstruction does not invert its own discretisation (the "inverse crime").
Coordinates are (row, col) in pixels, pixel centres at integers.
"""

import math
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree
from skimage.transform import iradon
from tqdm import tqdm

from microgan.core.config import Config, VoxelSizeUm
from microgan.core.errors import UserError
from microgan.core.files import atomic, write_tiff
from microgan.core.memory import must_fit_into_memory
from microgan.core.tables import write_csv
from microgan.scan.disc_packing import place, relax

DARK_GREY, BRIGHT_GREY = 20000, 40000  # of the less and of the more attenuating phase, without noise


class SimulateConfig(Config):
    """The simulated specimen and scanner. Lengths in pixels of the reconstruction (1 px = voxel_size_um)."""

    planes: int = Field(default=8, ge=1)
    size_px: int = Field(default=448, ge=32, le=4096)
    voxel_size_um: VoxelSizeUm = 1.0
    radius_px: float = Field(default=6.0, ge=2, le=4096)
    radius_sd_px: float = Field(default=0.35, ge=0)
    volume_fraction: float = Field(default=0.55, gt=0, le=0.6)
    min_gap_px: float = Field(default=0.5, ge=0, le=4096)
    matrix_attenuation_per_um: float = Field(default=0.001, gt=0, le=1e6)
    disc_attenuation_per_um: float = Field(default=0.002, gt=0, le=1e6)
    angles: int = Field(default=600, ge=16, le=10_000)
    photons: float = Field(default=8000, ge=1, le=1e12)
    beam_blur_px: float = Field(default=0.7, ge=0, le=100)
    ring_gain_sd: float = Field(default=0.0, ge=0, lt=0.2)
    filter: Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"] = "hann"
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if 2.5 * self.radius_sd_px >= 0.8 * self.radius_px:
            raise ValueError("radius_sd_px must be below 0.32 radius_px")
        if self.matrix_attenuation_per_um == self.disc_attenuation_per_um:
            raise ValueError("disc_attenuation_per_um must differ from matrix_attenuation_per_um")
        if self.volume_fraction * (1 + self.min_gap_px / 2 / self.radius_px) ** 2 > 0.78:
            raise ValueError("discs with this min_gap_px jam, lower it or volume_fraction")
        if self.photons * math.exp(-self._path_through_the_middle()) < 1:
            raise ValueError(
                "less than one photon comes through the specimen: lower voxel_size_um, size_px or the "
                "attenuation, or raise photons"
            )
        return self

    def _path_through_the_middle(self) -> float:
        """Return the attenuation along the longest ray, where discs are as frequent as everywhere."""
        more = self.disc_attenuation_per_um - self.matrix_attenuation_per_um
        mean_per_um = self.matrix_attenuation_per_um + self.volume_fraction * more
        return 2 * _specimen_radius_px(self) * self.voxel_size_um * mean_per_um


def simulate_scan(config: SimulateConfig, out: Path) -> dict[str, Any]:
    """Write ``out/scan.tif`` and the truth ``out/circles.csv``; both, or neither and the earlier ones stay.

    Parameters
    ----------
    config : SimulateConfig
    out : Path
        Folder, replaced as a whole.

    Returns
    -------
    dict
        What came out: ``planes``, ``discs``, ``volume_fraction`` (of the packing), ``radius_mean_px``,
        ``radius_sd_px``, ``signal_to_noise`` (phase contrast over the noise's standard deviation). None
        where there is nothing to measure: no disc, or none with a core of its own.

    Raises
    ------
    UserError
        If the discs cannot be packed.
    """
    must_fit_into_memory("simulate.planes", config.planes, 2 * config.planes * config.size_px**2)
    stack = np.zeros((config.planes, config.size_px, config.size_px), np.uint16)
    rows: list[tuple[float, ...]] = []
    signal_to_noise, fractions = [], []
    for plane in tqdm(range(config.planes), desc="simulate", unit="plane", disable=None):
        rng = np.random.default_rng([config.seed, plane])
        circles, fraction = pack(rng, config)
        attenuation = scan_plane(rng, circles, config)
        stack[plane] = _to_grey(attenuation, config)
        visible = circles[_touches_field_of_view(circles, config.size_px)]
        rows += [(plane, *(round(float(value), 4) for value in circle)) for circle in visible]
        signal_to_noise.append(_signal_to_noise(attenuation, visible))
        fractions.append(fraction)
    with atomic(out) as draft:
        draft.mkdir()
        write_tiff(draft / "scan.tif", stack, config.voxel_size_um)
        write_csv(draft / "circles.csv", ("plane", "row", "col", "radius"), rows)
    radii = np.array([row[3] for row in rows])
    measured = [ratio for ratio in signal_to_noise if ratio is not None]
    return {
        "planes": config.planes,
        "discs": len(rows),
        "volume_fraction": float(np.mean(fractions)),
        "radius_mean_px": float(radii.mean()) if len(radii) else None,
        "radius_sd_px": float(radii.std()) if len(radii) else None,
        "signal_to_noise": float(np.mean(measured)) if measured else None,
    }


# The specimen ------------------------------------------------------------------------------------------


def pack(rng: np.random.Generator, config: SimulateConfig) -> tuple[np.ndarray, float]:
    """Pack discs that keep ``min_gap_px`` from each other into a periodic box around the field of view.

    The box has no walls, so the volume fraction does not fall off towards the border. Discs that the
    specimen, a cylinder round the field of view, does not hold whole are left out.

    Returns
    -------
    circles : ndarray of shape (n, 3)
        Row, col, radius in pixels of the reconstruction.
    volume_fraction : float
        Of the whole packing.

    Raises
    ------
    UserError
        If the overlaps do not relax.
    """
    box_px = 2 * _specimen_radius_px(config)
    radii = _draw_radii(rng, config, box_px)
    centres = place(rng, radii, box_px, config.min_gap_px)
    try:
        centres = relax(centres, radii, box_px, config.min_gap_px)
    except UserError:
        rule = "the discs with their gap do not fit, lower it"
        raise UserError("simulate.min_gap_px", config.min_gap_px, rule) from None
    middle_px = config.size_px // 2  # the rotation axis, see scan_plane
    offset = centres - box_px / 2
    whole = np.hypot(*offset.T) + radii < _specimen_radius_px(config)
    circles = np.column_stack([offset + middle_px, radii])[whole]
    return circles, float(np.pi * np.sum(radii**2) / box_px**2)


def _specimen_radius_px(config: SimulateConfig) -> float:
    # One disc diameter and a little of specimen all round, so that the discs at the edge of the field of
    # view are cut by it as in a scan of a larger piece, while every projection is complete.
    return config.size_px // 2 + 3 * config.radius_px


def _draw_radii(rng: np.random.Generator, config: SimulateConfig, box_px: float) -> np.ndarray:
    """Draw from a truncated normal distribution until the discs fill the box, the largest first."""
    wanted_px2 = config.volume_fraction * box_px**2
    most = math.ceil(wanted_px2 / (np.pi * (0.5 * config.radius_px) ** 2)) + 16
    deviation = rng.standard_normal(2 * most)
    deviation = deviation[np.abs(deviation) < 2.5]
    radii = config.radius_px + config.radius_sd_px * deviation
    count = int(np.searchsorted(np.cumsum(np.pi * radii**2), wanted_px2))
    return np.sort(radii[: max(count, 1)])[::-1]


def _touches_field_of_view(circles: np.ndarray, size_px: int) -> np.ndarray:
    middle_px = size_px // 2
    return np.hypot(circles[:, 0] - middle_px, circles[:, 1] - middle_px) - circles[:, 2] < middle_px


# The scanner -------------------------------------------------------------------------------------------


def scan_plane(rng: np.random.Generator, circles: np.ndarray, config: SimulateConfig) -> np.ndarray:
    """Measure one plane and reconstruct it by filtered back-projection.

    Parameters
    ----------
    circles : ndarray of shape (n, 3)
        Row, col, radius in pixels.

    Returns
    -------
    ndarray of shape (size_px, size_px)
        Linear attenuation per um; NaN outside the field of view, which is the inscribed circle.

    References
    ----------
    A. C. Kak, M. Slaney, "Principles of Computerized Tomographic Imaging", 1988, chapter 3.
    """
    angles_deg = np.arange(config.angles) * 180 / config.angles
    paths_um = config.voxel_size_um * _optical_paths_px(circles, angles_deg, config)
    counts = _expose(rng, paths_um, config)
    measured = -np.log(np.maximum(counts, 1) / config.photons)  # (detector, angles)
    # iradon puts the rotation axis on pixel size // 2 of the image and of the detector, for even and
    # for odd sizes; _optical_paths_px uses the same axis, so truth and image agree to the sub-pixel.
    image = iradon(measured, angles_deg, output_size=config.size_px, filter_name=config.filter, circle=True)
    image /= config.voxel_size_um
    offset = np.arange(config.size_px) - config.size_px // 2
    image[offset[:, None] ** 2 + offset**2 > (config.size_px // 2) ** 2] = np.nan
    return image


def _optical_paths_px(circles: np.ndarray, angles_deg: np.ndarray, config: SimulateConfig) -> np.ndarray:
    """Integrate attenuation along the rays, in px/um: the specimen's cylinder plus what discs differ by."""
    middle_px = config.size_px // 2
    radius_px = _specimen_radius_px(config)
    cylinder = np.array([[middle_px, middle_px, radius_px]])
    detector_px = 2 * math.ceil(radius_px + 2) + 1
    matrix = project(cylinder, angles_deg[:1], detector_px, middle_px)
    discs = project(circles, angles_deg, detector_px, middle_px)
    more = config.disc_attenuation_per_um - config.matrix_attenuation_per_um
    return config.matrix_attenuation_per_um * matrix + more * discs


def project(circles: np.ndarray, angles_deg: np.ndarray, detector_px: int, axis_px: float) -> np.ndarray:
    """Project discs exactly: the chord 2 sqrt(r^2 - s^2), averaged over each detector pixel.

    Parameters
    ----------
    circles : ndarray of shape (n, 3)
        Row, col, radius in pixels.
    angles_deg : ndarray of shape (m,)
    detector_px : int
        Pixels of the detector; pixel ``detector_px // 2`` sees the rotation axis.
    axis_px : float
        Row and column of the rotation axis.

    Returns
    -------
    ndarray of shape (detector_px, m)
        Path lengths in pixels; parts of discs beyond the detector do not count.
    """
    row, col, radius = (circles - [axis_px, axis_px, 0]).T
    pixel_offsets = np.arange(2 * math.ceil(radius.max()) + 2)
    sinogram = np.zeros((detector_px, len(angles_deg)))
    for index, angle in enumerate(np.deg2rad(angles_deg)):
        centre_px = col * np.cos(angle) - row * np.sin(angle)
        first_pixel = np.floor(centre_px - radius + 0.5)  # the pixel that contains the left edge
        edges = first_pixel[:, None] - 0.5 + np.arange(len(pixel_offsets) + 1) - centre_px[:, None]
        paths = np.diff(_chord_integral(edges, radius[:, None]), axis=1)  # (n, pixels)
        pixels = first_pixel[:, None].astype(int) + detector_px // 2 + pixel_offsets
        inside = (pixels >= 0) & (pixels < detector_px)
        sinogram[:, index] = np.bincount(pixels[inside], paths[inside], detector_px)
    return sinogram


def _chord_integral(s: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Integrate 2 sqrt(r^2 - s^2) from 0 to s."""
    s = np.clip(s, -radius, radius)
    return s * np.sqrt(radius**2 - s**2) + radius**2 * np.arcsin(s / radius)


def _expose(rng: np.random.Generator, paths_um: np.ndarray, config: SimulateConfig) -> np.ndarray:
    """Count photons behind the specimen (Beer-Lambert law), with the detector's defects."""
    expected = config.photons * np.exp(-paths_um)
    if config.beam_blur_px > 0:
        expected = gaussian_filter1d(expected, config.beam_blur_px, axis=0, mode="nearest")
    # One detector takes all planes: its gains depend on the seed alone.
    detector = np.random.default_rng([config.seed])
    gain = 1 + config.ring_gain_sd * detector.standard_normal((len(expected), 1))
    return rng.poisson(expected * np.maximum(gain, 0.05))


def _to_grey(attenuation: np.ndarray, config: SimulateConfig) -> np.ndarray:
    """Map attenuation to uint16 as scanner software does; 0 is kept for the outside."""
    low, high = sorted((config.matrix_attenuation_per_um, config.disc_attenuation_per_um))
    grey = DARK_GREY + (attenuation - low) / (high - low) * (BRIGHT_GREY - DARK_GREY)
    return np.where(np.isnan(grey), 0, np.clip(np.round(grey), 1, 65535)).astype(np.uint16)


def _signal_to_noise(attenuation: np.ndarray, circles: np.ndarray) -> float | None:
    """Compare the contrast of disc cores and matrix with the scatter inside the cores."""
    if not len(circles):
        return None
    grid = np.argwhere(np.ones(attenuation.shape, bool))
    # The nearest edge is that of a disc with one of the nearest few centres, as radii are alike.
    distance_px, nearest = cKDTree(circles[:, :2]).query(grid, k=min(4, len(circles)))
    depth_px = np.max(np.atleast_2d(circles[:, 2][nearest] - distance_px).reshape(len(grid), -1), axis=1)
    value = attenuation.ravel()
    inside = ~np.isnan(value)  # the field of view
    core, matrix = value[inside & (depth_px > 2)], value[inside & (depth_px < -1.5)]
    if len(core) < 2 or len(matrix) < 2 or core.std() == 0:
        return None
    return float(abs(core.mean() - matrix.mean()) / core.std())
