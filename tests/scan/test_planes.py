"""Ingestion: what it writes, what it masks, how it splits, how little memory it needs, what it refuses."""

import hashlib
import itertools
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from microgan.core.errors import UserError
from microgan.report.figures.scan import contact_sheet, intensity_histogram
from microgan.scan import ingest as ingest_module
from microgan.scan.config import ScanConfig
from microgan.scan.ingest import field_of_view, ingest
from microgan.scan.planes import ROLES, PackedMask, Planes, ScanInfo, window_corners

SHAPE = (6, 90, 80)
BY_PLANE = {"held_out": [5], "calibration": [3]}


def noise(shape: tuple[int, ...] = SHAPE, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(30000, 4000, shape)
    return values.clip(1, 65535).astype(dtype)


def in_disc(shape: tuple[int, int], row: float, col: float, radius_px: float) -> np.ndarray:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius_px**2


def ingest_array(folder: Path, stack: np.ndarray, window_px: int = 12, **parameters: object) -> Planes:
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    np.save(raw / "scan.npy", stack)
    values = {"path": "scan.npy", "radius_px": (4, 8), "split": {"margin_px": 2}, **parameters}
    config = ScanConfig.from_mapping(values, where="scans.drawn")
    return ingest("drawn", raw, config, window_px, folder / "planes")


def refusal(folder: Path, stack: np.ndarray, window_px: int = 12, **parameters: object) -> str:
    """Ingest a scan that must be refused; return the one line; nothing may be left behind."""
    with pytest.raises(UserError) as error:
        ingest_array(folder, stack, window_px, **parameters)
    assert [path.name for path in folder.iterdir()] == ["raw"]
    assert "\n" not in str(error.value)
    return str(error.value)


# What is written


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_grey_values_come_back(tmp_path: Path, dtype: str) -> None:
    stack = (noise() / 400).astype(dtype)
    planes = ingest_array(tmp_path, stack, intensity_percentiles=(0, 100), split=BY_PLANE)
    low, high = planes.info.intensity_window
    assert (low, high) == (stack[[0, 1, 2, 4]].min(), stack[[0, 1, 2, 4]].max())  # training planes only
    clipped = np.clip(stack, low, high)
    back = planes.info.denormalise(planes.grey)
    assert back.dtype == dtype
    assert np.abs(back.astype(float) - clipped).max() <= (high - low) / 2**11  # what float16 resolves
    normalised = planes.info.normalise(stack)
    assert normalised.dtype == np.float32
    assert (normalised.min(), normalised.max()) == (-1, 1)
    assert (planes.info.denormalise(normalised) == clipped).all()


def test_files_are_as_promised(tmp_path: Path) -> None:
    stack = noise()
    planes = ingest_array(tmp_path, stack, polarity="dark", voxel_size_um=0.5)
    folder = tmp_path / "planes"
    assert sorted(path.name for path in folder.iterdir()) == ["mask.npy", "planes.npy", "scan.json"]
    assert (planes.grey.dtype, planes.mask[0].dtype) == (np.float16, bool)
    assert planes.grey.shape == planes.mask.shape == planes.info.shape == SHAPE
    assert np.abs(planes.grey).max() <= 1
    assert all(planes.mask[plane].all() for plane in range(SHAPE[0]))
    info = planes.info
    assert (info.name, info.source, info.dtype) == ("drawn", ["scan.npy"], "uint16")
    assert (info.polarity, info.voxel_size_um, info.radius_px) == ("dark", 0.5, (4, 8))
    for file, published in (("planes.npy", info.planes_sha256), ("mask.npy", info.mask_sha256)):
        assert published == hashlib.sha256((folder / file).read_bytes()).hexdigest()
    assert info.source_digest == hashlib.sha256(f"{SHAPE} uint16".encode() + stack.tobytes()).hexdigest()
    assert Planes.load(folder).info == info


def test_unknown_voxel_size_stays_unknown(tmp_path: Path) -> None:
    assert ingest_array(tmp_path, noise()).info.voxel_size_um is None


def test_digests_follow_the_values(tmp_path: Path) -> None:
    stack = noise()
    info = ingest_array(tmp_path / "a", stack).info
    same = ingest_array(tmp_path / "b", np.asfortranarray(stack)).info  # only the order on disk differs
    stack[2, 7, 7] += 1
    changed = ingest_array(tmp_path / "c", stack).info
    assert info == same
    assert info.source_digest != changed.source_digest


def test_percentiles_are_robust_and_taken_in_the_field_of_view(tmp_path: Path) -> None:
    stack = noise()
    stack[:, :5, :5] = 65535  # a hot patch, 0.3 % of the pixels
    stack[:, ~in_disc(SHAPE[1:], 45, 40, 38)] = 0
    planes = ingest_array(tmp_path, stack, intensity_percentiles=(1, 99))
    low, high = planes.info.intensity_window
    assert low == pytest.approx(30000 - 2.326 * 4000, abs=300)
    assert high == pytest.approx(30000 + 2.326 * 4000, abs=300)


def test_region_is_cut_out(tmp_path: Path) -> None:
    stack = noise()
    planes = ingest_array(tmp_path, stack, region=(10, 80, 5, 75))
    assert planes.info.shape == (6, 70, 70)
    raw = np.clip(stack[:, 10:80, 5:75], *planes.info.intensity_window)
    assert np.abs(planes.info.denormalise(planes.grey).astype(float) - raw).max() < 20


def test_memory_is_bounded_by_a_few_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "SAMPLE_VALUES", 20_000)
    stack = noise((60, 256, 256))
    config = ScanConfig(path="scan.npy", radius_px=(4, 8), split={"held_out": [1], "calibration": [2]})
    peaks = {}
    for count in (6, 60):
        np.save(tmp_path / "scan.npy", stack[:count])
        tracemalloc.start()
        ingest("many", tmp_path, config, 16, tmp_path / "planes")
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[60] < 1.3 * peaks[6]
    assert peaks[60] < 0.7 * stack.nbytes


