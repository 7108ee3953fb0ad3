"""Large images: all windows judged, and repair by new draws of the latent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.repair import before_and_after
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import Circles
from microgan.detection.detector import DetectorConfig
from microgan.gan.networks import STRIDE_PX, WRAP_CELLS, Generator, NetworkConfig, wrap
from microgan.gan.sampling import latents, sample
from microgan.samples.patches import blend_angles, propose
from microgan.samples.repair import (
    RepairConfig,
    Repaired,
    sample_and_repair,
    with_high_confidence_limit,
)
from microgan.scan.planes import ScanInfo
from microgan.validity.judging import excess
from microgan.validity.large_images import judge_large_image, overlapping, window_starts
from microgan.validity.reference import Limits, Reference
from tests.helpers import drawn, lively

SCAN = ScanInfo(
    name="drawn",
    source=("drawn.png",),
    source_digest="0",
    shape=(1, 160, 160),
    dtype="uint8",
    voxel_size_um=None,
    polarity="bright",
    radius_px=(4, 8),
    intensity_window=(0, 255),
    regions={},
    planes_sha256="0",
    mask_sha256="0",
)


def _reference(limits: Limits) -> Reference:
    return Reference(
        scan=SCAN,
        window_px=64,
        detector_settings=DetectorConfig(),
        phase_threshold=0.0,
        limits=dict(limits),
        false_rejection_budget=0.05,
        calibration_windows=100,
        calibration_pass_rate=0.95,
    )


# Large images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [64, 65, 95, 96, 97, 150, 512])
@pytest.mark.parametrize("periodic", [False, True])
def test_whatever_fits_half_a_window_is_whole_in_one(length: int, periodic: bool) -> None:
    starts = window_starts(length, 64, periodic)
    assert periodic or starts[-1] + 64 == length
    for first in range(length if periodic else length - 32 + 1):
        offset = (first - starts) % length if periodic else first - starts
        assert np.any((offset >= 0) & (offset <= 32))


@pytest.fixture(scope="module")
def touching() -> Tensor:
    """Discs on a wide lattice, and one pair among them that overlaps by a quarter."""
    lattice = [(20.0 + 40 * i, 20.0 + 40 * j, 6.0) for i in range(4) for j in range(4)]
    return drawn(*lattice, (79.0, 76.0, 6.0), (79.0, 85.0, 6.0), side=160)


def test_a_planted_overlap_is_seen_by_exactly_its_windows(touching: Tensor) -> None:
    judged = judge_large_image(touching, _reference({"high_confidence_overlap": (None, 0.1)}))
    flagged = judged.corners[[not verdict.valid for verdict in judged.verdicts]]
    assert flagged.tolist() == [[32, 32], [32, 64], [64, 32], [64, 64]]
    assert not judged.valid
    assert judged.valid_fraction == 12 / 16
    assert judged.rejected_by["overlap"] == 4


def test_a_periodic_image_has_no_border(touching: Tensor) -> None:
    rolled = touching[0, 0].roll((70, 80), (0, 1))  # row 149, columns 156 and 5: the border parts them
    reference = _reference({"high_confidence_overlap": (None, 0.1)})
    judged = judge_large_image(rolled, reference, periodic=True)
    flagged = judged.corners[[not verdict.valid for verdict in judged.verdicts]]
    assert flagged.tolist() == [[96, 128], [128, 128]]
    assert judge_large_image(rolled, reference).valid


def test_an_image_smaller_than_a_window_is_refused() -> None:
    with pytest.raises(UserError, match=r"size: 40: must be at least 64 px"):
        judge_large_image(torch.zeros(64, 40), _reference({}))
    with pytest.raises(ValueError, match="must be"):
        judge_large_image(torch.zeros(2, 1, 64, 64), _reference({}))


def test_excess_counts_in_the_scale_of_each_rule() -> None:
    limits = {"overlap": (None, 0.2), "volume_fraction": (0.4, 0.6), "least_half_disc_fill": (0.5, None)}
    valid = {"overlap": 0.1, "volume_fraction": 0.5, "least_half_disc_fill": 0.9}
    assert excess(valid, limits) == 0
    assert excess(valid | {"overlap": 0.3}, limits) == pytest.approx(0.5)
    assert excess(valid | {"volume_fraction": 0.3, "least_half_disc_fill": 0.4}, limits) == pytest.approx(
        0.5 + 0.2
    )


# Repair --------------------------------------------------------------------------------------------------

SIZE_PX = (96, 192)
CONFIG = RepairConfig(rounds=6, candidates=4, patch_cells=3)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return lively(NetworkConfig(latent_channels=4, base_channels=4))


@pytest.fixture(scope="module", params=[True, False], ids=["periodic", "open"])
def periodic(request) -> bool:
    return request.param


@pytest.fixture(scope="module")
def reference(generator: Generator, periodic: bool) -> Reference:
    """Rejects those windows of the first sample with least disc phase."""
    image = sample(generator, 1, Domain(SIZE_PX, periodic), 0)
    judged = judge_large_image(image, _reference({}), periodic)
    fraction = np.quantile([verdict.measures["volume_fraction"] for verdict in judged.verdicts], 0.2)
    return _reference({"volume_fraction": (float(fraction), None)})


@pytest.fixture(scope="module")
def repaired(generator: Generator, reference: Reference, periodic: bool) -> Repaired:
    return sample_and_repair(generator, 0, 0, Domain(SIZE_PX, periodic), reference, CONFIG)


def test_repair_begins_with_the_sample(generator: Generator, reference: Reference, periodic: bool) -> None:
    domain = Domain(SIZE_PX, periodic)
    untouched = sample_and_repair(generator, 3, 2, domain, reference, RepairConfig(rounds=0))
    third = sample(generator, 3, domain, 3)[2:]
    torch.testing.assert_close(untouched.image, third, rtol=0, atol=1e-6)
    assert (untouched.rounds, untouched.changed) == (0, 0)


def test_a_repaired_image_is_better(repaired: Repaired, reference: Reference) -> None:
    ranks = [
        (
            sum(not verdict.valid for verdict in judged.verdicts),
            sum(excess(verdict.measures, reference.limits) for verdict in judged.verdicts),
        )
        for judged in (repaired.before, repaired.after)
    ]
    assert ranks[1] < ranks[0]
    assert 0 < repaired.changed < 0.5
    assert 1 <= repaired.rounds <= CONFIG.rounds


def test_the_image_is_that_of_the_latent(repaired: Repaired, generator: Generator, periodic: bool) -> None:
    with torch.no_grad():
        image = generator(wrap(repaired.latent) if periodic else repaired.latent)
    image = image[..., : SIZE_PX[0], : SIZE_PX[1]]
    torch.testing.assert_close(repaired.image, image, rtol=0, atol=1e-6)


def test_what_no_new_latent_reaches_is_as_it_was(repaired: Repaired, periodic: bool) -> None:
    height, width = SIZE_PX
    before = latents(0, 0, 1, tuple(repaired.latent.shape[1:]))
    changed = (repaired.latent != before).any(dim=1)[0]
    reach = WRAP_CELLS if periodic else 0  # cells of the latent before the first pixel's
    near = torch.zeros(height, width, dtype=torch.bool)
    for row, col in changed.nonzero().tolist():
        rows, cols = (
            torch.arange(STRIDE_PX * (cell + reach - 2 * WRAP_CELLS), STRIDE_PX * (cell + reach + 1))
            for cell in (row, col)
        )
        if periodic:
            rows, cols = rows % height, cols % width
        else:
            rows, cols = rows[(rows >= 0) & (rows < height)], cols[(cols >= 0) & (cols < width)]
        near[rows[:, None], cols] = True
    differs = (repaired.image != repaired.unrepaired)[0, 0]
    assert differs.any()
    assert not near.all()
    assert not (differs & ~near).any()


def test_same_seed_same_bits(
    generator: Generator, reference: Reference, periodic: bool, repaired: Repaired
) -> None:
    again = sample_and_repair(generator, 0, 0, Domain(SIZE_PX, periodic), reference, CONFIG)
    assert torch.equal(again.image, repaired.image)
    assert torch.equal(again.latent, repaired.latent)


def test_statistics_before_and_after(repaired: Repaired, reference: Reference) -> None:
    before, after = before_and_after([repaired], reference)
    assert before.valid_fraction == repaired.before.valid_fraction
    assert after.valid_fraction == repaired.after.valid_fraction
    assert after.two_point[0] == pytest.approx(after.volume_fraction)
    unchanged, _ = before_and_after([replace(repaired, image=repaired.unrepaired)], reference)
    assert unchanged.discs == before.discs


def test_proposals_stay_normal() -> None:
    rng = np.random.default_rng(0)
    latent = torch.from_numpy(rng.standard_normal((20_000, 3, 3)))
    first, angle = latent, blend_angles(3, 60)
    for _ in range(50):
        latent = propose(latent, angle, 1, rng)[0]
    assert latent.mean(dim=0).numpy() == pytest.approx(np.zeros((3, 3)), abs=0.03)
    assert latent.var(dim=0).numpy() == pytest.approx(np.ones((3, 3)), abs=0.05)
    kept = (first * latent).mean(dim=0).numpy()
    assert kept == pytest.approx(np.cos(angle) ** 50, abs=0.03)


def test_the_angle_falls_to_the_border_of_a_patch() -> None:
    angle = np.degrees(blend_angles(5, 90))
    assert angle[2, 2] == pytest.approx(90)
    assert np.array_equal(angle, angle.T)
    assert np.all(np.diff(angle[2, 2:]) < 0)
    assert angle[2, 4] == pytest.approx(90 * np.cos(np.pi / 2 * 2 / 3) ** 2)
    latent = torch.zeros(2, 5, 5)
    unchanged = propose(latent, np.zeros((5, 5)), 3, np.random.default_rng(0))
    assert torch.equal(unchanged, latent.expand(3, 2, 5, 5))


def test_discs_of_the_whole_image_must_not_overlap() -> None:
    limits = {"overlap": (None, 0.3), "high_confidence_overlap": (None, 0.1)}
    one_sixth_clear = [(10, 10, 6, 0.9), (10, 20, 6, 0.9)]
    half_across_the_border = [(50, 2, 6, 0.9), (50, 124, 6, 0.5)]
    quarter_not_clear = [(80, 60, 6, 0.5), (80, 69, 6, 0.5)]
    circles = Circles.from_table(np.array(one_sixth_clear + half_across_the_border + quarter_not_clear))
    assert overlapping(circles, limits, Domain((96, 128), periodic=True)).tolist() == [[0, 1], [2, 3]]
    assert overlapping(circles, limits, Domain((96, 128))).tolist() == [[0, 1]]
    assert overlapping(circles, {}, Domain((96, 128), periodic=True)).tolist() == []


def test_repair_limits_overlaps_of_all_discs_as_those_of_high_confidence() -> None:
    reference = _reference({"overlap": (None, 0.4), "high_confidence_overlap": (None, 0.2)})
    assert with_high_confidence_limit(reference).limits["overlap"] == (None, 0.2)
    assert with_high_confidence_limit(_reference({"overlap": (None, 0.4)})).limits["overlap"] == (None, 0.4)
