"""How large a cell must be for its volume fraction and stiffness to be those of the material.

The variance of the volume fraction follows from the two-point correlation of whole planes, that of the
stiffness from windows that are solved besides: see `microgan.statistics.representative`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from microgan.core.errors import UserError
from microgan.evaluation.homogenisation import PropertiesConfig, stiffness
from microgan.scan.planes import Planes, window_corners
from microgan.statistics.phase_descriptors import volume_fraction
from microgan.statistics.representative import (
    CONFIDENCE,
    FractionVariance,
    PropertyVariance,
    fraction_variance,
)
from microgan.validity.phase import phase_image
from microgan.validity.segmentation import Segmentation

Plane = tuple[np.ndarray, np.ndarray]  # phase, and where it shows the specimen, (H, W) bool each

MOST_PX = 1 << 25  # of all planes together: more planes of one stack tell little more
WINDOWS_ON_A_SIDE = (1, 2, 4, 8, 16)  # of the cells that are listed
FRACTION_HALF_WIDTH, STIFFNESS_HALF_WIDTH = 0.01, 0.02  # wanted by default; the second one relative
TOO_SMALL = "discs are still correlated a quarter of the scan's side apart: cells vary more than is said here"


@dataclass(frozen=True)
class RepresentativeCell:
    """How far cells of one material vary.

    Attributes
    ----------
    fraction
        Of the volume fraction.
    stiffness_gpa
        Of the in-plane stiffness, the mean along rows and columns; none where no window was solved.
    window_px
        Side of the windows that were solved.
    planes
        Number of planes.
    voxel_size_um
        None where it is not known.
    """

    fraction: FractionVariance
    stiffness_gpa: PropertyVariance | None
    window_px: int
    planes: int
    voxel_size_um: float | None

    def row(self, side_px: int, confidence: float = CONFIDENCE) -> dict[str, float | None]:
        """Return the half widths of the intervals for a cell with sides of ``side_px``."""
        of_stiffness = self.stiffness_gpa
        return {
            **self._side(side_px),
            "volume_fraction_half_width": self.fraction.half_width(side_px, confidence),
            "stiffness_relative_half_width": None
            if of_stiffness is None
            else of_stiffness.relative_half_width(side_px, confidence),
        }

    def figures(
        self,
        sides_px: Sequence[int] = (),
        fraction_half_width: float = FRACTION_HALF_WIDTH,
        stiffness_half_width: float = STIFFNESS_HALF_WIDTH,
        confidence: float = CONFIDENCE,
    ) -> dict[str, Any]:
        """Return all figures as plain values, for JSON: see the docstring of `microgan.commands.rve_size`."""
        fraction, of_stiffness = self.fraction, self.stiffness_gpa
        sides = sides_px or [count * self.window_px for count in WINDOWS_ON_A_SIDE]
        wanted: dict[str, Any] = {
            "volume_fraction": {
                "half_width": fraction_half_width,
                **self._side(fraction.side_px(fraction_half_width, confidence)),
            },
            "stiffness": None,
        }
        if of_stiffness is not None:
            side_px = of_stiffness.side_px(stiffness_half_width, confidence)
            wanted["stiffness"] = {"relative_half_width": stiffness_half_width, **self._side(side_px)}
        return {
            "volume_fraction": fraction.volume_fraction,
            "volume_fraction_interval": fraction.scan_interval(confidence),
            "stiffness_gpa": None if of_stiffness is None else of_stiffness.mean,
            "confidence": confidence,
            "cells": [self.row(side, confidence) for side in sides],
            "wanted": wanted,
            "integral_range_px2": fraction.integral_range_px2,
            "window_px": self.window_px,
            "planes": self.planes,
            "independent_planes": fraction.independent_planes,
            "doubts": [TOO_SMALL] if fraction.scan_is_too_small else [],
        }

    def _side(self, side_px: int) -> dict[str, float | None]:
        size_um = self.voxel_size_um
        return {"side_px": side_px, "side_um": None if size_um is None else side_px * size_um}


def phases_of(planes: Planes, segmentation: Segmentation) -> list[Plane]:
    """Return the phase and the field of view of planes: all, or as many as `MOST_PX` allow, evenly spaced."""
    count, rows, cols = planes.info.shape
    kept = max(1, min(count, MOST_PX // (rows * cols)))
    chosen = np.unique(np.linspace(0, count - 1, kept).round().astype(int))
    phases = [phase_of(np.asarray(planes.grey[index], np.float32), segmentation) for index in chosen]
    return [(phase, planes.mask[int(index)]) for phase, index in zip(phases, chosen, strict=True)]


def phase_of(grey: np.ndarray, segmentation: Segmentation) -> np.ndarray:
    """Return where a plane of normalised grey values (H, W) is disc phase."""
    return phase_image(torch.from_numpy(grey)[None, None], segmentation)[0].cpu().numpy()


def measured(
    planes: Sequence[Plane],
    window_px: int,
    voxel_size_um: float | None,
    windows: tuple[np.ndarray, np.ndarray] | None,
) -> RepresentativeCell:
    """Measure how cells vary.

    Parameters
    ----------
    planes
        Phase and field of view of each.
    window_px
        Side of the windows.
    voxel_size_um
        None where it is not known.
    windows
        Volume fractions (n,) and in-plane stiffnesses (n,), GPa, of windows of the same planes; None without.
    """
    fraction = fraction_variance(planes)
    of_stiffness = None if windows is None else PropertyVariance.of(fraction, *windows, window_px)
    return RepresentativeCell(fraction, of_stiffness, window_px, len(planes), voxel_size_um)


def solved_windows(
    planes: Sequence[Plane], window_px: int, count: int, config: PropertiesConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut ``count`` windows at random places, and solve them: volume fractions and stiffnesses (count,), GPa.

    Raises
    ------
    UserError
        If no window fits into the field of view.
    """
    corners = [np.argwhere(window_corners(inside, window_px)) for _, inside in planes]
    ends = np.cumsum([len(places) for places in corners])
    if not ends[-1]:
        rule = "must fit into the field of view of a plane: take smaller windows"
        raise UserError("window_px", window_px, rule)
    phases = []
    for number in np.random.default_rng(seed).integers(ends[-1], size=count):
        plane = int(np.searchsorted(ends, number, side="right"))
        row, col = corners[plane][number - ends[plane]]
        phases.append(planes[plane][0][row : row + window_px, col : col + window_px])
    windows = np.stack(phases)
    stiffness_gpa = stiffness(windows, config)
    return volume_fraction(windows), (stiffness_gpa[:, 0, 0] + stiffness_gpa[:, 1, 1]) / 2
