"""Which deviations do the figures find? `python -m benchmarks.sensitivity [--images 500] [--repeats 40]`.

The samples are real windows, unchanged or with one planned change. In each repeat the places of the scan are
split at random: windows of one half are compared with changed windows of the other half by the tests of
`make repro` (`microgan.evaluation.fidelity.flagged`, at 5 % for all figures together). Printed is the
fraction of repeats in which any figure, and each of them, differs: the detection rate of each deviation, and
false alarms where nothing was changed. Copies of training windows are tested by
`microgan.evaluation.memorisation`. Effective properties are left out, as each takes long to solve.

It needs data/planes and reference/reference.json, as `make repro` leaves them.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from microgan.core.files import atomic
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.evaluation.fidelity import HEADLINE, compare, flagged
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.memorisation import (
    detection_rate_of_copies,
    nearest_correlation,
    planted_copies,
)
from microgan.evaluation.real_statistics import FidelityConfig, MeasuredImages
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.judging import judge
from microgan.validity.phase import phase_image
from microgan.validity.planted_defects import plant
from microgan.validity.reference import Reference
from stages.project import git_commit

ROOT = Path(__file__).parents[1]
ADDED_FRACTION, ADDED_RADIUS = 0.02, 0.05
COPIES = 0.05  # fraction of samples
UNSOLVED = PropertiesConfig(count=2)

Change = Callable[[Tensor, Sequence[Circles], Reference], Tensor]


def unchanged(images: Tensor, circles: Sequence[Circles], reference: Reference) -> Tensor:
    """Return the images as they are."""
    return images


def more_discs_phase(images: Tensor, circles: Sequence[Circles], reference: Reference) -> Tensor:
    """Brighten images until the volume fraction of the set has grown by `ADDED_FRACTION`."""
    sign = 1 if reference.polarity == "bright" else -1
    wanted = phase_image(images, reference).float().mean() + ADDED_FRACTION
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        grown = phase_image(images + sign * middle, reference).float().mean()
        low, high = (middle, high) if grown < wanted else (low, middle)
    return (images + sign * high).clamp(-1, 1)


def larger(images: Tensor, circles: Sequence[Circles], reference: Reference) -> Tensor:
    """Magnify images, and with them radii and distances, by `ADDED_RADIUS`."""
    side = images.shape[-1]
    zoom = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, 0, 1 + ADDED_RADIUS)
    grown = [cv2.warpAffine(image[0].numpy(), zoom, (side, side), flags=cv2.INTER_CUBIC) for image in images]
    return torch.from_numpy(np.stack(grown))[:, None].clamp(-1, 1)


def planted(kind: str) -> Change:
    """Return a change that plants one defect of a kind into each image where there is a place for it."""

    def change(images: Tensor, circles: Sequence[Circles], reference: Reference) -> Tensor:
        changed = []
        for index, (image, discs) in enumerate(zip(images, circles, strict=True)):
            with_defect = plant(
                kind, image[0].numpy(), discs, np.random.default_rng(index), reference.polarity
            )
            changed.append(image[0].numpy() if with_defect is None else with_defect)
        return torch.from_numpy(np.stack(changed)).float()[:, None]

    return change


CHANGES: dict[str, Change] = {
    "nothing (false alarms)": unchanged,
    f"volume fraction +{ADDED_FRACTION}": more_discs_phase,
    f"radius +{100 * ADDED_RADIUS:.0f} %": larger,
    "one overlapping pair an image": planted("overlap"),
    "crystal order": planted("lattice"),
}


def alarms(
    real: MeasuredImages, changed: MeasuredImages, repeats: int, config: FidelityConfig
) -> tuple[float, dict[str, float]]:
    """Return in which fraction of repeats any figure differs, and each of them."""
    places = np.unique(real.structure.group)
    counts, any_count = Counter[str](), 0
    for seed in range(repeats):
        half = np.random.default_rng(seed).permutation(places)[: len(places) // 2]
        inside = np.isin(real.structure.group, half)
        samples, held_out = changed.take(np.flatnonzero(inside)), real.take(np.flatnonzero(~inside))
        differing = flagged(compare(samples, held_out, {}, config).table)
        counts.update(differing)
        any_count += bool(differing)
    return any_count / repeats, {name: counts[name] / repeats for name in HEADLINE if name != "stiffness"}


def measured(
    images: Tensor, block: np.ndarray, reference: Reference, config: FidelityConfig
) -> MeasuredImages:
    """Find the discs of images and compute their descriptors."""
    circles = detect_all(images, reference.detector, progress=False)
    both = MeasuredImages.of(images, circles, reference, config, UNSOLVED, block)
    return replace(both, properties=both.properties.take(np.arange(0)))


def memory(planes: Planes, reference: Reference, images: int, seed: int) -> tuple[float, float]:
    """Return the detection rate of copies, and the rate of false alarms."""
    rng = np.random.default_rng(seed)
    windows = Windows(planes, "held_out", reference.window_px).draw(rng, 2 * images)
    held_out = nearest_correlation(windows[:, 0].numpy(), planes)
    count = max(20, round(2 * COPIES * images))
    copies = planted_copies(planes, reference.window_px, count, seed, blur_px=1.0, new_noise=True)
    nearest = nearest_correlation(copies, planes)
    rates = detection_rate_of_copies(held_out, nearest, fractions=(0.0, COPIES), repeats=400)
    return rates[COPIES], rates[0.0]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planes", type=Path, default=ROOT / "data/planes")
    parser.add_argument("--reference", type=Path, default=ROOT / "reference/reference.json")
    parser.add_argument("--images", type=int, default=500, help="in each of the two sets")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    planes, reference = Planes.load(options.planes), Reference.load(options.reference)
    config = FidelityConfig()
    windows = Windows(planes, "train", reference.window_px)
    images, block = windows.draw_in_blocks(np.random.default_rng(0), 2 * options.images)
    circles = [verdict.circles for verdict in judge(images, reference, progress=False)]
    real = measured(images, block, reference, config)
    names = [name for name in HEADLINE if name != "stiffness"]
    lines = ["| changed | any figure | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|---" * (2 + len(names)) + "|")
    for title, change in CHANGES.items():
        changed = measured(change(images, circles, reference), block, reference, config)
        total, each = alarms(real, changed, options.repeats, config)
        cells = [f"**{total:.2f}**", *(f"{each[name]:.2f}" for name in names)]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    detected, false = memory(planes, reference, options.images, seed=0)
    command = f"python -m benchmarks.sensitivity --images {options.images} --repeats {options.repeats}"
    text = f"""# What the figures find

`{command}` at commit {git_commit() or "unknown"}, scan {planes.info.name}.
Training windows of half of the places against changed windows of the other half, about {options.images} each.

{chr(10).join(lines)}

Copies of training windows, blurred and with other noise, as {100 * COPIES:.0f} % of {options.images} held-out
windows: detected in {detected:.3f} of 400 draws; false alarms {false:.3f}.
"""
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
