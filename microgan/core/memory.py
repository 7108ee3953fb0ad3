"""How much memory there is: what cannot fit is refused by the name of its parameter, before any work."""

import os

from microgan.core.errors import UserError
from microgan.core.words import in_bytes


def must_fit_into_memory(where: str, value: object, size_bytes: int) -> None:
    """Refuse a number of things that take more memory than the machine has.

    Parameters
    ----------
    where, value
        The parameter that sets how many there are.
    size_bytes
        What they take at once, at least.

    Raises
    ------
    UserError
        Names both sizes.
    """
    installed = installed_bytes()
    if installed is not None and size_bytes > installed:
        rule = f"would take {in_bytes(size_bytes)} of memory, of which there are {in_bytes(installed)}"
        raise UserError(where, value, f"{rule}: take fewer, or smaller ones")


def installed_bytes() -> int | None:
    """Return the memory of this machine; none where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
