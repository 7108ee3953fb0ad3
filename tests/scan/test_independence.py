"""Planes of different parts that show the same fibres are told."""

from pathlib import Path

import numpy as np
import pytest

from microgan.scan.independence import dependent_parts
from tests.helpers import disc_planes
from tests.scan.test_planes import SHAPE, ingest_array, noise


def test_neighbouring_planes_in_different_parts_are_told_with_their_correlation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack = noise().astype(np.float32)
    new = noise(SHAPE[1:], seed=9).astype(np.float32)
    stack[5] = 0.6 * stack[4] + 0.8 * new - 0.4 * new.mean()  # correlates by 0.6 with training plane 4
    planes = ingest_array(tmp_path, stack, split={"held_out": [5], "calibration": [3]})
    (dependence,) = dependent_parts(planes)
    assert (dependence.planes, dependence.roles) == ((4, 5), ("train", "held_out"))
    assert dependence.correlation == pytest.approx(0.6, abs=0.05)
    (line,) = caplog.messages
    assert "split of drawn: planes 4 (train) and 5 (held_out): grey values correlate by 0.6" in line


def test_independent_planes_and_bands_of_rows_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disc_planes(tmp_path / "discs")
    same = np.repeat(noise((1, *SHAPE[1:])), 3, axis=0)
    ingest_array(tmp_path / "bands", same, split={"held_out": 0.2, "calibration": 0.2, "margin_px": 2})
    assert not caplog.messages
