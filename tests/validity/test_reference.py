"""The file of a reference: its fields are checked, and a change by hand is told with what to do."""

from pathlib import Path
from typing import Any

import pytest

from microgan.core.errors import UserError
from microgan.core.json_files import read_json, write_json, write_sealed_json
from microgan.validity.reference import Reference
from tests.report.results import reference


@pytest.fixture
def path(tmp_path: Path) -> Path:
    intervals = {"smallest_radius_px": ((3.4, 3.6), None), "discs_per_1000px2": ((3.9, 4.1), (7.0, 9.0))}
    reference(limits_interval=intervals).save(tmp_path / "reference.json")
    return tmp_path / "reference.json"


def test_a_limit_that_was_removed_or_widened_by_hand_is_refused(path: Path) -> None:
    whole = read_json(path)
    limits: dict[str, Any] = whole["limits"]
    for changed in ({"smallest_radius_px": limits["smallest_radius_px"]}, limits | {"overlap": [None, 9.0]}):
        write_json(path, whole | {"limits": changed})
        with pytest.raises(
            UserError, match=r"changed since it was written: .*calibrate\.limits in params\.yaml"
        ):
            Reference.load(path)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("limits", {"smallest_radius_px": [3.5, None]}, "must have discs_per_1000px2, which limits_interval"),
        ("limits", {"smallest_radius_px": [9.0, 3.5], "discs_per_1000px2": [4, 8]}, "begin with the smaller"),
        ("limits", [], "limits: []: input should be"),
        ("window_px", 0, "window_px: 0: input should be greater"),
        ("phase_threshold", 7, "phase_threshold: 7: input should be less"),
        ("calibration_pass_rate", 2, "calibration_pass_rate: 2"),
    ],
)
def test_fields_of_a_reference_are_checked(path: Path, field: str, value: object, line: str) -> None:
    content = {name: held for name, held in read_json(path).items() if name != "digest"}
    write_sealed_json(path, content | {field: value})
    with pytest.raises(UserError) as error:
        Reference.load(path)
    assert "reference.json" in str(error.value) and line in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("intensity_window", [0, 0], "must be two grey values, the smaller one first"),
        ("intensity_window", [9, 1], "must be two grey values, the smaller one first"),
        ("dtype", "bool", "must be the type of grey values: uint8"),
        ("dtype", "complex64", "must be the type of grey values"),
        ("dtype", "object", "must be the type of grey values"),
        ("voxel_size_um", 0, "voxel_size_um: 0: must be from 1e-05 to 1e+06 um"),
        ("radius_px", [8, 4], "must be the smallest and the largest radius"),
        ("shape", [0, 16, 16], "shape.0: 0: input should be greater than 0"),
        ("regions", {"train": [[7, 0, 1, 0, 1]]}, "must be inside of the planes"),
        ("polarity", "grey", "polarity: 'grey': input should be"),
    ],
)
def test_fields_of_the_scan_in_it_are_checked(path: Path, field: str, value: object, line: str) -> None:
    content = {name: held for name, held in read_json(path).items() if name != "digest"}
    content["scan"][field] = value
    write_sealed_json(path, content)
    with pytest.raises(UserError) as error:
        Reference.load(path)
    assert "reference.json" in str(error.value) and line in str(error.value)


def test_a_limit_that_allows_every_value_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {name: held for name, held in read_json(path).items() if name != "digest"}
    write_sealed_json(path, content | {"limits": content["limits"] | {"overlap": [None, None]}})
    assert Reference.load(path).limits["overlap"] == (None, None)
    assert "limits.overlap: allows every value, so that this rule rejects nothing" in caplog.text
    write_sealed_json(path, content | {"limits": content["limits"] | {"overlap": [None, True]}})
    with pytest.raises(UserError, match=r"limits\.overlap\.1: true or false: must be a number"):
        Reference.load(path)
