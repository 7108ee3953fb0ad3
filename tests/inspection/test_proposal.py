"""Polarity and radius band are right, or in doubt: never wrong in silence."""

import numpy as np
import pytest
from scipy import ndimage

from microgan.inspection.patches import PlaneImage
from microgan.inspection.proposal import Proposal, other_polarity_is_better, propose
from microgan.scan.images import stretch
from microgan.scan.simulate import SimulateConfig, simulate_scan
from tests.scan.cases import plane


def _proposal(image: np.ndarray, **options: object) -> Proposal:
    return propose([PlaneImage(stretch(image), np.ones(image.shape, bool))], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_a_simulated_scan_of_either_polarity(tmp_path, polarity: str) -> None:
    """The bar: within 1 px of [4, 8] at both ends, as params.yaml has it for this scan."""
    attenuation = {"matrix_attenuation_per_um": 0.002, "disc_attenuation_per_um": 0.001}
    dark = attenuation if polarity == "dark" else {}
    config = SimulateConfig(planes=1, size_px=256, angles=200, seed=3, **dark)  # type: ignore[arg-type]
    simulate_scan(config, tmp_path / "scan")
    import tifffile

    proposal = _proposal(tifffile.imread(tmp_path / "scan/scan.tif").reshape(256, 256)[40:-40, 40:-40])
    assert proposal.polarity == polarity and proposal.doubts == ()
    assert proposal.radius_px == pytest.approx((4, 8), abs=1)


@pytest.mark.parametrize("radius_px", [4, 12])
def test_other_radii(radius_px: float) -> None:
    zoomed = ndimage.zoom(plane(0).astype(np.float32), radius_px / 6, order=1)
    proposal = _proposal(zoomed)
    assert proposal.polarity == "bright" and proposal.radius_px is not None
    assert proposal.usual_radius_px == pytest.approx(radius_px, rel=0.08)
    least, largest = proposal.radius_px  # the discs have radii of 5/6 to 7/6
    assert 0.55 * radius_px < least < 5 / 6 * radius_px and 7 / 6 * radius_px < largest < 1.6 * radius_px


def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (192, 192))


def _stripes() -> np.ndarray:
    return np.sin(np.indices((192, 192))[0] / 4) * 60 + _noise() / 4


def _symmetric_noise() -> np.ndarray:
    return ndimage.gaussian_filter(_noise(), 4)


@pytest.mark.parametrize(
    ("image", "doubt"),
    [
        (_noise, "no discs were found"),
        (_stripes, "edges lie along one or two directions"),
        (_symmetric_noise, "no discs were found"),
    ],
)
def test_an_image_without_discs_is_in_doubt(image, doubt: str) -> None:
    proposal = _proposal(image())
    assert proposal.radius_px is None
    assert any(doubt in line or "polarity is in doubt" in line for line in proposal.doubts)


def test_a_polarity_that_is_given_and_wrong_is_told() -> None:
    proposal = _proposal(plane(0).astype(np.float32), polarity="dark")
    assert proposal.radius_px is None
    assert "dark as given, but bright circles explain the image better" in " ".join(proposal.doubts)


def test_the_better_polarity_of_a_band() -> None:
    grey = stretch(plane(0))
    assert other_polarity_is_better(grey, (4, 8), "dark")
    assert not other_polarity_is_better(grey, (4, 8), "bright")
