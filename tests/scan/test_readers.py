"""Every format gives back what was written; every broken scan ends in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from microgan.core.errors import UserError
from microgan.core.files import write_tiff
from microgan.scan.config import ScanConfig, SplitConfig
from microgan.scan.readers import open_scan

SHAPE = (12, 20, 30)  # 12 planes, so that natural and alphabetical order differ


def stack_of(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(SHAPE).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, SHAPE, dtype=dtype, endpoint=True)


def config_for(path: str = ".", **parameters: object) -> ScanConfig:
    return ScanConfig.from_mapping({"path": path, "radius_px": (4, 8), **parameters}, where="scans.s")


def read(folder: Path, config: ScanConfig) -> np.ndarray:
    with open_scan(folder, config) as scan:
        planes = np.stack([scan.plane(index) for index in range(scan.shape[0])])
        assert planes.shape == scan.shape
        assert planes.dtype == scan.dtype
        assert scan.dtype.isnative
        assert (scan.plane(3 % scan.shape[0]) == planes[3 % scan.shape[0]]).all()  # in any order
        with pytest.raises(IndexError):
            scan.plane(scan.shape[0])
    return planes


def line_of(folder: Path, config: ScanConfig) -> str:
    """Open and read all planes; return the user's one line."""
    with pytest.raises(UserError) as error, open_scan(folder, config) as scan:
        for index in range(scan.shape[0]):
            scan.plane(index)
    text = str(error.value)
    assert "\n" not in text
    return text


# Formats


def tiff_plain(path: Path, stack: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            writer.write(plane, metadata=None)


TIFF_WRITERS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "ours": lambda path, stack: write_tiff(path, stack, 1.0),
    "contiguous": tifffile.imwrite,
    "scattered": tiff_plain,
    "bigtiff": lambda path, stack: tifffile.imwrite(path, stack, bigtiff=True),
    "big-endian": lambda path, stack: tifffile.imwrite(path, stack, byteorder=">"),
    "deflate": lambda path, stack: tifffile.imwrite(path, stack, compression="zlib"),
    "tiled": lambda path, stack: tifffile.imwrite(path, stack, tile=(16, 16)),
    "imagej": lambda path, stack: tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"}),
    "ome": lambda path, stack: tifffile.imwrite(path, stack, ome=True, metadata={"axes": "ZYX"}),
}


