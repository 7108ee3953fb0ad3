"""Training by two processes is training by one, to rounding."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from microgan.gan.distributed import BatchNorm2d
from microgan.gan.training import train
from tests.gan.test_training import DCGAN, TINY, WGAN_GP
from tests.helpers import DiscWindows

MODELS = {"dcgan": DCGAN, "wgan_gp": WGAN_GP}
FOUR_STEPS = TINY.model_copy(update={"precision": "fp32", "steps": 4, "batch": 8})
RUN = """
import os
import sys
from pathlib import Path
from microgan.core.errors import UserError
from microgan.gan.training import train
from tests.helpers import DiscWindows
from tests.gan.test_distributed import FOUR_STEPS, MODELS
for name, model in MODELS.items():
    train(DiscWindows(), FOUR_STEPS, model, Path(sys.argv[1]) / f"{name}.two")
try:
    train(DiscWindows(), FOUR_STEPS.model_copy(update={"batch": 7}), model, Path(sys.argv[1]) / "seven")
except UserError as error:
    Path(sys.argv[1], f"refused.{os.environ['RANK']}").write_text(str(error))
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made: the states of both models, and how they refuse a batch of seven."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "run.py").write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    words = [*command, str(folder / "run.py"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_two_processes_train_what_one_trains(model: str, two_processes: Path, tmp_path: Path) -> None:
    """The same losses, weights and batch statistics: also the gradient penalty and batch norm are whole."""
    train(DiscWindows(), FOUR_STEPS, MODELS[model], tmp_path / "one")
    one_step = FOUR_STEPS.model_copy(update={"steps": 1})
    train(DiscWindows(), one_step, MODELS[model], tmp_path / "start")
    files = tmp_path / "start", tmp_path / "one", two_processes / f"{model}.two"
    before, by_one, by_two = (load_file(file) for file in files)
    weights = [name for name in by_one if name.startswith(("generator/", "critic/")) and by_one[name].ndim]
    for name in weights:
        # By the mean: Adam moves a weight whose gradient is rounding alone as far as any other.
        moved, apart = (by_one[name] - before[name]).abs().mean(), (by_one[name] - by_two[name]).abs().mean()
        assert apart <= 0.05 * moved, name


def test_a_batch_that_cannot_be_divided_is_refused_by_both(two_processes: Path) -> None:
    for number in range(2):
        refused = (two_processes / f"refused.{number}").read_text()
        assert refused.startswith("batch: 7: must be a multiple of the 2 processes")


def test_alone_batch_norm_is_torch_s_own() -> None:
    images = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(BatchNorm2d(3)(images), torch.nn.BatchNorm2d(3)(images))
