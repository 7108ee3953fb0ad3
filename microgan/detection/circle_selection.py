"""Which of many circles are there: the strongest first, and each explains the edges inside it.

The others are then scored on the part of their edge that no accepted disc hides. So a real overlap stays
(each disc has a free arc), a second reading of one disc goes, and so does a circle in the gap between discs.
With the fit of `microgan.detection.circle_fit`, this carries dense packings, where discs touch and edges run
into each other.
"""

import numpy as np
import torch
from torch import Tensor

from microgan.detection.circle_fit import ANGLES, MIN_VISIBLE, hidden_points, neighbours

HIDDEN_DEPTH_PX = 1.0  # an edge point this deep in another disc can show no edge
# Largest fraction of the edge in the image that other discs may hide: two discs at 0.6 (r1 + r2) hide at most
# 0.4 of each other, but a circle between several discs is hidden more. The hidden fraction, times the
# penalty, is added to the score that the rest needs.
MAX_HIDDEN, HIDDEN_PENALTY = 0.5, 0.6
LENGTH_EXPONENT = 0.6  # of an arc's length in its strength: 1/2 if noise decided, 1 for explained length


def select(
    image: Tensor,
    circles: Tensor,
    values: Tensor,
    inside: Tensor,
    threshold: float,
    min_separation: float,
) -> tuple[Tensor, Tensor]:
    """Select circles, the strongest first; each accepted one explains the edges inside it.

    Parameters
    ----------
    values, inside : Tensors of shape (n, ANGLES)
        Of `inward`, on the normalised gradient.
    threshold : float
        Least mean of ``values`` on the visible arc.
    min_separation : float
        Circles closer than this fraction of the sum of their radii are two readings of one disc. Keep it
        below the separation of overlapping discs that must still be found.

    Returns
    -------
    selected : bool Tensor of shape (n,)
    score : Tensor of shape (n,)
        Mean of ``values`` on the visible arc, at most 1.
    """
    pairs, distance = neighbours(image, circles)
    radius, edge_values = circles[:, 2].cpu().numpy(), values.cpu().numpy()
    first, second = pairs.T
    same = distance < min_separation * (radius[first] + radius[second])
    hidden = hidden_points(circles.cpu().numpy(), first, second, HIDDEN_DEPTH_PX)
    visible = inside.cpu().numpy().copy()
    in_image = visible.sum(1)
    score, strength = _arc_score(edge_values, visible, radius, in_image, threshold)
    undecided, selected = strength > 0, np.zeros(len(radius), bool)
    while undecided.any():
        # Everything that beats all its undecided rivals is accepted at once, in all images.
        rivals = undecided[first] & undecided[second]
        strongest_rival = np.full(len(radius), -np.inf)
        np.maximum.at(strongest_rival, first[rivals], strength[second[rivals]])
        accepted = undecided & (strength >= strongest_rival)
        tied = rivals & accepted[first] & accepted[second] & (first > second)
        accepted[first[tied]] = False
        selected |= accepted
        undecided &= ~accepted
        explained = accepted[second] & undecided[first]
        undecided[first[explained & same]] = False
        np.logical_and.at(visible, first[explained], ~hidden[explained])
        changed = np.unique(first[explained])
        score[changed], strength[changed] = _arc_score(
            edge_values[changed], visible[changed], radius[changed], in_image[changed], threshold
        )
        undecided &= strength > 0
    device = circles.device
    return torch.from_numpy(selected).to(device), torch.from_numpy(score).to(circles)


def _arc_score(
    edge_values: np.ndarray, visible: np.ndarray, radius: np.ndarray, in_image: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean on the visible arc, and the strength by which circles are ranked: 0 or less means none.

    A long arc is better evidence than a short one at the same mean.
    """
    points = visible.sum(1)
    score = np.minimum((edge_values * visible).sum(1) / np.maximum(points, 1), 1.0)
    hidden = 1 - points / np.maximum(in_image, 1)
    strength = (score - threshold - HIDDEN_PENALTY * hidden) * (radius * points) ** LENGTH_EXPONENT
    is_enough = (points >= MIN_VISIBLE * ANGLES) & (hidden <= MAX_HIDDEN)
    return score, np.where(is_enough, strength, -1.0)
