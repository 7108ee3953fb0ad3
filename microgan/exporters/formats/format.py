"""What a format is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from microgan.exporters.structure import Structure

AXES = "x = col, y = row (downwards in the image), z = plane; origin at the corner of the first voxel"


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
    axes
        One line: how coordinates and the order of voxels follow from (plane, row, col).
    is_mesh
        Whether ``write`` takes ``element_size`` too.
    """

    write: Callable[..., None]
    suffix: str
    about: str
    needs_voxel_size: bool = False
    needs_circles: bool = False
    axes: str = AXES
    is_mesh: bool = False


@dataclass(frozen=True)
class JointFormat:
    """How all structures of an export become files together: stacks and tables.

    Attributes
    ----------
    write
        Called with the structures, at least one, and the folder.
    about
        As of `Format`.
    needs_voxel_size
        As of `Format`.
    needs_circles
        As of `Format`.
    axes
        As of `Format`.
    """

    write: Callable[[Sequence[Structure], Path], None]
    about: str
    needs_voxel_size: bool = False
    needs_circles: bool = False
    axes: str = AXES
