"""The stage train: several processes, interruption, and the states that it goes on from."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from microgan.gan.config import ModelConfig, TrainConfig
from microgan.scan.planes import Planes
from stages import train
from stages.tracking import Tracker
from tests.stages.helpers import ROOT, edit, lines, program, results, start, state_of


def test_two_processes_train_one_model_and_the_first_one_writes(trained: Path) -> None:
    edit(train__seed=3)
    before = state_of(trained / "models")
    Path("both.py").write_text(
        "import sys; sys.modules['mlflow'] = None\nfrom stages import stage, train\nstage.run(train.main)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = subprocess.run([*command, "both.py", "dcgan"], env=environment, capture_output=True, text=True)
    assert both.returncode == 0, both.stderr
    after = state_of(trained / "models")
    assert before.keys() == after.keys()
    assert before["dcgan/generator.safetensors"] != after["dcgan/generator.safetensors"]
    assert json.loads(after["dcgan/model.json"])["training"]["steps"] == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_so_keeps_earlier_results_and_goes_on(
    trained: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = results(trained)
    assert not list((trained / "checkpoints").iterdir()), "a finished run leaves no state"
    edit(train__steps=100_000)
    running = program("train", "dcgan")
    while not (states := list((trained / "checkpoints").glob("*/state.safetensors"))):
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    running.send_signal(number)
    errors = lines(running.communicate()[1])
    assert running.returncode == 130
    assert errors == [
        "microgan: interrupted: earlier results are intact, run the same command again to go on"
    ]
    assert results(trained) == before
    assert states[0].exists()


def test_a_state_serves_only_the_training_that_it_came_from(trained: Path) -> None:
    planes = Planes.load(Path("data/planes"))
    config, model = TrainConfig(), ModelConfig(loss="minimax")
    folder = train.resume_folder(config, model, 32, planes)
    assert folder == train.resume_folder(config, model, 32, planes)
    others = [
        train.resume_folder(config.model_copy(update={"steps": 4001}), model, 32, planes),
        train.resume_folder(config, model.model_copy(update={"betas": (0.4, 0.9)}), 32, planes),
        train.resume_folder(config, model, 40, planes),
        train.resume_folder(
            config,
            model,
            32,
            Planes(planes.grey, planes.mask, planes.info.model_copy(update={"planes_sha256": "0"})),
        ),
        train.resume_folder(
            config,
            model,
            32,
            Planes(planes.grey, planes.mask, planes.info.model_copy(update={"mask_sha256": "0"})),
        ),
    ]
    assert folder not in others and len(set(others)) == 5


def test_a_changed_module_makes_earlier_states_stale(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        planes_sha256, mask_sha256 = "1", "2"

    class Scan:
        info = Info

    before = train.resume_folder(TrainConfig(), ModelConfig(loss="minimax"), 32, Scan)  # type: ignore[arg-type]
    (project / "losses.py").write_text("# edited")
    monkeypatch.setattr(sys.modules["microgan.gan.losses"], "__file__", str(project / "losses.py"))
    after = train.resume_folder(TrainConfig(), ModelConfig(loss="minimax"), 32, Scan)  # type: ignore[arg-type]
    assert after != before


def test_a_signal_while_the_results_are_tracked_costs_no_training(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    edit(train__seed=4)
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "artifact", interrupted)
        assert start(train.main, "dcgan", monkeypatch=monkeypatch) == 130
    assert list((trained / "checkpoints").iterdir())
    before = results(trained)
    monkeypatch.setattr("microgan.gan.training.generator_step", interrupted)  # no step is done again
    assert start(train.main, "dcgan", monkeypatch=monkeypatch) == 0
    assert results(trained).keys() == before.keys()
    weights = "models/dcgan/generator.safetensors"
    assert results(trained)[weights] == before[weights]
    assert not list((trained / "checkpoints").iterdir())
