"""Whether the parts of a scan are independent: planes that lie close together show the same fibres.

What is held out must be new to the models. A plane whose neighbour was learnt from is not.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from microgan.scan.planes import Planes

LARGEST_CORRELATION = 0.3  # of two independent planes; those of fibres at random places have about 0


@dataclass(frozen=True)
class Dependence:
    """Two planes of different parts that are alike.

    Attributes
    ----------
    planes : their numbers
    roles : the part of each
    correlation : of their grey values (Pearson), where both show the specimen
    """

    planes: tuple[int, int]
    roles: tuple[str, str]
    correlation: float

    def __str__(self) -> str:
        (first, second), (role, other) = self.planes, self.roles
        return (
            f"planes {first} ({role}) and {second} ({other}): grey values correlate by {self.correlation:.2f}"
            f", independent ones by less than {LARGEST_CORRELATION:g}: leave planes between the parts unused"
        )


def dependent_parts(planes: Planes) -> list[Dependence]:
    """Return the pairs of consecutive planes, each wholly of one part, whose parts differ but not their grey.

    Parts that share planes, as bands of rows, are not looked at: a margin of rows separates those.
    """
    role_of: dict[int, set[str]] = {}
    for role, boxes in planes.info.regions.items():
        for plane, *_ in boxes:
            role_of.setdefault(plane, set()).add(role)
    dependent = []
    for first, second in pairwise(sorted(role_of)):
        if role_of[first] == role_of[second]:
            continue
        both = planes.mask[first] & planes.mask[second]
        correlation = grey_correlation(planes.grey[first], planes.grey[second], both)
        if correlation > LARGEST_CORRELATION:
            names = tuple(" and ".join(sorted(role_of[plane])) for plane in (first, second))
            dependent.append(Dependence((first, second), (names[0], names[1]), correlation))
    return dependent


def grey_correlation(first: np.ndarray, second: np.ndarray, both: np.ndarray) -> float:
    """Return the correlation (Pearson) of two planes (H, W) where ``both`` (H, W) show the specimen."""
    grey = [np.asarray(plane, np.float64)[both] for plane in (first, second)]
    if not both.any() or min(values.std() for values in grey) == 0:
        return 0.0
    return float(np.corrcoef(*grey)[0, 1])
