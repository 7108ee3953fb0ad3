"""How structures become files: one for each structure (`Format`), or joint ones (`JointFormat`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from microgan.exporters.deck_record import DeckKind
from microgan.exporters.structure import Structure

AXES = "x = col, y = row (downwards in the image), z = plane; origin at the corner of the first voxel"


@dataclass(frozen=True)
class Format:
    """A format with a file for each structure.

    Attributes
    ----------
    write
        Called with the structure and the path of its file, whose suffix is ``suffix``. A format of several
        files writes the others beside it, under the same name. The folder is a draft that is renamed when all
        files are written.
    suffix
        Of the (main) file.
    description
        One line: the content of the files, and who reads them.
    needs_voxel_size
        Whether a structure of unknown size is refused.
    needs_circles
        Whether a structure without circles is refused.
    axes
        One line: how coordinates and the order of voxels follow from (plane, row, col).
    is_mesh
        Whether ``write`` takes ``element_size`` too.
    takes_deck
        Whether ``write`` takes ``deck`` too: the load cases of a job that it writes beside the file.
    decks
        The kinds of deck that there are; with another kind, none is written.
    takes_holes
        Whether phases that are holes are left out; other formats keep all phases.
    splits_interface
        Whether ``write`` takes ``split_interface`` too: each phase has nodes of its own on the interface.
    """

    write: Callable[..., None]
    suffix: str
    description: str
    needs_voxel_size: bool = False
    needs_circles: bool = False
    axes: str = AXES
    is_mesh: bool = False
    takes_deck: bool = False
    decks: tuple[DeckKind, ...] = ("stiffness", "uniaxial")
    takes_holes: bool = False
    splits_interface: bool = False


@dataclass(frozen=True)
class JointFormat:
    """A format with files for all structures of an export: stacks and tables.

    Attributes
    ----------
    write
        Called with the structures, at least one, and the folder.
    description
        As of `Format`.
    needs_voxel_size
        As of `Format`.
    needs_circles
        As of `Format`.
    axes
        As of `Format`.
    """

    write: Callable[[Sequence[Structure], Path], None]
    description: str
    needs_voxel_size: bool = False
    needs_circles: bool = False
    axes: str = AXES
