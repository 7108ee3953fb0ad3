"""Files and folders that are either whole or not there: written under a temporary name, then renamed.

The temporary name is in a folder ``.NAME.xxxxxxxx`` beside the place itself, which its owner keeps locked.
One whose owner was killed is removed by the next process that writes the same place.
"""

import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from microgan.core.errors import UserError, one_line
from microgan.core.locks import acquire
from microgan.core.signals import signals_held

OWNER, REPLACED = ".owner", ".replaced"  # in a draft's folder: the lock, and what was at the place before
MANY_FILES = 30  # from here on one by one is slower: some milliseconds each
ROOM_BYTES = 1 << 20  # less is too little for the results of any stage
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextmanager
def atomic(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on failure it is removed.

    Works for a file and for a folder (make the yielded path a directory to write a folder). Where it is
    ``durable``, the new content is on the disk before it replaces the old one: not even a power cut leaves
    an empty file.
    """
    with atomic_together([path], durable) as (draft,):
        yield draft


@contextmanager
def atomic_together(
    paths: Sequence[str | Path], durable: bool = False, may_lack: bool = False
) -> Iterator[list[Path]]:
    """Yield temporary paths that replace ``paths`` together, or not at all; see `atomic`.

    Ctrl-C and SIGTERM wait until all are in place. Where they ``may_lack``, one that was not made leaves what
    is at its place.
    """
    with ExitStack() as stack:
        drafts: list[_Draft] = []
        try:
            for path in paths:
                drafts.append(stack.enter_context(_draft(Path(path))))
            yield [draft.path for draft in drafts]
            if may_lack:
                drafts = [draft for draft in drafts if os.path.lexists(draft.path)]
            if durable:
                for draft in drafts:
                    _flush(draft.path)
            with signals_held():
                _replace_all(drafts)
                for draft in drafts if durable else []:
                    _flush_entry(draft.place.parent)
        except OSError as error:
            if (named := _named(error, paths, drafts)) is error:
                raise
            raise named from error
        except UserError as error:
            where, value, rule = error.args
            for draft in drafts:
                if where in (draft.path, str(draft.path)):
                    raise UserError(draft.place, value, rule) from error
            raise


@contextmanager
def files_into(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder whose files are moved into ``folder`` together at the end; others there stay."""
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    with _draft(Path(os.path.realpath(place))) as draft:
        try:
            draft.path.mkdir()
            yield draft.path
            files = sorted(draft.path.iterdir())
            for name in (file.name for file in files):
                if (place / name).is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place / name))
            with signals_held():
                draft.place.mkdir(exist_ok=True)
                for file in files:
                    file.replace(place / file.name)
        except OSError as error:
            if (named := _named(error, [place], [draft])) is error:
                raise
            raise named from error


def must_be_writable(*paths: str | Path, room_bytes: int = ROOM_BYTES) -> None:
    """Raise `OSError` now, and not after the work, where ``paths`` cannot be written or the disk is full."""
    for path in paths:
        with suppress(_Tried), atomic(path) as draft:
            with draft.open("wb") as stream:
                for start in range(0, room_bytes, ROOM_BYTES):
                    stream.write(bytes(min(ROOM_BYTES, room_bytes - start)))
            raise _Tried


def remove_abandoned(path: str | Path) -> None:
    """Remove drafts of ``path`` whose owner is gone; put back what one of them had moved out of its way."""
    path = Path(path)
    prefix = f".{path.name}."
    with suppress(OSError):  # a folder that is not there or may not be read
        for name in [name for name in os.listdir(path.parent) if name.startswith(prefix)]:  # noqa: PTH208  of thousands
            if re.fullmatch("[a-z0-9_]{8}", name.removeprefix(prefix)):
                with suppress(OSError):  # removed by another process, or that of another user
                    _remove_if_abandoned(path.parent / name, path)


