"""The judge sees faults of another brush, leaves sound images alone, and says where it cannot judge."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.files import file_sha256
from microgan.core.json_files import read_json, write_json
from microgan.detection.circles import Circles
from microgan.evaluation import judge_brush as brush
from microgan.evaluation.fault_judge import FaultJudge, JudgeConfig, train_judge
from microgan.evaluation.judge_brush import FAULTS, FILTERS, TRACES, DiscWindow
from microgan.evaluation.judge_lessons import KINDS, JudgeLessons
from microgan.evaluation.qualified_judge import FIGURES, NETWORK, QualifiedJudge, doubt, judge_headline
from microgan.validity import random_packing
from microgan.validity.planted_defects import plant
from microgan.validity.random_packing import NOISE_PX, Appearance, RandomPacking
from tests.helpers import drawn

SIDE = 48
SMALL = JudgeConfig(windows=40, packings=30, channels=8, steps=400, batch=16, learning_rate=6e-3)


def _windows(count: int, seed: int) -> tuple[Tensor, list[Circles]]:
    """Draw windows of a square lattice of discs, shaken, with noise; and their circles."""
    rng, images, circles = np.random.default_rng(seed), [], []
    places = np.stack(np.mgrid[8:SIDE:16, 8:SIDE:16], -1).reshape(-1, 2)
    for _ in range(count):
        table = np.column_stack([places + rng.uniform(-1.5, 1.5, (9, 2)), rng.uniform(5.5, 6.5, 9)])
        noise = torch.from_numpy(rng.normal(0, 0.06, (1, 1, SIDE, SIDE)).astype(np.float32))
        images.append((drawn(*map(tuple, table.tolist()), side=SIDE) + noise).clamp(-1, 1))
        circles.append(Circles.from_table(table))
    return torch.cat(images), circles


def _packing() -> RandomPacking:
    noise = np.zeros((2 * NOISE_PX + 1,) * 2)
    noise[NOISE_PX, NOISE_PX] = 0.06**2
    appearance = Appearance(volume_fraction=0.4, disc_grey=0.6, matrix_grey=-0.6)
    return RandomPacking(
        radius_px=[5.5, 6.0, 6.5],
        appearances=[appearance],
        gap_px=0.5,
        blur_px=0.6,
        noise_autocovariance=noise.tolist(),
    )


def _lessons(seed: int = 0) -> JudgeLessons:
    lessons = JudgeLessons.of_windows(*_windows(SMALL.windows, seed), seed)
    return lessons + JudgeLessons.of_packing(_packing(), SMALL.packings, SIDE, seed, 1.0)


@pytest.fixture(scope="module", autouse=True)
def _few_packings_at_once() -> Iterator[None]:
    """Pack 4 samples at once, as more than are wanted take most of the time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(random_packing, "BLOCK", 4)
        yield


@pytest.fixture(scope="module")
def lessons() -> JudgeLessons:
    return _lessons()


@pytest.fixture(scope="module")
def judge(lessons: JudgeLessons) -> FaultJudge:
    """A judge that flags 5 % of sound windows that it never saw."""
    network = train_judge(lessons, 0, SMALL)
    score, _ = FaultJudge(network, 0.0, "bright", SMALL.channels).judged(_windows(60, 1)[0])
    return FaultJudge(network, float(np.quantile(score, 0.95)), "bright", SMALL.channels)


def _scene(*discs: tuple[float, float, float]) -> DiscWindow:
    return DiscWindow.of(drawn(*discs, side=SIDE)[0, 0].numpy(), Circles.from_table(discs))


def _changed(window: DiscWindow, change: brush.Change, seed: int = 0) -> np.ndarray:
    grey = change(window, np.random.default_rng(seed))
    assert grey is not None and grey.shape == window.grey.shape
    return grey


def _bright_px(grey: np.ndarray) -> int:
    return int((grey > 0).sum())


# The brush ----------------------------------------------------------------------------------------------


