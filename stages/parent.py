"""A stage ends with the program that started it: dvc or torchrun, when that is killed alone.

Otherwise it would go on beside its successor, which the next `dvc repro` starts.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import psutil

from stages import STARTED_BY
from stages.executions import executor

LOOK_EVERY_S = 1.0
STARTERS = ("DVC_STAGE", "TORCHELASTIC_RUN_ID")  # set by dvc and by torchrun


@contextmanager
def ends_with_its_parent() -> Iterator[None]:
    """Send this process SIGTERM once dvc or torchrun has gone.

    A stage that was started by hand may outlive its shell.
    """
    if not any(name in os.environ for name in STARTERS):
        yield
        return
    ended = Event()
    thread = Thread(target=_watch, args=(executor(), ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(dvc: psutil.Process, ended: Event) -> None:
    while not ended.wait(LOOK_EVERY_S):
        # A shell may be between dvc and this process, and outlive dvc
        if os.getppid() != STARTED_BY or not _is_alive(dvc):
            print("microgan: the program that started this stage is gone", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
