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
    """Return the commit, with ``-dirty`` when files differ from it; `None` outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