def test_an_overlap_is_a_second_disc_over_the_first_and_nothing_is_erased() -> None:
    window = _scene((24, 24, 6))
    for seed in range(6):
        added = _bright_px(_changed(window, brush.overlap, seed)) / _bright_px(window.grey) - 1
        assert 0.1 < added < 0.95
    assert (_changed(window, brush.overlap, 0)[window.distance[0] < -2] > 0.3).all()


def test_a_partial_disc_lacks_a_part_and_leaves_matrix_there() -> None:
    window = _scene((24, 24, 7))
    for seed in range(6):
        grey = _changed(window, brush.partial_disc, seed)
        assert 0.2 < _bright_px(grey) / _bright_px(window.grey) < 0.85
        assert np.abs(grey - window.grey)[window.distance[0] > 4].max() < 1e-6


def test_a_joined_pair_has_no_gap() -> None:
    window = _scene((24, 16, 6), (24, 31, 6))
    assert window.grey[24, 23:25].max() < -0.5
    grey = _changed(window, brush.joined_pair)
    assert grey[24, 16:32].min() > 0.3
    np.testing.assert_array_equal(grey[:, :10], window.grey[:, :10])
    assert brush.joined_pair(_scene((12, 12, 6), (36, 36, 6)), np.random.default_rng(0)) is None


def test_a_wrong_radius_or_contrast_is_far_from_the_others() -> None:
    window = _scene((24, 24, 6))
    areas = [
        _bright_px(_changed(window, brush.wrong_radius, seed)) / _bright_px(window.grey) for seed in range(9)
    ]
    assert all(0.2 < area < 0.5 or 2 < area < 3.3 for area in areas)
    assert min(areas) < 0.5 and max(areas) > 2
    contrasts = [(_changed(window, brush.wrong_contrast, seed)[24, 24] + 0.6) / 1.2 for seed in range(9)]
    assert all(0.24 < contrast < 0.56 or 1.49 < contrast < 1.81 for contrast in contrasts)
    assert min(contrasts) < 1 < max(contrasts)


@pytest.mark.parametrize("name", ["put_back", "replaced", "matrix_filled"])
def test_a_sound_change_leaves_discs_as_they_were(name: str) -> None:
    windows, circles = _windows(1, 4)
    window = DiscWindow.of(windows[0, 0].numpy(), circles[0])
    grey = _changed(window, TRACES[name])
    assert np.abs(grey - window.grey).max() > 0.01
    assert ((grey > 0) != (window.grey > 0)).mean() < 0.02


def test_a_missing_disc_leaves_matrix_and_is_not_touched_again() -> None:
    window = _scene((12, 12, 6), (34, 34, 6))
    grey = _changed(window, brush.missing)
    assert _bright_px(grey) == pytest.approx(_bright_px(window.grey) / 2, rel=0.1)
    after = window.after(grey)
    assert len(window.whole) == 2 and len(after.whole) == 1
    assert grey[tuple(window.discs[after.whole[0], :2].astype(int))] > 0.3


@pytest.mark.parametrize("change", [*FAULTS.values(), *TRACES.values()])
def test_a_window_without_discs_has_no_place_for_most_changes(change: brush.Change) -> None:
    empty = DiscWindow.of(np.full((SIDE, SIDE), -0.5, np.float32), Circles.from_table([]))
    grey = change(empty, np.random.default_rng(0))
    assert grey is None or np.isfinite(grey).all()


# The lessons --------------------------------------------------------------------------------------------


def test_lessons_are_pairs_of_every_fault_in_windows_and_in_packings() -> None:
    windows, circles = _windows(10, 3)
    real = JudgeLessons.of_windows(windows, circles, 0)
    packed = JudgeLessons.of_packing(_packing(), 6, SIDE, 0, 1.0)
    for lessons in (real, packed):
        assert set(lessons.kind.tolist()) == set(range(len(KINDS)))
        assert lessons.images.shape[1:] == (2, SIDE, SIDE) and lessons.images.abs().max() <= 1
        differ = (lessons.images[:, 1] - lessons.images[:, 0]).abs() > 0.1
        rows = torch.arange(SIDE)[:, None]
        for place, where in zip(lessons.place[:, 1], differ, strict=True):
            near = (rows - place[0]) ** 2 + (rows.T - place[1]) ** 2 < 14**2
            assert (where & near).any()
    for faulty in range(0, len(real.kind), 7):
        sound = real.images[faulty, 0]
        assert any((sound - window[0]).abs().median() < 0.05 for window in windows)


