"""Results of models for the report's tests: every number differs, so that a wrong row or column shows."""

from typing import Any

import numpy as np

from microgan.detection.detector import DetectorConfig
from microgan.evaluation.descriptors import DESCRIPTORS
from microgan.evaluation.fidelity import HEADLINE
from microgan.report.results import ModelResult
from microgan.scan.planes import ScanInfo
from microgan.validity.reference import Reference

SCAN: dict[str, Any] = {
    "name": "carbon <3>",
    "source": ["a.png"],
    "source_digest": "d1" * 32,
    "planes_sha256": "d2" * 32,
    "mask_sha256": "d3" * 32,
    "shape": [2, 100, 120],
    "voxel_size_um": None,
    "polarity": "bright",
    "radius_px": [4.0, 8.0],
    "regions": {
        "train": [[0, 0, 60, 0, 120]],
        "calibration": [[0, 70, 100, 0, 120]],
        "held_out": [[1, 0, 50, 0, 100]],
    },
}
PROPERTIES = ("stiffness", "shear_stiffness", "conductivity")
BOUNDS = ("reuss", "hashin_shtrikman_low", "hashin_shtrikman_high", "voigt")
SETS = ("before", "after", "training_windows")
IMAGE_MEASURES = ("kernel_distance", "density", "coverage", "precision", "recall", "classifier_auc")


def reference(voxel_size_um: float | None = None, **changed: Any) -> Reference:
    """Return rules with two limits."""
    info = {"source_digest": "", "dtype": "uint8", "intensity_window": (0, 255)}
    scan = ScanInfo(**SCAN | info | {"name": "carbon", "voxel_size_um": voxel_size_um})
    fields = {
        "scan": scan,
        "window_px": 16,
        "detector_settings": DetectorConfig(),
        "phase_threshold": 0.0,
        "limits": {"smallest_radius_px": (3.5, None), "discs_per_1000px2": (4.0, 8.0)},
        "false_rejection_budget": 0.05,
        "calibration_windows": 100,
        "calibration_pass_rate": 0.95,
    }
    return Reference(**fields | changed)


def comparison(place: int, differing: int) -> dict[str, dict[str, Any]]:
    """Return a row for each descriptor; ``place`` makes its numbers unlike those of other comparisons."""
    rows: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(DESCRIPTORS):
        floor, ratio = 0.01 + index / 1000, 2 * place + 1 + index / 20
        rows[name] = {
            "value": 20 * place + 10 + index / 2,
            "reference": 0.5 + index / 100,
            "error": ratio * floor,
            "floor": floor,
            "ratio": ratio,
            "p": 0.002 if name in HEADLINE[:differing] else 0.5 + place / 20 + index / 1000,
            "difference": place / 100 + index / 1000,
            "low": place / 100 + index / 1000 - 0.003,
            "high": place / 100 + index / 1000 + 0.005,
            "margin": 0.02 + index / 1000,
            "equivalent": (place + index) % 2 == 0,
        }
    return rows


