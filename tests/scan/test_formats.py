"""What else comes as a scan: every format gives back what was drawn, or one line that says what to do."""

import os
import sys
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from microgan.core.errors import UserError
from microgan.scan.config import ScanConfig
from microgan.scan.readers import open_scan
from microgan.scan.stack import Scan
from tests.scan.cases import outside_of_circle, plane, slices, stack


def opened(path: Path, **parameters: object) -> Scan:
    return open_scan(path.parent, ScanConfig(path=path.name, radius_px=(4, 8), **parameters))


def read(path: Path, **parameters: object) -> np.ndarray:
    with opened(path, **parameters) as scan:
        backwards = [scan.plane(index) for index in reversed(range(scan.shape[0]))]
        assert backwards[0].dtype == scan.dtype
        return np.stack(backwards[::-1])


def notes_of(path: Path, **parameters: object) -> tuple[str, ...]:
    with opened(path, **parameters) as scan:
        return scan.notes


def size_of(path: Path, **parameters: object) -> float | None:
    with opened(path, **parameters) as scan:
        return scan.voxel_size_um


def line_of(path: Path, **parameters: object) -> str:
    with pytest.raises(UserError) as error, opened(path, **parameters) as scan:
        for index in range(scan.shape[0]):
            scan.plane(index)
    assert "\n" not in str(error.value)
    return str(error.value)


# TIFF


def _strips(path: Path, data: bytes, bits: int, compression: int = 1, photometric: int = 1) -> None:
    """Write a one-page TIFF by hand: what tifffile does not write."""
    rows, cols = plane(0).shape
    entries = {256: cols, 257: rows, 258: bits, 259: compression, 262: photometric, 277: 1, 278: rows}
    entries |= {273: 8 + 2 + 12 * 9 + 4, 279: len(data)}
    header = b"II*\0" + (8).to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    for code, value in sorted(entries.items()):
        header += code.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
    path.write_bytes(header + bytes(4) + data)


def test_ccitt_of_a_mask(tmp_path: Path) -> None:
    mask = plane(0) > 130
    Image.fromarray(mask).save(tmp_path / "mask.tif", compression="group4")
    assert (read(tmp_path / "mask.tif") == mask).all()
    assert read(tmp_path / "mask.tif").dtype == np.uint8


def test_twelve_bits(tmp_path: Path) -> None:
    values = plane(0).astype(np.uint16) * 16 + 5
    packed = _packed_12(values)
    _strips(tmp_path / "deep.tif", packed, 12)
    assert (read(tmp_path / "deep.tif")[0] == values).all()
    _strips(tmp_path / "white.tif", packed, 12, photometric=0)
    assert (read(tmp_path / "white.tif")[0] == 4095 - values).all()


def _packed_12(values: np.ndarray) -> bytes:
    first, second = values.ravel()[::2], values.ravel()[1::2]
    three = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    return three.astype(np.uint8).tobytes()


@pytest.mark.parametrize("compression", ["jpeg2000", "png", "lerc", "jpegxl"])
def test_other_compression_without_loss(tmp_path: Path, compression: str) -> None:
    path, options = tmp_path / "scan.tif", {"photometric": "minisblack", "compression": compression}
    tifffile.imwrite(path, stack(), **options)
    assert np.abs(read(path).astype(int) - stack()).max() <= (
        2 if compression in ("jpeg2000", "jpegxl") else 0
    )


def test_a_compression_that_no_codec_reads_is_named(tmp_path: Path) -> None:
    _strips(tmp_path / "scan.tif", plane(0).tobytes(), 8, compression=34661)
    line = line_of(tmp_path / "scan.tif")
    assert "compression JBIG: no installed codec reads it: save the file uncompressed" in line


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"imagej": True, "metadata": {"axes": "ZYX"}}],
)
def test_white_is_zero_in_every_layout(tmp_path: Path, options: dict) -> None:
    deep = stack().astype(np.uint16) * 200
    tifffile.imwrite(tmp_path / "scan.tif", 65535 - deep, photometric="miniswhite", **options)
    assert (read(tmp_path / "scan.tif") == deep).all()
    assert "MinIsWhite: grey values are inverted" in notes_of(tmp_path / "scan.tif")[0]


