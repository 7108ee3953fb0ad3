"""A judge of faults that took no part: filter, training and checkpoint selection never use it.

What is optimised against is no longer a measure. So this small network is another one than that of the rule
``learnt_fault``: it classifies a window as a whole, learns from other windows, and from faults that were made
by another brush (`microgan.evaluation.judge_lessons`). It says how many of the accepted samples look faulty,
beside real windows that nobody learnt from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, pixel_unshuffle, softplus
from tqdm import tqdm

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.tensors import fill, read_with_card, write_with_card
from microgan.detection.detect import detect_all
from microgan.detection.detector import Polarity
from microgan.evaluation.judge_lessons import KINDS, JudgeLessons
from microgan.scan.planes import Planes
from microgan.scan.symmetries import SYMMETRIES, TURNS_FIRST, turned_tensor
from microgan.scan.windows import Windows
from microgan.validity.random_packing import RandomPacking
from microgan.validity.segmentation import Segmentation

FALSE_ALARMS = 0.05  # fraction of calibration windows that are flagged, by which the limit is set
LIMIT_WINDOWS = 1000  # of the calibration part, for the limit
STREAM = 26  # of random numbers, that no other part of the library draws windows from
CONTRAST, BRIGHTNESS = (0.8, 1.25), (-0.15, 0.15)  # factor and grey by which training changes its images
SOFTNESS, NOISE = (
    (-0.3, 0.5),
    (0.0, 0.05),
)  # fraction of a 3 x 3 mean mixed in, below 0 taken out; sd of noise
PLACE_SD_PX = 2.5  # of the Gaussian that smooths the gradient
CROPPED, CROP_PX = 0.7, 40  # fraction of the steps that see only the surroundings of a change, and how much
AT_ONCE = 128  # images: bounds memory
RULE = "must hold the judge that `fault_judge` wrote"


class JudgeConfig(Config):
    """What the judge learns from, and its size."""

    windows: int = Field(default=400, ge=4)
    packings: int = Field(default=160, ge=4)
    channels: int = Field(default=20, ge=2, le=256)
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=32, ge=4)
    learning_rate: float = Field(default=3e-3, gt=0)


class JudgeNetwork(nn.Module):
    """Windows of bright discs (N, 1, H, W) in [-1, 1], sides even, 16 px or more -> logits (N, 1 + kinds).

    The first logit is that of sound images.     Plain convolutions, then mean and maximum over all places:
    the maximum responds to a single fault, the mean to what is common in the window.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            *_block(4, channels, 1),
            *_block(channels, 2 * channels, 2),
            *_block(2 * channels, 2 * channels, 1),
            *_block(2 * channels, 3 * channels, 2),
            *_block(3 * channels, 4 * channels, 1),
        )
        self.said = nn.Sequential(
            nn.Linear(8 * channels, 3 * channels), nn.LeakyReLU(0.1), nn.Linear(3 * channels, 1 + len(KINDS))
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        quarters = pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        maps = self.maps(quarters)
        logits: Tensor = self.said(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1))
        return logits


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)]


def evidence(logits: Tensor) -> Tensor:
    """Return the log odds (N,) of any fault against none."""
    return torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]


# Training -----------------------------------------------------------------------------------------------


def train_judge(lessons: JudgeLessons, seed: int, config: JudgeConfig) -> JudgeNetwork:
    """Train a network to tell faulty images from sound ones, and which fault; same seed, same bits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = JudgeNetwork(config.channels).train()
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.steps)
    rng = np.random.default_rng([seed, STREAM])
    bar = tqdm(range(config.steps), "judge", unit="step", disable=None)
    for step in bar:
        cropped = step < CROPPED * config.steps
        chosen = rng.integers(len(lessons.kind), size=config.batch if cropped else config.batch // 2)
        pairs = _crops(lessons, chosen, rng) if cropped else lessons.images[chosen]
        pairs = turned_tensor(_varied(pairs, rng), TURNS_FIRST[rng.integers(SYMMETRIES)])
        logits = network(pairs.transpose(0, 1).reshape(-1, 1, *pairs.shape[2:]))  # all sound ones first
        loss = _loss(logits, lessons.kind[chosen], lessons.weight[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3g}")
    return network.eval()


def _loss(logits: Tensor, kind: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of faulty against sound, of which fault, and of which one of a pair is faulty."""
    sound, faulty = evidence(logits).chunk(2)
    kinds = cross_entropy(logits[len(kind) :, 1:], kind)
    return (softplus(sound) + weight * softplus(-faulty) + softplus(sound - faulty)).mean() + 0.5 * kinds


