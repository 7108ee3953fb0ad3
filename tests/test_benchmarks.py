"""The benchmark's own parts: a benchmark that counts wrongly misleads more than none."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import detector
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.detector import Counts, compare, count, overlap_power, run
from benchmarks.scenes import Condition, Scene, scenes, signal_to_noise, wide_band, windows, with_overlap

SHAPE = (64, 64)


@pytest.fixture(scope="module")
def simulated() -> list[Scene]:
    return scenes(Condition(radius_px=8.0), 1, seed=0)


def test_hits_and_misses_are_counted() -> None:
    # Whole; whole; cut, with its centre inside; cut, with its centre outside.
    truth = np.array([[20, 20, 6], [40, 40, 6], [2, 30, 6], [-1, 50, 6.0]])
    perfect = compare(truth, truth, SHAPE)
    assert perfect == Counts(inside=3, hit=3, found=3, true=3, cut=1, cut_hit=1, outside=1, outside_hit=1)
    found = np.array([[20, 21, 6.5], [20, 22, 6], [10, 60, 5], [2, 30, 6.0]])
    counts = compare(found, truth, SHAPE)
    assert (counts.inside, counts.hit, counts.found, counts.true) == (3, 2, 4, 2)
    assert (counts.cut_hit, counts.outside_hit) == (1, 0)
    measures = (perfect + counts).measures()
    assert measures["recall"] == pytest.approx(5 / 6)
    assert measures["precision"] == pytest.approx(5 / 7)
    assert measures["radius_bias_px"] == pytest.approx(0.5 / 5)
    assert measures["centre_error_px"] == pytest.approx(1 / 5)


def test_one_circle_is_one_hit_only() -> None:
    truth = np.array([[20, 20, 6], [20, 24, 6.0]])
    assert compare(np.array([[20, 22, 6.0]]), truth, SHAPE).hit == 1
    assert compare(np.zeros((0, 4)), truth, SHAPE).measures()["recall"] == 0


def test_scenes_are_as_asked_for(simulated: list[Scene]) -> None:
    assert len(simulated) == 4
    assert np.mean([signal_to_noise(scene) for scene in simulated]) == pytest.approx(4, abs=0.3)
    scene = simulated[0]
    row, col = np.indices(scene.image.shape)
    inside = np.any([np.hypot(row - y, col - x) < r for y, x, r in scene.truth], axis=0)
    assert inside.mean() == pytest.approx(0.5, abs=0.08)
    assert scene.image[inside].mean() > scene.image[~inside].mean() + 0.5
    (dark, *_) = scenes(Condition(polarity="dark", radius_px=8.0), 1, seed=0)
    assert np.corrcoef(dark.image.ravel(), scene.image.ravel())[0, 1] < -0.7
    assert np.ptp(np.concatenate([one.truth[:, 2] for one in scenes(wide_band(Condition()), 1, 0)])) > 8


def test_windows_keep_their_truth(simulated: list[Scene]) -> None:
    small = windows(simulated[:1])
    assert [one.image.shape for one in small] == [(64, 64)] * 4
    tiled = np.block([[one.image for one in small[i : i + 2]] for i in (0, 2)])
    np.testing.assert_array_equal(tiled, simulated[0].image)
    ring = CONTENDERS[0]
    assert count(lambda x: ring.find(x, (4.0, 9.0), "bright"), small).measures()["recall"] > 0.9


def test_power_is_that_of_the_truth(simulated: list[Scene]) -> None:
    """A detector that knows the planted overlap has full power, one that sees nothing has none."""
    clean = np.stack([one.image for one in windows(simulated)])
    planted = np.stack(list(with_overlap(windows(simulated), (0.2, 0.3), "bright", seed=0)))
    assert len(planted) > 10

    def knows(images: np.ndarray) -> list[np.ndarray]:
        pair = np.array([[20, 20, 6, 1], [20, 28, 6, 1.0]])
        return [pair if any(np.array_equal(one, x) for x in planted) else pair[:1] for one in images]

    assert overlap_power(knows, clean, planted, clean) == [1.0, 0.0]
    assert overlap_power(lambda images: [np.zeros((0, 4))] * len(images), clean, planted) == [0.0]


def test_every_contender_finds_most_discs(simulated: list[Scene]) -> None:
    for contender in CONTENDERS:
        settings = contender.settings()[0]
        counts = count(lambda x: contender.find(x, (5.0, 11.0), "bright", **settings), simulated[:2])  # noqa: B023
        assert counts.measures()["recall"] > 0.5, contender.name


def test_a_run_writes_table_and_picture(
    simulated: list[Scene], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def discs(images: np.ndarray, band: object, polarity: object) -> list[np.ndarray]:
        return [np.array([[30, 30, 6, 1.0]])] * len(images)

    monkeypatch.setattr(detector, "scenes", lambda *_: simulated[:1])
    monkeypatch.setattr(detector, "CONTENDERS", [Contender("blind", discs)])
    text = run(True, tmp_path / "results", tmp_path / "detector.png")
    assert "| blind |" in text
    assert (tmp_path / "results/detector.md").read_text().endswith(text)
    header, *rows = (tmp_path / "results/detector.csv").read_text().splitlines()
    assert {"recall", "overlap_power", "ms_one_by_one"} <= set(header.split(","))
    assert {row.split(",")[0] for row in rows} == {"grid", "dark", "wide band", "overlap", "time", "size"}
    assert (tmp_path / "detector.png").stat().st_size > 1000