def test_pictures(tmp_path: Path) -> None:
    stack = noise()
    stack[:, ~in_disc(SHAPE[1:], 45, 40, 38)] = 0
    planes = ingest_array(tmp_path, stack)
    for picture in (contact_sheet, intensity_histogram):
        picture(planes, tmp_path / "once.png")
        picture(planes, tmp_path / "again.png")
        assert (tmp_path / "once.png").read_bytes() == (tmp_path / "again.png").read_bytes()
        with Image.open(tmp_path / "once.png") as image:
            assert min(image.size) > 200
            assert np.asarray(image).std() > 10  # not blank


# The field of view


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("outside", [0, 200])
def test_auto_finds_the_constant_outside(dtype: str, outside: int) -> None:
    plane = (noise((200, 220)) / 300).astype(dtype)
    inside = in_disc(plane.shape, 96.5, 110, 90)
    plane[~inside] = outside
    mask = field_of_view(plane, "auto")
    assert not mask[~inside].any()
    assert not mask[~in_disc(plane.shape, 96.5, 110, 87.5)].any()  # the edge is gone too
    assert mask[in_disc(plane.shape, 96.5, 110, 85)].all()  # and no more than that


def test_auto_sees_slivers_at_the_border() -> None:
    plane = noise((90, 80))
    inside = in_disc(plane.shape, 45, 40, 38)  # two columns of outside are left of it and one right of it
    plane[~inside] = 0
    assert not field_of_view(plane, "auto")[~inside].any()


def test_auto_drops_labels_in_the_outside_and_keeps_dark_holes_inside() -> None:
    plane = noise((200, 200))
    plane[~in_disc(plane.shape, 100, 100, 90)] = 0
    plane[3:9, 3:30] = noise((6, 27))  # a burnt-in label
    plane[90:110, 90:110] = 0  # a void, black as the outside
    mask = field_of_view(plane, "auto")
    assert not mask[3:9, 3:30].any()
    assert mask[80:120, 80:120].all()


def test_auto_does_nothing_where_nothing_is_outside() -> None:
    plane = noise((100, 120))
    assert field_of_view(plane, "auto").all()
    drawn = np.zeros((100, 120), np.uint8)  # a clean drawing: its matrix is constant and touches the border
    for row in range(10, 100, 20):
        for col in range(10, 120, 20):
            drawn[in_disc(drawn.shape, row, col, 7)] = 255
    assert field_of_view(drawn, "auto").all()


def test_circle_is_inscribed_or_fits_what_is_seen() -> None:
    plane = noise((101, 121))
    mask = field_of_view(plane, "circle")
    assert (mask == in_disc(plane.shape, 50, 60, 50.5 - 3)).all()
    plane[~in_disc(plane.shape, 55, 50, 40)] = 0  # off centre
    mask = field_of_view(plane, "circle")
    assert (mask == in_disc(plane.shape, 55, 50, 40.5 - 3)).all()


