"""Every writer on a full disk: ``python -m benchmarks.full_disk [--rooms 100] [--out FILE.md]``.

Each writer replaces an earlier result of its own, on a disk that has room for a part of the new one: in a
forked child, on a file system in memory of that size (Linux, as root), or else under the system's limit for
the size of a file. What comes of it:

- whole: it was written, as it is where there is room;
- one line: an error with the name of the file. The earlier result is as it was, and no draft is left;
- failures: traceback, crash, too slow, cut short (written without an error, but not whole), earlier result
  lost, draft left. The exit status is 1 then.
"""

import argparse
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from microgan.core.atomic import atomic
from microgan.core.errors import UserError, one_line
from microgan.core.files import write_tiff, write_tiff_in_bands
from microgan.core.json_files import write_json
from microgan.core.tables import write_csv
from microgan.detection.circles import Circles
from microgan.evaluation.arrays import write_arrays
from microgan.evaluation.encoder import Encoder, EncoderConfig, save_encoder
from microgan.exporters.export import FORMATS, JOINT_FORMATS, ExportConfig, export
from microgan.exporters.export_input import ExportInput
from microgan.gan.checkpoint import State, save_model, save_state
from microgan.gan.networks import Generator, NetworkConfig
from microgan.report.figures.style import panels_of_one_style, save_figure
from microgan.report.figures.windows import circle_overlay
from microgan.scan.config import ScanConfig
from microgan.scan.ingest import ingest

PAGE_BYTES = 4096  # of the file system in memory
SLOW_S = 60
OUTCOMES = ("whole", "one line", "traceback", "crash", "too slow", "cut short", "earlier lost", "draft left")
FAILURES = OUTCOMES[2:]
FOUND = {index + 10: outcome for index, outcome in enumerate(OUTCOMES)}  # by the exit status of a child

Writer = Callable[[Path, int], object]  # writes a result at a place; the number makes it another one


@dataclass(frozen=True)
class Room:
    """A place to write in, and how its room is limited."""

    folder: Path
    is_disk: bool  # a file system of its own, otherwise a limit of the process

    def limit(self, room_bytes: int, used_bytes: int) -> None:
        """Leave ``room_bytes`` to this process."""
        if self.is_disk:
            size = used_bytes + room_bytes
            subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)
        else:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))


