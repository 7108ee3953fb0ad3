"""Valid synthetic microstructures on the command line, for people without a pipeline."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from tqdm import tqdm

from microgan.checkpoint import load_model
from microgan.errors import UserError, one_line
from microgan.export import ExportConfig, export, phase_from_labels
from microgan.files import digest, write_csv, write_tiff
from microgan.hough import detect
from microgan.planes import ScanInfo
from microgan.sampling import sample
from microgan.scan import open_image
from microgan.validity import Reference, detect_all, judge, pass_rate, phase_image

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

Images = Annotated[list[Path], typer.Argument(help="TIFF, PNG or NPY files; every page is an image.")]
Csv = Annotated[Path, typer.Option(help="CSV file to write.")]


@app.command("detect")
def detect_command(
    images: Images,
    radius: Annotated[tuple[float, float], typer.Option(help="Smallest and largest radius, px.")],
    out: Csv,
    polarity: Annotated[Literal["bright", "dark"], typer.Option(help="Of the discs.")] = "bright",
) -> None:
    """Find the discs of images: image,row,col,radius,score in pixels, pixel centres at integers."""
    if not 1 <= radius[0] < radius[1]:
        raise UserError("--radius", f"{radius[0]:g} {radius[1]:g}", "must be MIN MAX with 1 <= MIN < MAX")
    rows: list[tuple[object, ...]] = []
    for name, image in tqdm(list(_pages(images)), desc="detect", unit="img", disable=None):
        grey = torch.from_numpy(_stretch(image))[None, None]
        (circles,) = detect(grey, radius, polarity)
        rows += [(name, *(round(float(value), 4) for value in row)) for row in circles.table()]
    write_csv(out, ("image", "row", "col", "radius", "score"), rows)
    typer.echo(f"{len(rows)} discs written to {out}")


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
) -> None:
    """Judge images, real or synthetic, by the calibrated rules of their material."""
    rules = Reference.load(reference)
    names, stack = _stack(images)
    if stack.shape[1:] != (rules.window_px, rules.window_px):
        size = f"{stack.shape[1]} x {stack.shape[2]} px"
        raise UserError(names[0], size, f"must be {rules.window_px} x {rules.window_px} px as {reference}")
    grey = torch.from_numpy(rules.scan.normalise(stack))[:, None]
    verdicts = judge(grey, rules)
    measures = sorted(verdicts[0].measures)
    rows = [
        (name, verdict.valid, " ".join(verdict.reasons), *(verdict.measures[key] for key in measures))
        for name, verdict in zip(names, verdicts, strict=True)
    ]
    write_csv(out, ("image", "valid", "reasons", *measures), rows)
    typer.echo(f"{pass_rate(verdicts):.1%} of {len(rows)} images are valid; verdicts written to {out}")


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
    provenance = {"source": [{"file": str(path), "sha256": digest(path)} for path in images]}
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


def _pages(paths: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each page of each file with its name: ``scan.png``, or ``stack.tif[3]`` of several."""
    for path in paths:
        with open_image(path) as scan:
            for index in range(scan.shape[0]):
                name = str(path) if scan.shape[0] == 1 else f"{path}[{index}]"
                yield name, scan.plane(index)


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
