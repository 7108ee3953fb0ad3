"""params.yaml and the parameter classes: the same names, and one default for each parameter."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from microgan import cli
from microgan.core.config import Config
from microgan.evaluation.homogenisation import MATERIALS
from microgan.exporters.export import ExportConfig
from microgan.scan.config import ScanConfig
from microgan.scan.simulate import SimulateConfig
from microgan.validity.calibration import CalibrationConfig, is_enabled
from microgan.validity.rules import KNOWN
from stages.select import GROUPS, KINDS

TEXT = (Path(__file__).parents[1] / "params.yaml").read_text()
PARAMS = yaml.safe_load(TEXT)
ENTRIES = {"calibrate.rules", "calibrate.own", "properties.materials"}  # what they hold is the user's to name
MAY_HAVE = re.compile(r"(?m)^#   (\w+: .*?)  ")  # parameters that stand in a comment, with their defaults
OWN_DEFAULTS = {"planes"}  # of the command line: one plane, where the pipeline needs several


def parameters(config: Config, path: str) -> Iterator[tuple[str, object]]:
    """Yield the path and the value of each parameter in ``config``."""
    for name in type(config).model_fields:
        value, here = getattr(config, name), f"{path}.{name}"
        if isinstance(value, Config):
            yield from parameters(value, here)
        elif here not in ENTRIES:
            yield here, value


def commented() -> dict[str, object]:
    """Return the parameters of a scan that params.yaml names in a comment, with their defaults."""
    return yaml.safe_load("\n".join(MAY_HAVE.findall(TEXT)))


def names(
    kind: type[Config], values: Mapping[str, Any], path: str
) -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield the path of each section, the names of its class, and those in params.yaml."""
    yield path, set(kind.model_fields), set(values)
    for name, field in kind.model_fields.items():
        nested = field.annotation
        if isinstance(values.get(name), dict) and isinstance(nested, type) and issubclass(nested, Config):
            yield from names(nested, values[name], f"{path}.{name}")


@pytest.mark.parametrize("section", KINDS)
def test_a_parameter_has_one_default(section: str) -> None:
    kind = KINDS[section]
    assert dict(parameters(kind(), section)) == dict(
        parameters(kind.from_mapping(PARAMS[section], section), section)
    )


@pytest.mark.parametrize("section", KINDS)
def test_params_yaml_has_every_parameter(section: str) -> None:
    for path, known, written in names(KINDS[section], PARAMS[section], section):
        assert known == written, path


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in PARAMS[group]])
def test_every_model_and_scan_has_every_parameter(group: str, name: str) -> None:
    for path, known, written in names(GROUPS[group], PARAMS[group][name], f"{group}.{name}"):
        optional = commented() if group == "scans" else {}
        assert known == written | (optional.keys() & known), path


def test_optional_parameters_of_a_scan_have_the_defaults_that_params_yaml_names() -> None:
    optional = commented()
    assert len(optional) == 11
    scan = ScanConfig.from_mapping({"radius_px": [4, 8], **optional}, "scans.any")
    assert scan == ScanConfig(radius_px=(4, 8))


def test_the_command_line_knows_the_materials_of_params_yaml() -> None:
    named = {name: material.model_dump() for name, material in MATERIALS.items()}
    assert named == PARAMS["properties"]["materials"]


def test_params_yaml_has_every_rule_and_its_default() -> None:
    config = CalibrationConfig.from_mapping(PARAMS["calibrate"], "calibrate")
    assert list(config.rules) == list(KNOWN)
    for name, rule in KNOWN.items():
        assert is_enabled(rule, config.of(name)) == rule.enabled, name
        assert config.of(name).weight is None and not config.of(name).by_hand, name


@pytest.mark.parametrize(("command", "kind"), [("simulate", SimulateConfig), ("export", ExportConfig)])
def test_the_command_line_has_the_same_defaults(command: str, kind: type[Config]) -> None:
    """Its help shows them, and must not import what computes; so they are written there once more."""
    options = typer.main.get_command(cli.app).commands[command].params  # type: ignore[attr-defined]
    defaults = {option.name: option.default for option in options if not option.required}
    shared = kind.model_fields.keys() & defaults.keys() - OWN_DEFAULTS
    assert len(shared) >= 7
    for name in shared:
        assert defaults[name] == kind.model_fields[name].get_default(), name


@pytest.mark.filterwarnings("ignore")
def test_dvc_changes_the_value_that_it_sets_and_no_other_byte(tmp_path: Path) -> None:
    """As `dvc exp run -S` does: so params.yaml is written in the style in which DVC writes."""
    from dvc.utils.serialize import modify_yaml

    copy = tmp_path / "params.yaml"
    copy.write_text(TEXT)
    with modify_yaml(str(copy)) as params:
        params["scan"] = "insegt_glass"
        params["train"]["batch"] = 9
        params["train"]["threads"] = 2
    expected = TEXT.replace("scan: simulated\n", "scan: insegt_glass\n").replace("batch: 8 ", "batch: 9 ")
    expected = expected.replace("  threads:   ", "  threads: 2 ")
    assert copy.read_text() == expected
