"""The physical loss on drawn discs, whose defects are known."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from microgan.detection.detector import Polarity
from microgan.gan import physical_loss as physics
from microgan.gan.physical_loss import TERMS, Material, PhysicalLoss, PhysicsConfig, physical_loss
from tests.helpers import drawn

BAND = (4.0, 8.0)
PLACES = [(row, col) for row in (9.0, 24.0, 39.0, 54.0) for col in (9.0, 24.0, 39.0, 54.0)]


def packing(seed: int, *extra: tuple[float, float, float], without: int = 0) -> Tensor:
    """Draw sixteen discs apart from each other, but for the first few, and others."""
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(-1, 1, (16, 2)).tolist()
    discs = [
        (row + down, col + right, rng.uniform(5, 6.5))
        for (row, col), (down, right) in zip(PLACES, shifts, strict=True)
    ]
    return drawn(*discs[without:], *extra)


@cache
def material(polarity: Polarity = "bright") -> Material:
    windows = torch.cat([packing(seed, without=seed % 3) for seed in range(12)])
    return Material.of(windows if polarity == "bright" else -windows, BAND, polarity, 0.0)


def score(images: Tensor) -> PhysicalLoss:
    with torch.no_grad():
        return physical_loss(images, material())


def values(loss: PhysicalLoss) -> list[Tensor]:
    return [loss.total, *loss.terms.values()]


def blurred(image: Tensor, sd_px: float) -> Tensor:
    axis = torch.arange(-12.0, 13)
    weights = torch.exp(-0.5 * (axis / sd_px) ** 2)
    weights = (weights / weights.sum()).outer(weights / weights.sum())
    padded = torch.nn.functional.pad(image, (12,) * 4, mode="replicate")
    return torch.nn.functional.conv2d(padded, weights[None, None])


def hull() -> Tensor:
    return drawn(*[(32.0, 26 + 12 * k / 32, 6.0) for k in range(33)])


def test_discs_apart_cost_next_to_nothing() -> None:
    loss = score(packing(99))
    for name in ("overlap", "double_coverage"):
        assert float(loss.terms[name]) < 1e-6
    assert float(loss.terms["uncovered_phase"]) < 2e-3
    assert float(loss.terms["empty_circle"]) < 2e-3
    assert float(loss.total) < 4


def test_overlap_grows_with_its_degree() -> None:
    apart = [12.5, 11.0, 10.0, 9.0, 8.0]  # of two discs of radius 6: overlaps of 0, 8, 17, 25, 33 %
    pairs = torch.cat([drawn((32, 32 - d / 2, 6), (32, 32 + d / 2, 6)) for d in apart])
    loss = score(pairs)
    assert (loss.terms["overlap"].diff() > 0).all() or float(loss.terms["overlap"][0]) == 0
    assert (loss.terms["overlap"][1:].diff() > 0).all()
    # To where circles are found: squared, over discs of this radius that fill the image.
    tolerated = material().tolerated["overlap"][1]
    expected = (1 - torch.tensor(apart[2:]) / 12 - tolerated).square() * torch.pi * 36 / 64**2
    torch.testing.assert_close(loss.terms["overlap"][2:], expected, rtol=0.35, atol=0)
    assert (loss.terms["double_coverage"][1:].diff() > 0).all()


def test_what_real_windows_show_is_tolerated() -> None:
    touching = torch.cat([drawn((32, 26.5, 6), (32, 37.5, 6), (12, 12, 6)) for _ in range(4)])  # by 8 %
    lenient = Material.of(touching, BAND, "bright", 0.0)
    assert lenient.tolerated["overlap"][1] > material().tolerated["overlap"][1] + 0.03
    assert (
        float(physical_loss(touching, lenient).terms["overlap"].max())
        < float(score(touching).terms["overlap"].min()) / 3
    )
    noisy = torch.cat([packing(seed) for seed in range(12)])
    noisy = noisy + 0.3 * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0))
    assert (
        Material.of(noisy, BAND, "bright", 0.0).tolerated["uncovered_phase"][1]
        > material().tolerated["uncovered_phase"][1]
    )


def test_a_merged_pair_costs_more_than_two_discs() -> None:
    loss = score(torch.cat([hull(), drawn((32, 25.5, 6), (32, 38.5, 6))]))
    misfit = loss.terms["uncovered_phase"] + loss.terms["empty_circle"] + loss.terms["double_coverage"]
    assert float(misfit[0]) > 3 * float(misfit[1])
    assert float(loss.total[0]) > float(loss.total[1])


def ellipse(by: float, radius_px: float = 6.0, turned: float = 0.0) -> Tensor:
    """Draw one disc whose half-axes, by row and by col, are longer and shorter than its radius by ``by``."""
    axis = torch.arange(64.0) - 32
    cos, sin = math.cos(turned), math.sin(turned)
    row = (cos * axis[:, None] - sin * axis) / (1 + by)
    col = (sin * axis[:, None] + cos * axis) / (1 - by)
    return 1.2 * (radius_px - (row.square() + col.square()).sqrt() + 0.5).clamp(0, 1)[None, None] - 0.6


def test_non_circularity_is_what_an_ellipse_is_off_its_circle() -> None:
    flat = [0.0, 0.1, 0.15, 0.2, 0.25]
    loss = score(torch.cat([ellipse(by) for by in flat]))
    assert float(loss.terms["non_circularity"][0]) < 1e-6
    measured = (
        material().tolerated["non_circularity"][1]
        + (loss.terms["non_circularity"][1:] * 64**2 / (torch.pi * 36)).sqrt()
    )
    torch.testing.assert_close(measured, torch.tensor(flat[1:]), rtol=0.3, atol=0)
    torch.testing.assert_close(
        score(ellipse(-0.2)).terms["non_circularity"],
        loss.terms["non_circularity"][3:4],
        rtol=1e-3,
        atol=1e-7,
    )
    for turned in (math.pi / 8, math.pi / 4):
        torch.testing.assert_close(
            score(ellipse(0.2, turned=turned)).terms["non_circularity"],
            loss.terms["non_circularity"][3:4],
            rtol=0.15,
            atol=0,
        )


def test_descent_rounds_a_long_disc() -> None:
    image = blurred(ellipse(0.2), 0.7).requires_grad_(True)
    before = float(score(image).terms["non_circularity"])
    (gradient,) = torch.autograd.grad(physical_loss(image, material()).terms["non_circularity"].sum(), image)
    moved = image.detach() - 0.05 * gradient / gradient.abs().max()
    assert float(score(moved).terms["non_circularity"]) < 0.9 * before
    # It takes away at the ends, along the rows, and adds at the sides.
    assert float(gradient[0, 0, 39, 32]) > 0
    assert float(gradient[0, 0, 32, 37]) < 0


@pytest.mark.parametrize("defect", ["matrix", "disc", "grey", "noise", "blurred", "soft"])
def test_what_is_no_packing_of_discs_is_worse(defect: str) -> None:
    good = packing(98)
    shuffled = torch.randperm(4096, generator=torch.Generator().manual_seed(0))
    bad = {
        "matrix": torch.full_like(good, -0.6),
        "disc": torch.full_like(good, 0.6),
        "grey": torch.zeros_like(good),
        "noise": good.flatten()[shuffled].view_as(good),
        "blurred": blurred(good, 3.0),
        "soft": blurred(good, 1.8),
    }[defect]
    loss = score(torch.cat([good, bad]))
    assert float(loss.total[1]) > float(loss.total[0]) + 1


@pytest.mark.parametrize("grey", [-1.0, -0.6, 0.0, 1.0])
def test_gradients_of_blank_images_are_finite(grey: float) -> None:
    image = torch.full((2, 1, 64, 64), grey, requires_grad=True)
    physical_loss(image, material()).total.sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def pair_and_votes() -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Draw two discs close together; also circles near them, and confidences, all in float64."""
    pair = drawn((16, 12, 5.2), (16.3, 20.2, 5.6), side=36)
    circles = torch.tensor([[[16, 12.2, 5.4], [16.2, 20.0, 5.5]]]).double()
    return blurred(pair, 0.7).double(), (circles, torch.tensor([[0.999, 0.99]]).double())


