"""What the report reads of earlier stages is checked: broken figures are one line."""

from pathlib import Path
from typing import Any

import pytest

from microgan.core.errors import UserError
from microgan.core.json_files import read_json, write_json
from stages.metrics import read_curves, read_fidelity
from tests.report.results import result


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after", 5),
        ("before", {"radius": 3}),
        ("shift", {"radius": "x"}),
        ("n", {"after": "x"}),
        ("images", []),
    ],
)
def test_broken_figures_are_one_line(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "fidelity.json"
    write_json(path, result("dcgan", 0).fidelity)
    assert read_fidelity(path) == read_json(path)
    write_json(path, {**result("dcgan", 0).fidelity, name: value})
    with pytest.raises(UserError, match=rf"fidelity\.json\.{name}"):
        read_fidelity(path)


@pytest.mark.parametrize("value", [5, [5], [{"axis": "x"}]])
def test_broken_curves_are_one_line(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "curves.json"
    write_json(path, result("dcgan", 0).curves)
    assert read_curves(path) == read_json(path)
    write_json(path, {"two_point": value})
    with pytest.raises(UserError, match=r"curves\.json\.curves\.two_point"):
        read_curves(path)
