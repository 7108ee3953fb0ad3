"""Targets of the fuzzer: cards, references, weights, states of trainings, tables and parameters."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz_targets import (
    CSV,
    JSON,
    TEXT,
    Mutation,
    Target,
    any_bytes,
    cut,
    header_bytes,
    header_numbers,
    spliced,
)
from microgan.core.domain import Domain
from microgan.core.files import write_tiff
from microgan.core.json_files import write_json
from microgan.detection.circles import Circles
from microgan.detection.detector import DetectorConfig
from microgan.evaluation.arrays import read_arrays, write_arrays
from microgan.evaluation.memorisation import NearestCorrelation
from microgan.gan.checkpoint import State, load_model, load_state, save_model, save_state
from microgan.gan.networks import Generator, NetworkConfig
from microgan.samples.card import SampleCard, SampleConfig, card_path
from microgan.scan.planes import Planes, ScanInfo, packed
from microgan.validity.judging import Verdict
from microgan.validity.learnt.learnt_rule import LearntFaults, Scale
from microgan.validity.learnt.lessons import KINDS
from microgan.validity.learnt.network import FaultNetwork, FaultNetworkConfig
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.reference import Reference
from stages.samples import read_samples, read_stack, write_verdicts
from stages.stage import load_params, scan_name, selected, window_px

INFO = ScanInfo(
    name="discs",
    source=["scan.tif"],
    source_digest="0" * 64,
    shape=(2, 16, 16),
    dtype="uint16",
    voxel_size_um=0.6,
    polarity="bright",
    radius_px=(4, 8),
    intensity_window=(100, 5000),
    regions={"train": [(0, 0, 16, 0, 16)], "held_out": [(1, 0, 16, 0, 16)]},
    planes_sha256="0" * 64,
    mask_sha256="0" * 64,
)
LIMITS = {"overlap": (None, 0.2), "volume_fraction": (0.3, 0.6)}
SMALL = NetworkConfig(latent_channels=1, base_channels=4)
CIRCLES = [
    Circles.from_table(np.array([[3.0, 4, 5, 0.9], [9, 9, 4, 0.8]])),
    Circles.from_table(np.zeros((0, 4))),
]
MEASURES = [{"overlap": 0.1, "contrast": 1.5}, {"overlap": 0.0, "contrast": 1.0}]
TENSORS: Mapping[str, Mutation] = {
    "bytes": any_bytes,
    "cut": cut,
    "spliced": spliced,
    "header bytes": header_bytes(),
    "header numbers": header_numbers(),
}


def _target(
    name: str,
    seed: Callable[[Path], Path],
    read: Callable[[Path], object],
    mutations: Mapping[str, Mutation],
    *,
    is_sealed: bool = False,
) -> Target:
    """Return a target of one seed; of a sealed file, what is accepted must be what was written."""

    def seeds(folder: Path) -> Sequence[Path]:
        return [seed(folder)]

    return Target(name, seeds, read, mutations, frozenset(mutations if is_sealed else ()))


def _reference(folder: Path) -> Path:
    fields: dict[str, Any] = {
        "scan": INFO,
        "window_px": 64,
        "detector_settings": DetectorConfig(),
        "phase_threshold": 0.0,
        "limits": LIMITS,
        "false_rejection_budget": 0.05,
        "calibration_windows": 100,
        "calibration_pass_rate": 0.95,
    }
    Reference(**fields).save(folder / "reference.json")
    return folder / "reference.json"


def _card(folder: Path) -> Path:
    home = folder / "samples"
    home.mkdir()
    write_tiff(home / "new.tif", np.zeros((2, 8, 8), np.uint8))
    model = {"weights_sha256": "a" * 64, "scan": INFO.model_dump()}
    card = SampleCard.of(home / "new.tif", model, SampleConfig(count=2, seed=0), Domain((8, 8)))
    card.write(card_path(home / "new.tif"))
    return home


def _read_card(home: Path) -> object:
    card = SampleCard.beside(home / "new.tif")
    return None if card is None else card.model_dump()


def _model(folder: Path) -> Path:
    torch.manual_seed(0)
    card = {"model": "dcgan", "window_px": 64, "scan": INFO.model_dump(), "training": {"steps": 3}}
    save_model(folder / "model", Generator(SMALL), card)
    return folder / "model"


def _read_model(folder: Path) -> object:
    generator, card = load_model(folder)
    return card["weights_sha256"], [value.tolist() for value in generator.state_dict().values()]


def _networks(folder: Path) -> Path:
    """Write the networks of `learnt_fault`; fresh ones, as their values do not matter here."""
    small = FaultNetworkConfig(fine=2, middle=2, coarse=2)
    torch.manual_seed(0)
    networks = (FaultNetwork(len(KINDS), small).eval(), FaultNetwork(len(KINDS), small).eval())
    scale = Scale(median=-3.0, upper=-1.0)
    path = folder / "learnt_faults.safetensors"
    LearntFaults(networks, (scale, scale), "bright", small).save(path)
    return path


def _read_networks(path: Path) -> object:
    learnt = LearntFaults.load(path)
    return learnt.scales, [value.tolist() for net in learnt.networks for value in net.state_dict().values()]


def _planes(folder: Path) -> Path:
    home = folder / "planes"
    home.mkdir()
    np.save(home / "planes.npy", np.zeros(INFO.shape, np.float16))
    np.save(home / "mask.npy", packed(np.ones(INFO.shape, bool)))
    write_json(home / "scan.json", INFO.model_dump())
    return home


def _read_planes(home: Path) -> object:
    planes = Planes.load(home)
    return planes.info.model_dump(), planes.grey.tolist(), planes.mask[0].tolist()


def _fresh_state() -> State:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    return State({"generator": layer}, {"adam": torch.optim.Adam(layer.parameters())})


def _state(folder: Path) -> Path:
    state = _fresh_state()
    state.modules["generator"](torch.ones(2, 3)).sum().backward()
    state.optimisers["adam"].step()
    state.step, state.history = 7, [{"step": 7, "loss": 0.25}]
    save_state(folder / "state.safetensors", state)
    return folder / "state.safetensors"


def _read_state(path: Path) -> object:
    state = _fresh_state()
    load_state(path, state)
    weights = [value.tolist() for value in state.modules["generator"].state_dict().values()]
    return state.step, state.seconds, state.history, state.validations, weights


def _arrays(folder: Path) -> Path:
    write_arrays({"grey": np.zeros((2, 3), np.float32), "count": np.arange(3)}, folder / "a.safetensors")
    return folder / "a.safetensors"


def _read_arrays(path: Path) -> object:
    arrays = read_arrays(path)
    return [arrays[name].shape for name in ("grey", "count")]


def _measured(folder: Path) -> Path:
    home = folder / "measured"
    home.mkdir()
    MeasuredWindows(CIRCLES, MEASURES).save(home / "measures.csv", home / "circles.csv")
    return home


def _samples(folder: Path) -> Path:
    home = _measured(folder)
    write_tiff(home / "generated.tif", np.arange(2 * 64, dtype=np.uint16).reshape(2, 8, 8))
    verdicts = [
        Verdict(not index, ("overlap",) * index, measures, circles)
        for index, (measures, circles) in enumerate(zip(MEASURES, CIRCLES, strict=True))
    ]
    write_verdicts(home / "verdicts.csv", verdicts)
    return home


def _read_samples(home: Path) -> object:
    samples = read_samples(home)
    return samples.grey.shape, samples.valid.tolist(), [len(circles) for circles in samples.circles]


def _stack(folder: Path) -> Path:
    write_tiff(folder / "generated.tif", np.arange(2 * 64, dtype=np.uint16).reshape(2, 8, 8))
    return folder / "generated.tif"


def _nearest(folder: Path) -> Path:
    NearestCorrelation(np.array([0.5, 0.25]), np.array([0.4, 0.3])).save(folder / "nearest.csv")
    return folder / "nearest.csv"


def _params(folder: Path) -> Path:
    text = (Path(__file__).parents[1] / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text)
    return folder / "params.yaml"


def _read_params(path: Path) -> object:
    params = load_params(path)
    return scan_name(params), window_px(params), selected(params)


TARGETS = (
    _target("card of samples", _card, _read_card, JSON, is_sealed=True),
    _target("model", _model, _read_model, {**TENSORS, **JSON}, is_sealed=True),
    _target(
        "reference.json", _reference, lambda path: Reference.load(path).model_dump(), JSON, is_sealed=True
    ),
    _target("learnt faults", _networks, _read_networks, TENSORS),
    _target("planes", _planes, _read_planes, {**TENSORS, "values": JSON["values"], "text": JSON["text"]}),
    _target("state of a training", _state, _read_state, TENSORS, is_sealed=True),
    _target("arrays", _arrays, _read_arrays, TENSORS),
    _target("samples of a stage", _samples, _read_samples, {**CSV, "spliced": spliced}),
    _target("generated.tif", _stack, lambda path: read_stack(path).shape, TENSORS),
    _target(
        "measures of windows",
        _measured,
        lambda home: len(MeasuredWindows.load(home / "measures.csv", home / "circles.csv").measures),
        CSV,
    ),
    _target("nearest windows", _nearest, lambda path: len(NearestCorrelation.load(path)), CSV),
    _target("params.yaml", _params, _read_params, TEXT),
)
