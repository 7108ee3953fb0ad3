"""What an export starts from: structures as images and circles, and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from torch import Tensor

from microgan.core.errors import UserError
from microgan.statistics.point_patterns import Discs
from microgan.validity.phase import phase_image
from microgan.validity.reference import Reference

LABEL_PAIRS = ((0, 1), (1, 2), (0, 255), (0, 65535))  # (matrix, disc phase) in foreign files


class Verdict(Protocol):
    """What the export needs of a verdict, such as `microgan.validity.judging.Verdict`."""

    @property
    def valid(self) -> bool: ...

    @property
    def reasons(self) -> Sequence[str]: ...


class VerdictWithCircles(Verdict, Protocol):
    """The same, with the circles of the image that was judged."""

    @property
    def circles(self) -> Discs: ...


@dataclass(frozen=True)
class ExportInput:
    """Structures to export; entry n of every part belongs to structure n.

    Attributes
    ----------
    phase
        Phase (N, H, W) of bool, true in the disc phase.
    grey
        Grey values (N, H, W) in the scan's own type, if there are any.
    circles
        The circles of each structure in pixels, if they are known.
    verdicts
        Verdict of each structure, if it was judged.
    sources
        Name of each structure where it comes from, such as ``generated.tif[12]``, if it has one.
    periodic
        Whether opposite borders fit together.
    discs_are_dark
        Whether discs are darker than the matrix, as voids are.

    Raises
    ------
    UserError
        If shapes or numbers do not fit each other, or there is no structure.
    """

    phase: np.ndarray
    grey: np.ndarray | None = None
    circles: Sequence[Discs] | None = None
    verdicts: Sequence[Verdict] | None = None
    sources: Sequence[str] | None = None
    periodic: bool = False
    discs_are_dark: bool = False

    def __post_init__(self) -> None:
        phase, grey = self.phase, self.grey
        if phase.ndim != 3 or phase.dtype != np.bool_ or phase.size == 0:
            given = f"{phase.dtype} of shape {phase.shape}"
            raise UserError("phase", given, "must be bool of shape (N, rows, cols), at least one structure")
        if grey is not None and grey.shape != phase.shape:
            raise UserError("grey", f"shape {grey.shape}", f"must be as the phase, {phase.shape}")
        for name in ("circles", "verdicts", "sources"):
            rows = getattr(self, name)
            if rows is not None and len(rows) != len(phase):
                raise UserError(name, len(rows), f"must be as many as structures, {len(phase)}")

    def __len__(self) -> int:
        return len(self.phase)

    @classmethod
    def judged(
        cls,
        images: Tensor,
        verdicts: Sequence[VerdictWithCircles],
        reference: Reference,
        *,
        grey: np.ndarray | None = None,
        sources: Sequence[str] | None = None,
        periodic: bool = False,
    ) -> Self:
        """Return judged images as structures: phase by the reference's threshold, circles of the verdicts.

        Parameters
        ----------
        images
            Normalised grey values (N, 1, H, W).
        verdicts
            Of `microgan.judge`, one for each image.
        reference
            By which the images were judged.
        grey
            The same images (N, H, W) in the scan's own grey values; computed from ``images`` by default.
        sources, periodic
            As in the attributes.
        """
        return cls(
            phase_image(images, reference).numpy(),
            reference.scan.denormalise(images[:, 0].numpy()) if grey is None else grey,
            [verdict.circles for verdict in verdicts],
            verdicts,
            sources,
            periodic,
            reference.scan.polarity == "dark",
        )

    @property
    def is_valid(self) -> np.ndarray:
        """Which structures (N,) are valid, bool; all, where none was judged."""
        if self.verdicts is None:
            return np.ones(len(self), bool)
        return np.array([bool(verdict.valid) for verdict in self.verdicts])

    def where(self, keep: np.ndarray) -> Self:
        """Return the structures where ``keep`` (N,) of bool is true.

        Raises
        ------
        UserError
            If there is none.
        """
        rows = np.flatnonzero(keep).tolist()

        def kept(values: Sequence[Any] | None) -> list[Any] | None:
            return None if values is None else [values[row] for row in rows]

        return replace(
            self,
            phase=self.phase[rows],
            grey=None if self.grey is None else self.grey[rows],
            circles=kept(self.circles),
            verdicts=kept(self.verdicts),
            sources=kept(self.sources),
        )


def phase_from_labels(labels: np.ndarray, where: object) -> np.ndarray:
    """Return the disc phase of images of labels from elsewhere.

    The values of all images together must be bool or one of the pairs (matrix, disc phase) 0/1, 1/2, 0/255,
    0/65535. Images of a single value are accepted if it means the same in every pair that has it; 1 does not.

    Parameters
    ----------
    labels
        Images (N, H, W).
    where
        File, for the message of the error.

    Returns
    -------
    ndarray of shape (N, H, W)
        Bool, true in the disc phase.

    Raises
    ------
    UserError
        If the values are no such pair.

    Examples
    --------
    >>> phase_from_labels(np.array([[[1, 2]]]), "cell.tif")
    array([[[False,  True]]])
    """
    values = np.unique(labels)
    rule = "phase image must hold two values: 0/1, 1/2, 0/255 or 0/65535 (matrix/disc phase)"
    if len(values) > 2:
        among = f"from {values[0]} to {values[-1]}" if len(values) > 8 else f"({', '.join(map(str, values))})"
        raise UserError(where, f"{len(values)} values {among}", rule)
    pairs = [pair for pair in LABEL_PAIRS if set(values.tolist()) <= set(pair)]
    if not pairs or len({values[-1] == pair[1] for pair in pairs}) > 1:
        raise UserError(where, " and ".join(map(str, values)), rule)
    return labels == pairs[0][1]
