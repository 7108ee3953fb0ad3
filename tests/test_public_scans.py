"""Detector and filter on public scans: stored expectations on named crops of 256 x 256 px.

The scans are insegt_carbon and insegt_glass of params.yaml (data/raw/README.md); none of them is committed.
Nobody knows the truth here. The numbers are what the code gave when they were stored. A change that moves one
of them must be meant, and looked at on the scans before the number is stored anew.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.agreement import agreement
from microgan.detection.detect import detect
from microgan.detection.detector import Detector, DetectorConfig
from microgan.inspection.patches import PlaneImage
from microgan.inspection.proposal import propose
from microgan.scan.config import ScanConfig, SplitConfig
from microgan.scan.images import stretch
from microgan.scan.ingest import ingest
from microgan.scan.planes import Planes
from microgan.scan.readers import open_image
from microgan.validity.calibration import CalibrationConfig, calibrate
from microgan.validity.judging import Verdict, judge, pass_rate
from microgan.validity.large_images import cut_windows
from microgan.validity.planted_defects import plant
from microgan.validity.reference import Reference

SCANS = Path(os.environ.get("MICROGAN_SCANS", Path(__file__).parents[2] / "shared/scans/insegt"))
CROP_PX, WINDOW_PX, STRIDE_PX = 256, 64, 32
OVERLAPS = (0.2, 0.4)  # degrees of the planted ones, 1 - d / (r1 + r2)


@dataclass(frozen=True)
class Material:
    """Two planes of one material: the first is learnt from, the second held out."""

    planes: tuple[str, str]
    radius_px: tuple[float, float]


@dataclass(frozen=True)
class Crop:
    """A square of a plane by the row and column of its corner, and what is expected of it."""

    material: str
    plane: int
    row: int
    col: int
    discs: int
    agreement: float  # F1 score of the ring detector with the watershed
    pass_rate: float  # of its windows


MATERIALS = {
    "carbon": Material(("carbon0103", "carbon0918"), (4, 8)),
    "glass": Material(("glass0064", "glass0864"), (3, 6)),
}
CROPS = [
    Crop("carbon", plane=0, row=500, col=400, discs=446, agreement=0.966, pass_rate=0.86),
    Crop("carbon", plane=1, row=300, col=350, discs=470, agreement=0.956, pass_rate=0.95),
    Crop("glass", plane=0, row=620, col=560, discs=801, agreement=0.956, pass_rate=0.94),
    Crop("glass", plane=1, row=300, col=300, discs=820, agreement=0.971, pass_rate=0.94),
]
OVERLAPS_REJECTED = {"carbon": 0.27, "glass": 0.05}  # by circles alone, of windows with one planted overlap

pytestmark = pytest.mark.skipif(
    not all((SCANS / f"{name}.png").exists() for m in MATERIALS.values() for name in m.planes),
    reason=f"the public scans are not in {SCANS}; MICROGAN_SCANS names their folder",
)


@dataclass(frozen=True)
class Judged:
    """The grey values of a crop (1, 1, 256, 256), its windows, half a window apart, and their verdicts."""

    grey: Tensor
    windows: Tensor
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Calibrated:
    """A reference that was calibrated on the first plane of a material, and what it says of the crops."""

    reference: Reference
    crops: dict[Crop, Judged]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Calibrated]:
    return {name: _calibrate(name, tmp_path_factory.mktemp(name)) for name in MATERIALS}


def _calibrate(name: str, folder: Path) -> Calibrated:
    material = MATERIALS[name]
    (folder / "raw").mkdir()
    for plane in material.planes:
        shutil.copy(SCANS / f"{plane}.png", folder / "raw")
    split = SplitConfig(calibration=0.25, held_out=[1])
    config = ScanConfig(polarity="bright", radius_px=material.radius_px, split=split)
    planes = ingest(name, folder / "raw", config, WINDOW_PX, folder / "planes")
    reference = calibrate(planes, WINDOW_PX, CalibrationConfig(windows=600, bootstrap=0))
    return Calibrated(reference, {crop: _judge(crop, planes, reference) for crop in crops_of(name)})


def _judge(crop: Crop, planes: Planes, reference: Reference) -> Judged:
    box = (crop.plane, slice(crop.row, crop.row + CROP_PX), slice(crop.col, crop.col + CROP_PX))
    assert planes.mask[box].all(), "a crop lies in the field of view"
    grey = torch.from_numpy(planes.grey[box].astype(np.float32))[None, None]
    starts = np.arange(0, CROP_PX - WINDOW_PX + 1, STRIDE_PX)
    corners = np.stack(np.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(-1, 2)
    windows = cut_windows(grey, corners, WINDOW_PX)
    return Judged(grey, windows, judge(windows, reference, progress=False))


def crops_of(name: str) -> list[Crop]:
    return [crop for crop in CROPS if crop.material == name]


@pytest.mark.parametrize("crop", CROPS, ids=lambda crop: MATERIALS[crop.material].planes[crop.plane])
def test_a_crop_has_its_discs_and_passes_as_often(crop: Crop, calibrated: dict[str, Calibrated]) -> None:
    judged = calibrated[crop.material].crops[crop]
    band = MATERIALS[crop.material].radius_px
    ring, watershed = (
        detect(judged.grey, Detector(band, "bright", DetectorConfig(backend=backend)))[0]
        for backend in ("ring", "watershed")
    )
    both, only_ring, only_watershed = agreement(ring, watershed, CROP_PX)
    f1 = 2 * both / (2 * both + only_ring + only_watershed)
    assert len(ring) == pytest.approx(crop.discs, rel=0.01)
    assert f1 == pytest.approx(crop.agreement, abs=0.01)
    assert pass_rate(judged.verdicts) == pytest.approx(crop.pass_rate, abs=0.05)


@pytest.mark.parametrize("name", MATERIALS)
def test_planted_overlaps_are_rejected_as_often(name: str, calibrated: dict[str, Calibrated]) -> None:
    images = [
        plant("overlap", window[0].numpy(), verdict.circles, np.random.default_rng(index), degree=OVERLAPS)
        for judged in calibrated[name].crops.values()
        for index, (window, verdict) in enumerate(zip(judged.windows, judged.verdicts, strict=True))
        if verdict.valid
    ]
    planted = torch.from_numpy(np.stack([image for image in images if image is not None]))[:, None]
    assert len(planted) > 60
    rejected = 1 - pass_rate(judge(planted, calibrated[name].reference, progress=False))
    assert rejected == pytest.approx(OVERLAPS_REJECTED[name], abs=0.05)


@pytest.mark.parametrize("material", MATERIALS)
def test_the_band_is_proposed_within_a_pixel(material: str) -> None:
    name = MATERIALS[material].planes[0]
    with open_image(SCANS / f"{name}.png") as scan:
        plane = scan.plane(0)[300:700, 300:700]
    proposal = propose([PlaneImage(stretch(plane), np.ones(plane.shape, bool))])
    assert proposal.polarity == "bright" and proposal.doubts == ()
    assert proposal.radius_px == pytest.approx(MATERIALS[material].radius_px, abs=1)