def test_the_derivative_is_that_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image, votes = pair_and_votes()
    image = image + torch.from_numpy(0.02 * rng.normal(size=(1, 1, 36, 36)))
    direction = torch.from_numpy(rng.normal(size=(3, 1, 36, 36)))
    # The votes have no gradient, by intent: they stay what they are.
    monkeypatch.setattr(physics, "voted_circles", lambda *_: votes)

    def total(image: Tensor) -> Tensor:
        loss = physical_loss(image, material())
        # Nor have confidences in overlap and non_circularity.
        constant_confidence = {"overlap", "non_circularity"}
        return sum(term.sum() for name, term in loss.terms.items() if name not in constant_confidence)

    image.requires_grad_(True)
    (gradient,) = torch.autograd.grad(total(image), image)
    step = 1e-6
    with torch.no_grad():
        for along in direction:
            slope = (total(image + step * along) - total(image - step * along)) / (2 * step)
            assert abs(float(slope)) > 1e-5
            torch.testing.assert_close((gradient * along).sum(), slope, rtol=1e-4, atol=1e-9)


def test_the_fit_has_the_derivative_of_finite_differences() -> None:
    image, votes = pair_and_votes()
    phase = torch.sigmoid(8 * image[:, 0]).requires_grad_(True)

    def fit(phase: Tensor) -> tuple[Tensor, ...]:
        return physics.fit(*votes, physics.Cells(phase, 1), BAND)

    assert torch.autograd.gradcheck(fit, (phase,), fast_mode=True)


