"""Targets of the fuzzer: images and scans in all formats."""

import bz2
import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import tifffile
from PIL import Image

from benchmarks.fuzz_targets import (
    Mutation,
    Target,
    any_bytes,
    at_limit,
    cut,
    header_bytes,
    header_numbers,
    json_values,
    spliced,
    text_lines,
)
from microgan.core.notes import warn
from microgan.scan.config import ScanConfig
from microgan.scan.readers import open_scan

STACK = np.random.default_rng(0).integers(0, 60000, (3, 24, 20), np.uint16)
BYTES = (STACK >> 8).astype(np.uint8)


def read(path: Path) -> np.ndarray:
    """Read all planes as the product does, and warn as it does."""
    with open_scan(path.parent, ScanConfig(path=path.name, radius_px=(1, 2))) as scan:
        for note in scan.notes:
            warn(note)
        return np.stack([scan.plane(index) for index in range(scan.shape[0])])


def _pixels(stack: np.ndarray) -> tuple[bytes, ...]:
    return tuple(plane.astype(kind).tobytes() for plane in stack for kind in ("<u2", ">u2", "u1", "<f4"))


HEADERS: Mapping[str, Mutation] = {
    "header bytes": header_bytes(*_pixels(STACK), *_pixels(BYTES)),
    "header numbers": header_numbers(*_pixels(STACK), *_pixels(BYTES)),
}
GENERAL: Mapping[str, Mutation] = {"bytes": any_bytes, "cut": cut, "spliced": spliced, **HEADERS}


def _target(
    name: str, seeds: Callable[[Path], Iterable[Path]], *, is_compressed: bool = False, **more: Mutation
) -> Target:
    named = {key.replace("_", " "): mutation for key, mutation in more.items()}
    keeping = {"cut", *named} if is_compressed else {"cut", *HEADERS, *named}
    return Target(name, lambda folder: list(seeds(folder)), read, {**GENERAL, **named}, frozenset(keeping))


# TIFF --------------------------------------------------------------------------------------------------


def tiff_tags(data: bytes, rng: np.random.Generator) -> bytes:
    """Change code, type, count or value of a tag, in any of the pages."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tags = [tag for page in tiff.pages for tag in page.aspage().tags]
        tag = tags[int(rng.integers(len(tags)))]
        is_big = tiff.is_bigtiff
        order: Literal["little", "big"] = "little" if tiff.byteorder == "<" else "big"
        wide = 8 if is_big else 4
        size = struct.calcsize(tag.dtype_name and _type(tag)) if _type(tag) else 1
        fields = {"code": (tag.offset, 2), "type": (tag.offset + 2, 2), "count": (tag.offset + 4, wide)}
        fields["value"] = fields["more"] = (tag.valueoffset, size)
        at, length = fields[list(fields)[int(rng.integers(len(fields)))]]
    old = int.from_bytes(data[at : at + length], order)
    return data[:at] + at_limit(old, length, rng).to_bytes(length, order) + data[at + length :]


def _type(tag: tifffile.TiffTag) -> str:
    kind = tifffile.TIFF.DATA_FORMATS.get(tag.dtype, "B")
    return {"2I": "I", "2i": "i"}.get(kind, kind[-1])


def tiff_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Change the text of ImageDescription: OME-XML, ImageJ, JSON."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag = tiff.pages.first.tags.get("ImageDescription")
        if tag is None:
            return tiff_tags(data, rng)
        at, length = tag.valueoffset, tag.count
    text = data[at : at + length].rstrip(b"\0")
    changed = text_lines(text.replace(b"><", b">\n<"), rng)[:length]
    return data[:at] + changed.ljust(length, b"\0") + data[at + length :]


def _tiffs(folder: Path) -> Iterable[Path]:
    kinds: dict[str, dict] = {
        "plain": {},
        "big": {"bigtiff": True},
        "motorola": {"byteorder": ">"},
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}, "resolution": (2.0, 2.0)},
        "ome": {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}},
    }
    for name, options in kinds.items():
        tifffile.imwrite(folder / f"{name}.tif", STACK, photometric="minisblack", **options)
        yield folder / f"{name}.tif"
    with tifffile.TiffWriter(folder / "pages.tif") as writer:
        for plane in STACK:
            writer.write(plane, metadata=None, photometric="minisblack", rowsperstrip=7)
    yield folder / "pages.tif"


def _packed_tiffs(folder: Path) -> Iterable[Path]:
    kinds: dict[str, dict] = {
        "deflate": {"compression": "zlib"},
        "lzw": {"compression": "lzw", "predictor": True, "rowsperstrip": 7},
        "tiled": {"tile": (16, 16), "compression": "zlib"},
        "zstd": {"compression": "zstd"},
        "packbits": {"compression": "packbits"},
    }
    for name, options in kinds.items():
        tifffile.imwrite(folder / f"{name}.tif", STACK, photometric="minisblack", **options)
        yield folder / f"{name}.tif"
    tifffile.imwrite(folder / "rgb.tif", np.stack([BYTES[0]] * 3, -1), photometric="rgb", tile=(16, 16))
    yield folder / "rgb.tif"
    tifffile.imwrite(folder / "mask.tif", BYTES > 100, photometric="minisblack")
    yield folder / "mask.tif"
    ramp = np.repeat((np.arange(256) * 257).astype(np.uint16)[None], 3, 0)
    tifffile.imwrite(folder / "palette.tif", BYTES[0], photometric="palette", colormap=ramp)
    yield folder / "palette.tif"
    jpeg = np.stack([np.kron(plane[::8, ::8], np.ones((8, 8), np.uint8)) for plane in BYTES])
    tifffile.imwrite(folder / "jpeg.tif", jpeg, photometric="minisblack", compression="jpeg")
    yield folder / "jpeg.tif"


def _tiff_slices(folder: Path) -> Iterable[Path]:
    home = folder / "slices"
    home.mkdir()
    for number, plane in enumerate(STACK):
        tifffile.imwrite(home / f"{number}.tif", plane, photometric="minisblack")
    yield home


# Pictures ----------------------------------------------------------------------------------------------


def png_chunks(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a chunk of a PNG, its checksum with it: a field of IHDR, the rows in IDAT, its order."""
    chunks = _chunks(data)
    kind = int(rng.integers(7))
    at = int(rng.integers(len(chunks)))
    name, body = chunks[at]
    if kind <= 2:
        fields = ((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1))
        start, size = fields[int(rng.integers(len(fields)))]
        ihdr = chunks[0][1]
        value = at_limit(int.from_bytes(ihdr[start : start + size]), size, rng).to_bytes(size)
        chunks[0] = (b"IHDR", ihdr[:start] + value + ihdr[start + size :])
    elif kind == 3:
        values = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
        fewer = zlib.compress(values[: int(rng.integers(len(values)))])
        chunks = [chunks[0], (b"IDAT", fewer), (b"IEND", b"")]
    elif kind == 4:
        chunks[at] = (rng.choice(np.array([b"tRNS", b"PLTE", b"gAMA", b"acTL", b"zTXt", b"abcd"])), body)
    elif kind == 5:
        chunks.insert(at, (name, body))
    else:
        chunks[at] = (name, any_bytes(body, rng) if body else b"\0")
    return _of_chunks(chunks)


