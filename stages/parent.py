"""A stage ends with the program that started it: dvc or torchrun, when that is killed alone.

Otherwise it would go on beside its successor, which the next `dvc repro` starts.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import psutil

from stages import STARTED_BY
from stages.executions import executor

LOOK_EVERY_S = 1.0
TORCHRUN = "TORCHELASTIC_RUN_ID"
STARTERS = ("DVC_STAGE", TORCHRUN)  # set by dvc and by torchrun


@contextmanager
def ends_with_its_parent() -> Iterator[None]:
    """Send this process SIGTERM once dvc or torchrun has gone.

    A stage that was started by hand may outlive its shell.
    """
    if not any(name in os.environ for name in STARTERS):
        yield
        return
    ended = Event()
    thread = Thread(target=_watch, args=(starter(), ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def starter() -> psutil.Process | None:
    """Return the process above this one that runs DVC, or torchrun; `None` if it was killed already.

    A program of the user's may run DVC without its name. It is a Python program, as DVC is. Without DVC,
    `torchrun` is right above its processes, under a name of its own choice.
    """
    if (dvc := executor()).pid != os.getpid():
        return dvc
    if TORCHRUN in os.environ:
        with suppress(psutil.Error):
            return psutil.Process(STARTED_BY)
    for process in psutil.Process().parents():
        with suppress(psutil.Error):
            if process.name().startswith("python"):
                return process
    return None


def _watch(dvc: psutil.Process | None, ended: Event) -> None:
    # A shell may be between dvc and this process, and outlive dvc
    while dvc and os.getppid() == STARTED_BY and _is_alive(dvc):
        if ended.wait(LOOK_EVERY_S):
            return
    print("microgan: the program that started this stage is gone", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
