"""The record beside a deck: what a solver's result must be read with. ``structure_00000_stiffness.json``."""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from microgan.core.config import Config
from microgan.exporters.structure import LengthUnit

DeckKind = Literal["stiffness", "uniaxial"]
Component = Literal["xx", "yy", "zz", "xy", "xz", "yz"]
SCHEMA: Literal["microgan-deck-1"] = "microgan-deck-1"


class LoadCase(Config):
    """One step of a deck: a mean strain of one component; all others are zero."""

    component: Component
    strain: float = Field(gt=0, description="engineering strain, for xy, xz and yz twice the tensor's")


class DeckPhase(Config):
    """A phase, as the deck has it."""

    name: str
    volume_fraction: float = Field(ge=0, le=1)
    young_modulus_gpa: float | None = Field(gt=0, description="null: a hole")
    poisson_ratio: float | None = Field(gt=-1, lt=0.5, description="null: a hole")


class DeckRecord(Config):
    """The content of the file."""

    model_config = ConfigDict(title=SCHEMA, validate_by_name=True, validate_by_alias=True)

    schema_name: Literal["microgan-deck-1"] = Field(default=SCHEMA, alias="schema")
    deck: DeckKind
    mesh: str = Field(description="file of the mesh, which the deck includes")
    size: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=2, max_length=3, description="of the cell along x, y (and z), in length_unit"
    )
    length_unit: LengthUnit
    stress_unit: Literal["MPa", "Pa"]
    stress_per_gpa: float = Field(gt=0, description="units of stress in 1 GPa")
    load_cases: tuple[LoadCase, ...] = Field(min_length=1, description="the steps, in their order")
    phases: tuple[DeckPhase, ...] = Field(min_length=1)
    x_max_nodes_sha256: str | None = Field(
        default=None, description="of the numbers of the nodes on X_MAX, by which a .dat is known"
    )
    worst_element_quality: float | None = Field(
        default=None, description="of triangles, 1 for equilateral ones; null: voxels"
    )

    @model_validator(mode="after")
    def _cases_fit(self) -> Self:
        components = [case.component for case in self.load_cases]
        axes = "xyz"[: len(self.size)]
        if not {"xx", "yy"} <= set(components) or len(set(components)) < len(components):
            raise ValueError("load_cases must have xx and yy, and none twice")
        if not set("".join(components)) <= set(axes):
            raise ValueError(f"load_cases must be along {', '.join(axes)}, as size has {len(axes)} lengths")
        return self

    @staticmethod
    def nodes_digest(numbers: Iterable[int]) -> str:
        """Return the digest of the numbers of nodes, in any order."""
        return hashlib.sha256(" ".join(map(str, sorted(numbers))).encode()).hexdigest()

    @property
    def face_areas(self) -> list[float]:
        """Area of the borders across x, y (and z), in length_unit^2; a plane is 1 length_unit thick."""
        volume = 1.0
        for length in self.size:
            volume *= length
        return [volume / length for length in self.size]
