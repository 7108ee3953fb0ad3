"""Fields valid as a whole: `python -m benchmarks.repair MODEL_DIR REFERENCE [--size 512] [--seeds 10]`.

Draws one periodic field for each seed and repairs it. The table has a row a seed: windows that are invalid
before and after, rounds, seconds of the clock and of the processor, fraction of latent cells that changed. The
windows in between, a quarter of a window off those that repair has judged, tell whether a repaired field is
better everywhere or only where it was looked at.

The second table is what repair does to the statistics: of the fields as drawn and as repaired.
``repair.md`` is what is printed.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microgan.core.files import atomic
from microgan.gan.checkpoint import load_model
from microgan.samples.repair import (
    LargeImageStatistics,
    RepairConfig,
    Repaired,
    before_and_after,
    valid_large_image,
)
from microgan.statistics.estimators import relative_distance
from microgan.validity.judging import judge, pass_rate
from microgan.validity.large_images import cut_windows
from microgan.validity.reference import Reference

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """One field, the processor's seconds, and fractions of valid windows in between, before and after."""

    seed: int
    field: Repaired
    cpu_seconds: float
    between: tuple[float, float]


def between(field: Repaired, reference: Reference) -> tuple[float, float]:
    """Judge the windows a quarter of a window off those of the repair: fractions valid before and after."""
    corners = field.before.corners + reference.window_px // 4
    before, after = (
        pass_rate(judge(cut_windows(image, corners, reference.window_px), reference, progress=False))
        for image in (field.drawn, field.image)
    )
    return before, after


def runs_table(runs: Sequence[Run]) -> str:
    """Format a row a seed in Markdown."""
    lines = [
        "| seed | windows | invalid before | after | in between before | after | rounds | seconds"
        " | CPU seconds | cells changed |",
        "|---" * 10 + "|",
    ]
    for run in runs:
        field, count = run.field, len(run.field.before.verdicts)
        invalid = [field.before.invalid_windows, field.after.invalid_windows]
        other = [round((1 - fraction) * count) for fraction in run.between]
        lines.append(
            f"| {run.seed} | {count} | {invalid[0]} | {invalid[1]} | {other[0]} | {other[1]} | {field.rounds}"
            f" | {field.seconds:.0f} | {run.cpu_seconds:.0f} | {100 * field.changed:.1f} % |"
        )
    return "\n".join(lines)


def statistics_table(before: LargeImageStatistics, after: LargeImageStatistics) -> str:
    """Format what repair does to the statistics in Markdown."""
    change = relative_distance(after.two_point, before.two_point)
    lines = ["| | as drawn | repaired | change |", "|---" * 4 + "|"]
    for name, one, other in (
        ("valid windows", before.valid_fraction, after.valid_fraction),
        ("volume fraction", before.volume_fraction, after.volume_fraction),
        ("discs in a field", before.discs, after.discs),
    ):
        lines.append(f"| {name} | {one:.4g} | {other:.4g} | {100 * (other / one - 1):+.2f} % |")
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
    runs = []
    for seed in range(options.seeds):
        start = time.process_time()
        field = valid_large_image(generator, seed, 0, (options.size, options.size), True, reference, config)
        runs.append(Run(seed, field, time.process_time() - start, between(field, reference)))
        print(runs_table(runs[-1:]).splitlines()[-1], flush=True)
    valid = sum(run.field.after.valid for run in runs)
    text = f"""# Fields of {options.size} x {options.size} px, repaired

Scan {reference.scan.name}, periodic, {config.candidates} draws of each defect, patches of {config.patch_cells}
cells, at most {config.rounds} rounds. {valid} of {len(runs)} are valid as a whole.
Real windows fail at {100 * (1 - reference.calibration_pass_rate):.0f} %{_held_out(reference)}:
a real plane of this size is hardly ever valid as a whole.

{runs_table(runs)}

{statistics_table(*before_and_after([run.field for run in runs], reference))}
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