def _crops(lessons: JudgeLessons, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Cut out what is around the changes of each pair: a fault is learnt sooner in a small image."""
    side_px = min(CROP_PX, lessons.images.shape[2])
    most = lessons.images.shape[2] - side_px
    off = rng.integers(-side_px // 4, side_px // 4 + 1, (len(chosen), 2, 2))
    corner = np.clip(lessons.place[chosen] + off - side_px // 2, 0, most)
    crops = [
        [
            lessons.images[index, half, row : row + side_px, col : col + side_px]
            for half, (row, col) in enumerate(both)
        ]
        for index, both in zip(chosen.tolist(), corner.tolist(), strict=True)
    ]
    return torch.stack([torch.stack(pair) for pair in crops])


def _varied(pairs: Tensor, rng: np.random.Generator) -> Tensor:
    """Change contrast, brightness, sharpness and noise of each pair a little, as between planes."""
    ends = (CONTRAST, BRIGHTNESS, SOFTNESS, NOISE)
    low, high = (np.reshape(end, (len(ends), 1)) for end in zip(*ends, strict=True))
    factors = torch.from_numpy(rng.uniform(low, high, (len(ends), len(pairs))).astype(np.float32))
    contrast, brightness, softness, noise = factors[..., None, None, None]  # (B, 1, 1, 1) each
    white = torch.from_numpy(rng.standard_normal(pairs.shape, dtype=np.float32))
    smooth = avg_pool2d(pairs, 3, 1, 1, count_include_pad=False)
    return (contrast * torch.lerp(pairs, smooth, softness) + brightness + noise * white).clamp(-1, 1)


# Use ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FaultJudge:
    """The judge and its limit.

    Attributes
    ----------
    network : trained
    limit : score above which an image is flagged
    polarity : of the discs
    channels : of the network
    """

    network: JudgeNetwork
    limit: float
    polarity: Polarity
    channels: int

    @classmethod
    def learn(
        cls,
        planes: Planes,
        segmentation: Segmentation,
        packing: RandomPacking,
        seed: int,
        config: JudgeConfig,
    ) -> Self:
        """Learn from the training part of a scan and from random packings.

        The limit flags `FALSE_ALARMS` of the windows of the calibration part.
        """
        side_px, sign = segmentation.window_px, -1.0 if segmentation.polarity == "dark" else 1.0
        windows = Windows(planes, "train", side_px).draw(
            np.random.default_rng([seed, STREAM]), config.windows
        )
        circles = detect_all(windows, segmentation.detector, progress=False)
        lessons = JudgeLessons.of_windows(sign * windows, circles, seed + STREAM)
        lessons += JudgeLessons.of_packing(packing, config.packings, side_px, seed + STREAM, sign)
        judge = cls(train_judge(lessons, seed, config), 0.0, segmentation.polarity, config.channels)
        unseen = Windows(planes, "calibration", side_px)
        scores, _ = judge.judged(unseen.draw(np.random.default_rng([seed, STREAM, 1]), LIMIT_WINDOWS))
        limit = float(np.quantile(scores, 1 - FALSE_ALARMS))
        return cls(judge.network, limit, judge.polarity, judge.channels)

    @torch.inference_mode()
    def judged(self, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Judge images (N, 1, H, W) in [-1, 1].

        Returns
        -------
        score : ndarray of shape (N,)
            Log odds of a fault; above `limit` an image is flagged.
        kind : ndarray of shape (N,)
            Index into `KINDS` of what it looks like most.
        """
        if not len(images):
            return np.zeros(0), np.zeros(0, int)
        logits = torch.cat([self.network(self._bright(part)) for part in images.split(AT_ONCE)])
        return evidence(logits).double().numpy(), logits[:, 1:].argmax(1).numpy()

    def places(self, images: Tensor) -> list[tuple[float, float]]:
        """Return row and column of what looks faulty in each image: where its grey changes the score most."""
        found: list[tuple[float, float]] = []
        for part in images.split(AT_ONCE) if len(images) else ():
            with torch.enable_grad():
                bright = self._bright(part).clone().requires_grad_()
                evidence(self.network(bright)).sum().backward()
            assert bright.grad is not None
            for gradient in bright.grad[:, 0].abs().numpy():
                smooth = gaussian_filter(gradient, PLACE_SD_PX, mode="constant")
                row, col = np.unravel_index(int(smooth.argmax()), smooth.shape)
                found.append((float(row), float(col)))
        return found

    def _bright(self, images: Tensor) -> Tensor:
        return -images if self.polarity == "dark" else images

    # Files ---------------------------------------------------------------------------------------------

    def save(self, path: Path) -> str:
        """Write one safetensors file; return its SHA-256, which `load` asks for."""
        card = _Card(kinds=list(KINDS), channels=self.channels, limit=self.limit, polarity=self.polarity)
        return write_with_card(path, self.network.state_dict(), card)

    @classmethod
    def load(cls, path: Path, sha256: str) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing or damaged, or is not the one with this ``sha256``.
        """
        tensors, card = read_with_card(path, _Card, RULE, sha256)
        if card.kinds != list(KINDS):
            raise UserError(path, ", ".join(card.kinds)[:200], f"must know the kinds {', '.join(KINDS)}")
        network = JudgeNetwork(card.channels)
        fill(path, tensors, network, RULE)
        return cls(network.eval(), card.limit, card.polarity, card.channels)


class _Card(Config):
    kinds: list[str]
    channels: int = Field(ge=2, le=256)
    limit: float
    polarity: Polarity
