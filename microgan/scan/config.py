"""How a scan is to be read and split."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from microgan.core.config import Config

GREY_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


class SplitConfig(Config):
    """Which part of a scan serves which purpose; what is left is for training.

    A list names planes (counted from 0). A fraction takes a band of rows, with that fraction of the field
    of view, from every plane that no list names; ``margin_px`` rows between two bands belong to no part.
    """

    held_out: list[int] | float = 0.2
    calibration: list[int] | float = 0.2
    margin_px: int = Field(default=16, ge=0)

    @field_validator("held_out", "calibration", mode="before")
    @classmethod
    def _is_planes_or_fraction(cls, fraction: object) -> object:
        planes = isinstance(fraction, list) and all(type(plane) is int and plane >= 0 for plane in fraction)
        if not planes and not (isinstance(fraction, float) and 0 < fraction < 1):
            raise ValueError("must be a list of planes, counted from 0, or a fraction between 0 and 1")
        return fraction

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        fractions = [
            fraction for fraction in (self.held_out, self.calibration) if isinstance(fraction, float)
        ]
        if sum(fractions) >= 1:
            raise ValueError("held_out and calibration must leave a part for training, below 1 together")
        named = [
            plane for role in (self.held_out, self.calibration) if isinstance(role, list) for plane in role
        ]
        if len(named) != len(set(named)):
            raise ValueError("held_out and calibration must name each plane at most once")
        return self


class ScanConfig(Config):
    """How to read one scan, an entry under ``scans:``."""

    path: str = "."
    planes: str | None = None
    exclude: tuple[str, ...] = ()
    dataset: str | None = None
    shape: tuple[int, int, int] | None = None
    dtype: str | None = None
    byte_order: Literal["little", "big"] = "little"
    voxel_size_um: float | None = Field(default=None, gt=0)
    polarity: Literal["bright", "dark"] = "bright"
    radius_px: tuple[float, float]
    region: tuple[int, int, int, int] | None = None
    field_of_view: Literal["full", "circle", "auto"] = "auto"
    intensity_percentiles: tuple[float, float] = (0.5, 99.5)
    split: SplitConfig = SplitConfig()

    @field_validator("path")
    @classmethod
    def _path_stays_inside(cls, path: str) -> str:
        absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
        if absolute or ".." in PurePosixPath(path.replace("\\", "/")).parts:
            raise ValueError("must be relative to the scan's folder and stay inside it")
        return path

    @field_validator("planes", mode="before")
    @classmethod
    def _planes_are_a_range(cls, planes: object) -> object:
        # YAML reads 10:20:4 without quotes as a number to the base of 60.
        pattern = r"(-?\d+)?:(-?\d+)?(:[1-9]\d*)?"
        if planes is not None and not (isinstance(planes, str) and re.fullmatch(pattern, planes)):
            raise ValueError(
                'must be a range as in Python, in quotes: "10:200:4" (first, end, step), "10:", ":-5"'
            )
        return planes

    @field_validator("radius_px")
    @classmethod
    def _radius_band_rises(cls, band: tuple[float, float]) -> tuple[float, float]:
        if not 1 <= band[0] < band[1]:
            raise ValueError("must be (min, max) with 1 <= min < max")
        return band

    @field_validator("intensity_percentiles")
    @classmethod
    def _percentiles_rise(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError("must be (low, high) with 0 <= low < high <= 100")
        return percentiles

    @field_validator("shape")
    @classmethod
    def _shape_is_positive(cls, shape: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if shape is not None and min(shape) < 1:
            raise ValueError("planes, rows and columns must be at least 1")
        return shape

    @field_validator("dtype")
    @classmethod
    def _dtype_is_known(cls, dtype: str | None) -> str | None:
        if dtype is not None and dtype not in GREY_DTYPES:
            raise ValueError(f"must be one of {', '.join(GREY_DTYPES)}")
        return dtype
