"""Words of messages."""


def counted(number: int, thing: str) -> str:
    """Return a number and its noun in the right form.

    Examples
    --------
    >>> counted(1, "plane"), counted(0, "plane"), counted(2, "plane")
    ('1 plane', '0 planes', '2 planes')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"
