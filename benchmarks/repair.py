"""Large images valid as a whole: `python -m benchmarks.repair MODEL_DIR REFERENCE [--size 512] [--seeds 10]`.

Draws one periodic image for each seed and repairs it. The first table has a row for each seed: invalid
windows before and after, rounds, seconds of the clock and of the processor, fraction of latent cells that
changed. The windows in between, a quarter of a window off those that repair has judged, show whether a
repaired image is better everywhere or only where it was judged.

The second table is what repair does to the statistics of the images. ``results/repair.md`` has both.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microgan.core.domain import Domain
from microgan.core.files import atomic
from microgan.detection.circles import centres_inside
from microgan.gan.checkpoint import load_model
from microgan.samples.repair import RepairConfig, Repaired, sample_and_repair
from microgan.statistics.estimators import relative_distance
from microgan.statistics.phase_descriptors import two_point_correlation, volume_fraction
from microgan.validity.judging import judge, pass_rate
from microgan.validity.large_images import LargeImageVerdict, cut_windows
from microgan.validity.phase import phase_image
from microgan.validity.reference import Reference

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """One image, the processor's seconds, and fractions of valid windows in between, before and after."""

    seed: int
    repaired: Repaired
    cpu_seconds: float
    between: tuple[float, float]


@dataclass(frozen=True)
class LargeImageStatistics:
    """Statistics of a set of large images.

    Attributes
    ----------
    valid_fraction : of their windows
    volume_fraction : mean
    two_point : mean two-point correlation by lag (L,), px
    discs : mean number in an image
    """

    valid_fraction: float
    volume_fraction: float
    two_point: np.ndarray
    discs: float


def before_and_after(
    repaired: Sequence[Repaired], reference: Reference
) -> tuple[LargeImageStatistics, LargeImageStatistics]:
    """Return the statistics of images of one size as they were drawn, and repaired."""
    domain = repaired[0].domain
    return (
        statistics([r.unrepaired for r in repaired], [r.before for r in repaired], reference, domain),
        statistics([r.image for r in repaired], [r.after for r in repaired], reference, domain),
    )


def statistics(
    images: Sequence[Tensor], verdicts: Sequence[LargeImageVerdict], reference: Reference, domain: Domain
) -> LargeImageStatistics:
    """Return the statistics of judged large images (1, 1, H, W)."""
    phase = phase_image(torch.cat(list(images)), reference).numpy()
    discs = [
        np.count_nonzero(centres_inside(verdict.circles.row, verdict.circles.col, domain.size_px))
        for verdict in verdicts
    ]
    return LargeImageStatistics(
        valid_fraction=float(np.mean([verdict.valid_fraction for verdict in verdicts])),
        volume_fraction=float(volume_fraction(phase).mean()),
        two_point=two_point_correlation(phase, periodic=domain.periodic).mean(axis=0),
        discs=float(np.mean(discs)),
    )


def between(repaired: Repaired, reference: Reference) -> tuple[float, float]:
    """Judge the windows a quarter of a window off those of the repair: fractions valid before and after."""
    corners = repaired.before.corners + reference.window_px // 4
    before, after = (
        pass_rate(judge(cut_windows(image, corners, reference.window_px), reference, progress=False))
        for image in (repaired.unrepaired, repaired.image)
    )
    return before, after


def runs_table(runs: Sequence[Run]) -> str:
    """Format a row for each seed in Markdown."""
    lines = [
        "| seed | windows | invalid before | after | in between before | after | rounds | seconds"
        " | CPU seconds | cells changed |",
        "|---" * 10 + "|",
    ]
    for run in runs:
        repaired, count = run.repaired, len(run.repaired.before.verdicts)
        invalid = [repaired.before.invalid_windows, repaired.after.invalid_windows]
        between = [round((1 - fraction) * count) for fraction in run.between]
        lines.append(
            f"| {run.seed} | {count} | {invalid[0]} | {invalid[1]} | {between[0]} | {between[1]}"
            f" | {repaired.rounds} | {repaired.seconds:.0f} | {run.cpu_seconds:.0f}"
            f" | {100 * repaired.changed:.1f} % |"
        )
    return "\n".join(lines)


def statistics_table(before: LargeImageStatistics, after: LargeImageStatistics) -> str:
    """Format what repair does to the statistics in Markdown."""
    change = relative_distance(after.two_point, before.two_point)
    lines = ["| | as drawn | repaired | change |", "|---" * 4 + "|"]
    for name, drawn, repaired in (
        ("valid windows", before.valid_fraction, after.valid_fraction),
        ("volume fraction", before.volume_fraction, after.volume_fraction),
        ("discs in an image", before.discs, after.discs),
    ):
        lines.append(f"| {name} | {drawn:.4g} | {repaired:.4g} | {100 * (repaired / drawn - 1):+.2f} % |")
    lines.append(f"| two-point correlation (relative L2 distance) | | | {100 * change:.2f} % |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a generator")
    parser.add_argument("reference", type=Path, help="reference.json of its scan")
    parser.add_argument("--size", type=int, default=512, help="rows and columns, px")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=RepairConfig().rounds)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the results")
    options = parser.parse_args()
    generator, _ = load_model(options.model)
    reference = Reference.load(options.reference)
    config = RepairConfig(rounds=options.rounds)
    domain = Domain((options.size, options.size), periodic=True)
    runs = []
    for seed in range(options.seeds):
        start = time.process_time()
        repaired = sample_and_repair(generator, seed, 0, domain, reference, config)
        runs.append(Run(seed, repaired, time.process_time() - start, between(repaired, reference)))
        print(runs_table(runs[-1:]).splitlines()[-1], flush=True)
    valid = sum(run.repaired.after.valid for run in runs)
    text = f"""# Images of {options.size} x {options.size} px, repaired

Scan {reference.scan.name}, periodic, {config.candidates} draws of each defect,
patches of {config.patch_cells} latent cells, at most {config.rounds} rounds.
{valid} of {len(runs)} are valid as a whole.
Real windows fail at {100 * (1 - reference.calibration_pass_rate):.0f} %{_held_out(reference)}:
a real plane of this size is hardly ever valid as a whole.

{runs_table(runs)}

{statistics_table(*before_and_after([run.repaired for run in runs], reference))}
"""
    with atomic(options.out / "repair.md") as draft:
        draft.write_text(text)
    print(text)


def _held_out(reference: Reference) -> str:
    if reference.held_out_pass_rate is None:
        return ""
    return f", on held-out planes at {100 * (1 - reference.held_out_pass_rate):.0f} %"


if __name__ == "__main__":
    main()
