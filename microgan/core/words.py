"""Words of messages, and names that users choose."""

# A name of a scan or model: in YAML, in a folder's name and in a parameter's path.
PLAIN_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
PLAIN_NAME_RULE = (
    "must begin with a letter, go on with letters, digits, - and _, and be no word of YAML (on, no)"
)


def counted(number: int, thing: str) -> str:
    """Return a number and its noun in the right form.

    Examples
    --------
    >>> counted(1, "plane"), counted(0, "plane"), counted(2, "plane")
    ('1 plane', '0 planes', '2 planes')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def in_bytes(size: int) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> in_bytes(120), in_bytes(23_456), in_bytes(4 * 10**15)
    ('120 bytes', '23.5 kB', '4e+03 TB')
    """
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
