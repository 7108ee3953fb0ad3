"""Tables as CSV files: the one place where they are read and written.

Spreadsheet programs run a cell that begins with =, +, - or @ as a formula. Text of that kind (a file's name,
say) is written with an apostrophe before it, which they do not show and which `read_table` takes away.
Numbers stay as they are.
"""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from microgan.core.errors import UserError, one_line, shortened
from microgan.core.files import atomic, must_be_regular

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what begins a formula
Cell = Callable[[str], Any]  # makes a value of a cell, or raises ValueError with the rule


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with one header line; bytes of a name that are no UTF-8 are escaped."""
    with atomic(path) as draft, draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as f:
        writer = csv.writer(f)
        writer.writerow([_escaped(name) for name in header])
        writer.writerows([_escaped(cell) for cell in row] for row in rows)


def _escaped(cell: Any) -> Any:
    """Return a cell as it is written; only text can be taken for a formula."""
    if isinstance(cell, str) and cell.lstrip("'").startswith(FORMULA) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def text(cell: str) -> str:
    """Return the text of a cell, as it was before it was written."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def number(cell: str) -> float:
    """Return the finite number in a cell."""
    try:
        value = float(cell)
    except ValueError:
        raise ValueError("must be a number") from None
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def integer(cell: str) -> int:
    """Return the whole number, not negative, in a cell."""
    if not (cell.isascii() and cell.isdecimal() and len(cell) < 19):
        raise ValueError("must be a whole number, 0 or above")
    return int(cell)


def truth(cell: str) -> bool:
    """Return whether a cell says True."""
    if cell not in ("True", "False"):
        raise ValueError("must be True or False")
    return cell == "True"


def read_table(
    path: str | Path, columns: Mapping[str, Cell], *, others: Cell | None = None, count: int | None = None
) -> list[dict[str, Any]]:
    """Read a table that `write_csv` wrote: a dictionary for each row.

    Parameters
    ----------
    path
        The CSV file.
    columns
        Name of each column that must be there -> what makes a value of its cells: `text`, `number`,
        `integer`, `truth`.
    others
        The same for columns of any other name; by default there must be none.
    count
        Number of rows that there must be; by default any.

    Raises
    ------
    UserError
        If the file is missing or broken, or a column, a cell or the number of rows is not as it must be. It
        names the row (the first is 1) and the column.
    """
    header, rows = _cells(Path(path))
    missing = [name for name in columns if name not in header]
    unknown = [] if others else [name for name in header if name not in columns]
    if missing or unknown or len(set(header)) < len(header):
        given = f"columns {', '.join(header) or 'none'}"
        rule = f"must be {', '.join(columns)}{' and others, each once' if others else ''}"
        raise UserError(path, shortened(given), rule)
    for index, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise UserError(f"{path}, row {index}", f"{len(row)} cells", f"must have {len(header)}")
    if count is not None and len(rows) != count:
        raise UserError(path, f"{len(rows)} rows", f"must have a row for each of {count} images")
    values = {
        name: _column(path, name, cells, columns.get(name, others or text))
        for name, cells in zip(header, zip(*rows, strict=True), strict=rows != [])
    }
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _cells(path: Path) -> tuple[list[str], list[list[str]]]:
    must_be_regular(path)
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream, strict=True)
    except FileNotFoundError:
        raise UserError(path, "missing", "file must exist") from None
    except (ValueError, OSError, csv.Error) as error:
        reason = "no header line" if "to unpack" in str(error) else one_line(error)
        raise UserError(path, "unreadable", f"must be a table in CSV ({reason})") from None
    return [text(name) for name in header], rows


def _column(path: str | Path, name: str, cells: Sequence[str], value_of: Cell) -> list[Any]:
    try:
        return [value_of(cell) for cell in cells]
    except ValueError:
        pass
    for row, cell in enumerate(cells, 1):
        try:
            value_of(cell)
        except ValueError as error:
            raise UserError(f"{path}, row {row}, column {name}", shortened(cell), str(error)) from None
    raise AssertionError(name)
