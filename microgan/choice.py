"""What says which of a training's generators to keep: how well physics and statistics like its samples.

Physics alone would keep an early one: its discs are cleaner than real ones, break no rule, are all of one
grey and have no grain. So a pass rate counts no higher than that of real windows from another place, and what
grey values, correlation and spectrum are off beyond what such windows are off is taken away.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from microgan.descriptors import two_point_correlation
from microgan.planes import Planes
from microgan.rules import RULES
from microgan.validity import Reference, judge, pass_rate, phase_image
from microgan.windows import Windows

REAL_WINDOWS = 1000  # on which the figures of the scan rest
QUANTILES = np.linspace(0.001, 0.999, 500)  # by which distributions of grey values are compared
LEAST_PASS_RATE = 1e-9  # of the scan, where not even its own windows pass
NO_POWER = 1e-12  # of an image without any structure, where its logarithm would have no end


@dataclass(frozen=True)
class Choice:
    """Judges samples on calibration windows; the held-out ones are for the final figures alone.

    Attributes
    ----------
    reference
        The rules of validity. Those of the user's own do not take part.
    pass_rate
        Share of calibration windows that pass.
    attainable
        Share of training windows that pass, over that, at most 1: as good as real.
    grey, spread
        Quantiles of the grey values of calibration windows over their standard deviation, and that.
    two_point
        Two-point correlation of calibration windows, by lag.
    spectrum
        Mean power spectrum of calibration windows, by frequency.
    grey_floor, two_point_floor, spectrum_floor
        Distance of those of training windows from them.
    """

    reference: Reference
    pass_rate: float
    attainable: float
    grey: np.ndarray
    spread: float
    two_point: np.ndarray
    spectrum: np.ndarray
    grey_floor: float
    two_point_floor: float
    spectrum_floor: float

    @classmethod
    def on(cls, planes: Planes, reference: Reference, seed: int) -> "Choice":
        """Measure the calibration windows of a scan, and the training windows for the floor."""
        rng = np.random.default_rng(seed)
        limits = {name: limit for name, limit in reference.limits.items() if name in RULES}
        reference = reference.model_copy(update={"own": {}, "limits": limits})
        real, train = (
            Windows(planes, role, reference.window_px).draw(rng, REAL_WINDOWS)
            for role in ("calibration", "train")
        )
        correlation, of_train = (two_point(phase_image(windows, reference)) for windows in (real, train))
        spectrum, spread = power_spectrum(real), float(real.std())
        grey = _quantiles(real) / spread
        train_share = pass_rate(judge(train, reference, progress=False))
        return cls(
            reference,
            pass_rate=reference.calibration_pass_rate,
            attainable=min(train_share / max(reference.calibration_pass_rate, LEAST_PASS_RATE), 1.0),
            grey=grey,
            spread=spread,
            two_point=correlation,
            spectrum=spectrum,
            grey_floor=float(wasserstein_distance(_quantiles(train) / spread, grey)),
            two_point_floor=_distance(of_train, correlation),
            spectrum_floor=_log_distance(power_spectrum(train), spectrum),
        )

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Judge samples (n, 1, H, W) in [-1, 1].

        Returns
        -------
        dict
            ``pass_rate_ratio``: share of samples that pass, over that of calibration windows.
            ``grey_error``: Wasserstein-1 distance of the grey values, over the scan's standard deviation.
            ``two_point_error``: relative L2 distance of the two-point correlations.
            ``spectrum_error``: root mean square, over frequencies, of the logarithm of the ratio of powers.
            ``score``: the first, at most what training windows attain, minus what the others are above their
            noise floors, which training windows have, too.
            ``score_error``: standard error of the first, from as many samples.
        """
        share = pass_rate(judge(samples, self.reference, progress=False))
        real = max(self.pass_rate, LEAST_PASS_RATE)
        ratio = share / real
        grey_error = float(wasserstein_distance(_quantiles(samples) / self.spread, self.grey))
        two_point_error = _distance(two_point(phase_image(samples, self.reference)), self.two_point)
        spectrum_error = _log_distance(power_spectrum(samples), self.spectrum)
        beyond = (
            grey_error - self.grey_floor,
            two_point_error - self.two_point_floor,
            spectrum_error - self.spectrum_floor,
        )
        return {
            "pass_rate_ratio": ratio,
            "grey_error": grey_error,
            "two_point_error": two_point_error,
            "spectrum_error": spectrum_error,
            "score": min(ratio, self.attainable) - sum(max(excess, 0.0) for excess in beyond),
            "score_error": math.sqrt(share * (1 - share) / len(samples)) / real,
        }


def two_point(phase: Tensor) -> np.ndarray:
    """Return the mean two-point correlation by lag of phase images (n, H, W), bool."""
    return two_point_correlation(phase.numpy()).mean(0)


def power_spectrum(images: Tensor) -> np.ndarray:
    """Return the mean power spectrum of images (n, 1, S, S), in rings of 1 to S // 2 periods a side.

    Each image has its mean taken off and a Hann window put on.
    """
    side = images.shape[-1]
    taper = torch.hann_window(side, periodic=False)
    centred = images[:, 0] - images.mean(dim=(2, 3))[..., None]
    power = torch.fft.fft2(centred * taper[:, None] * taper).abs().square().mean(0).numpy().ravel()
    frequency = np.fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(frequency[:, None], frequency)).astype(int).ravel()
    return (np.bincount(ring, power) / np.bincount(ring))[1 : side // 2 + 1]


def _quantiles(images: Tensor) -> np.ndarray:
    return np.quantile(images.numpy(), QUANTILES)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def _log_distance(one: np.ndarray, other: np.ndarray) -> float:
    logarithms = (np.log(np.maximum(power, NO_POWER)) for power in (one, other))
    return float(np.sqrt(np.mean(np.square(np.subtract(*logarithms)))))
