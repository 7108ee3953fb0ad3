"""The shape of the house: who imports whom, and whether dvc.yaml knows it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stages.stage import BASELINE

ROOT = Path(__file__).parents[1]
CORE = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "microgan").rglob("*.py"))
STAGES = (
    "simulate",
    "ingest",
    "calibrate",
    "survey",
    "train",
    "generate",
    "pack",
    "validate",
    "evaluate",
    "export",
    "report",
)
JUDGED = {"validate", "evaluate"}  # stages that know the baseline too

# Imports go from a line to lines below it.
LAYERS = (
    "cli",
    "report commands",
    "likeness repair",
    "choice diversity fidelity image_fidelity memorisation",
    "description packing power",
    "training validity export fields served",
    "abaqus hdf5 mesh nrrd tables tiff vtk",
    "model_folder",
    "windows outlines pictures sampling checkpoint rules format sidecar images",
    "comparison encoder planes properties structure rendering",
    "violations",
    "descriptors detection losses networks physics point_patterns sample_card scan simulate",
    "opencv_detector",
    "ring_detector",
    "circle_fit hough",
    "circles estimates files hard_discs parallel vision watershed",
    "config",
    "errors",
)

# Shared edges of the stages: they say how results are reported, not what they are. To edit them, or the
# version in microgan/__init__.py unless a module reads it, must not train a model anew.
EDGES = {"stages/__init__.py", "stages/stage.py", "stages/tracking.py", "stages/project.py"}


def _file(module: str) -> str | None:
    path = ROOT.joinpath(*module.split("."))
    found = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    return found.relative_to(ROOT).as_posix() if found else None


def _modules(node: ast.AST) -> Iterator[str]:
    """Yield what is imported, also inside functions, but not what only a type checker imports."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.module and not node.level, "imports name their module in full"
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            yield submodule if _file(submodule) else node.module
    for child in ast.iter_child_nodes(node):
        yield from _modules(child)


def _imports(file: str) -> set[str]:
    return set(_modules(ast.parse((ROOT / file).read_text())))


def _own_imports(file: str) -> set[str]:
    own = {module for module in _imports(file) if module.partition(".")[0] in ("microgan", "stages")}
    return {found for module in own if (found := _file(module))}


def _closure(file: str) -> set[str]:
    reached: set[str] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current not in reached | EDGES:
            reached.add(current)
            waiting += _own_imports(current)
    return reached


@pytest.mark.parametrize("file", CORE)
def test_the_core_knows_nothing_of_the_pipeline(file: str) -> None:
    packages = {module.partition(".")[0] for module in _imports(file)}
    assert not packages & {"stages", "dvc", "mlflow", "yaml", "psutil"}


@pytest.mark.parametrize("file", CORE)
def test_imports_go_downwards(file: str) -> None:
    level = {name: index for index, line in enumerate(LAYERS) for name in line.split()}
    name = Path(file).stem
    if name == "__init__":
        assert not _own_imports(file)
        return
    below = {Path(other).stem for other in _own_imports(file)} - {"__init__"}
    assert name in level, "every module has its place in LAYERS"
    assert [other for other in below if level[other] <= level[name]] == []


@pytest.mark.parametrize("name", STAGES)
def test_dvc_knows_the_code_of_each_stage(name: str) -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    assert stage["desc"]
    launcher = "${launch}" if name == "train" else "python"
    assert stage["cmd"].split()[:3] == [launcher, "-m", f"stages.{name}"]
    assert [dep for dep in stage["deps"] if dep.endswith(".py")] == _in_order(_closure(f"stages/{name}.py"))


def test_dvc_knows_all_stages_and_every_parameter_has_a_reader() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert tuple(stages) == STAGES
    read = {param.split(".")[0] for stage in stages.values() for param in stage.get("params", [])}
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert read == set(params) - {"launch"}  # which is part of a command
    models = {name: stage["matrix"]["model"] for name, stage in stages.items() if "matrix" in stage}
    assert set(models) == {"train", "generate", "export"} | JUDGED
    for name, judged in models.items():
        assert judged == [*params["models"], *([BASELINE] if name in JUDGED else [])]


def test_losses_belong_to_training_and_not_to_ingestion() -> None:
    assert "microgan/losses.py" in _closure("stages/train.py")
    assert "microgan/losses.py" not in _closure("stages/ingest.py")


WITHOUT = """
import importlib, sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dvc", "mlflow", "yaml", "psutil", "stages"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocked())
for file in sorted(Path("microgan").glob("*.py")):
    importlib.import_module(f"microgan.{file.stem}".removesuffix(".__init__"))
from microgan.networks import Generator, NetworkConfig
from microgan.sampling import sample
print(tuple(sample(Generator(NetworkConfig(base_channels=4)), 2, (40, 24), seed=0).shape))
"""


def test_the_core_imports_and_samples_without_dvc_mlflow_and_yaml() -> None:
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout.strip() == "(2, 1, 40, 24)", result.stderr


def _in_order(files: set[str]) -> list[str]:
    return sorted(files, key=lambda file: (file.startswith("stages"), file))
