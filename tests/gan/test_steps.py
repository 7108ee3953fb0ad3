"""One composed step: what the physical loss does to the generator, and what the loop gives to its steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microgan.gan import training
from microgan.gan.config import ModelConfig, TrainConfig
from microgan.gan.physical_loss import TERMS, Material, PhysicsConfig, physical_loss
from microgan.gan.runtime import choose_device
from microgan.gan.steps import Batch, Networks, critic_step, draw_batch, generator_step
from microgan.gan.training import train
from microgan.scan.windows import Augmentation
from tests.gan.test_physical_loss import material
from tests.helpers import DiscWindows, drawn

CPU = choose_device("cpu")
CONFIG = TrainConfig(latent_channels=4, base_channels=4, batch=4, threads=1, precision="fp32")
MODEL = ModelConfig(loss="wasserstein", gradient_penalty=10)


class Canvas(nn.Module):
    """Stands for a generator whose weights are the images themselves."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(images.clone())

    def forward(self, latent: Tensor) -> Tensor:
        return 1 * self.images


class Slope(nn.Module):
    """Stands for a critic: one score an image, linear, whose gradient is the same direction at all images."""

    def __init__(self, direction: Tensor) -> None:
        super().__init__()
        self.direction = nn.Parameter(direction)

    def forward(self, images: Tensor) -> Tensor:
        return (self.direction * images).sum((2, 3))


