"""Valid synthetic microstructures: inspect, simulate, detect, sample, validate, windows, compare,
export.

Commands print a short result on standard output, or with --json one JSON object; progress bars and errors go
to standard error. The exit status is 0 on success, 2 for bad input (explained in one line), 1 for a negative
result under --strict, and 130 after Ctrl-C. Files are written whole or not at all.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from microgan import __version__
from microgan.core.errors import UserError, one_line
from microgan.core.notes import warnings_on_stderr
from microgan.core.words import counted

# Commands import their code when they run: torch takes seconds to import, and help must not.

app = typer.Typer(
    help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)

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
        "are. own: their own percentiles 0.5 and 99.5 are taken for those of the scan.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of all random numbers: same seed, same result.")]
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


@app.command("inspect")
def inspect_command(
    path: Annotated[Path, typer.Argument(help="A scan: a file, or a folder of slices.")],
    add: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Add the scan to the project in this folder: copy it to data/raw/NAME, and write its entry "
            "into params.yaml.",
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG file to write: discs as the proposal finds them, their radii.")
    ] = None,
    polarity: Annotated[
        Literal["bright", "dark"] | None,
        typer.Option(help="Of the discs against the matrix. Default: it is found out."),
    ] = None,
    radius: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Smallest and largest radius, px. Default: they are found out."),
    ] = None,
    planes: Annotated[
        str | None, typer.Option(help='Planes to read, a range as in Python: "10:200:4".')
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Name or pattern of files that are no slices; may be repeated.")
    ] = None,
    voxel_size_um: Annotated[
        float | None, typer.Option(help="Side of a pixel, micrometres, whatever the file says.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="HDF5, Zarr: name of the data set.")] = None,
    shape: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Raw files: planes, rows, columns.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Raw files: uint8, uint16, float32 ...")] = None,
    byte_order: Annotated[
        Literal["little", "big"], typer.Option(help="Raw files: order of the bytes.")
    ] = "little",
    as_json: Json = False,
) -> None:
    """Look at a scan: what it is, and how it may be read.

    Proposes polarity, radius band and a split into independent parts, or says why not.
    """
    if radius is not None:
        _check_radius(radius)
    _check_paths([path], picture=(picture, ".png"))
    from microgan.commands.inspect import in_words, inspect

    options = {
        "planes": planes,
        "exclude": exclude or [],
        "voxel_size_um": voxel_size_um,
        "dataset": dataset,
        "shape": shape,
        "dtype": dtype,
        "byte_order": byte_order,
    }
    result = inspect(path, options, polarity, radius, add=add, picture=picture)
    _print_result(result, in_words(result), as_json)


@app.command("simulate")
def simulate_command(
    out: Annotated[Path, typer.Option(help="Folder to write: scan.tif and the true circles.csv.")],
    planes: Annotated[int, typer.Option(help="Number of independent planes.")] = 1,
    size_px: Annotated[int, typer.Option(help="Rows and columns of a plane, px.")] = 448,
    radius_px: Annotated[float, typer.Option(help="Mean radius of the discs, px.")] = 6.0,
    radius_sd_px: Annotated[float, typer.Option(help="Standard deviation of the radius, px.")] = 0.35,
    volume_fraction: Annotated[float, typer.Option(help="Of the discs, up to 0.6.")] = 0.55,
    min_gap_px: Annotated[float, typer.Option(help="Least gap between the edges of two discs, px.")] = 0.5,
    polarity: Polarity = "bright",
    photons: Annotated[float, typer.Option(help="Per detector pixel; fewer make more noise.")] = 8000.0,
    voxel_size_um: Annotated[float, typer.Option(help="Side of a pixel, micrometres.")] = 1.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Simulate a tomogram of discs, with the true circles."""
    from microgan.commands.simulate import simulate
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
    result = simulate(SimulateConfig.from_mapping(values, "simulate"), out)
    found = f"{counted(result['discs'], 'disc')} in {counted(planes, 'plane')}"
    words = f"{found}, volume fraction {result['volume_fraction']:.3f}"
    _print_result(
        result, f"{words}, signal-to-noise ratio {result['signal_to_noise']:.1f}, written to {out}", as_json
    )


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
    _check_radius(radius)
    _check_paths(images, out=(out, ".csv"))
    from microgan.commands.detect import detect
    from microgan.detection.detector import Detector

    result = detect(images, Detector(radius, polarity), out, overlay)
    words = f"{counted(result['discs'], 'disc')} in {counted(result['images'], 'image')}, written to {out}"
    _print_result(result, words, as_json)