def test_slices_where_white_is_zero_are_noted_once(tmp_path: Path) -> None:
    for number, image in enumerate(stack()):
        tifffile.imwrite(tmp_path / f"{number}.tif", 255 - image, photometric="miniswhite")
    assert (read(tmp_path) == stack()).all()
    (note,) = notes_of(tmp_path)
    assert note.endswith("(and 2 more files)")


def test_palettes(tmp_path: Path) -> None:
    ramp = np.repeat((np.arange(256)[::-1] * 257).astype(np.uint16)[None], 3, 0)
    tifffile.imwrite(tmp_path / "falling.tif", 255 - plane(0), photometric="palette", colormap=ramp)
    assert (read(tmp_path / "falling.tif")[0] == plane(0)).all()
    assert "from white to black" in notes_of(tmp_path / "falling.tif")[0]
    ramp[1] = 0
    tifffile.imwrite(tmp_path / "colour.tif", plane(0), photometric="palette", colormap=ramp)
    assert "colour palette: must be grey, not colour" in line_of(tmp_path / "colour.tif")
    Image.fromarray(plane(0)).convert("P").save(tmp_path / "grey.png")
    assert (read(tmp_path / "grey.png")[0] == plane(0)).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_grey_with_opaque_alpha_and_as_rgb(tmp_path: Path, planar: str) -> None:
    deep, axis = stack().astype(np.uint16) * 200, -1 if planar == "contig" else 1
    opaque = np.full_like(deep, 65535)
    options = {"planarconfig": planar, "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "la.tif", np.stack([deep, opaque], axis), photometric="minisblack", **options)
    tifffile.imwrite(
        tmp_path / "rgba.tif", np.stack([deep] * 3 + [opaque], axis), photometric="rgb", **options
    )
    for name in ("la.tif", "rgba.tif"):
        assert (read(tmp_path / name) == deep).all()
    opaque[0, 0, 0] = 7
    tifffile.imwrite(
        tmp_path / "holes.tif", np.stack([deep, opaque], axis), photometric="minisblack", **options
    )
    assert "partly transparent" in line_of(tmp_path / "holes.tif")


def test_colour_on_a_later_plane_is_refused(tmp_path: Path) -> None:
    colours = np.repeat(stack()[..., None], 3, -1)
    colours[2, 5, 5, 0] ^= 1
    tifffile.imwrite(tmp_path / "scan.tif", colours, photometric="rgb")
    assert "colour: must be grey, not colour" in line_of(tmp_path / "scan.tif")


def test_grey_stored_as_rgb_jpeg(tmp_path: Path) -> None:
    colours = np.repeat(stack()[..., None], 3, -1)
    tifffile.imwrite(tmp_path / "scan.tif", colours, photometric="rgb", compression="jpeg")
    assert np.abs(read(tmp_path / "scan.tif").astype(int) - stack()).mean() < 3


def test_pyramid_and_thumbnail_are_read_in_full_resolution(tmp_path: Path) -> None:
    planes = stack()
    with tifffile.TiffWriter(tmp_path / "pyramid.ome.tif") as writer:
        writer.write(planes, subifds=1, metadata={"axes": "ZYX"}, tile=(64, 64))
        writer.write(planes[:, ::2, ::2], subfiletype=1, tile=(64, 64))
    with tifffile.TiffWriter(tmp_path / "first.tif") as writer:
        writer.write(planes[0, ::4, ::4], subfiletype=1, metadata=None)
        writer.write(planes[0], metadata=None)
    with tifffile.TiffWriter(tmp_path / "last.tif") as writer:
        writer.write(planes[0], metadata=None)
        writer.write(planes[0, ::4, ::4], subfiletype=1, metadata=None)
    assert (read(tmp_path / "pyramid.ome.tif") == planes).all()
    for name in ("first.tif", "last.tif"):
        assert (read(tmp_path / name) == planes[:1]).all()


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="192" SizeY="160" '
    'SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="0.65" PhysicalSizeY="0.65">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{}</Pixels></Image></OME>'
)


