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
# With other random numbers a layer of so small a network may have no gradient but rounding, which Adam makes
# as large as any other.
FOUR_STEPS = TINY.model_copy(update={"precision": "fp32", "steps": 4, "batch": 8, "scanner_noise": 0})
RUN = """
import sys
from pathlib import Path
from microgan.gan.training import train
from tests.helpers import DiscWindows
from tests.gan.test_distributed import FOUR_STEPS, MODELS
batch = int(sys.argv[3])
train(DiscWindows(), FOUR_STEPS.model_copy(update={"batch": batch}), MODELS[sys.argv[1]], Path(sys.argv[2]))
"""


def _two_processes(folder: Path, model: str, batch: int) -> subprocess.CompletedProcess[str]:
    script = folder / "run.py"
    script.write_text(RUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(script), model, str(folder / "two"), str(batch)]
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)


@pytest.mark.parametrize("model", MODELS)
def test_two_processes_train_what_one_trains(model: str, tmp_path: Path) -> None:
    """The same losses, weights and batch statistics: also the gradient penalty and batch norm are whole."""
    two = _two_processes(tmp_path, model, 8)
    assert two.returncode == 0, two.stderr
    train(DiscWindows(), FOUR_STEPS, MODELS[model], tmp_path / "one")
    one_step = FOUR_STEPS.model_copy(update={"steps": 1})
    train(DiscWindows(), one_step, MODELS[model], tmp_path / "start")
    before, by_one, by_two = (load_file(tmp_path / name) for name in ("start", "one", "two"))
    weights = [name for name in by_one if name.startswith(("generator/", "critic/")) and by_one[name].ndim]
    for name in weights:
        # By the mean: Adam moves a weight whose gradient is rounding alone as far as any other.
        moved, apart = (by_one[name] - before[name]).abs().mean(), (by_one[name] - by_two[name]).abs().mean()
        assert apart <= 0.05 * moved, name


def test_a_batch_that_cannot_be_divided_is_reported_in_one_line(tmp_path: Path) -> None:
    refused = _two_processes(tmp_path, "dcgan", 7)
    assert refused.returncode != 0
    assert "batch: 7: must be a multiple of the 2 processes" in refused.stderr


def test_alone_batch_norm_is_torch_s_own() -> None:
    images = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(BatchNorm2d(3)(images), torch.nn.BatchNorm2d(3)(images))
