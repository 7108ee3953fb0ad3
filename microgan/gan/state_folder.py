"""The folder of a training's state: for one process at a time, and gone when the training is done."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from microgan.core.errors import UserError
from microgan.core.locks import waiting_for

STATE = "state.safetensors"
WANTED_S = 10.0  # so long after a sign of life a process still counts as waiting


@contextmanager
def state_folder(folder: Path, on_wait: Callable[[str], None]) -> Iterator[Path]:
    """Keep ``folder`` for this training, and remove it when the block ends without an error.

    While another process runs the same training, this one waits; then it finds the state of a finished
    training, and so the result at once. Of several processes that `torchrun` started, the first one does so.

    Parameters
    ----------
    folder
        The name stands for all that the training depends on.
    on_wait
        Called once, with the name of the process that is waited for.

    Raises
    ------
    UserError
        If there is another process, and this one is of several: the others do not wait for long.
    """
    if os.environ.get("RANK", "0") != "0":
        yield folder
        return
    wanted, lock = folder.with_name(f"{folder.name}.wanted"), folder.with_name(f"{folder.name}.lock")
    has_said = False
    is_one_of_several = os.environ.get("WORLD_SIZE", "1") != "1"

    def wait(owner: str) -> None:
        nonlocal has_said
        if is_one_of_several:
            raise UserError(folder, f"in use by {owner}", "the same training runs already: wait for its end")
        wanted.touch()
        if not has_said:
            on_wait(owner)
        has_said = True

    with waiting_for(lock, f"process {os.getpid()} on {socket.gethostname()}", wait):
        wanted.unlink(missing_ok=True)
        yield folder
        if not _is_wanted(wanted):
            shutil.rmtree(folder, ignore_errors=True)
            wanted.unlink(missing_ok=True)


def _is_wanted(wanted: Path) -> bool:
    try:
        return time.time() - wanted.stat().st_mtime < WANTED_S
    except FileNotFoundError:
        return False
