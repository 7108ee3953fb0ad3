"""Commands that begin with a scan: inspect, simulate, detect, calibrate, windows, rve-size."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from microgan.cli.app import app
from microgan.cli.options import (
    TIFF,
    AllowOwnRules,
    ByteOrder,
    Csv,
    DataSet,
    DType,
    FollowOutside,
    GreyScale,
    Images,
    Json,
    LargestPlane,
    Overlay,
    Polarity,
    ReferenceFile,
    Seed,
    Shape,
    check_new,
    check_paths,
    check_radius,
    print_result,
    reading,
)
from microgan.core.domain import must_be_window_px
from microgan.core.errors import UserError, escaped
from microgan.core.words import counted
from microgan.scan.allowed import LARGEST_PLANE_PX

Exclude = Annotated[
    list[str] | None, typer.Option(help="Name or pattern of files that are no slices; may be repeated.")
]


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
    exclude: Exclude = None,
    voxel_size_um: Annotated[
        float | None, typer.Option(help="Side of a pixel, micrometres, whatever the file says.")
    ] = None,
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    as_json: Json = False,
) -> None:
    """Look at a scan: what it is, and how it may be read.

    Proposes polarity, radius band and a split into independent parts, or says why not.
    """
    if radius is not None:
        check_radius(radius)
    check_paths([path], picture=(picture, ".png"))
    from microgan.commands.inspect import in_words, inspect

    options = {
        "planes": planes,
        "exclude": exclude or [],
        "voxel_size_um": voxel_size_um,
        "dataset": dataset,
        "follow_outside": follow_outside,
        "largest_plane_px": largest_plane_px,
        "shape": shape,
        "dtype": dtype,
        "byte_order": byte_order,
    }
    result = inspect(path, options, polarity, radius, add=add, picture=picture)
    print_result(result, in_words(result), as_json)


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
    check_new(out)
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
    ratio = result["signal_to_noise"]
    noise = "unknown: no disc has a core" if ratio is None else f"{ratio:.1f}"
    words = f"{found}, volume fraction {result['volume_fraction']:.3f}, signal-to-noise ratio {noise}"
    print_result(result, f"{words}, written to {escaped(out)}", as_json)


@app.command("detect")
def detect_command(
    images: Images,
    radius: Annotated[tuple[float, float], typer.Option(help="Smallest and largest radius, px.")],
    out: Csv,
    polarity: Polarity = "bright",
    overlay: Overlay = None,
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    as_json: Json = False,
) -> None:
    """Find the discs of images.

    The CSV file has the columns image, row, col, radius, score: in pixels, pixel centres at integers.
    """
    check_radius(radius)
    check_paths(images, out=(out, ".csv"), overlay=(overlay,))
    from microgan.commands.detect import detect
    from microgan.detection.detector import Detector

    read = reading(dataset, follow_outside, largest_plane_px, shape, dtype, byte_order)
    result = detect(images, Detector(radius, polarity), out, overlay, read)
    words = f"{counted(result['discs'], 'disc')} in {counted(result['images'], 'image')}"
    print_result(result, f"{words}, written to {escaped(out)}", as_json)


@app.command("calibrate")
def calibrate_command(
    scan: Annotated[Path, typer.Argument(help="File or folder of slices.")],
    radius: Annotated[
        tuple[float, float], typer.Option(help="Smallest and largest radius of the discs, px.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: planes/, reference.json and its files.")],
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
    exclude: Exclude = None,
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    false_rejection_budget: Annotated[
        float, typer.Option(help="Fraction of real windows that all rules together may reject.")
    ] = 0.05,
    windows: Annotated[int, typer.Option(help="Real windows that limits are fixed on.")] = 2000,
    learning_steps: Annotated[
        int,
        typer.Option(min=0, help="Steps in which networks learn to see faults; 0: without that rule."),
    ] = 2000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Read and split a scan, and fix the rules of validity on its windows.

    The folder OUT is what `microgan train` learns from; its reference.json is what the other commands take.
    """
    check_radius(radius)
    check_paths([scan])
    check_new(out)
    from microgan.commands.calibrate import calibrate
    from microgan.scan.config import ScanConfig
    from microgan.validity.calibration import CalibrationConfig
    from microgan.validity.rules import LEARNT_FAULT

    must_be_window_px("--window-px", window_px)
    parts = {"calibration": _part("--calibration", calibration), "held_out": _part("--held-out", held_out)}
    values = {
        "radius_px": radius,
        "polarity": polarity,
        "voxel_size_um": voxel_size_um,
        "planes": planes,
        "exclude": exclude or [],
        "dataset": dataset,
        "follow_outside": follow_outside,
        "largest_plane_px": largest_plane_px,
        "shape": shape,
        "dtype": dtype,
        "byte_order": byte_order,
        "split": parts | {"margin_px": margin_px},
    }
    rules = {
        "false_rejection_budget": false_rejection_budget,
        "windows": windows,
        "seed": seed,
        "learnt": {"steps": max(learning_steps, 1)},
        "rules": {LEARNT_FAULT: {"enabled": learning_steps > 0}},
    }
    config = CalibrationConfig.from_mapping(rules, "calibrate")
    result = calibrate(scan, ScanConfig.from_mapping(values, "scan"), window_px, config, out)
    words = (
        f"limits fixed: {result['held_out_pass_rate']:.1%} of real held-out windows pass, and of windows with"
    )
    worst = sorted(result["detection_rates"].items(), key=lambda item: item[1])[:3]
    words += f" planted defects are rejected least: {', '.join(f'{name} {rate:.0%}' for name, rate in worst)}"
    print_result(result, f"{words}; written to {escaped(out)}", as_json)


