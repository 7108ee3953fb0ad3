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
