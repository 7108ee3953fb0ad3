from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from benchmarks import large_images as benchmark
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.files import write_tiff_in_bands
from microgan.gan.networks import Generator, NetworkConfig
from microgan.gan.sampling import sample, sample_in_bands, sample_to_tiff
from microgan.scan.planes import ScanInfo
from microgan.scan.readers import open_image
from tests.helpers import lively

# Across and along tiles of 256 px: one, several, ragged, narrow ones.
SIZES = [((41, 27), False), ((603, 301), False), ((1100, 30), False), ((64, 40), True), ((264, 520), True)]


class Watched(Generator):
    """Notes the largest latent that it was given."""

    largest = 0

    def forward(self, latent: Tensor) -> Tensor:
        self.largest = max(self.largest, latent[0, 0].numel())
        return super().forward(latent)


@pytest.fixture
def generator() -> Generator:
    return lively(NetworkConfig(latent_channels=4, base_channels=8))


def _info(dtype: str = "uint16", voxel_size_um: float | None = 1.3) -> ScanInfo:
    return ScanInfo(
        name="carbon",
        source=["scan.tif"],
        source_digest="",
        shape=(1, 64, 64),
        dtype=dtype,
        voxel_size_um=voxel_size_um,
        polarity="bright",
        radius_px=(4, 8),
        intensity_window=(20, 180) if dtype == "uint8" else (1000, 50000),
        regions={},
        planes_sha256="",
        mask_sha256="",
    )


@pytest.mark.parametrize(("size_px", "periodic"), SIZES)
def test_bands_have_the_bits_of_the_sample_in_memory(
    generator: Generator, size_px: tuple[int, int], periodic: bool
) -> None:
    domain = Domain(size_px, periodic)
    images = sample(generator, 2, domain, seed=3)
    for index, image in enumerate(images[:, 0]):
        bands = list(sample_in_bands(generator, index, domain, seed=3))
        assert torch.equal(torch.cat(bands), image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_file_has_the_samples_in_the_scans_own_grey_values(
    generator: Generator, tmp_path: Path, dtype: str
) -> None:
    info = _info(dtype)
    sample_to_tiff(generator, tmp_path / "new.tif", info, 3, Domain((270, 41)), seed=1)
    images = info.denormalise(sample(generator, 3, Domain((270, 41)), seed=1)[:, 0].numpy())
    assert np.ptp(images) > 50
    stored = tifffile.imread(tmp_path / "new.tif")
    assert stored.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(stored, images)
    with open_image(tmp_path / "new.tif") as scan:
        assert (scan.shape, scan.voxel_size_um) == ((3, 270, 41), pytest.approx(1.3))
        np.testing.assert_array_equal(scan.plane(2), images[2])


def test_an_unknown_voxel_size_stays_unknown(generator: Generator, tmp_path: Path) -> None:
    sample_to_tiff(generator, tmp_path / "new.tif", _info(voxel_size_um=None), 1, Domain((24, 24)), seed=1)
    with open_image(tmp_path / "new.tif") as scan:
        assert (scan.shape, scan.voxel_size_um) == ((1, 24, 24), None)


def test_memory_does_not_grow_with_the_image() -> None:
    generator = Watched(NetworkConfig(latent_channels=4, base_channels=4))
    for size_px in ((1500, 700), (9000, 10), (10, 9000)):
        largest_band = max(band.numel() for band in sample_in_bands(generator, 0, Domain(size_px), seed=0))
        assert largest_band <= 256 * max(256, size_px[1])
    assert generator.largest <= 42**2 + 10 * 512  # a tile of 256 x 256 px, or a long one, and its context


def test_a_large_stack_is_a_bigtiff_that_can_be_mapped(tmp_path: Path) -> None:
    bands = (np.full((1024, 8192), band, np.uint8) for band in range(8))
    write_tiff_in_bands(tmp_path / "large.tif", bands, (1, 8192, 8192), np.dtype("uint8"))
    with tifffile.TiffFile(tmp_path / "large.tif") as tiff:
        assert tiff.is_bigtiff
    mapped = tifffile.memmap(tmp_path / "large.tif", mode="r")
    np.testing.assert_array_equal(mapped[0, 512::1024, 100], range(8))


def test_nothing_is_left_when_a_band_fails(tmp_path: Path) -> None:
    def bands() -> Iterator[np.ndarray]:
        yield np.zeros((4, 8), np.uint8)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_tiff_in_bands(tmp_path / "new.tif", bands(), (1, 8, 8), np.dtype("uint8"))
    assert not list(tmp_path.iterdir())


def test_a_period_that_is_no_multiple_of_the_stride_is_refused(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="size: 60: the side of a periodic image must be a multiple of 8 px"):
        sample_to_tiff(generator, tmp_path / "new.tif", _info(), 1, Domain((64, 60), periodic=True), seed=0)
    assert not list(tmp_path.iterdir())


def test_the_benchmark_sees_borders_that_do_not_fit(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = torch.arange(16.0).expand(2, 1, 16, 16)  # steps of 1, but 15 at the seam
    monkeypatch.setattr(benchmark, "sample", lambda *_, **__: ramp)
    assert benchmark.seam_ratio(generator, 2, 16) == pytest.approx(15)
    assert benchmark.wrap_error(generator, 64, seed=0) == 0