def test_full_keeps_everything() -> None:
    plane = noise((50, 50))
    plane[:10] = 0
    assert field_of_view(plane, "full").all()


REAL = Path(os.environ.get("MICROGAN_SCANS", Path(__file__).parents[3] / "shared/scans/insegt"))


@pytest.mark.parametrize("name", ["carbon0103.png", "carbon0918.png", "glass0064.png", "glass0864.png"])
@pytest.mark.parametrize("kind", ["auto", "circle"])
def test_field_of_view_of_real_planes(name: str, kind: str) -> None:
    if not (REAL / name).exists():
        pytest.skip("the public scan is not here; MICROGAN_SCANS names its folder")
    plane = np.asarray(Image.open(REAL / name))
    mask = field_of_view(plane, kind)
    assert plane[mask].min() > 0
    assert 0.96 < mask.sum() / (plane > 0).sum() < 1


def test_window_corners_against_brute_force() -> None:
    mask = np.random.default_rng(0).random((20, 25)) > 0.05
    truth = [[mask[r : r + 4, c : c + 4].all() for c in range(22)] for r in range(17)]
    assert (window_corners(mask, 4) == np.array(truth)).all()
    assert window_corners(mask, 21).size == 0


# The split


@pytest.mark.parametrize(
    "split",
    [
        {"held_out": 0.2, "calibration": 0.3, "margin_px": 7},
        {"held_out": [1, 4], "calibration": 0.25, "margin_px": 5},
        {"held_out": 0.25, "calibration": [0], "margin_px": 6},
        {"held_out": [5], "calibration": [0, 2], "margin_px": 9},
    ],
)
def test_roles_never_overlap_and_keep_their_margin(tmp_path: Path, split: dict) -> None:
    stack = noise()
    stack[:, ~in_disc(SHAPE[1:], 45, 40, 39)] = 0
    planes = ingest_array(tmp_path, stack, split=split, window_px=8)
    owners = np.zeros((len(ROLES), *SHAPE), bool)
    for number, role in enumerate(ROLES):
        for plane, row0, row1, col0, col1 in planes.info.regions[role]:
            assert 0 <= row0 < row1 <= SHAPE[1]
            assert 0 <= col0 < col1 <= SHAPE[2]
            owners[number, plane, row0:row1, col0:col1] = True
    assert owners.sum(0).max() == 1
    for plane in range(SHAPE[0]):
        rows = [np.flatnonzero(owner[plane].any(1)) for owner in owners if owner[plane].any()]
        for above, below in itertools.pairwise(rows):
            assert below[0] - above[-1] - 1 >= split["margin_px"]
    mask = np.stack([planes.mask[plane] for plane in range(SHAPE[0])])
    fractions = (owners & mask).sum((1, 2, 3)) / mask.sum()
    for role in ("held_out", "calibration"):
        fraction = split[role]
        whole = isinstance(fraction, list)
        role_planes = {box[0] for box in planes.info.regions[role]}
        assert not whole or role_planes == set(fraction)
        named = [plane for part in split.values() if isinstance(part, list) for plane in part]
        wanted = len(fraction) / 6 if whole else fraction * (6 - len(named)) / 6
        assert fractions[ROLES.index(role)] == pytest.approx(wanted, abs=0.001 if whole else 0.02)


def test_held_out_planes_do_not_touch_the_rest(tmp_path: Path) -> None:
    """Whatever is in held-out and calibration planes, the other planes come out the same."""
    stack = noise()
    before = ingest_array(tmp_path / "a", stack, split=BY_PLANE)
    stack[[3, 5]] = noise((2, *SHAPE[1:]), seed=1) // 2
    after = ingest_array(tmp_path / "b", stack, split=BY_PLANE)
    rest = [0, 1, 2, 4]
    assert (before.grey[rest] == after.grey[rest]).all()
    assert before.info.intensity_window == after.info.intensity_window


# Refusals


def test_nan_and_constant_planes(tmp_path: Path) -> None:
    stack = noise(dtype="float32")
    stack[2, 4, 4] = np.nan
    line = refusal(tmp_path, stack)
    assert "scan.npy plane 2: 1 px are NaN or infinite, the first at row " in line
    stack[2, 4, 4] = np.inf
    assert "px are NaN or infinite" in refusal(tmp_path, stack)
    stack[2] = 7
    assert refusal(tmp_path, stack).endswith("scan.npy plane 2: constant 7.0: grey values must differ")


