"""Windows: only allowed places, all of them alike, all symmetries alike, the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from microgan.core.errors import UserError
from microgan.scan.planes import PackedMask, Planes, ScanInfo, packed
from microgan.scan.windows import Windows

SIDE = 60


def planes_of(mask: np.ndarray, regions: dict, grey: np.ndarray | None = None) -> Planes:
    """Planes whose grey value is the pixel's own number, so that a window shows where it is from."""
    if grey is None:
        grey = np.arange(mask.size).reshape(mask.shape) / mask.size * 2 - 1
    info = ScanInfo(
        name="numbered",
        source=[],
        source_digest="",
        shape=mask.shape,
        dtype="uint8",
        voxel_size_um=None,
        polarity="bright",
        radius_px=(4, 8),
        intensity_window=(0, 255),
        regions=regions,
        planes_sha256="",
        mask_sha256="",
    )
    return Planes(grey.astype(np.float16), PackedMask.of(mask), info)


def disc(radius_px: float, side_px: int = SIDE) -> np.ndarray:
    axis = np.arange(side_px) - side_px / 2
    return axis[:, None] ** 2 + axis**2 <= radius_px**2


def small_numbers(shape: tuple[int, ...]) -> np.ndarray:
    """Distinct values that float16 represents exactly; good for up to 2048 pixels."""
    return np.arange(np.prod(shape)).reshape(shape) / 1024 - 1


