"""Whether calibrated rules can protect at all: what is told, and what is refused.

Limits always exist, since real windows always have quantiles. They protect only where the detector finds
the discs, and where they are narrow enough for a fault to leave them. Two findings are told: radii that pile
up at an end of the band, and faults that are rejected no more often than real windows. One is refused: rules
that let most images pass that are no microstructure at all.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from microgan.core.errors import UserError
from microgan.validity.reference import DetectionRate

END_PX = 0.5  # a radius nearer than this to an end of the band, or beyond it, is at that end
MOST_AT_END = 0.05  # fraction of the radii that may be, and
MOST_OVER_NEXT = (
    0.5  # over the fraction in the next pixel of the band: a distribution that ends by itself falls
)
WIDER = 0.5  # the band that is proposed: so much of its width more at that end
# Images without any microstructure. Rules that let more than half of these pass are of no use.
NO_MICROSTRUCTURE = ("blank", "noise", "blurred", "lattice")
LEAST_REJECTED = 0.5


def radius_doubts(radii_px: np.ndarray, band_px: tuple[float, float]) -> list[str]:
    """Say where radii pile up at an end of the band: larger or smaller discs are there and are not found.

    Parameters
    ----------
    radii_px
        Radii (n,) of all discs in real windows.
    band_px
        Smallest and largest radius that was searched for.

    Examples
    --------
    >>> radius_doubts(np.array([4.1, 4.2, 6.0, 6.1]), (4, 8))
    ["radius_px: 50 % of the discs are at the band's lower end, 4: smaller ones are missed: try [2, 8]"]
    """
    if not len(radii_px):
        return []
    least, largest = band_px
    more = WIDER * (largest - least)
    ends = {
        "lower": (radii_px - least, least, "smaller", (max(1.0, np.floor(least - more)), largest)),
        "upper": (largest - radii_px, largest, "larger", (least, np.ceil(largest + more))),
    }
    doubts = []
    for name, (inside_px, end, missed, band) in ends.items():
        at_end, next_to_it = inside_px < END_PX, (inside_px >= END_PX) & (inside_px < END_PX + 1)
        if at_end.mean() > max(MOST_AT_END, MOST_OVER_NEXT * next_to_it.mean()):
            there = f"{100 * at_end.mean():.0f} % of the discs are at the band's {name} end, {end:g}"
            wider = f"try [{band[0]:g}, {band[1]:g}]"
            doubts.append(f"radius_px: {there}: {missed} ones are missed: {wider}")
    return doubts


def protection_doubts(rates: Mapping[str, DetectionRate], held_out_pass_rate: float) -> list[str]:
    """Say which planted faults are rejected no more often than real held-out windows.

    Parameters
    ----------
    rates
        Kind of planted fault -> how often the rules reject it.
    held_out_pass_rate
        Fraction of real held-out windows that pass.

    Raises
    ------
    UserError
        If more than half of the images without any microstructure pass.
    """
    gross = [rates[name].rate for name in NO_MICROSTRUCTURE if name in rates]
    if gross and np.mean(gross) < LEAST_REJECTED:
        given = f"{100 * np.mean(gross):.0f} % of blank, noisy, blurred and crystalline images are rejected"
        rule = f"must be at least {100 * LEAST_REJECTED:.0f} %: such limits protect from nothing"
        hint = "are radius band, polarity, weights and limits by hand as intended?"
        raise UserError("calibrate", given, f"{rule}; {hint}")
    real = 1 - held_out_pass_rate
    missed = [name for name, rate in rates.items() if rate.interval[0] <= real]
    if not missed:
        return []
    kinds = ", ".join(f"{name} {100 * rates[name].rate:.0f} %" for name in missed)
    return [f"rejected no more often than real windows ({100 * real:.0f} %), so not filtered out: {kinds}"]


def all_doubts(
    radii_px: Sequence[np.ndarray],
    band_px: tuple[float, float],
    rates: Mapping[str, DetectionRate],
    held_out_pass_rate: float | None,
) -> list[str]:
    """Return all doubts, a sentence each; parameters as above, radii by window."""
    radii = np.concatenate([np.zeros(0), *radii_px])
    doubts = radius_doubts(radii, band_px)
    return doubts if held_out_pass_rate is None else doubts + protection_doubts(rates, held_out_pass_rate)
