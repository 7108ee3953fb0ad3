"""How long each stage took is told at the end of `make repro`, and kept by nothing else."""

from pathlib import Path

import pytest

from stages import durations


def test_stages_add_themselves_between_begin_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    durations.begin()  # without DVC
    durations.add("ingest")
    durations.main()
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out
    Path(".dvc/tmp").mkdir(parents=True)
    durations.add("ingest")  # by `dvc repro` alone
    assert not durations.FILE.exists()
    durations.begin()
    durations.add("ingest")
    durations.add("train@dcgan")
    durations.main()
    line = capsys.readouterr().out
    assert line.startswith("microgan: 0.0 minutes: ") and "train@dcgan" in line and "ingest" in line
    assert not durations.FILE.exists()


def test_a_damaged_list_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc/tmp").mkdir(parents=True)
    durations.begin()
    with durations.FILE.open("a") as file:
        file.write("train@dcg")
    durations.main()
    assert not capsys.readouterr().out
