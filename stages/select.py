"""Before the pipeline: check all parameters, select the scan, fetch it, and say how long a run takes.

``python -m stages.select NAME`` puts NAME into the line ``scan:`` of params.yaml; without it the scan stays.
"""

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from microgan.core.config import Config
from microgan.core.errors import UserError
from microgan.core.files import atomic
from microgan.core.notes import warn, warnings_on_stderr
from microgan.evaluation.homogenisation import PropertiesConfig
from microgan.evaluation.image_metrics import ImageMetricsConfig
from microgan.evaluation.real_statistics import FidelityConfig
from microgan.exporters.export import ExportConfig
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.samples.card import SampleConfig
from microgan.scan.config import ScanConfig, planes_in_range
from microgan.scan.ingest import must_suit
from microgan.scan.readers import open_scan
from microgan.scan.simulate import SimulateConfig
from microgan.validity.calibration import CalibrationConfig
from stages import durations
from stages.project import is_known_to_git
from stages.raw_scans import IGNORED, RAW, SIMULATED, fetch, hide_other_scans
from stages.running import no_pipeline_running
from stages.stage import (
    BASELINE,
    PARAMS,
    errors_in_one_line,
    load_params,
    naming,
    scan_name,
    section,
    window_px,
)

IGNORE = RAW / IGNORED
TRAIN_BESIDES_MINUTES = 0.5  # of each training: real windows are measured before it, samples after it
STEPS_A_MINUTE = (800, 300)  # on two cores, with bf16 and without
OTHER_MINUTES = 23  # of all stages but the training, on two cores
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
    must_start(params)
    for name, kind in KINDS.items():
        kind.from_mapping(section(params, name), where=name)
    if BASELINE in section(params, "models"):
        raise UserError(f"models.{BASELINE}", "a model", "must have another name: the baseline has it")
    for group, kind in GROUPS.items():
        for name in section(params, group):
            kind.from_mapping(section(params, f"{group}.{name}"), where=f"{group}.{name}")


def must_start(params: Mapping[str, Any]) -> None:
    """Refuse a ``launch:`` whose program is not there."""
    launch = params.get("launch")
    words = shlex.split(launch) if isinstance(launch, str) else []
    if not words or shutil.which(words[0]) is None:
        rule = "must begin with a program that is installed: python, or torchrun --nproc-per-node 4"
        raise UserError(f"{PARAMS}: launch", repr(launch), rule)


def check_scan(params: Mapping[str, Any], scan: str) -> None:
    """Refuse a split, a region or a window that the raw scan does not have; only its size is read."""
    where, folder = f"scans.{scan}", RAW / scan
    config = ScanConfig.from_mapping(section(params, where), where)
    with naming(where, ScanConfig):
        if scan == SIMULATED:  # made anew where it is out of date
            made = SimulateConfig.from_mapping(section(params, "simulate"), "simulate")
            planes = planes_in_range(config.planes or ":", made.planes)
            shape = (len(planes), made.size_px, made.size_px)
        else:
            with open_scan(folder, config) as opened:
                shape = opened.shape
        must_suit(scan, shape, config, window_px(params))


def warn_of_unknown_files(params: Mapping[str, Any]) -> None:
    """Say which files of own rules a queued experiment would not find, as git does not know them."""
    own = CalibrationConfig.from_mapping(section(params, "calibrate"), "calibrate").own
    for name in sorted({rule.function.split(".")[0] for rule in own.values()}):
        file = Path(f"{name}.py") if Path(f"{name}.py").is_file() else Path(name)
        if file.exists() and not is_known_to_git(file):
            lost = "so dvc exp run --queue and --temp will not find it"
            warn(f"{file}: git does not know this file of own rules, {lost}: git add {file}")


def duration(params: Mapping[str, Any]) -> str:
    """Return how long a run takes, of which training is known beforehand.

    Examples
    --------
    >>> duration({"train": {"steps": 3000}, "models": {"a": {"steps_factor": 1.5}, "b": {}}})
    'on two cores, training takes 10 to 26 minutes (7500 steps, quick with bf16), the rest about 23'
    """
    models = section(params, "models").values()
    steps = section(params, "train")["steps"] * sum(model.get("steps_factor", 1.0) for model in models)
    least, most = (steps / pace + TRAIN_BESIDES_MINUTES * len(models) for pace in STEPS_A_MINUTE)
    training = f"training takes {least:.0f} to {most:.0f} minutes ({steps:.0f} steps, quick with bf16)"
    return f"on two cores, {training}, the rest about {OTHER_MINUTES}"


def select(scan: str, is_another: bool) -> None:
    """Let the pipeline run with ``scan``; not beside one that runs with another scan."""
    with no_pipeline_running(f"{PARAMS}: scan") if is_another else nullcontext():
        before = IGNORE.read_bytes() if IGNORE.exists() else None
        hide_other_scans(scan)
        try:
            choose(scan)
        except BaseException:  # a full disk: the scan of before stays
            IGNORE.unlink() if before is None else IGNORE.write_bytes(before)
            raise


def main() -> None:
    """Run as a program."""
    with errors_in_one_line(), warnings_on_stderr():
        params = load_params()
        check(params)
        name = " ".join(sys.argv[1:])
        scan = known(name, params) if name else scan_name(params)
        print(f"microgan: scan {scan}: {duration(params)}")
        fetch(scan)
        check_scan(params, scan)
        warn_of_unknown_files(params)
        select(scan, is_another=scan != scan_name(params))
        durations.begin()


if __name__ == "__main__":
    main()
