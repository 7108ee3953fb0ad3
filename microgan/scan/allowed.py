"""What the files of a scan may make this program do: read other files, fill the memory.

A file of a stranger names other files (virtual and external data of HDF5, detached headers, OME-TIFF in
several files), and a few kilobytes can unfold to gigabytes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from microgan.core.errors import UserError

LARGEST_PLANE_PX = 1 << 28  # 16384 x 16384
PX_PER_BYTE = 50  # of a file, which no measured image reaches: noise does not compress


@dataclass(frozen=True)
class Allowed:
    """What reading may do.

    Attributes
    ----------
    folder
        Of the scan: other files are read inside of it alone; None: anywhere.
    largest_plane_px
        Most pixels of a plane, where its file is far too small for them.
    """

    folder: Path | None
    largest_plane_px: int = LARGEST_PLANE_PX

    def must_be_inside(self, other: Path, path: Path) -> None:
        """Refuse the values of a file that ``path`` names, outside of the scan's folder.

        Links count as what they are named: DVC keeps scans behind links.

        Raises
        ------
        UserError
            If it is outside.
        """
        if self.folder is None or _plain(other).is_relative_to(_plain(self.folder)):
            return
        rule = f"must be in {self.folder}: copy it there, or allow others with follow_outside: true"
        raise UserError(path, f"takes values from {other}", rule)

    def must_fit(self, shape: tuple[int, ...], path: Path) -> None:
        """Refuse planes that a small file unfolds to; ``shape`` ends with rows and columns.

        Raises
        ------
        UserError
            If it is too large.
        """
        rows, cols = shape[-2:]
        if rows * cols <= self.largest_plane_px or not path.is_file():
            return
        size = path.stat().st_size
        if rows * cols > PX_PER_BYTE * size:
            what = f"{rows} x {cols} px in {size} bytes"
            rule = (
                f"unfolds to more than {self.largest_plane_px} px: save it uncompressed, or, if you "
                f"trust it, set largest_plane_px: {rows * cols}"
            )
            raise UserError(path, what, rule)


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))  # not resolve(), which follows links
