"""The extent of an image: its size, and whether it continues periodically."""

from dataclasses import dataclass


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
