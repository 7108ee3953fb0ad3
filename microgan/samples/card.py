"""Where the samples of a file come from: the card ``new.json`` beside ``new.tif``.

The command line and the pipeline write the same card. An export of the file takes voxel size, periodicity and
provenance from it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from microgan import __version__
from microgan.core.config import Config, VoxelSizeUm
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.files import SHA256, file_sha256
from microgan.core.json_files import read_json, read_sealed_json, write_sealed_json
from microgan.core.notes import warn
from microgan.samples.verdict_file import ModelVerdict

KIND: Literal["microgan-samples-1"] = "microgan-samples-1"
OWN_FIELDS = {"kind", "sha256", "weights_sha256", "packing_sha256", "periodic"}  # by which a card is known


class SampleConfig(Config):
    """Number of samples, and the seed of their random numbers."""

    count: int = Field(1000, ge=1)
    seed: int = Field(0, ge=0)


class SampleCard(Config):
    """Where the samples of a file come from.

    Attributes
    ----------
    microgan
        Version that drew the samples.
    file, sha256
        Name of the file and its SHA-256.
    weights_sha256
        SHA-256 of the generator's weights, ``generator.safetensors``; none where there is no generator.
    packing_sha256
        SHA-256 of the fitted random packing, ``packing.json``; none where there is a generator.
    count, rows, cols
        Number of images, and the size of each, px.
    seed
        Seed of the random numbers.
    periodic
        Whether opposite borders fit together.
    clean
        Whether they lack the scanner's noise, which images have that a reference's limits were fixed on.
    voxel_size_um
        Micrometres a pixel; none where it is not known.
    repaired
        How the samples were repaired, and with which result; none where they were not repaired.
    selected
        Of how many samples these are the valid ones, and by which reference; none where they are all.
    model
        The card of the generator, ``model.json``, or of the random packing: scan, training or fit.
    """

    kind: Literal["microgan-samples-1"] = KIND
    microgan: str = __version__
    file: str
    sha256: str = Field(pattern=SHA256)
    weights_sha256: str | None = Field(None, pattern=SHA256)
    packing_sha256: str | None = Field(None, pattern=SHA256)
    count: int = Field(ge=1)
    rows: int = Field(ge=1)
    cols: int = Field(ge=1)
    seed: int = Field(ge=0)
    periodic: bool
    clean: bool = False
    voxel_size_um: VoxelSizeUm | None
    repaired: dict[str, Any] | None = None
    selected: dict[str, Any] | None = None
    model: dict[str, Any]

    @classmethod
    def of(
        cls,
        file: Path,
        model: Mapping[str, Any],
        config: SampleConfig,
        domain: Domain,
        *,
        packing_sha256: str | None = None,
        clean: bool = False,
        repaired: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the card of a finished file of samples.

        Parameters
        ----------
        file
            The samples.
        model
            The card of what drew them, with the scan and, for a generator, ``weights_sha256``.
        config
            Number of samples and seed.
        domain
            Size of each image, and whether it is periodic.
        packing_sha256, clean, repaired
            As in the attributes.
        """
        return cls(
            file=file.name,
            sha256=file_sha256(file),
            weights_sha256=model.get("weights_sha256"),
            packing_sha256=packing_sha256,
            count=config.count,
            rows=domain.rows,
            cols=domain.cols,
            seed=config.seed,
            periodic=domain.periodic,
            clean=clean,
            voxel_size_um=model["scan"].get("voxel_size_um"),
            repaired=None if repaired is None else dict(repaired),
            model=dict(model),
        )

    @property
    def verdict_on_model(self) -> ModelVerdict | None:
        """Whether the model has learnt its material, where that was known when the samples were drawn."""
        content = self.model.get("verdict")
        where = f"{card_path(Path(self.file))}: verdict"
        return None if content is None else ModelVerdict.from_mapping(content, where)

    @classmethod
    def beside(cls, file: Path) -> Self | None:
        """Read the card of ``file``; none if there is none.

        Raises
        ------
        UserError
            If the card is broken or was changed by hand, or the file has changed since the card was written.
            A JSON file of another kind is no card; of the card of a file of another name a warning says so.
        """
        path = card_path(file)
        if path == file or not path.exists() or not _may_be_card(read_json(path)):
            return None
        remedy = f"delete it or sample {file.name} anew"
        card = read_sealed_json(path, remedy, lambda content: cls.from_mapping(content, str(path)))
        if card.sha256 == file_sha256(file):
            return card
        if card.file == file.name:
            raise UserError(
                path, "card of another file", f"must be the card of {file.name}; delete it or sample anew"
            )
        owner = file.with_name(Path(card.file).name)
        if card_path(owner) != path or not owner.is_file():  # else new.tif has it, beside new.png
            words = f"is the card of another file, {card.file} (by its SHA-256), and is not used"
            warn(f"{path}: {words}: if {file.name} has been changed, it is no sample any more")
        return None

    @classmethod
    def stale_beside(cls, file: Path) -> Path | None:
        """Return the card beside a finished file where it is that of an earlier file of this name."""
        path = card_path(file)
        if not path.is_file() or not _is_card(path):
            return None
        content = read_json(path)
        is_stale = content.get("file") == file.name and content.get("sha256") != file_sha256(file)
        return path if is_stale else None

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the card of ``file``, which must be there.

        Raises
        ------
        UserError
            If there is none, or as `beside` does.
        """
        card = cls.beside(file)
        if card is None:
            raise UserError(card_path(file), "no card", f"must be the card of {file.name}; sample anew")
        return card

    def of_valid(self, file: Path, count: int, reference_sha256: str) -> Self:
        """Return the card of a finished file that has the ``count`` valid ones of these samples."""
        selected = {"judged": self.count, "valid": count, "reference_sha256": reference_sha256}
        fields = {"file": file.name, "sha256": file_sha256(file), "count": count, "selected": selected}
        return self.model_copy(update=fields)

    def write(self, path: Path) -> None:
        """Write as JSON; `card_path` says where the card is looked for."""
        write_sealed_json(path, self.model_dump())


def warn_of_clean(files: Sequence[Path]) -> None:
    """Warn where samples without the scanner's noise are to be judged by limits of images that have it."""
    for file in files:
        if (card := SampleCard.beside(file)) is not None and card.clean:
            words = "without the scanner's noise, but limits were fixed on scanned images"
            warn(f"{file}: {words}: judge the same seed without --clean")


def source_of(file: Path, card: SampleCard | None) -> dict[str, Any]:
    """Return the provenance of structures that are exported from ``file``: its name, SHA-256 and card."""
    sampled = {} if card is None else {"sampled": card.model_dump(exclude={"file", "sha256"})}
    return {"file": str(file), "sha256": file_sha256(file), **sampled}


def card_path(file: Path) -> Path:
    """Return where the card of ``file`` is."""
    return file.with_suffix(".json")


def must_be_free_for_card(file: Path) -> None:
    """Refuse to replace another kind of file by the card of ``file``.

    Raises
    ------
    UserError
        If there is such a file.
    """
    path = card_path(file)
    if path == file:
        raise UserError(file, "suffix .json", "must be a TIFF file, as its card gets that name")
    if path.exists() and not _is_card(path):
        raise UserError(path, "exists", f"would be replaced by the card of {file.name}, choose another name")


def _may_be_card(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a card, whole or damaged; one that has no field of a card is not."""
    return not content or not content.keys().isdisjoint(OWN_FIELDS)


def _is_card(path: Path) -> bool:
    try:
        return _may_be_card(read_json(path)) and bool(read_json(path))
    except UserError:  # damaged, or something else
        return False
