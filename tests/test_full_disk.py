"""What writers leave on a full disk: the small part of benchmarks/full_disk.py."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.full_disk import FAILURES, OUTCOMES, Room, Writer, measured, table, writers


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Writer]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # children are forked
    yield writers(tmp_path_factory.mktemp("inputs"))
    torch.set_num_threads(threads)


# One of each kind of library; the others by `python -m benchmarks.full_disk`
@pytest.mark.parametrize(
    "name", ["export hdf5", "export msh", "export inp", "tif in bands", "arrays.safetensors", "overlay.png"]
)
def test_a_full_disk_is_one_line_and_earlier_results_stay(
    known: dict[str, Writer], tmp_path: Path, name: str
) -> None:
    outcomes = measured(name, known[name], Room(tmp_path, is_disk=False), rooms=4)
    assert outcomes["one line"] and outcomes["whole"]
    assert not any(outcomes[failure] for failure in FAILURES), outcomes


def test_what_is_not_right_is_counted_as_that(tmp_path: Path) -> None:
    def silent(place: Path, seed: int) -> None:
        with place.open("wb", buffering=0) as stream:
            stream.write(bytes([seed]) * 10000)  # a part of it, without an error

    outcomes = measured("silent", silent, Room(tmp_path, is_disk=False), rooms=4)
    assert outcomes["cut short"] >= 2 and outcomes["whole"]

    def broken(place: Path, seed: int) -> None:
        if place.exists():
            raise ZeroDivisionError
        place.write_bytes(b"1")

    outcomes = measured("broken", broken, Room(tmp_path, is_disk=False), rooms=2)
    assert outcomes["traceback"] == 2
    shown = table({"broken": outcomes, "silent": Counter(whole=1)})
    assert shown.splitlines()[0] == f"| writer | {' | '.join(OUTCOMES[:4])} |"
    assert shown.splitlines()[-1] == "| all | 1 | 0 | 2 | 0 |"