def without_values(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what a comparison of no samples has."""
    known = ("reference", "floor")
    return {
        name: {
            key: row[key] if key in known else None
            for key in ("value", "reference", "error", "floor", "ratio")
        }
        for name, row in rows.items()
    }


def bounds(place: int) -> dict[str, Any]:
    """Return bounds that contain the value of each property, for a comparison of that place."""
    by_property = {}
    for name in PROPERTIES:
        value = 20 * place + 10 + list(DESCRIPTORS).index(name) / 2
        by_property[name] = dict(zip(BOUNDS, (value - 5, value - 2, value + 3, value + 9), strict=True))
    return {"volume_fraction": 0.4 + place / 100, **by_property}


def curves(place: int, after: bool = True) -> dict[str, list[dict[str, float | None]]]:
    """Return curves and distributions, of which each point differs from all others."""

    def row(index: int, offset: float) -> dict[str, float | None]:
        value = offset + index / 100
        samples = {"before": value + place / 10 + 0.01, "after": value + place / 10 + 0.05 if after else None}
        return {"axis": offset + index, "held_out": value, **samples}

    return {
        "two_point_correlation": [row(index, 0.0) | {"envelope": 0.01} for index in range(5)],
        "radius": [row(index, 4.0) for index in range(6)],
        "nearest_neighbour_distance": [row(index, 9.0) for index in range(6)],
    }


def result(name: str, number: int, valid: bool = True) -> ModelResult:
    """Return the results of a model; ``number``, from 0, makes them unlike those of others."""
    rng = np.random.default_rng(number)
    tables = {key: comparison(2 * number + index, 2 + number + index) for index, key in enumerate(SETS[:2])}
    tables["training_windows"] = comparison(8, 1)
    solved = {"before": 90 + number, "after": 80 + number, "training_windows": 70, "held_out": 60}
    limits = {"before": bounds(2 * number), "after": bounds(2 * number + 1)}
    limits |= {"training_windows": bounds(8), "held_out": _bounds_of_reference()}
    if not valid:
        tables["after"], solved["after"] = without_values(tables["after"]), 0
        limits["after"] = {
            "volume_fraction": None,
            **{key: dict.fromkeys(BOUNDS) for key in PROPERTIES},
        }
    return ModelResult(
        name=name,
        validity={
            "pass_rate": (806 + 70 * number) / (1000 + 10 * number),
            "reference_pass_rate": 0.94 + number / 100,
            "n": 1000 + 10 * number,
            "rejected_by": {"overlap": 130 + 7 * number, "radius": 50 + 11 * number},
            "reference_rejected_by": {"overlap": 20, "radius": 31},
        },
        fidelity={
            **tables,
            "shift": {
                key: (1 + number) * (0.25 if key == "radius" else 0.125 if key == "perimeter" else 0.0625)
                for key in DESCRIPTORS
            },
            "n": {
                "before": 500 + number,
                "after": 403 + number if valid else 0,
                "held_out": 480,
                "solved": solved,
            },
            "bounds": limits,
        },
        curves=curves(number, valid),
        training_log=[{"step": s, "critic_loss": 1.0, "generator_loss": 2.0} for s in range(10, 160, 10)],
        training_steps=2345 + number,
        kept_step=2000 + number,
        training_seconds=492.0 + 60 * number,
        valid_samples=rng.uniform(-1, 1, (3 if valid else 0, 16, 16)),
        rejected_samples=rng.uniform(-1, 1, (2, 16, 16)),
        rejection_reasons=[["overlap"], ["uncovered_phase", "radius"]],
        weights_sha256=f"{number}b" * 32,
    )


def _bounds_of_reference() -> dict[str, Any]:
    by_property = {}
    for name in PROPERTIES:
        value = 0.5 + list(DESCRIPTORS).index(name) / 100
        by_property[name] = dict(
            zip(BOUNDS, (value - 0.3, value - 0.1, value + 0.2, value + 0.4), strict=True)
        )
    return {"volume_fraction": 0.35, **by_property}


def image_metrics(number: int) -> dict[str, Any]:
    """Return the comparison of a model's samples as images."""
    places = {"training_windows": 0, "before": 1 + 2 * number, "after": 2 + 2 * number}
    return {
        **{
            key: {
                f"encoder/{measure}": {"value": place + 0.1 + index / 100}
                for index, measure in enumerate(IMAGE_MEASURES)
            }
            for key, place in places.items()
        },
        "grid_power": {
            key: {"2": 1.5 + place, "4": 1.25 + place, "8": 1.125 + place} for key, place in places.items()
        },
        "memorisation": {
            "excess": 0.013 + number / 100,
            "excess_interval": (-0.004 + number / 100, 0.03 + number / 100),
            "p_value": 0.04 + number / 10,
            "samples": 300 + number,
        },
        "diversity": {"vendi_ratio": 0.98 - number / 10, "duplicates": 0.01 + number / 100},
    }


def judge_metrics(number: int, reason: str | None = None) -> dict[str, Any]:
    """Return what the judge of faults says of a model's samples."""

    def flagged(part: float, count: int) -> dict[str, Any]:
        kinds = {"overlap": part / 4, "partial_disc": 3 * part / 4}
        return {"n": count, "flagged": part, "low": part - 0.01, "high": part + 0.01, "by_kind": kinds}

    after = 0.12 + number / 10
    return {
        "limit": 1.5,
        "qualified": reason is None,
        "reason": reason,
        "ratio": None if reason else after / 0.06,
        "before": flagged(0.22 + number / 10, 1000 + number),
        "after": flagged(after, 700 + number),
        "held_out": flagged(0.06, 500),
        "controls": {"random_packings": flagged(0.07, 200), "put_back": flagged(0.05, 199)},
        "detects": {"overlap": flagged(0.81, 198), "partial_disc": flagged(0.74, 197)},
    }