def png_fields(data: bytes, *, height: int) -> bytes:
    """Return a PNG whose header states another number of rows."""
    (name, ihdr), *others = _chunks(data)
    return _of_chunks([(name, ihdr[:4] + height.to_bytes(4) + ihdr[8:]), *others])


def _of_chunks(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _pngs(folder: Path) -> Iterable[Path]:
    pictures = {
        "deep": Image.fromarray(STACK[0]),
        "grey": Image.fromarray(BYTES[0]),
        "mask": Image.fromarray(BYTES[0] > 100),
        "colour": Image.fromarray(BYTES[0]).convert("RGBA"),
        "palette": Image.fromarray(BYTES[0]).convert("P"),
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
        yield folder / f"{name}.png"


def _pictures(folder: Path) -> Iterable[Path]:
    for name in ("picture.bmp", "picture.jpg"):
        Image.fromarray(BYTES[0]).save(folder / name)
        yield folder / name
    Image.fromarray(BYTES[0]).convert("RGB").save(folder / "colour.bmp")
    yield folder / "colour.bmp"


# Arrays ------------------------------------------------------------------------------------------------


def npy_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Change type, order or shape in the header of an NPY file, or its length."""
    length = int.from_bytes(data[8:10], "little")
    text = data[10 : 10 + length].decode("latin-1")
    shapes = (
        "(3, 24, -20)", "(2147483648, 2147483648, 4)", "(True, 24, 20)", "(3, 24, 20.0)", "()", "(0, 24, 20)",
        "(3, 24, 21)", "(3, 24, 19)", "(20, 24, 3)", "'abc'", "(3, 24, 20",
        "(3, 24, 9999999999999999999999)", "None",
        "(1440,)", "[3, 24, 20]", "(-3, -24, 20)", "(3, 24, None)", "(4, 18, 20)", "(" * 300 + ")" * 300,
    )  # fmt: skip
    types = (
        "'<f8'",
        "'|O'",
        "'<u4'",
        "'>u2'",
        "'|b1'",
        "'<c8'",
        "[('a', '<u2')]",
        "'<M8[s]'",
        "'|V2'",
        "'U'",
        "1",
    )
    kind = int(rng.integers(6))
    if kind <= 2:
        text = text.replace("(3, 24, 20)", shapes[int(rng.integers(len(shapes)))])
    elif kind == 3:
        text = text.replace("'<u2'", types[int(rng.integers(len(types)))])
    elif kind == 4:
        text = text.replace("False", ("True", "1", "None", "'a'")[int(rng.integers(4))])
    else:
        size = at_limit(length, 2, rng).to_bytes(2, "little")
        return data[:8] + size + data[10:]
    text = text.rstrip(" \n").ljust(length - 1) + "\n"
    return data[:8] + len(text).to_bytes(2, "little") + text.encode("latin-1") + data[10 + length :]


def _npys(folder: Path) -> Iterable[Path]:
    np.save(folder / "stack.npy", STACK)
    np.save(folder / "floats.npy", STACK.astype(np.float32))
    yield folder / "stack.npy"
    yield folder / "floats.npy"


def _hdf5s(folder: Path) -> Iterable[Path]:
    options: dict[str, dict] = {
        "plain": {},
        "chunked": {"chunks": (1, 24, 20)},
        "packed": {"chunks": (1, 24, 20), "compression": "gzip", "fletcher32": True},
    }
    for name, how in options.items():
        with h5py.File(folder / f"{name}.h5", "w", track_order=True) as file:
            data = file.create_dataset("entry/data", data=STACK, **how)
            data.attrs["voxel_size_um"] = 0.5
        yield folder / f"{name}.h5"
    home = folder / "virtual"
    home.mkdir()
    with h5py.File(home / "source.h5", "w") as file:
        file["data"] = STACK
    with h5py.File(home / "virtual.h5", "w", libver="latest") as file:
        layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
        layout[:] = h5py.VirtualSource("source.h5", "data", STACK.shape)
        file.create_virtual_dataset("data", layout)
    yield home


def _read_virtual(folder: Path) -> np.ndarray:
    return read(folder / "virtual.h5" if folder.is_dir() else folder)


# Volumes, whose readers are optional packages --------------------------------------------------------


def _nrrds(folder: Path) -> Iterable[Path]:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "raw": bytes,
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
    }
    for encoding, packed in packers.items():
        lines = ("NRRD0004", "type: uint16", "dimension: 3", "sizes: 20 24 3", "endian: little",
                 f"encoding: {encoding}", "spacings: 0.5 0.5 0.5", 'space units: "um" "um" "um"')  # fmt: skip
        header = "\n".join(line for line in lines if not line.startswith("space units")) + "\n\n"
        (folder / f"{encoding}.nrrd").write_bytes(header.encode() + packed(STACK.tobytes()))
        yield folder / f"{encoding}.nrrd"


def _metaimages(folder: Path) -> Iterable[Path]:
    for name, compressed in (("plain", False), ("packed", True)):
        values = zlib.compress(STACK.tobytes()) if compressed else STACK.tobytes()
        lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False",
                 f"CompressedData = {compressed}", "ElementSpacing = 0.5 0.5 0.5", "DimSize = 20 24 3",
                 "ElementType = MET_USHORT", "ElementDataFile = LOCAL"]  # fmt: skip
        if compressed:
            lines.insert(5, f"CompressedDataSize = {len(values)}")
        (folder / f"{name}.mha").write_bytes("\n".join(lines).encode() + b"\n" + values)
        yield folder / f"{name}.mha"


def _dicoms(folder: Path) -> Iterable[Path]:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    uid = generate_uid(entropy_srcs=["fuzz"])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = STACK.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation, dataset.PixelSpacing = "MONOCHROME2", [0.5, 0.5]
    dataset.PixelData = STACK.tobytes()
    dataset.save_as(folder / "stack.dcm", enforce_file_format=True)
    yield folder / "stack.dcm"


def _zarrs(folder: Path) -> Iterable[Path]:
    import zarr

    for version in (2, 3):
        array = zarr.create_array(
            store=str(folder / f"v{version}"), shape=STACK.shape, dtype=STACK.dtype, chunks=(1, 24, 20),
            zarr_format=version,
        )  # fmt: skip
        array[:] = STACK
        yield folder / f"v{version}"


TEXT = {"lines": text_lines}

TARGETS: Sequence[Target] = (
    _target("TIFF", _tiffs, tags=tiff_tags, text=tiff_text),
    _target("TIFF, packed", _packed_tiffs, is_compressed=True, tags=tiff_tags),
    _target("TIFF, slices", _tiff_slices, tags=tiff_tags),
    _target("PNG", _pngs, is_compressed=True, chunks=png_chunks),
    _target("BMP, JPEG", _pictures, is_compressed=True),
    _target("NPY", _npys, header=npy_header),
    Target("HDF5", lambda folder: list(_hdf5s(folder)), _read_virtual, GENERAL, frozenset({"cut", *HEADERS})),
    _target("NRRD", _nrrds, lines=text_lines),
    _target("MetaImage", _metaimages, lines=text_lines),
    _target("DICOM", _dicoms),
    _target("Zarr", _zarrs, is_compressed=True, values=json_values),
)
