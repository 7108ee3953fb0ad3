from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from microgan.gan.checkpoint_selection import DETAILS, CheckpointScore, Texture, details, selected
from microgan.scan.windows import Windows
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.own_rules import OwnRule
from microgan.validity.phase import phase_image
from tests.helpers import disc_planes


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> tuple[CheckpointScore, Windows]:
    planes = disc_planes(tmp_path_factory.mktemp("scorer"))
    own = {"mine": OwnRule(function="nowhere.to_be_found")}
    reference = calibrate(planes, 64, CalibrationConfig(windows=200, bootstrap=0))
    reference = reference.model_copy(update={"own": own, "limits": {**reference.limits, "mine": (0.0, None)}})
    return CheckpointScore.on(planes, reference, seed=0), Windows(planes, "calibration", 64)


def test_real_windows_score_high_and_others_lower(scorer: tuple[CheckpointScore, Windows]) -> None:
    score, windows = scorer
    assert 0 < score.two_point_floor < 0.2  # of three small planes
    assert 0 < score.texture_floor < 0.5
    assert 0.8 < score.attainable <= 1
    score = replace(score, two_point_floor=0.0, texture_floor=0.0)
    real = windows.draw(np.random.default_rng(1), 100)
    figures = score(real)
    assert figures["calibration_pass_rate_ratio"] > 0.8 and figures["two_point_error"] < 0.05
    off = figures["two_point_error"] + figures["texture_error"]
    assert figures["score"] == pytest.approx(
        min(figures["calibration_pass_rate_ratio"], score.attainable) - off
    )
    fraction = figures["calibration_pass_rate_ratio"] * score.pass_rate
    assert figures["score_error"] == pytest.approx((fraction * (1 - fraction) / 100) ** 0.5 / score.pass_rate)
    lenient = replace(score, two_point_floor=1.0, texture_floor=1.0)
    assert lenient(real)["score"] == min(figures["calibration_pass_rate_ratio"], score.attainable)
    modest = replace(lenient, attainable=0.5)
    assert modest(real)["score"] == 0.5
    for worse in (torch.full_like(real, -0.5), torch.randn_like(real), -real):
        assert score(worse)["score"] < figures["score"] - 0.3


def test_cartoons_score_lower(scorer: tuple[CheckpointScore, Windows]) -> None:
    """Discs of one grey with sharp edges may break no rule; they are not what the scan shows."""
    score, windows = scorer
    real = windows.draw(np.random.default_rng(1), 100)
    phase = phase_image(real, score.reference)[:, None]
    noise = torch.from_numpy(np.random.default_rng(2).standard_normal(real.shape, dtype=np.float32))
    flat = torch.where(phase, real[phase].mean(), real[~phase].mean())
    of_real, of_cartoon = score(real), score(flat + 0.5 * real[~phase].std() * noise)
    assert of_cartoon["texture_error"] > of_real["texture_error"] + 0.1
    assert of_cartoon["score"] < of_real["score"] - 0.1


def test_discs_without_noise_score_lower(scorer: tuple[CheckpointScore, Windows]) -> None:
    score, windows = scorer
    real = windows.draw(np.random.default_rng(1), 100)
    smooth = torch.from_numpy(gaussian_filter(real.numpy(), (0, 0, 0.7, 0.7)))
    of_smooth, of_real = score(smooth), score(real)
    assert of_smooth["texture_error"] > of_real["texture_error"] + 0.2
    assert of_smooth["score"] < of_real["score"] - 0.1


def test_texture_counts_in_standard_deviations(scorer: tuple[CheckpointScore, Windows]) -> None:
    _, windows = scorer
    images = windows.draw(np.random.default_rng(1), 100)
    real = Texture.of(images)
    assert real.error(real) == 0
    brighter = Texture.of(images + 0.5 * float(images.std()))
    assert brighter.error(real) == pytest.approx(0.5, abs=1e-4)  # which leaves the details as they are


def test_the_last_checkpoint_within_a_standard_error_of_the_best_is_selected() -> None:
    """As many times as there are ways for the best to come early or late; errors differ among checkpoints."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [
            {"score": score, "score_error": error}
            for score, error in rng.uniform((0, 0.01), (1, 0.3), (6, 2))
        ]
        best = max(row["score"] for row in rows)
        assert selected(rows) is [row for row in rows if best - row["score"] < row["score_error"]][-1]
        without = [{"score": round(row["score"], 1)} for row in rows]
        assert selected(without) is max(without, key=lambda row: row["score"])  # the first of equal ones
    assert selected([]) == {}


def test_details_are_of_one_size_each() -> None:
    assert all(not detail.any() for detail in details(torch.full((2, 1, 64, 64), 0.3)))
    row = torch.arange(64)
    board = ((row[:, None] + row) % 2 * 2.0 - 1)[None, None]
    fine, *coarser = details(board)
    assert torch.equal(fine, board) and not any(detail.any() for detail in coarser)
    assert [detail.shape[-1] for detail in details(board)] == [64 // 2**level for level in range(DETAILS)]
