"""Random packings against what was put into them, and the fit against packings that are known."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.detection.detector import DetectorConfig
from microgan.scan import disc_packing as hard_discs
from microgan.scan.disc_packing import place, relax
from microgan.scan.planes import ScanInfo
from microgan.validity import random_packing as packing_module
from microgan.validity.random_packing import NOISE_PX, Appearance, RandomPacking, fit_packing
from microgan.validity.reference import Reference

SIZE_PX = (64, 64)


def noise(variance: float, length_px: float) -> list[list[float]]:
    """Autocovariance of white noise blurred by a Gaussian: again a Gaussian."""
    lag = np.arange(-NOISE_PX, NOISE_PX + 1)
    return (variance * np.exp(-(lag**2 + lag[:, None] ** 2) / (2 * length_px**2))).tolist()


def known(**changed: object) -> RandomPacking:
    """A packing like that of a real scan, of which everything is known."""
    rng = np.random.default_rng(0)
    appearances = [
        Appearance(volume_fraction=fraction, disc_grey=0.5, matrix_grey=-0.45)
        for fraction in rng.normal(0.5, 0.03, 50).round(4).tolist()
    ]
    values = {
        "radius_px": rng.normal(5.5, 0.4, 300).clip(4.5, 6.5).tolist(),
        "appearances": appearances,
        "gap_px": 0.4,
    }
    return RandomPacking(**(values | {"blur_px": 0.9, "noise_autocovariance": noise(0.02, 1.2)} | changed))


def reference(polarity: str = "bright") -> Reference:
    """The reference of such a scan."""
    info = ScanInfo(
        name="known",
        source=[],
        source_digest="",
        shape=(1, 64, 64),
        dtype="uint8",
        voxel_size_um=None,
        polarity=polarity,
        radius_px=(3.5, 8),
        intensity_window=(0, 255),
        regions={},
        planes_sha256="",
        mask_sha256="",
    )
    return Reference(
        scan=info,
        window_px=64,
        detector_settings=DetectorConfig(),
        phase_threshold=0.0,
        limits={},
        false_rejection_budget=0.05,
        calibration_windows=100,
        calibration_pass_rate=1.0,
    )


def gaps_px(circles: Circles, box_px: tuple[int, int] | None = None) -> np.ndarray:
    """Distances between the edges of all pairs of discs."""
    first, second = np.triu_indices(len(circles), 1)
    offset = circles.table()[first, :2] - circles.table()[second, :2]
    if box_px:
        offset -= box_px * np.round(offset / box_px)
    return np.hypot(*offset.T) - circles.radius_px[first] - circles.radius_px[second]


# Hard discs


def test_boxes_that_are_relaxed_together_are_relaxed_each_by_itself() -> None:
    rng = np.random.default_rng(1)
    radii = rng.uniform(4, 6, (3, 30))
    centres = np.stack([place(rng, each, (80, 60), 0.5, rounds=1) for each in radii])
    together = relax(centres.reshape(-1, 2), radii.ravel(), (80, 60), 0.5, np.repeat(range(3), 30))
    for box in range(3):
        alone = relax(centres[box], radii[box], (80, 60), 0.5)
        np.testing.assert_allclose(together[30 * box : 30 * (box + 1)], alone, atol=1e-9)
        discs = Circles.from_table(np.column_stack([alone, radii[box]]))
        assert gaps_px(discs, (80, 60)).min() >= 0.5 - 1e-9


def test_discs_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_discs, "MOST_PUSHES", 100)
    radii = np.full(5, 6.0)
    with pytest.raises(UserError, match=r"^gap_px: 0.5: the discs with their gap do not fit, lower it$"):
        relax(np.random.default_rng(0).uniform(0, 25, (5, 2)), radii, 25, 0.5)


# Samples


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, list[Circles]]:
    return known().sample(64, Domain(SIZE_PX), seed=3)


def test_samples_are_images(drawn: tuple[torch.Tensor, list[Circles]]) -> None:
    images, circles = drawn
    assert (images.shape, images.dtype) == ((64, 1, 64, 64), torch.float32)
    assert len(circles) == 64
    assert images.abs().max() <= 1


@pytest.mark.parametrize("fraction", [0.3, 0.65])
def test_discs_keep_their_gap(fraction: float) -> None:
    appearances = [Appearance(volume_fraction=fraction, disc_grey=0.5, matrix_grey=-0.5)]
    for periodic in (False, True):
        _, circles = known(appearances=appearances, gap_px=0.3).sample(4, Domain((60, 72), periodic), 0)
        for discs in circles:
            assert gaps_px(discs, (60, 72) if periodic else None).min() >= 0.3 - 1e-6


def test_circles_are_where_the_image_shows_discs() -> None:
    clean = known(blur_px=0, noise_autocovariance=noise(0, 1))
    for periodic in (False, True):
        images, circles = clean.sample(3, Domain((48, 63), periodic), 0)
        axes = np.ogrid[:48, :63]
        for image, discs in zip(images[:, 0].numpy(), circles, strict=True):
            offset = [axis[..., None] - at for axis, at in zip(axes, (discs.row, discs.col), strict=True)]
            if periodic:
                offset = [d - side * np.round(d / side) for d, side in zip(offset, (48, 63), strict=True)]
            covered = np.clip(discs.radius_px - np.hypot(*offset) + 0.5, 0, 1).sum(axis=-1)
            expected = -0.45 + 0.95 * np.minimum(covered, 1)
            np.testing.assert_allclose(image, expected, atol=1e-5)


def test_volume_fractions_are_those_that_were_drawn() -> None:
    wanted = np.linspace(0.35, 0.65, 7)
    appearances = [
        Appearance(volume_fraction=fraction, disc_grey=1, matrix_grey=-1) for fraction in wanted.tolist()
    ]
    clean = known(appearances=appearances, blur_px=0, noise_autocovariance=noise(0, 1))
    for periodic, tolerance in ((False, 0.002), (True, 0.02)):  # half a disc is 0.012 of a window
        images, _ = clean.sample(32, Domain(SIZE_PX, periodic), 1)
        fraction = (images.mean((1, 2, 3)).numpy() + 1) / 2
        error = np.abs(fraction[:, None] - wanted).min(axis=1)
        assert error.max() < tolerance
        assert len(np.unique(np.abs(fraction[:, None] - wanted).argmin(axis=1))) == 7


def test_radii_are_resampled() -> None:
    _, circles = known().sample(64, Domain(SIZE_PX, periodic=True), seed=5)
    radii = np.concatenate([discs.radius_px for discs in circles])
    assert ks_2samp(radii, known().radius_px).pvalue > 0.01
    assert ks_2samp(radii + 0.1, known().radius_px).pvalue < 0.01  # and the test would tell


def test_opposite_borders_of_a_periodic_sample_fit_together() -> None:
    packing = known(noise_autocovariance=noise(0.001, 2))
    images = packing.sample(32, Domain(SIZE_PX, periodic=True), 0)[0][:, 0]
    for image in (images, images.mT):
        across = (image[:, 0] - image[:, -1]).abs().mean()
        inside = (image[:, 1:] - image[:, :-1]).abs().mean()
        assert across == pytest.approx(float(inside), rel=0.15)
    cut = packing.sample(32, Domain(SIZE_PX), 0)[0][:, 0]
    assert (cut[:, 0] - cut[:, -1]).abs().mean() > 2 * inside


def test_noise_has_the_autocovariance_that_is_asked_for() -> None:
    blank = [Appearance(volume_fraction=0.1, disc_grey=0, matrix_grey=0)]
    packing = known(appearances=blank, noise_autocovariance=noise(0.02, 1.5))
    images, _ = packing.sample(128, Domain(SIZE_PX), 0)
    grey = images[:, 0].numpy()
    for rows, cols in ((0, 0), (0, 1), (1, 0), (2, 2), (0, 5)):
        product = (grey[:, rows:, cols:] * grey[:, : 64 - rows, : 64 - cols]).mean()
        assert product == pytest.approx(noise(0.02, 1.5)[NOISE_PX + rows][NOISE_PX + cols], abs=3e-4)


def test_same_seed_same_bits_whatever_the_count(drawn: tuple[torch.Tensor, list[Circles]]) -> None:
    few, circles = known().sample(34, Domain(SIZE_PX), seed=3)
    assert torch.equal(few, drawn[0][:34])
    np.testing.assert_array_equal(circles[33].table(), drawn[1][33].table())
    assert not torch.equal(known().sample(1, Domain(SIZE_PX), seed=4)[0], few[:1])


def test_no_two_samples_are_alike(drawn: tuple[torch.Tensor, list[Circles]]) -> None:
    flat = drawn[0].flatten(1).numpy()
    alike = np.corrcoef(flat) - np.eye(len(flat))
    assert np.abs(alike).max() < 0.3


# The fit


def fitted(polarity: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> RandomPacking:
    """Fit to windows of the known packing; those of dark discs are the negatives of the others."""
    monkeypatch.setattr(packing_module, "FIT_ROUNDS", rounds)
    monkeypatch.setattr(packing_module, "FIT_SAMPLES", 32)
    scan = reference(polarity)
    windows = known().sample(64, Domain(SIZE_PX), seed=11)[0] * (1 if polarity == "bright" else -1)
    circles = detect_all(windows, scan.detector, progress=False)
    return fit_packing(windows, circles, scan)


def test_the_fit_recovers_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, truth = fitted("bright", 4, monkeypatch), known()
    assert np.mean(fit.radius_px) == pytest.approx(np.mean(truth.radius_px), abs=0.06)
    assert np.std(fit.radius_px) == pytest.approx(np.std(truth.radius_px), abs=0.08)
    assert np.mean([each.volume_fraction for each in fit.appearances]) == pytest.approx(0.5, abs=0.012)
    assert np.mean([each.disc_grey for each in fit.appearances]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([each.matrix_grey for each in fit.appearances]) == pytest.approx(-0.45, abs=0.03)
    assert fit.gap_px == pytest.approx(0.4, abs=0.15)
    assert fit.blur_px == pytest.approx(0.9, abs=0.08)
    fitted_noise, true_noise = np.array(fit.noise_autocovariance), np.array(truth.noise_autocovariance)
    assert fitted_noise[NOISE_PX, NOISE_PX] == pytest.approx(0.02, rel=0.08)
    near = slice(NOISE_PX - 2, NOISE_PX + 3)
    np.testing.assert_allclose(fitted_noise[near, near], true_noise[near, near], atol=0.0015)
    assert RandomPacking.model_validate_json(fit.model_dump_json()) == fit


def test_dark_discs_are_fitted_as_dark(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fitted("dark", 1, monkeypatch)
    assert np.mean([each.disc_grey for each in fit.appearances]) == pytest.approx(-0.5, abs=0.05)
    assert np.mean([each.matrix_grey for each in fit.appearances]) == pytest.approx(0.45, abs=0.1)
    assert np.mean([each.volume_fraction for each in fit.appearances]) == pytest.approx(0.5, abs=0.05)


# Bad input


def test_the_measurement_error_depends_on_the_appearance() -> None:
    rng = np.random.default_rng(0)
    put_in, appearances = rng.normal(size=(64, 3)), rng.normal(size=(9, 3))
    slope, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    added = packing_module._measurement_error(put_in, put_in + put_in @ slope + shift, appearances)
    np.testing.assert_allclose(added, appearances @ slope + shift, atol=1e-10)
    alike = np.tile(appearances[:1], (64, 1))  # no slope to be found: the shift alone
    np.testing.assert_allclose(
        packing_module._measurement_error(alike, alike + shift, appearances[:1]), shift[None], atol=1e-10
    )


def test_samples_that_hold_no_disc_are_refused() -> None:
    with pytest.raises(UserError, match=r"^size_px: 64 12: must be more than the largest disc with its gap"):
        known().sample(1, Domain((64, 12)), 0)
    with pytest.raises(UserError, match=r"^count: 0: must be at least 1$"):
        known().sample(0, Domain(SIZE_PX), 0)


def test_windows_without_discs_are_refused() -> None:
    none = Circles.from_table([])
    with pytest.raises(UserError, match=r"^circles: none: must be discs that are whole, with edges that"):
        fit_packing(torch.zeros(2, 1, 64, 64), [none, none], reference())
    with pytest.raises(UserError, match=r"^circles: 1: must be as many as windows, 2$"):
        fit_packing(torch.zeros(2, 1, 64, 64), [none], reference())


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"gap_px": -1}, "packing.gap_px: -1: "),
        ({"radius_px": []}, r"packing.radius_px: \[\]: "),
        ({"noise_autocovariance": [[1.0]]}, "packing.noise_autocovariance: "),
    ],
)
def test_a_broken_packing_is_named_in_one_line(changed: dict, line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}[^\n]*$"):
        RandomPacking.from_mapping(known().model_dump() | changed, where="packing")
