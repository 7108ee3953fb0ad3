"""The rules by which a voxel size is read, chosen or unknown; docs in `microgan.scan.voxel_size`."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from microgan.scan.readers import open_image
from microgan.scan.voxel_size import unit_um

PER_MM = {"resolution": (2000, 2000), "resolutionunit": "NONE"}
CM, INCH = {"resolutionunit": "CENTIMETER"}, {"resolutionunit": "INCH"}


def read(path: Path, **tags: object) -> tuple[float | None, tuple[str, ...]]:
    tifffile.imwrite(path, np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7), **tags)
    with open_image(path) as scan:
        assert (scan.voxel_size_um is None) == (scan.voxel_size_source is None)
        return scan.voxel_size_um, scan.notes


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("um", 1), ("µm", 1), ("μm", 1), ("\\u00B5m", 1), ("Âµm", 1), ("Î¼m", 1), ("?m", 1), ("\ufffdm", 1),
        (b"\xb5m", 1), ("micron", 1), ("Microns", 1), ("micrometre", 1), ("micrometers", 1), ("nm", 1e-3),
        ("Nanometers", 1e-3), ("mm", 1e3), ("millimetre", 1e3), ("cm", 1e4), ("m", 1e6), ("inch", 25400),
        ("Å", 1e-4), (" um\0", 1), ("pixel", None), ("", None), ("s", None), ("None", None),
    ],
)  # fmt: skip
def test_units(unit: object, um: float | None) -> None:
    assert unit_um(unit) == um


@pytest.mark.parametrize(
    "dpi", [64, 72, 75, 93, 96, 100, 150, 200, 254.0001, 300, 360, 600, 1200, 2400, 4800]
)
def test_resolutions_for_print_are_unknown_with_a_note(tmp_path: Path, dpi: float) -> None:
    size_um, notes = read(tmp_path / "a.tif", resolution=(dpi, dpi), **INCH)
    if dpi == 254.0001:  # 100 um: what scanners are set to
        assert (size_um, notes) == (pytest.approx(100, rel=1e-4), ())
    else:
        assert size_um is None
        assert "per inch, which are for print" in notes[0] and "state voxel_size_um" in notes[0]


@pytest.mark.parametrize(
    "per_cm", [28, 28.3, 28.35, 28.346, 37.8, 38, 39.37, 47, 59, 59.06, 78.74, 118, 118.11, 236, 236.22, 472]
)
def test_the_same_per_cm(tmp_path: Path, per_cm: float) -> None:
    size_um, notes = read(tmp_path / "a.tif", resolution=(per_cm, per_cm), **CM)
    assert size_um is None
    assert "for print" in notes[0]


@pytest.mark.parametrize(
    "um",
    [
        0.05,
        0.325,
        0.5,
        0.65,
        0.9,
        1.0,
        1.3,
        2.0,
        3.45,
        5.0,
        6.5,
        10.0,
        13.7,
        20.0,
        25.0,
        33.3,
        50.0,
        82.1,
        100.0,
    ],
)
@pytest.mark.parametrize("unit", [CM, INCH])
def test_real_sizes_are_read(tmp_path: Path, um: float, unit: dict) -> None:
    per_unit = {"CENTIMETER": 1e4, "INCH": 25400.0}[unit["resolutionunit"]] / um
    assert read(tmp_path / "a.tif", resolution=(per_unit, per_unit), **unit) == (
        pytest.approx(um, rel=1e-4),
        (),
    )


@pytest.mark.parametrize("resolution", [(1, 1), (0, 0)])
def test_tags_that_state_nothing_are_silent(tmp_path: Path, resolution: tuple[int, int]) -> None:
    for unit in (CM, INCH, {"resolutionunit": "NONE"}):
        assert read(tmp_path / "a.tif", resolution=resolution, **unit) == (None, ())


def test_text_and_tags(tmp_path: Path) -> None:
    def imagej(unit: str, resolution: float, **tags: object) -> tuple[float | None, tuple[str, ...]]:
        metadata = {"axes": "ZYX", "unit": unit}
        return read(tmp_path / "a.tif", imagej=True, resolution=(resolution,) * 2, metadata=metadata, **tags)

    assert imagej("um", 2) == (0.5, ())
    assert imagej("cm", 2e4, **CM) == (0.5, ())  # text and tags agree
    assert imagej("um", 2, **INCH) == (0.5, ())  # two per inch are nobody's
    size_um, notes = imagej("mm", 2000, **CM)  # 0.5 um or 5 um: both may be
    assert size_um is None
    assert (
        "states 0.5 um and resolution tags per cm state 5 um: the voxel size is read as unknown" in notes[0]
    )
    size_um, notes = imagej("pixel", 2e4, **CM)
    assert size_um is None
    assert "which is no unit of length, while resolution tags per cm state 0.5 um" in notes[0]
    assert imagej("pixel", 72, **INCH) == (None, ())
    assert imagej("m", 2)[0] is None


@pytest.mark.parametrize("unit", [b"\xb5m", b"\xc2\xb5m", b"?m", b"micron"])
def test_imagej_text_in_any_encoding(tmp_path: Path, unit: bytes) -> None:
    path = tmp_path / "a.tif"
    read(path, imagej=True, resolution=(2, 2), metadata={"axes": "ZYX", "unit": "QQQQQm"})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"unit=QQQQQm", b"unit=" + unit.ljust(6)))
    with open_image(path) as scan:
        assert scan.voxel_size_um == 0.5


def test_scifio(tmp_path: Path) -> None:
    text = (
        "SCIFIO=0.37.3\naxes=X,Y,Z\nlengths=7,6,5\nscales=0.65,0.65,2.0\nunits=micron,micron,micron\n"
        "bitsPerPixel=16\nimages=5\nslices=5\nhyperstack=true\nmode=grayscale\nunit=micron\n"
    )
    size_um, notes = read(tmp_path / "a.tif", description=text, metadata=None)
    assert (size_um, notes) == (0.65, ())
    text = "SCIFIO=0.37.3\nimages=5\nslices=5\nunit=mm\n"
    assert read(tmp_path / "a.tif", description=text, metadata=None, **PER_MM) == (0.5, ())


def test_json_of_tifffile(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "um"}
    none = {"resolutionunit": "NONE"}
    assert read(tmp_path / "a.tif", metadata=metadata, resolution=(2, 2), **none) == (0.5, ())
    assert read(tmp_path / "a.tif", metadata=metadata) == (None, ())  # its tags are 1 per nothing by default
    assert read(tmp_path / "a.tif", metadata={"unit": "cm"}, resolution=(2e4, 2e4), **CM) == (0.5, ())


def test_ome(tmp_path: Path) -> None:
    def ome(**sizes: object) -> tuple[float | None, tuple[str, ...]]:
        return read(tmp_path / "a.ome.tif", ome=True, metadata={"axes": "ZYX", **sizes})

    assert ome(PhysicalSizeX=0.65, PhysicalSizeY=0.65) == (0.65, ())  # micrometres by default
    for unit, size in (("nm", 650.0), ("mm", 6.5e-4), ("Å", 6500.0), ("pm", 650_000.0)):
        sizes = {f"PhysicalSize{axis}": size for axis in "XY"}
        units = {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
        assert ome(**sizes, **units)[0] == pytest.approx(0.65)
    units = {f"PhysicalSize{axis}Unit": "pixel" for axis in "XY"}
    size_um, notes = ome(PhysicalSizeX=1.0, PhysicalSizeY=1.0, **units)
    assert (size_um, notes) == (None, ())
