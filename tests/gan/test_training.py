import random
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.gan import runtime, schedule, training
from microgan.gan.checkpoint import load_model, save_model
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.physical_loss import Material, PhysicsConfig
from microgan.gan.runtime import choose_compile, choose_precision
from microgan.gan.sampling import sample
from microgan.gan.training import train
from microgan.scan.symmetries import Augmentation
from tests.helpers import DiscWindows, weights_digest

TINY = TrainConfig(
    latent_channels=4, base_channels=4, batch=4, steps=12, threads=1, save_every=3, log_every=1
)
DCGAN = ModelConfig(loss="non_saturating")
WGAN_GP = ModelConfig(loss="wasserstein", gradient_penalty=10, critic_steps=2, betas=(0.0, 0.9))
PHYSICAL = PhysicsConfig(warm_up=4, ramp=4, images=2)


def material() -> Material:
    """What the physical loss expects of one disc in a window."""
    return Material.of(DiscWindows().draw(np.random.default_rng(0), 64), (8, 12), "bright", 0.0)


def brightness(samples: Tensor) -> dict[str, float]:
    """Stand for a validation: the higher, the brighter the samples."""
    return {"score": samples.mean().item()}


def _digest(trained: training.Trained) -> str:
    return weights_digest(trained.generator)


@pytest.mark.parametrize("model", [DCGAN, WGAN_GP], ids=["dcgan", "wgan_gp"])
def test_same_seed_same_bits(model: ModelConfig, tmp_path: Path) -> None:
    once = train(DiscWindows(), TINY, model, tmp_path / "a")
    again = train(DiscWindows(), TINY, model, tmp_path / "b")
    another_seed = train(DiscWindows(), TINY.model_copy(update={"seed": 1}), model, tmp_path / "c")
    assert _digest(once) == _digest(again) != _digest(another_seed)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own
