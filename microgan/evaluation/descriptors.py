"""All descriptors of a set of images, image by image: of its phase images, circles and effective properties.

To add a descriptor: write its function in `microgan.statistics`, call it in `compute_descriptors` (or in
`compute_properties`), and give it a row in `DESCRIPTORS`. Evaluation, report and ``microgan compare`` then
show it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.detection.circles import centres_inside
from microgan.evaluation.homogenisation import PropertiesConfig, conductivity, stiffness
from microgan.statistics.estimators import Curve, Distribution
from microgan.statistics.phase_descriptors import (
    chord_lengths,
    directional_correlation,
    lineal_path,
    minkowski,
    radial_lags,
    two_point_cluster,
    two_point_correlation,
    volume_fraction,
)
from microgan.statistics.point_patterns import (
    Discs,
    hexatic_order,
    local_volume_fraction,
    nearest_neighbour_angle,
    nearest_neighbour_distribution,
    pair_correlation,
    radius_distribution,
    ripley_k,
)

BANDWIDTH_RADII = 0.15  # of the pair correlation's kernel, over the largest radius; at least half a pixel
LEAST_BANDWIDTH_PX = 0.5


@dataclass(frozen=True)
class Descriptor:
    """The title of a descriptor, and by how much two means may differ and count as the same.

    Attributes
    ----------
    title, unit
        Of its figure; see `DescriptorValues.summary`.
    margin
        Fraction of the real mean; None for curves, whose means are not compared one by one.
    axis
        What a curve or distribution is drawn over, with its unit behind a comma.
    """

    title: str
    unit: str = ""
    margin: float | None = None
    axis: str = ""


DESCRIPTORS: Mapping[str, Descriptor] = {
    "volume_fraction": Descriptor("Volume fraction", margin=0.02),
    "two_point_correlation": Descriptor("Two-point correlation", "px, its length", axis="distance, px"),
    "two_point_direction": Descriptor("Two-point correlation by direction", "mean"),
    "two_point_cluster": Descriptor("Two-point cluster function", "mean", axis="distance, px"),
    "lineal_path_discs": Descriptor("Lineal path in discs", "mean", axis="distance, px"),
    "lineal_path_matrix": Descriptor("Lineal path in the matrix", "mean", axis="distance, px"),
    "chord_length_discs": Descriptor("Chord length in discs", "px", 0.05, "length, px"),
    "chord_length_matrix": Descriptor("Chord length in the matrix", "px", 0.05, "length, px"),
    "perimeter": Descriptor("Perimeter per area", "1/px", 0.05),
    "euler_number": Descriptor("Euler number per area", "1/px²", 0.1),
    "discs_per_area": Descriptor("Discs per area", "1/px²", 0.05),
    "radius": Descriptor("Radius", "px", 0.02, "radius, px"),
    "nearest_neighbour_distance": Descriptor("Nearest-neighbour distance", "px", 0.02, "distance, px"),
    "nearest_neighbour_angle": Descriptor("Nearest-neighbour angle", "degrees", axis="angle, degrees"),
    "ripley_k": Descriptor("Ripley's K", "px², mean", axis="distance, px"),
    "pair_correlation": Descriptor("Pair correlation", "mean", axis="distance, px"),
    "local_volume_fraction": Descriptor("Local volume fraction", "", 0.02, "disc over Voronoi cell"),
    "hexatic_order": Descriptor("Hexatic order", "", 0.05, "order"),
    "stiffness": Descriptor("In-plane stiffness", "GPa", 0.02),
    "shear_stiffness": Descriptor("In-plane shear stiffness", "GPa", 0.02),
    "conductivity": Descriptor("Transverse conductivity", "W/(m K)", 0.02),
}


@dataclass(frozen=True)
class DescriptorValues:
    """Descriptors of a set of N images, by their names in `DESCRIPTORS`.

    Attributes
    ----------
    curves
        Functions and, with an axis of a single place, numbers.
    distributions
        Values measured on circles or chords.
    group
        Shape (N,): images of one group come from one place of the scan and are resampled together.
    """

    curves: Mapping[str, Curve]
    distributions: Mapping[str, Distribution]
    group: np.ndarray

    def __len__(self) -> int:
        return len(self.group)

    @property
    def names(self) -> list[str]:
        """The names of its descriptors, in the order of `DESCRIPTORS`."""
        return [name for name in DESCRIPTORS if name in self.curves or name in self.distributions]

    def take(self, images: np.ndarray) -> "DescriptorValues":
        """Keep ``images`` (indices, none twice)."""
        return DescriptorValues(
            {name: curve.take(images) for name, curve in self.curves.items()},
            {name: values.take(images) for name, values in self.distributions.items()},
            self.group[images],
        )

    def mean(self, name: str) -> Curve:
        """Return a number or the mean of a distribution as a curve of a single place."""
        return self.curves[name] if name in self.curves else self.distributions[name].means(len(self))

    def summary(self) -> dict[str, float]:
        """Return one figure a descriptor, in the unit of `DESCRIPTORS`; NaN for no values."""
        figures = {name: float(np.mean(curve.mean())) for name, curve in self.curves.items()}
        figures |= {name: values.mean() for name, values in self.distributions.items()}
        if correlation := self.curves.get("two_point_correlation"):
            figures["two_point_correlation"] = correlation_length(correlation.axis, correlation.mean())
        return {name: figures[name] for name in self.names}

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Return all arrays by name, to be kept in a file."""
        arrays = {f"{prefix}.group": self.group}
        for name, curve in self.curves.items():
            parts = {"axis": curve.axis, "numerator": curve.numerator, "denominator": curve.denominator}
            arrays |= {f"{prefix}.{name}.{part}": array for part, array in parts.items()}
            arrays[f"{prefix}.{name}.exponent"] = np.array([curve.exponent])
        for name, values in self.distributions.items():
            parts = {"values": values.values, "weights": values.weights, "image": values.image}
            arrays |= {f"{prefix}.{name}.{part}": array for part, array in parts.items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Self:
        """Return what `arrays` was made of."""

        def part(name: str, key: str) -> np.ndarray:
            return arrays[f"{prefix}.{name}.{key}"]

        curves, distributions = {}, {}
        for name in DESCRIPTORS:
            if f"{prefix}.{name}.axis" in arrays:
                exponent = int(part(name, "exponent")[0])
                parts = (part(name, key) for key in ("axis", "numerator", "denominator"))
                axis, numerator, denominator = parts
                curves[name] = Curve(axis, numerator, denominator, exponent)
            elif f"{prefix}.{name}.values" in arrays:
                values, weights, image = (part(name, key) for key in ("values", "weights", "image"))
                distributions[name] = Distribution(values, weights, image)
        return cls(curves, distributions, arrays[f"{prefix}.group"])


def compute_descriptors(
    phase: np.ndarray,
    circles: Sequence[Discs],
    largest_radius_px: float,
    group: np.ndarray | None = None,
    max_lag_px: int | None = None,
    periodic: bool = False,
) -> DescriptorValues:
    """Compute all descriptors of a set of images.

    Parameters
    ----------
    phase
        Stack (N, H, W) of bool, true in the disc phase.
    circles
        The circles of each image, in pixels.
    largest_radius_px
        Radii are collected of discs whose centre is that far inside the border; see `radius_distribution`.
    group
        Shape (N,); see `DescriptorValues`. By default each image is a group of its own.
    max_lag_px
        Largest distance of the curves; half of the shorter side by default.
    periodic
        Whether opposite borders of the images fit together.

    Raises
    ------
    UserError
        If ``circles`` are not as many as images, or the margin leaves nothing of the window.
    """
    if len(phase) != len(circles):
        raise UserError("circles", len(circles), f"must be as many as images, {len(phase)}")
    domain = Domain((phase.shape[1], phase.shape[2]), periodic)
    margin_px = 0.0 if periodic else largest_radius_px
    if 2 * margin_px >= min(domain.size_px):
        rule = f"must be below half of the window, {min(domain.size_px) / 2:g} px"
        raise UserError("largest radius", largest_radius_px, rule)
    curves = _of_phase(phase, max_lag_px, periodic) | _of_pairs(circles, domain, largest_radius_px)
    distributions = {
        "chord_length_discs": chord_lengths(phase, periodic),
        "chord_length_matrix": chord_lengths(~phase, periodic),
        "radius": radius_distribution(circles, domain.size_px, margin_px),
        "nearest_neighbour_distance": nearest_neighbour_distribution(circles, domain),
        "nearest_neighbour_angle": nearest_neighbour_angle(circles, domain),
        "local_volume_fraction": local_volume_fraction(circles, domain),
        "hexatic_order": hexatic_order(circles, domain),
    }
    return DescriptorValues(curves, distributions, np.arange(len(phase)) if group is None else group)


def compute_properties(
    phase: np.ndarray, config: PropertiesConfig, group: np.ndarray | None = None
) -> DescriptorValues:
    """Solve for the effective properties of phase images (N, H, W) of bool, with their ``group`` (N,)."""
    stiffness_gpa, conductivity_w_mk = stiffness(phase, config), conductivity(phase, config)
    curves = {
        "stiffness": _per_image((stiffness_gpa[:, 0, 0] + stiffness_gpa[:, 1, 1]) / 2),
        "shear_stiffness": _per_image(stiffness_gpa[:, 2, 2]),
        "conductivity": _per_image(np.trace(conductivity_w_mk, axis1=1, axis2=2) / 2),
    }
    return DescriptorValues(curves, {}, np.arange(len(phase)) if group is None else group)


def correlation_length(lags_px: np.ndarray, curve: np.ndarray) -> float:
    """Return the distance in pixels at which (S2 - f^2) / (f - f^2) falls to 1 / e, f the volume fraction.

    NaN if the images are blank or the curve stays above. Both arguments have the shape (n_lags,).

    Examples
    --------
    >>> lags = np.arange(10.0)
    >>> round(correlation_length(lags, 0.25 + 0.25 * np.exp(-lags / 3)), 3)
    3.0
    """
    variance = curve[0] - curve[0] ** 2
    if not variance > 0:
        return float("nan")
    covariance = (curve - curve[0] ** 2) / variance
    below = np.flatnonzero(covariance < np.exp(-1))
    if not len(below):
        return float("nan")
    pair = slice(below[0] - 1, below[0] + 1)
    return float(np.interp(-np.exp(-1), -covariance[pair], lags_px[pair]))


def _of_phase(phase: np.ndarray, max_lag_px: int | None, periodic: bool) -> dict[str, Curve]:
    correlation = two_point_correlation(phase, max_lag_px, periodic)
    lags_px = radial_lags(correlation.shape[1] - 1)
    directions = directional_correlation(phase, max_lag_px, periodic).reshape(len(phase), -1)
    area = minkowski(phase, periodic)
    return {
        "volume_fraction": _per_image(volume_fraction(phase)),
        "two_point_correlation": _per_image(correlation, lags_px),
        "two_point_direction": _per_image(directions),
        "two_point_cluster": _per_image(two_point_cluster(phase, max_lag_px, periodic), lags_px),
        "lineal_path_discs": _per_image(lineal_path(phase, max_lag_px, periodic).mean(axis=1)),
        "lineal_path_matrix": _per_image(lineal_path(~phase, max_lag_px, periodic).mean(axis=1)),
        "perimeter": _per_image(area.perimeter_per_px),
        "euler_number": _per_image(area.euler_per_px2),
    }


def _of_pairs(circles: Sequence[Discs], domain: Domain, largest_radius_px: float) -> dict[str, Curve]:
    distances_px = np.arange(1.0, min(domain.size_px) // 2 - 1)
    bandwidth_px = max(BANDWIDTH_RADII * largest_radius_px, LEAST_BANDWIDTH_PX)
    inside = [centres_inside(discs.row, discs.col, domain.size_px).sum() / domain.pixels for discs in circles]
    return {
        "discs_per_area": _per_image(np.array(inside)),
        "ripley_k": ripley_k(circles, domain, distances_px),
        "pair_correlation": pair_correlation(circles, domain, distances_px, bandwidth_px),
    }


def _per_image(values: np.ndarray, axis: np.ndarray | None = None) -> Curve:
    """A number or a curve that each image has with equal weight: (N,) or (N, L)."""
    values = np.ascontiguousarray(values.reshape(len(values), -1))
    axis = np.arange(values.shape[1], dtype=float) if axis is None else axis
    return Curve(axis, values, np.ones((len(values), 1)))
