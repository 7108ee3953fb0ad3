"""The rule that has learnt faults: its lessons, its networks, its file, and the reference that names it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.core.errors import UserError
from microgan.core.json_files import read_sealed_json, write_sealed_json
from microgan.detection.detect import detect_all
from microgan.scan.halves import Halves, halves
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.calibration import CalibrationConfig, calibration_windows
from microgan.validity.judging import judge
from microgan.validity.large_images import judge_large_image
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.learnt.lessons import KINDS, Lessons
from microgan.validity.learnt.network import FaultNetwork, FaultNetworkConfig, fault_evidence
from microgan.validity.learnt.training import TrainingConfig, train_network
from microgan.validity.planted_defects import plant
from microgan.validity.random_packing import Appearance, RandomPacking
from microgan.validity.real_measures import RealMeasures
from microgan.validity.reference import Reference
from microgan.validity.segmentation import Segmentation
from tests.helpers import disc_planes, weights_digest

Factory = pytest.TempPathFactory
SMALL = TrainingConfig(windows=40, packings=20, steps=150, batch=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Planes:
    return disc_planes(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def segmentation(planes: Planes) -> Segmentation:
    config = CalibrationConfig(windows=100)
    return Segmentation.of(calibration_windows(planes, 64, config)[0], planes.info, config.detector)


@pytest.fixture(scope="module")
def packing() -> RandomPacking:
    noise = np.zeros((17, 17))
    noise[8, 8] = 0.003
    looks = [Appearance(volume_fraction=0.55, disc_grey=0.5, matrix_grey=-0.4)]
    return RandomPacking(
        radius_px=[5.8, 6.0, 6.2],
        appearances=looks,
        gap_px=0.5,
        blur_px=0.8,
        noise_autocovariance=noise.tolist(),
    )


@pytest.fixture(scope="module")
def learnt(
    planes: Planes,
    segmentation: Segmentation,
    packing: RandomPacking,
    tmp_path_factory: pytest.TempPathFactory,
) -> LearntFaults:
    """Networks that have learnt a little, read from their file."""
    file = tmp_path_factory.mktemp("learnt") / "learnt_faults.safetensors"
    LearntFaults.learn(planes, segmentation, packing, 0, SMALL).save(file)
    return LearntFaults.load(file)


@pytest.fixture(scope="module")
def held_out(planes: Planes) -> Tensor:
    return Windows(planes, "held_out", 64).draw(np.random.default_rng(4), 60)


# Lessons ---------------------------------------------------------------------------------------------------


def test_lessons_are_sound_images_and_images_with_one_defect(
    held_out: Tensor, segmentation: Segmentation
) -> None:
    circles = detect_all(held_out, segmentation.detector, progress=False)
    lessons = Lessons.of(held_out, circles, 0)
    sound = lessons.kind == 0
    assert len(held_out) <= len(lessons) <= 2 * len(held_out) and sound.sum() == len(held_out)
    kinds = set(lessons.kind.tolist())
    assert kinds <= set(range(1 + len(KINDS))) and len(kinds) > len(KINDS) - 2
    assert not lessons.where[sound].any() and lessons.where[~sound].any(dim=(1, 2)).all()
    changed = (lessons.images[sound] != held_out).flatten(1).any(1).float().mean()
    assert 0.5 < changed < 1, "most sound images have traces of the brush"
    again, other = (Lessons.of(held_out[:4], circles[:4], seed) for seed in (0, 1))
    assert torch.equal(again.images, lessons.images[: len(again)])
    assert not torch.equal(other.images[:4], again.images[:4])


def test_lessons_of_dark_discs_are_those_of_bright_ones(held_out: Tensor, segmentation: Segmentation) -> None:
    circles = detect_all(held_out[:4], segmentation.detector, progress=False)
    bright, dark = Lessons.of(held_out[:4], circles, 0), Lessons.of(-held_out[:4], circles, 0, "dark")
    torch.testing.assert_close(bright.images, dark.images)


# The network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [(64, 64), (32, 40), (50, 33), (130, 64)])
def test_places_are_squares_of_4_px_of_an_image_of_any_size(side: tuple[int, int]) -> None:
    logits = FaultNetwork(3, FaultNetworkConfig(fine=2, middle=4, coarse=4)).eval()(torch.zeros(2, 1, *side))
    assert logits.shape == (2, 4, -(-side[0] // 4), -(-side[1] // 4))
    assert fault_evidence(logits).shape == (2, *logits.shape[2:])


def test_the_seed_decides_every_weight(held_out: Tensor, segmentation: Segmentation) -> None:
    circles = detect_all(held_out[:8], segmentation.detector, progress=False)
    lessons, config = Lessons.of(held_out[:8], circles, 0), TrainingConfig(steps=2, batch=4)
    first, again, other = (weights_digest(train_network(lessons, seed, config)) for seed in (0, 0, 1))
    assert first == again != other


# The rule --------------------------------------------------------------------------------------------------


def test_it_sees_faults_that_it_was_not_shown_and_where_they_are(
    learnt: LearntFaults, held_out: Tensor, segmentation: Segmentation
) -> None:
    circles = detect_all(held_out, segmentation.detector, progress=False)
    images, places = [], []
    for index, discs in enumerate(circles):
        image = plant(
            "wrong_radius", held_out[index, 0].numpy(), discs, np.random.default_rng(index), factor=1.6
        )
        assert image is not None
        images.append(image)
        places.append(np.argwhere(np.abs(image - held_out[index, 0].numpy()) > 0.2).mean(0))
    seen = learnt.see(torch.from_numpy(np.stack(images))[:, None])
    sound = learnt.score(held_out)
    values = np.array([fault.value for fault in seen])
    assert (values > np.quantile(sound, 0.95)).mean() > 0.8
    off = [np.hypot(fault.row - row, fault.col - col) for fault, (row, col) in zip(seen, places, strict=True)]
    assert np.median(off) < 8
    assert {fault.kind for fault in seen} <= set(KINDS)


def test_sound_windows_score_the_same_in_halves_that_were_not_learnt_from(
    learnt: LearntFaults, planes: Planes
) -> None:
    for half in (0, 1):
        score = learnt.score(Halves(planes, 64).draw(half, 200, [9]), half)
        assert abs(np.median(score)) < 0.3 and 0.03 < (score > 1).mean() < 0.25


def test_one_image_scores_as_it_does_among_many(learnt: LearntFaults, held_out: Tensor) -> None:
    together = learnt.score(held_out)
    alone = np.concatenate([learnt.score(image[None]) for image in held_out])
    np.testing.assert_allclose(alone, together, atol=2e-4)


# Files -----------------------------------------------------------------------------------------------------


def test_the_file_holds_all_and_is_the_one_that_is_named(
    learnt: LearntFaults, held_out: Tensor, tmp_path: Path
) -> None:
    file = tmp_path / "copy.safetensors"
    learnt.save(file)
    again = LearntFaults.load(file, learnt.sha256)
    np.testing.assert_array_equal(again.score(held_out), learnt.score(held_out))
    with pytest.raises(UserError, match=r"changed: must have the SHA-256 0000"):
        LearntFaults.load(file, "0" * 64)
    with pytest.raises(UserError, match="missing: file must exist"):
        LearntFaults.load(tmp_path / "none.safetensors")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="unusable: must hold the networks"):
        LearntFaults.load(file)


def test_the_rule_is_calibrated_judged_and_named_by_the_reference(
    learnt: LearntFaults, planes: Planes, held_out: Tensor, tmp_path: Path
) -> None:
    config = CalibrationConfig(windows=100, planted=10, bootstrap=0)
    real = RealMeasures.of(planes, 64, config)
    before, reference = real.calibrated(config), real.and_learnt(planes, config, learnt).calibrated(config)
    assert "learnt_fault" in reference.limits and before.learnt is None
    assert reference.calibration_pass_rate >= 0.94  # one budget for all rules
    name = "wrong_radius"
    assert reference.detection_rates[name].rate >= before.detection_rates[name].rate
    learnt.save(tmp_path / "learnt_faults.safetensors")
    reference.save(tmp_path / "reference.json")
    loaded = Reference.load(tmp_path / "reference.json")
    verdicts = judge(held_out, loaded, progress=False)
    assert [v.valid for v in verdicts] == [v.valid for v in judge(held_out, reference, progress=False)]
    assert all("learnt_fault" in verdict.measures for verdict in verdicts)
    large = judge_large_image(torch.from_numpy(np.array(planes.grey[2, 40:200, 40:200], np.float32)), loaded)
    assert len(large.verdicts) == 16

    content = read_sealed_json(tmp_path / "reference.json", "", dict)
    write_sealed_json(tmp_path / "bare.json", {**content, "learnt": None})
    with pytest.raises(UserError, match=r"limits\.learnt_fault: must have the file of its networks"):
        Reference.load(tmp_path / "bare.json")
    write_sealed_json(tmp_path / "bare.json", {**content, "learnt": {**content["learnt"], "file": "../x"}})
    with pytest.raises(UserError, match=r"learnt\.file"):
        Reference.load(tmp_path / "bare.json")
    (tmp_path / "learnt_faults.safetensors").unlink()
    with pytest.raises(UserError, match=r"learnt_faults\.safetensors: missing"):
        Reference.load(tmp_path / "reference.json")


# Halves ----------------------------------------------------------------------------------------------------


def test_halves_share_no_pixel_and_parts_too_small_to_cut_are_halves_themselves(planes: Planes) -> None:
    (plane, row0, row1, col0, col1) = planes.info.regions["train"][0]
    first, second = halves([(plane, row0, row1, col0, col1)])
    assert first[0][2] == second[0][1] or first[0][4] == second[0][3]
    cut, whole = Halves(planes, 64), Halves(planes, 160)
    assert cut.draw(0, 4, [0]).shape == (4, 1, 64, 64)
    images, half = whole.draw_both(5, [0])
    assert images.shape == (5, 1, 160, 160) and half.tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(UserError, match="no window fits"):
        Halves(planes, 300)