def _ome_files(folder: Path) -> None:
    folder.mkdir()
    data = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstZ="{z}">'
        f'<UUID FileName="part{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(3)
    )
    for z, image in enumerate(stack()):
        text = OME.format(data).replace("<OME ", f'<OME UUID="urn:uuid:{z}" ')
        tifffile.imwrite(folder / f"part{z}.ome.tif", image, description=text, metadata=None)


def test_ome_in_several_files(tmp_path: Path) -> None:
    _ome_files(tmp_path / "ome")
    assert (read(tmp_path / "ome/part0.ome.tif") == stack()).all()
    assert (read(tmp_path / "ome") == stack()).all()
    assert size_of(tmp_path / "ome") == 0.65
    (tmp_path / "ome/part1.ome.tif").unlink()
    assert "part1.ome.tif" in line_of(tmp_path / "ome/part0.ome.tif")


@pytest.mark.parametrize("is_big_endian", [False, True])
def test_imagej_above_4_gb_in_one_page(tmp_path: Path, is_big_endian: bool) -> None:
    """One page, and all planes behind it: a sparse file, of which the last plane holds the drawing."""
    path, count, shape = tmp_path / "big.tif", 1100, (2048, 2048)
    order = ">" if is_big_endian else "<"
    first = np.zeros(shape, np.uint8)
    first[:5, :5] = 9
    text = f"ImageJ=1.53t\nimages={count}\nslices={count}\nunit=micron\n"
    options = {"description": text, "metadata": None, "resolution": (2, 2), "resolutionunit": "NONE"}
    tifffile.imwrite(path, first, byteorder=order, **options)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.dataoffsets[0]
    with path.open("r+b") as stream:
        stream.seek(offset + (count - 1) * first.size)
        stream.write(plane(0).tobytes())
    os.truncate(path, offset + count * first.size)
    with opened(path) as scan:
        assert scan.shape == (count, *shape)
        assert scan.plane(count - 1).ravel()[: plane(0).size].tobytes() == plane(0).tobytes()
        assert scan.voxel_size_um == 0.5
    os.truncate(path, offset + count * first.size - 1)
    assert "unreadable" in line_of(path)


# Pictures


@pytest.mark.parametrize("suffix", [".bmp", ".jpg"])
def test_bmp_and_jpeg_slices_where_there_is_nothing_else(tmp_path: Path, suffix: str) -> None:
    for number, image in enumerate(stack()):
        Image.fromarray(image).save(tmp_path / f"slice{number}{suffix}")
    assert np.abs(read(tmp_path).astype(int) - stack()).mean() < (1e-9 if suffix == ".bmp" else 8)
    slices(tmp_path, {f"t{n}.tif": image for n, image in enumerate(stack())})  # beside TIFF they are pictures
    assert (read(tmp_path) == stack()).all()


def test_sixteen_bits_of_png_as_rgb(tmp_path: Path) -> None:
    deep = plane(0).astype(np.uint16) * 201
    (tmp_path / "scan.png").write_bytes(imagecodecs.png_encode(np.dstack([deep] * 3)))
    assert (read(tmp_path / "scan.png")[0] == deep).all()
    (tmp_path / "scan.png").write_bytes(imagecodecs.png_encode(np.dstack([deep, deep, deep + 1])))
    assert "colour: must be grey" in line_of(tmp_path / "scan.png")


# Arrays


def test_axes_of_length_one_and_planes_last(tmp_path: Path) -> None:
    np.save(tmp_path / "channel.npy", stack()[..., None])
    np.save(tmp_path / "one.npy", plane(0)[..., None])
    np.save(tmp_path / "time.npy", stack()[None])
    for name, drawn in (("channel.npy", stack()), ("one.npy", stack()[:1]), ("time.npy", stack())):
        assert (read(tmp_path / name) == drawn).all()
        assert notes_of(tmp_path / name) == ()
    np.save(tmp_path / "last.npy", np.asfortranarray(stack().transpose(1, 2, 0)))
    assert "the last axis looks like planes" in notes_of(tmp_path / "last.npy")[0]
    stack().transpose(1, 2, 0).tofile(tmp_path / "last.raw")
    assert "looks like planes" in notes_of(tmp_path / "last.raw", shape=(160, 192, 3), dtype="uint8")[0]


