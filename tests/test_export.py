"""Exports, read back by other means than they were written."""

import binascii
import csv
import json
import re
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from microgan.errors import UserError
from microgan.export import ExportConfig, export, phase_from_labels, vti

PROVENANCE = {"model_sha256": "ab" * 32, "seed": 7, "git_commit": "c0ffee"}
VOXEL_UM = 0.65


@dataclass(frozen=True)
class Discs:
    row: np.ndarray
    col: np.ndarray
    radius: np.ndarray


@pytest.fixture
def structures() -> SimpleNamespace:
    rng = np.random.default_rng(0)
    phase = rng.random((3, 5, 7)) < 0.5
    circles = [Discs(*rng.uniform(0, 5, (3, n))) for n in (2, 0, 1)]
    verdicts = [
        SimpleNamespace(valid=True, reasons=()),
        SimpleNamespace(valid=False, reasons=("overlap", "radius")),
        SimpleNamespace(valid=True, reasons=()),
    ]
    images = rng.integers(0, 60000, phase.shape).astype(np.uint16)
    return SimpleNamespace(images=images, phase=phase, circles=circles, verdicts=verdicts)


def run(parts: SimpleNamespace, out: Path, **parameters: object) -> dict:
    config = ExportConfig.from_mapping(parameters, "export")
    return export(parts.images, parts.phase, parts.circles, PROVENANCE, out, config, verdicts=parts.verdicts)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def read_vti(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """An XML parser and struct; returns ids (planes, rows, cols) and the spacing (x, y, z)."""
    root = ElementTree.parse(path).getroot()
    image = root.find("ImageData")
    array = root.find("ImageData/Piece/CellData/DataArray")
    assert root.attrib["type"] == "ImageData"
    assert root.attrib["byte_order"] == "LittleEndian"
    assert image.attrib["Origin"] == "0 0 0"
    assert (array.attrib["type"], array.attrib["format"]) == ("Int32", "binary")
    content = binascii.a2b_base64(array.text.strip())
    x0, cols, y0, rows, z0, planes = map(int, image.attrib["WholeExtent"].split())
    assert (x0, y0, z0) == (0, 0, 0)
    count = rows * cols * planes
    length, *ids = struct.unpack(f"<I{count}i", content)
    assert length == 4 * count
    grid = np.empty((planes, rows, cols), int)
    for position, phase in enumerate(ids):  # VTK: x runs fastest, then y, then z
        grid[position // (cols * rows), position // cols % rows, position % cols] = phase
    return grid, tuple(map(float, image.attrib["Spacing"].split()))


def test_vti_comes_back_with_phases_and_spacing(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM)
    for index in range(3):
        grid, spacing = read_vti(tmp_path / f"out/vti/structure_{index:05d}.vti")
        np.testing.assert_array_equal(grid[0], structures.phase[index])
        assert spacing == (VOXEL_UM,) * 3


def test_vti_is_laid_out_for_a_reader_by_lines() -> None:
    # DAMASK does not parse XML: an element with its attributes on one line, the data alone on the next
    lines = vti(np.ones((2, 3, 4), np.int64), 1e-3).splitlines()
    (image,) = (line for line in lines if "<ImageData" in line)
    assert re.search(r'WholeExtent="0 4 0 3 0 2".* Spacing="0.001 0.001 0.001"', image)
    (at,) = (number for number, line in enumerate(lines) if 'Name="material"' in line)
    assert re.search(r'type="Int32".*format="binary">$', lines[at])
    assert struct.unpack("<I24i", binascii.a2b_base64(lines[at + 1].strip())) == (96, *[1] * 24)
    assert "</DataArray>" in lines[at + 2]


def test_tiff_holds_grey_and_phase_with_resolution(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM)
    with (
        tifffile.TiffFile(tmp_path / "out/grey.tif") as grey,
        tifffile.TiffFile(tmp_path / "out/phase.tif") as phase,
    ):
        np.testing.assert_array_equal(grey.asarray(), structures.images)
        assert grey.asarray().dtype == np.uint16
        np.testing.assert_array_equal(phase.asarray(), structures.phase.astype(np.uint8))
        for file in (grey, phase):
            numerator, denominator = file.pages[0].tags["XResolution"].value
            assert 1e4 / (numerator / denominator) == pytest.approx(VOXEL_UM)


def test_circles_are_in_pixels_and_in_the_coordinates_of_the_vti(
    structures: SimpleNamespace, tmp_path: Path
) -> None:
    run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM)
    rows = rows_of(tmp_path / "out/circles.csv")
    assert [row["image"] for row in rows] == ["0", "0", "2"]
    last, disc = rows[-1], structures.circles[2]
    assert float(last["row"]) == pytest.approx(disc.row[0])
    assert float(last["radius_um"]) == pytest.approx(disc.radius[0] * VOXEL_UM)
    assert float(last["x_um"]) == pytest.approx((disc.col[0] + 0.5) * VOXEL_UM)
    assert float(last["y_um"]) == pytest.approx((disc.row[0] + 0.5) * VOXEL_UM)


def test_sidecar_and_manifest_say_what_it_is(structures: SimpleNamespace, tmp_path: Path) -> None:
    returned = run(structures, tmp_path / "out", voxel_size_um=VOXEL_UM, phases=["resin", "glass"])
    sidecar = json.loads((tmp_path / "out/export.json").read_text())
    assert sidecar == returned
    assert sidecar["provenance"] == PROVENANCE
    assert sidecar["phases"] == {"0": "resin", "1": "glass"}
    assert (sidecar["voxel_size_um"], sidecar["length_unit"]) == (VOXEL_UM, "um")
    assert sidecar["verdicts"][1] == {
        "structure": "structure_00001", "valid": False, "reasons": ["overlap", "radius"]
    }  # fmt: skip
    manifest = rows_of(tmp_path / "out/manifest.csv")
    assert [row["vti"] for row in manifest] == [f"vti/structure_{n:05d}.vti" for n in range(3)]
    assert float(manifest[1]["volume_fraction"]) == pytest.approx(structures.phase[1].mean(), abs=1e-6)
    assert manifest[1]["reasons"] == "overlap radius"
    for name in sidecar["files"]:
        assert list((tmp_path / "out").glob(name)), name


def test_unknown_voxel_size_stays_unknown(structures: SimpleNamespace, tmp_path: Path) -> None:
    sidecar = run(structures, tmp_path / "out")
    assert sidecar["voxel_size_um"] is None
    assert sidecar["length_unit"] == "px"
    assert "unknown" in sidecar["voxel_size_note"]
    assert read_vti(tmp_path / "out/vti/structure_00000.vti")[1] == (1, 1, 1)
    assert (tmp_path / "out/circles.csv").read_text().splitlines()[0] == "image,row,col,radius"
    with tifffile.TiffFile(tmp_path / "out/phase.tif") as phase:
        assert phase.pages[0].tags["ResolutionUnit"].value == 1  # none


def test_scan_gives_the_voxel_size_where_the_parameters_do_not() -> None:
    assert ExportConfig().or_voxel_size(2.0).voxel_size_um == 2.0
    assert ExportConfig(voxel_size_um=3.0).or_voxel_size(2.0).voxel_size_um == 3.0
    assert ExportConfig().or_voxel_size(None).voxel_size_um is None


def test_only_the_wanted_formats_and_as_many_as_wanted(structures: SimpleNamespace, tmp_path: Path) -> None:
    sidecar = run(structures, tmp_path / "out", formats=["vti"], limit=2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "export.json",
        "manifest.csv",
        "vti",
    ]
    assert (
        len(list((tmp_path / "out/vti").iterdir())) == sidecar["structures"] == len(sidecar["verdicts"]) == 2
    )


def test_phase_alone_is_enough(tmp_path: Path) -> None:
    phase = np.eye(4, dtype=bool)[None]
    export(None, phase, None, {}, tmp_path / "out", ExportConfig(), sources=["cell.png"])
    assert not (tmp_path / "out/grey.tif").exists()
    assert rows_of(tmp_path / "out/manifest.csv")[0]["source"] == "cell.png"


def test_second_export_replaces_the_first_as_a_whole(structures: SimpleNamespace, tmp_path: Path) -> None:
    run(structures, tmp_path / "out")
    run(structures, tmp_path / "out", formats=["csv"])
    assert not (tmp_path / "out/vti").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_failed_export_leaves_the_first_as_it_was(
    structures: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run(structures, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    monkeypatch.setattr("microgan.export.write_tiff", full)
    with pytest.raises(UserError, match=r"out: .*No space left on device"):
        run(structures, tmp_path / "out", voxel_size_um=1.0)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_of_somebody_is_not_replaced(structures: SimpleNamespace, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        run(structures, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run(structures, thesis)
    with pytest.raises(UserError, match="must be a folder that can be written"):
        run(structures, thesis / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert thesis.read_text() == "years of work"


def test_unknown_format_is_told_with_the_known_ones(structures: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"export.formats.0: 'stl': .*'vti', 'tiff' or 'csv'"):
        run(structures, tmp_path / "out", formats=["stl"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("phase", np.zeros((3, 5, 7)), "phase: float64 .* must be bool"),
        ("phase", np.zeros((0, 5, 7), bool), "at least one structure"),
        ("images", np.zeros((3, 5, 6)), r"images: shape \(3, 5, 6\)"),
        ("circles", [], "circles: 0: must be as many as structures, 3"),
        ("verdicts", [], "verdicts: 0: must be as many as structures, 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    structures: SimpleNamespace, tmp_path: Path, name: str, value: object, message: str
) -> None:
    setattr(structures, name, value)
    with pytest.raises(UserError, match=message):
        run(structures, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pair", [(0, 1), (1, 2), (0, 255), (0, 65535)])
def test_labels_from_elsewhere(pair: tuple[int, int]) -> None:
    phase = np.random.default_rng(1).random((2, 4, 4)) < 0.5
    np.testing.assert_array_equal(phase_from_labels(np.where(phase, pair[1], pair[0]), "a.tif"), phase)


@pytest.mark.parametrize(("value", "disc"), [(0, False), (255, True), (2, True)])
def test_labels_of_one_value_are_taken_where_they_are_clear(value: int, disc: bool) -> None:
    assert (phase_from_labels(np.full((1, 2, 2), value), "a.tif") == disc).all()


def test_labels_true_and_false() -> None:
    phase = np.array([[[True, False]]])
    np.testing.assert_array_equal(phase_from_labels(phase, "a.npy"), phase)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (range(200), "a.tif: 200 values from 0 to 199: phase image must hold two values"),
        ((3, 4), "a.tif: 3 and 4: "),
        ((1, 1), "a.tif: 1: "),
        ((0, 2), "a.tif: 0 and 2: "),
        ((0.0, np.nan), "a.tif: 0.0 and nan: "),
    ],
)
def test_images_that_are_no_phase_are_refused(values: tuple[float, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        phase_from_labels(np.array(values).reshape(1, 1, -1), "a.tif")
