"""Whether DVC runs the pipeline here at this moment, so that what it reads must stay as it is."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from microgan.core.errors import UserError
from microgan.core.locks import acquire

LOCKS = Path(".dvc/tmp")  # of DVC: `lock` while it looks and records, `rwlock` names what running stages use


@contextmanager
def no_pipeline_running(what: str) -> Iterator[None]:
    """Keep DVC from beginning for the block.

    Parameters
    ----------
    what
        That is to be changed in the block, for the error.

    Raises
    ------
    UserError
        If the pipeline runs.
    """
    rule = "cannot be changed while it runs: wait for its end, or stop it"
    if not LOCKS.parent.is_dir():
        yield
        return
    LOCKS.mkdir(exist_ok=True)
    lock = acquire(LOCKS / "lock")
    try:
        if lock is None or (command := _running()):
            raise UserError(what, "the pipeline runs" if lock is None else command, rule)
        yield
    finally:
        if lock:
            lock.release(keeps_file=True)


def _running() -> str:
    """Return what runs a stage, of the processes that DVC wrote down; empty if they are all gone."""
    try:
        used = json.loads((LOCKS / "rwlock").read_text())
        users = [*used.get("write", {}).values(), *(user for each in used["read"].values() for user in each)]
        alive = [user for user in users if _is_dvc(int(user["pid"]))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f"{alive[0]['cmd']} (process {alive[0]['pid']})" if alive else ""


def _is_dvc(pid: int) -> bool:
    """Whether a process is DVC, and not another one that has got its number since."""
    try:
        return pid != os.getpid() and any("dvc" in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