def stepped(
    images: Tensor, direction: Tensor, config: TrainConfig, weight: float, rate: float, known: Material | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return images after one generator step by plain gradient descent, and its losses."""
    canvas, critic = Canvas(images), Slope(direction)
    optimiser = torch.optim.SGD(canvas.parameters(), lr=rate)
    networks = Networks(canvas, critic, canvas, canvas, optimiser, optimiser, canvas, critic, critic, CPU)  # type: ignore[arg-type]
    losses = generator_step(networks, canvas(images), config, MODEL, known, weight)
    return canvas.images.detach(), losses


def pairs() -> Tensor:
    """Draw four images of two discs of radius 6 that overlap, by up to a third."""
    return torch.cat([drawn((32, 32 - d / 2, 6), (31, 32 + d / 2, 6.2)) for d in (8.0, 8.5, 9.0, 9.5)])


@pytest.mark.parametrize("term", ["overlap", "uncovered_phase", "volume_fraction"])
def test_next_to_no_adversarial_gradient_a_step_lowers_the_physical_loss(term: str) -> None:
    images, known = pairs(), material()
    zero = dict.fromkeys(TERMS, 0.0)
    physics = PhysicsConfig.model_validate({**zero, term: 1.0})
    config = CONFIG.model_copy(update={"physics": physics})
    faint = torch.full((1, 1, 64, 64), 1e-6)  # the physical push is a million times as large
    after, losses = stepped(images, faint, config, weight=1e6, rate=0.02, known=known)
    before, now = (physical_loss(batch, known, physics) for batch in (images, after))
    assert float(losses["physical_loss"]) == pytest.approx(float(before.total.mean()), rel=1e-5)
    assert (now.terms[term] < before.terms[term]).all()
    assert float(now.total.mean()) < float(before.total.mean())


@pytest.mark.parametrize("images_judged", [2, 8])
@pytest.mark.parametrize("doubled", ["overlap", "intermediate_grey", None])
def test_the_step_has_the_direction_computed_by_hand(doubled: str | None, images_judged: int) -> None:
    """The adversarial gradient, plus that of the weighted logarithms at 0.7 times its size."""
    images, known = pairs() + 0.1, material()
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float32))
    weights = {name: 0.5 + 0.25 * number for number, name in enumerate(TERMS)}
    weights |= {doubled: 2 * weights[doubled]} if doubled else {}
    physics = PhysicsConfig.model_validate({**weights, "images": images_judged})
    config = CONFIG.model_copy(update={"physics": physics})
    after, _ = stepped(images, direction, config, weight=0.7, rate=1.0, known=known)

    adversarial = -direction.expand(4, 1, 64, 64) / 4  # of minus the mean score
    every = 2 if images_judged == 2 else 1
    judged = images[::every].clone().requires_grad_(True)
    terms = physical_loss(judged, known).terms
    total = sum(weights[name] * torch.log(1 + term / known.scale[name]) for name, term in terms.items())
    (gradient,) = torch.autograd.grad(total.mean(), judged)
    expected = adversarial.clone()
    expected[::every] += 0.7 * gradient * adversarial.square().mean().sqrt() / gradient.square().mean().sqrt()
    torch.testing.assert_close(images - after, expected, rtol=2e-3, atol=2e-5)


def test_only_the_ratios_of_the_weights_matter() -> None:
    images, known = pairs() + 0.1, material()
    direction = torch.randn((1, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    steps = []
    for factor in (1.0, 2.0):
        physics = PhysicsConfig.model_validate(dict.fromkeys(TERMS, factor))
        config = CONFIG.model_copy(update={"physics": physics})
        steps.append(stepped(images, direction, config, weight=0.7, rate=1.0, known=known)[0])
    torch.testing.assert_close(steps[0], steps[1])


def test_without_a_material_or_a_weight_the_step_is_adversarial_alone() -> None:
    images, direction = pairs(), torch.full((1, 1, 64, 64), 0.1)
    for known, weight in ((None, 1.0), (material(), 0.0)):
        after, losses = stepped(images, direction, CONFIG, weight, rate=1.0, known=known)
        torch.testing.assert_close(after, images + direction / 4)
        assert losses.get("physical_loss", torch.zeros(())) == 0
        assert ("physical_loss" in losses) == (known is not None)


@pytest.mark.parametrize("penalty", [0.0, 0.4])
def test_the_critic_learns_real_from_fake_with_its_penalties(penalty: float) -> None:
    """A linear critic's step by hand: mean fake minus mean real, the gradient's norm, the squared scores."""
    rng = torch.Generator().manual_seed(1)
    real, fake = (torch.randn((3, 1, 8, 8), generator=rng) for _ in range(2))
    direction = torch.full((1, 1, 8, 8), 0.25)  # of norm 2
    canvas, critic = Canvas(fake), Slope(direction.clone())
    optimiser = torch.optim.SGD(critic.parameters(), lr=1.0)

    def input_gradient(images: Tensor) -> Tensor:
        return critic.direction.expand(len(images), 1, 8, 8)

    model = ModelConfig(loss="wasserstein", gradient_penalty=10, score_penalty=penalty)
    networks = Networks(
        canvas, critic, canvas, canvas, optimiser, optimiser, canvas, critic, input_gradient, CPU
    )  # type: ignore[arg-type]
    batch = Batch(real, torch.zeros(3), torch.rand((3, 1, 1, 1)))
    generated, losses = critic_step(networks, batch, CONFIG, model, with_graph=True)

    scores = {name: (direction * images).sum((2, 3)) for name, images in (("real", real), ("fake", fake))}
    expected = fake.mean(0) - real.mean(0) + 10 * 2 * (2 - 1) * direction / 2
    squares = [
        2 * scores[name][..., None, None] * images for name, images in (("real", real), ("fake", fake))
    ]
    expected = expected + penalty * sum(square.mean(0) for square in squares)
    torch.testing.assert_close(direction - critic.direction.detach(), expected)
    assert losses["critic_loss"].item() == pytest.approx(
        (scores["fake"].mean() - scores["real"].mean()).item()
    )
    assert losses["gradient_penalty"].item() == pytest.approx(1.0)
    assert torch.equal(generated, fake) and generated.requires_grad
    assert not critic_step(networks, batch, CONFIG, model, with_graph=False)[0].requires_grad


def test_a_batch_is_drawn_in_the_order_real_latent_mix() -> None:
    """The order is part of what a seed means."""
    batch = draw_batch(DiscWindows(), np.random.default_rng(7), CONFIG, MODEL, CPU)  # type: ignore[arg-type]
    rng, shape = np.random.default_rng(7), (4, CONFIG.numbers_a_cell, 18, 18)
    assert torch.equal(batch.real, DiscWindows().draw(rng, 4))
    assert torch.equal(batch.latent, torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)))
    assert torch.equal(batch.mix, torch.from_numpy(rng.random((4, 1, 1, 1), dtype=np.float32)))
    without = MODEL.model_copy(update={"gradient_penalty": 0.0})
    assert draw_batch(DiscWindows(), rng, CONFIG, without, CPU).mix is None  # type: ignore[arg-type]


class Watched(DiscWindows):
    """Notes with which augmentation windows are drawn."""

    def __init__(self) -> None:
        self.augmentations: list[Augmentation] = []

    def draw(self, rng: np.random.Generator, count: int, augmentation: Augmentation = "none") -> Tensor:
        self.augmentations.append(augmentation)
        return super().draw(rng, count)


def test_the_loop_gives_its_steps_learning_rates_weights_augmentation_and_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, graphs, weights, generators, batches = [], [], [], [], []

    def watched_critic_step(networks: Networks, *args: object, with_graph: bool) -> tuple:
        result = critic_step(networks, *args, with_graph=with_graph)  # type: ignore[arg-type]
        rates.append(networks.critic_optimiser.param_groups[0]["lr"])
        graphs.append(with_graph)
        batches.append(args[0])
        return result

    def watched_generator_step(networks: Networks, *args: object) -> dict[str, Tensor]:
        before = [weight.clone() for weight in networks.generator.parameters()]
        losses = generator_step(networks, *args)  # type: ignore[arg-type]
        rates.append(networks.generator_optimiser.param_groups[0]["lr"])
        weights.append(args[-1])
        generators.append((before, [weight.clone() for weight in networks.generator.parameters()]))
        return losses

    monkeypatch.setattr(training, "critic_step", watched_critic_step)
    monkeypatch.setattr(training, "generator_step", watched_generator_step)
    learning = {"generator_learning_rate": 3e-4, "critic_learning_rate": 7e-4, "critic_steps": 2}
    model = MODEL.model_copy(update=learning)
    physics = PhysicsConfig(weight=3.0, warm_up=2, ramp=4)
    update = {"steps": 8, "decay_fraction": 0.5, "ema_decay": 0.3, "augmentation": "all", "physics": physics}
    windows = Watched()
    config = CONFIG.model_copy(update=update)
    done = train(windows, config, model, tmp_path / "state")  # type: ignore[arg-type]

    factors = [1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4]
    assert rates == pytest.approx([rate * factor for factor in factors for rate in (7e-4, 7e-4, 3e-4)])
    assert graphs == 8 * [False, True]
    assert weights == pytest.approx([0, 0, 0, 0.75, 1.5, 2.25, 3, 3])
    assert windows.augmentations == 16 * ["all"]
    for step in range(8):  # of random numbers that follow from (seed, step)
        rng = np.random.default_rng([config.seed, step])
        for batch in batches[2 * step : 2 * step + 2]:
            expected = draw_batch(DiscWindows(), rng, config, model, CPU)  # type: ignore[arg-type]
            assert all(torch.equal(own, known) for own, known in zip(batch, expected, strict=True))
    averaged = generators[0][0]
    for step, (_, after) in enumerate(generators):
        decay = min(0.3, (1 + step) / (10 + step))
        averaged = [decay * mean + (1 - decay) * own for mean, own in zip(averaged, after, strict=True)]
    for mean, own in zip(averaged, done.last.parameters(), strict=True):
        torch.testing.assert_close(own, mean, rtol=1e-5, atol=1e-8)


def test_what_happens_at_which_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At multiples of each interval, and after the last step."""
    saved: list[int] = []
    monkeypatch.setattr(training, "save_state", lambda path, state: saved.append(state.step))
    logged: list[float] = []
    previewed: list[int] = []
    every = {"log_every": 3, "preview_every": 4, "validation_every": 5, "save_every": 6}
    counts = {"preview_count": 2, "validation_count": 3}
    sizes: list[tuple[int, ...]] = []

    def validate(samples: Tensor) -> dict[str, float]:
        sizes.append(tuple(samples.shape))
        return {"score": 0.0}

    done = train(
        DiscWindows(),  # type: ignore[arg-type]
        CONFIG.model_copy(update={"steps": 7, **every, **counts}),
        MODEL,
        tmp_path / "state",
        on_log=lambda row: logged.append(row["step"]),
        on_preview=lambda step, images: previewed.append(step) or sizes.append(images.shape),
        validate=validate,
    )
    assert (logged, previewed, saved) == ([3, 6, 7], [4, 7], [6, 7])
    assert [row["step"] for row in done.validations] == [5, 7]
    assert sizes == [(2, 64, 64), (3, 1, 64, 64), (2, 64, 64), (3, 1, 64, 64)]
