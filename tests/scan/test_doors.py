"""What files of strangers hold: damage, lies in headers, other people's files, bombs. One line for each."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.fuzz_images import png_fields
from microgan.core.errors import UserError
from microgan.inspection.inspection import inspect
from microgan.scan.images import pages, stack
from tests.scan.cases import outside_of_circle, plane
from tests.scan.test_formats import line_of, notes_of, read

STACK = np.random.default_rng(0).integers(0, 255, (8, 40, 30), np.uint8)
PLANE = STACK[0]


# NaN and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(80, 90), (0, 90)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_value_that_is_none_is_refused(
    tmp_path: Path, value: float, place: tuple[int, int], dtype: type
) -> None:
    image = plane(0).astype(dtype)
    image[place] = value
    np.save(tmp_path / "a.npy", image)
    rule = rf"a\.npy: 1 px are NaN or infinite, the first at row {place[0]}, column {place[1]}: "
    with pytest.raises(UserError, match=rule):
        stack([tmp_path / "a.npy"])
    if np.isinf(value) or place[0]:  # NaN that reaches the border is outside of the field of view
        with pytest.raises(UserError, match=rule):
            list(pages([tmp_path / "a.npy"], with_outside=True))
        with pytest.raises(UserError, match="plane 0: 1 px are NaN or infinite"):
            inspect(tmp_path / "a.npy", {})


def test_nan_outside_of_the_circle_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = plane(0).astype(np.float32)
    image[outside_of_circle()] = np.nan
    image = image[:64, :96]  # small, as discs are looked for
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "b.npy", image)
    told = f"{np.isnan(image).sum()} of {image.size} px are NaN and reach the border"
    assert len(list(pages([tmp_path], with_outside=True))) == 2
    assert [told in record.getMessage() for record in caplog.records] == [True]
    assert told in inspect(tmp_path / "a.npy", {}).warnings[0]


# HDF5


def virtual(path: Path, source: str, part: object, source_shape: tuple[int, ...] = STACK.shape) -> None:
    layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
    layout[part] = h5py.VirtualSource(source, "data", source_shape)[part]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)


def source(path: Path, values: np.ndarray = STACK, **options: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values, **options)


def test_chunks_that_were_never_written(tmp_path: Path) -> None:
    for chunks in ((1, 40, 30), (2, 20, 15), (8, 40, 30), None):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            data = file.create_dataset("data", STACK.shape, STACK.dtype, chunks=chunks)
            if chunks is not None and chunks[0] < 8:
                data[:4] = STACK[:4]
                data[4:, :20] = 9 if chunks[1] < 40 else data[4:, :20]
                data[4:6] = STACK[4:6]
        lacking = "6 to 7" if chunks is not None and chunks[0] < 8 else "0 to 7"
        if chunks == (1, 40, 30):  # here whole planes were written
            lacking = ""
        if lacking:
            assert f"a.h5: planes {lacking} were never written" in line_of(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", STACK.shape, STACK.dtype, chunks=(1, 40, 30))[:5] = STACK[:5]
    assert "planes 5 to 7 were never written" in line_of(tmp_path / "a.h5")
    assert (read(tmp_path / "a.h5", planes=":5") == STACK[:5]).all()


def test_virtual_data_sets_that_are_mapped_in_part(tmp_path: Path) -> None:
    source(tmp_path / "source.h5")
    parts = {"0 to 7": np.s_[:, :20], "4 to 7": np.s_[:4], "1, 3, 5, 7": np.s_[::2], "": np.s_[:]}
    for lacking, part in parts.items():
        virtual(tmp_path / "a.h5", "source.h5", part)
        if lacking:
            assert f"planes {lacking} were never written" in line_of(tmp_path / "a.h5")
        else:
            assert (read(tmp_path / "a.h5") == STACK).all()
    source(tmp_path / "source.h5", STACK[:3])
    assert "data is of shape (3, 40, 30): must be at least (8, 40, 30)" in line_of(tmp_path / "a.h5")
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file.create_dataset("data", STACK.shape, STACK.dtype, chunks=(1, 40, 30))[:5] = STACK[:5]
    assert "source.h5: data: planes 5 to 7 were never written" in line_of(tmp_path / "a.h5")


def test_hdf5_reads_no_file_outside_of_the_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    source(tmp_path / "other.h5")
    virtual(home / "relative.h5", "../other.h5", np.s_[:])
    virtual(home / "absolute.h5", str(tmp_path / "other.h5"), np.s_[:])
    with h5py.File(home / "link.h5", "w") as file:
        file["data"] = h5py.ExternalLink("../other.h5", "/data")
    with h5py.File(home / "soft.h5", "w") as file:
        file["away"] = h5py.ExternalLink("../other.h5", "/")
        file["data"] = h5py.SoftLink("/away/data")
    for name, parameters in (
        ("relative.h5", {}), ("absolute.h5", {}), ("link.h5", {}), ("link.h5", {"dataset": "data"}),
        ("soft.h5", {"dataset": "data"}),
    ):  # fmt: skip
        line = line_of(home / name, **parameters)
        assert "other.h5: must be in " in line
        assert "follow_outside: true" in line
        assert (read(home / name, follow_outside=True, **parameters) == STACK).all()
    (home / "secret").write_bytes(STACK.tobytes())
    with h5py.File(home / "bytes.h5", "w") as file:
        file.create_dataset("data", STACK.shape, STACK.dtype, external=[("secret", 0, STACK.nbytes)])
    assert "/data takes its values from secret: HDF5 would read any file there" in line_of(home / "bytes.h5")


def test_detached_values_outside_of_the_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "values.raw").write_bytes(STACK.tobytes())
    (home / "a.mhd").write_text(
        "NDims = 3\nDimSize = 30 40 8\nElementType = MET_UCHAR\nElementDataFile = ../values.raw\n"
    )
    (home / "a.nhdr").write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 30 40 8\nencoding: raw\ndata file: ../values.raw\n"
    )
    for name in ("a.mhd", "a.nhdr"):
        assert "values.raw: must be in " in line_of(home / name)
        assert (read(home / name, follow_outside=True) == STACK).all()


# Pictures


def test_a_png_with_fewer_rows_than_its_header_says(tmp_path: Path) -> None:
    for mode in ("L", "1", "RGB", "P"):
        Image.fromarray(PLANE).convert(mode).save(tmp_path / "a.png")
        if mode != "1":
            assert (read(tmp_path / "a.png")[0] == PLANE).all()
        data = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(png_fields(data, height=50))
        assert "its header promises" in line_of(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes(data[:-30])
        assert "truncated" in line_of(tmp_path / "a.png")


def test_an_eps_named_png_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    for name in ("a.png", "a.bmp", "a.jpg"):
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n")
        assert f"{name}: unreadable" in line_of(tmp_path / name)
    assert not started


def test_a_large_slice_is_read_and_a_bomb_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow refuses 179 million pixels whatever the file; 13,400 x 13,400 px take too long for a test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(PLANE).save(tmp_path / "large.png")
    assert (read(tmp_path / "large.png")[0] == PLANE).all()
    blank = np.zeros((1200, 1000), np.uint8)
    Image.fromarray(blank).save(tmp_path / "bomb.png")
    Image.fromarray(blank).convert("RGB").save(tmp_path / "colour.png")
    tifffile.imwrite(tmp_path / "bomb.tif", blank, compression="zlib")
    source(tmp_path / "bomb.h5", blank[None], chunks=(1, 1200, 1000), compression="gzip")
    np.save(tmp_path / "plain.npy", blank)
    for name in ("bomb.png", "colour.png", "bomb.tif", "bomb.h5"):
        line = line_of(tmp_path / name, largest_plane_px=1_000_000)
        assert "1200 x 1000 px in " in line
        assert "set largest_plane_px: 1200000" in line
        assert read(tmp_path / name, largest_plane_px=1_200_000).shape == (1, 1200, 1000)
    assert read(tmp_path / "plain.npy", largest_plane_px=1000).shape == (
        1,
        1200,
        1000,
    )  # it unfolds to nothing


# Headers


def tag(path: Path, name: str, value: object, *, code: int | None = None) -> None:
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        entry = tiff.pages.first.tags[name]
        if code is None:
            entry.overwrite(value)
        else:
            tiff.filehandle.seek(entry.offset + 2)
            tiff.filehandle.write(code.to_bytes(2, "little"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ImageWidth", 0, "tag ImageWidth is 0: must be at least 1"),
        ("ImageLength", 0, "tag ImageLength is 0: must be at least 1"),
        ("BitsPerSample", 0, "tag BitsPerSample is 0: must be 1 to 64"),
        ("SampleFormat", 99, "tag SampleFormat is 99: must be 1, 2 or 3"),
        ("SamplesPerPixel", 0, "tag SamplesPerPixel is 0: must be at least 1"),
        ("TileLength", 0, "tag TileLength is 0: must be at least 1"),
        ("TileWidth", 0, "unreadable: must be whole"),
        ("TileByteCounts", (0,) * 6, "6 of 6 strips or tiles were never written"),
        ("PhotometricInterpretation", 2, "tag SamplesPerPixel is 1: must be at least 3"),
        ("ImageLength", 17, "6 strips or tiles: must be 4"),
    ],
)
def test_tags_that_cannot_be_true(tmp_path: Path, name: str, value: object, words: str) -> None:
    path, is_tile = tmp_path / "a.tif", name.startswith("Tile") or value in (2, 17)
    image = PLANE.astype(np.int16) if name == "SampleFormat" else PLANE  # else there is no such tag
    options = {"tile": (16, 16), "compression": "zlib"} if is_tile else {}
    tifffile.imwrite(path, image, photometric="minisblack", metadata=None, **options)
    tag(path, name, value)
    line = line_of(path)
    assert str(path) in line
    assert words in line


def test_an_unknown_type_of_a_tag(tmp_path: Path) -> None:
    for name in ("ImageWidth", "ResolutionUnit", "XResolution", "RowsPerStrip"):
        tifffile.imwrite(tmp_path / "a.tif", PLANE, resolution=(5, 5), resolutionunit="CENTIMETER")
        tag(tmp_path / "a.tif", name, None, code=99)
        try:
            assert (read(tmp_path / "a.tif") == PLANE).all()
        except UserError as error:
            assert "\n" not in str(error)


def test_a_tiff_that_holds_more_than_its_tags_say(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PLANE, metadata=None)
    tag(tmp_path / "a.tif", "ImageLength", 20)
    assert "holds 600 bytes more than its tags say" in notes_of(tmp_path / "a.tif")[0]
    tifffile.imwrite(tmp_path / "a.tif", PLANE, metadata=None)
    tag(tmp_path / "a.tif", "BitsPerSample", 7)
    assert "40 x 30 px of 7 bits: are its tags right?" in notes_of(tmp_path / "a.tif")[0]


@pytest.mark.parametrize(
    "text",
    [
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"></OME>',
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"></Image></OME>',
        '<?xml version="1.0"?><OME><Image><Pixels SizeX="abc" SizeY="-1"/></Image></OME>',
        "ImageJ=1.54f\nimages=abc\nslices=3\n",
        "ImageJ=1.54f\nimages=8\nslices=-8\nunit=\\u00B5m\n",
        '{"shape": [-8, 40, 30]}',
    ],
)
def test_texts_that_lie(tmp_path: Path, text: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PLANE, description=text, metadata=None, photometric="minisblack")
    try:
        assert (read(tmp_path / "a.tif") == PLANE).all()
    except UserError as error:
        assert "a.tif" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (8, 40, -30), }", "shape (8, 40, -30)"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 40, 30), }", "shape (True, 40, 30)"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2147483648, 2147483648, 4), }", "too short"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (8, 40, 30", "unreadable"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (8, 40, 30), }", "values of type object"),
        ("{'descr': '|S4', 'fortran_order': False, 'shape': (8, 40, 30), }", "values of type"),
    ],
)
def test_npy_headers(tmp_path: Path, header: str, words: str) -> None:
    text = f"{header}\n".encode()
    data = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + STACK.tobytes()
    (tmp_path / "a.npy").write_bytes(data)
    assert words in line_of(tmp_path / "a.npy")


def test_an_npy_that_holds_more_than_its_shape_says(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    data = (tmp_path / "a.npy").read_bytes().replace(b"(8, 40, 30)", b"(7, 40, 30)")
    (tmp_path / "a.npy").write_bytes(data)
    assert "holds 1200 bytes more than its header says (shape (7, 40, 30))" in notes_of(tmp_path / "a.npy")[0]


def test_metaimages_of_all_kinds(tmp_path: Path) -> None:
    """Those that ITK writes are in `test_formats`."""
    head = "NDims = 3\nDimSize = 30 40 8\nElementType = MET_USHORT\n"
    deep = STACK.astype(np.uint16) * 200
    (tmp_path / "values.raw").write_bytes(b"abc" + deep.astype(">u2").tobytes())
    text = f"{head}ElementByteOrderMSB = True\nHeaderSize = -1\nElementDataFile = values.raw\n"
    (tmp_path / "a.mhd").write_text(text)
    assert (read(tmp_path / "a.mhd") == deep).all()
    for number, image in enumerate(deep):
        (tmp_path / f"plane{number:02d}.raw").write_bytes(image.tobytes())
    names = "".join(f"plane{number:02d}.raw\n" for number in range(8))
    for files in (f"LIST\n{names}", "plane%02d.raw 0 7 1\n"):
        (tmp_path / "a.mhd").write_text(f"{head}ElementDataFile = {files}")
        assert (read(tmp_path / "a.mhd") == deep).all()
    for line, words in (
        ("DimSize = 30 40 -8", "DimSize = 30 40 -8: must be at least 1"),
        ("DimSize = 30 40", "must be 2 or 3 sizes"),
        ("ElementType = MET_STRING", "must be one of MET_CHAR"),
        ("BinaryData = False", "must be binary"),
        ("CompressedData = maybe", "must be True or False"),
    ):
        name = line.partition(" =")[0]
        kept = "".join(f"{other}\n" for other in head.splitlines() if not other.startswith(name))
        (tmp_path / "a.mhd").write_text(f"{kept}{line}\nElementDataFile = values.raw\n")
        assert words in line_of(tmp_path / "a.mhd")


# Places


@pytest.fixture
def odd_name(tmp_path: Path) -> Path:
    folder = os.fsencode(tmp_path) + b"/m\xfcller"
    try:
        os.mkdir(folder)  # noqa: PTH102  # a name of bytes
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone")
    return Path(os.fsdecode(folder))


def test_names_that_are_not_utf8(odd_name: Path) -> None:
    for number in range(2):
        tifffile.imwrite(odd_name / f"{number}.tif", PLANE)
    names = [name for name, _ in pages([odd_name])]
    assert [name.encode() for name in names] == [str(n).encode() for n in names]
    assert "m\\xfcller" in names[0]


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tif")
    assert "neither a file nor a folder" in line_of(tmp_path / "a.tif")


def _reader_that_fails(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [TypeError("a\nb\x00"), AttributeError("x"), AssertionError(), RecursionError()]
)
def test_whatever_a_reader_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    np.save(tmp_path / "a.npy", STACK)
    monkeypatch.setattr(np, "memmap", _reader_that_fails(error))
    line = line_of(tmp_path / "a.npy")
    assert "a.npy: unreadable: must be whole" in line
    assert line.isprintable()
