import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import tifffile
from pydantic import model_validator

from microgan.core.config import Config
from microgan.core.errors import UserError, one_line
from microgan.core.files import atomic, file_sha256, fingerprint, natural_order, write_tiff
from microgan.core.json_files import read_json, write_json
from microgan.core.tables import write_csv


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), atomic(path) as draft:
        draft.write_text("half of the ne")
        raise OSError(errno.ENOSPC, "No space left on device", str(draft))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_names_the_file_itself_and_leaves_no_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new/deep/a.txt"
    with pytest.raises(OSError, match="No space") as error, atomic(path) as draft:
        raise OSError(errno.ENOSPC, "No space left on device", str(draft))
    assert one_line(error.value) == f"{path}: No space left on device"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir()
    with pytest.raises(RuntimeError), atomic(path) as draft:
        raise RuntimeError
    assert [found.name for found in tmp_path.rglob("*")] == ["new"]  # which was there before


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name in ("first", "second"):
        with atomic(folder) as draft:
            draft.mkdir()
            (draft / name).touch()
    assert [path.name for path in folder.iterdir()] == ["second"]
    with pytest.raises(RuntimeError), atomic(folder) as draft:
        draft.mkdir()
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["second"]


def test_a_full_disk_is_a_short_line(tmp_path: Path) -> None:
    """A real limit of the operating system: no file may grow beyond 4 KiB."""
    script = (
        "import resource, signal, numpy, sys\n"
        "from pathlib import Path\n"
        "from microgan.core.files import write_tiff\n"
        "from microgan.core.errors import one_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_tiff(sys.argv[1], numpy.zeros((4, 64, 64), 'uint16'))\n"
        "except OSError as error:\n    print(one_line(error))\n"
    )
    target = tmp_path / "stack.tif"
    target.write_bytes(b"earlier")
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith(f"{target}: could not be written, is the disk full?")
    assert target.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    write_json(tmp_path / "a.json", {"x": np.float32(0.5), "y": np.arange(2), "z": Path("p")})
    assert read_json(tmp_path / "a.json") == {"x": 0.5, "y": [0, 1], "z": "p"}
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(UserError, match=r"a\.json: unreadable: must hold a JSON object"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"must hold a JSON object"):
        read_json(tmp_path / "a.json")


def test_tiff_keeps_values_and_resolution(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 60000, (3, 5, 7)).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", stack, voxel_size_um=0.5)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert np.array_equal(tiff.asarray(), stack)
        tags = tiff.pages.first.tags
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        numerator, denominator = tags["XResolution"].value
        assert numerator / denominator == 20000


def test_a_table_is_written_as_csv(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("x", "y"), [(1, 2.5), ("a,b", None)])
    assert (tmp_path / "a.csv").read_text() == 'x,y\n1,2.5\n"a,b",\n'


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes((1 << 20) + 7)
    (tmp_path / "a.bin").write_bytes(content)
    assert file_sha256(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()


def test_a_fingerprint_follows_the_parts_and_their_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y")
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint(tmp_path / "a.csv") == fingerprint(b"x,y") == fingerprint("x,y")


def test_files_are_sorted_by_the_numbers_in_their_names() -> None:
    names = ["a.tif", "2.tif", "10.tif", "B1.tif", "b1.tif", "b2.tif", "B10.tif"]
    ordered = ["2.tif", "10.tif", "a.tif", "B1.tif", "b1.tif", "b2.tif", "B10.tif"]
    for mixed in (names, names[::-1]):
        assert [path.name for path in sorted(map(Path, mixed), key=natural_order)] == ordered


class Window(Config):
    size_px: int = 64

    @model_validator(mode="after")
    def _is_not_negative(self) -> Self:
        if self.size_px < 0:
            raise ValueError("must not be negative")
        return self


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"size": 3}, "train.window.size: 3: unknown parameter, known are size_px"),
        ({"size_px": "wide"}, "train.window.size_px: 'wide': input should be a valid integer"),
        ({"size_px": float("nan")}, "train.window.size_px: nan: input should be a finite number"),
        ({"size_px": -1}, "train.window: as a whole: must not be negative"),
        ({"size_px": "wide" * 1000}, f"train.window.size_px: '{'wide' * 18}wid ...: input should"),
    ],
)
def test_a_bad_parameter_is_one_line(values: dict, line: str) -> None:
    with pytest.raises(UserError) as raised:
        Window.from_mapping(values, "train.window")
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_one_line_of_several() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(FileNotFoundError(errno.ENOENT, "No such file", "x.tif")) == "x.tif: No such file"
