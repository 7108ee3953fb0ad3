"""What judging needs, frozen before any training: `Reference`, stored as ``reference.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import SHA256
from microgan.core.json_files import read_sealed_json, write_sealed_json
from microgan.core.notes import warn
from microgan.statistics.intervals import Interval
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.own_rules import OwnRule, import_own_rules
from microgan.validity.rules import KNOWN, LEARNT_FAULT, RULES, Rule
from microgan.validity.segmentation import Segmentation

Limit = tuple[float | None, float | None]  # the least and the largest allowed value; None: any value
Limits = Mapping[str, Limit]  # by the name of the measure

LEARNT_FILE = "learnt_faults.safetensors"
BY_HAND = "limits by hand belong under calibrate.limits in params.yaml; else calibrate anew"


class DetectionRate(Config):
    """How often the rules reject one kind of planted defect.

    Attributes
    ----------
    rate : fraction of the images with this defect that the rules reject
    count : number of these images
    interval : 90 % confidence interval of the rate
    without_network : fraction that the other rules reject by themselves, at the same limits
    by_reason : fraction that is rejected for each reason
    """

    rate: float = Field(ge=0, le=1)
    count: int = Field(ge=0)
    interval: Interval
    without_network: float | None = Field(None, ge=0, le=1)
    by_reason: dict[str, float] = Field(default_factory=dict)


class LearntFile(Config):
    """The file with the networks of the rule `learnt_fault`, beside the reference."""

    file: str = Field(pattern=r"^\w[\w.-]*$")
    sha256: str = Field(pattern=SHA256)

    @classmethod
    def of(cls, networks: LearntFaults | None) -> Self | None:
        """Name the file that ``networks`` were loaded from."""
        return None if networks is None else cls(file=LEARNT_FILE, sha256=networks.sha256)


class Reference(Segmentation):
    """Rules and limits of one material, and how its discs are found; frozen before any training.

    A reference may name rules of the user's own, which are Python code. Their code is imported, that is run,
    only when the reference is loaded with ``allow_own_rules`` or has just been calibrated. A reference loaded
    without can be used for all but judging.

    Attributes
    ----------
    scan, window_px, detector_settings, phase_threshold : as in `Segmentation`
    limits : measure -> (least, largest) allowed, None where any value is
    limits_interval : measure -> 90 % interval of (least, largest) over the resampled windows
    learnt : the file with the networks of the rule that was learnt from the scan, if there is one
    own : rules of the user's own, each with the path of a Python function
    false_rejection_budget : fraction of real windows that all rules together may reject
    false_rejection_interval : 90 % interval over the resamples, each on the windows that it left out
    calibration_windows : number of windows that the limits were calibrated on
    calibration_pass_rate : fraction of these that pass
    held_out_windows : number of windows of the held-out part
    held_out_pass_rate : fraction of these that pass, measured after all limits were frozen
    detection_rates : kind of planted defect -> how often the rules reject it
    doubts : what speaks against relying on these rules, a sentence each
    """

    limits: dict[str, Limit]
    limits_interval: dict[str, tuple[Interval | None, Interval | None]] = Field(default_factory=dict)
    learnt: LearntFile | None = None
    own: dict[str, OwnRule] = Field(default_factory=dict)
    false_rejection_budget: float = Field(ge=0, le=1)
    false_rejection_interval: Interval | None = None
    calibration_windows: int = Field(ge=0)
    calibration_pass_rate: float = Field(ge=0, le=1)
    held_out_windows: int = Field(0, ge=0)
    held_out_pass_rate: float | None = Field(None, ge=0, le=1)
    detection_rates: dict[str, DetectionRate] = Field(default_factory=dict)
    doubts: list[str] = Field(default_factory=list)

    _imported: dict[str, Rule] = PrivateAttr(default_factory=dict)
    _networks: LearntFaults | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _limits_have_rules(self) -> Self:
        for name, (least, largest) in self.limits.items():
            if name not in KNOWN and name not in self.own:
                raise ValueError(f"limits.{name}: no such rule, known are {', '.join([*KNOWN, *self.own])}")
            if name == LEARNT_FAULT and self.learnt is None:
                raise ValueError(f"limits.{name}: must have the file of its networks, named under learnt")
            if least is not None and largest is not None and least > largest:
                raise ValueError(f"limits.{name}: {least} to {largest}: must begin with the smaller one")
        if removed := self.limits_interval.keys() - self.limits.keys():
            raise ValueError(f"limits: must have {', '.join(sorted(removed))}, which limits_interval has")
        return self

    @property
    def titles(self) -> dict[str, str]:
        """What each measure is, in words for people."""
        own = {name: rule.title or name.replace("_", " ") for name, rule in self.own.items()}
        return {name: rule.title for name, rule in KNOWN.items()} | own

    @property
    def rules(self) -> dict[str, Rule]:
        """All rules, those of the user's own last.

        Raises
        ------
        UserError
            If there are own rules and the reference was loaded without allowing them.
        """
        if refused := self.own.keys() - self._imported.keys():
            functions = ", ".join(rule.function for name, rule in self.own.items() if name in refused)
            rule = "would run Python code that the reference names: must be allowed, with --allow-own-rules"
            raise UserError("reference: own rules", functions, rule)
        known = KNOWN if self._networks else RULES
        return {**known, **{name: self._imported[name] for name in self.own}}

    def with_own_rules(self, imported: Mapping[str, Rule]) -> Self:
        """Return this reference with its own rules allowed, already ``imported``."""
        reference = self.model_copy()
        reference._imported = dict(imported)
        return reference

    @property
    def networks(self) -> LearntFaults | None:
        """What was learnt from the scan; none where it has no such rule."""
        return self._networks

    def with_networks(self, networks: LearntFaults | None) -> Self:
        """Return this reference with its networks, already loaded."""
        reference = self.model_copy()
        reference._networks = networks
        return reference

    def without_own_rules(self) -> Self:
        """Return this reference with microgan's rules alone, and their limits."""
        limits = {name: limit for name, limit in self.limits.items() if name in KNOWN}
        return self.model_copy(update={"own": {}, "limits": limits})

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_sealed_json(path, self.model_dump())

    @classmethod
    def load(cls, path: str | Path, allow_own_rules: bool = False) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path
            The JSON file.
        allow_own_rules
            Whether the Python functions that the file names are imported, which runs their code. If not,
            nothing is imported, and whatever asks for `rules` is refused when there are such functions.

        Raises
        ------
        UserError
            If the file is missing, broken or changed by hand, or an own rule that is allowed cannot be
            imported.
        """
        reference = read_sealed_json(path, BY_HAND, lambda content: cls._of_file(content, path))
        if reference.learnt is not None:
            file = Path(path).parent / reference.learnt.file
            reference = reference.with_networks(LearntFaults.load(file, reference.learnt.sha256))
        return reference.with_own_rules(import_own_rules(reference.own)) if allow_own_rules else reference

    @classmethod
    def _of_file(cls, content: Mapping[str, Any], path: str | Path) -> Self:
        if "limits" not in content:
            rule = "must be the reference.json that `microgan calibrate` or the pipeline wrote"
            raise UserError(path, "no limits in it", rule)
        reference = cls.from_mapping(content, str(path))
        for name, limit in reference.limits.items():
            if limit == (None, None):
                warn(f"{path}: limits.{name}: allows every value, so that this rule rejects nothing")
        return reference
