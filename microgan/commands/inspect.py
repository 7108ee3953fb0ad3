"""`microgan inspect`: what a scan is, how it may be read, and its entry in params.yaml."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from microgan.commands.images import must_be_named, written
from microgan.core.atomic import atomic_together
from microgan.core.errors import UserError, escaped
from microgan.core.files import atomic, free_bytes
from microgan.core.notes import warn
from microgan.core.words import counted, in_bytes
from microgan.inspection.entry import add_entry, entry_of, must_be_free
from microgan.inspection.inspection import Inspection
from microgan.inspection.inspection import inspect as inspect_scan
from microgan.inspection.params_file import params_text, window_px_in
from microgan.report.figures.proposal import proposal_figure
from microgan.scan.config import ScanConfig
from microgan.scan.formats.zarr import is_zarr
from microgan.scan.readers import open_scan
from microgan.scan.slices import slices_of

PARAMS, RAW = Path("params.yaml"), Path("data/raw")
WINDOW_PX = 64  # where there is no params.yaml
MOST_COPIED_BYTES = 10 << 30


def inspect(
    path: Path,
    options: Mapping[str, Any],
    polarity: Literal["bright", "dark"] | None = None,
    radius_px: tuple[float, float] | None = None,
    *,
    add: str | None = None,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Look at a scan, draw the proposal into ``picture``, and add it to the project as the scan ``add``."""
    must_be_named("--picture", picture, ".png")
    if add is not None:
        must_be_free(PARAMS, add)
    inspection = inspect_scan(path, options, _window_px(), polarity, radius_px)
    for warning in inspection.warnings:
        warn(warning)
    with atomic_together([] if picture is None else [picture]) as drafts:
        for draft in drafts:
            proposal_figure(inspection.proposal, draft)
        added = None if add is None else _add(add, inspection)
    return {"files": written(picture=picture), **figures_of(inspection), "added": added}


def figures_of(inspection: Inspection) -> dict[str, Any]:
    """Return an inspection as plain values, for ``--json``."""
    proposal, split = inspection.proposal, inspection.split
    usual_px = proposal.usual_radius_px
    return {
        "path": str(inspection.path),
        "number_of_files": inspection.files,
        "shape": inspection.shape,
        "dtype": inspection.dtype,
        "voxel_size_um": inspection.voxel_size_um,
        "voxel_size_source": inspection.voxel_size_source,
        "planes_read": inspection.planes_read,
        "grey_range": inspection.grey_range,
        "field_of_view": inspection.config.field_of_view,
        "field_of_view_fraction": inspection.field_of_view,
        "warnings": inspection.warnings,
        "polarity": proposal.polarity,
        "radius_px": proposal.radius_px,
        "usual_radius_px": usual_px if proposal.radius_px else None,
        "discs_looked_at": len(proposal.reading) if proposal.reading and proposal.radius_px else 0,
        "doubts": proposal.doubts,
        "window_px": inspection.window_px,
        "advised_window_px": inspection.advised_window_px,
        "split": None if split.split is None else split.split.model_dump(),
        "split_reason": split.reason,
        "planes_apart": split.planes_apart,
    }


def in_words(figures: Mapping[str, Any]) -> str:
    """Return the lines that people read."""
    planes, rows, cols = figures["shape"]
    size_um = figures["voxel_size_um"]
    read = ", ".join(map(str, figures["planes_read"]))
    lines = {
        "scan": f"{escaped(figures['path'])}, {counted(figures['number_of_files'], 'file')}",
        "planes": f"{counted(planes, 'plane')} of {rows} x {cols} px, {figures['dtype']}",
        "voxel size": "unknown; state it with --voxel-size-um"
        if size_um is None
        else f"{size_um:g} um ({figures['voxel_size_source']})",
        "grey values": "{:g} to {:g}".format(*figures["grey_range"]) + f" (plane {read})",
        "field of view": f"{figures['field_of_view_fraction']:.1%} of the plane ({figures['field_of_view']})",
        "discs": _discs_in_words(figures),
    }
    if figures["radius_px"]:
        lines["radius_px"] = "[{:g}, {:g}]".format(*figures["radius_px"])
    lines["window_px"] = _window_in_words(figures)
    lines["split"] = _split_in_words(figures)
    text = [f"{name + ':':15}{words}" for name, words in lines.items()]
    text += [f"{'doubt:':15}{doubt}" for doubt in figures["doubts"]]
    if figures["files"]:
        text.append(f"{'picture:':15}{escaped(figures['files']['picture'])}")
    added = figures["added"]
    if added is not None:
        copied = f"; {added['copied']} copied to {added['folder']}" if added["copied"] else ""
        text.append(f"added scan {added['name']} to {PARAMS}{copied}. Next: make repro SCAN={added['name']}")
    return "\n".join(text)