@pytest.mark.parametrize("writer", TIFF_WRITERS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff(tmp_path: Path, writer: str, dtype: str) -> None:
    TIFF_WRITERS[writer](tmp_path / "scan.tif", stack_of(dtype))
    assert (read(tmp_path, config_for("scan.tif")) == stack_of(dtype)).all()
    assert (read(tmp_path, config_for()) == stack_of(dtype)).all()  # as the folder's only TIFF


def test_one_plane_of_each_format(tmp_path: Path) -> None:
    plane = stack_of("uint16")[0]
    tifffile.imwrite(tmp_path / "scan.tif", plane)
    Image.fromarray(plane).save(tmp_path / "scan.png")
    np.save(tmp_path / "scan.npy", plane)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["slice"] = plane
    for name in ("scan.tif", "scan.png", "scan.npy", "scan.h5"):
        assert (read(tmp_path, config_for(name)) == plane[None]).all()


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".png"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_slices_in_natural_order_beside_other_files(tmp_path: Path, suffix: str, dtype: str) -> None:
    for index, plane in enumerate(stack_of(dtype)):
        if suffix == ".png":
            Image.fromarray(plane).save(tmp_path / f"slice{index}{suffix}")
        else:
            tifffile.imwrite(tmp_path / f"slice{index}{suffix}", plane)
    for name in (".gitignore", "README.md", "LICENSE", "circles.csv", "slice0.png.dvc", ".hidden.png"):
        (tmp_path / name).write_text("not a slice")
    assert (read(tmp_path, config_for()) == stack_of(dtype)).all()
    with open_scan(tmp_path, config_for()) as scan:
        assert [path.name for path in scan.files] == [f"slice{index}{suffix}" for index in range(SHAPE[0])]


def test_hdf5_by_name_or_the_only_one(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("entry/data", data=stack_of("float32"), chunks=(1, 10, 10), compression="gzip")
        file["entry/angles"] = np.arange(5)
    assert (read(tmp_path, config_for("scan.h5")) == stack_of("float32")).all()
    assert (read(tmp_path, config_for("scan.h5", dataset="/entry/data")) == stack_of("float32")).all()
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file["other"] = stack_of("uint8")
    line = line_of(tmp_path, config_for("scan.h5"))
    assert line == "dataset: None: must name one of entry/data, other"
    assert "dataset: nothing: must name one of" in line_of(tmp_path, config_for("scan.h5", dataset="nothing"))


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, order: str) -> None:
    np.save(tmp_path / "scan.npy", np.asarray(stack_of("int16"), order=order))
    assert (read(tmp_path, config_for("scan.npy")) == stack_of("int16")).all()


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_raw(tmp_path: Path, byte_order: str, dtype: str) -> None:
    stack_of(dtype).astype(np.dtype(dtype).newbyteorder(byte_order[0])).tofile(tmp_path / "scan.raw")
    config = config_for("scan.raw", shape=SHAPE, dtype=dtype, byte_order=byte_order)
    assert (read(tmp_path, config) == stack_of(dtype)).all()


# Voxel size: stated or unknown, never invented

PER_CM = {"resolutionunit": "CENTIMETER"}


@pytest.mark.parametrize(
    ("tags", "size_um"),
    [
        ({"resolution": (1e4 / 0.65, 1e4 / 0.65), **PER_CM}, 0.65),
        ({"resolution": (25400 / 2, 25400 / 2), "resolutionunit": "INCH"}, 2.0),
        ({}, None),
        ({"resolution": (1e4, 1e4), "resolutionunit": "NONE"}, None),
        ({"resolution": (1, 1), **PER_CM}, None),
        ({"resolution": (1, 1), "resolutionunit": "INCH"}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (96, 96), "resolutionunit": "INCH"}, None),
        ({"resolution": (96 / 2.54, 96 / 2.54), **PER_CM}, None),
        ({"resolution": (0, 0), **PER_CM}, None),
        ({"resolution": (1 / 0.7, 1 / 0.7), "imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}}, 0.7),
        ({"resolution": (1, 1), "imagej": True, "metadata": {"axes": "ZYX", "unit": "micron"}}, 1.0),
        ({"resolution": (100, 100), "imagej": True, "metadata": {"axes": "ZYX", "unit": "mm"}}, 10.0),
        ({"resolution": (2, 2), "imagej": True, "metadata": {"axes": "ZYX", "unit": "pixel"}}, None),
        ({"resolution": (72, 72), "imagej": True, "metadata": {"axes": "ZYX", "unit": "inch"}}, None),
        ({"resolution": (2, 2), "imagej": True, "metadata": {"axes": "ZYX"}}, None),
        ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}, 0.5),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    "PhysicalSizeX": 250.0,
                    "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeY": 250.0,
                    "PhysicalSizeYUnit": "nm",
                },
            },
            0.25,
        ),
        ({"ome": True, "metadata": {"axes": "ZYX"}}, None),
    ],
)
def test_voxel_size_of_tiff(tmp_path: Path, tags: dict, size_um: float | None) -> None:
    tifffile.imwrite(tmp_path / "scan.tif", stack_of("uint16"), **tags)
    with open_scan(tmp_path, config_for("scan.tif")) as scan:
        assert scan.voxel_size_um == (None if size_um is None else pytest.approx(size_um, rel=1e-5))


def test_voxel_size_of_params_always_wins_and_a_difference_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", stack_of("uint8"))
    write_tiff(tmp_path / "scan.tif", stack_of("uint8"), 0.65)
    for name, stated, size_um in (
        ("scan.npy", None, None),
        ("scan.npy", 1.3, 1.3),
        ("scan.tif", None, 0.65),
        ("scan.tif", 0.652, 0.652),
    ):
        with open_scan(tmp_path, config_for(name, voxel_size_um=stated)) as scan:
            assert scan.voxel_size_um == size_um
            assert scan.notes == ()
    with open_scan(tmp_path, config_for("scan.tif", voxel_size_um=0.7)) as scan:
        assert (scan.voxel_size_um, scan.voxel_size_source) == (0.7, "the parameter voxel_size_um")
        (note,) = scan.notes
        assert note.endswith(
            "scan.tif: 0.65 um by resolution tags per cm: voxel_size_um, 0.7 um, is used instead"
        )