def test_grey_window_without_width(tmp_path: Path) -> None:
    stack = np.zeros(SHAPE, np.uint8)
    stack[:, 40, 40] = 9
    line = refusal(tmp_path, stack, field_of_view="full")
    assert line == "intensity_percentiles: (0.5, 99.5): grey values there must differ, both are 0"


@pytest.mark.parametrize("window_px", [0, 81])
def test_window_larger_than_the_plane(tmp_path: Path, window_px: int) -> None:
    line = refusal(tmp_path, noise(), window_px)
    assert line == f"window_px: {window_px}: must be 1 to 80, the shorter side of drawn's planes"


def test_window_larger_than_the_field_of_view_or_a_part(tmp_path: Path) -> None:
    stack = noise()
    line = refusal(tmp_path, stack, 40)
    assert line.startswith(
        "window_px: 40: no window fits into the calibration part of drawn and its field of view;"
    )
    stack[:, ~in_disc(SHAPE[1:], 45, 40, 30)] = 0
    line = refusal(tmp_path, stack, 60, split=BY_PLANE)
    assert line.startswith(
        "window_px: 60: no window fits into the train part of drawn and its field of view; its"
    )


@pytest.mark.parametrize("region", [(0, 91, 0, 80), (10, 10, 0, 80), (0, 90, -1, 80), (0, 90, 50, 20)])
def test_wrong_region(tmp_path: Path, region: tuple) -> None:
    line = refusal(tmp_path, noise(), region=region)
    assert line == f"region: {region}: must be row0 < row1 <= 90 and col0 < col1 <= 80, from 0"


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        (
            {"held_out": "4:", "calibration": "2:3"},
            {"train": {0, 1, 3}, "calibration": {2}, "held_out": {4, 5}},
        ),
        (
            {"held_out": [5], "calibration": [3], "unused": [0, 4]},
            {"train": {1, 2}, "calibration": {3}, "held_out": {5}},
        ),
        ({"held_out": "5:6", "calibration": "::5", "unused": "1:3"}, None),
        (
            {"held_out": [5], "calibration": [2], "margin_planes": 1},
            {"train": {0}, "calibration": {2}, "held_out": {5}},
        ),
        (
            {"held_out": "4:6", "calibration": 0.3, "margin_planes": 1, "margin_px": 2},
            {"train": {0, 1, 2}, "calibration": {0, 1, 2}, "held_out": {4, 5}},
        ),
    ],
)
def test_planes_are_named_by_lists_and_ranges_and_left_out_beside_parts(
    tmp_path: Path, split: dict, parts: dict[str, set[int]] | None
) -> None:
    if parts is None:  # "::5" names planes 0 and 5
        line = refusal(tmp_path, noise(), split=split)
        assert line == "split.calibration: 5: must name each plane once; split.held_out has it too"
        return
    planes = ingest_array(tmp_path, noise(), split=split)
    assert {role: {box[0] for box in boxes} for role, boxes in planes.info.regions.items()} == parts


def test_a_split_that_leaves_nothing_says_what_to_do(tmp_path: Path) -> None:
    line = refusal(tmp_path, noise(), split={"held_out": "9:", "calibration": [1]})
    assert line == "split.held_out: 9:: must name a plane of the scan, which has 6 (0 to 5)"
    line = refusal(tmp_path, noise(), split={"held_out": "::2", "calibration": [3], "margin_planes": 1})
    assert line.startswith("split: 6 of 6 planes named or beside them: must leave a plane for training")
    line = refusal(tmp_path, noise(), 40, split={"held_out": 0.2, "calibration": 0.2, "margin_px": 2})
    assert "its largest region has 18 x 80 px: take smaller windows, or a larger split.calibration" in line
    with pytest.raises(UserError, match="range in quotes"):
        ScanConfig.from_mapping({"radius_px": (4, 8), "split": {"held_out": 620}}, "scans.x")  # 10:20 in YAML


def test_split_that_does_not_suit_the_scan(tmp_path: Path) -> None:
    line = refusal(tmp_path, noise(), split={"held_out": [6]})
    assert line == "split.held_out: 6: must name planes below 6, the scan's number of planes"
    line = refusal(tmp_path, noise(), split={"held_out": [0, 1, 2], "calibration": [3, 4, 5]})
    assert line.startswith("split: 6 of 6 planes named or beside them: must leave a plane for training")
    line = refusal(tmp_path, noise(), split={"held_out": [], "calibration": [1]})
    assert "no window fits into the held_out part" in line