def corners(windows: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Return (n, 3) plane, row, col of windows of `small_numbers` that were not turned."""
    first = np.round((windows[:, 0, 0, 0].numpy() + 1) * 1024).astype(int)
    return np.column_stack(np.unravel_index(first, shape))


def test_windows_lie_in_region_and_field_of_view() -> None:
    mask = np.broadcast_to(disc(28), (2, SIDE, SIDE)).copy()
    grey = np.where(mask, 0.25, -1.0)  # black outside
    grey[0, :30] = 0.75  # another role's part
    regions = {"train": [(0, 30, 60, 0, 60), (1, 0, 60, 0, 60)], "held_out": [(0, 0, 30, 0, 60)]}
    windows = Windows(planes_of(mask, regions, grey), "train", 16)
    samples = windows.draw(np.random.default_rng(0), 500, "all")
    assert samples.shape == (500, 1, 16, 16)
    assert samples.dtype == torch.float32
    assert (samples == 0.25).all()
    assert (windows.grid() == 0.25).all()


def test_every_allowed_position_is_samples_equally_often() -> None:
    shape = (2, 30, 30)
    mask = np.ones(shape, bool)
    mask[0, 12, 12] = False  # a hole in the middle of the first plane
    regions = {"train": [(0, 3, 25, 2, 26), (1, 10, 22, 5, 14)]}
    windows = Windows(planes_of(mask, regions, small_numbers(shape)), "train", 8)
    allowed = [
        (plane, row, col)
        for plane, row0, row1, col0, col1 in regions["train"]
        for row in range(row0, row1 - 7)
        for col in range(col0, col1 - 7)
        if mask[plane, row : row + 8, col : col + 8].all()
    ]
    samples = corners(windows.draw(np.random.default_rng(0), 100 * len(allowed)), shape)
    places, counts = np.unique(samples, axis=0, return_counts=True)
    assert [tuple(corner) for corner in places.tolist()] == allowed
    # Poisson counts of mean 100: chi-square per degree of freedom is 1 +- 0.1.
    assert ((counts - 100) ** 2 / 100).mean() == pytest.approx(1, abs=0.35)


def test_all_eight_symmetries_are_samples_equally_often() -> None:
    tile = small_numbers((1, 5, 5))
    planes = planes_of(np.ones((1, 5, 5), bool), {"train": [(0, 0, 5, 0, 5)]}, tile)
    windows = Windows(planes, "train", 5)
    truth = [np.rot90(side, turns) for side in (tile[0], tile[0].T) for turns in range(4)]
    samples = windows.draw(np.random.default_rng(0), 4000, "all")[:, 0].numpy()
    counts = [np.sum((samples == image.astype(np.float32)).all((1, 2))) for image in truth]
    assert sum(counts) == 4000
    assert min(counts) > 420
    assert (windows.draw(np.random.default_rng(0), 50)[:, 0] == torch.from_numpy(tile[0])).all()


def test_mirrors_do_not_turn_a_material_that_has_a_direction() -> None:
    tile = small_numbers((1, 5, 5))
    windows = Windows(planes_of(np.ones((1, 5, 5), bool), {"train": [(0, 0, 5, 0, 5)]}, tile), "train", 5)
    truth = [tile[0][::down, ::across] for down in (1, -1) for across in (1, -1)]
    samples = windows.draw(np.random.default_rng(0), 2000, "mirrors")[:, 0].numpy()
    counts = [np.sum((samples == image.astype(np.float32)).all((1, 2))) for image in truth]
    assert sum(counts) == 2000
    assert min(counts) > 420


def test_same_generator_same_windows() -> None:
    planes = planes_of(disc(28)[None], {"train": [(0, 0, SIDE, 0, SIDE)]})
    first, same, another = (
        Windows(planes, "train", 16).draw(np.random.default_rng(seed), 20) for seed in (5, 5, 6)
    )
    assert (first == same).all()
    assert (first != another).any()


def test_samples_windows_are_copies() -> None:
    planes = planes_of(disc(28)[None], {"train": [(0, 0, SIDE, 0, SIDE)]})
    before = planes.grey.copy()
    Windows(planes, "train", 16).draw(np.random.default_rng(0), 5).zero_()
    assert (planes.grey == before).all()


@pytest.mark.parametrize(("stride_px", "least"), [(None, 4), (4, 50)])
def test_grid_is_systematic(stride_px: int | None, least: int) -> None:
    shape = (1, 45, 45)
    mask = disc(21, 45)[None]
    windows = Windows(planes_of(mask, {"held_out": [(0, 0, 45, 0, 45)]}, small_numbers(shape)), "held_out", 8)
    places = corners(windows.grid(stride_px), shape)
    assert len(places) >= least
    assert all(mask[0, r : r + 8, c : c + 8].all() for _, r, c in places)
    claimed = np.zeros((45, 45), int)
    step = stride_px or 8
    for _, row, col in places:
        claimed[row : row + step, col : col + step] += 1
    assert claimed.max() == 1  # without a stride, no pixel serves twice
    assert (windows.grid(stride_px) == windows.grid(stride_px)).all()


def test_grid_of_a_field_of_view_that_holds_one_window() -> None:
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[0, 7:23, 11:27] = True
    windows = Windows(planes_of(mask, {"train": [(0, 0, SIDE, 0, SIDE)]}), "train", 16)
    assert windows.grid().shape == (1, 1, 16, 16)
    assert (windows.draw(np.random.default_rng(0), 2) == windows.grid()).all()


@pytest.mark.parametrize(
    ("role", "size_px", "radius_px"), [("train", 61, 99), ("train", 48, 28), ("nobody", 8, 28)]
)
def test_no_window_fits(role: str, size_px: int, radius_px: float) -> None:
    planes = planes_of(disc(radius_px)[None], {"train": [(0, 0, SIDE, 0, SIDE)]})
    with pytest.raises(UserError) as error:
        Windows(planes, role, size_px)
    rule = f"no window fits into the {role} part of numbered and its field of view"
    assert str(error.value) == f"window_px: {size_px}: {rule}"


def test_windows_of_a_folder_on_disk(tmp_path: Path) -> None:
    planes = planes_of(disc(28)[None], {"train": [(0, 0, SIDE, 0, SIDE)]})
    np.save(tmp_path / "planes.npy", planes.grey)
    np.save(tmp_path / "mask.npy", packed(disc(28)[None]))
    (tmp_path / "scan.json").write_text(planes.info.model_dump_json())
    samples = [
        Windows(p, "train", 16).draw(np.random.default_rng(0), 9) for p in (planes, Planes.load(tmp_path))
    ]
    assert (samples[0] == samples[1]).all()
