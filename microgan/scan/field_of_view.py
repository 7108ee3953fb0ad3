"""Where a plane shows the specimen: without the outside of the reconstruction, constant or NaN."""

from typing import Literal

import cv2
import numpy as np

from microgan.core.errors import UserError

EDGE_PX = 3  # width of the field of view's edge, where scanners blend specimen and outside
NESTED_FRACTION = 0.05  # of the plane: least area of a constant region that only touches the outside


def field_of_view(plane: np.ndarray, kind: Literal["full", "circle", "auto"]) -> np.ndarray:
    """Return where a plane shows the specimen, a bool ndarray of shape (H, W).

    ``auto`` removes the constant patches that touch the border, as scanners leave them round the
    reconstruction, and an edge of ``EDGE_PX``; without such a patch nothing is removed. Nor is it when that
    would leave only pieces, as in a drawn or segmented image, whose matrix is constant too. NaN that reaches
    the border is outside in any case, but for ``full``.
    ``circle`` is the largest centred circle in what ``auto`` keeps, less the same edge. ``full``: everything.

    Parameters
    ----------
    plane : ndarray of shape (H, W)
        Raw grey values, the whole plane, not a region of it.
    kind : {"full", "circle", "auto"}
    """
    if kind == "full":
        return np.ones(plane.shape, bool)
    nan = nan_outside(plane)
    inside = ~(nan | _constant_outside(np.where(np.isfinite(plane), plane, -np.inf) if nan.any() else plane))
    if not inside.any():
        return inside
    if kind == "auto":
        # The plane's own border is no such edge.
        padded = np.pad(inside.astype(np.uint8), 1, constant_values=1)
        return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] > EDGE_PX
    row0, row1, col0, col1 = bounding_box(inside)
    radius_px = min(row1 - row0, col1 - col0) / 2 - EDGE_PX
    row, col = np.ogrid[: plane.shape[0], : plane.shape[1]]
    return (row - (row0 + row1 - 1) / 2) ** 2 + (col - (col0 + col1 - 1) / 2) ** 2 <= radius_px**2


def nan_outside(plane: np.ndarray) -> np.ndarray:
    """Return where values are NaN and hang together with the border: outside of the reconstruction.

    Infinite values are errors of a computation, wherever they are.
    """
    if plane.dtype.kind != "f" or not np.isnan(plane).any():
        return np.zeros(plane.shape, bool)
    _, labels = cv2.connectedComponents(np.isnan(plane).astype(np.uint8))
    at_border = np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()]))
    return np.isin(labels, at_border[at_border > 0])


def nan_note(plane: np.ndarray, where: str) -> str | None:
    """Return a note on the NaN outside of the reconstruction, None without any."""
    count = int(np.count_nonzero(nan_outside(plane)))
    if not count:
        return None
    what = f"{count} of {plane.size} px are NaN and reach the border"
    return f"{where}: {what}: read as outside of the field of view"


def must_be_finite(plane: np.ndarray, mask: np.ndarray, where: str) -> None:
    """Refuse infinity, and NaN in the field of view.

    Raises
    ------
    UserError
        If there is one: how many, and where the first is.
    """
    if plane.dtype.kind != "f":
        return
    wrong = ~np.isfinite(plane) & (mask | np.isinf(plane))
    if wrong.any():
        row, col = np.argwhere(wrong)[0]
        what = f"{np.count_nonzero(wrong)} px are NaN or infinite, the first at row {row}, column {col}"
        rule = "grey values must be finite inside of the field of view: fill them, or leave out the plane"
        raise UserError(where, what, rule)


def without_nan(plane: np.ndarray, value: float) -> np.ndarray:
    """Return a plane with ``value`` in place of what is not finite."""
    return np.where(np.isfinite(plane), plane, plane.dtype.type(value)) if plane.dtype.kind == "f" else plane


def specimen(image: np.ndarray) -> np.ndarray:
    """Return where an image of any kind shows the specimen: as ``auto``, or everything if it is drawn.

    A drawing has a constant matrix, which is no outside: what ``auto`` would leave of it is flat, or thin, or
    a small part of the image.
    """
    mask = field_of_view(image, "auto")
    if mask.all():
        return mask
    inside = ~_constant_outside(image)
    values = image.astype(np.float64)
    patch = np.ones((5, 5), np.uint8)
    flat = (cv2.dilate(values, patch) == cv2.erode(values, patch))[mask]
    is_thin = mask.sum() < 0.5 * inside.sum()
    if nan_outside(image).any() or not (is_thin or mask.sum() < 0.2 * mask.size or flat.mean() > 0.3):
        return mask
    return np.ones(image.shape, bool)


def _constant_outside(plane: np.ndarray) -> np.ndarray:
    outside = _patches_at_border(plane)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~outside).astype(np.uint8))
    if count < 2:
        return np.zeros(plane.shape, bool)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))  # the rest are labels, scale bars, dust
    if stats[largest, cv2.CC_STAT_AREA] < 0.5 * np.count_nonzero(~outside):
        return np.zeros(plane.shape, bool)
    return labels != largest


def _patches_at_border(plane: np.ndarray) -> np.ndarray:
    values = plane if plane.dtype in (np.uint8, np.uint16, np.float32) else plane.astype(np.float64)
    patch = np.ones((5, 5), np.uint8)  # noise never repeats a value over so many neighbours
    flat = cv2.dilate(values, patch) == cv2.erode(values, patch)
    at_border = np.zeros(plane.shape, bool)
    at_border[[0, -1]], at_border[:, [0, -1]] = flat[[0, -1]], flat[:, [0, -1]]
    outside = _regions(values, at_border)
    if outside.any():  # one padding within the other: -3024 round the circle, 0 round the specimen
        near = cv2.dilate(outside.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        touching = near & flat & ~outside
        nested = _regions(values, touching)
        if np.count_nonzero(nested & ~outside) > NESTED_FRACTION * nested.size:
            outside |= nested
    return outside


def _regions(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return all of one value that hangs together with a seed, slivers at the border included."""
    regions = np.zeros(values.shape, bool)
    for value in np.unique(values[seeds]):
        _, labels = cv2.connectedComponents((values == value).astype(np.uint8))
        regions |= np.isin(labels, np.unique(labels[seeds & (values == value)]))
    return regions


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return row0, row1, col0, col1 of what is true."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
