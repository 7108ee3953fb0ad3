"""Voxel formats, read back by other means than they were written."""

import binascii
import json
import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import h5py
import meshio
import nrrd
import numpy as np
import pytest
from PIL import Image

from microgan.core.errors import UserError
from microgan.exporters.export import FORMATS, JOINT_FORMATS
from microgan.exporters.formats.vtk import vti
from microgan.exporters.structure import LengthUnit, Structure

VOXEL_UM = 0.65


def cell(voxel_size_um: float | None = VOXEL_UM, unit: LengthUnit = "um", planes: int = 1) -> Structure:
    """5 rows, 7 columns; planes differ, so that no two axes can be mistaken for each other."""
    phase = (np.random.default_rng(0).random((planes, 5, 7)) < 0.5).astype(np.uint8)
    return Structure("cell", phase, voxel_size_um=voxel_size_um, length_unit=unit, phases=("resin", "glass"))


def written(name: str, structure: Structure, folder: Path) -> Path:
    path = folder / f"{structure.name}{FORMATS[name].suffix}"
    FORMATS[name].write(structure, path)
    return path


STRUCTURES = pytest.mark.parametrize(
    "structure",
    [cell(), cell(None), cell(2.0, "mm", 3), cell(2.0, "m", 2), cell().extruded(4)],
    ids=["um", "unknown", "mm", "m", "extruded"],
)


def test_extrusion_repeats_the_plane() -> None:
    flat = cell()
    solid = flat.extruded(4)
    assert solid.phase.shape == (4, 5, 7)
    assert all((plane == flat.phase[0]).all() for plane in solid.phase)
    assert solid.size == pytest.approx((4 * VOXEL_UM, 5 * VOXEL_UM, 7 * VOXEL_UM))


# VTK ----------------------------------------------------------------------------------------------------


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
    length, *ids = struct.unpack(f"<I{rows * cols * planes}i", content)
    assert length == 4 * rows * cols * planes
    return by_position(ids, (planes, rows, cols)), tuple(map(float, image.attrib["Spacing"].split()))


