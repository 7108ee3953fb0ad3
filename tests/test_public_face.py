"""What ``import microgan`` gives: the names of README, imported when they are used."""

import subprocess
import sys
from pathlib import Path

import pytest

import microgan

ROOT = Path(__file__).parents[1]
IMPORTED = """
import sys
import microgan
from microgan import cli
from microgan import Domain
heavy = {"torch", "numpy", "scipy", "skimage", "matplotlib", "cv2", "tifffile", "pydantic"}
print(sorted(heavy & set(sys.modules)))
from microgan import load_model
print("torch" in sys.modules)
"""


def test_every_public_name_is_there_and_listed() -> None:
    assert set(microgan.__all__) == set(microgan._MODULES)
    for name in microgan.__all__:
        assert getattr(microgan, name).__name__ == name
        assert getattr(microgan, name).__module__ == microgan._MODULES[name]
    assert set(microgan.__all__) <= set(dir(microgan))
    with pytest.raises(AttributeError, match="has no attribute 'lode_model'"):
        _ = microgan.lode_model


def test_what_type_checkers_see_is_what_is_imported() -> None:
    text = (ROOT / "microgan/__init__.py").read_text()
    for name, module in microgan._MODULES.items():
        lines = [
            line.strip() for line in text.splitlines() if line.strip().startswith(f"from {module} import ")
        ]
        assert any(name in line.partition(" import ")[2].split(", ") for line in lines), name


def test_import_and_help_bring_no_torch() -> None:
    command = [sys.executable, "-W", "ignore", "-c", IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.splitlines() == ["[]", "True"], done.stderr