@app.command("calibrate")
def calibrate_command(
    scan: Annotated[Path, typer.Argument(help="File or folder of slices.")],
    radius: Annotated[
        tuple[float, float], typer.Option(help="Smallest and largest radius of the discs, px.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: planes/, reference.json, standard.json.")],
    polarity: Polarity = "bright",
    window_px: Annotated[int, typer.Option(help="Side of the windows, px, a multiple of 8.")] = 64,
    calibration: Annotated[
        str, typer.Option(help='Part that limits are fixed on: planes, "4:6", or a fraction of the rows.')
    ] = "0.2",
    held_out: Annotated[str, typer.Option(help="Part that is used for figures alone, likewise.")] = "0.2",
    margin_px: Annotated[int, typer.Option(help="Rows between parts that belong to none.")] = 16,
    voxel_size_um: Annotated[
        float | None, typer.Option(help="Side of a pixel, micrometres. Default: as the file says.")
    ] = None,
    planes: Annotated[str | None, typer.Option(help='Planes to read, a range: "10:200:4".')] = None,
    dataset: Annotated[str | None, typer.Option(help="HDF5, Zarr: name of the data set.")] = None,
    false_rejection_budget: Annotated[
        float, typer.Option(help="Fraction of real windows that all rules together may reject.")
    ] = 0.05,
    windows: Annotated[int, typer.Option(help="Real windows that limits are fixed on.")] = 2000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Read and split a scan, and fix the rules of validity on its windows.

    The folder OUT is what `microgan train` learns from; its reference.json is what the other commands take.
    """
    from microgan.commands.calibrate import calibrate
    from microgan.scan.config import ScanConfig
    from microgan.validity.calibration import CalibrationConfig

    if window_px < 16 or window_px % 8:
        raise UserError("--window-px", window_px, "must be a multiple of 8, at least 16")
    parts = {"calibration": _part("--calibration", calibration), "held_out": _part("--held-out", held_out)}
    values = {
        "radius_px": radius,
        "polarity": polarity,
        "voxel_size_um": voxel_size_um,
        "planes": planes,
        "dataset": dataset,
        "split": parts | {"margin_px": margin_px},
    }
    rules = {"false_rejection_budget": false_rejection_budget, "windows": windows, "seed": seed}
    config = CalibrationConfig.from_mapping(rules, "calibrate")
    result = calibrate(scan, ScanConfig.from_mapping(values, "scan"), window_px, config, out)
    words = (
        f"limits fixed: {result['held_out_pass_rate']:.1%} of real held-out windows pass, and of windows with"
    )
    worst = sorted(result["detection_rates"].items(), key=lambda item: item[1])[:3]
    words += f" planted defects are rejected least: {', '.join(f'{name} {rate:.0%}' for name, rate in worst)}"
    _print_result(result, f"{words}; written to {out}", as_json)


def _part(option: str, text: str) -> str | float:
    """Read a part of a scan: a range of planes or a fraction of the rows."""
    if ":" in text:
        return text
    try:
        return float(text)
    except ValueError:
        rule = 'must be planes, "4:6", or a fraction of the rows, 0.2'
        raise UserError(option, text, rule) from None


@app.command("train")
def train_command(
    scan: Annotated[Path, typer.Argument(help="Folder that `microgan calibrate` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder to write: generator, model card, loss curves.")],
    model: Annotated[Literal["dcgan", "wgan_gp"], typer.Option(help="Kind of training.")] = "wgan_gp",
    minutes: Annotated[
        float, typer.Option(help="At most; half as long again for wgan_gp, which learns more slowly.")
    ] = 10.0,
    steps: Annotated[int, typer.Option(help="Generator steps, at most.")] = 20_000,
    physics_weight: Annotated[float, typer.Option(help="Of the physical loss; 0: off.")] = 1.0,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="To compute on.")] = "auto",
    init_from: Annotated[Path | None, typer.Option(help="Folder of a model to start from.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a generator. After Ctrl-C the same command goes on where it was."""
    from microgan.commands.train import train
    from microgan.gan.config import TrainConfig

    values = {
        "minutes": minutes,
        "steps": steps,
        "physics": {"weight": physics_weight},
        "device": device,
        "init_from": init_from,
        "seed": seed,
    }
    result = train(scan, model, TrainConfig.from_mapping(values, "train"), out)
    words = f"{result['steps']} steps in {result['seconds'] / 60:.1f} minutes"
    if result["kept"]:
        words += f"; kept: step {result['kept']['step']:.0f}, score {result['kept']['score']:.2f}"
    _print_result(result, f"{words}; written to {out}", as_json)


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
    rounds: Annotated[int, typer.Option(min=0, help="Most rounds of repair.")] = 100,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if an image stays invalid after repair.")
    ] = False,
    allow_own_rules: AllowOwnRules = False,
    as_json: Json = False,
) -> None:
    """Draw new images from a trained generator.

    Large images are written tile by tile and need not fit into memory; those under repair must. A card with
    their origin is written beside FILE.tif as FILE.json, where `microgan export` finds it.
    """
    if min(size) < 1:
        raise UserError("--size", f"{size[0]} {size[1]}", "must be at least 1 1")
    for option, given in (
        ("--strict", strict),
        ("--rounds", rounds != 100),
        ("--allow-own-rules", allow_own_rules),
    ):
        if given and repair is None:
            raise UserError(
                option, "without --repair", "needs --repair REFERENCE, as only then images are judged"
            )
    from microgan.commands.images import ReferenceFile
    from microgan.commands.sample import Repair, sample
    from microgan.core.domain import Domain
    from microgan.samples.card import SampleConfig
    from microgan.samples.repair import RepairConfig

    asked = None
    if repair is not None:
        asked = Repair(ReferenceFile(repair, allow_own_rules), RepairConfig(rounds=rounds))
    result = sample(model, SampleConfig(count=count, seed=seed), Domain(size, periodic), out, asked)
    words = f"{counted(count, 'image')} of {size[0]} x {size[1]} px written to {out}"
    repaired = result["repaired"]
    if repaired:
        verb = "is" if repaired["valid"] == 1 else "are"
        valid = f"{repaired['valid']} {verb} valid as a whole"
        words += f"; {valid}, {repaired['changed']:.1%} of the latent is new"
    _print_result(result, words, as_json)
    if strict and repaired and repaired["valid"] < count:
        raise typer.Exit(1)


