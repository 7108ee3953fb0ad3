"""A scan made ready: normalised planes, the field of view, and the parts that serve different purposes.

A folder holds ``planes.npy`` (float16, grey values in [-1, 1]), ``mask.npy`` (the field of view, a bit for
each pixel: `PackedMask`) and ``scan.json`` (`ScanInfo`), all ``(plane, row, col)``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, field_validator, model_validator

from microgan.core.config import Config, VoxelSizeUm
from microgan.core.errors import UserError, one_line
from microgan.core.files import must_be_regular
from microgan.core.json_files import read_json

GREY_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
ROLES = ("train", "calibration", "held_out")
MOST_NAMES = 8  # of files in an excerpt

Box = tuple[int, int, int, int, int]  # plane, row0, row1, col0, col1


class ScanInfo(Config):
    """What is known of a scan; it travels with models and samples. Coordinates are those of ``planes.npy``.

    Attributes
    ----------
    source : file names of the raw scan; in an `excerpt`, of many the first and the last
    source_digest : SHA-256 of the text "(planes, rows, cols) dtype" followed by the raw grey values; not that
        of a file, since it does not depend on the format that the scan is stored in
    dtype : of the raw grey values
    voxel_size_um : None where unknown
    intensity_window : the raw grey values that became -1 and 1
    regions : role -> boxes (plane, row0, row1, col0, col1), trimmed to the field of view; none in an excerpt
    planes_sha256, mask_sha256 : SHA-256 of the files planes.npy and mask.npy
    """

    name: str
    source: list[str]
    source_digest: str
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    dtype: str
    voxel_size_um: VoxelSizeUm | None
    polarity: Literal["bright", "dark"]
    radius_px: tuple[float, float]
    intensity_window: tuple[float, float]
    regions: dict[str, list[Box]] = Field(default_factory=dict)
    planes_sha256: str
    mask_sha256: str

    @field_validator("dtype")
    @classmethod
    def _is_of_grey_values(cls, dtype: str) -> str:
        if dtype not in GREY_DTYPES:
            raise ValueError(f"must be the type of grey values: {', '.join(GREY_DTYPES)}")
        return dtype

    @field_validator("intensity_window")
    @classmethod
    def _is_a_range(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not window[0] < window[1]:
            raise ValueError("must be two grey values, the smaller one first")
        return window

    @field_validator("radius_px")
    @classmethod
    def _is_a_band(cls, band: tuple[float, float]) -> tuple[float, float]:
        if not 0 < band[0] < band[1]:
            raise ValueError("must be the smallest and the largest radius, px")
        return band

    @model_validator(mode="after")
    def _regions_are_in_the_planes(self) -> Self:
        planes, rows, cols = self.shape
        for role, boxes in self.regions.items():
            for plane, row0, row1, col0, col1 in boxes:
                if not (0 <= plane < planes and 0 <= row0 < row1 <= rows and 0 <= col0 < col1 <= cols):
                    box = (plane, row0, row1, col0, col1)
                    raise ValueError(f"regions.{role}: {box} must be inside of the planes, {self.shape}")
        return self

    def excerpt(self) -> Self:
        """Return what models, limits and samples keep of a scan: as long for 2000 planes as for one."""
        names = self.source
        if len(names) > MOST_NAMES:
            names = [names[0], f"{len(names) - 2} more", names[-1]]
        return self.model_copy(update={"source": names, "regions": {}})

    def normalise(self, raw: np.ndarray) -> np.ndarray:
        """Map raw grey values to float32 in [-1, 1]; what lies beyond the intensity window is clipped."""
        return to_unit_range(raw, self.intensity_window)

    def denormalise(self, images: np.ndarray) -> np.ndarray:
        """Map values in [-1, 1] to the scan's own grey values and type, rounded for integers."""
        low, high = self.intensity_window
        grey = low + (np.clip(np.asarray(images, np.float64), -1, 1) + 1) / 2 * (high - low)
        return (np.round(grey) if np.dtype(self.dtype).kind in "iu" else grey).astype(self.dtype)


