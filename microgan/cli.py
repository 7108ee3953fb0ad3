"""Valid synthetic microstructures: simulate, detect, sample, validate, compare, export.

Commands say in a few words on standard output what came out, or with --json as one JSON object; bars of
progress and errors go to standard error. The exit status is 0 when all went well, 2 for bad input (told in
one line), 1 for the answer "no" that --strict asks for, and 130 after Ctrl-C. Files are written whole or not
at all.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from microgan import __version__
from microgan.core.errors import UserError, one_line

if TYPE_CHECKING:
    from microgan.evaluation.descriptors import Descriptor

# What the commands do is imported when one runs: torch takes seconds, and help must not.

app = typer.Typer(
    help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)

Images = Annotated[
    list[Path], typer.Argument(help="TIFF, PNG or NPY files, or folders of them; every page is an image.")
]
Csv = Annotated[Path, typer.Option(help="CSV file to write.")]
Polarity = Annotated[Literal["bright", "dark"], typer.Option(help="Of the discs against the matrix.")]
ReferenceFile = Annotated[Path, typer.Option(help="reference.json of the material.")]
Overlay = Annotated[
    Path | None, typer.Option(help="Folder to write a PNG of each page to, with the circles drawn on it.")
]
AllowOwnRules = Annotated[
    bool, typer.Option("--allow-own-rules", help="Run the Python functions that the reference names.")
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Periodic = Annotated[bool, typer.Option("--periodic", help="Opposite borders fit together.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, for scripts.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("simulate")
def simulate_command(
    out: Annotated[Path, typer.Option(help="Folder to write: scan.tif and the true circles.csv.")],
    planes: Annotated[int, typer.Option(help="Independent planes.")] = 1,
    size_px: Annotated[int, typer.Option(help="Rows and columns of a plane.")] = 448,
    radius_px: Annotated[float, typer.Option(help="Mean radius of the discs.")] = 6.0,
    radius_sd_px: Annotated[float, typer.Option(help="Standard deviation of the radius.")] = 0.35,
    volume_fraction: Annotated[float, typer.Option(help="Of the discs, up to 0.6.")] = 0.55,
    min_gap_px: Annotated[float, typer.Option(help="Least distance between the rims of two discs.")] = 0.5,
    polarity: Polarity = "bright",
    photons: Annotated[float, typer.Option(help="Per detector pixel; fewer make more noise.")] = 6000.0,
    voxel_size_um: Annotated[float, typer.Option(help="Side of a pixel, micrometres.")] = 1.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Simulate a tomogram of discs, with the true circles."""
    from microgan import commands
    from microgan.scan.simulate import SimulateConfig

    values = {
        "planes": planes,
        "size_px": size_px,
        "radius_px": radius_px,
        "radius_sd_px": radius_sd_px,
        "volume_fraction": volume_fraction,
        "min_gap_px": min_gap_px,
        "photons": photons,
        "voxel_size_um": voxel_size_um,
        "seed": seed,
    }
    if polarity == "dark":
        values |= {"matrix_attenuation_per_um": 0.002, "disc_attenuation_per_um": 0.001}
    result = commands.simulate(SimulateConfig.from_mapping(values, "simulate"), out)
    words = f"{result['discs']} discs in {planes} planes, volume fraction {result['volume_fraction']:.3f}"
    _say(result, f"{words}, signal-to-noise ratio {result['signal_to_noise']:.1f}, written to {out}", as_json)


@app.command("detect")
def detect_command(
    images: Images,
    radius: Annotated[tuple[float, float], typer.Option(help="Smallest and largest radius, px.")],
    out: Csv,
    polarity: Polarity = "bright",
    overlay: Overlay = None,
    as_json: Json = False,
) -> None:
    """Find the discs of images.

    The CSV file has the columns image, row, col, radius, score: in pixels, pixel centres at integers.
    """
    from microgan import commands

    result = commands.detect(images, radius, polarity, out, overlay)
    _say(result, f"{result['discs']} discs in {result['images']} images, written to {out}", as_json)


@app.command("sample")
def sample_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_DIR",
            help="Folder of a model, or its name in MLflow: models:/NAME@ALIAS or runs:/ID/PATH.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="TIFF stack to write, in the scan's own grey values.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 16,
    size: Annotated[tuple[int, int], typer.Option(help="Rows and columns, px.")] = (64, 64),
    seed: Seed = 0,
    periodic: Periodic = False,
    repair: Annotated[
        Path | None,
        typer.Option(
            metavar="REFERENCE",
            help="reference.json of the material: draw defects again until each image is valid as a whole.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Of repair, at most.")] = 100,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if repair leaves a defect.")] = False,
    allow_own_rules: AllowOwnRules = False,
    as_json: Json = False,
) -> None:
    """Draw new images from a trained generator.

    Large images are written while they are drawn, so they need not fit into memory; those under repair must.
    A card with their origin is written beside FILE.tif as FILE.json, where `microgan export` finds it.
    """
    from microgan import commands

    if min(size) < 1:
        raise UserError("--size", f"{size[0]} {size[1]}", "must be at least 1 1")
    result = commands.sample(model, count, size, seed, periodic, out, repair, rounds, allow_own_rules)
    words = f"{count} images of {size[0]} x {size[1]} px written to {out}"
    repaired = result["repaired"]
    if repaired:
        words += f"; {repaired['valid']} are valid as a whole, {repaired['changed']:.1%} of the latent is new"
    _say(result, words, as_json)
    if strict and repaired and repaired["valid"] < count:
        raise typer.Exit(1)