@app.command("validate")
def validate_command(
    images: Images,
    reference: ReferenceFile,
    out: Csv,
    overlay: Overlay = None,
    keep: Annotated[
        Path | None, typer.Option(help="TIFF stack to write: the valid images, as they are in their files.")
    ] = None,
    grey_scale: GreyScale = "scan",
    periodic: Periodic = False,
    allow_own_rules: AllowOwnRules = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an image is invalid.")] = False,
    as_json: Json = False,
) -> None:
    """Judge images by the calibrated rules of their material.

    An image larger than the windows that the rules were calibrated on is valid when all of its windows are,
    half a window from one to the next, and no two discs of the whole image overlap by too much.
    """
    _check_paths([*images, reference], out=(out, ".csv"), keep=(keep, *TIFF))
    from microgan.commands.images import ReferenceFile
    from microgan.commands.validate import validate

    rules = ReferenceFile(reference, allow_own_rules)
    result = validate(images, rules, grey_scale, periodic, out=out, overlay=overlay, keep=keep)
    valid = f"{result['valid']} of {counted(result['images'], 'image')}"
    words = f"{valid} valid ({result['pass_rate']:.1%}); verdicts written to {out}"
    if result["large"]:
        large = f"{counted(result['large'], 'image')} larger than a window"
        words += f"; {large}: measures left empty, as those are of windows"
    if keep is not None:
        kept = f"valid images to {keep}" if result["valid"] else f"none is valid: {keep} was not written"
        words += f", {kept}"
    _print_result(result, words, as_json)
    if strict and result["valid"] < result["images"]:
        raise typer.Exit(1)