def test_oblong_pixels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "scan.tif", stack_of("uint8"), resolution=(1e4, 2e4), **PER_CM)
    assert "pixels of 1 x 0.5 um: must be square" in line_of(tmp_path, config_for("scan.tif"))
    with open_scan(tmp_path, config_for("scan.tif", voxel_size_um=1.0)) as scan:  # the tags may be wrong
        assert scan.voxel_size_um == 1.0
        assert "1 x 0.5 um by resolution tags per cm" in scan.notes[0]


def test_slices_of_different_voxel_size_are_refused(tmp_path: Path) -> None:
    for size_um in (1, 2):
        write_tiff(tmp_path / f"{size_um}.tif", stack_of("uint8")[:1], size_um)
    assert "must be the same in all slices" in line_of(tmp_path, config_for())


# Bad input


def test_missing(tmp_path: Path) -> None:
    line = line_of(tmp_path, config_for("scan.tif"))
    assert line == f"{tmp_path / 'scan.tif'}: missing: the scan's file or folder must exist"
    assert "missing" in line_of(tmp_path / "nowhere", config_for())


def test_folder_without_slices(tmp_path: Path) -> None:
    (tmp_path / "slice.png.dvc").write_text("")
    assert line_of(tmp_path, config_for()) == f"{tmp_path}: no slices: must hold .tif, .tiff, .png files"