def _part(option: str, text: str) -> str | float:
    """Read a part of a scan: a range of planes or a fraction of the rows."""
    if ":" in text:
        return text
    try:
        return float(text)
    except ValueError:
        rule = 'must be planes, "4:6", or a fraction of the rows, 0.2'
        raise UserError(option, text, rule) from None


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
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Cut real windows out of a scan, at random places of its field of view: for `compare`."""
    check_paths([scan], out=(out, *TIFF))
    from microgan.commands.windows import windows

    read = reading(dataset, follow_outside, largest_plane_px, shape, dtype, byte_order)
    result = windows(scan, count, size, seed, out, part, read)
    words = f"{counted(count, 'window')} of {size} x {size} px written to {escaped(out)}"
    print_result(result, words, as_json)


@app.command("rve-size")
def rve_size_command(
    scan: Annotated[Path, typer.Argument(help="data/planes of a project, or a file or folder of slices.")],
    reference: ReferenceFile,
    cell_px: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Side of a cell to list, px; may be repeated. Default: windows and more."),
    ] = None,
    half_width: Annotated[
        float, typer.Option(help="Wanted: how near to the material's the volume fraction of a cell must be.")
    ] = 0.01,
    stiffness_half_width: Annotated[
        float, typer.Option(help="Wanted: how near the in-plane stiffness must be, relative: 0.02 is 2 %.")
    ] = 0.02,
    confidence: Annotated[float, typer.Option(help="Fraction of the cells that are so near.")] = 0.95,
    solve: Annotated[
        int, typer.Option(min=0, help="Windows whose stiffness is computed, 10 at least; 0: no stiffness.")
    ] = 100,
    disc_material: Annotated[
        str, typer.Option(help="e_glass, carbon, epoxy, or a JSON file with the moduli, as for export.")
    ] = "e_glass",
    matrix_material: Annotated[str, typer.Option(help="The same of the matrix.")] = "epoxy",
    out: Annotated[Path | None, typer.Option(help="JSON file to write: all figures.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to write: intervals over the side.")] = None,
    seed: Seed = 0,
    grey_scale: GreyScale = "scan",
    allow_own_rules: AllowOwnRules = False,
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    as_json: Json = False,
) -> None:
    """Say how large a cell must be to stand for its material.

    From the two-point correlation of a scan: how far the volume fraction of a cell may be from the
    material's, by its size, and from windows that are solved, how far its stiffness.
    """
    for option, value in (
        ("--half-width", half_width),
        ("--stiffness-half-width", stiffness_half_width),
        ("--confidence", confidence),
    ):
        if not 0 < value < 1:
            raise UserError(option, value, "must be above 0 and below 1")
    if 0 < solve < 10:
        raise UserError("--solve", solve, "must be at least 10, to see how stiffness varies, or 0")
    materials = [Path(name) for name in (disc_material, matrix_material) if name.endswith(".json")]
    check_paths([scan, reference, *materials], out=(out, ".json"), plot=(plot, ".png"))
    from microgan.commands.export import material_of
    from microgan.commands.images import ReferenceFile
    from microgan.commands.rve_size import in_words, rve_size
    from microgan.evaluation.homogenisation import PropertiesConfig

    discs, matrix = (
        material_of(option, name)
        for option, name in (("--disc-material", disc_material), ("--matrix-material", matrix_material))
    )
    values = {"discs": discs, "matrix": matrix, "count": max(solve, 2)}
    properties = PropertiesConfig.from_mapping(values, "materials")
    result = rve_size(
        scan,
        ReferenceFile(reference, allow_own_rules),
        grey_scale,
        properties if solve else None,
        (half_width, stiffness_half_width),
        sides_px=cell_px or (),
        confidence=confidence,
        seed=seed,
        out=out,
        plot=plot,
        reading=reading(dataset, follow_outside, largest_plane_px, shape, dtype, byte_order),
    )
    print_result(result, in_words(result), as_json)
