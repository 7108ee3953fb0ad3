from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from microgan.gan.checkpoint_selection import DETAILS, CheckpointScore, Texture, details
from microgan.scan.windows import Windows
from microgan.validity.calibration import calibrate
from microgan.validity.judging import phase_image
from microgan.validity.own_rules import OwnRule
from microgan.validity.reference import CalibrationConfig
from tests.helpers import disc_planes


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> tuple[CheckpointScore, Windows]:
    planes = disc_planes(tmp_path_factory.mktemp("choice"))
    own = {"mine": OwnRule(function="nowhere.to_be_found")}
    reference = calibrate(planes, 64, CalibrationConfig(windows=200, bootstrap=0))
    reference = reference.model_copy(update={"own": own, "limits": {**reference.limits, "mine": (0.0, None)}})
    return CheckpointScore.on(planes, reference, seed=0), Windows(planes, "calibration", 64)


def test_real_windows_score_high_and_others_lower(choice: tuple[CheckpointScore, Windows]) -> None:
    judge, windows = choice
    assert 0 < judge.two_point_floor < 0.2  # of three small planes
    assert 0 < judge.texture_floor < 0.5
    assert 0.8 < judge.attainable <= 1
    judge = replace(judge, two_point_floor=0.0, texture_floor=0.0)
    real = windows.draw(np.random.default_rng(1), 100)
    found = judge(real)
    assert found["pass_rate_ratio"] > 0.8 and found["two_point_error"] < 0.05
    off = found["two_point_error"] + found["texture_error"]
    assert found["score"] == pytest.approx(min(found["pass_rate_ratio"], judge.attainable) - off)
    fraction = found["pass_rate_ratio"] * judge.pass_rate
    assert found["score_error"] == pytest.approx((fraction * (1 - fraction) / 100) ** 0.5 / judge.pass_rate)
    lenient = replace(judge, two_point_floor=1.0, texture_floor=1.0)
    assert lenient(real)["score"] == min(found["pass_rate_ratio"], judge.attainable)
    modest = replace(lenient, attainable=0.5)
    assert modest(real)["score"] == 0.5
    for worse in (torch.full_like(real, -0.5), torch.randn_like(real), -real):
        assert judge(worse)["score"] < found["score"] - 0.3


def test_cartoons_score_lower(choice: tuple[CheckpointScore, Windows]) -> None:
    """Discs of one grey with sharp rims may break no rule; they are not what the scan shows."""
    judge, windows = choice
    real = windows.draw(np.random.default_rng(1), 100)
    phase = phase_image(real, judge.reference)[:, None]
    grain = torch.from_numpy(np.random.default_rng(2).standard_normal(real.shape, dtype=np.float32))
    flat = torch.where(phase, real[phase].mean(), real[~phase].mean())
    found, of_cartoon = judge(real), judge(flat + 0.5 * real[~phase].std() * grain)
    assert of_cartoon["texture_error"] > found["texture_error"] + 0.1
    assert of_cartoon["score"] < found["score"] - 0.1


def test_discs_without_grain_score_lower(choice: tuple[CheckpointScore, Windows]) -> None:
    judge, windows = choice
    real = windows.draw(np.random.default_rng(1), 100)
    smooth = torch.from_numpy(gaussian_filter(real.numpy(), (0, 0, 0.7, 0.7)))
    found, of_real = judge(smooth), judge(real)
    assert found["texture_error"] > of_real["texture_error"] + 0.2
    assert found["score"] < of_real["score"] - 0.1


def test_texture_counts_in_standard_deviations(choice: tuple[CheckpointScore, Windows]) -> None:
    _, windows = choice
    images = windows.draw(np.random.default_rng(1), 100)
    real = Texture.of(images)
    assert real.error(real) == 0
    brighter = Texture.of(images + 0.5 * float(images.std()))
    assert brighter.error(real) == pytest.approx(0.5, abs=1e-4)  # which leaves the details as they are


def test_details_are_of_one_size_each() -> None:
    assert all(not detail.any() for detail in details(torch.full((2, 1, 64, 64), 0.3)))
    row = torch.arange(64)
    board = ((row[:, None] + row) % 2 * 2.0 - 1)[None, None]
    fine, *coarser = details(board)
    assert torch.equal(fine, board) and not any(detail.any() for detail in coarser)
    assert [detail.shape[-1] for detail in details(board)] == [64 // 2**level for level in range(DETAILS)]
