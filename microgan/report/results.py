"""What the report shows of one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ModelResult:
    """What the report shows of one model, or of the baseline.

    Attributes
    ----------
    name
        Such as ``wgan_gp``.
    validity
        Content of validity.json: ``pass_rate``, ``reference_pass_rate``, ``n``, ``rejected_by``,
        ``reference_rejected_by``.
    fidelity, curves
        Content of fidelity.json and curves.json, from `microgan.evaluation.fidelity.evaluate`.
    valid_samples, rejected_samples
        Samples (n, H, W) in [-1, 1]; the first few are shown.
    rejection_reasons
        Reason codes of each of the rejected samples.
    training_log
        Rows of the training log: ``step``, ``critic_loss``, ``generator_loss``. A baseline that does not
        learn has none, nor what follows.
    training_steps, training_seconds
        Length of the training.
    kept_step
        Training step after which the kept checkpoint was made.
    weights_sha256
        SHA-256 of the file of the weights.
    rules_figure
        PNG of what the rules measure on real windows and samples, or None.
    nearest_training_windows_figure
        PNG of the samples that come nearest to training windows, beside these, or None.
    """

    name: str
    validity: Mapping[str, Any]
    fidelity: Mapping[str, Any]
    curves: Mapping[str, Any]
    valid_samples: np.ndarray
    rejected_samples: np.ndarray
    rejection_reasons: Sequence[Sequence[str]]
    training_log: Sequence[Mapping[str, float]] = ()
    training_steps: int | None = None
    kept_step: int | None = None
    training_seconds: float | None = None
    weights_sha256: str = "unknown"
    rules_figure: Path | None = None
    nearest_training_windows_figure: Path | None = None
