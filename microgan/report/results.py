"""What the report shows of one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from microgan.samples.verdict_file import ModelVerdict


@dataclass(frozen=True)
class LargeCell:
    """A large periodic image, judged by all of its windows.

    Attributes
    ----------
    image
        Shape (H, W), in [-1, 1].
    windows, valid_windows
        How many windows were judged, half a window apart, and how many of these are valid.
    overlapping
        Pairs of discs in the whole image that overlap by more than the rules allow.
    """

    image: np.ndarray
    windows: int
    valid_windows: int
    overlapping: int


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
    validations
        Rows of the checkpoint selection: ``step``, ``score``, ``score_error`` and the parts of the score.
    training_steps, training_seconds
        Length of the training, in all where it was interrupted.
    kept_step
        Training step after which the kept checkpoint was made.
    environment
        Of the training, in words: ``ended`` (UTC), ``machine``, ``device``, ``software``, ``git_commit``,
        ``seed``; what is not known is left out.
    verdict
        Whether it has learnt its material; None of a baseline.
    cell
        A large periodic image that the model drew, or None.
    weights_sha256
        SHA-256 of the file of the weights.
    drawn
        Figures that earlier stages drew, where there are: ``contact_sheet`` (samples with circles and
        verdicts), ``rules`` (what the rules measure on real windows and samples),
        ``nearest_training_windows`` (the samples that come nearest to training windows, beside these),
        ``judge`` (the valid samples that the judge of faults finds worst), ``given_away`` (the samples that a
        classifier tells most surely from real windows). A path
        with another suffix beside it (``.svg``) is the same figure in vectors.
    """

    name: str
    validity: Mapping[str, Any]
    fidelity: Mapping[str, Any]
    curves: Mapping[str, Any]
    valid_samples: np.ndarray
    rejected_samples: np.ndarray
    rejection_reasons: Sequence[Sequence[str]]
    training_log: Sequence[Mapping[str, float]] = ()
    validations: Sequence[Mapping[str, float]] = ()
    training_steps: int | None = None
    kept_step: int | None = None
    training_seconds: float | None = None
    weights_sha256: str = "unknown"
    environment: Mapping[str, str] = field(default_factory=dict)
    verdict: ModelVerdict | None = None
    cell: LargeCell | None = None
    drawn: Mapping[str, Path] = field(default_factory=dict)

    @property
    def has_learnt(self) -> bool:
        """Whether nothing says that it has not learnt its material."""
        return self.verdict is None or self.verdict.has_learnt
