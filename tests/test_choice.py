from dataclasses import replace

import numpy as np
import pytest
import torch

from microgan.choice import Choice
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
    judge = replace(judge, two_point_floor=0.0)
    real = windows.draw(np.random.default_rng(1), 100)
    found = judge(real)
    assert found["pass_rate_ratio"] > 0.8 and found["two_point_error"] < 0.05
    assert found["score"] == pytest.approx(min(found["pass_rate_ratio"], 1) - found["two_point_error"])
    share = found["pass_rate_ratio"] * judge.pass_rate
    assert found["score_error"] == pytest.approx((share * (1 - share) / 100) ** 0.5 / judge.pass_rate)
    assert replace(judge, two_point_floor=1.0)(real)["score"] == min(found["pass_rate_ratio"], 1)
    for worse in (torch.full_like(real, -0.5), torch.randn_like(real), -real):
        assert judge(worse)["score"] < found["score"] - 0.3
