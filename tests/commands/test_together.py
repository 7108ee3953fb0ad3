"""Files of one command are replaced together; a target that cannot be written is told before the work."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microgan.core.atomic import atomic_together, files_into
from microgan.core.errors import UserError
from microgan.core.files import write_tiff
from tests.commands.helpers import run_command


@pytest.fixture
def folder(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("model", "windows.tif", "reference.json"):
        Path(name).symlink_to(material / name)
    for name in ("o.csv", "o.tif", "o.json", "o.png"):
        Path(name).write_text('{"kind": "microgan-samples-1"}' if name == "o.json" else "old")
    return tmp_path


def full_disk_at(call: int, write: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def full(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*args, **options)

    return full


VALIDATE = ("validate", "windows.tif", "--reference", "reference.json", "--out", "o.csv", "--overlay", "new")
SAMPLE = ("sample", "model", "--count", 1, "--out", "o.tif")


@pytest.mark.parametrize(
    ("words", "fails", "call"),
    [
        ((*VALIDATE, "--keep", "o.tif"), "microgan.commands.validate.write_tiff_in_bands", 1),
        ((*VALIDATE, "--keep", "o.tif"), "microgan.commands.validate.circle_overlay", 2),
        (
            ("detect", "windows.tif", "--radius", 4, 8, "--out", "o.csv", "--overlay", "new"),
            "microgan.commands.detect.circle_overlay",
            2,
        ),
        (SAMPLE, "microgan.samples.card.write_sealed_json", 1),
    ],
)
def test_where_one_file_cannot_be_written_none_is_replaced(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
    fails: str,
    call: int,
) -> None:
    module, name = fails.rsplit(".", 1)
    before = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(fails, full_disk_at(call, getattr(__import__(module, fromlist=[name]), name)))
    assert run_command(monkeypatch, *words) == 2
    assert "No space left" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == before
    assert Path("o.csv").read_text() == Path("o.tif").read_text() == "old"


def test_an_old_card_does_not_stay_beside_new_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("o.tif").unlink()
    Path("o.json").unlink()
    assert run_command(monkeypatch, *SAMPLE) == 0
    assert run_command(monkeypatch, *VALIDATE, "--keep", "o.tif") == 0
    assert not Path("o.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        VALIDATE,
        ("detect", "windows.tif", "--radius", 4, 8, "--out", "o.csv"),
        SAMPLE,
        ("windows", "windows.tif", "--out", "o.tif"),
        ("export", "windows.tif", "--format", "vti", "--out", "o"),
        ("simulate", "--out", "o"),
        ("calibrate", "windows.tif", "--radius", 4, 8, "--out", "o"),
        ("inspect", "windows.tif", "--picture", "o.png"),
    ],
)
def test_a_link_is_not_replaced(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
) -> None:
    place = next(Path(str(word)) for word in words if str(word).startswith("o"))
    if place.exists():
        place.unlink()
    for is_there in (False, True):
        if is_there:
            Path("big").mkdir() if place.suffix == "" else Path("big").touch()
        else:
            place.symlink_to("big")
        assert run_command(monkeypatch, *words) == 2
        assert f"{place}: is a link, which would be replaced: name big itself" in capsys.readouterr().err
        assert place.is_symlink()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--out", "folder.csv"), "--out: folder.csv: is a folder: must be the name of a file"),
        (("--out", "o.tif/x.csv"), "must be in a folder, and o.tif is none"),
        (("--out", f"{'x' * 250}.csv"), "File name too long"),
        (("--out", "x.csv", "--overlay", "o.tif/new"), "--overlay: o.tif/new: must be in a folder"),
        (("--out", "x.csv", "--overlay", "o.tif"), "is a file: must be the name of a folder"),
    ],
)
def test_a_target_that_cannot_be_is_told_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: Any, line: str
) -> None:
    def work(*_: Any) -> None:
        raise AssertionError("worked")

    Path("folder.csv").mkdir()
    monkeypatch.setattr("microgan.commands.detect.detect", work)
    assert run_command(monkeypatch, "detect", "windows.tif", "--radius", 4, 8, *words) == 2
    assert line in capsys.readouterr().err


def test_files_come_into_a_folder_together(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/other").write_text("stays")
    (tmp_path / "o").symlink_to("real")
    with pytest.raises(OSError, match="No space"), files_into(tmp_path / "o") as draft:
        (draft / "a").write_text("new")
        raise OSError(errno.ENOSPC, "No space")
    with files_into(tmp_path / "o") as draft:
        (draft / "a").write_text("new")
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["a", "other"]
    assert (tmp_path / "o").is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_an_error_names_the_place_and_not_the_draft(tmp_path: Path) -> None:
    place = tmp_path / "a.tif"
    with pytest.raises(UserError, match=f"^{place}: 1: rule"), atomic_together([place]) as (draft,):
        raise UserError(draft, 1, "rule")
    with atomic_together([place, tmp_path / "b"], may_lack=True) as (draft, _):
        write_tiff(draft, np.zeros((1, 4, 4), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
