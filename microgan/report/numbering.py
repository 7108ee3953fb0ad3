"""Numbers of tables and figures, in the order in which they stand, and references to them."""

from collections import Counter
from collections.abc import Mapping


class Numbering:
    """Counts the tables and figures of a page, and knows their numbers by name.

    Parameters
    ----------
    known
        ``numbers`` of an earlier count of the same page, for references to what comes later.

    Examples
    --------
    >>> numbering = Numbering()
    >>> numbering.next("Figure", "losses"), numbering.next("Figure", "radii"), numbering.next("Table", "scan")
    (1, 2, 1)
    >>> numbering.number("Figure", "radii")
    2
    """

    def __init__(self, known: Mapping[tuple[str, str], int] | None = None) -> None:
        self.numbers = dict(known or {})
        self._counts: Counter[str] = Counter()

    def next(self, kind: str, name: str) -> int:
        """Return the number of the next table or figure; ``kind`` is ``"Table"`` or ``"Figure"``."""
        self._counts[kind] += 1
        self.numbers[kind, name] = self._counts[kind]
        return self._counts[kind]

    def number(self, kind: str, name: str) -> int:
        """Return the number of a table or figure; 0 where it is not counted yet."""
        return self.numbers.get((kind, name), 0)
