"""What is told of rules that protect from little, and when they are refused."""

import numpy as np
import pytest

from microgan.core.errors import UserError
from microgan.statistics.intervals import wilson_interval
from microgan.validity.reference import DetectionRate
from microgan.validity.usefulness import NO_MICROSTRUCTURE, all_doubts, protection_doubts, radius_doubts


def rates(**rejected: int) -> dict[str, DetectionRate]:
    """Of 100 images each, how many are rejected."""
    return {
        name: DetectionRate(rate=count / 100, count=100, interval=wilson_interval(count, 100, confidence=0.9))
        for name, count in rejected.items()
    }


def radii(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 1000)


LOWER = "radius_px: 40 % of the discs are at the band's lower end, 4: smaller ones are missed: try [2, 8]"
UPPER = "radius_px: 40 % of the discs are at the band's upper end, 8: larger ones are missed: try [4, 10]"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (radii(4.6, 7.4), None),
        (np.r_[radii(4.6, 7.4), [4.0, 8.0] * 20], None),  # 2 %
        (
            radii(3.5, 6),
            LOWER,
        ),
        (
            radii(6, 8.5),
            UPPER,
        ),
        (np.zeros(0), None),
        (np.random.default_rng(0).normal(5.2, 0.6, 2000).clip(3.5), None),  # 12 % below 4.5, as on carbon
        (np.random.default_rng(0).normal(4.2, 0.6, 2000).clip(3.5), LOWER.replace("40 %", "70 %")),
    ],
)
def test_radii_at_an_end_of_the_band_are_told(found: np.ndarray, words: str | None) -> None:
    doubts = radius_doubts(found, (4, 8))
    assert doubts == ([] if words is None else [words])


def test_the_proposed_band_begins_at_one_pixel_at_least() -> None:
    (doubt,) = radius_doubts(np.full(10, 1.6), (1.5, 5))
    assert doubt.endswith("try [1, 5]")


def test_faults_that_are_not_filtered_out_are_told() -> None:
    assert not protection_doubts(rates(overlap_15_to_20=60, blank=100), 0.9)
    (doubt,) = protection_doubts(rates(overlap_15_to_20=14, ellipse=60, merged_pair=9, blank=100), 0.9)
    assert "than real windows (10 %)" in doubt
    assert "overlap_15_to_20 14 %" in doubt and "merged_pair 9 %" in doubt and "ellipse" not in doubt


def test_rules_that_let_no_microstructure_pass_are_refused() -> None:
    half = dict.fromkeys(NO_MICROSTRUCTURE, 45)
    with pytest.raises(UserError, match=r"calibrate: 45 % of blank, .* must be at least 50 %"):
        protection_doubts(rates(**half), 0.95)
    assert not protection_doubts(rates(**half | {"blank": 100, "noise": 100}), 0.95)


def test_all_doubts_are_together() -> None:
    by_window = [radii(3.5, 6), np.zeros(0), radii(3.5, 6)]
    assert len(all_doubts(by_window, (4, 8), rates(overlap_15_to_20=5, blank=99), 0.95)) == 2
    assert len(all_doubts(by_window, (4, 8), rates(overlap_15_to_20=5, blank=99), None)) == 1
