"""Comparison with the noise floor, on sets whose differences are planted."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from microgan import fidelity
from microgan.errors import UserError
from microgan.estimates import Distribution
from microgan.fidelity import (
    DESCRIPTORS,
    Description,
    FidelityConfig,
    band_between,
    compare,
    correlation_length,
    curves,
    describe,
    errors,
    floor_between,
)

SIZE_PX = 48


@dataclass(frozen=True)
class Discs:
    row: np.ndarray
    col: np.ndarray
    radius: np.ndarray


def window(rng: np.random.Generator, scale: float = 1.0) -> tuple[np.ndarray, Discs]:
    """A shaken lattice of discs, seen through a window; ``scale`` enlarges the discs, not their distances."""
    lattice = np.stack(np.mgrid[-12:61:12, -12:61:12], axis=-1).reshape(-1, 2)
    row, col = (lattice + rng.uniform(0, 12, 2) + rng.normal(0, 0.8, lattice.shape)).T
    radius = scale * rng.normal(4.5, 0.3, len(row))
    rows, cols = np.mgrid[:SIZE_PX, :SIZE_PX]
    phase = (np.hypot(rows[..., None] - row, cols[..., None] - col) <= radius).any(axis=-1)
    return phase, Discs(row, col, radius)


def real(seed: int, count: int, scale: float = 1.0) -> Description:
    rng = np.random.default_rng(seed)
    phases, circles = zip(*(window(rng, scale) for _ in range(count)), strict=True)
    return describe(np.stack(phases), circles, margin_px=6)


def blank(count: int) -> Description:
    nothing = Discs(*(np.empty(0),) * 3)
    return describe(np.zeros((count, SIZE_PX, SIZE_PX), bool), [nothing] * count, margin_px=6)


@pytest.fixture(scope="module")
def held_out() -> Description:
    return real(0, 120)


@pytest.fixture(scope="module")
def floor() -> dict[str, float]:
    return floor_between(real(1, 240), real(2, 240), count=120, repeats=40, seed=0)


def test_a_set_has_no_error_against_itself(held_out: Description) -> None:
    assert errors(held_out, held_out) == dict.fromkeys(DESCRIPTORS, 0.0)


def test_another_real_set_is_at_the_floor(held_out: Description, floor: dict[str, float]) -> None:
    table = compare(real(3, 120), held_out, floor)
    assert set(table) == set(DESCRIPTORS)
    for name, row in table.items():
        assert row["ratio"] == pytest.approx(row["error"] / row["floor"])
        assert row["ratio"] < 4, name
    mean_radius = table["radius"]["value"]
    assert mean_radius == pytest.approx(4.5, rel=0.02)


def test_larger_discs_are_told_by_all_that_depends_on_size(
    held_out: Description, floor: dict[str, float]
) -> None:
    table = compare(real(4, 120, scale=1.05), held_out, floor)
    assert table["radius"]["error"] == pytest.approx(0.05, abs=0.008)
    assert table["volume_fraction"]["error"] == pytest.approx(1.05**2 - 1, abs=0.02)
    for name in ("radius", "volume_fraction", "two_point_correlation"):
        assert table[name]["ratio"] > 5, name
    assert table["nearest_neighbour_distance"]["ratio"] < 4  # the centres are as before


def test_error_of_a_scaled_distribution_is_the_scale() -> None:
    marks = [
        Distribution(scale * np.linspace(4, 6, 50), np.ones(50), np.zeros(50, int)) for scale in (1, 1.1)
    ]
    base, larger = (Description(np.ones(1), np.ones((1, 1)), np.zeros(1), mark, mark) for mark in marks)
    found = errors(larger, base)
    assert found["radius"] == pytest.approx(0.1)
    assert found["nearest_neighbour_distance"] == pytest.approx(0.1)


def test_error_of_weighted_values_is_that_of_repeated_ones() -> None:
    weighted = Distribution(np.array([4.0, 6.0]), np.array([3.0, 1.0]), np.zeros(2, int))
    constant = Distribution(np.array([4.0]), np.array([7.0]), np.zeros(1, int))
    one, other = (
        Description(np.ones(1), np.ones((1, 1)), np.zeros(1), mark, mark) for mark in (weighted, constant)
    )
    assert errors(one, other)["radius"] == pytest.approx(2 * 0.25 / 4)


def test_error_of_curves_is_the_relative_norm() -> None:
    curve = np.linspace(0.5, 0.25, 8)[None]
    base, higher = (replace(blank(1), two_point_correlation=scale * curve) for scale in (1, 1.02))
    assert errors(higher, base)["two_point_correlation"] == pytest.approx(0.02)


def test_floor_is_the_error_to_be_expected_of_sets_of_that_size() -> None:
    # Mean |difference| of two means of n normal values: s sqrt(2 / n) sqrt(2 / pi). A bootstrap of the pools
    # with putting back would give sqrt(1.5) of it.
    count, spread = 100, 0.05
    rng = np.random.default_rng(5)
    floors = []
    for repeat in range(200):
        pools = (_of_fractions(rng.normal(0.5, spread, 2 * count)) for _ in range(2))
        floors.append(floor_between(*pools, count=count, repeats=8, seed=repeat)["volume_fraction"])
    expected = spread * np.sqrt(2 / count) * np.sqrt(2 / np.pi) / 0.5
    assert np.mean(floors) == pytest.approx(expected, rel=0.08)


def test_floor_is_the_same_for_the_same_seed() -> None:
    one, other = real(6, 20), real(7, 20)
    first = floor_between(one, other, 10, 3, seed=1)
    assert floor_between(one, other, 10, 3, seed=1) == first
    assert floor_between(one, other, 10, 3, seed=2) != first


def test_floor_needs_enough_windows() -> None:
    with pytest.raises(UserError, match="count: 30: must be at most the number of images, 20"):
        floor_between(real(6, 20), real(7, 20), 30, 1, seed=0)


def test_band_covers_another_real_set() -> None:
    band = band_between(real(8, 120), real(9, 120), 60, 40, seed=0)
    gap = np.abs(
        real(10, 60).two_point_correlation.mean(axis=0) - real(11, 60).two_point_correlation.mean(axis=0)
    )
    assert np.mean(gap <= band) > 0.8
    assert np.mean(gap <= band / 10) < 0.8


@pytest.mark.parametrize("count", [0, 5])
def test_samples_without_circles_have_no_figures_rather_than_wrong_ones(
    held_out: Description, floor: dict[str, float], count: int
) -> None:
    samples = blank(5).take(np.arange(count))
    table = compare(samples, held_out, floor)
    for name in ("radius", "nearest_neighbour_distance"):
        assert table[name]["value"] is table[name]["error"] is table[name]["ratio"] is None
        assert table[name]["reference"] is not None
    assert table["volume_fraction"]["error"] == (1.0 if count else None)
    json.dumps([table, curves({"held_out": held_out, "before": samples}, np.zeros(25))], allow_nan=False)


def test_descriptor_without_floor_has_no_ratio(held_out: Description) -> None:
    row = compare(held_out, held_out, {})["radius"]
    assert row["error"] == 0
    assert row["floor"] is row["ratio"] is None


def test_curves_are_rows_with_densities(held_out: Description) -> None:
    table = curves({"held_out": held_out, "before": real(3, 20)}, np.full(25, 0.01))
    first = table["two_point_correlation"][0]
    assert first["lag_px"] == 0
    assert first["held_out"] == pytest.approx(held_out.volume_fraction.mean())
    assert first["floor"] == 0.01
    for name, axis in (("radius", "radius_px"), ("nearest_neighbour_distance", "distance_px")):
        step = table[name][1][axis] - table[name][0][axis]
        assert sum(row["held_out"] for row in table[name]) * step == pytest.approx(1, abs=0.02)


def test_correlation_length_of_blank_images_is_unknown() -> None:
    assert np.isnan(correlation_length(np.arange(4.0), np.ones(4)))
    assert np.isnan(correlation_length(np.arange(4.0), np.full(4, 0.5)))


def test_margin_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="margin_px: 30: must be below half of the window, 24 px"):
        describe(np.ones((1, 48, 48), bool), [Discs(*(np.empty(0),) * 3)], margin_px=30)


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A scan whose windows, phase and circles are known exactly: a stand-in for reader and detector."""

    class Windows:
        def __init__(self, planes: Any, role: str, size_px: int) -> None:
            assert (planes, size_px) == ("planes", SIZE_PX)

        def draw(self, rng: np.random.Generator, count: int, augment: bool) -> torch.Tensor:
            drawn = [window(rng) for _ in range(count)]
            images = torch.from_numpy(np.stack([phase for phase, _ in drawn])[:, None] * 2.0 - 1)
            known.update(
                {image.numpy().tobytes(): discs for image, (_, discs) in zip(images, drawn, strict=True)}
            )
            return images

    known: dict[bytes, Discs] = {}
    monkeypatch.setattr(fidelity, "Windows", Windows)
    monkeypatch.setattr(
        fidelity, "detect_all", lambda images, *_: [known[image.numpy().tobytes()] for image in images]
    )
    monkeypatch.setattr(fidelity, "phase_image", lambda images, _: images > 0)
    reference = SimpleNamespace(
        window_px=SIZE_PX, radius_px=(3.0, 6.0), polarity="bright", detector=None, noise_floor={}
    )
    return SimpleNamespace(planes="planes", reference=reference)


