"""Planted defects: images changed in one known way that no microstructure shows, to test and to teach.

`plant` changes one image in one way; the rest of it stays as it was. The brush (`microgan.validity.planting`)
takes all grey from the image itself, so that a result is rejected for its defect, not for traces of painting;
`CONTROLS` are the same traces without a defect.

Images of dark discs are negated before and after. Coordinates are (row, col), pixel centres at integers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from microgan.detection.circles import Circles
from microgan.detection.detector import Polarity
from microgan.validity.planting.brush import Planted, Scene
from microgan.validity.planting.controls import disc_moved, disc_put_back, missing_disc
from microgan.validity.planting.disc_defects import (
    bridge,
    bright_disc,
    broken_rim,
    dissolving_disc,
    ellipse,
    faint_disc,
    half_formed_disc,
    merged_pair,
    overlap,
    partial_disc,
    wrong_radius,
)
from microgan.validity.planting.image_defects import (
    blank,
    blurred,
    checkerboard_patch,
    lattice,
    noise,
    noise_patch,
    seam,
    shapeless_patch,
)


def plant(
    name: str,
    image: np.ndarray,
    circles: Circles,
    rng: np.random.Generator,
    polarity: Polarity = "bright",
    **degree: Any,
) -> np.ndarray | None:
    """Plant one defect, or one control, into an image.

    Parameters
    ----------
    name : one of `DEFECTS` or `CONTROLS`
    image : ndarray of shape (H, W), float, grey values in [-1, 1]
    circles : Circles
        The discs of the image, as drawn or as detected; circles that fit badly leave traces.
    rng : numpy.random.Generator
        Chooses the disc, the direction and the degree. The same state gives the same image.
    polarity : {"bright", "dark"}
        Of the discs.
    **degree
        How large the defect is: the keyword arguments of the function of that name in
        `microgan.validity.planting`.

    Returns
    -------
    ndarray of shape (H, W) and the type of ``image``, in [-1, 1]; None where the image has no place for it

    Raises
    ------
    ValueError
        If the defect is unknown or the image is not two-dimensional.
    """
    planted = plant_and_show(name, image, circles, rng, polarity, **degree)
    return None if planted is None else planted.grey


def plant_and_show(
    name: str,
    image: np.ndarray,
    circles: Circles,
    rng: np.random.Generator,
    polarity: Polarity = "bright",
    **degree: Any,
) -> Planted | None:
    """As `plant`, and where in the image the defect is."""
    if name not in _PLANTERS:
        raise ValueError(f"name: {name!r}: must be one of {', '.join(_PLANTERS)}")
    if image.ndim != 2:
        raise ValueError(f"image: shape {image.shape}: must be (H, W)")
    sign = -1 if polarity == "dark" else 1
    planted = _PLANTERS[name](Scene.of(sign * image, circles), rng, **degree)
    if planted is None:
        return None
    return Planted(np.clip(sign * planted.grey, -1, 1).astype(image.dtype), planted.where)


def plant_into(name: str, scene: Scene, rng: np.random.Generator, **degree: Any) -> Planted | None:
    """As `plant`, into a scene of bright discs that is known already."""
    return _PLANTERS[name](scene, rng, **degree)


def _by_name(*planters: Callable[..., Planted | None]) -> dict[str, Callable[..., Planted | None]]:
    return {planter.__name__: planter for planter in planters}


_OF_DISCS = _by_name(
    overlap,
    merged_pair,
    ellipse,
    faint_disc,
    wrong_radius,
    partial_disc,
    bright_disc,
    half_formed_disc,
    dissolving_disc,
    broken_rim,
    bridge,
)
_OF_IMAGES = _by_name(blank, noise, lattice, blurred, seam, checkerboard_patch, shapeless_patch, noise_patch)
_CONTROLS = _by_name(disc_put_back, disc_moved, missing_disc)
_PLANTERS = _OF_DISCS | _OF_IMAGES | _CONTROLS
DEFECTS = (*_OF_DISCS, *_OF_IMAGES)
CONTROLS = tuple(_CONTROLS)