# HDF5


def test_links_of_all_kinds_and_a_virtual_data_set(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["entry/detector/data"] = stack()
        file["entry/data"] = h5py.SoftLink("/entry/detector/data")
        file["entry/loop"] = h5py.SoftLink("/entry")
        file["entry/away"] = h5py.SoftLink("/nowhere")
    assert (read(tmp_path / "source.h5") == stack()).all()  # one data set, whatever the number of its names
    assert (read(tmp_path / "source.h5", dataset="entry/data") == stack()).all()
    layout = h5py.VirtualLayout(stack().shape, np.uint8)
    layout[...] = h5py.VirtualSource("source.h5", "entry/detector/data", stack().shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    assert (read(tmp_path / "virtual.h5") == stack()).all()
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["data"] = h5py.ExternalLink("virtual.h5", "/data")
    assert (read(tmp_path / "master.h5") == stack()).all()
    (tmp_path / "source.h5").rename(tmp_path / "elsewhere.h5")
    for name in ("virtual.h5", "master.h5"):
        assert "source source.h5 of /data is missing" in line_of(tmp_path / name)
    (tmp_path / "virtual.h5").unlink()
    for parameters in ({}, {"dataset": "data"}):
        assert "data is in virtual.h5, which cannot be opened" in line_of(
            tmp_path / "master.h5", **parameters
        )


def test_filters_of_hdf5plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hdf5plugin

    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", data=stack(), chunks=(1, 160, 192), **hdf5plugin.Zstd())
    assert (read(tmp_path / "scan.h5") == stack()).all()
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number < 100)
    assert "compression Zstandard of /data: no installed filter reads it" in line_of(tmp_path / "scan.h5")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    assert "needs the package hdf5plugin: pip install hdf5plugin" in line_of(tmp_path / "scan.h5")


def test_sizes_in_attributes(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    for attributes, size_um in (
        ({"element_size_um": [2.0, 0.65, 0.65]}, 0.65),
        ({"voxel_size": 650.0, "units": "nm"}, 0.65),
        ({"pixel_size_mm": 6.5e-4}, 0.65),
        ({"voxel_size": 0.65}, None),
        ({"scale": 3.0}, None),
    ):
        with h5py.File(path, "w") as file:
            file["data"] = stack()
            file["data"].attrs.update(attributes)
        assert size_of(path) == (None if size_um is None else pytest.approx(size_um))
        assert bool(notes_of(path)) == (attributes == {"voxel_size": 0.65})
        assert size_of(path, voxel_size_um=3.0) == 3.0


def test_sizes_of_nexus_and_data_exchange(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = stack()
        file["entry/data"].attrs["axes"] = ["z", "y", "x"]
        for axis, count in (("z", 3), ("y", 160), ("x", 192)):
            file[f"entry/data/{axis}"] = np.arange(count) * 0.65e-3
            file[f"entry/data/{axis}"].attrs["units"] = "mm"
    assert size_of(path) == pytest.approx(0.65)
    for name, units in (
        ("measurement/instrument/detector/pixel_size_x", "um"),
        ("entry/instrument/detector/x_pixel_size", "mm"),
        ("measurement/instrument/detection_system/objective/resolution", "um"),
    ):
        with h5py.File(path, "w") as file:
            file["exchange/data"] = stack()
            file[name] = 6.5
            file[name].attrs["units"] = units
        assert size_of(path) is None
        assert f"{name} is 6.5 {units}" in notes_of(path)[0]


def test_chunks_of_many_planes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = np.concatenate([stack(), stack()[::-1]])
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", data=planes, chunks=(4, 80, 96))
    reads: list[object] = []
    whole = h5py.Dataset.__getitem__

    def counted(data: h5py.Dataset, *key: object) -> np.ndarray:
        reads.append(key)
        return whole(data, *key)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    for limit, count in ((1 << 28, 2), (2 * 160 * 192, 3)):  # the second: memory stays bounded
        monkeypatch.setattr("microgan.scan.stack.SLAB_BYTES", limit)
        with opened(tmp_path / "scan.h5") as scan:
            scan.plane(0)
            reads.clear()
            assert (np.stack([scan.plane(index) for index in range(6)]) == planes).all()
        assert len(reads) in (count - 1, count)  # the first may be there already


# Formats of the extra


def test_metaimage(tmp_path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(stack().astype(np.int16) - 100)
    image.SetSpacing((0.65, 0.65, 1.0))
    for name, compress in (("plain.mha", False), ("deflate.mha", True), ("two.mhd", False)):
        sitk.WriteImage(image, str(tmp_path / name), compress)
        assert (read(tmp_path / name) == stack().astype(np.int16) - 100).all()
        assert size_of(tmp_path / name) is None
        assert "spacing 0.65 without a unit" in notes_of(tmp_path / name)[0]
    text = (tmp_path / "two.mhd").read_text()
    (tmp_path / "two.mhd").write_text(text.replace("ElementSpacing", "DistanceUnits = um\nElementSpacing"))
    assert size_of(tmp_path / "two.mhd") == 0.65
    (tmp_path / "two.raw").unlink()
    assert "ElementDataFile two.raw is missing" in line_of(tmp_path / "two.mhd")
    os.truncate(tmp_path / "plain.mha", 50_000)
    assert "unreadable" in line_of(tmp_path / "plain.mha")
    sitk.WriteImage(sitk.GetImageFromArray(plane(0)), str(tmp_path / "one.mha"))
    assert (read(tmp_path / "one.mha")[0] == plane(0)).all()


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_nrrd(tmp_path: Path, encoding: str) -> None:
    import nrrd

    deep = stack().astype(np.uint16) * 200
    directions = np.diag([650.0, 650.0, 650.0])
    for name in ("scan.nrrd", "scan.nhdr"):
        header = {
            "encoding": encoding,
            "space directions": directions,
            "space units": ["nm"] * 3,
            "space dimension": 3,
        }
        nrrd.write(str(tmp_path / name), deep, header, index_order="C")
        assert (read(tmp_path / name) == deep).all()
        assert size_of(tmp_path / name) == pytest.approx(0.65)
    nrrd.write(
        str(tmp_path / "bare.nrrd"),
        plane(0),
        {"encoding": encoding, "spacings": [0.65, 0.65]},
        index_order="C",
    )
    assert (read(tmp_path / "bare.nrrd")[0] == plane(0)).all()
    assert "spacing 0.65 without a unit" in notes_of(tmp_path / "bare.nrrd")[0]
    os.truncate(tmp_path / "scan.nrrd", 40_000)
    assert "unreadable" in line_of(tmp_path / "scan.nrrd")


def test_zarr(tmp_path: Path) -> None:
    import zarr

    for depth in (1, 2):
        path = tmp_path / f"plain{depth}.zarr"
        zarr.create_array(str(path), data=stack(), chunks=(depth, 64, 64))
        assert (read(path) == stack()).all()
    group = zarr.create_group(str(tmp_path / "group.zarr"))
    group.create_array("a/b", data=stack())
    group.create_array("c", data=stack())
    assert "dataset: None: must name one of a/b, c" in line_of(tmp_path / "group.zarr")
    assert (read(tmp_path / "group.zarr", dataset="a/b") == stack()).all()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    import zarr

    path = tmp_path / "scan.ome.zarr"
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=stack()[None], chunks=(1, 1, 64, 64))
    group.create_array("1", data=stack()[None, :, ::2, ::2])
    axes = [
        {"name": "c", "type": "channel"},
        *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"),
    ]
    scales = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [1, 1, side, side]}]}
        for level, side in ((0, 0.65), (1, 1.3))
    ]
    image = {"multiscales": [{"axes": axes, "datasets": scales, "version": version}]}
    group.attrs.update(image if version == "0.4" else {"ome": image})
    assert (read(path) == stack()).all()
    assert size_of(path) == pytest.approx(0.65)


