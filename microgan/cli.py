"""Valid synthetic microstructures on the command line, for people without a pipeline."""

import re
import sys
from collections.abc import Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
import typer
from tqdm import tqdm

from microgan.checkpoint import load_model
from microgan.detection import detect
from microgan.errors import UserError, one_line
from microgan.export import ExportConfig, export, phase_from_labels
from microgan.files import digest, write_csv, write_json, write_tiff
from microgan.pictures import circle_overlay, descriptor_sheet
from microgan.planes import ScanInfo
from microgan.sampling import sample
from microgan.scan import open_image
from microgan.validity import Reference, detect_all, judge, phase_image, rules_of

if TYPE_CHECKING:
    from microgan.description import Descriptor

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

SUFFIXES = (".tif", ".tiff", ".png", ".npy")  # of the images that are looked for in folders
BATCH_PX = 1 << 18  # of the pages that are worked on, and in memory, at once; a larger page is alone
OVERLAY_PX = 1600  # to about this size small pages are magnified

Images = Annotated[
    list[Path], typer.Argument(help="TIFF, PNG or NPY files, or folders of them; every page is an image.")
]
Csv = Annotated[Path, typer.Option(help="CSV file to write.")]
Overlay = Annotated[
    Path | None, typer.Option(help="Folder to write a PNG of each page to, with the circles drawn on it.")
]
AllowOwnRules = Annotated[
    bool, typer.Option("--allow-own-rules", help="Run the Python functions that the reference names.")
]


@app.command("detect")
def detect_command(
    images: Images,
    radius: Annotated[tuple[float, float], typer.Option(help="Smallest and largest radius, px.")],
    out: Csv,
    polarity: Annotated[Literal["bright", "dark"], typer.Option(help="Of the discs.")] = "bright",
    overlay: Overlay = None,
) -> None:
    """Find the discs of images: image,row,col,radius,score in pixels, pixel centres at integers."""
    if not 1 <= radius[0] < radius[1]:
        raise UserError("--radius", f"{radius[0]:g} {radius[1]:g}", "must be MIN MAX with 1 <= MIN < MAX")
    discs = 0

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal discs
        number = count()
        for names, pages in _batches(images, "detect"):
            grey = np.stack([_stretch(page) for page in pages])
            found = detect(torch.from_numpy(grey)[:, None], radius, polarity)
            for name, image, circles in zip(names, grey, found, strict=True):
                if overlay is not None:
                    picture = overlay / _picture_name(next(number), name)
                    circle_overlay(image, circles, picture, _magnify(image))
                discs += len(circles)
                yield from ((name, *(round(float(value), 4) for value in row)) for row in circles.table())

    write_csv(out, ("image", "row", "col", "radius", "score"), rows())
    typer.echo(f"{discs} discs written to {out}")


