"""Bounds of Hashin and Shtrikman for moduli across long fibres, of any number of phases and holes."""

from collections.abc import Sequence

import numpy as np


def transverse_bounds(
    fractions: Sequence[float], bulk_gpa: Sequence[float], shear_gpa: Sequence[float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return lower and upper bound of the bulk modulus under plane strain, and of the shear modulus, GPa.

    They hold for composites that are isotropic in the plane, whatever the shape of the phases; in any other
    cell for the moduli of the isotropic part of the stiffness.

    Parameters
    ----------
    fractions
        Volume fraction of each phase.
    bulk_gpa
        Bulk modulus of each phase under plane strain; 0 for a hole.
    shear_gpa
        Shear modulus of each phase; 0 for a hole.

    References
    ----------
    L. J. Walpole, On the overall elastic moduli of composite materials, Journal of the Mechanics and Physics
    of Solids 17 (1969) 235-251.

    Examples
    --------
    >>> transverse_bounds([0.5, 0.5], [4.0, 0.0], [1.0, 0.0])
    ((0.0, 0.6666666666666667), (0.0, 0.2857142857142857))
    """
    weights, bulk, shear = (np.asarray(values, float) for values in (fractions, bulk_gpa, shear_gpa))
    low, high = ((end(shear), _shear_shift(end(bulk), end(shear))) for end in (np.min, np.max))
    return (
        (_shifted_mean(weights, bulk, low[0]), _shifted_mean(weights, bulk, high[0])),
        (_shifted_mean(weights, shear, low[1]), _shifted_mean(weights, shear, high[1])),
    )


def _shear_shift(bulk: float, shear: float) -> float:
    return shear * bulk / (bulk + 2 * shear) if shear > 0 else 0.0


def _shifted_mean(weights: np.ndarray, moduli: np.ndarray, shift: float) -> float:
    """Harmonic mean of the moduli, each larger by ``shift``, less the shift."""
    there = weights > 0
    if (moduli[there] + shift <= 0).any():
        return 0.0
    return float(1 / (weights[there] / (moduli[there] + shift)).sum() - shift)
