"""What finds faults, and what it takes for one: ``python -m benchmarks.faults``.

For a project whose pipeline has run. Into held-out windows, which nothing has learnt from, one fault each is
made in two ways: by the brush that taught the rule `learnt_fault` (`microgan.validity.planting`), and by that
which taught the judge (`microgan.evaluation.judge_brush`). So each is an unseen way for the other. Sound
images are controls: the traces of either brush, filtered windows, random packings. For each kind:

- circles: fraction that the rules of circles reject, at the limits of reference.json;
- learnt: fraction that `learnt_fault` rejects; filter: by all rules together;
- judge: fraction that the judge flags.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microgan.core.atomic import atomic
from microgan.core.domain import Domain
from microgan.core.json_files import read_json
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.evaluation.judge_brush import FAULTS, FILTERS, TRACES, DiscWindow
from microgan.evaluation.qualified_judge import QualifiedJudge
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows
from microgan.validity.detection_rate import PLANTED
from microgan.validity.judging import judge
from microgan.validity.planted_defects import CONTROLS, plant
from microgan.validity.random_packing import RandomPacking
from microgan.validity.reference import Reference
from microgan.validity.rules import LEARNT_FAULT

SEED = 77  # of the windows and of all changes; the pipeline draws by other streams
Changes = Mapping[str, Callable[..., np.ndarray | None]]
PACKING = Path("models/random_packing/packing.json")


@dataclass(frozen=True)
class Row:
    """Images of one kind: how many, and the fraction that each instrument takes for faulty."""

    group: str
    name: str
    count: int
    circles: float
    learnt: float
    whole_filter: float
    judge: float


def rows(count: int) -> Iterator[Row]:
    """Yield a row for each kind of image of the project in the current folder."""
    planes, reference = Planes.load(Path("data/planes")), Reference.load(Path("reference/reference.json"))
    qualified = QualifiedJudge.load(Path("real_statistics"))
    side = reference.window_px
    windows = Windows(planes, "held_out", side).draw(np.random.default_rng(SEED), count)
    circles = detect_all(windows, reference.detector, progress=False)
    packing = RandomPacking.from_mapping(read_json(PACKING).get("packing"), str(PACKING))
    packings, _ = packing.sample(count, Domain((side, side)), SEED)
    sets = [("sound", "held-out windows", windows), ("sound", "random packings", packings)]
    sets += [
        ("sound", name, images)
        for name, images in _of_judge(FILTERS, windows, circles, reference, of_image=True)
    ]
    sets += [("trace, rule's brush", name, _planted(name, windows, circles, reference)) for name in CONTROLS]
    sets += [("trace, judge's brush", *each) for each in _of_judge(TRACES, windows, circles, reference)]
    sets += [("fault, rule's brush", name, _planted(name, windows, circles, reference)) for name in PLANTED]
    sets += [("fault, judge's brush", *each) for each in _of_judge(FAULTS, windows, circles, reference)]
    for group, name, images in sets:
        reasons = [set(verdict.reasons) for verdict in judge(images, reference, progress=False)]
        score, _ = qualified.judge.judged(images)
        yield Row(
            group,
            name,
            len(images),
            circles=float(np.mean([bool(found - {LEARNT_FAULT}) for found in reasons])),
            learnt=float(np.mean([LEARNT_FAULT in found for found in reasons])),
            whole_filter=float(np.mean([bool(found) for found in reasons])),
            judge=float(np.mean(score > qualified.judge.limit)),
        )


def _planted(name: str, windows: Tensor, circles: list[Circles], reference: Reference) -> Tensor:
    defect, degree = PLANTED.get(name, (name, {}))
    images = [
        plant(defect, image, discs, np.random.default_rng([SEED, index]), reference.polarity, **degree)
        for index, (image, discs) in enumerate(zip(windows[:, 0].numpy(), circles, strict=True))
    ]
    return _stacked([image for image in images if image is not None])


def _of_judge(
    changes: Changes, windows: Tensor, circles: list[Circles], reference: Reference, *, of_image: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the images of each change by the judge's brush."""
    sign = -1 if reference.polarity == "dark" else 1
    for name, change in changes.items():
        rng = np.random.default_rng(SEED)
        bright = [sign * image for image in windows[:, 0].numpy()]
        places = bright if of_image else list(map(DiscWindow.of, bright, circles))
        changed = [change(place, rng) for place in places]
        yield name, _stacked([sign * image for image in changed if image is not None])


def _stacked(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.clip(np.stack(images), -1, 1).astype(np.float32))[:, None]


def table(found: list[Row], scan: str) -> str:
    """Return the rows as Markdown."""
    lines = [
        f"# Faults, and what is taken for one: {scan}",
        "",
        "`python -m benchmarks.faults`: fraction of images that each takes for faulty.",
        "",
        "| group | kind | n | circles | learnt | filter | judge |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        figures = (row.circles, row.learnt, row.whole_filter, row.judge)
        cells = " | ".join(f"{figure:.2f}" for figure in figures)
        lines.append(f"| {row.group} | {row.name.replace('_', ' ')} | {row.count} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="held-out windows")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args()
    text = table(list(rows(options.count)), Planes.load(Path("data/planes")).info.name)
    print(text)
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(text)


if __name__ == "__main__":
    main()