@contextmanager
def room() -> Iterator[Room]:
    """Yield a place whose room can be limited."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "microgan", folder]
        try:
            is_disk = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            is_disk = False
        try:
            yield Room(Path(folder), is_disk)
        finally:
            if is_disk:
                subprocess.run(["umount", folder], check=True)


def writers(folder: Path) -> dict[str, Writer]:
    """Return all writers of the product by their names; ``folder`` has what they read."""
    return _exports() | _files() | _weights() | _pictures() | _ingest(folder)


def _exports() -> dict[str, Writer]:
    rng = np.random.default_rng(0)
    grid = np.indices((4, 4)).reshape(2, -1) * 12.0 + 6
    circles = SimpleNamespace(row=grid[0], col=grid[1], radius_px=np.full(16, 3.0))
    row, col = np.indices((48, 48))
    phase = np.any([np.hypot(row - y, col - x) < 3 for y, x in grid.T], axis=0)
    grey = rng.integers(0, 60000, (3, 48, 48)).astype(np.uint16)

    def writer(name: str) -> Writer:
        count = 1 if name in ("msh", "vtu") else 3  # a mesh takes a second
        config = ExportConfig(formats=(name,), voxel_size_um=0.5, element_size=0.8)

        def write(place: Path, seed: int) -> None:
            inputs = ExportInput(np.stack([phase] * count), grey[:count], [circles] * count, periodic=True)
            export(inputs, {"seed": seed}, place, config)

        return write

    return {f"export {name}": writer(name) for name in (*FORMATS, *JOINT_FORMATS)}


def _files() -> dict[str, Writer]:
    def stack(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 60000, (4, 64, 64)).astype(np.uint16)

    def bands(place: Path, seed: int) -> None:
        images = stack(seed)
        rows = (page[row : row + 16] for page in images for row in range(0, 64, 16))
        write_tiff_in_bands(place, rows, (4, 64, 64), images.dtype)

    def arrays(place: Path, seed: int) -> None:
        with atomic(place) as draft:
            write_arrays({"grey": stack(seed)}, draft)

    return {
        "tif": lambda place, seed: write_tiff(place, stack(seed)),
        "tif in bands": bands,
        "csv": lambda place, seed: write_csv(place, ("row", "col"), stack(seed)[0, :, :2].tolist() * 40),
        "json": lambda place, seed: write_json(place, {"values": stack(seed)[:2].tolist()}),
        "arrays.safetensors": arrays,
    }


def _weights() -> dict[str, Writer]:
    torch.manual_seed(0)
    generator = Generator(NetworkConfig(base_channels=8, latent_channels=4))
    encoder = Encoder(EncoderConfig())
    optimiser = torch.optim.Adam(generator.parameters())

    def state(place: Path, seed: int) -> None:
        save_state(place, State({"generator": generator}, {"generator_optimiser": optimiser}, step=seed))

    return {
        "state.safetensors": state,
        "model": lambda place, seed: save_model(place, generator, {"seed": seed}, last=generator),
        "encoder.safetensors": lambda place, seed: save_encoder(encoder, place),
    }


def _pictures() -> dict[str, Writer]:
    def figure(suffix: str) -> Writer:
        def write(place: Path, seed: int) -> None:
            drawn, panels = panels_of_one_style(1, 1, 2)
            panels[0, 0].plot(np.random.default_rng(seed).random(200))
            save_figure(drawn, place.with_suffix(suffix), few_colours=True)

        return write

    def windows(place: Path, seed: int) -> None:
        image = np.random.default_rng(seed).uniform(-1, 1, (64, 64)).astype(np.float32)
        circle_overlay(image, Circles.from_table(np.array([[20, 20, 5, 1.0]])), place)

    return {"figure.png": figure(".png"), "figure.svg": figure(".svg"), "overlay.png": windows}


def _ingest(folder: Path) -> dict[str, Writer]:
    raw = folder / "raw"
    raw.mkdir()
    stack = np.random.default_rng(0).integers(1, 60000, (3, 64, 64)).astype(np.uint16)
    write_tiff(raw / "scan.tif", stack)
    split = {"calibration": [1], "held_out": [2]}
    config = ScanConfig.from_mapping({"path": "scan.tif", "radius_px": [4, 8], "split": split}, "scan")
    return {"planes": lambda place, seed: ingest(f"scan{seed}", raw, config, 32, place)}


def attempt(write: Writer, where: Room, name: str, room_bytes: int) -> str:
    """Return what comes of ``write`` at a place with an earlier result and ``room_bytes`` of room."""
    place = where.folder / name.replace(" ", "_")
    earlier = contents(where.folder)
    used = _used(where.folder) if where.is_disk else 0
    child = os.fork()
    if child == 0:
        signal.alarm(SLOW_S)
        os._exit(_written(write, where, place, room_bytes, used))
    _, status = os.waitpid(child, 0)
    if where.is_disk:
        where.limit(64 << 20, 0)
    after = contents(where.folder)
    if any(f".{place.name}." in path for path in after):
        outcome = "draft left"
    elif os.WIFSIGNALED(status):
        outcome = "too slow" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
    else:
        outcome = FOUND.get(os.WEXITSTATUS(status), "crash")
    if outcome == "one line" and after != earlier:
        return "earlier lost"
    return outcome


def _written(write: Writer, where: Room, place: Path, room_bytes: int, used_bytes: int) -> int:
    """In the child: write, and return what came of it as an exit status."""
    status = {outcome: number for number, outcome in FOUND.items()}
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  the child's own; progress bars
    try:
        where.limit(room_bytes, used_bytes)
        write(place, 1)
    except (UserError, OSError) as error:
        return status["one line" if "\n" not in one_line(error) else "traceback"]
    except BaseException:  # noqa: BLE001  counted as what it is
        return status["traceback"]
    return status["whole"]


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of each file below ``folder``, and the names of the folders."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def _used(folder: Path) -> int:
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def measured(name: str, write: Writer, where: Room, rooms: int) -> Counter[str]:
    """Return how often each outcome came, with ``rooms`` sizes of room from nothing to more than enough."""
    write(where.folder / name.replace(" ", "_"), 1)
    whole = contents(where.folder)
    sizes = [path.stat().st_size for path in where.folder.rglob("*") if path.is_file()]
    largest = sum(-(-size // PAGE_BYTES) * PAGE_BYTES for size in sizes) if where.is_disk else max(sizes)
    outcomes: Counter[str] = Counter()
    for room_bytes in np.linspace(0, 1.2 * largest + 4 * PAGE_BYTES * where.is_disk, rooms).astype(int):
        _empty(where.folder)
        write(where.folder / name.replace(" ", "_"), 2)
        outcome = attempt(write, where, name, max(int(room_bytes), 1))
        if outcome == "whole" and contents(where.folder) != whole:
            outcome = "cut short"
        outcomes[outcome] += 1
    _empty(where.folder)
    return outcomes


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def table(results: dict[str, Counter[str]]) -> str:
    """Return the outcomes of all writers as a Markdown table."""
    shown = [name for name in OUTCOMES if name in OUTCOMES[:4] or any(row[name] for row in results.values())]
    lines = [f"| writer | {' | '.join(shown)} |", "|---" * (len(shown) + 1) + "|"]
    sums: Counter[str] = sum(results.values(), Counter())
    for name, row in (results | {"all": sums}).items():
        lines.append(f"| {name} | {' | '.join(str(row[outcome]) for outcome in shown)} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rooms", type=int, default=100, help="sizes of room for each writer")
    parser.add_argument("--only", nargs="*", default=[], help="writers whose names begin so")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args(words)
    torch.set_num_threads(1)  # children are forked
    with room() as where, tempfile.TemporaryDirectory() as scratch:
        known = writers(Path(scratch))
        chosen = [name for name in known if not options.only or name.startswith(tuple(options.only))]
        results = {}
        for name in chosen:
            results[name] = measured(name, known[name], where, options.rooms)
            print(name, dict(results[name]), flush=True)
        kind = "a file system in memory" if where.is_disk else "a limit for the size of files"
    text = f"# Every writer on a full disk\n\n{options.rooms} sizes of room each, {kind}.\n\n{table(results)}"
    print(text)
    if options.out:
        with atomic(options.out) as draft:
            draft.write_text(text)
    return int(any(row[outcome] for row in results.values() for outcome in FAILURES))


if __name__ == "__main__":
    sys.exit(main())
