"""Make a scan ready: find its field of view, normalise its planes, split them into parts; write `Planes`.

Memory stays bounded by a few planes: a scan is read twice, plane by plane, first for the field of view and
the grey values, then to normalise.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from microgan.core.errors import UserError
from microgan.core.files import atomic, file_sha256, free_bytes
from microgan.core.json_files import write_json
from microgan.core.notes import warn
from microgan.scan.config import ScanConfig, SplitConfig
from microgan.scan.field_of_view import bounding_box, field_of_view, must_be_finite, without_nan
from microgan.scan.grey_range import are_each_stretched, saturated_fraction
from microgan.scan.independence import dependent_parts
from microgan.scan.planes import ROLES, Box, Planes, ScanInfo, packed, to_unit_range, window_corners
from microgan.scan.readers import Scan, open_scan

BYTES_A_PIXEL = 2 + 1 / 8  # of float16 and a bit of the field of view
LARGE_BYTES = 4e9  # of planes whose size is said before they are read
SAMPLE_VALUES = 2_000_000  # grey values of the whole scan from which the percentiles are computed


def ingest(name: str, folder: Path, config: ScanConfig, window_px: int, out: Path) -> Planes:
    """Read the scan in ``folder``, normalise and split it, and write the folder ``out`` whole or not at all.

    The intensity window is computed from training regions alone, so held-out planes play no part in it.

    Parameters
    ----------
    name : str
        Of the scan, the entry under ``scans:``.
    folder : Path
        Holds the raw scan.
    config : ScanConfig
    window_px : int
        Side of the windows; every part must contain one.
    out : Path
        Folder, replaced as a whole.

    Raises
    ------
    UserError
        If the scan cannot be read, a plane contains NaN or is constant, the region or the split do not suit
        the scan, or a part contains no window.
    """
    with open_scan(folder, config) as scan, atomic(out) as draft:
        for note in scan.notes:
            warn(note)
        box = must_suit(name, scan.shape, config, window_px)
        shape = (scan.shape[0], box[1] - box[0], box[3] - box[2])
        draft.mkdir()
        must_have_room(out, shape)
        with tqdm(total=2 * shape[0], desc=f"ingest {name}", unit="plane", disable=None) as progress:
            first_pass = _first_pass(name, scan, config, box, window_px, draft / "mask.npy", progress.update)
            with _npy_writer(draft / "planes.npy", np.float16, shape) as write:
                for index in range(shape[0]):
                    plane = without_nan(scan.plane(index), first_pass.window[0])
                    write(to_unit_range(_crop(plane, box), first_pass.window))
                    progress.update()
        info = ScanInfo(
            name=name,
            source=[path.name for path in scan.files],
            source_digest=first_pass.source_digest,
            shape=shape,
            dtype=str(scan.dtype),
            voxel_size_um=scan.voxel_size_um,
            polarity=config.polarity,
            radius_px=config.radius_px,
            intensity_window=first_pass.window,
            regions=first_pass.regions,
            planes_sha256=file_sha256(draft / "planes.npy"),
            mask_sha256=file_sha256(draft / "mask.npy"),
        )
        write_json(draft / "scan.json", info.model_dump())
    planes = Planes.load(out)
    for dependence in dependent_parts(planes):
        warn(f"split of {name}: {dependence}")
    return planes


def must_suit(
    name: str, shape: tuple[int, int, int], config: ScanConfig, window_px: int
) -> tuple[int, int, int, int]:
    """Refuse a region, a window or a split that a scan of ``shape`` does not have; return the region."""
    box = _region(config, shape)
    _check_sizes(name, config.split, window_px, (shape[0], box[1] - box[0], box[3] - box[2]))
    return box


def must_have_room(out: Path, shape: tuple[int, int, int]) -> None:
    """Refuse to begin where the disk has no room for the planes; say how much a large scan needs."""
    needed = math.prod(shape) * BYTES_A_PIXEL
    free = free_bytes(out)
    if needed > free:
        rule = f"the disk has {free / 1e9:.3g} GB left: make room, or read fewer planes or a region"
        raise UserError(out, f"needs {needed / 1e9:.3g} GB", rule)
    if needed > LARGE_BYTES:
        warn(f"{out}: will take {needed / 1e9:.3g} GB; DVC's cache links to them or keeps a copy")


@dataclass(frozen=True)
class _FirstPass:
    source_digest: str
    window: tuple[float, float]
    regions: dict[str, list[Box]]


def _first_pass(
    name: str,
    scan: Scan,
    config: ScanConfig,
    box: tuple[int, int, int, int],
    window_px: int,
    mask_path: Path,
    on_plane: Callable[[], object],
) -> _FirstPass:
    """Read the scan once: check it, write the field of view, split it and take the intensity window."""
    planes = scan.shape[0]
    sha = hashlib.sha256(f"{scan.shape} {scan.dtype}".encode())
    regions: dict[str, list[Box]] = {role: [] for role in ROLES}
    named = config.split.planes(planes)
    served: set[str] = set()  # roles that contain a window
    sample: list[np.ndarray] = []
    saturated: list[float | None] = []
    bits_shape = (planes, box[1] - box[0], -(-(box[3] - box[2]) // 8))
    with _npy_writer(mask_path, np.uint8, bits_shape) as write_mask:
        for index in range(planes):
            whole = scan.plane(index)
            sha.update(whole.data)
            raw = _crop(whole, box)
            mask = _crop(field_of_view(whole, config.field_of_view), box)
            _check_values(raw, mask, scan, index)
            saturated.append(saturated_fraction(raw[mask]))
            write_mask(packed(mask))
            for role, (row0, row1, col0, col1) in split_plane(index, mask, config.split, named).items():
                regions[role].append((index, row0, row1, col0, col1))
                part = mask[row0:row1, col0:col1]
                if role not in served and window_corners(part, window_px).any():
                    served.add(role)
                if role == "train":
                    grey = raw[row0:row1, col0:col1][part]
                    sample.append(grey[:: 1 + len(grey) * planes // SAMPLE_VALUES].copy())
            on_plane()
    if are_each_stretched(saturated):
        where = scan.files[0].parent if len(scan.files) > 1 else scan.files[0]
        warn(
            f"{where}: every plane reaches both ends of its grey values, as if each was stretched to its own "
            "range: grey values may not be comparable; export the planes again with one range for all"
        )
    for role in ROLES:
        if role not in served:
            sides = [(row1 - row0, col1 - col0) for _, row0, row1, col0, col1 in regions[role]]
            largest = "; its largest region has {} x {} px".format(*max(sides, key=min)) if sides else ""
            rule = f"no window fits into the {role} part of {name} and its field of view{largest}"
            raise UserError("window_px", window_px, f"{rule}: take smaller windows, or a larger split.{role}")
    return _FirstPass(sha.hexdigest(), _intensity_window(np.concatenate(sample), config), regions)


# The split ---------------------------------------------------------------------------------------------


def split_plane(
    plane: int, mask: np.ndarray, split: SplitConfig, named: Mapping[str, set[int]]
) -> dict[str, tuple[int, int, int, int]]:
    """Return the box of each role in one plane: all of it, or bands of rows with a margin between them.

    From the bottom: held out, margin, calibration, margin, train. None for a plane of no part.
    """
    for role, planes in named.items():
        if plane in planes:
            return _trimmed({role: (0, len(mask))}, mask) if role in ROLES else {}
    # Fractions of the field of view, not of the rows: the top and bottom of a disc are narrow.
    above = np.concatenate([[0], np.cumsum(mask.sum(1))]) / max(mask.sum(), 1)  # the fraction above each row
    bands, end = {}, len(mask)
    for role, fraction in (("held_out", split.held_out), ("calibration", split.calibration)):
        if isinstance(fraction, float):
            start = max(int(np.searchsorted(above, above[end] - fraction, side="right")) - 1, 0)
            bands[role] = (start, end)
            end = max(start - split.margin_px, 0)
    return _trimmed({"train": (0, end)} | bands, mask)


def _trimmed(bands: dict[str, tuple[int, int]], mask: np.ndarray) -> dict[str, tuple[int, int, int, int]]:
    boxes = {}
    for role, (row0, row1) in bands.items():
        if mask[row0:row1].any():
            top, bottom, left, right = bounding_box(mask[row0:row1])
            boxes[role] = (row0 + top, row0 + bottom, left, right)
    return boxes


def _crop(plane: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    return plane[box[0] : box[1], box[2] : box[3]]


def _region(config: ScanConfig, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    if config.region is None:
        return 0, shape[1], 0, shape[2]
    row0, row1, col0, col1 = config.region
    if not (0 <= row0 < row1 <= shape[1] and 0 <= col0 < col1 <= shape[2]):
        rule = f"must be row0 < row1 <= {shape[1]} and col0 < col1 <= {shape[2]}, from 0"
        raise UserError("region", config.region, rule)
    return config.region


def _check_sizes(name: str, split: SplitConfig, window_px: int, shape: tuple[int, int, int]) -> None:
    if not 1 <= window_px <= min(shape[1:]):
        raise UserError(
            "window_px", window_px, f"must be 1 to {min(shape[1:])}, the shorter side of {name}'s planes"
        )
    split.planes(shape[0])  # names what is there


def _check_values(raw: np.ndarray, mask: np.ndarray, scan: Scan, index: int) -> None:
    where = f"{scan.file_of(index)} plane {index}"
    must_be_finite(raw, mask, where)
    finite = raw[np.isfinite(raw)]
    if finite.size == 0 or finite.min() == finite.max():
        raise UserError(
            where, f"constant {finite.flat[0] if finite.size else 'NaN'}", "grey values must differ"
        )


def _intensity_window(sample: np.ndarray, config: ScanConfig) -> tuple[float, float]:
    low, high = np.percentile(sample, config.intensity_percentiles)
    if not high > low:
        rule = f"grey values there must differ, both are {low:g}"
        raise UserError("intensity_percentiles", config.intensity_percentiles, rule)
    return float(low), float(high)


@contextmanager
def _npy_writer(
    path: Path, dtype: type[np.generic], shape: tuple[int, int, int]
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends one plane to an NPY file.

    Not a memory map: on a full disk that ends the process by a signal, where this raises `OSError`.
    """
    with path.open("wb") as stream:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(stream, header)

        def write(plane: np.ndarray) -> None:
            stream.write(np.ascontiguousarray(plane, dtype).data)

        yield write
