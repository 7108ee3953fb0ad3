"""Rules against drawn truth, and the whole filter against things that no microstructure is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from microgan.errors import UserError
from microgan.hough import Circles
from microgan.planes import Planes, ScanInfo
from microgan.validity import (
    CalibrationConfig,
    Reference,
    broken_rules,
    calibrate,
    disagreement,
    judge,
    overlap,
    pass_rate,
    phase_image,
    radius_range,
    real_windows,
    rejected_by,
    unexplained_phase,
    unfilled_circle,
)
from tests.helpers import disc_planes

SHAPE = (64, 64)


def _circles(*rows: tuple[float, float, float]) -> Circles:
    return Circles.from_table(np.array(rows, float).reshape(-1, 3))


def _phase(*rows: tuple[float, float, float]) -> np.ndarray:
    row, col = np.mgrid[:64, :64]
    if not rows:
        return np.zeros((64, 64), bool)
    return np.any([np.hypot(row - r, col - c) < radius for r, c, radius in rows], axis=0)


# Rules ------------------------------------------------------------------------------------------------


def test_overlap_is_that_of_the_worst_pair_inside() -> None:
    discs = _circles((20, 20, 6), (20, 29, 6), (40, 40, 5), (-2, 50, 6), (3, 50, 6))
    assert overlap(discs, SHAPE) == pytest.approx(1 - 9 / 12)  # the pair at the border is cut: not judged
    assert overlap(_circles((20, 20, 6), (20, 33, 6)), SHAPE) == 0
    assert overlap(_circles(), SHAPE) == 0


def test_radii_are_those_of_whole_discs() -> None:
    assert radius_range(_circles((20, 20, 6), (40, 40, 5), (3, 30, 9)), SHAPE) == (5, 6)
    assert radius_range(_circles((2, 2, 6)), SHAPE) == (0, 0)


def test_a_merged_pair_leaves_unexplained_phase() -> None:
    pair = ((30, 24, 6), (30, 34, 6))
    assert unexplained_phase(_phase(*pair), _circles(*pair)) == 0
    assert unexplained_phase(_phase(*pair), _circles(pair[0])) > 0.5
    assert unexplained_phase(_phase(pair[0]), _circles()) == pytest.approx(np.pi * 36 / 64**2, rel=0.1)


def test_a_circle_without_phase_is_unfilled() -> None:
    assert unfilled_circle(_phase((20, 20, 6)), _circles((20, 20, 6))) == 0
    assert unfilled_circle(_phase((20, 20, 6)), _circles((20, 20, 6), (40, 40, 6))) == 1
    half = _phase((20, 20, 6)) & (np.arange(64) <= 20)
    assert unfilled_circle(half, _circles((20, 20, 6))) == pytest.approx(0.5, abs=0.1)


def test_disagreement_counts_both_faults() -> None:
    one, other = (20, 20, 6), (40, 40, 6)
    assert disagreement(_phase(one), _circles(one)) == 0
    assert disagreement(_phase(one, other), _circles(one)) == pytest.approx(0.5, abs=0.01)
    assert disagreement(_phase(one), _circles(one, other)) == pytest.approx(0.5, abs=0.01)
    assert disagreement(_phase(), _circles()) == 1


def test_each_limit_has_its_reason() -> None:
    limits = {"overlap": (None, 0.1), "smallest_radius_px": (4.0, None), "largest_radius_px": (None, 8.0)}
    assert broken_rules({"overlap": 0.1, "smallest_radius_px": 4, "largest_radius_px": 8}, limits) == ()
    measures = {"overlap": 0.2, "smallest_radius_px": 3, "largest_radius_px": 9}
    assert broken_rules(measures, limits) == ("overlap", "radius")


# The filter --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Planes:
    return disc_planes(tmp_path_factory.mktemp("scan"), size_px=320)


@pytest.fixture(scope="module")
def reference(planes: Planes) -> Reference:
    return calibrate(planes, 64, CalibrationConfig(windows=400))


@pytest.fixture(scope="module")
def real(planes: Planes) -> Tensor:
    return real_windows(planes, ("held_out",), 64, 100, seed=1)


def test_real_windows_pass_at_about_the_stated_rate(reference: Reference, real: Tensor) -> None:
    assert 0.94 <= reference.calibration_pass_rate <= 0.97
    assert pass_rate(judge(real, reference)) >= 0.8


def _blank(real: Tensor) -> Tensor:
    return torch.full_like(real, float(real.mean()))


def _noise(real: Tensor) -> Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).permuted(real.numpy().reshape(len(real), -1), axis=1)
    ).view_as(real)


def _blurred(real: Tensor) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(real.numpy(), (0, 0, 5, 5)))


def _negated(real: Tensor) -> Tensor:
    return -real


@pytest.mark.parametrize("spoil", [_blank, _noise, _blurred, _negated])
def test_what_is_no_microstructure_is_rejected(spoil, reference: Reference, real: Tensor) -> None:
    verdicts = judge(spoil(real[:40]), reference)
    assert pass_rate(verdicts) == 0
    assert all(verdict.reasons for verdict in verdicts)
    assert sum(rejected_by(verdicts).values()) >= 40


def _with_merged_pair(image: np.ndarray, circles: Circles) -> np.ndarray:
    """Melt the disc nearest to the middle and its neighbour into one long blob, as a bad generator does."""
    centres = np.stack([circles.row, circles.col], axis=1)
    one = np.hypot(*(centres - 31.5).T).argmin()
    distance = np.hypot(*(centres - centres[one]).T)
    other = distance.argsort()[1]
    along = np.linspace(0, 1, 40)[:, None] * (centres[other] - centres[one]) + centres[one]
    row, col = np.mgrid[:64, :64]
    gap = np.min([np.hypot(row - r, col - c) for r, c in along], axis=0) < 6.5
    spoilt = image.copy()
    spoilt[gap] = np.quantile(image, 0.8)
    return spoilt


def test_a_merged_pair_is_mostly_rejected(reference: Reference, real: Tensor) -> None:
    verdicts = judge(real, reference)
    valid = [index for index, verdict in enumerate(verdicts) if verdict.valid]
    merged = np.stack([_with_merged_pair(real[i, 0].numpy(), verdicts[i].circles) for i in valid])
    assert pass_rate(judge(torch.from_numpy(merged)[:, None], reference)) <= 0.4


def test_a_reference_survives_its_file(reference: Reference, tmp_path: Path) -> None:
    reference.save(tmp_path / "reference.json")
    assert Reference.load(tmp_path / "reference.json") == reference
    (tmp_path / "reference.json").write_text("{}")
    with pytest.raises(UserError, match=r"reference\.json\.scan: missing"):
        Reference.load(tmp_path / "reference.json")


def test_the_phase_is_the_discs_whatever_their_polarity(reference: Reference, real: Tensor) -> None:
    bright = phase_image(real, reference)
    assert 0.4 < bright.float().mean() < 0.7
    scan = ScanInfo(**{**reference.scan.model_dump(), "polarity": "dark"})
    dark = reference.model_copy(update={"scan": scan, "phase_threshold": -reference.phase_threshold})
    assert (phase_image(-real, dark) == bright).float().mean() > 0.999


def test_a_radius_band_that_fits_nothing_is_one_line(planes: Planes) -> None:
    info = planes.info.model_copy(update={"radius_px": (25.0, 30.0)})
    with pytest.raises(UserError, match=r"scans\.discs\.radius_px: \[25.0, 30.0\]: fits nothing"):
        calibrate(Planes(planes.grey, planes.mask, info), 64, CalibrationConfig(windows=100))


def test_held_out_windows_never_touch_the_limits(planes: Planes, reference: Reference) -> None:
    """Spoil the held-out plane: nothing that was calibrated may change."""
    grey = np.array(planes.grey)
    for plane, *_ in planes.info.regions["held_out"]:
        grey[plane] = 0
    spoilt = calibrate(Planes(grey, planes.mask, planes.info), 64, CalibrationConfig(windows=400))
    assert spoilt == reference