def test_evaluate_compares_before_and_after_filtering(scan: SimpleNamespace) -> None:
    config = FidelityConfig(windows=40, floor_repeats=10)
    good, bad = real(20, 50), real(21, 50, scale=1.2)
    samples = Description(
        *(np.concatenate(pair) for pair in zip(_arrays(bad), _arrays(good), strict=True)),
        good.lags_px,
        _behind(bad.radius, good.radius, 50),
        _behind(bad.nearest_neighbour_distance, good.nearest_neighbour_distance, 50),
    )
    valid = np.arange(100) >= 50
    found = fidelity.evaluate(samples, valid, scan.planes, scan.reference, config)
    assert found.metrics["n"] == {
        "held_out": 40, "training_windows": 40, "before": 40, "after": 40, "floor": 40
    }  # fmt: skip
    assert found.metrics["before"]["radius"]["error"] == pytest.approx(0.2, abs=0.03)
    assert found.metrics["after"]["radius"]["error"] < 0.02
    assert found.metrics["training_windows"]["radius"]["ratio"] < 4
    assert set(found.curves["radius"][0]) == {"radius_px", "held_out", "training_windows", "before", "after"}
    again = fidelity.evaluate(samples, valid, scan.planes, scan.reference, config)
    assert again == found
    json.dumps([found.metrics, found.curves], allow_nan=False)


