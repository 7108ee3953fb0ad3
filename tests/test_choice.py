from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from microgan.choice import Choice, power_spectrum
from microgan.validity import CalibrationConfig, OwnRule, calibrate
from microgan.windows import Windows
from tests.helpers import disc_planes


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Choice, Windows]:
    planes = disc_planes(tmp_path_factory.mktemp("choice"))
    own = {"mine": OwnRule(function="nowhere.to_be_found")}
    reference = calibrate(planes, 64, CalibrationConfig(windows=200, bootstrap=0))
    reference = reference.model_copy(update={"own": own, "limits": {**reference.limits, "mine": (0.0, None)}})
    return Choice.on(planes, reference, seed=0), Windows(planes, "calibration", 64)


def test_real_windows_score_high_and_others_lower(choice: tuple[Choice, Windows]) -> None:
    judge, windows = choice
    assert 0 < judge.two_point_floor < 0.2  # of three small planes
    assert 0 < judge.spectrum_floor < 0.5
    assert 0 < judge.grey_floor < 0.2
    assert 0.8 < judge.attainable <= 1
    judge = replace(judge, grey_floor=0.0, two_point_floor=0.0, spectrum_floor=0.0)
    real = windows.draw(np.random.default_rng(1), 100)
    found = judge(real)
    assert found["pass_rate_ratio"] > 0.8 and found["two_point_error"] < 0.05
    off = found["grey_error"] + found["two_point_error"] + found["spectrum_error"]
    assert found["score"] == pytest.approx(min(found["pass_rate_ratio"], judge.attainable) - off)
    share = found["pass_rate_ratio"] * judge.pass_rate
    assert found["score_error"] == pytest.approx((share * (1 - share) / 100) ** 0.5 / judge.pass_rate)
    lenient = replace(judge, grey_floor=1.0, two_point_floor=1.0, spectrum_floor=1.0)
    assert lenient(real)["score"] == min(found["pass_rate_ratio"], judge.attainable)
    modest = replace(lenient, attainable=0.5)
    assert modest(real)["score"] == 0.5
    for worse in (torch.full_like(real, -0.5), torch.randn_like(real), -real):
        assert judge(worse)["score"] < found["score"] - 0.3


def test_discs_without_grain_score_lower(choice: tuple[Choice, Windows]) -> None:
    """They may break no rule; they are not what the scan shows."""
    judge, windows = choice
    real = windows.draw(np.random.default_rng(1), 100)
    smooth = torch.from_numpy(gaussian_filter(real.numpy(), (0, 0, 0.7, 0.7)))
    found, of_real = judge(smooth), judge(real)
    assert found["spectrum_error"] > of_real["spectrum_error"] + 0.3
    assert found["score"] < of_real["score"]


def test_grey_values_are_compared_in_standard_deviations(choice: tuple[Choice, Windows]) -> None:
    judge, windows = choice
    real = windows.draw(np.random.default_rng(1), 100)
    found, brighter = judge(real), judge(real + 0.5 * judge.spread)
    assert found["grey_error"] < 0.1
    assert brighter["grey_error"] == pytest.approx(0.5, abs=0.1)


def test_power_spectrum_is_in_the_ring_of_a_wave() -> None:
    row = torch.arange(64.0)[:, None].expand(64, 64)
    power = power_spectrum((0.3 + torch.cos(2 * torch.pi * 8 * row / 64))[None, None])
    assert power.shape == (32,)
    assert power.argmax() == 7  # 8 periods a side; the first ring is of one
    assert power[9:].sum() < 1e-4 * power[7]
