"""Samples of the pipeline and the card beside them."""

import json
from pathlib import Path

import pytest

from microgan.commands.export import export as export_command
from microgan.commands.images import ReferenceFile
from microgan.core.errors import UserError
from microgan.core.json_files import write_sealed_json
from microgan.exporters.export import ExportConfig
from microgan.gan.model_card import read_model_card
from microgan.samples.card import SampleCard
from stages import evaluate, export, generate, measure, validate, verdict
from tests.stages.helpers import edit, edit_reference, start

SAMPLES = Path("samples/dcgan/generated.tif")


@pytest.fixture
def generated(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two samples of a model whose scan has another voxel size than the reference."""
    edit(generate__count=2, generate__seed=5)
    card = read_model_card(Path("models/dcgan/model.json"))
    card["scan"]["voxel_size_um"] = 1.7
    write_sealed_json("models/dcgan/model.json", card)
    assert start(generate.main, "dcgan", monkeypatch=monkeypatch) == 0
    return trained


def _exported(out: str) -> dict:
    reference = ReferenceFile(Path("reference/reference.json"))
    config = ExportConfig(formats=("tiff",), include_invalid=True)
    return export_command([SAMPLES], reference, "scan", None, Path(out), config)


def test_the_command_line_exports_samples_of_the_pipeline_by_their_card(generated: Path) -> None:
    exported = _exported("a")
    assert (exported["voxel_size_um"], exported["periodic"]) == (1.7, False)
    (source,) = json.loads(Path("a/export.json").read_text())["provenance"]["source"]
    weights = json.loads(Path("models/dcgan/model.json").read_text())["weights_sha256"]
    assert (source["sampled"]["weights_sha256"], source["sampled"]["seed"]) == (weights, 5)
    card = SampleCard.load(SAMPLES)
    card.model_copy(update={"periodic": True}).write(SAMPLES.with_suffix(".json"))
    assert _exported("b")["periodic"] is True


def test_the_pipeline_exports_with_the_same_card(generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_reference(limits={}, limits_interval={})
    card = SampleCard.load(SAMPLES)
    card.model_copy(update={"periodic": True}).write(SAMPLES.with_suffix(".json"))
    for main in (measure.main, validate.main, evaluate.main, verdict.main, export.main):
        assert start(main, "dcgan", monkeypatch=monkeypatch) == 0
    sidecar = json.loads(Path("exports/dcgan/export.json").read_text())
    assert sidecar["periodic"] is True
    assert sidecar["provenance"]["source"][0]["sampled"]["model"]["scan"]["voxel_size_um"] == 1.7


def test_samples_without_their_card_are_refused(generated: Path) -> None:
    SAMPLES.write_bytes(SAMPLES.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"generated.json: card of another file"):
        SampleCard.load(SAMPLES)
    SAMPLES.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"generated.json: no card: .*sample anew"):
        SampleCard.load(SAMPLES)
