"""The extent of an image: its size, and whether it continues periodically."""

from dataclasses import dataclass

from microgan.core.errors import UserError

WINDOW_PX = (16, 1024)  # smallest and largest side of a window


def must_be_window_px(where: object, side: object) -> int:
    """Return the side of a window, px, if it is one.

    Raises
    ------
    UserError
        If it is no multiple of 8 or out of range.
    """
    least, most = WINDOW_PX
    if type(side) is not int or not least <= side <= most or side % 8:
        raise UserError(where, side, f"must be a multiple of 8, from {least} to {most}")
    return side


@dataclass(frozen=True)
class Domain:
    """Rows and columns of an image, and whether its opposite borders fit together.

    Attributes
    ----------
    size_px
        Rows and columns.
    periodic
        Whether the image continues periodically beyond its borders.
    """

    size_px: tuple[int, int]
    periodic: bool = False

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.size_px[0]

    @property
    def cols(self) -> int:
        """Number of columns."""
        return self.size_px[1]

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.rows * self.cols
