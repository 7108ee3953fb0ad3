"""A small convolutional encoder of windows, whose features respond to structure at the scale of single discs.

Features of a network that was trained on photographs, or not at all, hardly change when two discs of thirty
overlap. This one learns to name the kind of defect that was planted into a real window: an overlap, a merged
pair, an ellipse, a partial disc ... (`microgan.validity.planted_defects`). It needs no labels by hand, and no
samples of a generator, so it favours none. A disc that was removed and put back where it was counts as no
defect: the encoder must not respond to the traces of planting.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, pixel_unshuffle
from tqdm import tqdm

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.tensors import fill, read_with_card, write_with_card
from microgan.detection.circles import Circles
from microgan.detection.detector import Polarity
from microgan.scan.symmetries import SYMMETRIES, TURNS_FIRST, turned_tensor
from microgan.validity.planted_defects import plant

RULE = "must hold an encoder"
SOUND = "sound"
DEFECT_NAMES = (
    "overlap",
    "merged_pair",
    "ellipse",
    "faint_disc",
    "wrong_radius",
    "partial_disc",
    "noise",
    "lattice",
    "blurred",
    "seam",
)
KINDS = (SOUND, *DEFECT_NAMES)
CONTRAST, BRIGHTNESS = (0.8, 1.2), (-0.15, 0.15)  # factor and grey by which training changes its images
SOFTNESS = (-0.4, 0.6)  # fraction of a 3 x 3 mean that is mixed in; below 0 it is taken out
AT_ONCE = 128  # images encoded at a time: bounds memory


class EncoderConfig(Config):
    """Size and training of the encoder."""

    base_channels: int = Field(default=16, ge=4, le=256)
    features: int = Field(default=64, ge=2, le=1024)
    defects: int = Field(default=3, ge=1, le=100)
    steps: int = Field(default=300, ge=1)
    batch: int = Field(default=48, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)


class Encoder(nn.Module):
    """Windows (N, 1, H, W) in [-1, 1], sides even and at least 16 px -> features (N, D).

    Pooling over places, by mean and by maximum, makes features of any window size: the mean responds to what
    is common in a window, the maximum to a single defect. ``kind`` maps features to logits (N, len(KINDS)).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        base = config.base_channels
        self.layers = nn.Sequential(
            *_block(4, base, 1),
            *_block(base, 2 * base, 2),
            *_block(2 * base, 3 * base, 1),
            *_block(3 * base, 4 * base, 2),
        )
        self.pooled = nn.Linear(8 * base, config.features)
        self.kind = nn.Linear(config.features, len(KINDS))
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        quarters = pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)  # 1.5 x as fast
        maps = self.layers(quarters)
        return self.pooled(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1))


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)]


