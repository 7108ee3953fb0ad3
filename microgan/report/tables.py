"""Tables of the report as plain data: what stands in each cell, in words and rounded.

`microgan.report.run_tables` has those of the scan, the training and the rules,
`microgan.report.comparison_tables` those that compare samples with real windows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microgan.report.results import ModelResult

DASH = "\N{EN DASH}"  # for what is not known, or does not exist


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller line below it, and whether it is in bold."""

    text: str
    detail: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """One row: what it shows, in which unit, and its cells; without cells, the heading of the rows below."""

    title: str
    cells: Sequence[Cell]
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """Rows below the names of their columns; ``groups`` are names over several columns each.

    ``first`` is the name of the column of titles.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    first: str = ""
    groups: Sequence[tuple[str, int]] = ()


# Words and numbers --------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Return three digits; a dash for what is not known.

    Examples
    --------
    >>> number(0.12345), number(1234.5), number(None)
    ('0.123', '1.23e+03', '–')
    """
    return DASH if value is None else f"{value:#.3g}".rstrip(".")


def p_value(value: float | None) -> str:
    """Return a p-value; a dash where nothing was tested."""
    if value is None:
        return DASH
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction in percent; a dash for what is not known."""
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def names(models: Sequence[ModelResult]) -> list[str]:
    """Return the names of the models, of which each has a column."""
    return [model.name for model in models]


def known(value: float | None, words: Callable[[float], str]) -> Cell:
    """Return the cell of a value in words; a dash for what there is not."""
    return Cell(DASH if value is None else words(value))


def voxel_size(scan: Mapping[str, Any]) -> str:
    """Return the voxel size of a scan, or that it is unknown."""
    size = scan.get("voxel_size_um")
    return "unknown" if size is None else f"{size:g} µm"


def flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested parameters by their path, ``train.steps``."""
    by_path: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            by_path |= flat(value, f"{prefix}{name}.")
        else:
            by_path[f"{prefix}{name}"] = value
    return by_path