class PackedMask:
    """A mask (P, H, W) of which each row of pixels is kept as bits; parts of planes are read as bool.

    Parameters
    ----------
    bits : ndarray of shape (P, H, ceil(W / 8)), uint8, as `packed` returns it
    shape : (P, H, W)

    Examples
    --------
    >>> PackedMask.of(np.eye(9, dtype=bool)[None])[0, 7:, 7:]
    array([[ True, False],
           [False,  True]])
    """

    def __init__(self, bits: np.ndarray, shape: tuple[int, int, int]) -> None:
        self._bits = np.asarray(bits)  # a plain view: indexing a numpy.memmap costs ten times as much
        self.shape = shape

    @classmethod
    def of(cls, mask: np.ndarray) -> Self:
        """Pack a mask (P, H, W) of bool."""
        planes, rows, cols = mask.shape
        return cls(packed(mask), (planes, rows, cols))

    def __getitem__(self, part: int | tuple[int, slice, slice]) -> np.ndarray:
        """Return one plane, or the given rows and columns of it."""
        plane, rows, cols = part if isinstance(part, tuple) else (part, slice(None), slice(None))
        start, stop, step = cols.indices(self.shape[2])
        first = start // 8
        bits = self._bits[plane, rows, first : -(-stop // 8)]
        return np.unpackbits(bits, axis=-1)[..., start - 8 * first : stop - 8 * first : step].view(bool)


def packed(mask: np.ndarray) -> np.ndarray:
    """Return the rows of a mask (..., W), bool, as bits (..., ceil(W / 8)), uint8."""
    return np.packbits(mask, axis=-1)


@dataclass(frozen=True)
class Planes:
    """The planes of one scan on disk: ``grey`` (P, H, W) float16, ``mask`` (P, H, W), and ``info``."""

    grey: np.ndarray
    mask: PackedMask
    info: ScanInfo

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open the folder that `ingest` wrote; the arrays stay on disk.

        Raises
        ------
        UserError
            If the folder is missing or incomplete.
        """
        folder = Path(folder)
        info = ScanInfo.from_mapping(read_json(folder / "scan.json"), where=str(folder / "scan.json"))
        planes, rows, cols = info.shape
        bits = _stored(folder / "mask.npy", np.uint8, (planes, rows, -(-cols // 8)))
        return cls(_stored(folder / "planes.npy", np.float16, info.shape), PackedMask(bits, info.shape), info)


def _stored(path: Path, dtype: type[np.generic], shape: tuple[int, int, int]) -> np.ndarray:
    must_be_regular(path)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # noqa: BLE001  what numpy raises on a broken header has no end
        raise UserError(path, "unreadable", f"must be a whole NPY file ({one_line(error)})") from None
    if values.shape != shape or values.dtype != dtype:
        rule = f"must be {shape} of {np.dtype(dtype)}, as scan.json says: run ingest again"
        raise UserError(path, f"shape {values.shape} of {values.dtype}", rule)
    return values


def window_corners(mask: np.ndarray, size_px: int) -> np.ndarray:
    """Return where the first pixel of a window may lie, so that the window is wholly inside ``mask``.

    Parameters
    ----------
    mask : ndarray of shape (H, W), bool
    size_px : int

    Returns
    -------
    ndarray of shape (max(H - size_px + 1, 0), max(W - size_px + 1, 0)), bool

    Examples
    --------
    >>> window_corners(np.ones((3, 4), bool), 3)
    array([[ True,  True]])
    """
    total = np.pad(np.cumsum(np.cumsum(mask, 0, np.int32), 1, np.int32), ((1, 0), (1, 0)))
    s = size_px
    inside = total[s:, s:] - total[:-s, s:] - total[s:, :-s] + total[:-s, :-s]
    return inside == s * s


# Values and checks -------------------------------------------------------------------------------------


def to_unit_range(raw: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    low, high = window
    scaled = (np.asarray(raw, np.float64) - low) / (high - low) * 2 - 1
    return np.clip(scaled, -1, 1).astype(np.float32)
