"""The Python example of README runs, with one import of microgan."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from microgan import Domain, Reference, judge, load_model, sample
from tests.commands.helpers import ROOT


def test_the_quickstart_of_the_readme_runs(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert re.findall(r"^(?:from|import) .*", code, re.MULTILINE) == [code.splitlines()[0]]
    (tmp_path / "reference").mkdir()
    (tmp_path / "models").mkdir()
    reference = Reference.load(material / "reference.json")
    generator, _ = load_model(material / "model")
    verdicts = judge(sample(generator, 4, Domain((64, 64)), seed=1), reference)
    half = {"volume_fraction": (None, float(np.median([v.measures["volume_fraction"] for v in verdicts])))}
    reference.model_copy(update={"limits": half, "limits_interval": {}}).save(
        tmp_path / "reference/reference.json"
    )
    (tmp_path / "models/dcgan").symlink_to(material / "model")
    monkeypatch.chdir(tmp_path)
    assert "sample(generator, 100," in code
    exec(compile(code.replace("sample(generator, 100,", "sample(generator, 4,"), "README.md", "exec"), {})
    exported = json.loads(Path("exported/export.json").read_text())
    assert (exported["judged"], exported["judged_valid"], exported["structures"]) == (4, 2, 2)
    assert all(verdict["valid"] for verdict in exported["verdicts"])
    assert len(list(Path("exported/vti").iterdir())) == 2
