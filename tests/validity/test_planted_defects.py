"""Planted defects against drawn truth: what was asked for is there, and nothing else has changed."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, label

from microgan.detection.circles import Circles
from microgan.detection.detect import detect
from microgan.detection.detector import Detector, Polarity
from microgan.validity.evidence import Evidence
from microgan.validity.planted_defects import CONTROLS, DEFECTS, plant, plant_and_show
from microgan.validity.rules import overlap

DISCS = np.array([[16, 15, 6], [17, 28.4, 6.5], [45, 14, 5.5], [46, 40, 6], [22, 48, 6], [47, 53.2, 6.0]])
ALONE = np.array([[30.0, 33.0, 6.0]])
MATRIX, DISC, NOISE_SD = -0.4, 0.5, 0.1
ELSEWHERE = {"overlap", "blank", "noise", "lattice", "blurred", "seam"}  # change more than one place


def _scene(discs: np.ndarray = DISCS, noise_sd: float = NOISE_SD, seed: int = 0) -> np.ndarray:
    """Draw bright discs with edges blurred by 0.8 px, and correlated noise, (64, 64)."""
    row, col = np.mgrid[:256, :256] / 4 - 0.375  # four samples per pixel, averaged
    inside = np.any([np.hypot(row - r, col - c) < radius for r, c, radius in discs.reshape(-1, 3)], axis=0)
    inside = np.zeros((256, 256)) + inside
    sharp = inside.reshape(64, 4, 64, 4).mean((1, 3))
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((64, 64)), 0.7)
    grey = MATRIX + (DISC - MATRIX) * gaussian_filter(sharp, 0.8) + noise_sd / noise.std() * noise
    return np.clip(grey, -1, 1).astype(np.float32)


TRUTH = Circles.from_table(DISCS)


def _planted(name: str, seed: int = 0, noise_sd: float = NOISE_SD, **degree: object) -> np.ndarray:
    changed = plant(name, _scene(noise_sd=noise_sd), TRUTH, np.random.default_rng(seed), **degree)
    assert changed is not None
    return changed


def _area_px(image: np.ndarray) -> float:
    """Area of the disc phase, from the mean grey: blur does not change it."""
    return float((image - MATRIX).sum() / (DISC - MATRIX))


@pytest.mark.parametrize("name", [*DEFECTS, *CONTROLS])
def test_a_defect_is_planted_as_the_seed_decides(name: str) -> None:
    image = _scene()
    before = image.copy()
    changed = _planted(name, seed=3)
    np.testing.assert_array_equal(image, before)
    assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
    assert -1 <= changed.min() <= changed.max() <= 1
    assert not np.array_equal(changed, image)
    np.testing.assert_array_equal(changed, _planted(name, seed=3))


@pytest.mark.parametrize("name", sorted(set(DEFECTS) - {"seam", "blurred"}))
def test_the_seed_makes_a_difference(name: str) -> None:
    assert any(not np.array_equal(_planted(name, seed=0), _planted(name, seed=seed)) for seed in (1, 2, 3))


@pytest.mark.parametrize("name", sorted({*DEFECTS, "disc_put_back", "missing_disc"} - ELSEWHERE))
def test_the_rest_of_the_image_stays(name: str) -> None:
    """All changes lie in one place, not larger than a disc may become."""
    image = _scene()
    for seed in range(5):
        changed = plant(name, image, TRUTH, np.random.default_rng(seed))
        assert changed is not None
        row, col = np.nonzero(changed != image)
        assert max(np.ptp(row), np.ptp(col)) < 40
        assert (changed == image).mean() > 0.7


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("degree", [0.2, 0.3, 0.4])
def test_an_overlap_is_found_at_the_degree_that_was_asked_for(degree: float, polarity: Polarity) -> None:
    sign = 1 if polarity == "bright" else -1
    found = []
    for seed in range(6):
        image, rng = sign * _scene(seed=seed), np.random.default_rng(seed)
        changed = plant("overlap", image, TRUTH, rng, polarity, degree=(degree, degree))
        assert changed is not None
        (circles,) = detect(torch.from_numpy(changed)[None, None], Detector((4, 8), polarity))
        found.append(overlap(Evidence(image, image > 0, circles)))
    assert np.median(found) == pytest.approx(degree, abs=0.05)


def test_no_disc_is_lost_where_a_disc_is_lifted_or_put() -> None:
    """Pixels nearer to other discs than to the moved one keep their grey, but where it was put on them."""
    image, changed = _scene(noise_sd=0), _planted("overlap", seed=1, noise_sd=0)
    still = [np.abs(changed - image)[_inside(disc, 3)].max() < 1e-6 for disc in DISCS]
    assert sum(still) == len(DISCS) - 2  # all but the one that moved and the one it was put on
    # No seam: the overlapping pair is as bright inside as any disc.
    phase, _ = label(changed > 0.25)
    pair = int(np.bincount(phase.ravel())[1:].argmax()) + 1
    deep = gaussian_filter((phase == pair).astype(float), 1.5) > 0.97
    assert changed[deep].min() > DISC - 0.1


def _inside(disc: np.ndarray, depth_px: float) -> np.ndarray:
    row, col = np.mgrid[:64, :64]
    return np.hypot(row - disc[0], col - disc[1]) < disc[2] - depth_px


def test_an_ellipse_keeps_its_area() -> None:
    image, one = _scene(ALONE, noise_sd=0), Circles.from_table(ALONE)
    changed = plant("ellipse", image, one, np.random.default_rng(0), axis_ratio=(1.6, 1.6))
    assert changed is not None
    assert _area_px(changed) == pytest.approx(_area_px(image), abs=4)
    axes = np.sqrt(np.linalg.eigvalsh(np.cov(np.argwhere(changed > 0).T)))
    assert axes[1] / axes[0] == pytest.approx(1.6, abs=0.1)


@pytest.mark.parametrize("factor", [0.5, 1.4])
def test_a_wrong_radius_has_its_area(factor: float) -> None:
    image, one = _scene(ALONE, noise_sd=0), Circles.from_table(ALONE)
    changed = plant("wrong_radius", image, one, np.random.default_rng(0), factor=factor)
    assert changed is not None
    assert _area_px(changed) == pytest.approx(np.pi * (6 * factor) ** 2, abs=4)


def test_a_missing_disc_leaves_matrix() -> None:
    gone = [disc for disc in DISCS if _planted("missing_disc", seed=2)[_inside(disc, 0)].mean() < 0]
    assert len(gone) == 1
    place = _planted("missing_disc", seed=2)[_inside(gone[0], -1)]
    assert place.mean() == pytest.approx(MATRIX, abs=0.1)
    assert place.std() == pytest.approx(NOISE_SD, rel=0.5)


def test_a_bright_disc_is_a_third_brighter_than_the_brightest() -> None:
    difference = _planted("bright_disc") - _scene()
    (changed,) = (disc for disc in DISCS if difference[_inside(disc, 3)].min() > 0.1)
    levels = [np.median(_scene()[_inside(disc, 3)]) - MATRIX for disc in DISCS]
    level = np.median(_planted("bright_disc")[_inside(changed, 3)]) - MATRIX
    assert level == pytest.approx(1.3 * max(levels), rel=0.08)
    radius_px = np.sqrt(difference.sum() / difference.max() / np.pi)
    assert 5 < radius_px < 7 and (np.abs(difference) < 0.01).mean() > 0.9


def test_a_faint_disc_has_half_the_contrast() -> None:
    difference = _planted("faint_disc") - _scene()
    assert difference.max() == pytest.approx(0.5 * (DISC - MATRIX), rel=0.15)
    full = np.array([[r, c, 6.0] for r in range(6, 64, 12) for c in range(6, 64, 12)])
    dense = _scene(full)
    faded = plant("faint_disc", dense, Circles.from_table(full), np.random.default_rng(0))
    assert faded is not None
    assert (faded - dense).min() == pytest.approx(-0.5 * (DISC - MATRIX), rel=0.15)


def test_a_partial_disc_has_lost_about_half() -> None:
    image, changed = _scene(noise_sd=0), _planted("partial_disc", noise_sd=0, cut=(0, 0))
    assert _area_px(image) - _area_px(changed) == pytest.approx(np.pi * 6**2 / 2, rel=0.2)


def test_a_merged_pair_has_no_neck() -> None:
    changed = _planted("merged_pair", gap_px=1.0, noise_sd=0)  # so near are only the first two
    row, col = np.mgrid[:64, :64]
    between = (np.abs(row - 16.5) < 4) & (np.abs(col - 21.5) < 3)
    assert _scene(noise_sd=0)[between].min() < 0
    assert changed[between].min() > DISC - 0.15


def test_blank_noise_and_lattice_keep_what_they_say() -> None:
    image = _scene()
    for phase, grey in (("matrix", MATRIX), ("disc", DISC)):
        assert _planted("blank", phase=phase, noisy=False).std() < 1e-6
        assert _planted("blank", phase=phase).mean() == pytest.approx(grey, abs=0.05)
        assert _planted("blank", phase=phase).std() == pytest.approx(NOISE_SD, rel=0.3)
    np.testing.assert_array_equal(np.sort(_planted("noise").ravel()), np.sort(image.ravel()))
    assert _area_px(_planted("lattice")) == pytest.approx(_area_px(image), rel=0.15)
    (circles,) = detect(torch.from_numpy(_planted("lattice"))[None, None], Detector((4, 8)))
    assert len(circles) >= len(DISCS)
    assert np.median(circles.radius_px) == pytest.approx(6, abs=0.3)


def test_a_seam_cuts_discs_at_one_column() -> None:
    image, changed = _scene(), _planted("seam")
    column = int(np.flatnonzero((changed != image).any(0))[0])
    np.testing.assert_array_equal(changed[:, column:], image[::-1, column:])
    assert (np.abs(DISCS[:, 1] - column) < DISCS[:, 2]).any()


@pytest.mark.parametrize("name", ["half_formed_disc", "dissolving_disc", "broken_rim"])
def test_a_part_of_one_disc_is_lost_and_nothing_is_added(name: str) -> None:
    image = _scene(noise_sd=0)
    for seed in range(4):
        planted = plant_and_show(name, image, TRUTH, np.random.default_rng(seed))
        assert planted is not None
        lost = image - planted.grey
        assert lost.min() > -0.15  # grey is only taken away; an erased edge leaves a little
        assert 0.1 < lost.sum() / (DISC - MATRIX) / (np.pi * 6**2) < 0.8
        (disc,) = [disc for disc in DISCS if planted.where[_inside(disc, 0)].any()]
        assert not planted.where[~_inside(disc, -2)].any()
        assert lost[planted.where].min() > 0.05


def test_a_bridge_joins_two_discs() -> None:
    near = DISCS[:3].copy()
    near[1, 1] = 31.0  # 3.5 px from the first one
    image = _scene(near, noise_sd=0)
    planted = plant_and_show("bridge", image, Circles.from_table(near), np.random.default_rng(0))
    assert planted is not None
    before, after = (label(grey > 0)[1] for grey in (image, planted.grey))
    assert after == before - 1
    assert planted.where[16:18, 23:25].all() and planted.where.sum() < 60


@pytest.mark.parametrize("side_px", [1, 2])
def test_a_checkerboard_changes_no_mean(side_px: int) -> None:
    image = _scene(noise_sd=0)
    planted = [
        plant_and_show("checkerboard_patch", image, TRUTH, np.random.default_rng(seed)) for seed in range(12)
    ]
    changes = [(one.grey - image, one.where) for one in planted if one is not None]
    sides = [(np.diff(np.sign(change), axis=1) != 0)[where[:, 1:]].mean() for change, where in changes]
    assert any(share == pytest.approx(1 / side_px, abs=0.05) for share in sides)
    for change, where in changes:
        assert abs(change.sum()) < 0.1 * np.abs(change).sum()
        assert (
            np.abs(change[where]).mean() > 0.07 and not change[gaussian_filter(where * 1.0, 3) < 1e-3].any()
        )


@pytest.mark.parametrize(("factor", "least", "largest"), [(0.0, 0.0, 0.7), (3.0, 1.5, 3.5)])
def test_noise_in_a_patch_is_another(factor: float, least: float, largest: float) -> None:
    blank = _scene(ALONE)
    one = Circles.from_table(ALONE)
    planted = plant_and_show("noise_patch", blank, one, np.random.default_rng(1), factor=(factor,))
    assert planted is not None
    place = planted.where & ~_inside(ALONE[0], -4)
    assert place.sum() > 100
    fine_before, fine_after = (
        (grey - gaussian_filter(grey, 1.0))[place].std() for grey in (blank, planted.grey)
    )
    assert least <= fine_after / fine_before <= largest


@pytest.mark.parametrize("name", ["disc_put_back", "disc_moved"])
@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_a_control_leaves_as_many_discs_and_none_overlaps(name: str, polarity: Polarity) -> None:
    sign = 1 if polarity == "bright" else -1
    for seed in range(5):
        planted = plant_and_show(name, sign * _scene(), TRUTH, np.random.default_rng(seed), polarity)
        assert planted is not None
        (circles,) = detect(torch.from_numpy(planted.grey)[None, None], Detector((4, 8), polarity))
        assert len(circles) == len(DISCS)
        assert overlap(Evidence(planted.grey, planted.grey > 0, circles)) < 0.06
        assert np.pi * 4.5**2 < planted.where.sum() < np.pi * 7.5**2


@pytest.mark.parametrize("name", sorted(set(DEFECTS) - {"blank", "noise", "lattice", "blurred"}))
def test_a_defect_is_where_it_is_shown(name: str) -> None:
    image = _scene()
    planted = plant_and_show(name, image, TRUTH, np.random.default_rng(3))
    if planted is None:
        assert name == "bridge"  # no gap of these discs suits
        return
    assert 0 < planted.where.mean() < 0.25
    changed = gaussian_filter((np.abs(planted.grey - image) > 0.02).astype(float), 1.0) > 1e-3
    assert changed[planted.where].mean() > 0.7


@pytest.mark.parametrize("name", sorted(set(DEFECTS) - {"blank", "noise"}))
def test_an_image_without_discs_has_no_place(name: str) -> None:
    none = Circles.from_table(np.zeros((0, 4)))
    assert plant(name, _scene(np.zeros((0, 3))), none, np.random.default_rng(0)) is None


def test_one_disc_alone_cannot_overlap_or_merge() -> None:
    one = Circles.from_table(DISCS[:1])
    for name in ("overlap", "merged_pair"):
        assert plant(name, _scene(DISCS[:1]), one, np.random.default_rng(0)) is None


def test_an_unknown_defect_is_refused() -> None:
    with pytest.raises(ValueError, match=r"name: 'spiral': must be one of overlap"):
        plant("spiral", _scene(), TRUTH, np.random.default_rng(0))
