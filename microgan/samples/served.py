"""A generator as a model server calls it: a table with one request in, grey values out.

MLflow stores the name of this module with a registered model (`stages.registry`) and calls `_load_pyfunc`.
The module imports neither MLflow nor a pickle: it reads the two files of the model.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from microgan.core.config import Config
from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.gan.checkpoint import load_model
from microgan.gan.networks import Generator
from microgan.gan.sampling import sample
from microgan.scan.planes import ScanInfo


class Request(Config):
    """The samples requested: the columns of the table."""

    count: int = Field(ge=1, description="images")
    rows: int = Field(default=64, ge=1, description="of an image, px")
    cols: int = Field(default=64, ge=1, description="of an image, px")
    seed: int = Field(default=0, ge=0, description="same seed, same images")
    periodic: bool = Field(default=False, description="opposite borders fit together")

    @property
    def domain(self) -> Domain:
        """Size of an image, and whether it is periodic."""
        return Domain((self.rows, self.cols), self.periodic)


class Table(Protocol):
    """A table of requests, such as a pandas.DataFrame."""

    def to_dict(self, orient: Any) -> Any: ...


class Sampler:
    """Draws samples of one model, in the grey values of its scan."""

    def __init__(self, generator: Generator, scan: ScanInfo) -> None:
        self.generator, self.scan = generator, scan

    def predict(self, requests: Table) -> np.ndarray:
        """Draw the samples of one request.

        Parameters
        ----------
        requests
            Table of one row with the columns of `Request`; all but ``count`` may be missing.

        Returns
        -------
        ndarray of shape (count, rows, cols)
            In the grey values and the type of the scan.

        Raises
        ------
        UserError
            If there is more than one row, or a value is out of range.
        """
        rows: list[Mapping[Hashable, Any]] = requests.to_dict(orient="records")
        if len(rows) != 1:
            raise UserError("request", f"{len(rows)} rows", "must be a table of one row")
        request = Request.from_mapping({str(name): value for name, value in rows[0].items()}, "request")
        images = sample(self.generator, request.count, request.domain, request.seed, progress=False)
        return self.scan.denormalise(images[:, 0].numpy())


def _load_pyfunc(path: str) -> Sampler:
    generator, card = load_model(Path(path))
    return Sampler(generator, ScanInfo.from_mapping(card.get("scan"), "model.json: scan"))
