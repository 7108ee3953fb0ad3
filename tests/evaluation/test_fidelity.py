"""Comparison with the noise floor, on sets whose differences are planted."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from microgan.core.errors import UserError
from microgan.evaluation import real_statistics
from microgan.evaluation.descriptors import (
    DESCRIPTORS,
    DescriptorValues,
    compute_descriptors,
    correlation_length,
)
from microgan.evaluation.fidelity import (
    HEADLINE,
    compare,
    curves,
    evaluate,
    fidelity_headline,
    property_bounds,
)
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.real_statistics import (
    FidelityConfig,
    MeasuredImages,
    RealStatistics,
    errors,
    noise_floor_between,
)
from microgan.statistics.estimators import Curve, Distribution

SIZE_PX = 48
CONFIG = FidelityConfig(windows=40, floor_repeats=10, resamples=99)
SOLVED = PropertiesConfig(count=4)
PROPERTIES = {"stiffness", "shear_stiffness", "conductivity"}


@dataclass(frozen=True)
class Discs:
    row: np.ndarray
    col: np.ndarray
    radius_px: np.ndarray


def window(rng: np.random.Generator, scale: float = 1.0) -> tuple[np.ndarray, Discs]:
    """A shaken lattice of discs, cut by a window; ``scale`` enlarges the discs, not their distances."""
    lattice = np.stack(np.mgrid[-12:61:12, -12:61:12], axis=-1).reshape(-1, 2)
    row, col = (lattice + rng.uniform(0, 12, 2) + rng.normal(0, 0.8, lattice.shape)).T
    radius = scale * rng.normal(4.5, 0.3, len(row))
    rows, cols = np.mgrid[:SIZE_PX, :SIZE_PX]
    phase = (np.hypot(rows[..., None] - row, cols[..., None] - col) <= radius).any(axis=-1)
    return phase, Discs(row, col, radius)


def real(seed: int, count: int, scale: float = 1.0) -> DescriptorValues:
    rng = np.random.default_rng(seed)
    phases, circles = zip(*(window(rng, scale) for _ in range(count)), strict=True)
    return compute_descriptors(np.stack(phases), circles, largest_radius_px=6)


def blank(count: int) -> DescriptorValues:
    nothing = Discs(*(np.empty(0),) * 3)
    return compute_descriptors(
        np.zeros((count, SIZE_PX, SIZE_PX), bool), [nothing] * count, largest_radius_px=6
    )


def unsolved(structure: DescriptorValues) -> MeasuredImages:
    return MeasuredImages(structure, DescriptorValues({}, {}, np.arange(0)))


def table_of(
    samples: DescriptorValues, held_out: DescriptorValues, floor: dict[str, float]
) -> dict[str, Any]:
    return compare(unsolved(samples), unsolved(held_out), floor, CONFIG).table


def radii(values: Any, weights: Any = None) -> DescriptorValues:
    """Descriptors of one image, radii alone."""
    values = np.asarray(values, float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    return DescriptorValues(
        {}, {"radius": Distribution(values, weights, np.zeros(len(values), int))}, np.zeros(1)
    )


def fractions(values: np.ndarray) -> DescriptorValues:
    curve = Curve(np.zeros(1), values[:, None], np.ones((len(values), 1)))
    return DescriptorValues({"volume_fraction": curve}, {}, np.arange(len(values)))


@pytest.fixture(scope="module")
def held_out() -> DescriptorValues:
    return real(0, 120)


@pytest.fixture(scope="module")
def floor() -> dict[str, float]:
    return noise_floor_between(real(1, 240), real(2, 240), count=120, repeats=20, seed=0)


def test_a_set_has_no_error_against_itself(held_out: DescriptorValues) -> None:
    assert set(held_out.names) == set(DESCRIPTORS) - PROPERTIES
    assert errors(held_out, held_out) == dict.fromkeys(held_out.names, 0.0)
    row = table_of(held_out, held_out, {})["radius"]
    assert row["p"] == 1 and row["difference"] == 0 and row["low"] < 0 < row["high"]


def test_another_real_set_is_at_the_floor(held_out: DescriptorValues, floor: dict[str, float]) -> None:
    table = table_of(real(3, 120), held_out, floor)
    assert set(table) == set(held_out.names)
    for name, row in table.items():
        assert row["ratio"] == pytest.approx(row["error"] / row["floor"])
        assert row["ratio"] < 4, name
        assert row["p"] >= 0.01, name
    assert table["radius"]["value"] == pytest.approx(4.5, rel=0.02)
    assert table["radius"]["equivalent"] and table["volume_fraction"]["equivalent"]


def test_larger_discs_show_in_all_that_depends_on_size(
    held_out: DescriptorValues, floor: dict[str, float]
) -> None:
    table = table_of(real(4, 120, scale=1.05), held_out, floor)
    assert table["radius"]["error"] == pytest.approx(0.05, abs=0.008)
    assert table["volume_fraction"]["error"] == pytest.approx(1.05**2 - 1, abs=0.02)
    for name in ("radius", "volume_fraction", "two_point_correlation"):
        assert table[name]["ratio"] > 5, name
        assert table[name]["p"] == 0.01, name  # the least that 99 resamples can give
    assert not table["radius"]["equivalent"] and table["radius"]["low"] > 0.02
    assert table["nearest_neighbour_distance"]["ratio"] < 4  # the centres are as before


def test_error_of_a_scaled_distribution_is_the_scale() -> None:
    values = np.linspace(4, 6, 50)
    assert errors(radii(1.1 * values), radii(values))["radius"] == pytest.approx(0.1)


def test_error_of_weighted_values_is_that_of_repeated_ones() -> None:
    weighted, constant = radii([4, 6], [3, 1]), radii([4], [7])
    assert errors(weighted, constant)["radius"] == pytest.approx(2 * 0.25 / 4)


def test_error_of_curves_is_the_relative_norm() -> None:
    lags, curve = np.arange(8), np.linspace(0.5, 0.25, 8)[None]
    base, higher = (
        DescriptorValues(
            {"two_point_correlation": Curve(lags, scale * curve, np.ones((1, 1)))},
            {},
            np.zeros(1),
        )
        for scale in (1, 1.02)
    )
    assert errors(higher, base)["two_point_correlation"] == pytest.approx(0.02)


def test_floor_is_the_error_to_be_expected_of_sets_of_that_size() -> None:
    # Mean |difference| of two means of n normal values: s sqrt(2 / n) sqrt(2 / pi). A bootstrap of the pools
    # with putting back would give sqrt(1.5) of it.
    count, spread = 100, 0.05
    rng = np.random.default_rng(5)
    floors = []
    for repeat in range(200):
        pools = (fractions(rng.normal(0.5, spread, 2 * count)) for _ in range(2))
        floors.append(noise_floor_between(*pools, count=count, repeats=8, seed=repeat)["volume_fraction"])
    expected = spread * np.sqrt(2 / count) * np.sqrt(2 / np.pi) / 0.5
    assert np.mean(floors) == pytest.approx(expected, rel=0.08)


def test_floor_is_the_same_for_the_same_seed() -> None:
    pair = real(6, 20), real(7, 20)
    first = noise_floor_between(*pair, 10, 3, seed=1)
    assert noise_floor_between(*pair, 10, 3, seed=1) == first
    assert noise_floor_between(*pair, 10, 3, seed=2) != first


def test_floor_needs_enough_windows() -> None:
    with pytest.raises(UserError, match="count: 30: must be at most the number of images, 20"):
        noise_floor_between(real(6, 20), real(7, 20), 30, 1, seed=0)


def test_the_envelope_covers_another_real_set() -> None:
    samples, reference = real(8, 60), real(9, 60)
    envelope = compare(unsolved(samples), unsolved(reference), {}, CONFIG).envelopes["two_point_correlation"]
    gap = np.abs(samples.summary()["volume_fraction"] - reference.summary()["volume_fraction"])
    assert gap <= envelope[0] < 0.05
    larger = real(10, 60, scale=1.1)
    gap = larger.curves["two_point_correlation"].mean() - reference.curves["two_point_correlation"].mean()
    assert np.any(np.abs(gap) > envelope)


@pytest.mark.parametrize("count", [0, 5])
def test_samples_without_circles_have_no_figures_rather_than_wrong_ones(
    held_out: DescriptorValues, floor: dict[str, float], count: int
) -> None:
    samples = blank(5).take(np.arange(count))
    table = table_of(samples, held_out, floor)
    for name in ("radius", "nearest_neighbour_distance", "local_volume_fraction"):
        assert table[name]["value"] is table[name]["error"] is table[name]["ratio"] is None
        assert table[name]["reference"] is not None
    assert table["volume_fraction"]["error"] == (1.0 if count else None)
    json.dumps([table, curves({"held_out": held_out, "before": samples}, {})], allow_nan=False)


def test_one_image_alone_is_not_tested(held_out: DescriptorValues) -> None:
    row = table_of(real(3, 1), held_out, {})["volume_fraction"]
    assert row["error"] is not None and "p" not in row and "equivalent" not in row


def test_descriptor_without_floor_has_no_ratio(held_out: DescriptorValues) -> None:
    row = table_of(held_out, held_out, {})["radius"]
    assert row["error"] == 0
    assert row["floor"] is row["ratio"] is None


def test_curves_are_rows_with_densities(held_out: DescriptorValues) -> None:
    envelopes = {"two_point_correlation": np.full(25, 0.01)}
    table = curves({"held_out": held_out, "before": real(3, 20)}, envelopes)
    first = table["two_point_correlation"][0]
    assert first["axis"] == 0
    assert first["held_out"] == pytest.approx(held_out.summary()["volume_fraction"])
    assert first["envelope"] == 0.01
    for name in ("radius", "nearest_neighbour_distance", "hexatic_order"):
        step = table[name][1]["axis"] - table[name][0]["axis"]
        assert sum(row["held_out"] for row in table[name]) * step == pytest.approx(1, abs=0.02)
    assert "volume_fraction" not in table  # a single number


def test_correlation_length_of_blank_images_is_unknown() -> None:
    assert np.isnan(correlation_length(np.arange(4.0), np.ones(4)))
    assert np.isnan(correlation_length(np.arange(4.0), np.full(4, 0.5)))


def test_margin_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="largest radius: 30: must be below half of the window, 24 px"):
        compute_descriptors(np.ones((1, 48, 48), bool), [Discs(*(np.empty(0),) * 3)], largest_radius_px=30)


@pytest.fixture(scope="module")
def scan() -> RealStatistics:
    """Real windows of a scan whose phase and circles are known: stand-ins for reader and detector."""

    class Windows:
        def __init__(self, planes: Any, role: str, size_px: int) -> None:
            assert (planes, size_px) == ("planes", SIZE_PX)

        def draw_in_blocks(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, np.ndarray]:
            pairs = [window(rng) for _ in range(count)]
            images = torch.from_numpy(np.stack([phase for phase, _ in pairs])[:, None] * 2.0 - 1)
            known.update(
                {image.numpy().tobytes(): discs for image, (_, discs) in zip(images, pairs, strict=True)}
            )
            return images, np.arange(count) // 2

    known: dict[bytes, Discs] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_statistics, "Windows", Windows)
        patch.setattr(
            real_statistics,
            "detect_all",
            lambda images, _: [known[image.numpy().tobytes()] for image in images],
        )
        patch.setattr(real_statistics, "phase_image", lambda images, _: images[:, 0] > 0)
        reference: Any = SimpleNamespace(
            window_px=SIZE_PX, radius_px=(3.0, 6.0), polarity="bright", detector=None
        )
        planes: Any = "planes"
        return RealStatistics.of(planes, reference, CONFIG, SOLVED)


def test_real_statistics_are_the_same_after_saving(scan: RealStatistics, tmp_path: Path) -> None:
    assert set(scan.floor) == set(DESCRIPTORS)
    assert np.unique(scan.held_out.structure.group).size == 20
    scan.save(tmp_path)
    again = RealStatistics.load(tmp_path)
    assert again.floor == scan.floor
    assert (
        compare(again.train, again.held_out, {}, CONFIG).table
        == compare(scan.train, scan.held_out, {}, CONFIG).table
    )
    (tmp_path / real_statistics.DESCRIPTIONS).write_bytes(b"cut")
    with pytest.raises(UserError, match="unusable: must be whole"):
        RealStatistics.load(tmp_path)


def measured(seed: int, sound: int, large: int) -> MeasuredImages:
    """Large discs first, then sound ones."""
    rng = np.random.default_rng(seed)
    pairs = [window(rng, 1.2) for _ in range(large)] + [window(rng) for _ in range(sound)]
    images = torch.from_numpy(np.stack([phase for phase, _ in pairs])[:, None] * 2.0 - 1)
    reference: Any = SimpleNamespace(
        radius_px=(3.0, 6.0), phase_threshold=0.0, scan=SimpleNamespace(polarity="bright")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_statistics, "phase_image", lambda images, _: images[:, 0] > 0)
        discs: Any = [discs for _, discs in pairs]
        return MeasuredImages.of(images, discs, reference, CONFIG, PropertiesConfig(count=54))


def test_evaluate_compares_before_and_after_filtering(scan: RealStatistics) -> None:
    samples, valid = measured(20, 50, 50), np.arange(100) >= 50
    fidelity = evaluate(samples, valid, scan, CONFIG, SOLVED)
    metrics = fidelity.metrics
    sizes = dict.fromkeys(("held_out", "training_windows", "before", "after", "floor"), 40)
    solved = {"held_out": 4, "training_windows": 4, "before": 40, "after": 4}
    assert metrics["n"] == {**sizes, "solved": solved}
    assert metrics["before"]["radius"]["error"] == pytest.approx(0.2, abs=0.03)
    assert metrics["after"]["radius"]["error"] < 0.02
    assert metrics["training_windows"]["radius"]["ratio"] < 4
    assert metrics["before"]["stiffness"]["value"] > 1.2 * metrics["after"]["stiffness"]["value"]
    assert metrics["shift"]["radius"] > 10
    assert set(fidelity.curves["radius"][0]) == {"axis", "held_out", "training_windows", "before", "after"}
    assert evaluate(samples, valid, scan, CONFIG, SOLVED) == fidelity
    json.dumps([metrics, fidelity.curves], allow_nan=False)


def test_properties_stand_beside_their_bounds(scan: RealStatistics) -> None:
    metrics = evaluate(measured(20, 50, 50), np.arange(100) >= 50, scan, CONFIG, SOLVED).metrics
    for name in ("held_out", "training_windows", "before", "after"):
        for descriptor in PROPERTIES:
            bounds = metrics["bounds"][name][descriptor]
            row = metrics["after" if name == "held_out" else name][descriptor]
            value = row["reference" if name == "held_out" else "value"]
            assert list(bounds) == ["reuss", "hashin_shtrikman_low", "hashin_shtrikman_high", "voigt"]
            low, inner_low, inner_high, high = bounds.values()
            assert low < inner_low < inner_high < high and low < value < high, (name, descriptor)
            # The arrangement is nearly a square lattice: its stiffness is not isotropic, its conductivity is.
            assert descriptor != "conductivity" or inner_low < value < inner_high, name
    assert metrics["bounds"]["before"]["volume_fraction"] > metrics["bounds"]["after"]["volume_fraction"]


def test_bounds_are_those_of_the_images_that_were_solved() -> None:
    images = measured(21, 4, 2)
    fractions = images.structure.curves["volume_fraction"].numerator[:, 0]
    two = MeasuredImages(images.structure, images.properties.take(np.arange(2)))  # the large discs
    bounds = property_bounds(two, SOLVED)
    assert bounds["volume_fraction"] == pytest.approx(fractions[:2].mean())
    glass, epoxy = SOLVED.discs, SOLVED.matrix
    stiff, soft = glass.stiffness_gpa[0, 0], epoxy.stiffness_gpa[0, 0]
    assert bounds["stiffness"]["voigt"] == pytest.approx(np.mean(fractions[:2] * (stiff - soft) + soft))
    series = 1 / (fractions[:2] / glass.shear_gpa + (1 - fractions[:2]) / epoxy.shear_gpa)
    assert bounds["shear_stiffness"]["reuss"] == pytest.approx(series.mean())
    # Maxwell's mixture of separate discs is the lower bound of the conductivity in the plane.
    ratio = (glass.conductivity_w_mk - epoxy.conductivity_w_mk) / (
        glass.conductivity_w_mk + epoxy.conductivity_w_mk
    )
    maxwell = epoxy.conductivity_w_mk * (1 + ratio * fractions[:2]) / (1 - ratio * fractions[:2])
    assert bounds["conductivity"]["hashin_shtrikman_low"] == pytest.approx(maxwell.mean())


def test_evaluate_with_no_valid_sample(scan: RealStatistics) -> None:
    fidelity = evaluate(measured(20, 5, 5), np.zeros(10, bool), scan, CONFIG, SOLVED)
    metrics = fidelity.metrics
    assert metrics["after"]["radius"]["error"] is None
    assert metrics["shift"]["stiffness"] is None
    assert metrics["bounds"]["after"]["volume_fraction"] is None
    assert set(metrics["bounds"]["after"]["stiffness"].values()) == {None}
    json.dumps([metrics, fidelity.curves], allow_nan=False)


def test_verdicts_must_fit_the_samples(scan: RealStatistics) -> None:
    with pytest.raises(UserError, match="verdicts: 3: must be as many as samples, 10"):
        evaluate(measured(20, 5, 5), np.ones(3, bool), scan, CONFIG, SOLVED)


def test_what_cannot_be_told_is_none_and_not_zero() -> None:
    untested = {name: {"ratio": None, "p": None} for name in HEADLINE}
    tested = {name: {"ratio": 1.5, "p": 0.5} for name in HEADLINE} | {"stiffness": {"ratio": 2.0, "p": 1e-6}}
    shift = dict.fromkeys(HEADLINE)
    figures = fidelity_headline(
        {"before": tested, "after": untested, "training_windows": tested, "shift": shift}
    )
    assert (figures["flagged"], figures["flagged_before"], figures["shift"]) == (None, 1, None)
    assert {figures[f"{name}.ratio"] for name in HEADLINE} == {None}
