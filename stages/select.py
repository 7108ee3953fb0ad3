"""Before the pipeline: select the scan, check all parameters, fetch missing public files.

``python -m stages.select NAME`` puts NAME into the line ``scan:`` of params.yaml; without it the scan stays.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.image_metrics import ImageMetricsConfig
from microgan.evaluation.real_statistics import FidelityConfig
from microgan.exporters.export import ExportConfig
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.samples.card import SampleConfig
from microgan.scan.config import ScanConfig
from microgan.scan.simulate import SimulateConfig
from microgan.validity.calibration import CalibrationConfig
from stages.stage import BASELINE, PARAMS, errors_in_one_line, load_params, scan_name, section, window_px

RAW = Path("data/raw")
KINDS: dict[str, type[Config]] = {
    "simulate": SimulateConfig,
    "calibrate": CalibrationConfig,
    "train": TrainConfig,
    "generate": SampleConfig,
    "evaluate": FidelityConfig,
    "properties": PropertiesConfig,
    "image_metrics": ImageMetricsConfig,
    "export": ExportConfig,
}
GROUPS: dict[str, type[Config]] = {"scans": ScanConfig, "models": ModelConfig}


def known(name: str, params: dict[str, Any]) -> str:
    """Return ``name`` if it is the name of a scan."""
    names = section(params, "scans")
    if name not in names:
        raise UserError(
            "SCAN", name, f"must be one of {', '.join(names)}, the names under scans: in {PARAMS}"
        )
    return name


def choose(name: str, path: Path = PARAMS) -> None:
    """Rewrite the line ``scan:`` and nothing else, so that comments stay."""
    before = path.read_text()
    after = re.sub(r"(?m)^scan:[ \t]*[^\s#]*", f"scan: {name}", before, count=1)
    if after != before:
        with atomic(path) as draft:
            draft.write_text(after)


def check(params: dict[str, Any]) -> None:
    """Check every parameter, that of the last stage as well as that of the first."""
    window_px(params)
    for name, kind in KINDS.items():
        kind.from_mapping(section(params, name), where=name)
    if BASELINE in section(params, "models"):
        raise UserError(f"models.{BASELINE}", "a model", "must have another name: the baseline has it")
    for group, kind in GROUPS.items():
        for name in section(params, group):
            kind.from_mapping(section(params, f"{group}.{name}"), where=f"{group}.{name}")


def fetch(scan: str) -> None:
    """Download the files of ``scan`` that .dvc files name and that are missing.

    They come from the DVC remote if there is one, otherwise from their public address. A file must have the
    md5 that its .dvc file names.
    """
    missing = {out: dvc_file for out, dvc_file in _imports(scan).items() if not out.exists()}
    if missing:
        print(f"fetching {', '.join(out.name for out in missing)}", file=sys.stderr)
        error = _dvc("pull", *missing.values())
    for out, dvc_file in missing.items():
        if not out.exists():
            error = _download(dvc_file)
        if not out.exists():
            reason = error or "its address gives a file with another md5"
            hint = "without a network, name a folder that has it: dvc remote add --local --default mirror DIR"
            raise UserError(dvc_file, out.name, f"could not be fetched ({reason}); {hint}")


def _imports(scan: str) -> dict[Path, Path]:
    """Return the files of ``scan`` that come from elsewhere, and the .dvc file of each."""
    imports: dict[Path, Path] = {}
    for dvc_file in sorted(RAW.glob("*/*.dvc")):
        content = yaml.safe_load(dvc_file.read_text())
        folder = (dvc_file.parent / content.get("wdir", ".")).resolve()
        if folder == (RAW / scan).resolve():
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


def main() -> None:
    """Run as a program."""
    with errors_in_one_line():
        params = load_params()
        check(params)
        name = " ".join(sys.argv[1:])
        scan = known(name, params) if name else scan_name(params)
        fetch(scan)
        choose(scan)


if __name__ == "__main__":
    main()
