"""`microgan simulate`."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.commands.helpers import run_command


def test_simulate_is_fixed_by_its_seed_and_spares_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("simulate", "--size-px", 64, "--volume-fraction", 0.3, "--voxel-size-um", 0.5)
    for name, seed, more in (("a", 1, ()), ("b", 1, ()), ("c", 1, ("--polarity", "dark")), ("b", 2, ())):
        assert run_command(monkeypatch, *words, "--seed", seed, *more, "--out", tmp_path / name) == 0
        if name == "b" and seed == 1:
            assert (tmp_path / "a/circles.csv").read_text() == (tmp_path / "b/circles.csv").read_text()
    assert (tmp_path / "a/circles.csv").read_text() != (tmp_path / "b/circles.csv").read_text()
    bright, dark = (tifffile.imread(tmp_path / name / "scan.tif").astype(float) for name in ("a", "c"))
    inside = np.s_[..., 16:48, 16:48]  # of the specimen; around it both are black
    assert np.corrcoef(bright[inside].ravel(), dark[inside].ravel())[0, 1] < -0.5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    assert run_command(monkeypatch, *words, "--out", tmp_path / "mine") == 2
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"
