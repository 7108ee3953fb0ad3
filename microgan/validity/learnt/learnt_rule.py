"""The rule of faults that a network has learnt to see.

The scan's training and calibration parts are cut into two halves. One network learns from each. What sound
windows score is measured on the other half, which it never saw: the limit comes from there. On any other
image both networks are asked, and the mean counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from microgan.core.config import Config
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.files import file_sha256
from microgan.core.tensors import fill, read_with_card, write_with_card
from microgan.detection.circles import Circles
from microgan.detection.detect import detect_all
from microgan.detection.detector import Polarity
from microgan.scan.halves import BOTH, Halves
from microgan.scan.planes import Planes
from microgan.validity.learnt.lessons import KINDS, Lessons
from microgan.validity.learnt.network import PLACE_PX, FaultNetwork, FaultNetworkConfig, fault_evidence
from microgan.validity.learnt.training import TrainingConfig, train_network
from microgan.validity.random_packing import RandomPacking
from microgan.validity.segmentation import Segmentation

SCALE_WINDOWS = 500  # of each half, for what sound windows score
UPPER = 0.9  # quantile of these that is 1 on the scale; the median is 0
DECIMALS = 4  # of what is said: one image at a time or many, verdicts are the same
AT_ONCE = 64  # images: bounds memory
RULE = "must hold the networks that `learnt_rule` wrote"


class Scale(Config):
    """What a network says of sound windows that it never saw."""

    median: float
    upper: float = Field(description="its quantile UPPER")

    def of(self, evidence: Tensor) -> Tensor:
        """Return evidence as 0 at the median of sound windows and 1 at the upper quantile."""
        return (evidence - self.median) / max(self.upper - self.median, 1e-3)


class _Card(Config):
    kinds: list[str]
    network: FaultNetworkConfig
    polarity: Polarity
    scales: tuple[Scale, Scale]


@dataclass(frozen=True)
class SeenFault:
    """The most suspicious place of an image.

    Attributes
    ----------
    value : on the scale of sound windows: 0 their median, 1 exceeded by a tenth of them
    kind : what it looks like most, one of `KINDS`
    row, col : middle of the place, px
    """

    value: float
    kind: str
    row: float
    col: float

    def __str__(self) -> str:
        return f"{self.kind} {self.row:g} {self.col:g}"

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Read what `str` gives, which has no value; `ValueError` for anything else."""
        kind, row, col = text.split(" ")
        if kind not in KINDS:
            raise ValueError(f"must be one of {', '.join(KINDS)}, row and column")
        return cls(float("nan"), kind, float(row), float(col))

    def moved(self, rows: int, cols: int) -> Self:
        """Return the same in an image in which this one begins at another row and column."""
        return replace(self, row=self.row + rows, col=self.col + cols)


