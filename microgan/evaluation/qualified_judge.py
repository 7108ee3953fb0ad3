"""The judge of faults with what it says of controls, so that a reader knows whether it can be relied on.

A judge may flag sound images of another look, such as random packings or softened real windows, or miss the
faults that it was taught. Then it does not judge: its ratio is left out, with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.json_files import read_json, write_json
from microgan.detection.detect import detect_all
from microgan.evaluation.fault_judge import STREAM, FaultJudge, JudgeConfig
from microgan.evaluation.judge_brush import FAULTS, FILTERS, TRACES, Change, DiscWindow
from microgan.evaluation.judge_lessons import KINDS
from microgan.scan.planes import Planes
from microgan.statistics.intervals import wilson_interval
from microgan.validity.random_packing import RandomPacking
from microgan.validity.segmentation import Segmentation

NETWORK, FIGURES = "fault_judge.safetensors", "fault_judge.json"
LEAST = 20  # images; fewer are not judged
CONFIDENCE = 0.9  # of the intervals
CHANGED_WINDOWS = 200  # held-out windows into which each fault and each trace is made
PACKINGS = 160  # random packings among the controls
MOST_OVER_REAL = 2.0  # times the held-out windows' fraction, beyond which a control is flagged too often
LEAST_DETECTED = 0.5  # mean fraction of its own faults that a judge must flag
WORST = 16  # samples that are shown


def flagged(judge: FaultJudge, images: Tensor) -> dict[str, Any]:
    """Return the fraction of images (N, 1, H, W) that a judge flags.

    Returns
    -------
    dict
        ``n``; ``flagged``, the fraction, with its 90 % interval (Wilson) from ``low`` to ``high``; and
        ``by_kind``: kind -> the fraction of images that are flagged and look like it most.
    """
    score, kind = judge.judged(images)
    above = score > judge.limit
    low, high = wilson_interval(int(above.sum()), len(above), CONFIDENCE)
    counts = np.bincount(kind[above], minlength=len(KINDS)) / max(len(above), 1)
    return {
        "n": len(above),
        "flagged": float(above.mean()),
        "low": low,
        "high": high,
        "by_kind": dict(zip(KINDS, counts.tolist(), strict=True)),
    }


@dataclass(frozen=True)
class WorstSamples:
    """The samples that the judge finds worst, the worst first.

    Attributes
    ----------
    images : (n, H, W) in [-1, 1]
    kinds : what each looks like most, one of `KINDS`
    above : whether it is above the limit
    places : row and column of what looks faulty, px
    """

    images: np.ndarray
    kinds: Sequence[str]
    above: Sequence[bool]
    places: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class QualifiedJudge:
    """A judge with what it says of images that need no judge.

    Attributes
    ----------
    judge
        With its limit.
    real
        ``held_out``: `flagged` of held-out windows; ``controls``: name -> the same of sound images;
        ``detects``: fault -> the same of held-out windows with such a fault; ``qualified``; and ``reason``,
        why not, or None.
    """

    judge: FaultJudge
    real: Mapping[str, Any]

    @classmethod
    def learn(
        cls,
        planes: Planes,
        segmentation: Segmentation,
        packing: RandomPacking,
        held_out: Tensor,
        seed: int,
        config: JudgeConfig,
    ) -> Self:
        """Train a judge, and try it on held-out windows (N, 1, S, S) and on controls."""
        judge = FaultJudge.learn(planes, segmentation, packing, seed, config)
        sign = -1 if segmentation.polarity == "dark" else 1
        rng = np.random.default_rng([seed, STREAM, 2])
        packings, _ = packing.sample(PACKINGS, Domain((segmentation.window_px,) * 2), seed + STREAM + 1)
        controls = {"random_packings": packings} | {
            name: _stacked([change(window, rng) for window in held_out[:, 0].numpy()])
            for name, change in FILTERS.items()
        }
        circles = detect_all(held_out[:CHANGED_WINDOWS], segmentation.detector, progress=False)
        windows = [
            DiscWindow.of(sign * grey, discs)
            for grey, discs in zip(held_out[:, 0].numpy(), circles, strict=False)
        ]

        def changed(by: Mapping[str, Change]) -> dict[str, Tensor]:
            images = {name: [change(window, rng) for window in windows] for name, change in by.items()}
            made = {name: [grey for grey in each if grey is not None] for name, each in images.items()}
            return {name: sign * _stacked(each) for name, each in made.items() if each}

        controls |= changed(TRACES)
        real = {
            "held_out": flagged(judge, held_out),
            "controls": {name: flagged(judge, images) for name, images in controls.items()},
            "detects": {name: flagged(judge, images) for name, images in changed(FAULTS).items()},
        }
        reason = doubt(real)
        return cls(judge, {**real, "qualified": reason is None, "reason": reason})

    def samples(self, images: Tensor, valid: np.ndarray) -> dict[str, Any]:
        """Judge samples (N, 1, S, S) in [-1, 1].

        Returns
        -------
        dict
            That of `real`, with `flagged` of all samples (``before``) and of valid ones (``after``), each
            left out for fewer than 20; and ``ratio``, the fraction of valid samples that are flagged over
            that of held-out windows, None where the judge is not qualified.
        """
        sets = {"before": images, "after": images[torch.from_numpy(valid)]}
        judged = {name: flagged(self.judge, each) for name, each in sets.items() if len(each) >= LEAST}
        real, ratio = self.real["held_out"]["flagged"], None
        if self.real["qualified"] and "after" in judged and real > 0:
            ratio = judged["after"]["flagged"] / real
        about = {"limit": self.judge.limit, "ratio": ratio}
        return {**about, **judged, **self.real}

    def worst(self, images: Tensor, count: int = WORST) -> WorstSamples:
        """Return the images (N, 1, S, S) of the highest scores, with the places that look faulty."""
        score, kind = self.judge.judged(images)
        chosen = np.argsort(-score, kind="stable")[:count]
        shown = images[torch.from_numpy(chosen)]
        return WorstSamples(
            images=shown[:, 0].numpy(),
            kinds=[KINDS[index] for index in kind[chosen]],
            above=(score[chosen] > self.judge.limit).tolist(),
            places=self.judge.places(shown),
        )

    def save(self, folder: Path) -> None:
        """Write two files into ``folder``: the network, and the figures with its SHA-256."""
        sha256 = self.judge.save(folder / NETWORK)
        write_json(folder / FIGURES, {"judge_sha256": sha256, "real": self.real})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If a file is missing, damaged or another one.
        """
        figures = read_json(folder / FIGURES)
        judge = FaultJudge.load(folder / NETWORK, str(figures.get("judge_sha256")))
        real = figures.get("real")
        if not isinstance(real, dict) or not real.keys() >= {"held_out", "controls", "detects", "qualified"}:
            raise UserError(folder / FIGURES, "unusable", "must hold what the judge says of real windows")
        return cls(judge, real)