@app.command("windows")
def windows_command(
    scan: Annotated[Path, typer.Argument(help="data/planes of a project, or a file or folder of slices.")],
    out: Annotated[Path, typer.Option(help="TIFF stack to write, in the scan's own grey values.")],
    count: Annotated[int, typer.Option(min=1, help="Number of windows.")] = 100,
    size: Annotated[int, typer.Option(min=8, help="Side of a window, px.")] = 64,
    part: Annotated[
        Literal["train", "calibration", "held_out"] | None,
        typer.Option(help="Of data/planes: the part to draw from. Default: held_out."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Cut real windows out of a scan, at random places of its field of view: for `compare`."""
    _check_paths([scan], out=(out, *TIFF))
    from microgan.commands.windows import windows

    result = windows(scan, count, size, seed, out, part)
    words = f"{counted(count, 'window')} of {size} x {size} px written to {out}"
    _print_result(result, words, as_json)


@app.command("compare")
def compare_command(
    images: Annotated[Path, typer.Argument(help="File or folder of images: the first set.")],
    real: Annotated[Path, typer.Argument(help="File or folder of images: the set to compare it with.")],
    reference: ReferenceFile,
    out: Annotated[Path | None, typer.Option(help="JSON file to write: all figures.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to write: all curves.")] = None,
    solve: Annotated[int, typer.Option(min=2, help="Images of each set whose stiffness is computed.")] = 100,
    seed: Seed = 0,
    grey_scale: GreyScale = "scan",
    allow_own_rules: AllowOwnRules = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a descriptor differs.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two sets of images by all descriptors.

    Each descriptor is tested for equality, and means also for equivalence within a margin.
    """
    _check_paths([images, real, reference], out=(out, ".json"), plot=(plot, ".png"))
    from microgan.commands.compare import compare, in_words
    from microgan.commands.images import ReferenceFile
    from microgan.evaluation.homogenisation import PropertiesConfig
    from microgan.evaluation.real_statistics import FidelityConfig

    rules = ReferenceFile(reference, allow_own_rules)
    config, properties = FidelityConfig(seed=seed), PropertiesConfig(count=solve)
    result = compare(images, real, rules, grey_scale, config, properties, out=out, plot=plot)
    _print_result(result, in_words(result), as_json)
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
        Path | None,
        typer.Option(help="reference.json of the material, for grey images. Default: phase images."),
    ] = None,
    voxel_size_um: Annotated[
        float | None,
        typer.Option(
            help="Side of a pixel, micrometres. Default: as the card, the file or the reference says."
        ),
    ] = None,
    length_unit: Annotated[
        Literal["um", "mm", "m"],
        typer.Option(help="Unit of lengths in the files, where the voxel size is known."),
    ] = "um",
    phase_from: Annotated[
        Literal["grey", "circles"],
        typer.Option(help="Phase by the grey threshold, or discs drawn from the circles."),
    ] = "grey",
    refinement: Annotated[
        int, typer.Option(help="Voxels along one pixel, for discs drawn from circles.")
    ] = 1,
    extrude_voxels: Annotated[int, typer.Option(help="Planes along the discs, in 3D formats.")] = 1,
    element_size: Annotated[
        float, typer.Option(help="Side of triangles at an edge over the radius (msh, vtu).")
    ] = 0.25,
    phases: Annotated[tuple[str, str], typer.Option(help="Names of matrix and discs.")] = ("matrix", "fibre"),
    disc_material: Annotated[
        str | None,
        typer.Option(
            help="Of inp: e_glass, carbon, epoxy, or a JSON file with young_modulus_gpa and poisson_ratio."
        ),
    ] = None,
    matrix_material: Annotated[str | None, typer.Option(help="The same of the matrix.")] = None,
    include_invalid: Annotated[
        bool, typer.Option("--include-invalid", help="Write the invalid structures too.")
    ] = False,
    grey_scale: GreyScale = "scan",
    periodic: Annotated[
        bool | None,
        typer.Option(help="Whether opposite borders fit together. Default: as in the samples' card, or not."),
    ] = None,
    allow_own_rules: AllowOwnRules = False,
    as_json: Json = False,
) -> None:
    """Write images as files that solvers read.

    Images are phase images of two values or, with a reference, grey ones. These are judged, and the valid
    ones are written.
    """
    _check_paths(images if reference is None else [*images, reference])
    from microgan.commands.export import export, in_words, materials_of
    from microgan.commands.images import ReferenceFile
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
        "include_invalid": include_invalid,
    }
    config = ExportConfig.from_mapping(values, "export")
    rules = None if reference is None else ReferenceFile(reference, allow_own_rules)
    materials = materials_of(disc_material, matrix_material, config.phases, config.formats)
    result = export(images, rules, grey_scale, periodic, out, config, materials)
    _print_result(result, in_words(result), as_json)


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 2."""
    try:
        with warnings_on_stderr():
            app(prog_name="microgan")
    except (UserError, OSError) as error:
        _leave(one_line(error))
    except MemoryError as error:
        _leave(f"memory is full: {one_line(error) or 'use fewer or smaller images'}")


def _check_radius(band_px: tuple[float, float]) -> None:
    if not 1 <= band_px[0] < band_px[1] < math.inf:
        rule = "must be MIN MAX with 1 <= MIN < MAX, both finite"
        raise UserError("--radius", f"{band_px[0]:g} {band_px[1]:g}", rule)


def _check_paths(read: Iterable[Path], **written: tuple[Path | None, str, *tuple[str, ...]]) -> None:
    """Refuse missing paths, and names that promise another kind of file, before torch is imported."""
    for option, (path, *suffixes) in written.items():
        if path is not None and path.suffix.lower() not in suffixes:
            rule = " or ".join(f"*{suffix}" for suffix in suffixes)
            raise UserError(f"--{option}", path, f"must be named {rule}")
    for path in read:
        if not path.exists():
            raise UserError(path, "missing", "the file or folder must exist")


def _print_result(result: Mapping[str, Any], words: str, as_json: bool) -> None:
    typer.echo(json.dumps(result, default=list, allow_nan=False) if as_json else words)


def _leave(words: str) -> None:
    typer.echo(f"microgan: {words}", err=True)
    sys.exit(2)
