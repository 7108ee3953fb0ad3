"""How a scan is to be read and split."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from microgan.core.config import Config, VoxelSizeUm
from microgan.core.errors import UserError
from microgan.scan.allowed import LARGEST_PLANE_PX
from microgan.scan.planes import GREY_DTYPES


def planes_in_range(text: str, count: int) -> range:
    """Return the numbers of the planes in a range as in Python, of ``count`` planes.

    Examples
    --------
    >>> list(planes_in_range("1:6:2", 5)), list(planes_in_range("-2:", 5))
    ([1, 3], [3, 4])
    """
    return range(count)[slice(*(int(part) if part else None for part in text.split(":")))]


def _is_range(text: object) -> bool:
    # YAML reads 10:20:4 without quotes as a number to the base of 60.
    return (
        isinstance(text, str) and re.fullmatch(r"(-?\d{1,9})?:(-?\d{1,9})?(:[1-9]\d{0,8})?", text) is not None
    )


class SplitConfig(Config):
    """Which part of a scan serves which purpose; what is left is for training.

    A list or a range (``"104:128"``) names planes, counted from 0. A fraction takes a band of rows, with that
    fraction of the field of view, from every plane that is not named; ``margin_px`` rows between two bands
    belong to no part. Nor do the planes that ``unused`` names, and ``margin_planes`` planes on either side of
    planes that are named for a part.
    """

    held_out: list[int] | str | float = 0.2
    calibration: list[int] | str | float = 0.2
    margin_px: int = Field(default=16, ge=0)
    margin_planes: int = Field(default=0, ge=0)
    unused: list[int] | str = Field(default_factory=list)

    @field_validator("held_out", "calibration", mode="before")
    @classmethod
    def _is_planes_or_fraction(cls, part: object) -> object:
        if not (isinstance(part, float) and 0 < part < 1) and not _names_planes(part):
            raise ValueError(
                'must be a list of planes, counted from 0, a range in quotes ("104:128"), or a fraction '
                "between 0 and 1"
            )
        return part

    @field_validator("unused", mode="before")
    @classmethod
    def _is_planes(cls, planes: object) -> object:
        if not _names_planes(planes):
            raise ValueError('must be a list of planes, counted from 0, or a range in quotes ("104:128")')
        return planes

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        fractions = [part for part in (self.held_out, self.calibration) if isinstance(part, float)]
        if sum(fractions) >= 1:
            raise ValueError("held_out and calibration must leave a part for training, below 1 together")
        lists = [part for part in (self.held_out, self.calibration, self.unused) if isinstance(part, list)]
        named = [plane for planes in lists for plane in planes]
        if len(named) != len(set(named)):
            raise ValueError("held_out, calibration and unused must name each plane at most once")
        return self

    def planes(self, count: int) -> dict[str, set[int]]:
        """Return the planes that are named for each part, and those of no part (``unused``).

        Parameters
        ----------
        count
            Number of planes of the scan.

        Raises
        ------
        UserError
            If a plane is not there, is named twice, or none is left for training.
        """
        named = {
            role: _numbers(part, count, f"split.{role}")
            for role, part in (
                ("held_out", self.held_out), ("calibration", self.calibration), ("unused", self.unused)
            )
            if not isinstance(part, float)
        }  # fmt: skip
        owner: dict[int, str] = {}
        for role, planes in named.items():
            for plane in planes:
                if plane in owner:
                    where = f"split.{role}"
                    raise UserError(
                        where, plane, f"must name each plane once; split.{owner[plane]} has it too"
                    )
                owner[plane] = role
        apart = self.margin_planes
        near = {
            plane
            for number, role in owner.items()
            if role != "unused"
            for plane in range(max(number - apart, 0), min(number + apart + 1, count))
        }
        named["unused"] = named.get("unused", set()) | (near - owner.keys())
        taken = sum(map(len, named.values()))
        if taken >= count:
            rule = "must leave a plane for training: name fewer, or take fractions of the rows"
            raise UserError("split", f"{taken} of {count} planes named or beside them", rule)
        return named


def _names_planes(part: object) -> bool:
    return _is_range(part) or (
        isinstance(part, list) and all(type(plane) is int and plane >= 0 for plane in part)
    )


def _numbers(part: list[int] | str, count: int, where: str) -> set[int]:
    planes = planes_in_range(part, count) if isinstance(part, str) else part
    if isinstance(part, str) and not planes:
        raise UserError(where, part, f"must name a plane of the scan, which has {count} (0 to {count - 1})")
    if beyond := [plane for plane in planes if plane >= count]:
        rule = f"must name planes below {count}, the scan's number of planes"
        raise UserError(where, beyond[0], rule)
    return set(planes)


class Reading(Config):
    """How to read a file that does not say all by itself, and what reading may do."""

    dataset: str | None = None
    follow_outside: bool = False
    largest_plane_px: int = Field(default=LARGEST_PLANE_PX, ge=1)
    shape: tuple[int, int, int] | None = None
    dtype: str | None = None
    byte_order: Literal["little", "big"] = "little"

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


AS_IT_SAYS = Reading()  # files that say all by themselves


class ScanConfig(Reading):
    """How to read one scan, an entry under ``scans:``."""

    path: str = "."
    planes: str | None = None
    exclude: tuple[str, ...] = ()
    voxel_size_um: VoxelSizeUm | None = None
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
        if planes is not None and not _is_range(planes):
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