def _stacked(greys: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.clip(np.stack(greys), -1, 1).astype(np.float32))[:, None]


def doubt(real: Mapping[str, Any]) -> str | None:
    """Return why a judge does not judge, in words, or None.

    A control must be flagged more than `MOST_OVER_REAL` times as often as held-out windows beyond chance: the
    lower end of its interval counts.
    """
    most = MOST_OVER_REAL * real["held_out"]["flagged"]
    for name, control in real["controls"].items():
        if control["low"] > most:
            what = f"{control['flagged']:.0%} of {name.replace('_', ' ')}, which are sound"
            return f"it flags {what}, and {real['held_out']['flagged']:.0%} of held-out windows"
    rates = [fault["flagged"] for fault in real["detects"].values()]
    detected = float(np.mean(rates)) if rates else 0.0
    if detected < LEAST_DETECTED:
        return f"it sees {detected:.0%} of the faults that it was taught, in held-out windows"
    return None


def judge_headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures of `QualifiedJudge.samples` by which models are compared.

    None is what cannot be told: the judge is not qualified, or too few samples are valid.
    """
    known = metrics["qualified"] and "after" in metrics
    return {
        "judge_flagged": metrics["after"]["flagged"] if known else None,
        "judge_flagged_real": metrics["held_out"]["flagged"] if metrics["qualified"] else None,
    }
