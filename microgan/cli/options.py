"""What several commands share: options, checks before anything is imported, the result in words or JSON."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from microgan.cli.app import app
from microgan.cli.targets import refuse_folder_of_images, refuse_inputs, refuse_links, refuse_misplaced
from microgan.core.atomic import must_be_writable
from microgan.core.errors import UserError

if TYPE_CHECKING:
    from microgan.scan.config import Reading

# Parameters of the library whose option has another name
PARAMETERS = {"window_px": "size", "formats": "format", "radius_px": "radius", "holes": "phase"}
TIFF = (".tif", ".tiff")  # of files that are written

Images = Annotated[
    list[Path],
    typer.Argument(
        help="Image files (TIFF, PNG, NPY, HDF5 ...), or folders of these; every page is an image."
    ),
]
Csv = Annotated[Path, typer.Option(help="CSV file to write.")]
Polarity = Annotated[
    Literal["bright", "dark"], typer.Option(help="Whether discs are brighter or darker than the matrix.")
]
ReferenceFile = Annotated[Path, typer.Option(help="reference.json of the material.")]
Overlay = Annotated[Path | None, typer.Option(help="Folder to write: a PNG of each page with its circles.")]
AllowOwnRules = Annotated[
    bool,
    typer.Option("--allow-own-rules", help="Allow the Python functions that the reference names to run."),
]
GreyScale = Annotated[
    Literal["scan", "own"],
    typer.Option(
        "--grey-scale",
        help="scan: images must be on the grey scale of the reference's scan, as samples and its own planes "
        "are. own: for images saved on another scale, say of 8 bits: their darkest and brightest values "
        "(percentiles 0.5 and 99.5) are mapped to those of the scan.",
    ),
]
FollowOutside = Annotated[
    bool, typer.Option("--follow-outside", help="Read also files that the scan names outside of its folder.")
]
LargestPlane = Annotated[
    int, typer.Option(min=1, help="Most pixels of a plane that a far smaller file unfolds to.")
]
DataSet = Annotated[str | None, typer.Option(help="HDF5, Zarr: name of the data set.")]
Shape = Annotated[tuple[int, int, int] | None, typer.Option(help="Raw files: planes, rows, columns.")]
DType = Annotated[str | None, typer.Option(help="Raw files: uint8, uint16, float32 ...")]
ByteOrder = Annotated[Literal["little", "big"], typer.Option(help="Raw files: order of the bytes.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Of all random numbers: same seed, same result.")
]
Periodic = Annotated[bool, typer.Option("--periodic", help="Opposite borders fit together.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, for scripts.")]


def check_radius(band_px: tuple[float, float]) -> None:
    """Refuse a band of radii that is none."""
    if not 1 <= band_px[0] < band_px[1] < math.inf:
        rule = "must be MIN MAX with 1 <= MIN < MAX, both finite"
        raise UserError("--radius", f"{band_px[0]:g} {band_px[1]:g}", rule)


def check_paths(read: Iterable[Path], **written: tuple[Path | None, *tuple[str, ...]]) -> None:
    """Refuse missing paths and bad targets, before torch is imported.

    Parameters
    ----------
    read
        Files and folders that must be there.
    **written
        Option -> the target and the suffixes that it may have; without a suffix it is a folder.

    Raises
    ------
    UserError
        If a path is missing, or a target's name promises another kind of file, is what is read, is a link, or
        is a folder where a file is to be written.
    OSError
        If a target cannot be written.
    """
    read = list(read)
    for option, (path, *suffixes) in written.items():
        if path is not None and suffixes and path.suffix.lower() not in suffixes:
            rule = " or ".join(f"*{suffix}" for suffix in suffixes)
            raise UserError(f"--{option}", path, f"must be named {rule}")
    for path in read:
        if not path.exists():
            raise UserError(path, "missing", "the file or folder must exist")
    for option, (path, *suffixes) in written.items():
        if path is not None and option == "overlay":
            refuse_folder_of_images("--overlay", path, read)
        elif path is not None:
            refuse_inputs(f"--{option}", path, read)
            refuse_links(f"--{option}", path)
        if path is not None:
            refuse_misplaced(f"--{option}", path, is_folder=not suffixes)
    must_be_writable(*(path for path, *_ in written.values() if path is not None))  # rather now than later


def check_new(out: Path) -> None:
    """Refuse a new folder, ``--out``, that cannot be written, or is a link."""
    refuse_links("--out", out)
    refuse_misplaced("--out", out, is_folder=True)
    if not out.exists():
        must_be_writable(out)


def reading(
    dataset: str | None,
    follow_outside: bool,
    largest_plane_px: int,
    shape: tuple[int, int, int] | None,
    dtype: str | None,
    byte_order: str,
) -> "Reading":
    """Return how images are to be read, by the options of reading that a command was given."""
    from microgan.scan.config import Reading

    values = {
        "dataset": dataset,
        "follow_outside": follow_outside,
        "largest_plane_px": largest_plane_px,
        "shape": shape,
        "dtype": dtype,
        "byte_order": byte_order,
    }
    return Reading.from_mapping(values, "scan")


def as_typed(error: UserError, command: Sequence[str]) -> UserError:
    """Name options of ``command`` as they are typed, where an error names their parameters: train.steps.

    The library knows the names of parameters alone: also in what it says to do, ``follow_outside: true``.
    """
    where, value, rule = error.args
    path = where if isinstance(where, str) and re.fullmatch(r"[a-z]\w*(\.\w+)*", where) else ""
    parts = [part for part in path.split(".") if not part.isdigit()]
    known = getattr(typer.main.get_command(app), "commands", {}).get("".join(command))
    if known is None:
        return error
    options = {param.name for param in known.params}
    for name in sorted(options & set(re.findall(r"\w+_\w+(?=: )", rule))):
        option = f"--{name}".replace("_", "-")
        rule = re.sub(rf"\b{name}: true\b", option, rule)
        rule = re.sub(rf"(set )?\b{name}: (?=\d)", f"give {option} ", rule)
    if not parts:
        return UserError(where, value, rule)
    name = next((name for name in (parts[-1], PARAMETERS.get(parts[-1])) if name in options), None)
    return UserError(where if name is None else f"--{name}".replace("_", "-"), value, rule)


def print_result(result: Mapping[str, Any], words: str, as_json: bool) -> None:
    typer.echo(json.dumps(result, default=list, allow_nan=False) if as_json else words)