@pytest.mark.parametrize("name", ["scan.tif", "scan.png", "scan.h5", "scan.npy", "scan.raw"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    config = config_for(name, **{"shape": SHAPE, "dtype": "uint8"} if name == "scan.raw" else {})
    assert line_of(tmp_path, config) == f"{tmp_path / name}: 0 bytes: must not be empty"


def test_empty_slice(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    assert line_of(tmp_path, config_for()) == f"{tmp_path / '1.png'}: 0 bytes: must not be empty"


@pytest.mark.parametrize("name", ["scan.tif", "scan.png", "scan.h5", "scan.npy"])
def test_not_what_the_suffix_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"plainly no picture\n" * 100)
    assert line_of(tmp_path, config_for(name)).startswith(f"{tmp_path / name}: unreadable: must be whole")


def test_unknown_suffix(tmp_path: Path) -> None:
    (tmp_path / "scan.vgi").write_bytes(b"x")
    line = line_of(tmp_path, config_for("scan.vgi"))
    assert "suffix '.vgi': must be TIFF, PNG, BMP, JPEG, HDF5" in line
    assert line.endswith("NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd)")


@pytest.mark.parametrize("fraction", [0.97, 0.5, 0.1])
@pytest.mark.parametrize("writer", TIFF_WRITERS)
def test_truncated_tiff(
    tmp_path: Path, writer: str, fraction: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.tif"
    TIFF_WRITERS[writer](path, stack_of("uint16"))
    os.truncate(path, int(path.stat().st_size * fraction))
    assert line_of(tmp_path, config_for("scan.tif")).startswith(f"{path}: unreadable: must be whole")
    assert capfd.readouterr().err == ""  # tifffile's own log lines are not for the user


@pytest.mark.parametrize("fraction", [0.9, 0.5])
def test_truncated_png_hdf5_npy(tmp_path: Path, fraction: float) -> None:
    Image.fromarray(stack_of("uint16")[0]).save(tmp_path / "scan.png")
    np.save(tmp_path / "scan.npy", stack_of("uint16"))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["scan"] = stack_of("uint16")
    for path in sorted(tmp_path.iterdir()):
        os.truncate(path, int(path.stat().st_size * fraction))
        assert line_of(tmp_path, config_for(path.name)).startswith(f"{path}: unreadable")


def test_raw_of_wrong_size(tmp_path: Path) -> None:
    stack_of("uint8").tofile(tmp_path / "scan.raw")
    line = line_of(tmp_path, config_for("scan.raw", shape=SHAPE, dtype="uint16"))
    assert line.endswith("scan.raw: 7200 bytes: must be 14400 bytes, for shape (12, 20, 30) and dtype uint16")
    line = line_of(tmp_path, config_for("scan.raw", shape=SHAPE))
    assert line == "dtype: None: raw file scan.raw needs shape and dtype"


def test_mixed_slices(tmp_path: Path) -> None:
    stack = stack_of("uint8")
    for folder, second in (("size", stack[1, :-1]), ("type", stack[1].astype(np.uint16))):
        (tmp_path / folder).mkdir()
        Image.fromarray(stack[0]).save(tmp_path / folder / "1.png")
        Image.fromarray(second).save(tmp_path / folder / "2.png")
    line = line_of(tmp_path / "size", config_for())
    assert line == f"{tmp_path / 'size' / '2.png'}: 19 x 30 uint8: must be 20 x 30 uint8 as 1.png"
    assert "20 x 30 uint16: must be 20 x 30 uint8" in line_of(tmp_path / "type", config_for())


def test_mixed_pages_and_mixed_formats(tmp_path: Path) -> None:
    stack = stack_of("uint8")
    with tifffile.TiffWriter(tmp_path / "scan.tif") as writer:
        writer.write(stack[0], metadata=None)
        writer.write(stack[1, :-1], metadata=None)
    assert "must have pages of one size and type" in line_of(tmp_path, config_for("scan.tif"))
    Image.fromarray(stack[0]).save(tmp_path / "1.png")
    assert "must hold slices of one format" in line_of(tmp_path, config_for())


def test_several_stacks_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, stack_of("uint8"))
    assert line_of(tmp_path, config_for()).endswith(
        "a.tif: 12 pages: must be one slice, or the folder's only TIFF"
    )


def test_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "scan.png")
    Image.fromarray(rgb).quantize(16).save(tmp_path / "palette.png")
    tifffile.imwrite(tmp_path / "scan.tif", rgb, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "planar.tif", rgb.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    )
    tifffile.imwrite(tmp_path / "channels.tif", stack_of("uint8")[:2], imagej=True, metadata={"axes": "CYX"})
    for name in ("scan.png", "palette.png", "scan.tif", "planar.tif", "channels.tif"):
        assert "not colour" in line_of(tmp_path, config_for(name))


def test_wrong_number_of_dimensions_and_type(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(7))
    np.save(tmp_path / "complex.npy", np.zeros(SHAPE, complex))
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 4)))
    assert "shape (7,): must be (planes, rows, columns)" in line_of(tmp_path, config_for("flat.npy"))
    assert "values of type complex128: must be one of" in line_of(tmp_path, config_for("complex.npy"))
    assert "must be integers of at least 1" in line_of(tmp_path, config_for("none.npy"))


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"polarty": "bright"}, "scans.s.polarty: 'bright': unknown parameter, known are "),
        ({"polarity": "grey"}, "scans.s.polarity: 'grey': input should be 'bright' or 'dark'"),
        ({"radius_px": (8, 4)}, "must be (min, max) with 1 <= min < max"),
        ({"radius_px": (4, float("inf"))}, "scans.s.radius_px.1: inf: input should be a finite number"),
        ({"radius_px": (4, float("nan"))}, "input should be a finite number"),
        ({"radius_px": 4}, "scans.s.radius_px: 4: input should be a valid tuple"),
        ({"intensity_percentiles": (99, 1)}, "must be (low, high) with 0 <= low < high <= 100"),
        ({"voxel_size_um": 0}, "scans.s.voxel_size_um: 0: must be from 1e-05 to 1e+06 um"),
        ({"dtype": "uint12"}, "must be one of uint8,"),
        ({"shape": (0, 4, 4)}, "must be at least 1"),
        ({"path": "../other/scan.tif"}, "must be relative to the scan's folder and stay inside it"),
        ({"path": "/scan.tif"}, "must be relative to the scan's folder and stay inside it"),
        ({"split": {"held_out": 0.6, "calibration": 0.5}}, "must leave a part for training"),
        ({"split": {"held_out": [1, 2], "calibration": [2]}}, "must name each plane at most once"),
        ({"split": {"held_out": 1.5}}, "scans.s.split.held_out: 1.5: must be a list of planes"),
        (
            {"split": {"held_out": [-1]}},
            "scans.s.split.held_out: [-1]: must be a list of planes",
        ),
        ({"split": {"held_out": "half"}}, "or a fraction between 0 and 1"),
        (
            {"split": {"margin_px": -1}},
            "scans.s.split.margin_px: -1: input should be greater than or equal to 0",
        ),
    ],
)
def test_bad_parameters_are_one_line(parameters: dict, line: str) -> None:
    with pytest.raises(UserError) as error:
        config_for(**parameters)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_radius_band_is_required() -> None:
    with pytest.raises(UserError, match=r"scans\.s\.radius_px: missing: field required"):
        ScanConfig.from_mapping({}, where="scans.s")


def test_split_defaults_leave_a_part_for_each() -> None:
    split = SplitConfig()
    assert (split.held_out, split.calibration) == (0.2, 0.2)