def test_dark_packings_are_turned_into_bright_ones() -> None:
    bright, dark = (JudgeLessons.of_packing(_packing(), 4, SIDE, 0, sign).images for sign in (1.0, -1.0))
    assert torch.equal(bright, -dark)


# The judge ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "least"), [("overlap", 0.5), ("partial_disc", 0.5), ("wrong_radius", 0.6)])
def test_it_sees_faults_that_another_brush_planted(judge: FaultJudge, kind: str, least: float) -> None:
    windows, circles = _windows(30, 7)
    planted = [
        plant(kind, window[0].numpy(), discs, np.random.default_rng(index), "bright")
        for index, (window, discs) in enumerate(zip(windows, circles, strict=True))
    ]
    images = torch.from_numpy(np.stack([image for image in planted if image is not None]))[:, None]
    score, _ = judge.judged(images)
    assert (score > judge.limit).mean() > least


def test_it_leaves_sound_windows_traces_and_filtered_windows_alone(judge: FaultJudge) -> None:
    windows, circles = _windows(30, 8)
    rng = np.random.default_rng(0)
    scenes = [DiscWindow.of(window[0].numpy(), discs) for window, discs in zip(windows, circles, strict=True)]
    sound = [change(scene, rng) for scene in scenes for change in TRACES.values()]
    sound += [change(scene.grey, rng) for scene in scenes for change in FILTERS.values()]
    images = torch.from_numpy(np.stack([grey for grey in sound if grey is not None]).astype(np.float32))[
        :, None
    ]
    score, _ = judge.judged(images.clamp(-1, 1))
    assert (score > judge.limit).mean() < 0.2
    score, _ = judge.judged(_packing_images())
    assert (score > judge.limit).mean() < 0.3


def _packing_images() -> Tensor:
    return _packing().sample(16, Domain((SIDE, SIDE)), 99)[0]


def test_it_points_at_the_fault(judge: FaultJudge) -> None:
    windows, circles = _windows(20, 9)
    near = []
    for index, (window, discs) in enumerate(zip(windows, circles, strict=True)):
        scene = DiscWindow.of(window[0].numpy(), discs)
        grey = brush.wrong_radius(scene, np.random.default_rng(index))
        assert grey is not None
        middle = np.argwhere(np.abs(grey - scene.grey) > 0.1).mean(0)
        (place,) = judge.places(torch.from_numpy(grey.astype(np.float32))[None, None])
        near.append(np.hypot(*(np.array(place) - middle)) < 10)
    assert np.mean(near) > 0.7
    assert judge.places(torch.zeros(0, 1, SIDE, SIDE)) == []


def test_dark_discs_are_judged_as_bright_ones(judge: FaultJudge) -> None:
    images = _windows(5, 2)[0]
    dark = FaultJudge(judge.network, judge.limit, "dark", judge.channels)
    np.testing.assert_array_equal(judge.judged(images)[0], dark.judged(-images)[0])


