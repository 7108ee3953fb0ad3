"""`microgan sample`: new images from a generator, repaired if asked for, with their card."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microgan.commands.images import TIFF, ReferenceFile, must_be_named, written
from microgan.core.atomic import atomic_together
from microgan.core.domain import Domain
from microgan.core.files import write_tiff_in_bands
from microgan.core.notes import warn
from microgan.gan.checkpoint import load_model
from microgan.gan.networks import Generator
from microgan.gan.sampling import decode, sample_to_tiff
from microgan.samples.card import SampleCard, SampleConfig, card_path, must_be_free_for_card
from microgan.samples.model_store import model_folder
from microgan.samples.repair import RepairConfig, Repaired, sample_and_repair
from microgan.samples.verdict_file import LEARNT, ModelVerdict
from microgan.scan.planes import ScanInfo
from microgan.validity.large_images import judge_any_size

# Of the card, printed with --json.
FIGURES = (
    "count",
    "rows",
    "cols",
    "seed",
    "periodic",
    "clean",
    "voxel_size_um",
    "repaired",
    "weights_sha256",
)


@dataclass(frozen=True)
class Repair:
    """By which rules samples are repaired, and how."""

    reference: ReferenceFile
    config: RepairConfig


def sample(
    model: str,
    config: SampleConfig,
    domain: Domain,
    out: Path,
    repair: Repair | None = None,
    clean: bool = False,
) -> dict[str, Any]:
    """Draw new images from a generator, repair them if asked for, and write their card.

    With ``clean`` the same images are written without the scanner's noise. Repair judges them as scanned.
    """
    must_be_named("--out", out, *TIFF)
    must_be_free_for_card(out)
    with model_folder(model) as folder:
        generator, about = load_model(folder)
        info = ScanInfo.from_mapping(about.get("scan"), f"{folder / 'model.json'}: scan")
        verdict = ModelVerdict.beside(folder, about["weights_sha256"])
    if verdict is not None:
        about = {**about, "verdict": verdict.model_dump(mode="json")}
        if verdict.verdict != LEARNT:
            warn(f"{model}: {verdict}")
    learnt_px = about.get("window_px")
    if learnt_px and min(domain.size_px) < learnt_px:
        given = "{} x {} px".format(*domain.size_px)
        side = f"{learnt_px} x {learnt_px} px, the windows that the generator has learnt"
        warn(f"--size: {given} is smaller than {side}: no rule judges such images")
    repaired = None
    with atomic_together([out, card_path(out)]) as (images, card_file):
        if repair is None:
            drawn_by = generator.without_noise() if clean else generator
            sample_to_tiff(drawn_by, images, info, config.count, domain, config.seed)
        else:
            repaired = _sample_repaired(generator, info, config, domain, images, repair, clean)
        card = SampleCard.of(images, about, config, domain, clean=clean, repaired=repaired)
        card.write(card_file)
    figures = card.model_dump()
    return {
        "files": written(images=out, card=card_path(out)),
        **{name: figures[name] for name in FIGURES},
    }


def _sample_repaired(
    generator: Generator,
    info: ScanInfo,
    config: SampleConfig,
    domain: Domain,
    out: Path,
    repair: Repair,
    clean: bool,
) -> dict[str, Any]:
    """Write repaired images as they are drawn; return how many are valid, and means of what repair does.

    Repair aims at a stricter limit of the overlap. Whether an image is valid, the reference itself says, as
    `microgan validate` does.
    """
    reference = repair.reference.load()
    written_by = generator.without_noise() if clean else None
    draw = partial(
        sample_and_repair,
        generator,
        config.seed,
        domain=domain,
        reference=reference,
        config=repair.config,
        as_stored=lambda images: torch.from_numpy(info.normalise(info.denormalise(images.numpy()))),
    )
    results: list[dict[str, float]] = []
    valid = strictly_valid = 0

    def bands() -> Iterator[np.ndarray]:
        nonlocal valid, strictly_valid
        for index in range(config.count):
            repaired: Repaired = draw(index)
            image = repaired.image
            if written_by is not None:
                image = decode(written_by, repaired.latent, domain.periodic)[
                    ..., : domain.rows, : domain.cols
                ]
            yield info.denormalise(image[0, 0].numpy())
            (verdict,) = judge_any_size(repaired.image, reference, domain.periodic, progress=False)
            results.append({**repaired.figures(), "invalid_windows_after": verdict.invalid_windows})
            valid += verdict.valid
            strictly_valid += repaired.after.valid

    shape = (config.count, *domain.size_px)
    write_tiff_in_bands(out, bands(), shape, np.dtype(info.dtype), info.voxel_size_um)
    means = {name: float(np.mean([figures[name] for figures in results])) for name in results[0]}
    return {
        "reference_sha256": repair.reference.sha256,
        "most_rounds": repair.config.rounds,
        "valid": valid,
        "valid_by_stricter_limit": strictly_valid,
        **means,
    }
