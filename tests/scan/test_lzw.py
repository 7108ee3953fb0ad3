"""LZW data of any writer are read; damaged ones are refused before a decoder follows them anywhere."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from microgan.core.errors import UserError
from microgan.scan.config import ScanConfig, SplitConfig
from microgan.scan.formats.lzw import is_sound
from microgan.scan.readers import open_scan

NOISE = np.random.default_rng(0).normal(100, 20, (300, 280)).astype(np.uint8)
IMAGES = {
    "noise": NOISE,
    "flat with a step": np.repeat([[3], [200]], 150, 0).repeat(280, 1).astype(np.uint8),
    "16 bit": (NOISE.astype(np.uint16) * 257),
}


def read(path: Path) -> np.ndarray:
    config = ScanConfig(path=path.name, radius_px=(4, 8), split=SplitConfig())
    with open_scan(path.parent, config) as scan:
        return scan.plane(0)


@pytest.mark.parametrize("name", IMAGES)
def test_files_of_both_writers_are_read(name: str, tmp_path: Path) -> None:
    image = IMAGES[name]
    tifffile.imwrite(tmp_path / "a.tif", image, compression="lzw", predictor=True, photometric="minisblack")
    Image.fromarray(image).save(tmp_path / "b.tif", compression="tiff_lzw")
    for file in ("a.tif", "b.tif"):
        np.testing.assert_array_equal(read(tmp_path / file), image)


def test_a_code_that_nothing_defines_is_one_line(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", NOISE, compression="lzw", photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        start = tiff.pages[0].dataoffsets[0]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[start + 2 : start + 4] = b"\xff\xff"
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.tif: .*LZW codes that nothing defines"):
        read(tmp_path / "a.tif")


def test_what_is_sound_decodes_to_the_same_each_time() -> None:
    rng = np.random.default_rng(1)
    whole = np.frombuffer(imagecodecs.lzw_encode(NOISE[:3].tobytes()), np.uint8)
    assert is_sound(whole)
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        data = whole.copy()
        data[rng.integers(len(data), size=2)] = rng.integers(256, size=2)
        sound = is_sound(data)
        outcomes[sound] += 1
        if sound:
            first, second = (imagecodecs.lzw_decode(data.tobytes(), out=NOISE[:3].size) for _ in range(2))
            assert first == second
    assert min(outcomes.values()) > 50
