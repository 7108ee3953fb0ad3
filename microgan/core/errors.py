"""The one exception that a user is meant to read, and every other one as a line."""

import reprlib
from pathlib import Path

DEBUG = "MICROGAN_DEBUG"  # set in the environment, tracebacks are shown; so does --debug of the command line
LONGEST_VALUE = 200  # characters of a value in an error
LONGEST_TEXT = 400  # of one that is text: paths and what libraries say are long
LONGEST_NAME = 80
LONGEST_LINE = 2000
MEMORY = ("can't allocate memory", "out of memory", "not enough memory")  # what torch says, in a RuntimeError
FULL_MEMORY = "use fewer or smaller images, or smaller batches"


class UserError(ValueError):
    """Bad input, reported in one line: which file or parameter, which value, which rule.

    Entry points (``stages``, ``microgan.cli``) print its text and exit with status 2, without a traceback.
    Any other exception is a defect of microgan: one line, too, and exit status 70.

    Examples
    --------
    >>> raise UserError("train.batch", -3, "must be at least 1")
    Traceback (most recent call last):
    microgan.core.errors.UserError: train.batch: -3: must be at least 1
    """

    def __init__(self, where: object, value: object, rule: str) -> None:
        super().__init__(where, value, rule)  # as they are, so that it passes from one process to another

    def __str__(self) -> str:
        where, value, rule = self.args
        return f"{printable(str(where))}: {printable(_as_text(value))}: {printable(str(rule))}"


def _as_text(value: object) -> str:
    """Return a value as text of bounded length, whatever a file makes of it."""
    if isinstance(value, str | Path):
        text = str(value)
        return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 4]} ..."
    return shortened(value) if isinstance(value, list | dict | set | int) else str(value)


def shortened(value: object, longest: int = LONGEST_VALUE) -> str:
    """Return ``repr(value)`` as it fits into a line; nested values are not written out, nor long numbers.

    Examples
    --------
    >>> shortened("a" * 10, 8), shortened([[[[[1]]]]]), shortened(10**5000)
    ("'aaa ...", '[[[[...]]]]', 'a number of 16610 bits')
    """
    if isinstance(value, int) and value.bit_length() > 4 * longest:
        return f"a number of {value.bit_length()} bits"
    limits = reprlib.Repr()
    limits.maxlevel, limits.maxstring, limits.maxother = 4, 2 * longest, 2 * longest
    try:
        text = limits.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        text = f"a {type(value).__name__} with a number that is too long to print"
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."


def shortened_name(name: object) -> str:
    """Return a name in a parameter's path, which a file may have made very long."""
    text = str(name)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 4]} ..."


def one_line(error: BaseException) -> str:
    """Return ``error`` as one line; an `OSError` names its file and its cause (a full disk, say)."""
    if isinstance(error, OSError) and error.strerror:
        return printable(f"{error.filename or 'disk'}: {error.strerror}")
    return printable(str(error))


def printable(text: str) -> str:
    """Return ``text`` as one line of bounded length without what a terminal would take for a command."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 4]} ..."
    return escaped(line)


def escaped(text: object) -> str:
    r"""Return text without what would begin a line or be a command to a terminal: ``\n``, ``\x1b``.

    Examples
    --------
    >>> print(escaped("a\nb  c"))
    a\nb  c
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def memory_is_full(error: BaseException) -> str | None:
    """Return a line for an error that means that memory is full, also torch's; none for any other."""
    said = one_line(error)
    if isinstance(error, MemoryError):
        return f"memory is full: {said or FULL_MEMORY}"
    if isinstance(error, RuntimeError) and any(words in said for words in MEMORY):
        return f"memory is full: {FULL_MEMORY} ({said[said.find(': ') + 1 :].strip()[:LONGEST_VALUE]})"
    return None


def defect_in_words(error: BaseException, debug: str) -> str:
    """Return a line for an error that nobody foresaw; ``debug`` says how its traceback is shown."""
    said = f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")[:LONGEST_VALUE]
    return f"defect of microgan ({said}): please report it to whom you have microgan from, with what {debug}"
