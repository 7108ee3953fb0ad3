"""The simulated scan against its own truth."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from microgan.core.errors import UserError
from microgan.scan import simulate
from microgan.scan.config import ScanConfig
from microgan.scan.readers import open_scan
from microgan.scan.simulate import (
    BRIGHT_GREY,
    DARK_GREY,
    SimulateConfig,
    pack,
    project,
    scan_plane,
    simulate_scan,
)

SMALL = {"planes": 2, "size_px": 96, "angles": 120, "volume_fraction": 0.4}


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the grey stack (P, H, W) and the truth (n, 4): plane, row, col, radius."""
    with open_scan(folder, ScanConfig(path="scan.tif", radius_px=(3, 9))) as scan:
        stack = np.stack([scan.plane(index) for index in range(scan.shape[0])])
    with (folder / "circles.csv").open(newline="") as stream:
        header, *rows = list(csv.reader(stream))
    assert header == ["plane", "row", "col", "radius"]
    return stack, np.array(rows, float)


def distance_px(shape: tuple[int, ...], row: float, col: float) -> np.ndarray:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, cols - col)


def from_axis_px(size_px: int) -> np.ndarray:
    return distance_px((size_px, size_px), size_px // 2, size_px // 2)


# The packing


@pytest.mark.parametrize("volume_fraction", [0.2, 0.6])
def test_packed_discs_keep_their_gap_and_fill_the_wanted_fraction(volume_fraction: float) -> None:
    config = SimulateConfig(size_px=192, volume_fraction=volume_fraction, min_gap_px=0.5)
    circles, fraction = pack(np.random.default_rng(3), config)
    gap_px = squareform(pdist(circles[:, :2])) - circles[:, 2] - circles[:, 2:]
    np.fill_diagonal(gap_px, np.inf)
    assert gap_px.min() >= 0.5 - 1e-9
    assert abs(fraction - volume_fraction) < 0.005
    # Where it counts, in the field of view, measured on a fine grid of points.
    points = np.random.default_rng(0).uniform(96 - 60, 96 + 60, (20000, 2))
    covered = (np.hypot(*(points[:, None] - circles[:, :2]).transpose(2, 0, 1)) < circles[:, 2]).any(1)
    assert abs(covered.mean() - volume_fraction) < 0.04


def test_radii_are_normal_and_cut_off() -> None:
    config = SimulateConfig(size_px=512, radius_px=5, radius_sd_px=0.5, volume_fraction=0.3)
    radii = pack(np.random.default_rng(0), config)[0][:, 2]
    assert abs(radii.mean() - 5) < 0.06
    assert abs(radii.std() - 0.48) < 0.04  # of the distribution cut off at 2.5 standard deviations
    assert np.abs(radii - 5).max() < 1.25


# The projections


def test_projection_of_a_disc_is_exact() -> None:
    row, col, radius = 22.3, 13.8, 5.37
    angles_deg = np.array([0.0, 33.0, 90.0, 141.5])
    sinogram = project(np.array([[row, col, radius]]), angles_deg, detector_px=81, axis_px=20.0)
    pixel = np.arange(81) - 40
    seen_at = (col - 20) * np.cos(np.deg2rad(angles_deg)) - (row - 20) * np.sin(np.deg2rad(angles_deg))
    assert np.allclose(sinogram.sum(0), np.pi * radius**2)  # no area is lost
    assert np.allclose((pixel[:, None] * sinogram).sum(0) / sinogram.sum(0), seen_at, atol=0.03)
    fine = (np.arange(-40.5, 40.5, 1e-3) + 5e-4)[:, None] - seen_at
    chords = 2 * np.sqrt(np.maximum(radius**2 - fine**2, 0))
    assert np.allclose(sinogram, chords.reshape(81, 1000, 4).mean(1), atol=1e-3)


def test_what_lies_beyond_the_detector_is_not_seen() -> None:
    sinogram = project(np.array([[0.0, 60.0, 4.0]]), np.array([0.0, 90.0]), detector_px=41, axis_px=0.0)
    assert sinogram[:, 0].sum() == 0
    assert np.isclose(sinogram[:, 1].sum(), np.pi * 16)


# The reconstruction


@pytest.mark.parametrize("size_px", [96, 97])
def test_reconstruction_lines_up_with_the_truth(tmp_path: Path, size_px: int) -> None:
    config = SimulateConfig(
        planes=2, size_px=size_px, volume_fraction=0.12, min_gap_px=5, angles=180, photons=1e8, seed=4
    )
    simulate_scan(config, tmp_path / "simulated")
    stack, truth = read(tmp_path / "simulated")
    errors_px = []
    for plane, row, col, radius in truth:
        near = distance_px(stack.shape[1:], row, col) < radius + 2
        if np.hypot(row - size_px // 2, col - size_px // 2) > size_px // 2 - radius - 3:
            continue  # cut by the edge of the field of view
        weight = (stack[int(plane)].astype(float) - DARK_GREY) * near
        rows, cols = np.indices(near.shape)
        centroid = np.array([(rows * weight).sum(), (cols * weight).sum()]) / weight.sum()
        errors_px.append(centroid - (row, col))
        area_px2 = weight.sum() / (BRIGHT_GREY - DARK_GREY)
        assert abs(np.sqrt(area_px2 / np.pi) - radius) < 0.1
    assert len(errors_px) >= 8
    assert np.abs(errors_px).max() < 0.1
    assert np.abs(np.mean(errors_px, axis=0)).max() < 0.02  # no shift by a part of a pixel


@pytest.mark.parametrize(
    ("disc", "core_grey", "matrix_grey"), [(0.002, 40000, 20000), (0.0005, 20000, 40000)]
)
def test_grey_values_are_those_of_the_attenuations(
    tmp_path: Path, disc: float, core_grey: float, matrix_grey: float
) -> None:
    config = SimulateConfig(**SMALL, disc_attenuation_per_um=disc, photons=1e7, voxel_size_um=0.65)
    simulate_scan(config, tmp_path / "simulated")
    stack, truth = read(tmp_path / "simulated")
    depth_px = np.max(
        [radius - distance_px(stack.shape[1:], row, col) for plane, row, col, radius in truth if plane == 0],
        axis=0,
    )
    in_view = from_axis_px(96) <= 48
    assert abs(np.median(stack[0][(depth_px > 3) & in_view]) - core_grey) < 800
    assert abs(np.median(stack[0][(depth_px < -3) & in_view]) - matrix_grey) < 800


def test_outside_of_the_field_of_view_is_zero_and_inside_is_not(tmp_path: Path) -> None:
    simulate_scan(SimulateConfig(**SMALL, photons=300), tmp_path / "simulated")  # so noisy that values clip
    stack, _ = read(tmp_path / "simulated")
    assert ((stack[0] == 0) == (from_axis_px(96) > 48)).all()


def test_discs_at_the_rim_are_cut_by_it(tmp_path: Path) -> None:
    simulate_scan(SimulateConfig(**SMALL), tmp_path / "simulated")
    _, truth = read(tmp_path / "simulated")
    reach_px = np.hypot(truth[:, 1] - 48, truth[:, 2] - 48)
    assert np.any((reach_px - truth[:, 3] < 48) & (reach_px + truth[:, 3] > 48))
    assert np.all(reach_px - truth[:, 3] < 48)  # none outside the field of view


# The scanner's defects


def one_disc(**parameters: float) -> np.ndarray:
    config = SimulateConfig(size_px=64, angles=120, **parameters)
    return scan_plane(np.random.default_rng(0), np.array([[30.0, 36.0, 8.0]]), config)


def test_noise_falls_with_the_root_of_the_photons() -> None:
    clean = one_disc(photons=1e11)
    few, many = (np.nanstd(one_disc(photons=photons) - clean) for photons in (4e3, 64e3))
    assert few / many == pytest.approx(4, rel=0.1)


def test_beam_blur_softens_edges() -> None:
    sharp, soft = (np.nanmax(np.abs(np.diff(one_disc(photons=1e11, beam_blur_px=sd)))) for sd in (0, 1.5))
    assert soft < 0.7 * sharp


def test_gain_errors_make_rings_round_the_axis() -> None:
    defects = one_disc(photons=1e11, ring_gain_sd=0.01) - one_disc(photons=1e11)
    # Over half a turn, a detector pixel runs along half a circle: on the rows above the axis or below it.
    defects, ring = defects[:32], np.round(from_axis_px(64)).astype(int)[:32]
    means = [defects[ring == radius_px].mean() for radius_px in range(3, 30)]
    scatter = [defects[ring == radius_px].std() for radius_px in range(3, 30)]
    assert np.std(means) > 2 * np.mean(scatter)


def test_default_scan_is_as_noisy_as_a_real_one() -> None:
    config = SimulateConfig(size_px=192)
    rng = np.random.default_rng(0)
    circles, _ = pack(rng, config)
    assert 4 < simulate._signal_to_noise(scan_plane(rng, circles, config), circles) < 8


# Files


def test_same_seed_same_bits(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_scan(SimulateConfig(**SMALL, seed=seed), tmp_path / name)
    for file in ("scan.tif", "circles.csv"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_a_plane_does_not_depend_on_how_many_there_are_and_no_two_are_alike(tmp_path: Path) -> None:
    simulate_scan(SimulateConfig(**SMALL), tmp_path / "two")
    simulate_scan(SimulateConfig(**{**SMALL, "planes": 1}), tmp_path / "one")
    two, single = read(tmp_path / "two")[0], read(tmp_path / "one")[0]
    assert (two[0] == single[0]).all()
    inside = two[0] > 0
    assert abs(np.corrcoef(two[0][inside], two[1][inside])[0, 1]) < 0.1


def test_voxel_size_and_summary(tmp_path: Path) -> None:
    summary = simulate_scan(SimulateConfig(**SMALL, voxel_size_um=0.65), tmp_path / "simulated")
    with open_scan(tmp_path / "simulated", ScanConfig(path="scan.tif", radius_px=(3, 9))) as scan:
        assert scan.voxel_size_um == pytest.approx(0.65)
        assert (scan.shape, scan.dtype) == ((2, 96, 96), np.uint16)
    _, truth = read(tmp_path / "simulated")
    assert summary["discs"] == len(truth)
    assert summary["volume_fraction"] == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_run_leaves_the_earlier_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    out = tmp_path / "simulated"
    simulate_scan(SimulateConfig(**SMALL), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(simulate, "write_csv", fail)
    with pytest.raises(type(failure)):
        simulate_scan(SimulateConfig(**SMALL, seed=9), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["simulated"]


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"volume_fracton": 0.5}, "simulate.volume_fracton: 0.5: unknown parameter, known are angles, "),
        (
            {"volume_fraction": 0.7},
            "simulate.volume_fraction: 0.7: input should be less than or equal to 0.6",
        ),
        ({"planes": "many"}, "simulate.planes: 'many': input should be a valid integer"),
        ({"radius_sd_px": 3}, "radius_sd_px must be below 0.32 radius_px"),
        (
            {"min_gap_px": 4, "volume_fraction": 0.6},
            "discs with this min_gap_px jam, lower it or volume_fraction",
        ),
        (
            {"disc_attenuation_per_um": 0.001},
            "disc_attenuation_per_um must differ from matrix_attenuation_per_um",
        ),
    ],
)
def test_bad_parameters_are_one_line(parameters: dict, line: str) -> None:
    with pytest.raises(UserError) as error:
        SimulateConfig.from_mapping(parameters, where="simulate")
    assert line in str(error.value)
    assert "\n" not in str(error.value)
