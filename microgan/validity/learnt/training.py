"""Training of the network that sees faults, on lessons."""

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, max_pool2d, softplus
from tqdm import tqdm

from microgan.core.config import Config
from microgan.scan.symmetries import SYMMETRIES, turned_tensor
from microgan.validity.learnt.lessons import KINDS, Lessons
from microgan.validity.learnt.network import PLACE_PX, FaultNetwork, FaultNetworkConfig, fault_evidence

# Changes of whole images that differ between planes and mean no fault, each uniform between two ends.
CONTRAST = (0.8, 1.25)  # factor
BRIGHTNESS = (-0.15, 0.15)  # grey that is added
SOFTNESS = (-0.3, 0.6)  # fraction of a 3 x 3 mean that is mixed in; below 0 it is taken out
NOISE = (0.0, 0.06)  # standard deviation of noise that is added
LEAST_COVERED = 0.2  # fraction of a place from where on a defect is there; its fullest place always is
FAR = -20.0  # evidence that never is the largest
SHARPNESS = 2.0  # of the soft maximum over places
EASY = 0.02  # least weight of a sound place that the network is sure of
SOUND_WEIGHT = 10.0  # of the mean over sound places, of which most are easy


class TrainingConfig(Config):
    """How the network is trained."""

    windows: int = Field(default=700, ge=10)
    packings: int = Field(default=400, ge=10)
    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=3e-3, gt=0)
    network: FaultNetworkConfig = FaultNetworkConfig()


def train_network(
    lessons: Lessons,
    seed: int,
    config: TrainingConfig,
    name: str = "faults",
    on_step: Callable[[int], None] = lambda steps: None,
) -> FaultNetwork:
    """Train a network to say where a defect was planted and which; same seed, same weights.

    Parameters
    ----------
    lessons
        Sound images and images with defects.
    seed
        Of weights, batches and augmentation.
    config
        Length and size.
    name
        For the progress bar.
    on_step
        Called with the number of steps that are done.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FaultNetwork(len(KINDS), config.network).train()
    optimiser = torch.optim.AdamW(
        network.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.steps)
    rng = np.random.default_rng(seed)
    bar = tqdm(range(config.steps), name, unit="step", disable=None)
    for step in bar:
        chosen = torch.from_numpy(rng.integers(len(lessons), size=config.batch))
        symmetry = int(rng.integers(SYMMETRIES))
        images = turned_tensor(_varied(lessons.images[chosen], rng), symmetry).contiguous()
        where = turned_tensor(lessons.where[chosen], symmetry)
        loss = _loss(network(images), where, lessons.kind[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        on_step(step + 1)
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3g}")
    return network.eval()


def _loss(logits: Tensor, where: Tensor, kind: Tensor) -> Tensor:
    """Cross-entropy of places, and of images by their most suspicious place.

    Places around a defect count neither as faulty nor as sound. The second part is what the rule uses: the
    largest evidence in an image.
    """
    faulty, around = _places(where)
    entropy = cross_entropy(logits, torch.where(faulty, kind[:, None, None], 0), reduction="none")
    hard = (1 - torch.exp(-entropy).detach()).clamp(min=EASY)  # most sound places are easy
    sound = ~faulty & ~around
    places = _mean(entropy, faulty) + SOUND_WEIGHT * _mean(entropy * hard, sound)
    evidence = fault_evidence(logits)
    defect = kind > 0
    missed = softplus(-_soft_maximum(evidence, faulty | around))
    alarm = softplus(_soft_maximum(evidence, sound))
    return places + alarm.mean() + _mean(missed, defect)


def _places(where: Tensor) -> tuple[Tensor, Tensor]:
    """Return which places have the defect, and which are beside one that has some of it."""
    covered = avg_pool2d(where[:, None].float(), PLACE_PX, PLACE_PX, ceil_mode=True)[:, 0]
    fullest = (covered == covered.amax((1, 2), keepdim=True)) & (covered > 0)
    around = max_pool2d((covered > 0)[:, None].float(), 3, 1, 1)[:, 0] > 0
    faulty = (covered > LEAST_COVERED) | fullest
    return faulty, around & ~faulty


def _soft_maximum(evidence: Tensor, allowed: Tensor) -> Tensor:
    values = torch.where(allowed, evidence, FAR).flatten(1)
    return torch.logsumexp(SHARPNESS * values, dim=1) / SHARPNESS


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _varied(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Change contrast, brightness, sharpness and noise of each image a little, as between planes."""
    ends = (CONTRAST, BRIGHTNESS, SOFTNESS, NOISE, (0.0, 1.0))
    low, high = (np.reshape(end, (len(ends), 1)) for end in zip(*ends, strict=True))
    factors = torch.from_numpy(rng.uniform(low, high, (len(ends), len(images))).astype(np.float32))
    contrast, brightness, softness, noise, grain = factors[..., None, None, None]  # (B, 1, 1, 1) each
    white = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    added = torch.lerp(white, 2 * _smooth(white), grain)
    softened = torch.lerp(images, _smooth(images), softness)
    return (contrast * softened + brightness + noise * added).clamp(-1, 1)


def _smooth(images: Tensor) -> Tensor:
    return avg_pool2d(images, 3, 1, 1, count_include_pad=False)