@pytest.mark.parametrize("model", [DCGAN, WGAN_GP], ids=["dcgan", "wgan_gp"])
def test_compiled_networks_train_as_they_are(
    model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced, by_torch = [], torch.compile

    def trace(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        traced.append(function)
        return by_torch(function, backend="aot_eager")  # traces and differentiates, needs no compiler for C++

    monkeypatch.setattr(torch, "compile", trace)
    trained = []
    for compiled in (False, True):
        config = TINY.model_copy(update={"steps": 4, "precision": "fp32", "compile": compiled})
        trained.append(train(DiscWindows(), config, model, tmp_path / str(compiled)))
    assert len(traced) == 3  # generator, critic, and the critic's gradient
    plain, compiled = (done.last.state_dict() | done.critic.state_dict(prefix="critic.") for done in trained)
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


def test_compiling_is_for_gpus_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setattr(runtime, "find_spec", lambda name: name == "triton")
    assert [choose_compile(wanted, cpu) for wanted in ("auto", True, False)] == [False, True, False]
    assert [choose_compile(wanted, gpu) for wanted in ("auto", True, False)] == [True, True, False]
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    assert not choose_compile("auto", gpu)
    monkeypatch.setattr(runtime, "world_size", lambda: 2)
    assert not choose_compile(True, gpu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("model", [DCGAN, WGAN_GP], ids=["dcgan", "wgan_gp"])
def test_a_gpu_trains_what_a_cpu_trains(model: ModelConfig, tmp_path: Path) -> None:
    by = {}
    for device in ("cpu", "cuda"):
        update = {"steps": 8, "precision": "fp32", "device": device, "physics": PHYSICAL}
        config = TINY.model_copy(update=update)
        by[device] = train(DiscWindows(), config, model, tmp_path / device, material=material())
    for on_cpu, on_gpu in zip(by["cpu"].history, by["cuda"].history, strict=True):
        assert on_cpu["critic_loss"] == pytest.approx(on_gpu["critic_loss"], rel=0.1, abs=0.02)
        assert on_cpu["generator_loss"] == pytest.approx(on_gpu["generator_loss"], rel=0.1, abs=0.02)


@pytest.mark.parametrize("model", [DCGAN, WGAN_GP], ids=["dcgan", "wgan_gp"])
def test_score_penalty_holds_the_critic_near_doubt(model: ModelConfig, tmp_path: Path) -> None:
    config = TINY.model_copy(update={"steps": 60})
    real = DiscWindows().draw(np.random.default_rng(1), 16)
    size = {}
    for weight in (0.0, 10.0):
        penalised = model.model_copy(update={"score_penalty": weight})
        critic = train(DiscWindows(), config, penalised, tmp_path / str(weight)).critic
        size[weight] = critic(real).square().mean().item()
    assert size[10.0] < 0.1 * size[0.0]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.gan.test_training import resumable
def kill(row):
    if row["step"] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
resumable(sys.argv[1], Path(sys.argv[2]), kill)
"""


def resumable(
    model: str, state: Path, on_log: Callable[[dict[str, float]], None] = lambda row: None
) -> training.Trained:
    """Train with physical loss and validation, so that all there is to resume takes part."""
    update = {"steps": 20, "physics": PHYSICAL, "validation_every": 7, "validation_count": 2}
    config, kind = TINY.model_copy(update=update), {"dcgan": DCGAN, "wgan_gp": WGAN_GP}[model]
    return train(DiscWindows(), config, kind, state, on_log, validate=brightness, material=material())


@pytest.mark.parametrize("model", ["dcgan", "wgan_gp"])
def test_killed_and_resumed_equals_never_stopped(model: str, tmp_path: Path) -> None:
    """SIGKILL at a random step, run again: bit-identical weights and the same history."""
    whole = resumable(model, tmp_path / "whole")
    assert (len(whole.history), len(whole.validations)) == (20, 3)
    step = random.randint(4, 19)  # states are saved at 3, 6, ...
    command = [sys.executable, "-c", KILLED, model, str(tmp_path / "killed"), str(step)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "killed").exists()
    resumed = resumable(model, tmp_path / "killed")
    assert _digest(resumed) == _digest(whole), f"killed at step {step}"
    assert (len(resumed.history), len(resumed.validations)) == (20, 3)


def test_ctrl_c_finishes_the_step_saves_and_goes_on_later(tmp_path: Path) -> None:
    whole = train(DiscWindows(), TINY, DCGAN, tmp_path / "whole")

    def press_at_5(row: dict[str, float]) -> None:
        if row["step"] == 5:
            signal.raise_signal(signal.SIGINT)

    state = tmp_path / "state"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(DiscWindows(), TINY, DCGAN, state, on_log=press_at_5)
    assert signal.getsignal(signal.SIGINT) is handler
    rest = train(DiscWindows(), TINY, DCGAN, state)
    assert [row["step"] for row in rest.history] == list(range(1, 13))
    assert _digest(rest) == _digest(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_last_validation_stops_it_with_the_state_saved(
    tmp_path: Path, number: signal.Signals
) -> None:
    def signalled(samples: Tensor) -> dict[str, float]:
        signal.raise_signal(number)
        return {"score": 1.0}

    config = TINY.model_copy(update={"validation_every": 100, "validation_count": 2})
    with pytest.raises(KeyboardInterrupt):
        train(DiscWindows(), config, DCGAN, tmp_path / "state", validate=signalled)
    rest = train(DiscWindows(), config, DCGAN, tmp_path / "state", validate=signalled)
    assert (len(rest.history), len(rest.validations)) == (12, 1), "nothing was done again"


def test_the_physical_loss_begins_after_the_warm_up_and_changes_the_weights(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"physics": PHYSICAL})
    without = train(DiscWindows(), config, DCGAN, tmp_path / "without")
    done = train(DiscWindows(), config, DCGAN, tmp_path / "with", material=material())
    losses = [row["physical_loss"] for row in done.history]
    assert losses[:5] == [0] * 5 and min(losses[5:]) > 0
    assert done.history[4]["generator_loss"] == without.history[4]["generator_loss"]
    assert _digest(done) != _digest(without)
    off = config.model_copy(update={"physics": PhysicsConfig(weight=0)})
    assert _digest(train(DiscWindows(), off, DCGAN, tmp_path / "off", material=material())) == _digest(
        without
    )


def test_the_generator_with_the_best_validation_is_kept(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"validation_every": 3, "validation_count": 5})
    validated: list[Tensor] = []

    def validate(samples: Tensor) -> dict[str, float]:
        validated.append(samples)
        return {"score": float(len(validated) == 2)}

    done = train(DiscWindows(), config, DCGAN, tmp_path / "s", validate=validate)
    assert [row["step"] for row in done.validations] == [3, 6, 9, 12]
    assert done.kept == {"step": 6, "score": 1}
    assert torch.equal(sample(done.generator, 5, Domain((64, 64)), config.seed), validated[1])
    assert torch.equal(sample(done.last, 5, Domain((64, 64)), config.seed), validated[3])


def test_batch_norms_of_the_kept_generator_know_its_own_features(tmp_path: Path) -> None:
    """After twelve steps the statistics that went by still hold much of the 1 that they began with."""
    done = train(DiscWindows(), TINY, DCGAN, tmp_path / "s", validate=brightness)
    for generator in (done.generator, done.last):
        convolution, norm = generator.layers[0], generator.layers[1]
        features = convolution(torch.randn(64, TINY.latent_channels, 16, 16))
        torch.testing.assert_close(norm.running_var, features.var((0, 2, 3)), rtol=0.15, atol=0)


def test_the_last_generator_within_a_standard_error_of_the_best_is_kept(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"validation_every": 3, "validation_count": 2})
    scores = iter([0.5, 0.9, 0.85, 0.7])

    def validate(samples: Tensor) -> dict[str, float]:
        return {"score": next(scores), "score_error": 0.1}

    done = train(DiscWindows(), config, DCGAN, tmp_path / "s", validate=validate)
    assert done.kept["step"] == 9


def test_learning_rates_fall_with_the_steps_that_are_left() -> None:
    config = TINY.model_copy(update={"steps": 100, "decay_fraction": 0.5})
    assert schedule.learning_rate_factor(80, config) == pytest.approx(0.4)
    assert schedule.learning_rate_factor(30, config) == 1
    constant = config.model_copy(update={"decay_fraction": 0.0})
    assert schedule.learning_rate_factor(99, constant) == 1


def test_a_training_starts_from_another_model(tmp_path: Path) -> None:
    done = train(DiscWindows(), TINY, DCGAN, tmp_path / "s")
    save_model(tmp_path / "model", done.generator, {}, done.last, done.critic)
    frozen = ModelConfig(loss="non_saturating", generator_learning_rate=1e-30, critic_learning_rate=1e-30)
    config = TINY.model_copy(update={"init_from": tmp_path / "model", "steps": 1})
    again = train(DiscWindows(), config, frozen, tmp_path / "again")
    for name, weight in done.last.named_parameters():
        torch.testing.assert_close(dict(again.last.named_parameters())[name], weight)
    with pytest.raises(UserError, match=r"critic.safetensors: unusable: must hold a network of the same"):
        train(DiscWindows(), config, WGAN_GP, tmp_path / "other")
    nowhere = TINY.model_copy(update={"init_from": tmp_path / "nowhere"})
    with pytest.raises(UserError, match=r"last.safetensors: missing"):
        train(DiscWindows(), nowhere, DCGAN, tmp_path / "other")


def test_it_learns(tmp_path: Path) -> None:
    """Grey values of real windows are learnt: nearly all dark, few bright, as in no untrained image."""
    config = TINY.model_copy(
        update={"base_channels": 8, "batch": 16, "steps": 250, "ema_decay": 0.9, "scanner_noise": 0}
    )
    fast = ModelConfig(loss="non_saturating", generator_learning_rate=1e-3, critic_learning_rate=1e-3)
    grids: dict[int, np.ndarray] = {}
    train(
        DiscWindows(),
        config,
        fast,
        tmp_path / "s",
        on_preview=lambda step, images: grids.update({step: images}),
    )
    real = DiscWindows().draw(np.random.default_rng(0), 256).numpy()
    assert grids[250].mean() == pytest.approx(real.mean(), abs=0.15)
    assert grids[250].std() == pytest.approx(real.std(), rel=0.5)


def test_the_trained_generator_can_be_saved_and_loaded(tmp_path: Path) -> None:
    done = train(DiscWindows(), TINY, DCGAN, tmp_path / "s")
    save_model(tmp_path / "model", done.generator, {})
    assert weights_digest(load_model(tmp_path / "model")[0]) == _digest(done)


@pytest.mark.parametrize("loss", ["minimax", "least_squares"])
def test_the_other_losses_train(loss: str, tmp_path: Path) -> None:
    done = train(DiscWindows(), TINY, ModelConfig(loss=loss), tmp_path / "s")
    assert done.steps == 12
    assert all(np.isfinite(list(row.values())).all() for row in done.history)


@pytest.mark.parametrize(("has_bf16", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_chosen_where_the_processor_multiplies_it(
    has_bf16: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bf16})
    assert choose_precision("auto", torch.device("cpu")) == chosen
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"


def test_minutes_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which each step takes 2 s. Until then, all is as on a clock that stands still."""
    seconds = count(step=2)
    monkeypatch.setattr(training, "monotonic", lambda: float(next(seconds)))
    config = TINY.model_copy(update={"steps": 10**9, "minutes": 0.2})
    done = train(DiscWindows(), config, DCGAN, tmp_path / "s")
    assert (done.steps, done.seconds, done.stopped_by_clock) == (6, 12, True)
    longer = config.model_copy(update={"minutes": 0.25})  # 15 s, of which 12 went by before the resume
    assert train(DiscWindows(), longer, DCGAN, tmp_path / "s").steps == 8


def test_weights_do_not_depend_on_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is a hundred times as slow, and for a model that takes half as many steps again."""
    model = DCGAN.model_copy(update={"steps_factor": 1.5})
    digests = []
    for pace in (1, 100):
        seconds = count(step=pace)
        monkeypatch.setattr(training, "monotonic", lambda seconds=seconds: float(next(seconds)))
        done = train(DiscWindows(), TINY, model, tmp_path / str(pace))
        assert (done.steps, done.seconds, done.stopped_by_clock) == (18, 18 * pace, False)
        digests.append(weights_digest(done.last))
    assert digests[0] == digests[1]


def test_nan_stops_with_one_line_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    class Poisoned(DiscWindows):
        def draw(
            self, rng: np.random.Generator, count: int, augmentation: Augmentation = "none"
        ) -> torch.Tensor:
            windows = super().draw(rng, count, augmentation)
            self.batches = getattr(self, "batches", 0) + 1
            return windows * (torch.nan if self.batches == 8 else 1)

    state = tmp_path / "state"
    with pytest.raises(
        UserError, match=r"step 8: critic_loss: nan: must be finite; last good state"
    ) as error:
        train(Poisoned(), TINY, DCGAN, state)
    assert "\n" not in str(error.value)
    resumed = train(DiscWindows(), TINY, DCGAN, state)
    assert _digest(resumed) == _digest(train(DiscWindows(), TINY, DCGAN, tmp_path / "whole"))


def test_blank_images_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COLLAPSED_SPREAD", 3.0)
    with pytest.raises(UserError, match=r"image_spread: .*: generated images are blank"):
        train(DiscWindows(), TINY, DCGAN, tmp_path / "state")


def test_a_training_whose_state_is_damaged_starts_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(DiscWindows(), TINY, DCGAN, tmp_path / "state")
    content = bytearray((tmp_path / "state").read_bytes())
    content[-1] ^= 64
    (tmp_path / "state").write_bytes(content)
    assert _digest(train(DiscWindows(), TINY, DCGAN, tmp_path / "state")) == _digest(whole)
    assert "state: damaged: must be the whole state of this training" in caplog.text
    assert caplog.text.rstrip().endswith("the training starts over")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"loss": "hinge"}, "models.x.loss: 'hinge': input should be"),
        ({"loss": "minimax", "betas": [0.5, 1.0]}, "betas must be"),
        ({"loss": "wasserstein"}, "gradient_penalty must be positive"),
        ({"loss": "minimax", "gradient_penalty": 10}, "and 0 with any other"),
        ({"loss": "minimax", "critic_stepps": 2}, "models.x.critic_stepps: 2: unknown parameter"),
    ],
)
def test_bad_parameters_are_named(values: dict, line: str) -> None:
    with pytest.raises(UserError) as error:
        ModelConfig.from_mapping(values, "models.x")
    assert line in str(error.value)
