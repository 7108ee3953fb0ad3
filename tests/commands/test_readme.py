"""The Python example of README runs, with one import of microgan."""

import json
import re
from pathlib import Path

import pytest

from tests.commands.helpers import ROOT


def test_the_quickstart_of_the_readme_runs(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert re.findall(r"^(?:from|import) .*", code, re.MULTILINE) == [code.splitlines()[0]]
    (tmp_path / "reference").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "reference/reference.json").write_bytes((material / "reference.json").read_bytes())
    (tmp_path / "models/dcgan").symlink_to(material / "model")
    monkeypatch.chdir(tmp_path)
    assert "sample(generator, 100," in code
    exec(compile(code.replace("sample(generator, 100,", "sample(generator, 4,"), "README.md", "exec"), {})
    exported = json.loads(Path("exported/export.json").read_text())
    assert (exported["structures"], len(exported["verdicts"])) == (4, 4)
    assert len(list(Path("exported/vti").iterdir())) == 4
