"""Compare detectors of discs on simulated tomograms: `python -m benchmarks.detector [--quick]`.

Writes ``benchmarks/results/detector.csv`` (all conditions), ``detector.md`` (the summary that is printed) and
the curves ``docs/detector.png``. Contenders with settings choose their best on scenes of their own, once for
discs of radius 5 to 8 px, once for the wide band, once for the detection of overlaps; those without run as
they come. Times are wall clock on one thread: they describe the machine, too.
"""

import argparse
import csv
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.scenes import Condition, Scene, scenes, signal_to_noise, wide_band, windows, with_overlap
from microgan.detection.circles import Circles
from microgan.detection.detector import Polarity
from microgan.validity.evidence import Evidence
from microgan.validity.rules import overlap

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
FRACTIONS, RADII_PX, RATIOS = (0.3, 0.4, 0.5, 0.6), (5.0, 6.5, 8.0), (2.0, 3.0, 4.0, 6.0, 8.0)
USUAL_RATIO = 4.0
OVERLAPS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
PLANTED = (0.15, 0.4)  # relative overlap in "overlap power"
FALSE_REJECTION = 0.05
SEED, TUNING_SEED = 1, 2
BATCH = 32
NARROW_PX = 1.5  # half of the narrow band of radii in which time is measured
LARGER = (1, 2, 4, 8)  # times 128 px: the sides of the larger images


# Measures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """Hits and misses of one detector, summed over scenes; errors in pixels over the hits inside."""

    inside: int = 0
    hit: int = 0
    found: int = 0
    true: int = 0
    cut: int = 0
    cut_hit: int = 0
    outside: int = 0
    outside_hit: int = 0
    centre_px: float = 0.0
    radius_px: float = 0.0
    radius_abs_px: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        mine, its = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + its[name] for name in mine})

    def measures(self) -> dict[str, float]:
        """Return fractions and mean errors; NaN where nothing was counted."""
        recall, precision = _fraction(self.hit, self.inside), _fraction(self.true, self.found)
        return {
            "recall": recall,
            "precision": precision,
            "f1": _fraction(2 * recall * precision, recall + precision),
            "recall_cut": _fraction(self.cut_hit, self.cut),
            "recall_centre_outside": _fraction(self.outside_hit, self.outside),
            "centre_error_px": _fraction(self.centre_px, self.hit),
            "radius_bias_px": _fraction(self.radius_px, self.hit),
            "radius_error_px": _fraction(self.radius_abs_px, self.hit),
        }


def _fraction(part: float, whole: float) -> float:
    return part / whole if whole else (float("nan") if part or whole != whole else 0.0)


def compare(found: np.ndarray, truth: np.ndarray, shape: tuple[int, int]) -> Counts:
    """Match found circles (n, >= 3) with true ones (m, 3), at most half a radius apart, and count.

    Recall and precision are those of discs whose centre is inside; ``cut`` discs cross the border with at
    least half of their area in the image; ``outside`` are those with a quarter to a half of it there.
    """
    hits = matched(found, truth)
    was_hit = np.zeros(len(truth), bool)
    was_hit[hits[:, 1]] = True
    is_true = np.zeros(len(found), bool)
    is_true[hits[:, 0]] = True
    inside, found_inside = _centre_inside(truth, shape), _centre_inside(found, shape)
    visible = _visible_fraction(truth, shape)
    cut, outside = (visible < 0.999) & (visible >= 0.5), (visible < 0.5) & (visible >= 0.25)
    error = np.array([found[i, :3] - truth[j] for i, j in hits if inside[j]]).reshape(-1, 3)
    return Counts(
        inside=int(inside.sum()),
        hit=int((was_hit & inside).sum()),
        found=int(found_inside.sum()),
        true=int((is_true & found_inside).sum()),
        cut=int(cut.sum()),
        cut_hit=int((was_hit & cut).sum()),
        outside=int(outside.sum()),
        outside_hit=int((was_hit & outside).sum()),
        centre_px=float(np.hypot(error[:, 0], error[:, 1]).sum()),
        radius_px=float(error[:, 2].sum()),
        radius_abs_px=float(np.abs(error[:, 2]).sum()),
    )


