"""What a format is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from microgan.structure import Structure


@dataclass(frozen=True)
class Format:
    """How one structure becomes files.

    Attributes
    ----------
    write
        Called with the structure and the path of its file, whose suffix is ``suffix``; a format of several
        files writes the others beside it, under the same name. The folder is a draft that is renamed when all
        is written, so a writer need not care for atomicity.
    suffix
        Of the (main) file.
    about
        One line: what it holds, and who reads it.
    needs_voxel_size
        Whether a structure of unknown size is refused.
    needs_circles
        Whether a structure without circles is refused.
    """

    write: Callable[[Structure, Path], None]
    suffix: str
    about: str
    needs_voxel_size: bool = False
    needs_circles: bool = False