@app.command("validate")
def validate_command(
    images: Images,
    reference: ReferenceFile,
    out: Csv,
    overlay: Overlay = None,
    periodic: Periodic = False,
    allow_own_rules: AllowOwnRules = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an image is invalid.")] = False,
    as_json: Json = False,
) -> None:
    """Judge images by the calibrated rules of their material.

    An image larger than the windows that the rules were calibrated on is valid when each of its windows is,
    half a window from one to the next.
    """
    from microgan import commands

    result = commands.validate(images, reference, periodic, out, overlay, allow_own_rules)
    words = f"{result['pass_rate']:.1%} of {result['images']} images are valid"
    _say(result, f"{words}; verdicts written to {out}", as_json)
    if strict and result["valid"] < result["images"]:
        raise typer.Exit(1)


@app.command("compare")
def compare_command(
    images: Annotated[Path, typer.Argument(help="File or folder of images: the set in question.")],
    real: Annotated[Path, typer.Argument(help="File or folder of images: the set to compare with.")],
    reference: ReferenceFile,
    out: Annotated[Path | None, typer.Option(help="JSON file to write all figures to.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw all curves to.")] = None,
    solve: Annotated[int, typer.Option(min=2, help="Images of each set to solve for stiffness.")] = 100,
    seed: Seed = 0,
    allow_own_rules: AllowOwnRules = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a descriptor differs.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two sets of images by all descriptors.

    Each is tested for equality, and means also for being equivalent within a margin.
    """
    from microgan import commands

    result = commands.compare(images, real, reference, solve, seed, allow_own_rules, out, plot)
    _say(result, _comparison_in_words(result), as_json)
    if strict and result["differing"]:
        raise typer.Exit(1)


@app.command("export")
def export_command(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    format: Annotated[
        list[str],
        typer.Option(
            help="vti, vtk, hdf5, nrrd, inp, msh, vtu, tiff, csv, json; may be given several times."
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option(help="reference.json of the material, for grey images; else: phase images.")
    ] = None,
    voxel_size_um: Annotated[
        float | None,
        typer.Option(help="Side of a pixel, micrometres. Default: as samples or reference say, or unknown."),
    ] = None,
    length_unit: Annotated[
        Literal["um", "mm", "m"], typer.Option(help="Of the files, where the size is known.")
    ] = "um",
    phase_from: Annotated[
        Literal["grey", "circles"], typer.Option(help="Phase by the grey threshold, or clean discs.")
    ] = "grey",
    refinement: Annotated[int, typer.Option(help="Voxels to a pixel, of clean discs.")] = 1,
    extrude_voxels: Annotated[int, typer.Option(help="Planes along the discs, of 3D formats.")] = 1,
    element_size: Annotated[
        float, typer.Option(help="Of triangles at a rim, over the radius (msh, vtu).")
    ] = 0.25,
    phases: Annotated[tuple[str, str], typer.Option(help="Names of matrix and discs.")] = ("matrix", "fibre"),
    periodic: Annotated[
        bool | None,
        typer.Option(help="Whether opposite borders fit together. Default: as samples say, or not."),
    ] = None,
    allow_own_rules: AllowOwnRules = False,
    as_json: Json = False,
) -> None:
    """Write images as files that solvers read.

    Images are phase images of two values or, with a reference, grey ones, which are then judged too.
    """
    from microgan import commands
    from microgan.exporters.export import ExportConfig

    values = {
        "formats": format,
        "voxel_size_um": voxel_size_um,
        "length_unit": length_unit,
        "phase_from": phase_from,
        "refinement": refinement,
        "extrude_voxels": extrude_voxels,
        "element_size": element_size,
        "phases": phases,
    }
    config = ExportConfig.from_mapping(values, "export")
    result = commands.export(images, reference, periodic, out, config, allow_own_rules)
    _say(result, f"{result['structures']} structures written to {out}", as_json)


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 2."""
    try:
        app(prog_name="microgan")
    except (UserError, OSError) as error:
        _leave(one_line(error))
    except MemoryError as error:
        _leave(f"memory is full: {one_line(error) or 'use fewer or smaller images'}")


def _say(result: Mapping[str, Any], words: str, as_json: bool) -> None:
    typer.echo(json.dumps(result, default=list, allow_nan=False) if as_json else words)


def _comparison_in_words(result: Mapping[str, Any]) -> str:
    """Return a table of one line a descriptor, and which of them differ."""
    from microgan.evaluation.descriptors import DESCRIPTORS
    from microgan.evaluation.fidelity import LEVEL

    rows = [_in_words(DESCRIPTORS[name], row) for name, row in result["descriptors"].items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    differing = ", ".join(DESCRIPTORS[name].title.lower() for name in result["differing"])
    return "\n".join([*lines, f"differing at {LEVEL:.0%} in all: {differing or 'none'}"])


def _in_words(descriptor: "Descriptor", row: Mapping[str, float | bool | None]) -> tuple[str, ...]:
    """Words for one descriptor: both values, error, p, and whether they are equivalent."""
    value, real = (f"{row[key]:.4g}" if row[key] is not None else "-" for key in ("value", "reference"))
    error = f"error {row['error']:.2%}" if row["error"] is not None else ""
    p = f"p {row['p']:.3f}" if row.get("p") is not None else ""
    equal = f"equivalent at {row['margin']:.0%}" if row.get("equivalent") else ""
    return descriptor.title, value, f"against {real}", descriptor.unit, error, p, equal


def _leave(words: str) -> None:
    typer.echo(f"microgan: {words}", err=True)
    sys.exit(2)