@dataclass(frozen=True)
class LearntFaults:
    """Two networks, each with the scale of its evidence.

    Attributes
    ----------
    networks : the first learnt from the first half of the scan, the second from the second one
    scales : of each
    polarity : of the discs
    config : size of the networks
    sha256 : of the file that they were loaded from; empty before
    """

    networks: tuple[FaultNetwork, FaultNetwork]
    scales: tuple[Scale, Scale]
    polarity: Polarity
    config: FaultNetworkConfig
    sha256: str = ""

    @classmethod
    def learn(
        cls,
        planes: Planes,
        segmentation: Segmentation,
        packing: RandomPacking,
        seed: int,
        config: TrainingConfig,
        on_progress: Callable[[float], None] = lambda done: None,
    ) -> Self:
        """Learn from the training and calibration parts of a scan, and from random packings like it.

        ``on_progress`` is called after each step with the fraction that is done.

        Raises
        ------
        UserError
            If a half of these parts holds no window.
        """

        def report(half: int, steps: int) -> None:
            on_progress((half + steps / config.steps) / len(BOTH))

        halves = Halves(planes, segmentation.window_px)
        networks = [
            train_network(
                _lessons(halves, segmentation, packing, half, seed, config),
                seed + half,
                config,
                f"faults, half {half + 1} of 2",
                partial(report, half),
            )
            for half in BOTH
        ]
        polarity = segmentation.polarity
        unseen = [halves.draw(1 - half, SCALE_WINDOWS, [seed, 2]) for half in BOTH]
        scales = [
            _scale(network, windows, polarity) for network, windows in zip(networks, unseen, strict=True)
        ]
        return cls((networks[0], networks[1]), (scales[0], scales[1]), polarity, config.network)

    def score(self, images: Tensor, half: int | None = None) -> np.ndarray:
        """Return the largest evidence of a fault in each image (N, 1, H, W) in [-1, 1], (N,).

        Parameters
        ----------
        half
            Of the scan that the images lie in; the network that learnt from it is not asked then.
        """
        return np.array([fault.value for fault in self.see(images, half)])

    def see(self, images: Tensor, half: int | None = None) -> list[SeenFault]:
        """Return the most suspicious place of each image; parameters as in `score`."""
        parts = _bright(images, self.polarity).split(AT_ONCE)
        return [fault for part in parts for fault in self._seen(part, half)]

    @torch.inference_mode()
    def _seen(self, images: Tensor, half: int | None) -> Iterator[SeenFault]:
        asked = [index for index in BOTH if index != half]
        logits = [self.networks[index](images) for index in asked]
        values = [
            self.scales[index].of(fault_evidence(each)) for index, each in zip(asked, logits, strict=True)
        ]
        value = torch.stack(values).mean(0)
        kind = torch.stack(logits).mean(0)[:, 1:].argmax(1)
        for each, names in zip(value, kind, strict=True):
            row, col = np.unravel_index(int(each.argmax()), each.shape)
            middle = (PLACE_PX - 1) / 2
            yield SeenFault(
                round(float(each[row, col]), DECIMALS),
                KINDS[int(names[row, col])],
                PLACE_PX * float(row) + middle,
                PLACE_PX * float(col) + middle,
            )

    # Files ---------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors = nn.ModuleList(self.networks).state_dict()
        card = _Card(kinds=list(KINDS), network=self.config, polarity=self.polarity, scales=self.scales)
        write_with_card(path, tensors, card)

    @classmethod
    def load(cls, path: Path, sha256: str | None = None) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing or damaged, or is not the one with this ``sha256``.
        """
        tensors, card = read_with_card(path, _Card, RULE, sha256)
        if card.kinds != list(KINDS):
            raise UserError(path, ", ".join(card.kinds)[:200], f"must know the kinds {', '.join(KINDS)}")
        first, second = (FaultNetwork(len(KINDS), card.network) for _ in BOTH)
        fill(path, tensors, nn.ModuleList([first, second]), RULE)
        return cls((first.eval(), second.eval()), card.scales, card.polarity, card.network, file_sha256(path))


def _lessons(
    halves: Halves,
    segmentation: Segmentation,
    packing: RandomPacking,
    half: int,
    seed: int,
    config: TrainingConfig,
) -> Lessons:
    most = config.steps * config.batch  # a short training sees no more
    windows = halves.draw(half, min(config.windows, most), [seed, 1])
    circles = detect_all(windows, segmentation.detector, progress=False)
    side = segmentation.window_px
    packed, true = packing.sample(min(config.packings, most), Domain((side, side)), seed + 1 + half)
    return Lessons.of(windows, circles, seed + half, segmentation.polarity) + Lessons.of(
        packed, _certain(true), seed + 2 + half, segmentation.polarity
    )


def _certain(circles: Sequence[Circles]) -> list[Circles]:
    """Return drawn circles with a score as that of a disc that is surely one."""
    return [Circles(each.row, each.col, each.radius_px, np.ones(len(each))) for each in circles]


@torch.inference_mode()
def _scale(network: FaultNetwork, windows: Tensor, polarity: Polarity) -> Scale:
    evidence = torch.cat(
        [
            fault_evidence(network(_bright(part, polarity))).flatten(1).amax(1)
            for part in windows.split(AT_ONCE)
        ]
    )
    median, upper = np.quantile(evidence.numpy(), (0.5, UPPER)).tolist()
    return Scale(median=median, upper=upper)


def _bright(images: Tensor, polarity: Polarity) -> Tensor:
    return -images if polarity == "dark" else images
