"""The lines of params.yaml, as far as the library looks at them: it reads no YAML.

A file of parameters has sections, values, lists and comments. Whatever else YAML knows (tags, anchors,
aliases, text in blocks, several documents) is refused before an entry is added.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from microgan.core.domain import must_be_window_px
from microgan.core.errors import UserError, shortened
from microgan.core.files import read_small

DEEPEST = 32  # brackets inside of each other, as the pipeline allows them
BRACKETS = {"[": "]", "{": "}"}
KEY = re.compile(r"([^\s:#\[\]{},&*!|>%@`-][^:]*?)[ ]*:(?=[ ]|$)[ ]*")
OTHER_YAML = re.compile(r"(?:^[ ]*|[:,?-][ ]+|[\[{,][ ]*)([&*!|>%@`?]|---|\.\.\.$)")


def params_text(path: Path) -> str:
    """Return the text of params.yaml, with the ends of its lines as they are.

    Raises
    ------
    UserError
        If it is no file of text in UTF-8.
    """
    try:
        return read_small(path).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        rule = "must be text in UTF-8: save it so in an editor"
        raise UserError(f"{path}, line {line}", f"byte 0x{error.object[error.start]:02x}", rule) from None


def window_px_in(text: str, where: object) -> int | None:
    """Return the side of windows that params.yaml names; none where it names none.

    Raises
    ------
    UserError
        If it stands there twice, or is no whole number as the pipeline takes it.
    """
    given = re.findall(r"(?m)^\ufeff?[\"']?window_px[\"']?[ \t]*:(.*)$", text)
    if not given:
        return None
    place = f"{where}: window_px"
    if len(given) > 1:
        raise UserError(place, f"{len(given)} lines", "must be there once: remove the others")
    value = re.sub(r"(^|\s)#.*", "", given[0]).strip()
    plain = re.fullmatch(r"[1-9][0-9]{0,5}", value)
    return must_be_window_px(place, int(value) if plain else shortened(value)[1:-1] or "missing")


def must_be_plain(text: str, where: object) -> None:
    r"""Refuse lines that are no sections, values, lists and comments, or that name one thing twice.

    Raises
    ------
    UserError
        Names the first line that cannot be, and why.

    Examples
    --------
    >>> must_be_plain("a:\n  b: [1, 'x: y']  # two\nc: 3\n", "params.yaml")
    >>> must_be_plain("a: 1\na: 2\n", "params.yaml")
    Traceback (most recent call last):
    microgan.core.errors.UserError: params.yaml, line 2: a: stands there twice: remove one of them
    """
    lines = _Lines()
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines() or [""], 1):
        if fault := lines.fault_of(line):
            raise UserError(f"{where}, line {number}", *fault)
    if lines.quote or lines.open:
        missing = lines.quote or BRACKETS[lines.open[-1]]
        raise UserError(where, f"no {missing} at the end", "must close each bracket and each quote")


@dataclass
class _Lines:
    """What is open before a line: a quote, brackets, and the sections with the names that they have."""

    quote: str = ""
    open: list[str] = field(default_factory=list)
    sections: list[tuple[int, set[str]]] = field(default_factory=lambda: [(0, set())])
    may_open: bool = False  # the line before has a name and no value: a section or list may begin

    def fault_of(self, line: str) -> tuple[str, str] | None:
        """Return what is wrong with the next line, and the rule."""
        goes_on = bool(self.quote or self.open)
        plain = self._without_quoted(line)
        if plain is None or len(self.open) > DEEPEST:
            given = shortened(line.strip())
            return given, f"must have matching brackets, at most {DEEPEST} inside of each other"
        if not plain.strip():
            return None
        if "\t" in line[: len(line) - len(line.lstrip())] or not plain.replace("\t", " ").isprintable():
            return shortened(line), "must be indented with spaces, without tabs or control characters"
        if found := OTHER_YAML.search(plain):
            rule = "is no plain value: put text in quotes; tags, anchors and aliases are not read"
            return shortened(line[found.start(1) :]), rule
        return None if goes_on else self._structure_fault(line, plain)

    def _structure_fault(self, line: str, plain: str) -> tuple[str, str] | None:
        head = re.match(r"( *)((?:-(?: +|$))*)", plain)
        assert head is not None
        dashes, rest = head[2], plain[head.end() :]
        indent = head.end() if dashes else len(head[1])
        key = KEY.match(rest)
        if dashes:
            self._close_beyond(len(head[1]))
            self.sections.append((indent, set()))
        if key is None:
            is_continued = bool(dashes) or indent > self.sections[-1][0]
            self.may_open = bool(dashes) and not rest
            return None if is_continued else (shortened(line), "must be NAME: VALUE")
        name = line[head.end() :][: key.end(1)].strip("'\"")
        if not dashes:
            self._close_beyond(indent)
            if indent > self.sections[-1][0]:
                if not self.may_open:
                    return shortened(line), "must be indented as the lines above it, or stand under a section"
                self.sections.append((indent, set()))
            elif indent < self.sections[-1][0]:
                return shortened(line), "must be indented as other lines of its section"
        if name in self.sections[-1][1]:
            return name, "stands there twice: remove one of them"
        self.sections[-1][1].add(name)
        value = rest[key.end() :].strip()
        self.may_open = not value
        if value[:1] not in (*BRACKETS, "'", '"') and re.search(r":( |$)", value):
            return shortened(line), "must have one value: put text with a colon in quotes"
        return None

    def _close_beyond(self, indent: int) -> None:
        while len(self.sections) > 1 and self.sections[-1][0] > indent:
            self.sections.pop()

    def _without_quoted(self, line: str) -> str | None:
        """Return the line without its comment, quoted letters as x; none where a bracket does not match."""
        letters: list[str] = []
        before, is_closed = " ", False
        for letter in line:
            if self.quote:
                is_end = letter == self.quote and not (self.quote == '"' and before == "\\")
                before = "" if before == "\\" else letter
                if is_end:
                    self.quote = ""
                letters.append(letter if is_end else "x")
                continue
            if letter == "#" and before in (" ", "\t"):
                break
            if (is_closed and not letter.isspace()) or (
                letter in BRACKETS.values() and not self.open and before in " \t"
            ):
                return None
            if letter in "'\"" and (before in " \t[{,:" or (before == letter == "'")):
                self.quote = letter
            elif letter in BRACKETS and (self.open or before in " \t:,"):
                self.open.append(letter)
            elif letter in BRACKETS.values() and self.open:
                if BRACKETS[self.open.pop()] != letter:
                    return None
                is_closed = not self.open
            letters.append(letter)
            before = letter
        return "".join(letters)
