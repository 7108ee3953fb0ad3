"""Where the user's repository is, and which commit it is at."""

import os
import subprocess
from pathlib import Path


def project_root() -> Path:
    """Return the user's repository, also inside the temporary copy that a queued experiment runs in."""
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    for parent in root.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return root


def git_commit() -> str | None:
    """Return the commit, ``-dirty`` when code or parameters differ from it; `None` without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", "microgan", "stages", "dvc.yaml", "params.yaml")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def is_known_to_git(path: Path) -> bool:
    """Whether git tracks a file; true where there is no git that could miss it."""
    try:
        _git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return True
    return bool(_git("ls-files", "--", str(path)))


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
