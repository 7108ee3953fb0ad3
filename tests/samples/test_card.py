"""The card beside a file of samples: whole, or told; a file of another kind is none."""

from pathlib import Path

import numpy as np
import pytest

from microgan.core.domain import Domain
from microgan.core.errors import UserError
from microgan.core.files import write_tiff
from microgan.core.json_files import read_json, write_json
from microgan.samples.card import SampleCard, SampleConfig, card_path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A file of samples with its card."""
    file = tmp_path / "new.tif"
    write_tiff(file, np.zeros((2, 8, 8), np.uint8))
    model = {"weights_sha256": "a" * 64, "scan": {"voxel_size_um": 0.6}}
    SampleCard.of(file, model, SampleConfig(count=2), Domain((8, 8), True)).write(card_path(file))
    return file


def test_a_card_comes_back(samples: Path) -> None:
    card = SampleCard.load(samples)
    assert (card.count, card.periodic, card.voxel_size_um) == (2, True, 0.6)


def test_every_cut_of_a_card_is_told(samples: Path) -> None:
    whole = card_path(samples).read_bytes()
    for length in range(0, len(whole) - 2, 3):  # without the last bracket
        card_path(samples).write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"new\.json: unreadable: must hold a JSON object"):
            SampleCard.beside(samples)


def test_every_flipped_bit_of_a_card_is_told_or_means_nothing(samples: Path) -> None:
    expected, whole = SampleCard.load(samples), card_path(samples).read_bytes()
    for place in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 7
        card_path(samples).write_bytes(damaged)
        try:
            assert SampleCard.beside(samples) == expected
        except UserError as error:
            assert "new.json" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "", "7"])
def test_a_file_that_is_no_json_object_is_told(samples: Path, content: str) -> None:
    card_path(samples).write_text(content)
    with pytest.raises(UserError, match=r"new\.json"):
        SampleCard.beside(samples)


def test_json_of_another_kind_is_no_card(samples: Path) -> None:
    write_json(card_path(samples), {"shapes": [], "version": "5.1"})  # annotations, say
    assert SampleCard.beside(samples) is None
    card_path(samples).unlink()
    assert SampleCard.beside(samples) is None


def test_a_card_that_was_changed_is_told_with_what_to_do(samples: Path) -> None:
    write_json(card_path(samples), {**read_json(card_path(samples)), "voxel_size_um": 0.7})
    with pytest.raises(
        UserError, match=r"changed since it was written: .*: delete it or sample new\.tif anew"
    ):
        SampleCard.beside(samples)


def test_a_card_that_belongs_to_other_bytes_is_told(samples: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = samples.with_name("other.tif")
    other.write_bytes(samples.read_bytes() + b" ")
    card_path(other).write_bytes(card_path(samples).read_bytes())
    assert SampleCard.beside(other) is None
    (record,) = caplog.records
    assert (
        "other.json: is the card of another file, new.tif (by its SHA-256), and is not used"
        in record.getMessage()
    )
    caplog.clear()
    samples.with_suffix(".png").write_bytes(b"of no sample, beside one")
    assert SampleCard.beside(samples.with_suffix(".png")) is None and not caplog.records
