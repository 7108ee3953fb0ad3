"""What a command may not write: a file that it reads, also through a link or another spelling of its path."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from microgan.core.errors import UserError

CARDS = {"model.json", "scan.json", "reference.json", "standard.json", "packing.json"}  # read from folders


def refuse_inputs(option: str, target: Path, read: Iterable[Path]) -> None:
    """Refuse to write a file, or a folder that is replaced as a whole, over what the command reads.

    Parameters
    ----------
    option
        That names the target.
    target
        File or folder.
    read
        Files and folders that the command reads.

    Raises
    ------
    UserError
        If the target is one of these, or is or holds one of their files.
    """
    if not target.exists():
        return
    rule = "must not be what the command reads, which would be lost: choose another name"
    for path in read:
        if not path.exists():
            continue
        if target.is_dir():
            if path.resolve().is_relative_to(target.resolve()):
                raise UserError(option, target, f"holds {path}: {rule}")
        elif any(target.samefile(file) for file in _files_of(path)):
            raise UserError(option, target, rule)


def refuse_links(option: str, target: Path) -> None:
    """Refuse to write in the place of a link, which would be lost, with what it is for: a larger disk, say.

    What it leads to is not written either: it may be in DVC's cache, of which all versions would change.

    Raises
    ------
    UserError
        Names what the link leads to.
    """
    if target.is_symlink():
        rule = f"is a link, which would be replaced: name {target.readlink()} itself, or remove the link"
        raise UserError(option, target, rule)


def refuse_misplaced(option: str, target: Path, *, is_folder: bool) -> None:
    """Refuse a file in the place of a folder, a folder in that of a file, and anything inside of a file.

    Raises
    ------
    UserError
        Names what is there.
    """
    if not is_folder and target.is_dir():
        raise UserError(option, target, "is a folder: must be the name of a file")
    if is_folder and target.is_file():
        raise UserError(option, target, "is a file: must be the name of a folder")
    there = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    if not there.is_dir():
        raise UserError(option, target, f"must be in a folder, and {there.name} is none")


def refuse_folder_of_images(option: str, target: Path, read: Iterable[Path]) -> None:
    """Refuse to draw pictures into a folder that images are read from, as they would be images, too.

    Raises
    ------
    UserError
        If the folder is one of those that are read, or holds a PNG that is.
    """
    if not target.exists():
        return
    for path in read:
        folder = path.parent if path.suffix.lower() == ".png" else path
        if folder.is_dir() and target.samefile(folder):
            raise UserError(option, target, "must be another folder than that of the images")


def _files_of(path: Path) -> Iterator[Path]:
    """Yield what is read where ``path`` is named: the files of a folder, and the card beside a file."""
    if not path.is_dir():
        yield path
        card = path.with_suffix(".json")
        if card.is_file():
            yield card
        return
    files = [file for file in path.rglob("*") if file.is_file()]
    stems = {file.with_suffix("") for file in files if file.suffix.lower() not in (".json", ".csv")}
    for file in files:
        suffix = file.suffix.lower()
        if suffix == ".csv" or (
            suffix == ".json" and file.name not in CARDS and file.with_suffix("") not in stems
        ):
            continue  # what an earlier run of the command wrote there
        yield file