def random_encoder(seed: int, config: EncoderConfig | None = None) -> Encoder:
    """Return an encoder with random weights: the control that shows what training it adds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(config or EncoderConfig()).eval()


def defect_examples(
    windows: Tensor,
    circles: Sequence[Circles],
    seed: int,
    polarity: Polarity = "bright",
    per_window: int = 3,
) -> tuple[Tensor, Tensor]:
    """Plant defects into real windows.

    Parameters
    ----------
    windows
        Shape (N, 1, H, W), in [-1, 1].
    circles
        The circles of each window, as detected.
    seed
        Same seed, same defects.
    polarity
        Of the discs.
    per_window
        Defects tried in each window, one an image, all `KINDS` in turn; the kind ``sound`` puts a disc back.

    Returns
    -------
    images : Tensor of shape (M, 1, H, W)
        The windows themselves first, then those with defects; fewer where a window has no place for one.
    kinds : Tensor of shape (M,), int64
        Indices into `KINDS`.

    Raises
    ------
    UserError
        If ``circles`` are not as many as windows.
    """
    if len(windows) != len(circles):
        raise UserError("circles", len(circles), f"must be as many as windows, {len(windows)}")
    images, kinds = [window[0].numpy() for window in windows], [0] * len(windows)
    for index, discs in enumerate(circles):
        for turn in range(per_window):
            kind = (index * per_window + turn) % len(KINDS)
            rng = np.random.default_rng([seed, index, turn])
            image = _planted(KINDS[kind], windows[index, 0].numpy(), discs, rng, polarity)
            if image is not None:
                images.append(image)
                kinds.append(kind)
    return torch.from_numpy(np.stack(images))[:, None], torch.tensor(kinds)


def _planted(
    kind: str, window: np.ndarray, circles: Circles, rng: np.random.Generator, polarity: Polarity
) -> np.ndarray | None:
    if kind == SOUND:
        return plant("wrong_radius", window, circles, rng, polarity, factor=1.0)
    return plant(kind, window, circles, rng, polarity)


def train_encoder(
    windows: Tensor,
    circles: Sequence[Circles],
    seed: int,
    config: EncoderConfig | None = None,
    polarity: Polarity = "bright",
    on_step: Callable[[int, float], None] | None = None,
) -> Encoder:
    """Train an encoder to distinguish planted defects from each other and from real windows.

    Parameters
    ----------
    windows
        Real windows of the scan's training part, shape (N, 1, H, H), in [-1, 1].
    circles
        The circles of each window, as detected.
    seed
        Same seed, same weights.
    polarity
        Of the discs.
    on_step
        Called with the number of each step and its loss, the cross-entropy.

    Raises
    ------
    UserError
        If ``circles`` are not as many as windows.
    """
    config = config or EncoderConfig()
    images, kinds = defect_examples(windows, circles, seed, polarity, config.defects)
    encoder = random_encoder(seed, config).train()
    optimiser = torch.optim.Adam(encoder.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.steps)
    rng = np.random.default_rng([seed, len(images)])
    bar = tqdm(range(config.steps), "encoder", unit="step", disable=None)
    for step in bar:
        chosen = _balanced(kinds.numpy(), config.batch, rng)
        symmetry = TURNS_FIRST[rng.integers(SYMMETRIES)]
        batch = _varied(turned_tensor(images[chosen], symmetry), rng)
        loss = cross_entropy(encoder.kind(encoder(batch)), kinds[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3g}")
        if on_step:
            on_step(step, loss.item())
    return encoder.eval()


def _balanced(kinds: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``count`` examples, every kind with the same probability."""
    sizes = np.bincount(kinds, minlength=len(KINDS))
    weight = 1 / sizes[kinds]
    return rng.choice(len(kinds), count, p=weight / weight.sum())


def _varied(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Change contrast, brightness and sharpness of each image a little, as they differ between planes."""
    ends = zip(CONTRAST, BRIGHTNESS, SOFTNESS, strict=True)
    low, high = (np.reshape(end, (3, 1)) for end in ends)
    factors = rng.uniform(low, high, (3, len(images))).astype(np.float32)
    contrast, brightness, softness = torch.from_numpy(factors)[..., None, None, None]  # (B, 1, 1, 1) each
    smooth = avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    return (contrast * torch.lerp(images, smooth, softness) + brightness).clamp(-1, 1)


@torch.inference_mode()
def features(encoder: Encoder, images: Tensor) -> np.ndarray:
    """Return the features of images (N, 1, H, W) in [-1, 1], an ndarray of shape (N, D), float64.

    Raises
    ------
    UserError
        If the images have another shape, or sides that are odd or below 16 px.
    """
    sides = images.shape[2:]
    if images.ndim != 4 or images.shape[1] != 1 or min(sides) < 16 or any(side % 2 for side in sides):
        raise UserError("images", tuple(images.shape), "must be (N, 1, H, W), sides even and at least 16 px")
    encoder.eval()
    return torch.cat([encoder(part) for part in images.split(AT_ONCE)]).double().numpy()


def save_encoder(encoder: Encoder, path: Path) -> str:
    """Write one safetensors file; return its SHA-256, which `load_encoder` asks for."""
    return write_with_card(path, encoder.state_dict(), encoder.config)


def load_encoder(path: Path, sha256: str) -> Encoder:
    """Read what `save_encoder` wrote.

    Raises
    ------
    UserError
        If the file is missing, is not the one with this ``sha256``, or holds no encoder.
    """
    weights, config = read_with_card(path, EncoderConfig, RULE, sha256)
    encoder = Encoder(config)
    fill(path, weights, encoder, RULE)
    return encoder.eval()
