"""The one exception that a user is meant to read."""


class UserError(ValueError):
    """Bad input, reported in one line: which file or parameter, which value, which rule.

    Entry points (``stages``, ``microgan.cli``) print its text and exit with status 2, without a traceback.
    Any other exception is a defect of microgan and keeps its traceback.

    Examples
    --------
    >>> raise UserError("train.batch", -3, "must be at least 1")
    Traceback (most recent call last):
    microgan.core.errors.UserError: train.batch: -3: must be at least 1
    """

    def __init__(self, where: object, value: object, rule: str) -> None:
        super().__init__(where, value, rule)  # as they are, so that it passes from one process to another

    def __str__(self) -> str:
        return "{}: {}: {}".format(*self.args)


def one_line(error: BaseException) -> str:
    """Return ``error`` as one line; an `OSError` names its file and its cause (a full disk, say)."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'disk'}: {error.strerror}"
    return " ".join(str(error).split())
