"""The shape of the house: whether dvc.yaml names the rooms that each stage imports.

That imports go one way, from the upper rooms to the lower ones, is a contract in pyproject.toml that
``make lint`` checks (import-linter).
"""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from stages.stage import BASELINE

ROOT = Path(__file__).parents[1]
STAGES = (
    "simulate",
    "ingest",
    "measure_real",
    "random_packing",
    "learn_faults",
    "calibrate",
    "real_statistics",
    "train",
    "generate",
    "measure",
    "validate",
    "evaluate",
    "verdict",
    "export",
    "report",
)
JUDGED = {"measure", "validate", "evaluate"}  # stages that know the baseline too

# What all stages use to report results, not to compute them: to edit these must not train a model anew.
EDGES = (
    "stages.stage",
    "stages.tracking",
    "stages.executions",
    "stages.outbox",
    "stages.declared",
    "stages.heartbeat",
    "stages.parent",
    "stages.project",
)


@cache
def _graph() -> grimp.ImportGraph:
    graph = grimp.build_graph("microgan", "stages", exclude_type_checking_imports=True)
    for module in EDGES:
        graph.remove_module(module)
    return graph


def _file(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    return file.relative_to(ROOT).as_posix()


def _imported(stage: str) -> set[str]:
    """Return the files of all modules that a stage imports, itself or through others."""
    modules = {f"stages.{stage}"} | _graph().find_upstream_modules(f"stages.{stage}")
    return {_file(module) for module in modules} - {"microgan/__init__.py"}  # which imports nothing by itself


def _dvc() -> dict:
    files = (ROOT / "data/raw/dvc.yaml", ROOT / "dvc.yaml")
    return {
        name: stage for file in files for name, stage in yaml.safe_load(file.read_text())["stages"].items()
    }


@pytest.mark.parametrize("name", STAGES)
def test_dvc_knows_the_code_of_each_stage(name: str) -> None:
    stage = _dvc()[name]
    assert stage["desc"]
    launcher = "${launch}" if name == "train" else "python"
    assert stage["cmd"].split()[:3] == [launcher, "-m", f"stages.{name}"]
    # A dependency is a room, or a file of one where the rest of the room would train for nothing.
    code = [dep for dep in stage["deps"] if dep.startswith(("microgan/", "stages/"))]
    covered = {
        dep: {file for file in _imported(name) if file == dep or file.startswith(f"{dep}/")} for dep in code
    }
    assert [dep for dep, files in covered.items() if not files] == [], "named, but not imported"
    assert _imported(name) - set().union(*covered.values()) == set(), "imported, but not named"


def test_dvc_knows_all_stages_and_every_parameter_has_a_reader() -> None:
    stages = _dvc()
    assert tuple(stages) == STAGES
    read = {param.split(".")[0] for stage in stages.values() for param in stage.get("params", [])}
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert read == set(params) - {"launch"}  # which is part of a command
    models = {name: stage["matrix"]["model"] for name, stage in stages.items() if "matrix" in stage}
    assert set(models) == {"train", "generate", "verdict", "export"} | JUDGED
    for name, judged in models.items():
        assert judged == [*params["models"], *([BASELINE] if name in JUDGED else [])]


def _after(stages: dict[str, Any], name: str) -> set[str]:
    """All stages that depend on what the stage ``name`` writes, directly or not."""
    later, written = {name}, set(_outputs(stages[name]))
    while True:
        new = {other for other, stage in stages.items() if written & set(stage["deps"])} - later
        if not new:
            return later - {name}
        later |= new
        written |= {path for other in new for path in _outputs(stages[other])}


def _outputs(stage: dict[str, Any]) -> list[str]:
    groups = [stage.get("outs", []), stage.get("metrics", [])]
    return [path for group in groups for entry in group for path in entry]


def test_a_change_of_limits_trains_draws_and_measures_nothing() -> None:
    """The parameters that set limits are read by no stage that comes before training, or measures."""
    stages = _dvc()
    limits = {"calibrate", "calibrate.false_rejection_budget", "calibrate.rules", "calibrate.own"}
    readers = {name for name, stage in stages.items() if limits & set(stage.get("params", []))}
    rerun = readers.union(*(_after(stages, name) for name in readers))
    assert rerun == {"calibrate", "validate", "evaluate", "verdict", "export", "report"}


def test_an_edit_of_the_report_or_of_the_evaluation_trains_nothing() -> None:
    trained = _imported("train")
    assert "microgan/gan/losses.py" in trained
    assert not [file for file in trained if file.startswith(("microgan/evaluation", "microgan/exporters"))]
    assert "microgan/scan/readers.py" not in trained
    assert "microgan/gan/losses.py" not in _imported("ingest")


WITHOUT = """
import importlib, sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dvc", "mlflow", "yaml", "psutil", "stages"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocked())
for file in sorted(Path("microgan").rglob("*.py")):
    importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
from microgan.core.domain import Domain
from microgan.gan.networks import Generator, NetworkConfig
from microgan.gan.sampling import sample
print(tuple(sample(Generator(NetworkConfig(base_channels=4)), 2, Domain((40, 24)), seed=0).shape))
"""


def test_the_core_imports_and_samples_without_dvc_mlflow_and_yaml() -> None:
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout.strip() == "(2, 1, 40, 24)", result.stderr