def test_evaluate_uses_the_frozen_floor(scan: SimpleNamespace) -> None:
    scan.reference.noise_floor = dict.fromkeys(DESCRIPTORS, 0.5)
    config = FidelityConfig(windows=20, floor_repeats=3)
    found = fidelity.evaluate(real(20, 20), np.ones(20, bool), scan.planes, scan.reference, config)
    assert found.metrics["before"]["radius"]["floor"] == 0.5


def test_verdicts_must_fit_the_samples(scan: SimpleNamespace) -> None:
    with pytest.raises(UserError, match="verdicts: 3: must be as many as samples, 20"):
        fidelity.evaluate(real(20, 20), np.ones(3, bool), scan.planes, scan.reference, FidelityConfig())


def _of_fractions(fractions: np.ndarray) -> Description:
    marks = Distribution(np.full(len(fractions), 5.0), np.ones(len(fractions)), np.arange(len(fractions)))
    return Description(fractions, fractions[:, None], np.zeros(1), marks, marks)


def _arrays(described: Description) -> tuple[np.ndarray, np.ndarray]:
    return described.volume_fraction, described.two_point_correlation


def _behind(one: Distribution, other: Distribution, images: int) -> Distribution:
    return Distribution(
        np.concatenate([one.values, other.values]),
        np.concatenate([one.weights, other.weights]),
        np.concatenate([one.image, other.image + images]),
    )
