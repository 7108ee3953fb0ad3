"""Tables: formulas are escaped, and every damage is one line with row and column."""

from pathlib import Path

import pytest

from microgan.core.errors import UserError
from microgan.core.tables import integer, number, read_table, text, truth, write_csv


def test_text_that_a_spreadsheet_would_run_is_escaped_and_comes_back(tmp_path: Path) -> None:
    names = ["=1+1.tif", "+a", "-a", "@a", "'=a", "''-b", "'plain", "a=b", "-inf", "-1.5", "\ta"]
    write_csv(tmp_path / "t.csv", ("name", "=value"), [(name, -1.5) for name in names])
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "name,'=value"
    assert lines[1:6] == ["'=1+1.tif,-1.5", "'+a,-1.5", "'-a,-1.5", "'@a,-1.5", "''=a,-1.5"]
    assert all(not line.startswith(("=", "+", "@")) for line in lines)
    rows = read_table(tmp_path / "t.csv", {"name": text, "=value": number})
    assert [row["name"] for row in rows] == names
    assert {row["=value"] for row in rows} == {-1.5}


def test_names_that_are_no_utf_8_can_be_written(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("name",), [("a\udcff.tif",)])
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == r"a\udcff.tif"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "unreadable: must be a table in CSV (no header line)"),
        ("image,valid\n0,True\n", "columns image, valid"),
        ("image,valid,radius,radius\n", "must be image, valid, radius"),
        ("image,valid,radius\n0,True\n", "row 1: 2 cells: must have 3"),
        ("image,valid,radius\n0,True,1\n1,yes,1\n", "row 2, column valid: 'yes': must be True or False"),
        ("image,valid,radius\n0,True,nan\n1,True,1\n", "row 1, column radius: 'nan': must be a finite"),
        ("image,valid,radius\n-1,True,2\n1,True,1\n", "row 1, column image: '-1': must be a whole number"),
        (f"image,valid,radius\n{'9' * 5000},True,2\n1,True,1\n", "column image: '999"),
        ("image,valid,radius\n0,True,2\n", "1 rows: must have a row for each of 2 images"),
        ('image,valid,radius\n0,"True,2\n', "unreadable: must be a table in CSV"),
        (f"image,valid,radius\n0,True,{'1' * 200_000}\n", "unreadable: must be a table in CSV (field larger"),
        (b"image,valid,radius\n0,True,\xff\n", "unreadable: must be a table in CSV"),
        (b"image,valid,radius\n0,True,\0\n1,True,2\n", "t.csv"),
    ],
    ids=lambda value: repr(value)[-30:],
)
def test_a_damaged_table_is_one_line(tmp_path: Path, content: str | bytes, line: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_table(path, {"image": integer, "valid": truth, "radius": number}, count=2)
    assert line in str(error.value) and len(str(error.value)) < 500


def test_a_table_may_have_other_columns_and_no_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("image", "overlap"), [])
    assert read_table(tmp_path / "t.csv", {"image": integer}, others=number) == []
    write_csv(tmp_path / "t.csv", ("image", "overlap"), [(0, 0.5)])
    assert read_table(tmp_path / "t.csv", {"image": integer}, others=number) == [{"image": 0, "overlap": 0.5}]
    with pytest.raises(UserError, match="missing"):
        read_table(tmp_path / "none.csv", {})
