"""``verdict.json``, beside the weights of a generator: whether it has learnt its material.

The verdict comes later than the card, once samples are judged (`microgan.evaluation.model_verdict`).
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from microgan.core.config import Config
from microgan.core.files import SHA256
from microgan.core.json_files import read_sealed_json, write_sealed_json
from microgan.core.notes import warn

VERDICT = "verdict.json"
Level = Literal["learnt", "learnt with limits", "not learnt"]
LEARNT: Level = "learnt"
WITH_LIMITS: Level = "learnt with limits"
NOT_LEARNT: Level = "not learnt"


class ModelVerdict(Config):
    """Whether a generator has learnt its material.

    Attributes
    ----------
    verdict : ``learnt``, ``learnt with limits`` or ``not learnt``
    reasons : what stands against it, in words; none where it has learnt
    figures : what it rests on; None is what cannot be told
    weights_sha256 : of the generator
    reference_sha256 : of the rules by which its samples were judged
    """

    kind: Literal["microgan-verdict-1"] = "microgan-verdict-1"
    verdict: Level
    reasons: tuple[str, ...] = ()
    figures: dict[str, float | None] = Field(default_factory=dict)
    weights_sha256: str = Field(pattern=SHA256)
    reference_sha256: str = Field(pattern=SHA256)

    @property
    def has_learnt(self) -> bool:
        """Whether the generator can be used, with limits or without."""
        return self.verdict != NOT_LEARNT

    def __str__(self) -> str:
        return f"{self.verdict}: {'; '.join(self.reasons)}" if self.reasons else self.verdict

    def save(self, path: Path) -> None:
        """Write as JSON with a digest."""
        write_sealed_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the file is missing, broken or changed by hand.
        """
        remedy = "delete it, or let the pipeline judge the model anew"
        return read_sealed_json(path, remedy, lambda content: cls.from_mapping(content, str(path)))

    @classmethod
    def beside(cls, folder: Path, weights_sha256: str) -> Self | None:
        """Read the verdict on the generator in ``folder``; none where there is none on these weights."""
        path = folder / VERDICT
        if not path.exists():
            return None
        verdict = cls.load(path)
        if verdict.weights_sha256 != weights_sha256:
            warn(f"{path}: is about other weights than those beside it, and is not used")
            return None
        return verdict