def test_a_scan_that_breaks_half_way_leaves_the_earlier_planes(tmp_path: Path) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    for index, plane in enumerate(noise((4, 64, 64), "uint16")):
        Image.fromarray(plane).save(folder / f"{index}.png")
    config = ScanConfig(radius_px=(4, 8), split={"held_out": [0], "calibration": [1]})
    ingest("slices", folder, config, 16, tmp_path / "planes")
    before = {path.name: path.read_bytes() for path in (tmp_path / "planes").iterdir()}
    os.truncate(folder / "3.png", 4000)  # its header is whole
    with pytest.raises(UserError, match=r"3\.png: unreadable"):
        ingest("slices", folder, config, 16, tmp_path / "planes")
    assert {path.name: path.read_bytes() for path in (tmp_path / "planes").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["planes", "slices"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "planes.npy")

    monkeypatch.setattr(ingest_module, "to_unit_range", full)
    with pytest.raises(OSError, match="No space left"):
        ingest_array(tmp_path, noise())
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_loading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scan\.json: missing"):
        Planes.load(tmp_path)
    ingest_array(tmp_path, noise())
    os.truncate(tmp_path / "planes/planes.npy", 1000)
    with pytest.raises(UserError, match=r"planes\.npy: unreadable"):
        Planes.load(tmp_path / "planes")
    (tmp_path / "planes/mask.npy").unlink()
    with pytest.raises(UserError, match=r"mask\.npy: unreadable"):
        Planes.load(tmp_path / "planes")
    np.save(tmp_path / "planes/mask.npy", np.ones(SHAPE, bool))
    with pytest.raises(
        UserError, match=r"mask\.npy: shape .* of bool: must be .* of uint8, .*run ingest again"
    ):
        Planes.load(tmp_path / "planes")


@pytest.mark.parametrize("cols", [1, 8, 13, 70])
def test_a_mask_kept_as_bits_is_read_as_it_was(cols: int) -> None:
    mask = np.random.default_rng(cols).random((2, 5, cols)) < 0.7
    kept = PackedMask.of(mask)
    assert kept.shape == mask.shape
    for plane, rows, across in itertools.product(
        (0, 1), (slice(None), slice(1, 4), slice(0, 5, 2)), (slice(None), slice(3, 11), slice(0, cols, 3))
    ):
        part = kept[plane, rows, across]
        assert part.dtype == bool and np.array_equal(part, mask[plane, rows, across])
    assert np.array_equal(kept[1], mask[1])


def test_planes_take_little_more_than_a_16_bit_scan(tmp_path: Path) -> None:
    stack = noise()
    ingest_array(tmp_path, stack)
    size = sum(path.stat().st_size for path in (tmp_path / "planes").glob("*.npy"))
    assert size <= 1.15 * stack.nbytes


def test_a_disk_without_room_is_told_before_the_planes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"planes: needs .* GB: the disk has 1e-06 GB left"):
        ingest_array(tmp_path, noise())
    assert not (tmp_path / "planes").exists()


def test_what_models_keep_of_a_scan_is_short() -> None:
    info = ScanInfo(
        name="long",
        source=[f"slice_{number:04}.tif" for number in range(2000)],
        source_digest="0",
        shape=(2000, 2, 3),
        dtype="uint8",
        voxel_size_um=0.5,
        polarity="dark",
        radius_px=(4, 8),
        intensity_window=(10, 20),
        regions={"train": [(plane, 0, 2, 0, 3) for plane in range(2000)]},
        planes_sha256="1",
        mask_sha256="2",
    )
    excerpt = info.excerpt()
    assert excerpt.source == ["slice_0000.tif", "1998 more", "slice_1999.tif"]
    assert len(excerpt.model_dump_json()) < 600
    assert excerpt.model_copy(update={"source": info.source, "regions": info.regions}) == info


def test_info_survives_json() -> None:
    info = ScanInfo(
        name="s",
        source=["a.tif"],
        source_digest="0",
        shape=(1, 2, 3),
        dtype="uint8",
        voxel_size_um=None,
        polarity="dark",
        radius_px=(4, 8),
        intensity_window=(10, 20),
        regions={"train": [(0, 0, 2, 0, 3)]},
        planes_sha256="1",
        mask_sha256="2",
    )
    assert ScanInfo.model_validate_json(info.model_dump_json()) == info
    assert info.denormalise(np.array([-1, 0, 0.08, 1, 9])).tolist() == [10, 15, 15, 20, 20]