def test_the_seed_decides_every_bit(lessons: JudgeLessons) -> None:
    again = _lessons()
    assert torch.equal(lessons.images, again.images) and torch.equal(lessons.kind, again.kind)
    few = SMALL.model_copy(update={"steps": 3})
    images = _windows(4, 2)[0]
    one, same, other = (train_judge(lessons, seed, few)(images) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.allclose(one, other)


# Files and figures --------------------------------------------------------------------------------------


def _qualified(judge: FaultJudge, **figures: Any) -> QualifiedJudge:
    row = {"n": 100, "flagged": 0.05, "low": 0.03, "high": 0.1, "by_kind": dict.fromkeys(KINDS, 0.01)}
    seen = {**row, "flagged": 0.8}
    real = {"held_out": row, "controls": {"softened": row}, "detects": dict.fromkeys(KINDS, seen)}
    return QualifiedJudge(judge, {**real, "qualified": True, "reason": None, **figures})


def test_files_keep_the_judge(judge: FaultJudge, tmp_path: Path) -> None:
    _qualified(judge).save(tmp_path)
    loaded, images = QualifiedJudge.load(tmp_path), _windows(4, 2)[0]
    assert loaded.real == _qualified(judge).real and loaded.judge.limit == judge.limit
    np.testing.assert_array_equal(loaded.judge.judged(images)[0], judge.judged(images)[0])


def _other_bit(folder: Path) -> None:
    content = bytearray((folder / NETWORK).read_bytes())
    content[-1] ^= 1
    (folder / NETWORK).write_bytes(content)


def _no_tensors(folder: Path) -> None:
    (folder / NETWORK).write_bytes(b"no tensors")


def _no_judge(folder: Path) -> None:
    (folder / NETWORK).unlink()


def _no_figures(folder: Path) -> None:
    write_json(folder / FIGURES, {"judge_sha256": file_sha256(folder / NETWORK)})


def _other_digest(folder: Path) -> None:
    write_json(folder / FIGURES, read_json(folder / FIGURES) | {"judge_sha256": "0" * 64})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_other_bit, "changed: must have the SHA-256"),
        (_no_tensors, "unusable: must hold the judge"),
        (_no_judge, "missing"),
        (_no_figures, "unusable: must hold what the judge says of real windows"),
        (_other_digest, "changed: must have the SHA-256 0000"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    judge: FaultJudge, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    _qualified(judge).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        QualifiedJudge.load(tmp_path)
    assert "\n" not in str(error.value)


def test_samples_are_beside_real_windows(judge: FaultJudge) -> None:
    windows, circles = _windows(40, 11)
    rng = np.random.default_rng(0)
    scenes = [DiscWindow.of(window[0].numpy(), discs) for window, discs in zip(windows, circles, strict=True)]
    faulty = np.stack([brush.wrong_radius(scene, rng) for scene in scenes[:20]]).astype(np.float32)
    samples = torch.cat([torch.from_numpy(faulty)[:, None].clamp(-1, 1), windows[20:]])
    valid = np.arange(40) >= 20
    qualified = _qualified(judge)
    metrics = qualified.samples(samples, valid)
    assert metrics["before"]["flagged"] > metrics["after"]["flagged"] + 0.1
    assert metrics["ratio"] == metrics["after"]["flagged"] / 0.05
    assert sum(metrics["before"]["by_kind"].values()) == pytest.approx(metrics["before"]["flagged"])
    assert judge_headline(metrics) == {
        "judge_flagged": metrics["after"]["flagged"],
        "judge_flagged_real": 0.05,
    }
    few = qualified.samples(samples, np.arange(40) > 20)
    assert "after" not in few and few["ratio"] is None and judge_headline(few)["judge_flagged"] is None
    worst = qualified.worst(samples, 4)
    score, kind = judge.judged(samples)
    assert [KINDS[index] for index in kind[np.argsort(-score)[:4]]] == list(worst.kinds)
    assert len(worst.places) == 4 and all(worst.above)


def test_a_judge_that_fails_its_controls_does_not_judge(judge: FaultJudge) -> None:
    good = _qualified(judge).real
    assert doubt(good) is None
    bad = {**good["held_out"], "flagged": 0.3, "low": 0.25}
    reason = doubt({**good, "controls": {"random_packings": bad}})
    assert reason == "it flags 30% of random packings, which are sound, and 5% of held-out windows"
    by_chance = {**bad, "flagged": 0.12, "low": 0.08}
    assert doubt({**good, "controls": {"softened": by_chance}}) is None
    blind = doubt({**good, "detects": dict.fromkeys(KINDS, good["held_out"])})
    assert blind == "it sees 5% of the faults that it was taught, in held-out windows"

    unqualified = _qualified(judge, qualified=False, reason=reason)
    metrics = unqualified.samples(_windows(20, 2)[0], np.ones(20, bool))
    assert metrics["ratio"] is None and metrics["reason"] == reason
    assert judge_headline(metrics) == {"judge_flagged": None, "judge_flagged_real": None}