def _dicom(path: Path, image: np.ndarray, number: int, **tags: object) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = image.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation, data.InstanceNumber = int(image.dtype.kind == "i"), number
    data.PixelSpacing, data.SeriesInstanceUID = [6.5e-4, 6.5e-4], "1.2.3"
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = image.tobytes()
    data.save_as(path, enforce_file_format=True)


def test_dicom_in_the_order_of_positions(tmp_path: Path) -> None:
    deep = stack().astype(np.int16) - 90
    for name, index in (("c.dcm", 0), ("a.dcm", 1), ("b.dcm", 2)):
        place = {"ImagePositionPatient": [0, 0, index * 0.5], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        _dicom(tmp_path / name, deep[index], 9 - index, **place)
    assert (read(tmp_path) == deep).all()
    assert size_of(tmp_path) == pytest.approx(0.65)
    assert "read by position" in notes_of(tmp_path)[0]
    for name in ("a", "b", "c"):  # without a suffix, as on the discs of scanners
        (tmp_path / f"{name}.dcm").rename(tmp_path / f"IM{name}")
    assert (read(tmp_path) == deep).all()
    _dicom(tmp_path / "IMz", deep[0], 1, SeriesInstanceUID="1.2.4")
    assert "2 series" in line_of(tmp_path)


def test_dicom_frames_inversion_and_rescaling(tmp_path: Path) -> None:
    deep = stack().astype(np.uint16) * 200
    _dicom(tmp_path / "frames.dcm", deep, 1, NumberOfFrames=3)
    assert (read(tmp_path / "frames.dcm") == deep).all()
    _dicom(tmp_path / "white.dcm", 65535 - deep[0], 1, PhotometricInterpretation="MONOCHROME1")
    assert (read(tmp_path / "white.dcm")[0] == deep[0]).all()
    assert "inverted" in notes_of(tmp_path / "white.dcm")[0]
    _dicom(tmp_path / "scaled.dcm", deep[0], 1, RescaleSlope=0.5, RescaleIntercept=-10)
    assert (read(tmp_path / "scaled.dcm")[0] == deep[0].astype(np.float32) / 2 - 10).all()
    _dicom(tmp_path / "rgb.dcm", deep[0], 1, PhotometricInterpretation="RGB", SamplesPerPixel=3)
    assert "RGB: must be grey" in line_of(tmp_path / "rgb.dcm")


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("scan.nrrd", "nrrd", "pynrrd"),
        ("scan.zarr", "zarr", "zarr"),
        ("scan.dcm", "pydicom", "pydicom"),
    ],
)
def test_a_missing_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if name == "scan.zarr":
        (tmp_path / name).mkdir()
        (tmp_path / name / "zarr.json").write_text("{}")
    else:
        (tmp_path / name).write_text("x")
    line = line_of(tmp_path / name)
    assert (
        f"needs the package {package}: pip install {package}, or all formats: pip install 'microgan[formats]'"
        in line
    )


