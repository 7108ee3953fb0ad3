"""What the commands of `microgan.cli` do: files in, files out.

Each function returns the figures that tell what came out, which ``--json`` prints.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from microgan.core.errors import UserError
from microgan.core.files import file_sha256, write_csv, write_json, write_tiff_in_bands
from microgan.detection.circles import Circles
from microgan.detection.detect import detect as detect_discs
from microgan.exporters.export import ExportConfig, phase_from_labels
from microgan.exporters.export import export as export_structures
from microgan.gan.checkpoint import load_model
from microgan.gan.sampling import sample_to_tiff
from microgan.report.figures import circle_overlay, descriptor_sheet
from microgan.samples.card import SampleCard, card_path, must_be_free_for_card
from microgan.samples.model_store import model_folder
from microgan.samples.repair import RepairConfig, Repaired, valid_large_image
from microgan.scan.images import batches, image_files, stack, stretch
from microgan.scan.planes import ScanInfo
from microgan.scan.simulate import SimulateConfig, simulate_scan
from microgan.validity.judging import judge, phase_image
from microgan.validity.large_images import judge_large_image
from microgan.validity.reference import Reference

OVERLAY_PX = 1600  # to about this size small pages are magnified

SCAN, TRUTH = "scan.tif", "circles.csv"  # of a simulation

Polarity = Literal["bright", "dark"]
Size = tuple[int, int]  # rows and columns, px


def detect(
    images: Sequence[Path],
    radius_px: tuple[float, float],
    polarity: Polarity,
    out: Path,
    overlay: Path | None,
) -> dict[str, Any]:
    """Find the discs of images."""
    if not 1 <= radius_px[0] < radius_px[1]:
        given = f"{radius_px[0]:g} {radius_px[1]:g}"
        raise UserError("--radius", given, "must be MIN MAX with 1 <= MIN < MAX")
    seen = discs = 0

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal seen, discs
        for names, pages in batches(images, "detect"):
            grey = np.stack([stretch(page) for page in pages])
            found = detect_discs(torch.from_numpy(grey)[:, None], radius_px, polarity)
            for name, image, circles in zip(names, grey, found, strict=True):
                if overlay is not None:
                    circle_overlay(image, circles, overlay / _picture_name(seen, name), _magnify(image))
                seen, discs = seen + 1, discs + len(circles)
                yield from ((name, *(round(float(value), 4) for value in row)) for row in circles.table())

    write_csv(out, ("image", "row", "col", "radius", "score"), rows())
    return {"files": _named(circles=out, overlay=overlay), "images": seen, "discs": discs}


def simulate(config: SimulateConfig, out: Path) -> dict[str, Any]:
    """Write a simulated tomogram and the circles that are in it."""
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= {SCAN, TRUTH}):
        raise UserError(out, "holds other files", "must be a new or empty folder, or an earlier simulation")
    figures = simulate_scan(config, out)
    return {"files": _named(scan=out / SCAN, circles=out / TRUTH), **figures}


def sample(
    model: str,
    count: int,
    size_px: Size,
    seed: int,
    periodic: bool,
    out: Path,
    reference: Path | None = None,
    rounds: int = 100,
    allow_own_rules: bool = False,
) -> dict[str, Any]:
    """Draw new images from a generator, repair them by a reference if one is given, and write their card."""
    must_be_free_for_card(out)
    with model_folder(model) as folder:
        generator, about = load_model(folder)
        info = ScanInfo.from_mapping(about.get("scan"), f"{folder / 'model.json'}: scan")
    repaired = None
    if reference is None:
        sample_to_tiff(generator, out, info, count, size_px, seed, periodic)
    else:
        draw = partial(
            valid_large_image,
            generator,
            seed,
            size_px=size_px,
            periodic=periodic,
            reference=Reference.load(reference, allow_own_rules),
            config=RepairConfig(rounds=rounds),
            rounded=lambda images: torch.from_numpy(info.normalise(info.denormalise(images.numpy()))),
        )
        repaired = {"reference_sha256": file_sha256(reference), "most_rounds": rounds}
        repaired |= _write_repaired((draw(index) for index in range(count)), count, size_px, info, out)
    card = SampleCard(
        file=out.name,
        sha256=file_sha256(out),
        weights_sha256=about["weights_sha256"],
        count=count,
        rows=size_px[0],
        cols=size_px[1],
        seed=seed,
        periodic=periodic,
        voxel_size_um=info.voxel_size_um,
        repaired=repaired,
        model=about,
    )
    card.write(out.parent)
    told = {"count", "rows", "cols", "seed", "periodic", "voxel_size_um", "repaired"}
    figures = card.model_dump(include=told)
    return {
        "files": _named(images=out, card=card_path(out)),
        **figures,
        "weights_sha256": card.weights_sha256,
    }


def _write_repaired(
    fields: Iterator[Repaired], count: int, size_px: Size, info: ScanInfo, out: Path
) -> dict[str, Any]:
    """Write fields as they come; return how many became valid, and means of what repair does."""
    told: list[dict[str, float]] = []
    valid = 0

    def bands() -> Iterator[np.ndarray]:
        nonlocal valid
        for field in fields:
            yield info.denormalise(field.image[0, 0].numpy())
            told.append(field.figures())
            valid += field.after.valid

    write_tiff_in_bands(out, bands(), (count, *size_px), np.dtype(info.dtype), info.voxel_size_um)
    means = {name: float(np.mean([figures[name] for figures in told])) for name in told[0]}
    return {"valid": valid, **means}


def validate(
    images: Sequence[Path],
    reference: Path,
    periodic: bool,
    out: Path,
    overlay: Path | None,
    allow_own_rules: bool,
) -> dict[str, Any]:
    """Judge images by the rules of their material; larger ones than its windows by all of their windows."""
    rules = Reference.load(reference, allow_own_rules)
    measures = sorted(rules.rules)
    judged = valid = 0

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal judged, valid
        for names, pages in batches(images, "validate"):
            _must_hold_a_window(names[0], pages[0].shape, rules, reference)
            grey = rules.scan.normalise(pages)
            verdicts = _judged(grey, rules, periodic)
            for name, image, verdict in zip(names, grey, verdicts, strict=True):
                if overlay is not None:
                    picture = overlay / _picture_name(judged, name)
                    circle_overlay(image, verdict.circles, picture, _magnify(image), verdict.reasons)
                judged, valid = judged + 1, valid + verdict.valid
                values = (verdict.measures.get(key, "") for key in measures)
                yield name, verdict.valid, " ".join(verdict.reasons), verdict.invalid_windows, *values

    write_csv(out, ("image", "valid", "reasons", "invalid_windows", *measures), rows())
    files = _named(verdicts=out, overlay=overlay)
    return {"files": files, "images": judged, "valid": valid, "pass_rate": valid / judged}


class _Judged(NamedTuple):
    """The verdict of an image: of one window with its measures, of a larger one by all of its windows."""

    valid: bool
    reasons: tuple[str, ...]
    invalid_windows: int
    measures: Mapping[str, float]
    circles: Circles


def _judged(grey: np.ndarray, rules: Reference, periodic: bool) -> list[_Judged]:
    """Judge images (N, H, W): windows as such, larger or periodic ones as fields."""
    images = torch.from_numpy(grey)[:, None]
    if not periodic and grey.shape[1:] == (rules.window_px, rules.window_px):
        verdicts = judge(images, rules, progress=False)
        return [_Judged(v.valid, v.reasons, int(not v.valid), v.measures, v.circles) for v in verdicts]
    fields = [
        judge_large_image(image[None], rules, periodic, progress=False)
        for image in images
    ]
    return [_Judged(one.valid, one.reasons, one.invalid_windows, {}, one.circles) for one in fields]


def compare(
    images: Path,
    real: Path,
    reference: Path,
    solve: int,
    seed: int,
    allow_own_rules: bool,
    out: Path | None,
    plot: Path | None,
) -> dict[str, Any]:
    """Put two sets of images side by side."""
    from microgan.evaluation import fidelity  # here, as the solver behind it takes a while to load
    from microgan.evaluation.descriptors import DESCRIPTORS
    from microgan.evaluation.homogenisation import PropertiesConfig

    rules = Reference.load(reference, allow_own_rules)
    config, properties = fidelity.FidelityConfig(seed=seed), PropertiesConfig(count=solve)

    def measured(path: Path) -> fidelity.Measured:
        names, pages = stack([path])
        _must_have_the_size(names[0], pages.shape[1:], rules, reference)
        grey = torch.from_numpy(rules.scan.normalise(pages))[:, None]
        verdicts = judge(grey, rules)
        return fidelity.Measured.of(grey, verdicts, rules, config, properties)

    one, other = measured(images), measured(real)
    comparison = fidelity.compare(one, other, {}, config)
    figures = {
        "descriptors": comparison.table,
        "differing": fidelity.flagged(comparison.table),
        "n": {str(images): len(one.structure), str(real): len(other.structure)},
    }
    if out is not None:
        write_json(out, figures)
    if plot is not None:
        tables = fidelity.curves({"held_out": other.structure, "after": one.structure}, comparison.envelopes)
        descriptor_sheet({images.name: tables}, DESCRIPTORS, rules.scan.voxel_size_um, plot)
    return {"files": _named(figures=out, plot=plot), **figures}


def export(
    images: Sequence[Path],
    reference: Path | None,
    periodic: bool | None,
    out: Path,
    config: ExportConfig,
    allow_own_rules: bool = False,
) -> dict[str, Any]:
    """Write phase images, or grey ones of the material of ``reference``, as files that solvers read."""
    names, pages = stack(images)
    cards = {path: SampleCard.beside(path) for path in image_files(images)}
    if config.voxel_size_um is None:
        config = config.or_voxel_size(_shared("voxel_size_um", cards))
    if periodic is None:
        periodic = bool(_shared("periodic", cards))
    provenance: dict[str, Any] = {
        "source": [_source(path, card) for path, card in cards.items()],
        "periodic": periodic,
    }
    write = partial(export_structures, out=out, config=config, sources=names, periodic=periodic)
    if reference is None:
        phase = phase_from_labels(pages, ", ".join(map(str, images)))
        sidecar = write(None, phase, None, provenance)
    else:
        rules = Reference.load(reference, allow_own_rules)
        _must_hold_a_window(names[0], pages[0].shape, rules, reference)
        config = config.or_voxel_size(rules.scan.voxel_size_um)
        grey = rules.scan.normalise(pages)
        phase = phase_image(torch.from_numpy(grey)[:, None], rules).numpy()
        verdicts = _judged(grey, rules, periodic)
        circles = [verdict.circles for verdict in verdicts]
        provenance |= {"reference_sha256": file_sha256(reference)}
        sidecar = write(pages, phase, circles, provenance, config=config, verdicts=verdicts)
    figures = {key: sidecar[key] for key in ("structures", "rows", "cols", "voxel_size_um", "length_unit")}
    return {"files": _named(folder=out), **figures, "periodic": periodic, "formats": config.formats}


def _shared(name: str, cards: Mapping[Path, SampleCard | None]) -> Any:
    """Return what the cards of all files say of themselves, none where they have none."""
    values = {path: getattr(card, name, None) for path, card in cards.items()}
    first = next(iter(values))
    for path, value in values.items():
        if value != values[first]:
            option = f"--{name.replace('_', '-')}"
            raise UserError(path, f"{name} {value}", f"must be {values[first]} as {first}, or give {option}")
    return values[first]


def _source(path: Path, card: SampleCard | None) -> dict[str, Any]:
    sampled = {} if card is None else {"sampled": card.model_dump(exclude={"file", "sha256"})}
    return {"file": str(path), "sha256": file_sha256(path), **sampled}


def _named(**files: Path | None) -> dict[str, str]:
    """Return the files that were written."""
    return {name: str(path) for name, path in files.items() if path is not None}


def _must_have_the_size(name: str, shape: tuple[int, ...], rules: Reference, reference: Path) -> None:
    if shape != (rules.window_px, rules.window_px):
        rule = f"must be {rules.window_px} x {rules.window_px} px as {reference}"
        raise UserError(name, "{} x {} px".format(*shape), rule)


def _must_hold_a_window(name: str, shape: tuple[int, ...], rules: Reference, reference: Path) -> None:
    if min(shape) < rules.window_px:
        rule = f"must be at least {rules.window_px} x {rules.window_px} px, the windows of {reference}"
        raise UserError(name, "{} x {} px".format(*shape), rule)


def _picture_name(number: int, page: str) -> str:
    """Name the overlay of a page: its number first, as files of several folders may have one name."""
    return f"{number:05d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', Path(page).name).strip('_')}.png"


def _magnify(image: np.ndarray) -> int:
    return int(np.clip(OVERLAY_PX // max(image.shape), 1, 4))