@app.command("sample")
def sample_command(
    model_dir: Annotated[Path, typer.Argument(help="Folder with generator.safetensors and model.json.")],
    out: Annotated[Path, typer.Option(help="TIFF stack to write, in the scan's own grey values.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 16,
    size: Annotated[tuple[int, int], typer.Option(help="Rows and columns, px.")] = (64, 64),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    periodic: Annotated[bool, typer.Option("--periodic", help="Opposite borders fit together.")] = False,
) -> None:
    """Draw new images from a trained generator."""
    if min(size) < 1:
        raise UserError("--size", f"{size[0]} {size[1]}", "must be at least 1 1")
    generator, card = load_model(model_dir)
    info = ScanInfo.from_mapping(card.get("scan"), f"{model_dir / 'model.json'}: scan")
    images = sample(generator, count, size, seed, periodic=periodic)
    write_tiff(out, info.denormalise(images[:, 0].numpy()), info.voxel_size_um)
    typer.echo(f"{count} images of {size[0]} x {size[1]} px written to {out}")


@app.command("validate")
def validate_command(
    images: Images,
    reference: Annotated[Path, typer.Option(help="reference.json of the material.")],
    out: Csv,
    overlay: Overlay = None,
    allow_own_rules: AllowOwnRules = False,
) -> None:
    """Judge images, real or synthetic, by the calibrated rules of their material."""
    rules = Reference.load(reference)
    measures = sorted(rules_of(rules, allow_own_rules))
    judged = valid = 0

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal judged, valid
        for names, pages in _batches(images, "validate"):
            _must_have_the_size(names[0], pages[0].shape, rules, reference)
            grey = rules.scan.normalise(np.stack(pages))
            verdicts = judge(
                torch.from_numpy(grey)[:, None], rules, allow_own_rules=allow_own_rules, progress=False
            )
            for name, image, verdict in zip(names, grey, verdicts, strict=True):
                if overlay is not None:
                    picture = overlay / _picture_name(judged, name)
                    circle_overlay(image, verdict.circles, picture, _magnify(image), verdict.reasons)
                judged, valid = judged + 1, valid + verdict.valid
                values = (verdict.measures[key] for key in measures)
                yield name, verdict.valid, " ".join(verdict.reasons), *values

    write_csv(out, ("image", "valid", "reasons", *measures), rows())
    typer.echo(f"{valid / judged:.1%} of {judged} images are valid; verdicts written to {out}")


@app.command("compare")
def compare_command(
    images: Annotated[Path, typer.Argument(help="File or folder of images: the set in question.")],
    real: Annotated[Path, typer.Argument(help="File or folder of images: the set to compare with.")],
    reference: Annotated[Path, typer.Option(help="reference.json of the material, for phases and discs.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write all figures to.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw all curves to.")] = None,
    solve: Annotated[int, typer.Option(min=2, help="Images of each set to solve for stiffness.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    allow_own_rules: AllowOwnRules = False,
) -> None:
    """Put two sets of images side by side: all descriptors, tests that they are equal or equivalent."""
    from microgan.description import DESCRIPTORS  # here, so that the other commands start quickly
    from microgan.fidelity import LEVEL, FidelityConfig, Measured, compare, curves, flagged
    from microgan.properties import PropertiesConfig

    rules = Reference.load(reference)
    config, properties = FidelityConfig(seed=seed), PropertiesConfig(count=solve)

    def measured(path: Path) -> Measured:
        names, stack = _stack([path])
        _must_have_the_size(names[0], stack.shape[1:], rules, reference)
        grey = torch.from_numpy(rules.scan.normalise(stack))[:, None]
        verdicts = judge(grey, rules, allow_own_rules=allow_own_rules)
        return Measured.of(grey, verdicts, rules, config, properties)

    one, other = measured(images), measured(real)
    comparison = compare(one, other, {}, config)
    rows = [_compared(DESCRIPTORS[name], row) for name, row in comparison.table.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    differing = flagged(comparison.table)
    words = ", ".join(DESCRIPTORS[name].title.lower() for name in differing)
    typer.echo(f"differing at {LEVEL:.0%} in all: {words or 'none'}")
    if out is not None:
        sizes = {str(images): len(one.structure), str(real): len(other.structure)}
        write_json(out, {"descriptors": comparison.table, "differing": differing, "n": sizes})
    if plot is not None:
        tables = curves({"held_out": other.structure, "after": one.structure}, comparison.envelopes)
        descriptor_sheet({images.name: tables}, DESCRIPTORS, rules.scan.voxel_size_um, plot)


def _compared(descriptor: "Descriptor", row: Mapping[str, float | bool | None]) -> tuple[str, ...]:
    """Words for one descriptor: both values, error, p, and whether they are equivalent."""
    value, real = (f"{row[key]:.4g}" if row[key] is not None else "-" for key in ("value", "reference"))
    error = f"error {row['error']:.2%}" if row["error"] is not None else ""
    p = f"p {row['p']:.3f}" if row.get("p") is not None else ""
    equal = f"equivalent at {row['margin']:.0%}" if row.get("equivalent") else ""
    return descriptor.title, value, f"against {real}", descriptor.unit, error, p, equal


@app.command("export")
def export_command(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    format: Annotated[list[str], typer.Option(help="vti, tiff or csv; may be given several times.")],
    voxel_size_um: Annotated[
        float | None, typer.Option(help="Side of a voxel, micrometres. Default: unknown.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="reference.json of the material, for grey images; else: phase images.")
    ] = None,
) -> None:
    """Write images as files that solvers read: phase images of two values, or grey ones with a reference."""
    config = ExportConfig.from_mapping({"formats": format, "voxel_size_um": voxel_size_um}, "microgan export")
    names, stack = _stack(images)
    provenance = {"source": [{"file": str(path), "sha256": digest(path)} for path in _files(images)]}
    if reference is None:
        phase = phase_from_labels(stack, ", ".join(map(str, images)))
        export(None, phase, None, provenance, out, config, sources=names)
    else:
        rules = Reference.load(reference)
        grey = torch.from_numpy(rules.scan.normalise(stack))[:, None]
        phase = phase_image(grey, rules).numpy()
        circles = detect_all(grey, rules.radius_px, rules.polarity, rules.detector)
        config = config.or_voxel_size(rules.scan.voxel_size_um)
        export(stack, phase, circles, provenance, out, config, sources=names)
    typer.echo(f"{len(stack)} structures written to {out}")


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 2."""
    try:
        app()
    except (UserError, OSError) as error:
        typer.echo(f"microgan: {one_line(error)}", err=True)
        sys.exit(2)


def _files(paths: list[Path]) -> list[Path]:
    """Return the files, and for each folder the images in it, in natural order: slice2 before slice10."""
    return list(chain.from_iterable(_images_of(path) if path.is_dir() else [path] for path in paths))


def _images_of(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not found:
        raise UserError(folder, "no images", f"must hold {', '.join(SUFFIXES)} files")
    return sorted(found, key=lambda path: [_number_or_word(part) for part in re.split(r"(\d+)", path.name)])


def _number_or_word(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (0, part)


def _pages(paths: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each page of each file with its name: ``scan.png``, or ``stack.tif[3]`` of several."""
    for path in _files(paths):
        with open_image(path) as scan:
            for index in range(scan.shape[0]):
                name = str(path) if scan.shape[0] == 1 else f"{path}[{index}]"
                yield name, scan.plane(index)


def _batches(paths: list[Path], what: str) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Yield the names and pages of all files, some of one size at a time, beside a progress bar of pages.

    All files are opened once before, to count their pages and to find the missing ones early.
    """
    total = 0
    for path in _files(paths):
        with open_image(path) as scan:
            total += scan.shape[0]
    names: list[str] = []
    pages: list[np.ndarray] = []
    for name, page in tqdm(_pages(paths), desc=what, total=total, unit="img", disable=None):
        if pages and (page.shape != pages[0].shape or (len(pages) + 1) * page.size > BATCH_PX):
            yield names, pages
            names, pages = [], []
        names.append(name)
        pages.append(page)
    if pages:
        yield names, pages


def _must_have_the_size(name: str, shape: tuple[int, ...], rules: Reference, reference: Path) -> None:
    if shape != (rules.window_px, rules.window_px):
        rule = f"must be {rules.window_px} x {rules.window_px} px as {reference}"
        raise UserError(name, "{} x {} px".format(*shape), rule)


def _picture_name(number: int, page: str) -> str:
    """Name the overlay of a page: its number first, as files of several folders may have one name."""
    return f"{number:05d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', Path(page).name).strip('_')}.png"


def _magnify(image: np.ndarray) -> int:
    return int(np.clip(OVERLAY_PX // max(image.shape), 1, 4))


def _stack(paths: list[Path]) -> tuple[list[str], np.ndarray]:
    """Return the names and pages (N, H, W) of files that all have one size."""
    names, pages = zip(*_pages(paths), strict=True)
    for name, page in zip(names, pages, strict=True):
        if page.shape != pages[0].shape:
            shape = "{} x {} px".format(*pages[0].shape)
            raise UserError(name, "{} x {} px".format(*page.shape), f"must be {shape} as {names[0]}")
    return list(names), np.stack(pages)


def _stretch(image: np.ndarray) -> np.ndarray:
    """Map the grey values between the 0.5th and 99.5th percentile to [-1, 1]; a blank image becomes 0."""
    low, high = np.percentile(image, (0.5, 99.5))
    if high <= low:
        return np.zeros(image.shape, np.float32)
    return np.clip(2 * (image.astype(np.float32) - low) / (high - low) - 1, -1, 1).astype(np.float32)
