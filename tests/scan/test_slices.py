"""Folders: which files are slices, in which order, what is doubtful; ranges of planes; blank ends."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microgan.core.errors import UserError
from microgan.scan.config import ScanConfig
from microgan.scan.images import image_files
from microgan.scan.ingest import ingest
from microgan.scan.planes import Planes
from microgan.scan.readers import Scan, open_scan
from microgan.scan.slices import doubts_of_images
from tests.scan.cases import plane, slices, stack

NUMBERED = {f"slice_{number}.tif": plane(0) + np.uint8(number) for number in range(12)}


def opened(folder: Path, **parameters: object) -> Scan:
    return open_scan(folder, ScanConfig.from_mapping({"radius_px": (4, 8), **parameters}, "scans.s"))


def names_of(folder: Path, **parameters: object) -> list[str]:
    with opened(folder, **parameters) as scan:
        return [path.name for path in scan.files]


def notes_of(folder: Path, **parameters: object) -> tuple[str, ...]:
    with opened(folder, **parameters) as scan:
        return scan.notes


def refusal(folder: Path, **parameters: object) -> str:
    with pytest.raises(UserError) as error, opened(folder, **parameters):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_natural_order_is_the_same_in_every_command(tmp_path: Path) -> None:
    """Hidden twins of macOS are no slices, and neither case nor suffix changes the order."""
    names = ["Slice_9.TIF", "slice_10.tif", "SLICE_11.tiff", "slice_12.Tif"]
    slices(tmp_path, dict.fromkeys(names, plane(0)))
    for name in names:
        (tmp_path / f"._{name}").write_bytes(b"\0\5\26\7 of macOS")
    assert names_of(tmp_path) == names
    assert [path.name for path in image_files([tmp_path])] == names
    assert notes_of(tmp_path) == ()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 1, 2, 5), "without 3, 4 (2 of 6)"),
        ((10, 20, 30), ""),  # every tenth
        ((10, 20, 40), "without 30 (1 of 4)"),
        ((103, 918), ""),
        ((3, 17, 108, 500), ""),  # selected by somebody
        ((*range(20), *range(30, 40)), "without 20, 21, 22, 23, 24 ... (10 of 40)"),
    ],
)
def test_gaps(tmp_path: Path, numbers: tuple[int, ...], words: str) -> None:
    slices(tmp_path, {f"s{number}.tif": plane(0) for number in numbers})
    notes = notes_of(tmp_path)
    assert (words in notes[0]) if words else notes == ()


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (["other_0.tif", "other_1.tif"], "other_0.tif (2)"),
        (["average.tif"], "average.tif (1)"),
        (["slice_3 copy.tif"], "slice_3 copy.tif (1)"),
        (["slice_3_mask.tif"], "slice_3_mask.tif: named as a mask beside 12 slices"),
        (["segmentation.tif"], "segmentation.tif: named as a mask"),
    ],
)
def test_files_of_another_kind_are_refused_by_name_or_excluded(
    tmp_path: Path, others: list[str], words: str
) -> None:
    slices(tmp_path, {**NUMBERED, **dict.fromkeys(others, plane(1))})
    assert words in refusal(tmp_path)
    assert "in exclude" in refusal(tmp_path)
    assert names_of(tmp_path, exclude=others) == list(NUMBERED)
    assert names_of(tmp_path, exclude=["OTHER_*", "*copy.tif", "*mask*", "seg*", "av?rage.tif"]) == list(
        NUMBERED
    )


def test_the_exclude_that_a_refusal_proposes_mends_it(tmp_path: Path) -> None:
    slices(tmp_path, {**NUMBERED, "b1_7.tif": plane(1), "b1_8.tif": plane(1)})
    proposed = refusal(tmp_path).rpartition("exclude: [")[2].rstrip("]").strip("'")
    assert names_of(tmp_path, exclude=[proposed]) == list(NUMBERED)


def test_two_numbers_that_count_two_scans_are_refused(tmp_path: Path) -> None:
    slices(tmp_path, {f"sample{s}_{n}.tif": plane(0) for s in (1, 2) for n in range(3)})
    assert "names of several scans, from sample1_0.tif to sample2_2.tif" in refusal(tmp_path)
    assert len(names_of(tmp_path, exclude=["sample2*"])) == 3


def test_a_mask_beside_a_single_slice(tmp_path: Path) -> None:
    slices(tmp_path, {"slice.tif": plane(0), "mask.tif": plane(1)})
    assert "mask.tif: named as a mask beside 1 slices" in refusal(tmp_path)


def test_previews_are_left_out_with_a_note(tmp_path: Path) -> None:
    named = {f"bone_rec{number:08d}.tif": plane(number) for number in range(3)}
    slices(tmp_path, {**named, "bone_rec_spr.tif": plane(0)[::4, ::4]})
    assert names_of(tmp_path) == list(named)
    assert "bone_rec_spr.tif: named as a preview: left out" in notes_of(tmp_path)[0]
    for number, name in enumerate(named):  # slices as BMP beside a preview as TIFF
        (tmp_path / name).unlink()
        Image.fromarray(plane(number)).save((tmp_path / name).with_suffix(".bmp"))
    assert names_of(tmp_path) == [name.replace(".tif", ".bmp") for name in named]


def test_names_without_numbers_are_read_with_a_note(tmp_path: Path) -> None:
    slices(tmp_path, {"bottom.tif": plane(0), "top.tif": plane(1)})
    assert names_of(tmp_path) == ["bottom.tif", "top.tif"]
    assert "names without numbers" in notes_of(tmp_path)[0]


def test_doubtful_images_of_a_folder_are_said_to_commands(tmp_path: Path) -> None:
    slices(tmp_path, {**NUMBERED, "mask.tif": plane(0)})
    (note,) = doubts_of_images(tmp_path, image_files([tmp_path]))
    assert "mask.tif: named as a mask or preview beside 12 images: read as an image" in note
    slices(tmp_path, {"b1.tif": plane(0), "b2.tif": plane(0)})
    (note,) = doubts_of_images(tmp_path, image_files([tmp_path]))
    assert (
        "files of several series, b1.tif (2 files), slice_0.tif (12 files): each is read as an image" in note
    )


def test_sizes_of_slices(tmp_path: Path) -> None:
    per_cm = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    slices(tmp_path, {"1.tif": plane(0)}, **per_cm)
    slices(tmp_path, {"2.tif": plane(1)})
    with opened(tmp_path) as scan:
        assert scan.voxel_size_um == 1.0
        assert "2.tif: no voxel size, where 1 of 2 slices state 1 um" in scan.notes[0]
    slices(tmp_path, {"2.tif": plane(1)}, resolution=(1.02e4, 1.02e4), resolutionunit="CENTIMETER")
    assert "voxel sizes 0.980392, 1 um: must be the same in all slices" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("planes", "chosen"),
    [("2:6", [2, 3, 4, 5]), ("1:10:4", [1, 5, 9]), (":3", [0, 1, 2]), ("-2:", [10, 11]), ("::5", [0, 5, 10])],
)
def test_a_range_of_planes(tmp_path: Path, planes: str, chosen: list[int]) -> None:
    slices(tmp_path / "folder", NUMBERED)
    np.save(tmp_path / "scan.npy", np.stack(list(NUMBERED.values())))
    for path in ("folder", "scan.npy"):
        with opened(tmp_path, path=path, planes=planes) as scan:
            assert scan.shape[0] == len(chosen)
            for index, number in enumerate(chosen):
                assert (scan.plane(index) == NUMBERED[f"slice_{number}.tif"]).all()
                assert scan.file_of(index).name == (f"slice_{number}.tif" if path == "folder" else path)


@pytest.mark.parametrize("planes", ["3", "a:b", "1:2:0", "1:2:-1", 37204, "1 2", "1:2:3:4"])
def test_what_is_no_range(tmp_path: Path, planes: object) -> None:
    line = refusal(tmp_path, planes=planes)
    assert line.startswith(f"scans.s.planes: {planes!r}: must be a range as in Python, in quotes")


def test_a_range_without_planes(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", stack())
    line = refusal(tmp_path, path="scan.npy", planes="5:")
    assert line == "planes: 5:: must leave planes of the 3 that the scan has"


def test_blank_ends_of_a_stack(tmp_path: Path) -> None:
    nan = np.full((1, 160, 192), np.nan, np.float32)
    np.save(tmp_path / "scan.npy", np.concatenate([nan, nan, stack(), np.zeros_like(nan)]).astype(np.float32))
    with opened(tmp_path, path="scan.npy") as scan:
        assert (np.stack([scan.plane(index) for index in range(3)]) == stack()).all()
        assert scan.shape[0] == 3
        assert "3 blank planes at the ends (0, 1, 5): left out" in scan.notes[0]
    np.save(tmp_path / "scan.npy", np.zeros((3, 160, 192)))
    with opened(tmp_path, path="scan.npy") as scan:
        assert scan.shape[0] == 3  # ingest refuses them


def test_the_order_of_pngs_beside_bmp_and_missing_folders(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.fromarray(plane(number)).save(tmp_path / f"{number}.png")
        Image.fromarray(plane(number)).save(tmp_path / f"{number}.bmp")
    assert names_of(tmp_path) == ["1.png", "2.png"]
    assert "no slices" in refusal(tmp_path, exclude=["*"])


# What ingest says


def _ingested(
    folder: Path, values: np.ndarray, caplog: pytest.LogCaptureFixture, **parameters: object
) -> list[str]:
    (folder / "raw").mkdir(exist_ok=True)
    np.save(folder / "raw/scan.npy", values)
    split = {"held_out": [0], "calibration": [1]}
    config = ScanConfig(path="scan.npy", radius_px=(4, 8), split=split, **parameters)
    caplog.clear()
    ingest("drawn", folder / "raw", config, 16, folder / "planes")
    return [record.getMessage() for record in caplog.records if record.name == "microgan"]


def test_planes_stretched_one_by_one_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(100, 20, (4, 96, 96)) * np.array([1, 1.2, 0.8, 1.1])[:, None, None]
    low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
    own = np.round((values - low) / (high - low) * 65535).astype(np.uint16)
    assert "as if each was stretched to its own range" in _ingested(tmp_path, own, caplog)[0]
    unit = ((values - low) / (high - low)).astype(np.float32)
    assert "as if each was stretched" in _ingested(tmp_path, unit, caplog)[0]
    together = np.round((values - values.min()) / np.ptp(values) * 65535).astype(np.uint16)
    assert _ingested(tmp_path, together, caplog) == []
    clipped = np.clip(values * 2, 60, 315) - 60
    assert _ingested(tmp_path, clipped.astype(np.uint8), caplog) == []


def test_nan_outside_is_outside_of_the_field_of_view(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.random.default_rng(0).normal(100, 20, (3, 96, 96)).astype(np.float32)
    outside = np.hypot(*(np.indices((96, 96)) - 47.5)) > 46
    values[:, outside] = np.nan
    for kind in ("auto", "circle"):
        assert _ingested(tmp_path, values, caplog, field_of_view=kind) == []
        planes = Planes.load(tmp_path / "planes")
        inner = np.hypot(*(np.indices((96, 96)) - 47.5)) < 41
        for number in range(3):
            assert not planes.mask[number][outside].any() and planes.mask[number][inner].all()
        assert np.isfinite(planes.grey).all()
    with pytest.raises(UserError, match="are NaN or infinite"):
        _ingested(tmp_path, values, caplog, field_of_view="full")
    values[1, 40, 40] = np.nan
    with pytest.raises(
        UserError,
        match="plane 1: 1 px are NaN or infinite, the first at row 40, column 40: grey values must be",
    ):
        _ingested(tmp_path, values, caplog)