def by_position(ids: list[int], shape: tuple[int, int, int]) -> np.ndarray:
    """VTK: x runs fastest, then y, then z."""
    planes, rows, cols = shape
    grid = np.empty((planes, rows, cols), int)
    for position, phase in enumerate(ids):
        grid[position // (cols * rows), position // cols % rows, position % cols] = phase
    return grid


@STRUCTURES
def test_vti_comes_back_with_phases_and_spacing(structure: Structure, tmp_path: Path) -> None:
    path = written("vti", structure, tmp_path)
    grid, spacing = read_vti(path)
    np.testing.assert_array_equal(grid, structure.phase)
    assert spacing == (structure.spacing,) * 3
    assert f"lengths in {'voxels' if structure.unit == 'px' else structure.unit}" in path.read_text()


def test_vti_is_laid_out_for_a_reader_by_lines() -> None:
    # DAMASK does not parse XML: an element with its attributes on one line, the data alone on the next
    lines = vti(Structure("cell", np.ones((2, 3, 4), np.uint8), voxel_size_um=1e-3)).splitlines()
    (image,) = (line for line in lines if "<ImageData" in line)
    assert re.search(r'WholeExtent="0 4 0 3 0 2".* Spacing="0.001 0.001 0.001"', image)
    (at,) = (number for number, line in enumerate(lines) if 'Name="material"' in line)
    assert re.search(r'type="Int32".*format="binary">$', lines[at])
    assert struct.unpack("<I24i", binascii.a2b_base64(lines[at + 1].strip())) == (96, *[1] * 24)
    assert "</DataArray>" in lines[at + 2]


@STRUCTURES
def test_legacy_vtk_is_as_amitex_demands(structure: Structure, tmp_path: Path) -> None:
    """Ten lines and no more, then 16-bit integers, high byte first, from 1 without gaps."""
    *lines, voxels = written("vtk", structure, tmp_path).read_bytes().split(b"\n", 10)
    header = [line.decode("ascii") for line in lines]
    planes, rows, cols = structure.phase.shape
    assert header[0] == "# vtk DataFile Version 4.5"
    assert f"lengths in {'voxels' if structure.unit == 'px' else structure.unit}" in header[1]
    assert "1 resin, 2 glass" in header[1] and len(header[1]) < 256
    assert header[2:4] == ["BINARY", "DATASET STRUCTURED_POINTS"]
    assert header[4].split() == ["DIMENSIONS", str(cols + 1), str(rows + 1), str(planes + 1)]
    assert [float(word) for word in header[5].split()[1:]] == [0, 0, 0]
    assert [float(word) for word in header[6].split()[1:]] == [structure.spacing] * 3
    assert header[7].split() == ["CELL_DATA", str(planes * rows * cols)]
    assert header[8:] == ["SCALARS MaterialId unsigned_short", "LOOKUP_TABLE default"]
    assert voxels.endswith(b"\n")
    ids = list(struct.unpack(f">{planes * rows * cols}H", voxels[:-1]))
    np.testing.assert_array_equal(by_position(ids, structure.phase.shape), structure.phase + 1)
    assert set(ids) == {1, 2}


@STRUCTURES
def test_legacy_vtk_comes_back_by_meshio(structure: Structure, tmp_path: Path) -> None:
    mesh = meshio.read(written("vtk", structure, tmp_path))
    (ids,) = mesh.cell_data["MaterialId"]
    corners = mesh.points[mesh.cells[0].data]  # (cells, corners, x y z)
    col, row, plane = np.floor(corners.mean(axis=1) / structure.spacing).astype(int).T
    assert len(ids) == structure.phase.size
    np.testing.assert_array_equal(ids[:, 0], structure.phase[plane, row, col] + 1)
    size = corners.max(axis=(0, 1)) - corners.min(axis=(0, 1))
    np.testing.assert_allclose(size, structure.size[::-1], rtol=1e-12)


def test_legacy_vtk_refuses_ids_with_a_gap(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cell: no matrix: must have all phases"):
        written("vtk", Structure("cell", np.ones((1, 2, 2), np.uint8)), tmp_path)
    written("vtk", Structure("cell", np.zeros((1, 2, 2), np.uint8)), tmp_path)


# HDF5 ---------------------------------------------------------------------------------------------------


@STRUCTURES
def test_hdf5_comes_back_with_all_that_is_known(structure: Structure, tmp_path: Path) -> None:
    with h5py.File(written("hdf5", structure, tmp_path)) as file:
        dataset = file["phase"]
        assert dataset.dtype == np.uint8 and dataset.compression == "gzip"
        np.testing.assert_array_equal(dataset[...], structure.phase)
        about = dict(dataset.attrs)
    assert list(about["spacing"]) == [structure.spacing] * 3
    assert about["unit"] == structure.unit and ("unknown" in about["note"]) == (structure.unit == "px")
    assert list(about["phases"]) == ["resin", "glass"]
    assert not about["periodic"]


@STRUCTURES
def test_hdf5_is_as_fans_reads_it(structure: Structure, tmp_path: Path) -> None:
    """The input file names a data set of three axes, ids from 0; L along x, y, z; axes by an attribute."""
    path = written("hdf5", structure, tmp_path)
    section = json.loads(path.with_suffix(".fans.json").read_text())["microstructure"]
    with h5py.File(tmp_path / section["filepath"]) as file:
        dataset = file[section["datasetname"]]
        kind = dataset.attrs.get_id("permute_order").get_type()
        assert kind.is_variable_str()  # read as a pointer to characters
        assert dataset.attrs["permute_order"] == "zyx"
        ids = dataset.astype(np.uint16)[...].transpose(2, 1, 0)  # to x, y, z
        assert list(dataset.attrs["L"]) == section["L"][::-1]
    assert ids.min() == 0
    np.testing.assert_allclose(np.array(section["L"]) / ids.shape, structure.spacing, rtol=1e-12)
    x, y, z = np.indices(ids.shape)
    np.testing.assert_array_equal(ids, structure.phase[z, y, x])


@STRUCTURES
def test_xdmf_describes_the_hdf5_file(structure: Structure, tmp_path: Path) -> None:
    path = written("hdf5", structure, tmp_path)
    grid = ElementTree.parse(path.with_suffix(".xdmf")).getroot().find("Domain/Grid")
    topology, geometry, attribute = (grid.find(name) for name in ("Topology", "Geometry", "Attribute"))
    assert topology.attrib["TopologyType"] == "3DCoRectMesh"
    points = [int(word) for word in topology.attrib["Dimensions"].split()]
    assert points == [count + 1 for count in structure.phase.shape]
    assert geometry.attrib["GeometryType"] == "ORIGIN_DXDYDZ"
    origin, spacing = ([float(word) for word in item.text.split()] for item in geometry)
    assert (origin, spacing) == ([0, 0, 0], [structure.spacing] * 3)
    assert attribute.attrib["Center"] == "Cell"
    (item,) = attribute
    file_name, dataset = item.text.split(":")
    with h5py.File(tmp_path / file_name) as file:
        assert [int(word) for word in item.attrib["Dimensions"].split()] == list(file[dataset].shape)
        assert (
            file[dataset].dtype
            == {("UChar", "1"): np.uint8}[item.attrib["NumberType"], item.attrib["Precision"]]
        )
    assert (structure.unit if structure.unit != "px" else "unknown") in grid.find("Information").attrib[
        "Value"
    ]


# NRRD and TIFF ------------------------------------------------------------------------------------------


@STRUCTURES
def test_nrrd_comes_back_by_pynrrd(structure: Structure, tmp_path: Path) -> None:
    path = written("nrrd", structure, tmp_path)
    ids, header = nrrd.read(str(path), index_order="C")
    np.testing.assert_array_equal(ids, structure.phase)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(header["space directions"], np.eye(3) * structure.spacing)
    np.testing.assert_array_equal(header["space origin"], [structure.spacing / 2] * 3)
    assert header["space units"] == [structure.unit] * 3
    assert (header["phase 0"], header["phase 1"], header["periodic"]) == ("resin", "glass", "false")
    note = path.read_bytes().split(b"\n", 2)[1]
    assert (b"unknown" in note) == (structure.unit == "px")


def test_tiff_comes_back_by_two_other_readers(tmp_path: Path) -> None:
    structures = [cell(), cell().extruded(3)]
    JOINT_FORMATS["tiff"].write(structures, tmp_path)
    _, pages = cv2.imreadmulti(str(tmp_path / "phase.tif"), flags=cv2.IMREAD_UNCHANGED)
    with Image.open(tmp_path / "phase.tif") as image:
        assert image.n_frames == len(pages) == 2
        assert image.info["dpi"] == pytest.approx((25400 / VOXEL_UM,) * 2, rel=1e-6)
        for index, structure in enumerate(structures):
            image.seek(index)
            np.testing.assert_array_equal(np.asarray(image), structure.phase[0])
            np.testing.assert_array_equal(pages[index], structure.phase[0])
