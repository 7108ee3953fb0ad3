"""What several commands share: the reference as a file, sizes of images, names of overlays."""

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microgan.core.atomic import files_into
from microgan.core.errors import UserError
from microgan.core.files import file_sha256
from microgan.core.notes import warn
from microgan.validity.reference import Reference

TIFF = (".tif", ".tiff")  # of files that are written
STANDARD = "standard.json"  # beside reference.json
OVERLAY_PX = 1600  # to about this size small pages are magnified


@dataclass(frozen=True)
class ReferenceFile:
    """The file ``reference.json`` of a material.

    Attributes
    ----------
    path
        The file.
    allow_own_rules
        Whether the Python functions that it names may run.
    """

    path: Path
    allow_own_rules: bool = False

    def load(self) -> Reference:
        """Read it.

        Raises
        ------
        UserError
            If it is a folder, or as `Reference.load` does.
        """
        if self.path.is_dir():
            inside = self.path / "reference.json"
            rule = f"must be the file {inside}" if inside.is_file() else "must be a file, reference.json"
            raise UserError("--reference", self.path, f"is a folder: {rule}")
        if self.path.name == STANDARD:
            beside = self.path.with_name("reference.json")
            warn(f"{self.path}: has the standard limits, which training uses; yours are in {beside}")
        return Reference.load(self.path, self.allow_own_rules)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return file_sha256(self.path)


def must_be_window(name: str, shape: tuple[int, ...], window_px: int, reference: ReferenceFile) -> None:
    """Refuse an image that is not as large as the windows of the reference."""
    if shape != (window_px, window_px):
        rule = f"must be {window_px} x {window_px} px, as the windows of {reference.path}"
        raise UserError(name, "{} x {} px".format(*shape), rule)


def must_be_named(option: str, path: Path | None, *suffixes: str) -> None:
    """Refuse to write a file whose name promises another kind of content."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise UserError(option, path, f"must be named {' or '.join(f'*{suffix}' for suffix in suffixes)}")


def must_have_effect(option: str, given: bool, has_effect: bool, rule: str) -> None:
    """Refuse an option that would change nothing: whoever gives it expects that it does."""
    if given and not has_effect:
        raise UserError(option, "has no effect here", rule)


def must_contain_window(name: str, shape: tuple[int, ...], window_px: int, reference: ReferenceFile) -> None:
    """Refuse an image that is smaller than the windows of the reference."""
    if min(shape) < window_px:
        rule = f"must be at least {window_px} x {window_px} px, the windows of {reference.path}"
        raise UserError(name, "{} x {} px".format(*shape), rule)


def written(**files: Path | None) -> dict[str, str]:
    """Return the paths of the files that were written, by what they are."""
    return {name: str(path) for name, path in files.items() if path is not None}


def overlay_name(number: int, page: str) -> str:
    """Name the overlay of a page: its number first, as files of several folders may have one name."""
    return f"{number:05d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', Path(page).name).strip('_')}.png"


def overlays_in(folder: Path | None) -> AbstractContextManager[Path | None]:
    """Return a context of a folder whose pictures all come into ``folder`` at the end; none without one."""
    return nullcontext() if folder is None else files_into(folder)


def magnification(image: np.ndarray) -> int:
    """Return how many pixels of an overlay are drawn along one pixel of the image."""
    return int(np.clip(OVERLAY_PX // max(image.shape), 1, 4))