@pytest.mark.parametrize(
    "name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.dcm", "a.bmp", "a.jpg", "a.tif", "a.h5"]
)
def test_not_what_the_suffix_says(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"plainly no picture\n" * 100)
    assert f"{name}: " in line_of(tmp_path / name)


def test_broken_values_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever the libraries raise or print."""
    rng, path = np.random.default_rng(0), tmp_path / "scan.tif"
    for kind in ("zlib", "lzw", "zstd", "lzma", "jpeg", "jpeg2000", "png"):
        tifffile.imwrite(path, plane(0), compression=kind, photometric="minisblack")
        with tifffile.TiffFile(path) as tiff:
            offset, length = tiff.pages.first.dataoffsets[0], tiff.pages.first.databytecounts[0]
        with path.open("r+b") as stream:
            stream.seek(offset)
            stream.write(rng.bytes(length))
        assert "scan.tif: unreadable: must be whole" in line_of(path)
    text = "NDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "short.mha").write_text(text)
    assert "short.mha is too short, for 64 bytes of values" in line_of(tmp_path / "short.mha")
    assert capfd.readouterr().err == ""


# Grey values


def test_padding_within_padding_is_outside() -> None:
    from microgan.scan.field_of_view import field_of_view

    values = plane(0).astype(np.int16)
    values[outside_of_circle(60)] = 0
    values[outside_of_circle(78)] = -3024
    mask = field_of_view(values, "auto")
    assert not (mask & outside_of_circle(60)).any()
    assert mask[~outside_of_circle(56)].all()
