"""Before the pipeline: all parameters are checked, and the scan is selected."""

from pathlib import Path

import pytest

from microgan.core.errors import UserError
from stages import select
from stages.stage import load_params
from tests.stages.helpers import ROOT, edit


def test_the_last_stage_s_parameters_are_checked_before_the_first_stage_runs(project: Path) -> None:
    select.check(load_params())
    edit(export__format="vti")
    with pytest.raises(UserError, match=r"export\.format: 'vti': unknown parameter"):
        select.check(load_params())


def test_no_model_may_have_the_name_of_the_baseline(project: Path) -> None:
    edit(models__random_packing=load_params()["models"]["dcgan"])
    with pytest.raises(UserError, match=r"models\.random_packing: a model: must have another name"):
        select.check(load_params())


def test_choosing_a_scan_changes_one_line_and_keeps_comments(project: Path) -> None:
    before = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(before.replace("scan: simulated\n", "scan: simulated   # mine\n"))
    select.choose("insegt_glass")
    assert Path("params.yaml").read_text() == before.replace(
        "scan: simulated\n", "scan: insegt_glass   # mine\n"
    )
    with pytest.raises(UserError, match="SCAN: moon: must be one of simulated, insegt_carbon, insegt_glass"):
        select.known("moon", load_params())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2026-11-27", "YAML reads it as date"),
        ("0103", "YAML reads it as int"),
        ("on", "YAML reads it as bool"),
        ("1.5", "YAML reads it as float"),
        ("null", "YAML reads it as NoneType"),
        ("'on'", "no word of YAML"),
        ("'0103'", "must begin with a letter"),
        ("my scan", "'my scan': must begin with a letter, go on with letters"),
        ("my.scan", "'my.scan': must begin"),
        ("../scan", "must begin"),
        ("grün", "must begin"),
    ],
)
def test_a_scan_has_a_name_that_yaml_folders_and_paths_read_as_it_is(
    project: Path, name: str, words: str
) -> None:
    before = Path("params.yaml").read_text()
    entry = f"scans:\n  {name}: {{path: ., radius_px: [4, 8]}}\n"
    Path("params.yaml").write_text(before.replace("scans:\n", entry, 1))
    with pytest.raises(UserError, match=words) as told:
        load_params()
    assert "params.yaml: scans" in str(told.value) and "\n" not in str(told.value)
