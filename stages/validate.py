"""Judge the samples of one model or of the baseline by the rules fixed on real windows.

``python -m stages.validate dcgan``, or ``random_packing``.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microgan.core.files import write_tiff
from microgan.core.json_files import write_json
from microgan.core.notes import warn
from microgan.report.figures.rules import calibration_sheet
from microgan.report.figures.windows import verdict_sheet
from microgan.scan.planes import Planes
from microgan.validity.calibration import CalibrationConfig, held_out_windows
from microgan.validity.judging import judge_measured, pass_rate, rejected_by, with_faults
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.own_rules import import_own_rules
from microgan.validity.real_measures import load_held_out
from stages.samples import CIRCLES, MEASURES, read_stack, write_verdicts
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Write verdicts, the valid samples, metrics/MODEL/validity.json and two pictures."""
    name = stage.model_or_baseline
    config = stage.config("calibrate", CalibrationConfig)
    reference = config.load_reference(Path("reference/reference.json"))
    folder = Path("samples") / name
    grey = read_stack(folder / "generated.tif")
    images = torch.from_numpy(reference.scan.normalise(grey))[:, None]
    measured = MeasuredWindows.load(folder / MEASURES, folder / CIRCLES, len(grey))
    own = import_own_rules(config.own)
    verdicts = judge_measured(measured.and_by(images, reference, own), reference)
    verdicts = with_faults(verdicts, images, reference)
    windows = held_out_windows(Planes.load(Path("data/planes")), reference.window_px, config)
    held_out = load_held_out(Path("real_measures")).and_by(windows, reference, own)
    if reference.networks is not None:
        held_out = held_out.and_learnt(windows, reference.networks)
    real = judge_measured(held_out, reference)

    metrics: dict[str, Any] = {
        "pass_rate": pass_rate(verdicts),
        "reference_pass_rate": pass_rate(real),
        "pass_rate_ratio": pass_rate(verdicts) / max(pass_rate(real), 1e-9),
        "n": len(verdicts),
        "reference_n": len(real),
        "rejected_by": rejected_by(verdicts),
        "reference_rejected_by": rejected_by(real),
    }

    outputs = [f"samples/{name}/{file}" for file in ("valid.tif", "verdicts.csv")]
    outputs += [f"metrics/{name}/validity.json"]
    outputs += [f"reports/validate/{name}.png", f"reports/validate/{name}_rules.png"]
    with stage.drafts(*outputs) as (stack, table, summary, picture, distributions):
        valid = np.array([verdict.valid for verdict in verdicts], bool)
        write_tiff(stack, grey[valid], reference.scan.voxel_size_um)
        write_verdicts(table, verdicts)
        write_json(summary, metrics)
        what, size_um = f"samples of {name}", reference.scan.voxel_size_um
        verdict_sheet(images[:, 0].numpy(), verdicts, picture, what=what, voxel_size_um=size_um)
        real_measures, measures = ([verdict.measures for verdict in group] for group in (real, verdicts))
        calibration_sheet(real_measures, reference, distributions, samples=measures)
    rates = f"{valid.mean():.1%}; real held-out windows: {metrics['reference_pass_rate']:.1%}"
    stage.say(f"{name}: {valid.sum()} of {len(valid)} samples are valid ({rates})")
    if not valid.any():
        counts = Counter(metrics["rejected_by"]).most_common(3)
        worst = ", ".join(f"{reason} {count}" for reason, count in counts)
        none = f"{name}: none of {len(verdicts)} samples is valid (most are rejected for {worst})"
        warn(f"{none}; figures of valid samples are null")
    headline = ("pass_rate", "reference_pass_rate", "pass_rate_ratio")
    stage.tracker.headline({f"{name}.{key}": metrics[key] for key in headline})
    counts = metrics["rejected_by"].items()
    stage.tracker.metrics({f"rejected_by.{reason}": count for reason, count in counts})
    stage.tracker.artifact(*outputs[1:])


if __name__ == "__main__":
    run(main)
