"""The content of ``export.json``: a schema that other programs can rely on."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from microgan.core.config import Config
from microgan.exporters.structure import LengthUnit

SCHEMA: Literal["microgan-export-2"] = "microgan-export-2"


class JudgedStructure(Config):
    """The verdict of one structure."""

    structure: str
    valid: bool
    reasons: list[str] = Field(description="rules that it broke")


class Sidecar(Config):
    """The content of ``export.json``; `Sidecar.model_json_schema()` is its JSON Schema.

    Examples
    --------
    >>> Sidecar.model_json_schema()["properties"]["schema"]["const"]
    'microgan-export-2'
    """

    model_config = ConfigDict(title=SCHEMA, validate_by_name=True, validate_by_alias=True)

    schema_name: Literal["microgan-export-2"] = Field(default=SCHEMA, alias="schema")
    microgan: str = Field(description="version that wrote this")
    structures: int = Field(ge=0, description="number of structures")
    planes: int = Field(ge=1, description="voxels along the discs' axis; stacks of images have one")
    rows: int = Field(ge=1)
    cols: int = Field(ge=1)
    voxel_size_um: float | None = Field(gt=0, description="edge of a voxel, micrometres; null: unknown")
    length_unit: LengthUnit | Literal["px"] = Field(description="of all lengths but those named _um and px")
    spacing: float = Field(gt=0, description="edge of a voxel in length_unit")
    voxel_size_note: str | None = Field(description="what an unknown voxel size means")
    periodic: bool = Field(description="whether opposite borders fit together")
    phase_from: Literal["grey", "circles"] = Field(description="what the phase follows")
    refinement: int = Field(ge=1, description="voxels to a pixel of the image that circles were found in")
    interphase_um: float | None = Field(description="thickness of a layer around the discs")
    phases: dict[str, str] = Field(description="name of each phase id")
    holes: list[str] = Field(description="phases that meshes leave out: inp, inp-mesh, msh, vtu")
    formats: dict[str, str] = Field(description="what the files of each format hold, and who reads them")
    axis_order: dict[str, str] = Field(description="coordinates in each format")
    files: dict[str, str] = Field(description="SHA-256 of each file beside this one")
    provenance: dict[str, Any] = Field(description="where the structures come from")
    verdicts: list[JudgedStructure] = Field(description="of the structures here, where they were judged")
    judged: int = Field(ge=0, description="structures that were judged, those left out too")
    judged_valid: int = Field(ge=0, description="how many of these are valid")
    note: str | None = Field(default=None, description="why there are no structures")

    def content(self) -> dict[str, Any]:
        """Return what is written to the file."""
        return self.model_dump(by_alias=True)
