"""Commands of models and their samples: train, sample, validate, compare, export, homogenise."""

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
    Periodic,
    ReferenceFile,
    Seed,
    Shape,
    check_new,
    check_paths,
    print_result,
    reading,
)
from microgan.cli.targets import refuse_inputs, refuse_links
from microgan.core.errors import UserError, escaped
from microgan.core.words import counted
from microgan.scan.allowed import LARGEST_PLANE_PX


@app.command("train")
def train_command(
    scan: Annotated[Path, typer.Argument(help="Folder that `microgan calibrate` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder to write: generator, model card, loss curves.")],
    model: Annotated[Literal["dcgan", "wgan_gp"], typer.Option(help="Kind of training.")] = "wgan_gp",
    steps: Annotated[
        int, typer.Option(help="Of the generator; half as many again for wgan_gp, which learns more slowly.")
    ] = 3000,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after these, too; the result then depends on the machine."),
    ] = None,
    physics_weight: Annotated[float, typer.Option(help="Of the physical loss; 0: off.")] = 1.0,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="To compute on.")] = "auto",
    init_from: Annotated[Path | None, typer.Option(help="Folder of a model to start from.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a generator. After Ctrl-C the same command goes on where it was."""
    check_paths([scan, *([] if init_from is None else [init_from])])
    check_new(out)
    from microgan.commands.train import train
    from microgan.gan.config import TrainConfig

    values = {
        "steps": steps,
        "minutes": minutes,
        "physics": {"weight": physics_weight},
        "device": device,
        "init_from": init_from,
        "seed": seed,
    }
    result = train(scan, model, TrainConfig.from_mapping(values, "train"), out)
    words = f"{result['steps']} steps in {result['seconds'] / 60:.1f} minutes"
    words += ", stopped by the clock: not reproducible" if result["stopped_by_clock"] else ""
    if result["kept"]:
        words += f"; kept: step {result['kept']['step']:.0f}, score {result['kept']['score']:.2f}"
    print_result(result, f"{words}; written to {escaped(out)}", as_json)


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
    clean: Annotated[
        bool, typer.Option("--clean", help="The same images without the noise of the scanner.")
    ] = False,
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
    of_model = [Path(model)] if Path(model).exists() else []  # else it is a name, or missing
    check_paths([*of_model, *([] if repair is None else [repair])], out=(out, *TIFF))
    refuse_inputs("--out", out.with_suffix(".json"), [] if repair is None else [repair])  # its card
    refuse_links("--out", out.with_suffix(".json"))
    from microgan.commands.images import ReferenceFile
    from microgan.commands.sample import Repair, sample
    from microgan.core.domain import Domain
    from microgan.samples.card import SampleConfig
    from microgan.samples.repair import RepairConfig

    asked = None
    if repair is not None:
        asked = Repair(ReferenceFile(repair, allow_own_rules), RepairConfig(rounds=rounds))
    result = sample(model, SampleConfig(count=count, seed=seed), Domain(size, periodic), out, asked, clean)
    words = f"{counted(count, 'image')} of {size[0]} x {size[1]} px written to {escaped(out)}"
    repaired = result["repaired"]
    if repaired:
        verb = "is" if repaired["valid"] == 1 else "are"
        valid = f"{repaired['valid']} {verb} valid as a whole"
        if repaired["valid_by_stricter_limit"] != repaired["valid"]:
            valid += f" ({repaired['valid_by_stricter_limit']} by the stricter limit of overlap in repair)"
        words += f"; {valid}, {repaired['changed']:.1%} of the latent is new"
    print_result(result, words, as_json)
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
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if an image is invalid.")] = False,
    as_json: Json = False,
) -> None:
    """Judge images by the calibrated rules of their material.

    An image larger than the windows that the rules were calibrated on is valid when all of its windows are,
    half a window from one to the next, and no two discs of the whole image overlap by too much.
    """
    check_paths([*images, reference], out=(out, ".csv"), keep=(keep, *TIFF), overlay=(overlay,))
    if keep is not None:
        refuse_inputs("--keep", keep.with_suffix(".json"), [reference])  # its card
        refuse_links("--keep", keep.with_suffix(".json"))
    from microgan.commands.images import ReferenceFile
    from microgan.commands.validate import validate

    rules = ReferenceFile(reference, allow_own_rules)
    read = reading(dataset, follow_outside, largest_plane_px, shape, dtype, byte_order)
    result = validate(images, rules, grey_scale, periodic, out=out, overlay=overlay, keep=keep, reading=read)
    valid = f"{result['valid']} of {counted(result['images'], 'image')}"
    most = ", ".join(f"{name} {count}" for name, count in list(result["rejected_by"].items())[:3])
    words = f"{valid} valid ({result['pass_rate']:.1%}){most and f', rejected for {most}'}"
    words += f"; verdicts written to {escaped(out)}"
    if result["large"]:
        large = f"{counted(result['large'], 'image')} larger than a window"
        words += f"; {large}: measures left empty, as those are of windows"
    if keep is not None:
        kept = (
            f"valid images to {escaped(keep)}"
            if result["valid"]
            else f"none is valid: {escaped(keep)} was not written"
        )
        words += f", {kept}"
    print_result(result, words, as_json)
    if strict and result["valid"] < result["images"]:
        raise typer.Exit(1)


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
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a descriptor differs.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two sets of images by all descriptors.

    Each descriptor is tested for equality, and means also for equivalence within a margin.
    """
    check_paths([images, real, reference], out=(out, ".json"), plot=(plot, ".png"))
    from microgan.commands.compare import compare, in_words
    from microgan.commands.images import ReferenceFile
    from microgan.evaluation.homogenisation import PropertiesConfig
    from microgan.evaluation.real_statistics import FidelityConfig

    rules = ReferenceFile(reference, allow_own_rules)
    config, properties = FidelityConfig(seed=seed), PropertiesConfig(count=solve)
    read = reading(dataset, follow_outside, largest_plane_px, shape, dtype, byte_order)
    result = compare(images, real, rules, grey_scale, config, properties, out=out, plot=plot, reading=read)
    print_result(result, in_words(result), as_json)
    if strict and result["differing"]:
        raise typer.Exit(1)


@app.command("export")
def export_command(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    format: Annotated[
        list[str],
        typer.Option(
            help="vti, vtk, hdf5, nrrd, inp, inp-mesh, msh, vtu, tiff, csv, json; may be given several times."
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
        float, typer.Option(help="Side of triangles at an edge over the radius (inp-mesh, msh, vtu).")
    ] = 0.25,
    phases: Annotated[tuple[str, str], typer.Option(help="Names of matrix and discs.")] = ("matrix", "fibre"),
    phase: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=hole|solid",
            help="Leave a phase out of inp, inp-mesh, msh, vtu, or keep it. Default: dark discs are holes.",
        ),
    ] = None,
    deck: Annotated[
        Literal["stiffness", "uniaxial"] | None,
        typer.Option(
            help="Write load cases: beside inp, inp-mesh for CalculiX or Abaqus; stiffness also beside vti "
            "(DAMASK) and hdf5 (FANS)."
        ),
    ] = None,
    split_interface: Annotated[
        bool,
        typer.Option(
            "--split-interface", help="Give each phase of inp-mesh nodes of its own where phases meet."
        ),
    ] = False,
    disc_material: Annotated[
        str | None,
        typer.Option(
            help="Of inp, inp-mesh, decks: e_glass, carbon, epoxy, or a JSON file with young_modulus_gpa and "
            "poisson_ratio."
        ),
    ] = None,
    matrix_material: Annotated[str | None, typer.Option(help="The same of the matrix.")] = None,
    interphase_um: Annotated[
        float | None,
        typer.Option(help="Thickness, micrometres, of a layer around the discs, a third phase (id 2)."),
    ] = None,
    interphase_material: Annotated[str | None, typer.Option(help="Its material, as of the discs.")] = None,
    include_invalid: Annotated[
        bool, typer.Option("--include-invalid", help="Write the invalid structures too.")
    ] = False,
    grey_scale: GreyScale = "scan",
    periodic: Annotated[
        bool | None,
        typer.Option(help="Whether opposite borders fit together. Default: as in the samples' card, or not."),
    ] = None,
    dataset: DataSet = None,
    follow_outside: FollowOutside = False,
    largest_plane_px: LargestPlane = LARGEST_PLANE_PX,
    shape: Shape = None,
    dtype: DType = None,
    byte_order: ByteOrder = "little",
    allow_own_rules: AllowOwnRules = False,
    as_json: Json = False,
) -> None:
    """Write images as files that solvers read.

    Images are phase images of two values or, with a reference, grey ones. These are judged, and the valid
    ones are written.
    """
    named = (disc_material, matrix_material, interphase_material)
    materials = [Path(name) for name in named if name and name.endswith(".json")]
    check_paths([*images, *([] if reference is None else [reference]), *materials], out=(out,))
    from microgan.commands.export import export, holes_of, in_words, materials_of
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
        "deck": deck,
        "split_interface": split_interface,
        "interphase_um": interphase_um,
        "interphase_material": interphase_material,
        "holes": holes_of(phase or [], disc_material),
    }
    config = ExportConfig.from_mapping(values, "export")
    rules = None if reference is None else ReferenceFile(reference, allow_own_rules)
    elastic = materials_of(disc_material, matrix_material, config)
    read = reading(dataset, follow_outside, largest_plane_px, shape, dtype, byte_order)
    result = export(images, rules, grey_scale, periodic, out, config, elastic, read)
    print_result(result, in_words(result), as_json)


@app.command("homogenise")
def homogenise_command(
    dat: Annotated[Path, typer.Argument(metavar="FILE.dat", help="What CalculiX printed for a deck.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write: all figures.")] = None,
    as_json: Json = False,
) -> None:
    """Read the effective stiffness from a deck that was solved.

    Decks are written by `microgan export --deck`. Prints the stiffness matrix, engineering constants, and the
    bounds of Hashin and Shtrikman.
    """
    if dat.suffix.lower() != ".dat":
        raise UserError(dat, "no .dat", "must be the .dat that CalculiX wrote")
    check_paths([dat], out=(out, ".json"))
    if out is not None:
        refuse_inputs("--out", out, [dat.with_suffix(".json")])  # the deck's record
    from microgan.commands.homogenise import homogenise, in_words

    result = homogenise(dat, out)
    print_result(result, in_words(result), as_json)
