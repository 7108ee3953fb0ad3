"""What a kill, a signal or a power cut leaves at a place that is being replaced."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from microgan.core import atomic as atomic_module
from microgan.core.atomic import atomic, atomic_together, must_be_writable
from microgan.core.locks import acquire, waiting_for

ROOT = Path(__file__).parents[2]


def killed_at(call: str, code: str, folder: Path) -> None:
    """Run ``code`` in ``folder``, in a process that is killed as it comes to the ``call`` of atomic.py."""
    script = f"""
        import os, signal
        from pathlib import Path
        from microgan.core import atomic as module
        from microgan.core.atomic import atomic
        def kill(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        {call} = kill
        {code}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def write_folder(folder: Path, name: str) -> None:
    with atomic(folder) as draft:
        draft.mkdir()
        (draft / name).touch()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_draft_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    killed_at("module._replace_all", "with atomic('out') as draft: draft.mkdir()", tmp_path)
    assert len(names(tmp_path)) == 3  # the draft's folder, its lock, the draft
    with atomic(tmp_path / "out") as living:
        living.mkdir()
        write_folder(tmp_path / "out", "other")
        assert living.is_dir()
        assert len([name for name in names(tmp_path) if name.startswith(".out")]) == 3
    assert names(tmp_path) == ["out"]


def test_a_kill_while_a_folder_is_replaced_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", "old")
    code = "with atomic('out') as draft: draft.mkdir(); (draft / 'new').touch()"
    killed_at("Path.rename", code, tmp_path)  # after the exchange, as Linux has it
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def test_a_folder_that_a_killed_process_had_moved_away_is_put_back(tmp_path: Path) -> None:
    """Where names cannot be exchanged, a kill may come between two renames."""
    write_folder(tmp_path / "out", "old")
    code = "\n        ".join(
        [
            "module._exchange = lambda one, other: False",
            "rename = Path.rename",
            "Path.rename = lambda path, to: kill() if to.name == 'out' else rename(path, to)",
            "with atomic('out') as draft: draft.mkdir(); (draft / 'new').touch()",
        ]
    )
    killed_at("unused", code, tmp_path)
    assert not (tmp_path / "out").exists()
    atomic_module.remove_abandoned(tmp_path / "out")
    assert names(tmp_path) == ["out", "out/old"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_several_places_are_replaced_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(atomic_module, "_exchange", lambda one, other: False)
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "file").write_text("old")
    (tmp_path / "taken").mkdir()
    places = [tmp_path / name for name in ("folder", "file", "new", "taken")]
    with pytest.raises(IsADirectoryError), atomic_together(places) as drafts:
        drafts[0].mkdir()
        for draft in drafts[1:]:
            draft.write_text("new")
    assert names(tmp_path) == ["file", "folder", "folder/old", "taken"]
    assert (tmp_path / "file").read_text() == "old"
    with pytest.raises(FileNotFoundError), atomic_together(places[:2]) as drafts:
        drafts[0].mkdir()  # and nothing at the other
    assert names(tmp_path) == ["file", "folder", "folder/old", "taken"]


def test_a_signal_waits_until_all_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = atomic_module._Draft.put_in_place

    def interrupted(draft: atomic_module._Draft) -> None:
        signal.raise_signal(signal.SIGINT)
        put(draft)

    monkeypatch.setattr(atomic_module._Draft, "put_in_place", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), atomic_together([tmp_path / "a", tmp_path / "b"]) as drafts:
        for draft in drafts:
            draft.write_text("new")
    assert names(tmp_path) == ["a", "b"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_is_durable_is_on_the_disk_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def fsync(handle: int) -> None:
        calls.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    put = atomic_module._Draft.put_in_place
    monkeypatch.setattr(
        atomic_module._Draft, "put_in_place", lambda draft: (calls.append("renamed"), put(draft))
    )
    with atomic(tmp_path / "model", durable=True) as draft:
        draft.mkdir()
        (draft / "weights").write_text("1")
    assert calls == ["model", "weights", "renamed", tmp_path.name]


def test_a_place_that_cannot_be_written_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        must_be_writable(tmp_path / "models/dcgan")
    must_be_writable(tmp_path / "new/dcgan", tmp_path / "file.csv")
    assert names(tmp_path) == ["models"]

    def full(path: Path, mode: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space") as error:
        must_be_writable(tmp_path / "file.csv")
    assert error.value.filename == str(tmp_path / "file.csv")


def test_a_lock_outlives_no_process_and_tells_who_has_it(tmp_path: Path) -> None:
    path, said = tmp_path / "state.lock", []
    killed_at(
        "unused",
        "from microgan.core.locks import waiting_for\n"
        "        with waiting_for(Path('state.lock'), 'first', print): kill()",
        tmp_path,
    )
    assert path.read_text() == "first"
    with waiting_for(path, "second", said.append):
        assert acquire(path) is None and path.read_text() == "second"
    assert said == [] and not path.exists()