def matched(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pairs (k, 2) of indices into ``found`` and ``truth``: as many as possible, then as near as possible."""
    distance = cdist(found[:, :2], truth[:, :2])
    allowed = distance < truth[:, 2] / 2
    rows, cols = linear_sum_assignment(np.where(allowed, distance, 1e6))
    pairs = np.stack([rows, cols], 1)
    return pairs[allowed[rows, cols]]


def _centre_inside(circles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.all((circles[:, :2] >= 0) & (circles[:, :2] <= np.array(shape) - 1), axis=1)


def _visible_fraction(circles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Fraction of each disc's area in the image (n,), by 1000 points spread evenly over the disc."""
    index = np.arange(1000) + 0.5
    reach, angle = np.sqrt(index / 1000), index * np.pi * (3 - np.sqrt(5))
    spread = np.stack([reach * np.sin(angle), reach * np.cos(angle)], 1)
    points = circles[:, None, :2] + circles[:, 2, None, None] * spread
    return ((points >= -0.5) & (points <= np.array(shape) - 0.5)).all(2).mean(1)


Find = Callable[[np.ndarray], list[np.ndarray]]


def _bound(contender: Contender, band: tuple[float, float], polarity: Polarity, settings: dict) -> Find:
    return lambda images: contender.find(images, band, polarity, **settings)


def count(find: Find, source: Sequence[Scene]) -> Counts:
    """Detect in all scenes and sum up."""
    tables = find(_images(source))
    total = Counts()
    for table, scene in zip(tables, source, strict=True):
        total += compare(table, scene.truth, scene.image.shape)
    return total


def overlaps(find: Find, images: np.ndarray) -> np.ndarray:
    """Return the largest pair overlap found in each image (N,)."""
    return np.array(
        [
            overlap(Evidence(image, image > 0, Circles.from_table(table)))
            for image, table in zip(images, find(images), strict=True)
        ]
    )


def overlap_power(find: Find, clean: np.ndarray, *planted: np.ndarray) -> list[float]:
    """Fraction of each set of planted images beyond the limit that `FALSE_REJECTION` of clean ones exceed."""
    limit = np.quantile(overlaps(find, clean), 1 - FALSE_REJECTION)
    return [float((overlaps(find, images) > limit).mean()) for images in planted]


def milliseconds(find: Find, images: np.ndarray, at_once: int, threads: int = 1) -> float:
    """Wall clock per image, the best of three runs over ``images``, ``at_once`` in one call."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    find(images[:at_once])  # what is computed once is not measured
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        for first in range(0, len(images), at_once):
            find(images[first : first + at_once])
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(before)
    return 1000 * best / len(images)


# The run -----------------------------------------------------------------------------------------------


def best_settings(
    contender: Contender, quality: Callable[[dict[str, Any]], float], quick: bool
) -> dict[str, Any]:
    """Return the settings of the best quality, the first of equals."""
    settings = contender.settings(quick)
    return settings[0] if len(settings) == 1 else max(settings, key=quality)


def tuned_for_discs(condition: Condition, quick: bool) -> dict[str, dict[str, Any]]:
    """Best settings of each contender by F1 on scenes of their own, dense and less dense, small and large."""
    radii = RADII_PX if condition.radius_sd_px < 1 else (condition.radius_px,)
    source: list[Scene] = []
    for fraction in (0.4, 0.6):
        for radius_px in radii:
            one = replace(condition, volume_fraction=fraction, radius_px=radius_px)
            source += scenes(one, 1, TUNING_SEED)[: 1 if quick else 2]

    def quality(contender: Contender) -> Callable[[dict[str, Any]], float]:
        def f1(settings: dict[str, Any]) -> float:
            find = _bound(contender, condition.band_px, condition.polarity, settings)
            return count(find, source).measures()["f1"]

        return f1

    return {one.name: best_settings(one, quality(one), quick) for one in CONTENDERS}


def tuned_for_overlaps(quick: bool) -> dict[str, dict[str, Any]]:
    """Best settings of each contender by the power to find planted overlaps."""
    source = windows(scenes(Condition(), 1 if quick else 4, TUNING_SEED))
    clean, planted = _images(source), _planted(source, PLANTED, "bright", TUNING_SEED)

    def quality(contender: Contender) -> Callable[[dict[str, Any]], float]:
        def power(settings: dict[str, Any]) -> float:
            find = _bound(contender, Condition().band_px, "bright", settings)
            return overlap_power(find, clean, planted)[0]

        return power

    return {one.name: best_settings(one, quality(one), quick) for one in CONTENDERS}


def _images(source: Sequence[Scene]) -> np.ndarray:
    return np.stack([scene.image for scene in source])


def _planted(source: list[Scene], degree: tuple[float, float], polarity: Polarity, seed: int) -> np.ndarray:
    return np.stack(list(with_overlap(source, degree, polarity, seed)))


def disc_rows(quick: bool) -> list[dict[str, Any]]:
    """Measure all contenders on all conditions; one row for each pair."""
    usual = Condition()
    grid = [
        replace(usual, volume_fraction=fraction, radius_px=radius_px, signal_to_noise=ratio)
        for fraction in FRACTIONS
        for radius_px in RADII_PX
        for ratio in RATIOS
    ]
    dark = [replace(one, polarity="dark") for one in grid if one.signal_to_noise == USUAL_RATIO]
    wide = [wide_band(replace(usual, volume_fraction=fraction)) for fraction in FRACTIONS]
    if quick:
        grid, dark, wide = [usual], [replace(usual, polarity="dark")], [wide_band(usual)]
    rows = []
    usual_best, wide_best = tuned_for_discs(usual, quick), tuned_for_discs(wide_band(usual), quick)
    for case, best, conditions in (
        ("grid", usual_best, grid),
        ("dark", usual_best, dark),
        ("wide band", wide_best, wide),
    ):
        for condition in conditions:
            source = scenes(condition, 1 if case != "wide band" or quick else 3, SEED)
            measured = float(np.nanmean([signal_to_noise(scene) for scene in source]))
            for contender in CONTENDERS:
                find = _bound(contender, condition.band_px, condition.polarity, best[contender.name])
                rows.append(
                    {
                        "case": case,
                        "detector": contender.name,
                        **asdict(condition),
                        "measured_signal_to_noise": measured,
                        "settings": best[contender.name],
                        "counts": count(find, source),
                    }
                )
            print(f"{case}: {condition}", flush=True)
    return rows


def overlap_rows(quick: bool) -> list[dict[str, Any]]:
    """Detection rate of each contender by the planted degree of overlap, and over `PLANTED` as a whole."""
    best = tuned_for_overlaps(quick)
    rows = []
    degrees = [PLANTED, *((v, v) for v in (OVERLAPS[::4] if quick else OVERLAPS))]
    for fraction in (0.5,) if quick else (0.4, 0.5, 0.6):
        condition = replace(Condition(), volume_fraction=fraction)
        source = windows(scenes(condition, 1 if quick else 4, SEED))
        clean = _images(source)
        planted = [_planted(source, degree, condition.polarity, SEED) for degree in degrees]
        for contender in CONTENDERS:
            find = _bound(contender, condition.band_px, condition.polarity, best[contender.name])
            powers = overlap_power(find, clean, *planted)
            for degree, images, power in zip(degrees, planted, powers, strict=True):
                rows.append(
                    {
                        "case": "overlap",
                        "detector": contender.name,
                        **asdict(condition),
                        "settings": best[contender.name],
                        "overlap_least": degree[0],
                        "overlap_largest": degree[1],
                        "images": len(images),
                        "overlap_power": power,
                    }
                )
        print(f"overlap: {condition}", flush=True)
    return rows


def time_rows(quick: bool) -> list[dict[str, Any]]:
    """Milliseconds per image of 128 x 128 px at the tuned settings, in a narrow band of radii.

    One by one and in batches of `BATCH` on one thread, and in batches on all cores; for the ring detector
    also in one large image, per 128 x 128 px of it.
    """
    condition = Condition()
    best = tuned_for_discs(condition, quick)
    band = (condition.radius_px - NARROW_PX, condition.radius_px + NARROW_PX)
    images = np.stack([scene.image for scene in scenes(condition, 1 if quick else BATCH // 2, SEED)])
    rows = []
    for contender in CONTENDERS:
        find = _bound(contender, band, "bright", best[contender.name])
        rows.append(
            {
                "case": "time",
                "detector": contender.name,
                "ms_one_by_one": milliseconds(find, images[:BATCH], 1),
                "ms_in_batches": milliseconds(find, images, BATCH),
                "ms_all_cores": milliseconds(find, images, BATCH, os.cpu_count() or 1),
            }
        )
    ring = _bound(CONTENDERS[0], band, "bright", best[CONTENDERS[0].name])
    for repeat in LARGER:
        large = np.tile(images[0], (repeat, repeat))[None]
        spent = milliseconds(ring, large, 1) / repeat**2
        rows.append(
            {
                "case": "size",
                "detector": CONTENDERS[0].name,
                "size_px": large.shape[1],
                "ms_one_by_one": spent,
            }
        )
    return rows


# What comes out ----------------------------------------------------------------------------------------


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Format the figures of all detectors as Markdown tables."""
    cases: dict[str, Callable[[dict[str, Any]], bool]] = {
        "all of the grid": lambda row: row["case"] == "grid",
        "signal-to-noise 4": lambda row: row["case"] == "grid" and row["signal_to_noise"] == USUAL_RATIO,
        "Vf 0.5, r 8 px, signal-to-noise 4": lambda row: _at(row, 0.5, 8.0, USUAL_RATIO),
        "Vf 0.6, r 5 px, signal-to-noise 4": lambda row: _at(row, 0.6, 5.0, USUAL_RATIO),
        "signal-to-noise 2": lambda row: row["case"] == "grid" and row["signal_to_noise"] == RATIOS[0],
        "dark discs, signal-to-noise 4": lambda row: row["case"] == "dark",
        "radii 4 to 20 px, signal-to-noise 4": lambda row: row["case"] == "wide band",
    }
    names = [contender.name for contender in CONTENDERS]
    lines = []
    for title, belongs in cases.items():
        total = {
            name: _sum(row for row in rows if belongs(row) and row["detector"] == name) for name in names
        }
        if total[names[0]].inside:
            lines += [f"\n**{title}**: {total[names[0]].inside} discs\n", *_table(total)]
    power = [
        row for row in rows if row["case"] == "overlap" and row["overlap_least"] < row["overlap_largest"]
    ]
    spent = {row["detector"]: row for row in rows if row["case"] == "time"}
    lines += [
        f"\n**One overlapping pair of {PLANTED[0]:.0%} to {PLANTED[1]:.0%} planted per image**, at"
        f" {FALSE_REJECTION:.0%} false rejection; time per image of 128 x 128 px (Vf 0.5, r 6.5 px, band of"
        f" {2 * NARROW_PX:g} px)\n",
        f"| detector | fraction found | ms, one by one | ms, {BATCH} at once | ms, {BATCH} on all cores |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        found = np.mean([row["overlap_power"] for row in power if row["detector"] == name])
        times = " | ".join(
            f"{spent[name][key]:.1f}" for key in ("ms_one_by_one", "ms_in_batches", "ms_all_cores")
        )
        lines.append(f"| {name} | {found:.3f} | {times} |")
    lines.append(f"\n**One large image, {CONTENDERS[0].name}**, ms per 128 x 128 px of it on one thread\n")
    sizes = [row for row in rows if row["case"] == "size"]
    lines += [f"- {row['size_px']} px: {row['ms_one_by_one']:.1f}" for row in sizes]
    return "\n".join(lines) + "\n"


def _at(row: dict[str, Any], fraction: float, radius_px: float, ratio: float) -> bool:
    at = (row.get("volume_fraction"), row.get("radius_px"), row.get("signal_to_noise"))
    return row["case"] == "grid" and at == (fraction, radius_px, ratio)


def _sum(rows: Any) -> Counts:
    return sum((row["counts"] for row in rows), Counts())


def _table(total: dict[str, Counts]) -> list[str]:
    columns = list(Counts().measures())
    head = ["| detector | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    body = [
        f"| {name} | " + " | ".join(f"{value:.3f}" for value in counts.measures().values()) + " |"
        for name, counts in total.items()
    ]
    return head + body


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write all rows, the counts of each as measures."""
    flat = []
    for row in rows:
        one = {name: value for name, value in row.items() if name != "counts"}
        flat.append({**one, **(row["counts"].measures() if "counts" in row else {})})
    columns = list(dict.fromkeys(name for row in flat for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: round(v, 5) if isinstance(v, float) else v for name, v in row.items()} for row in flat
        )


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw F1 against noise, density and radius, and the power against the degree of overlap."""
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    grid = [row for row in rows if row["case"] == "grid"]
    panels = (
        ("signal_to_noise", "signal-to-noise", grid),
        ("volume_fraction", f"volume fraction (signal-to-noise {USUAL_RATIO:.0f})", _usual(grid)),
        ("radius_px", f"mean radius / px (signal-to-noise {USUAL_RATIO:.0f})", _usual(grid)),
    )
    for contender in CONTENDERS:
        for axis, (key, label, some) in zip(axes, panels, strict=False):
            mine = [row for row in some if row["detector"] == contender.name]
            at = sorted({row[key] for row in mine})
            score = [_sum(row for row in mine if row[key] == value).measures()["f1"] for value in at]
            axis.plot(at, score, "o-", label=contender.name)
            axis.set(xlabel=label, ylabel="F1", ylim=(0, 1.02))
        power = [row for row in rows if row["case"] == "overlap" and row["detector"] == contender.name]
        exact = [row for row in power if row["overlap_least"] == row["overlap_largest"]]
        degrees = sorted({row["overlap_least"] for row in exact})
        found = [
            np.mean([row["overlap_power"] for row in exact if row["overlap_least"] == v]) for v in degrees
        ]
        axes[3].plot(degrees, found, "o-")
    axes[3].axhline(FALSE_REJECTION, color="grey", lw=0.8, ls="--")
    axes[3].set(
        xlabel="planted overlap 1 - d / (r1 + r2)", ylabel="fraction of images rejected", ylim=(0, 1.02)
    )
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _usual(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["signal_to_noise"] == USUAL_RATIO]


def run(quick: bool, results: Path, picture: Path) -> str:
    """Measure everything, write the files, return the summary."""
    rows = disc_rows(quick) + overlap_rows(quick) + time_rows(quick)
    results.mkdir(parents=True, exist_ok=True)
    write_csv(rows, results / "detector.csv")
    text = summary(rows)
    (results / "detector.md").write_text("# Detectors of discs on simulated tomograms\n" + text)
    plot(rows, picture)
    return text


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one condition of each kind, less tuning")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the tables")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/detector.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(run(arguments.quick, arguments.out, arguments.picture))


if __name__ == "__main__":
    main()
