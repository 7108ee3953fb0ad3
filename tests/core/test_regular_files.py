"""Reading a device or a pipe would wait, or never end: each reader refuses it at once."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from microgan.core import files
from microgan.core.errors import UserError
from microgan.core.files import file_sha256, fingerprint
from microgan.core.json_files import read_json
from microgan.core.tables import read_table
from microgan.core.tensors import read_tensors
from microgan.scan.planes import _stored

READERS: dict[str, Callable[[Path], object]] = {
    "json": read_json,
    "table": lambda path: read_table(path, {}),
    "tensors": lambda path: read_tensors(path, "must hold tensors"),
    "planes": lambda path: _stored(path, np.uint8, (1,)),
    "sha256": file_sha256,
    "fingerprint": lambda path: fingerprint(path),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_a_device_is_refused(tmp_path: Path, reader: str, make: Callable[[Path], None]) -> None:
    path = tmp_path / "file"
    make(path)
    with pytest.raises(UserError, match="is a device or a pipe: must be a file"):
        READERS[reader](path)


def test_json_of_a_size_that_none_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_TEXT_BYTES", 20)
    path = tmp_path / "a.json"
    path.write_text('{"a": "' + 30 * "x" + '"}')
    with pytest.raises(UserError, match="39 bytes: must be of at most 20 bytes"):
        read_json(path)
    path.write_text('{"a": "x"}')
    assert read_json(path) == {"a": "x"}
