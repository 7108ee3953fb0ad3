"""The raw scans: fetch those that are public, and let DVC look at the selected one alone."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from microgan.core.errors import UserError
from microgan.core.files import atomic
from stages.yaml_file import read_yaml

RAW = Path("data/raw")
SIMULATED = "simulated"  # the scan that data/raw/dvc.yaml makes
IGNORED = ".dvcignore"  # in RAW; it belongs to this machine


def fetch(scan: str) -> None:
    """Download the files of ``scan`` that .dvc files name and that are missing.

    They come from the DVC remote if there is one, otherwise from their public address. A file must have the
    md5 that its .dvc file names.
    """
    present = [dvc_file for out, dvc_file in _imports(scan).items() if out.exists()]
    missing = {out: dvc_file for out, dvc_file in _imports(scan).items() if not out.exists()}
    if missing:
        (RAW / IGNORED).unlink(missing_ok=True)
        print(f"fetching {', '.join(out.name for out in missing)}", file=sys.stderr)
        error = _dvc("pull", *missing.values())
    for out, dvc_file in missing.items():
        if not out.exists():
            error = _download(dvc_file)
        if not out.exists():
            reason = error or "its address gives a file with another md5"
            hint = "without a network, name a folder that has it: dvc remote add --local --default mirror DIR"
            raise UserError(dvc_file, out.name, f"could not be fetched ({reason}); {hint}")
    _keep(present)


def _keep(dvc_files: Sequence[Path]) -> None:
    """Put files that somebody copied here into DVC's cache; without that `dvc repro` asks their address."""
    if not dvc_files or not Path(".dvc").is_dir():
        return
    from dvc.repo import Repo  # here, as it takes a second

    with Repo() as repo:
        for dvc_file in dvc_files:
            for out in repo.stage.load_one(str(dvc_file)).outs:
                if not out.changed_checksum() and out.changed_cache():
                    out.commit()


def _imports(scan: str | None = None) -> dict[Path, Path]:
    """Return the files of ``scan``, or of all, that come from elsewhere, and the .dvc file of each."""
    imports: dict[Path, Path] = {}
    for dvc_file in sorted(RAW.glob("*/*.dvc")):
        content = read_yaml(dvc_file)
        if not isinstance(content, dict) or not isinstance(content.get("outs"), list):
            raise UserError(dvc_file, "no outs", "must be as dvc import-url wrote it: git checkout it")
        folder = (dvc_file.parent / content.get("wdir", ".")).resolve()
        if scan is None or folder == (RAW / scan).resolve():
            imports |= {folder / out["path"]: dvc_file for out in content["outs"]}
    return imports


def _download(dvc_file: Path) -> str:
    # `dvc update` takes what the address gives; with the md5 of the text put back, only the right file stays.
    pinned = dvc_file.read_text()
    try:
        error = _dvc("update", dvc_file)
    finally:
        dvc_file.write_text(pinned)
    _dvc("checkout", "--force", dvc_file)
    return error


def _dvc(*arguments: str | Path) -> str:
    """Run dvc; return the first error that it reports, or an empty text."""
    command = [sys.executable, "-m", "dvc", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
    return errors[0].removeprefix("ERROR: ") if result.returncode and errors else ""


def hide_other_scans(scan: str) -> None:
    """Let `dvc status` and `dvc repro` leave alone what other scans come from."""
    hidden = [file.relative_to(RAW) for out, file in _imports().items() if not out.exists()]
    hidden += [] if scan == SIMULATED else [Path("dvc.yaml")]
    lines = ["# Written by make repro: scans that are not there", *sorted(f"/{path}" for path in hidden)]
    with atomic(RAW / IGNORED) as draft:
        draft.write_text("\n".join(lines) + "\n")
