"""Confidence intervals against published values."""

from microgan.statistics.intervals import wilson_interval


def test_interval_of_a_fraction() -> None:
    # Newcombe, Stat. Med. 17 (1998) 857, table I, method 3: 81 of 263
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 0) == (0, 1)
    narrow = wilson_interval(81, 263, confidence=0.9)
    assert low < narrow[0] < 81 / 263 < narrow[1] < high
    assert wilson_interval(100, 100)[1] == 1 and wilson_interval(0, 100)[0] == 0