def _remove_if_abandoned(scratch: Path, path: Path) -> None:
    if not (lock := acquire(scratch / OWNER)):
        return
    if lock.is_sure:
        if not os.path.lexists(path) and os.path.lexists(scratch / REPLACED):
            (scratch / REPLACED).rename(path)
        shutil.rmtree(scratch, ignore_errors=True)
    lock.release(keeps_file=True)


class _Tried(Exception):  # noqa: N818  no error: it ends a draft that was only a try
    pass


@dataclass(frozen=True)
class _Draft:
    place: Path
    scratch: Path

    @property
    def path(self) -> Path:
        return self.scratch / self.place.name  # keeps the suffix, from which writers take the format

    def put_in_place(self) -> None:
        """Replace what is at the place; it is in ``scratch`` afterwards."""
        os.lstat(self.path)
        if not os.path.lexists(self.place):
            self.path.rename(self.place)
            return
        if self.place.is_dir() and not self.place.is_symlink() and not self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.place))
        if _exchange(self.path, self.place):
            self.path.rename(self.scratch / REPLACED)
        elif self.path.is_dir():  # a folder can only be renamed to a free name
            self.place.rename(self.scratch / REPLACED)
            try:
                self.path.rename(self.place)
            except BaseException:
                (self.scratch / REPLACED).rename(self.place)
                raise
        else:
            with suppress(OSError):  # a second name, to put it back
                os.link(self.place, self.scratch / REPLACED, follow_symlinks=False)
            self.path.replace(self.place)

    def put_back(self) -> None:
        """Undo `put_in_place`."""
        self.place.rename(self.path)
        if os.path.lexists(self.scratch / REPLACED):
            (self.scratch / REPLACED).rename(self.place)


def _must_be_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a device or a pipe, also behind a link, as /dev/stdout is one."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        rule = "is neither a file nor a folder (a device, a pipe) and would be replaced: choose another name"
        raise UserError(path, "not a file", rule)


@contextmanager
def _draft(place: Path) -> Iterator[_Draft]:
    _must_be_replaceable(place)
    new_folders = [folder for folder in place.parents if not folder.exists()]  # from the innermost on
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        remove_abandoned(place)
        while True:
            scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
            with suppress(FileNotFoundError):  # another process just took it for abandoned
                if lock := acquire(scratch / OWNER):
                    break
    except OSError as error:
        _remove_empty(new_folders)
        raise OSError(error.errno, error.strerror, str(place)) from None
    try:
        yield _Draft(place, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release(keeps_file=True)
        _remove_empty(new_folders)


def _replace_all(drafts: Sequence[_Draft]) -> None:
    done: list[_Draft] = []
    try:
        for draft in drafts:
            draft.put_in_place()
            done.append(draft)
    except BaseException:
        for draft in reversed(done):
            draft.put_back()
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once, where the system and the file system can."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # not in every C library
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return rename is not None and rename(*names, ctypes.c_uint(_RENAME_EXCHANGE)) == 0


def _flush(path: Path) -> None:
    """Wait until a file, or all in a folder, is on the disk."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    if len(files) > MANY_FILES and _flush_file_system(path):
        return
    for file in files:
        if not file.is_symlink():
            _flush_entry(file)


def _flush_file_system(path: Path) -> bool:
    """Wait until all that was written to a file system is on the disk, where the system can do so."""
    flush = getattr(ctypes.CDLL(None), "syncfs", None) if sys.platform == "linux" else None
    if flush is None:
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        return flush(handle) == 0
    finally:
        os.close(handle)


def _flush_entry(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(handle)


def _named(error: OSError, paths: Sequence[str | Path], drafts: Sequence[_Draft]) -> OSError:
    """Return the error with the name of the file that the user knows."""
    if error.filename is None:  # numpy says only how many bytes it wrote
        reason = f"could not be written, is the disk full? ({one_line(error)})"
        return OSError(error.errno or errno.EIO, reason, ", ".join(map(str, paths)))
    for draft in drafts:
        if str(error.filename).startswith(str(draft.scratch)):
            return OSError(error.errno, error.strerror, str(draft.place))
    return error


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that were made for what was then not written."""
    for folder in folders:
        if not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()