def _discs_in_words(figures: Mapping[str, Any]) -> str:
    if not figures["radius_px"]:
        return "nothing is proposed; see the doubts below" if figures["doubts"] else "nothing is proposed"
    usual = figures["usual_radius_px"]
    found = f", usual radius {usual:.1f} px ({figures['discs_looked_at']} looked at)" if usual else ""
    return f"{figures['polarity']}{found}"


def _window_in_words(figures: Mapping[str, Any]) -> str:
    side, advised = figures["window_px"], figures["advised_window_px"]
    if advised is None:
        return f"{side}"
    return f"{side} holds too few of these discs: set window_px: {advised}, or shrink the images"


def _split_in_words(figures: Mapping[str, Any]) -> str:
    split = figures["split"]
    if split is None:
        return f"none; {figures['split_reason']}"
    parts = f"calibration {split['calibration']}, held_out {split['held_out']}"
    margin = f"margin_px {split['margin_px']}, margin_planes {split['margin_planes']}"
    return f"{parts}, {margin} ({figures['split_reason']})"


def _window_px() -> int:
    """Return the side of windows that params.yaml names, where there is one."""
    side_px = window_px_in(params_text(PARAMS), PARAMS) if PARAMS.is_file() else None
    return WINDOW_PX if side_px is None else side_px


# Into the project --------------------------------------------------------------------------------------


def _add(name: str, inspection: Inspection) -> dict[str, Any]:
    """Copy the scan to where the pipeline looks for it, and write its entry; both, or none of them."""
    home, source = RAW / name, inspection.path.resolve()
    if source.is_relative_to(home.resolve()):
        inside = source.relative_to(home.resolve()).as_posix()
        add_entry(PARAMS, name, entry_of(inspection, inside))
        return {"name": name, "folder": str(home), "copied": None}
    path = source.name if source.is_file() or is_zarr(source) else "."
    values = entry_of(inspection, path)
    values.pop("exclude", None)  # what it names is not copied
    copied = _copied(source, home, inspection)
    try:
        add_entry(PARAMS, name, values)
    except BaseException:
        shutil.rmtree(home)
        raise
    return {"name": name, "folder": str(home), "copied": copied}


def _copied(source: Path, home: Path, inspection: Inspection) -> str:
    """Copy the files of a scan into a new folder; return how many, and their size."""
    if home.exists() and any(home.iterdir()):
        rule = "must be empty or new, as the scan is copied there; if it holds the scan, name it instead"
        raise UserError(home, "holds files", f"{rule}: microgan inspect {home} --add {home.name}")
    if is_zarr(source):
        files = [path for path in source.rglob("*") if path.is_file()]
    else:
        files = slices_of(source, inspection.config.exclude)[0] if source.is_dir() else [source]
    size = sum(path.stat().st_size for path in files)
    RAW.mkdir(parents=True, exist_ok=True)
    free = free_bytes(home)
    if size > min(MOST_COPIED_BYTES, free):
        rule = f"is not copied (at most {in_bytes(min(MOST_COPIED_BYTES, free))}): move or link it to {home}"
        raise UserError(
            inspection.path, in_bytes(size), f"{rule}, then microgan inspect {home} --add {home.name}"
        )
    base = source.parent if is_zarr(source) or source.is_file() else source
    with atomic(home) as draft:
        for path in files:
            to = draft / path.relative_to(base)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)
        _must_be_whole(draft, inspection, source)
    return f"{counted(len(files), 'file')} ({in_bytes(size)})"


def _must_be_whole(draft: Path, inspection: Inspection, source: Path) -> None:
    """Refuse a copy that does not read as the original does: some formats keep values in files beside."""
    config = inspection.config
    path = source.name if source.is_file() or is_zarr(source) else "."
    index = inspection.planes_read[-1]
    rule = f"must be copied with all files that it needs: do so to {RAW}/NAME, and name that folder"
    original = open_scan(source.parent, config.model_copy(update={"path": source.name}))
    with original, _opened(draft, config.model_copy(update={"path": path}), inspection, rule) as copy:
        same = copy.shape == original.shape and np.array_equal(
            copy.plane(index), original.plane(index), equal_nan=copy.dtype.kind == "f"
        )
    if not same:
        raise UserError(inspection.path, "refers to other files", rule)


def _opened(draft: Path, config: ScanConfig, inspection: Inspection, rule: str) -> Any:
    try:
        return open_scan(draft, config)
    except UserError:
        raise UserError(inspection.path, "refers to other files", rule) from None
