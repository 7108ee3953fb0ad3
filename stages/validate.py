"""Judge the samples of one model by the rules fixed on real windows: ``python -m stages.validate dcgan``."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from microgan.files import write_json, write_tiff
from microgan.pictures import verdict_sheet
from microgan.planes import Planes
from microgan.validity import CalibrationConfig, Reference, judge, pass_rate, rejected_by
from microgan.windows import Windows
from stages.samples import read_stack, write_circles, write_verdicts
from stages.stage import Stage, drafts, run


def main(stage: Stage) -> None:
    """Write verdicts, circles, the valid samples, metrics/MODEL/validity.json and a picture."""
    name = stage.model
    seed = stage.config("calibrate", CalibrationConfig).seed
    reference = Reference.load(Path("reference/reference.json"))
    grey = read_stack(Path("samples") / name / "generated.tif")
    images = torch.from_numpy(reference.scan.normalise(grey))[:, None]
    verdicts = judge(images, reference)

    windows = Windows(Planes.load(Path("data/planes")), "held_out", reference.window_px)
    real = judge(windows.draw(np.random.default_rng(seed), len(images), augment=False), reference)
    metrics: dict[str, Any] = {
        "pass_rate": pass_rate(verdicts),
        "reference_pass_rate": pass_rate(real),
        "pass_rate_ratio": pass_rate(verdicts) / max(pass_rate(real), 1e-9),
        "n": len(verdicts),
        "rejected_by": rejected_by(verdicts),
        "reference_rejected_by": rejected_by(real),
    }

    outputs = [f"samples/{name}/{file}" for file in ("valid.tif", "verdicts.csv", "circles.csv")]
    outputs += [f"metrics/{name}/validity.json", f"reports/validate/{name}.png"]
    with drafts(*outputs) as (stack, table, circles, summary, picture):
        valid = np.array([verdict.valid for verdict in verdicts], bool)
        write_tiff(stack, grey[valid], reference.scan.voxel_size_um)
        write_verdicts(table, verdicts)
        write_circles(circles, verdicts)
        write_json(summary, metrics)
        verdict_sheet(images[:, 0].numpy(), verdicts, picture)
    numbers = ("pass_rate", "reference_pass_rate", "pass_rate_ratio")
    stage.tracker.headline({f"{name}.{key}": metrics[key] for key in numbers})
    stage.tracker.metrics({f"rejected_by.{reason}": n for reason, n in metrics["rejected_by"].items()})
    stage.tracker.artifact(*outputs[1:])


if __name__ == "__main__":
    run(main)
