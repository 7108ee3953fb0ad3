"""What the network learns from: sound images, and the same with one planted defect.

Sound images are real windows, and random packings, which hold no fault by construction. Many have traces of
the brush: a disc put back, moved or erased. So neither these traces nor drawn discs mean a fault.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from microgan.detection.circles import Circles
from microgan.detection.detector import Polarity
from microgan.validity.planted_defects import CONTROLS, plant_into
from microgan.validity.planting.brush import Planted, Scene

# The defects of single discs and small places, and how large they are. Left out are ellipses, as real fibres
# are not quite round; noise in a patch, which belongs to the scanner; defects of whole images, which other
# rules see.
TAUGHT: Mapping[str, Mapping[str, Any]] = {
    "overlap": {"degree": (0.1, 0.45)},
    "merged_pair": {},
    "faint_disc": {},
    "wrong_radius": {"factor": (0.5, 0.6, 1.5, 1.6)},
    "partial_disc": {},
    "bright_disc": {},
    "half_formed_disc": {},
    "dissolving_disc": {},
    "broken_rim": {"angle_rad": (1.2, 2.0), "depth": (0.5, 0.8)},
    "bridge": {"width_radii": (0.6, 1.0)},
    "checkerboard_patch": {},
    "shapeless_patch": {"radius_radii": (2.0, 9.0)},
}
KINDS = tuple(TAUGHT)
OVERLAPS = 0.3  # fraction of the defects that are overlaps, beside their turn: the hardest to see
MOST_CONTROLS = 3  # in a sound image; one less in an image with a defect, so that they tell nothing


@dataclass(frozen=True)
class Lessons:
    """Images of bright discs, and what is wrong with them.

    Attributes
    ----------
    images : Tensor (n, 1, S, S), float32, in [-1, 1]
    where : Tensor (n, S, S), bool, the pixels of the defect
    kind : Tensor (n,), int64; 0: sound, k: `KINDS` [k - 1]
    """

    images: Tensor
    where: Tensor
    kind: Tensor

    @classmethod
    def of(
        cls, windows: Tensor, circles: Sequence[Circles], seed: int, polarity: Polarity = "bright"
    ) -> Self:
        """Plant into sound windows (N, 1, S, S): of each, one image without a defect and one with it."""
        sign = np.float32(-1 if polarity == "dark" else 1)
        planted: list[tuple[Planted, int]] = []
        for index, discs in enumerate(circles):
            scene = Scene.of(sign * windows[index, 0].numpy(), discs)
            planted += _images(scene, np.random.default_rng([seed, index]))
        greys = np.stack([one.grey for one, _ in planted])
        return cls(
            torch.from_numpy(np.clip(greys, -1, 1).astype(np.float32))[:, None],
            torch.from_numpy(np.stack([one.where for one, _ in planted])),
            torch.tensor([kind for _, kind in planted]),
        )

    def __add__(self, other: Self) -> Self:
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("images", "where", "kind"))
        return type(self)(*(torch.cat(pair) for pair in pairs))

    def __len__(self) -> int:
        return len(self.kind)


def _images(scene: Scene, rng: np.random.Generator) -> list[tuple[Planted, int]]:
    sound = _with_controls(scene, rng, MOST_CONTROLS)
    images = [(Planted(sound.grey, np.zeros(sound.grey.shape, bool)), 0)]
    name = "overlap" if rng.random() < OVERLAPS else str(rng.choice(KINDS))
    planted = plant_into(name, _with_controls(scene, rng, MOST_CONTROLS - 1), rng, **TAUGHT[name])
    if planted is not None:
        images.append((planted, 1 + KINDS.index(name)))
    return images


def _with_controls(scene: Scene, rng: np.random.Generator, most: int) -> Scene:
    for name in rng.choice(CONTROLS, rng.integers(most + 1)).tolist():
        planted = plant_into(name, scene, rng)
        scene = scene if planted is None else scene.after(planted)
    return scene
