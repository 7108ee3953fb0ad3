"""What a file of samples says about itself: ``new.json`` beside ``new.tif``.

An export of the file takes voxel size, periodicity and provenance from there.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from microgan import __version__
from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import digest, read_json, write_json

KIND: Literal["microgan-samples-1"] = "microgan-samples-1"


class SampleCard(Config):
    """Where the samples of a file come from.

    Attributes
    ----------
    sha256
        Of the file.
    weights_sha256
        Digest of the generator's weights.
    voxel_size_um
        Micrometres a pixel; none where it is not known.
    repaired
        How the samples were repaired, and what came of it; none where they are as drawn.
    model
        The card of the generator: its scan, its training.
    """

    kind: Literal["microgan-samples-1"] = KIND
    microgan: str = __version__
    file: str
    sha256: str
    weights_sha256: str
    count: int = Field(ge=1)
    rows: int = Field(ge=1)
    cols: int = Field(ge=1)
    seed: int = Field(ge=0)
    periodic: bool
    voxel_size_um: float | None = Field(gt=0)
    repaired: dict[str, Any] | None = None
    model: dict[str, Any]

    @classmethod
    def beside(cls, file: Path) -> Self | None:
        """Read the card of ``file``; none if there is none.

        Raises
        ------
        UserError
            If the card is broken, or the file is no longer the one that it tells of.
        """
        path = card_path(file)
        if path == file or not _is_card(path):
            return None
        card = cls.from_mapping(read_json(path), str(path))
        if card.sha256 == digest(file):
            return card
        if card.file == file.name:
            raise UserError(
                path, "card of another file", f"must tell of {file.name}; delete it or sample anew"
            )
        return None

    def write(self, folder: Path) -> Path:
        """Write the card beside its file in ``folder`` and return its path."""
        path = card_path(folder / self.file)
        write_json(path, self.model_dump())
        return path


def card_path(file: Path) -> Path:
    """Return where the card of ``file`` lies."""
    return file.with_suffix(".json")


def must_be_free_for_card(file: Path) -> None:
    """Refuse to put the card of ``file`` in the place of another kind of file.

    Raises
    ------
    UserError
        If there is one.
    """
    path = card_path(file)
    if path == file:
        raise UserError(file, "suffix .json", "must be a TIFF file, as its card gets that name")
    if path.exists() and not _is_card(path):
        raise UserError(path, "exists", f"would be replaced by the card of {file.name}, choose another name")


def _is_card(path: Path) -> bool:
    try:
        return read_json(path).get("kind") == KIND
    except (UserError, OSError):  # none, or something else
        return False
