"""``model.json``, the card beside the weights of a generator: where it comes from."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from microgan.core.config import Config
from microgan.core.files import SHA256
from microgan.core.json_files import read_sealed_json
from microgan.gan.networks import NetworkConfig
from microgan.scan.planes import ScanInfo

CARD = "model.json"


class ModelCard(Config):
    """What is read of a model's card; it may say more.

    Attributes
    ----------
    network : size of the networks
    weights_sha256 : of ``generator.safetensors``
    scan : the scan that the model has learnt from
    window_px : side of the windows that it has learnt from
    training : how it was trained
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    network: NetworkConfig
    weights_sha256: str = Field(pattern=SHA256)
    model: str | None = None
    scan: ScanInfo | None = None
    window_px: int | None = Field(None, ge=8)
    training: dict[str, Any] = Field(default_factory=dict)


def read_model_card(path: Path) -> dict[str, Any]:
    """Read a card as it is, checked.

    Raises
    ------
    UserError
        If the file is missing, broken or changed since a training wrote it.
    """

    def checked(card: dict[str, Any]) -> dict[str, Any]:
        ModelCard.from_mapping(card, str(path))
        return card

    return read_sealed_json(path, "take the model from where it was trained, or train anew", checked)
