"""Locks that the system frees together with the process that holds them, however it ends."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where there are no locks then
    fcntl = None  # type: ignore[assignment]

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Lock:
    """A lock file that this process holds."""

    path: Path
    handle: int
    is_sure: bool  # not so on a file system without locks

    def release(self, keeps_file: bool = False) -> None:
        """Let others have the lock; its file is removed first, so that nobody waits for a file of nobody."""
        if not keeps_file:
            self.path.unlink(missing_ok=True)
        os.close(self.handle)


def acquire(path: Path) -> Lock | None:
    """Take the lock file ``path``, making it if need be; `None` while a living process holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_sure = _flock(handle)
            if _is_at(handle, path):  # its last owner may have removed it meanwhile
                return Lock(path, handle, is_sure)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@contextmanager
def waiting_for(path: Path, label: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file ``path``; while another process has it, wait.

    Parameters
    ----------
    path
        The lock file.
    label
        Written into it, for those who wait.
    on_wait
        Called each second, with the label of the owner, while there is one to wait for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while not (lock := acquire(path)):
        if owner := read_label(path):
            on_wait(owner)
        time.sleep(LOOK_EVERY_S if owner else 0.01)  # its owner is about to write it
    try:
        os.ftruncate(lock.handle, 0)
        os.write(lock.handle, label.encode())
        yield
    finally:
        lock.release()


def read_label(path: Path) -> str:
    """Return what the owner of a lock file wrote into it; nothing where it is gone."""
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def _flock(handle: int) -> bool:
    """Lock an open file; say whether its file system knows locks. `BlockingIOError` if another has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
