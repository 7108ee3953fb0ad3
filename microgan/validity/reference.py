"""What judging needs, frozen before any training: `Reference`, and how it is calibrated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import read_json, write_json
from microgan.detection.circles import DetectorConfig
from microgan.scan.planes import ScanInfo
from microgan.statistics.intervals import Interval
from microgan.validity.own_rules import OwnRule, RuleConfig, own_rules
from microgan.validity.rules import RULES, Rule

Limits = Mapping[
    str, tuple[float | None, float | None]
]  # measure -> (least, largest), None where any value is


class CalibrationConfig(Config):
    """How the rules are fixed on real windows."""

    windows: int = Field(2000, ge=100, description="real windows, overlapping, at random")
    false_rejection_budget: float = Field(0.05, gt=0, lt=0.5, description="fraction of them that may fail")
    bootstrap: int = Field(
        200, ge=0, le=10_000, description="resamples for the uncertainty of limits; 0: none"
    )
    detector: DetectorConfig = DetectorConfig()
    rules: dict[str, RuleConfig] = Field(default_factory=dict, description="rule -> how it is used")
    own: dict[str, OwnRule] = Field(default_factory=dict, description="name -> a rule of the user's")
    planted: int = Field(100, ge=10, le=10_000, description="defects of each kind, for the filter's power")
    seed: int = Field(0, ge=0)

    @field_validator("rules")
    @classmethod
    def _are_known(cls, rules: dict[str, RuleConfig]) -> dict[str, RuleConfig]:
        for name in rules:
            if name not in RULES:
                raise ValueError(f"unknown rule {name}, known are {', '.join(RULES)}")
        return rules

    @field_validator("own")
    @classmethod
    def _have_names_of_their_own(cls, own: dict[str, OwnRule]) -> dict[str, OwnRule]:
        for name in own:
            if name in RULES or not name.isidentifier():
                raise ValueError(f"{name} must be letters, digits and _, and no name of a rule that exists")
        return own

    def names_rules_of(self, reference: "Reference") -> bool:
        """Whether the user's own rules in ``reference`` are those named here, so that they may run."""
        return reference.own == self.own

    def of(self, name: str) -> RuleConfig:
        """Return how rule ``name`` is used."""
        return self.own[name] if name in self.own else self.rules.get(name, RuleConfig())


class DetectionRate(Config):
    """How often the filter rejects one kind of defect.

    Attributes
    ----------
    rejected : fraction of the images that the defect was planted into
    count : these images
    interval : 90 % confidence interval of the fraction
    """

    rejected: float
    count: int
    interval: Interval


class Reference(Config):
    """All that judging needs, frozen before any training; stored as ``reference.json``.

    Attributes
    ----------
    scan : what the windows came from, with the digest of its planes
    phase_threshold : normalised grey; brighter (darker, for dark discs) is disc phase
    limits : measure -> (least, largest) allowed, None where any value is
    limits_interval : measure -> where 90 % of the resampled windows put (least, largest)
    own : rules of the user's, by the path of a Python function; judging imports them only when allowed to
    calibration_pass_rate : fraction of the calibration windows that pass
    false_rejection_interval : 90 % of the resamples, on the windows that each left out
    held_out_pass_rate : fraction of windows of held-out planes that pass, measured after all limits were frozen
    power : kind of defect -> fraction that the filter rejects; see `microgan.validity.detection_rate`
    """

    scan: ScanInfo
    window_px: int
    detector: DetectorConfig
    phase_threshold: float
    limits: dict[str, tuple[float | None, float | None]]
    limits_interval: dict[str, tuple[Interval | None, Interval | None]] = Field(default_factory=dict)
    own: dict[str, OwnRule] = Field(default_factory=dict)
    false_rejection_budget: float
    false_rejection_interval: Interval | None = None
    calibration_windows: int
    calibration_pass_rate: float
    held_out_windows: int = 0
    held_out_pass_rate: float | None = None
    power: dict[str, DetectionRate] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _limits_have_rules(self) -> Self:
        for name in self.limits:
            if name not in RULES and name not in self.own:
                raise ValueError(f"limits.{name}: no such rule, known are {', '.join([*RULES, *self.own])}")
        return self

    @property
    def radius_px(self) -> tuple[float, float]:
        """Band in which discs are searched."""
        return self.scan.radius_px

    @property
    def polarity(self) -> Literal["bright", "dark"]:
        """Of the discs."""
        return self.scan.polarity

    @property
    def titles(self) -> dict[str, str]:
        """What each measure is, in words for people."""
        own = {name: rule.title or name.replace("_", " ") for name, rule in self.own.items()}
        return {name: rule.title for name, rule in RULES.items()} | own

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, self.model_dump())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; a `UserError` names the file if it is missing or broken."""
        return cls.from_mapping(read_json(path), str(path))


def rules_of(reference: Reference, allow_own_rules: bool = False) -> dict[str, Rule]:
    """Return all rules that ``reference`` uses; its own ones are imported, that is run, only when allowed."""
    if reference.own and not allow_own_rules:
        functions = ", ".join(rule.function for rule in reference.own.values())
        rule = "would run Python code that the reference names: must be allowed, with --allow-own-rules"
        raise UserError("reference: own rules", functions, rule)
    return {**RULES, **own_rules(reference.own)}