def test_the_derivative_of_overlap_parts_the_discs() -> None:
    image = drawn((32, 27.5, 6), (32, 36.5, 6)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(physical_loss(image, material()).terms["overlap"].sum(), image)
    apart = drawn((32, 27.3, 6), (32, 36.7, 6)) - drawn((32, 27.5, 6), (32, 36.5, 6))
    assert float((gradient * apart).sum()) < 0


def test_flips_and_turns_change_nothing() -> None:
    image = packing(97, (31.5, 31.5, 6.0))
    turned = torch.cat([image, image.flip(2), image.flip(3), image.transpose(2, 3)])
    loss = score(turned)
    for value in values(loss):
        torch.testing.assert_close(value, value[:1].expand(4), rtol=1e-3, atol=1e-6)


def test_dark_discs_are_bright_ones_of_the_negated_image() -> None:
    image = packing(96, (31.5, 31.5, 6.0))
    dark = physical_loss(-image, material("dark"))
    for of_dark, of_bright in zip(values(dark), values(score(image)), strict=True):
        torch.testing.assert_close(of_dark, of_bright, rtol=1e-4, atol=1e-7)


def test_an_image_does_not_depend_on_the_rest_of_the_batch() -> None:
    batch = torch.cat([packing(95), hull(), torch.zeros(1, 1, 64, 64), packing(94, (31.5, 31.5, 6.0))])
    for index, alone in enumerate(batch.split(1)):
        for by_itself, in_batch in zip(values(score(alone)), values(score(batch)), strict=True):
            torch.testing.assert_close(by_itself[0], in_batch[index], rtol=1e-4, atol=1e-7)


def test_autocast_changes_nothing() -> None:
    image = packing(93, (31.5, 31.5, 6.0))
    with torch.autocast("cpu", torch.bfloat16):
        lowered = score(image)
    assert lowered.total.dtype == torch.float32
    torch.testing.assert_close(lowered.total, score(image).total)


def test_descent_parts_a_merged_pair() -> None:
    """Descend on the pixels: the waist of the hull goes, both discs stay."""
    image = blurred(hull(), 0.8).requires_grad_(True)
    optimiser = torch.optim.Adam([image], lr=0.03)
    for _ in range(40):
        optimiser.zero_grad()
        loss = physical_loss(image, material())
        (
            loss.terms["uncovered_phase"] + loss.terms["empty_circle"] + loss.terms["double_coverage"]
        ).sum().backward()
        optimiser.step()
    after = image.detach()[0, 0]
    assert after[28:37, 25].mean() > 0.3
    assert after[28:37, 39].mean() > 0.3
    assert after[27, 32] < 0
    assert after[37, 32] < 0


def test_each_term_has_its_weight_in_the_parameters_and_its_place_in_the_total() -> None:
    """The table of terms and the explicit fields of the parameters agree, in order too."""
    rest = ("weight", "images", "warm_up", "ramp")
    assert [name for name in PhysicsConfig.model_fields if name not in rest] == list(TERMS)
    image = packing(98, (31.5, 31.5, 6.0)) + 0.3
    expected, zero = score(image), dict.fromkeys(TERMS, 0.0)
    assert set(material().tolerated) == set(material().scale) == set(expected.terms) == set(TERMS)
    for name, term in expected.terms.items():
        assert float(term) > 0, name
        alone = physical_loss(image, material(), PhysicsConfig.model_validate({**zero, name: 2.0})).total
        torch.testing.assert_close(alone, 2 * torch.log1p(term / material().scale[name]))
    usual = sum(
        getattr(PhysicsConfig(), name) * torch.log1p(expected.terms[name] / material().scale[name])
        for name in TERMS
    )
    torch.testing.assert_close(expected.total, usual)


def test_tolerances_are_the_quantiles_of_real_windows_that_they_are_said_to_be() -> None:
    touching = [drawn((32, 26.5 - k / 10, 6), (32, 37.5, 6), (12, 12, 5 + k / 8)) for k in range(12)]
    windows = torch.cat(touching)
    noise = torch.randn(windows.shape, generator=torch.Generator().manual_seed(0))
    windows = windows + torch.linspace(0, 0.4, 12)[:, None, None, None] * noise
    known = Material.of(windows, BAND, "bright", 0.1)
    with torch.no_grad():
        fitted = physics.FittedCircles.of(windows, known)
    confident, misfit = fitted.confidence > 0.5, fitted.misfit.numpy()
    largest = []
    for circles in (table[sure] for table, sure in zip(fitted.circles, confident, strict=True)):
        distance_px = torch.pdist(circles[:, :2])
        i, j = torch.triu_indices(len(circles), len(circles), 1)
        largest.append(float((1 - distance_px / (circles[i, 2] + circles[j, 2])).max()))
    lower_median = sorted(max(overlap, 0) for overlap in largest)[5]
    fraction, grey = fitted.phase.mean(1).numpy(), (4 * fitted.phase * (1 - fitted.phase)).mean(1).numpy()
    expected = {
        "overlap": (-math.inf, lower_median),
        "non_circularity": (0, np.quantile(fitted.non_circularity[confident].numpy(), 0.95)),
        "uncovered_phase": (0, np.quantile(misfit.clip(min=0), 0.95)),
        "empty_circle": (0, np.quantile(-misfit.clip(max=0), 0.95)),
        "double_coverage": (0, 1),
        "volume_fraction": tuple(np.quantile(fraction, (0.05, 0.95))),
        "intermediate_grey": (0, np.median(grey)),
    }
    assert min(expected[name][1] for name in TERMS) > 0
    for name, interval in expected.items():
        assert known.tolerated[name] == pytest.approx(interval, rel=1e-4, abs=1e-7), name
    half_width = np.diff(expected["volume_fraction"])[0] / 2
    assert known.scale["volume_fraction"] == pytest.approx(half_width**2, rel=1e-3)
    upper_width = np.quantile(grey, 0.95) - np.median(grey)
    assert upper_width**2 > 10 * physics.LEAST_SCALE
    assert known.scale["intermediate_grey"] == pytest.approx(upper_width**2, rel=1e-3)


def test_dark_discs_have_the_tolerances_of_bright_ones_of_the_negated_windows() -> None:
    windows = torch.cat([packing(seed, without=seed % 3) for seed in range(4)])
    bright, dark = Material.of(windows, BAND, "bright", 0.3), Material.of(-windows, BAND, "dark", -0.3)
    assert dark.contrast == pytest.approx(bright.contrast)
    for name in TERMS:
        assert dark.tolerated[name] == pytest.approx(bright.tolerated[name], rel=1e-4, abs=1e-6), name


def test_softening_is_by_1_2_1_and_keeps_the_place() -> None:
    impulse = torch.zeros(1, 5, 6)
    impulse[0, 2, 1] = 16
    softened = physics._softened(impulse)[0]
    assert softened[1:4, 0:3].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    assert float(softened.sum()) == 16


def test_real_windows_cost_about_one_a_term() -> None:
    """The scale of a term of circles is its mean over the windows that it was measured on."""
    windows = torch.cat([packing(seed, without=seed % 3) for seed in range(12)])
    for name in ("uncovered_phase", "empty_circle", "double_coverage"):
        mean = max(float(score(windows).terms[name].mean()), physics.LEAST_SCALE)
        assert material().scale[name] == pytest.approx(mean, rel=1e-4)
    fraction = score(windows).terms["volume_fraction"]
    assert (fraction == 0).sum() == 10  # all but those beyond the 5 % and 95 % quantiles of twelve


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="images: shape"):
        physical_loss(torch.zeros(2, 3, 8, 8), material())
    with pytest.raises(ValueError, match="phase_threshold"):
        Material.of(packing(0), BAND, "bright", 2.0)
    with pytest.raises(ValueError, match="radius_px"):
        Material.of(packing(0), (8.0, 4.0), "bright", 0.0)
