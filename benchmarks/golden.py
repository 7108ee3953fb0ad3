"""Does the pipeline still compute the same numbers? A revision beside the working tree, on two scans.

``python -m benchmarks.golden BASE_REVISION [--scan simulated --scan insegt_carbon]``

Runs the whole pipeline twice for each scan, a few hundred steps of both models in fp32 on one thread, once in
a checkout of BASE_REVISION and once in a copy of the working tree. Then it compares every result by its
numbers alone, so that renamed columns, keys and weights do not count as differences, but values do:

- weights: the SHA-256 of the bytes of each tensor; pixels of TIFF: the SHA-256 of the array;
- JSON: how often each number occurs; CSV: the numbers of each column, in the order of the rows.

Seconds and other figures of the machine are left out. It prints a line for each file, and for each that
differs the numbers that only one side has. A scan's folder in data/raw must hold its files (``dvc pull``).
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
# Small values for every parameter that costs time. A name that the revision does not know is left out.
SMALL = {
    "train.steps": 300,
    "train.minutes": None,
    "train.precision": "fp32",
    "train.threads": 1,
    "train.log_every": 10,
    "train.grid_every": 150,
    "train.preview_every": 150,
    "train.check_every": 100,
    "train.validation_every": 100,
    "train.check_count": 32,
    "train.validation_count": 32,
    "train.physics.warm_up": 100,
    "train.physics.ramp": 50,
    "generate.count": 64,
    "calibrate.windows": 200,
    "calibrate.bootstrap": 50,
    "calibrate.planted": 10,
    "calibrate.learnt.steps": 20,
    "evaluate.windows": 100,
    "evaluate.floor_repeats": 20,
    "evaluate.resamples": 199,
    "properties.count": 20,
    "likeness.windows": 50,
    "likeness.training_windows": 60,
    "likeness.encoder.steps": 30,
    "likeness.measures.subset_size": 25,
    "image_metrics.windows": 50,
    "image_metrics.training_windows": 60,
    "image_metrics.encoder.steps": 30,
    "image_metrics.measures.subset_size": 25,
}
RESULTS = ("data/planes", "exports", "metrics", "models", "reference", "samples", "survey", "real_statistics")
# Results that an earlier revision keeps under another name.
RENAMED = {"survey/": "real_statistics/", "/packing": "/random_packing", "checks.csv": "validation.csv"}
OF_THE_MACHINE = ("seconds", "images_per", "_at", "version", "size_bytes", "bytes")


def main() -> None:
    """Run both sides and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", help="git revision to compare with")
    parser.add_argument("--scan", action="append", help="default: simulated and insegt_carbon")
    parser.add_argument("--keep", type=Path, help="folder for the numbers of a revision, used again if there")
    options = parser.parse_args()
    kept = options.keep or Path(tempfile.mkdtemp())
    different = 0
    for scan in options.scan or ["simulated", "insegt_carbon"]:
        base = _numbers_of(options.base, scan, kept)
        tree = _numbers_of(None, scan, kept)
        different += _compare(scan, base, tree)
    sys.exit(different > 0)


def _numbers_of(revision: str | None, scan: str, kept: Path) -> dict[str, Any]:
    file = kept / f"{revision}_{scan}.json"
    if revision and file.exists():
        return json.loads(file.read_text())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "microgan"
        _check_out(revision, copy)
        _run(copy, scan, kept / f"{revision or 'tree'}_{scan}.log")
        numbers = {
            _present_name(str(path.relative_to(copy))): read
            for result in RESULTS
            for path in sorted((copy / result).rglob("*"))
            if path.is_file() and (read := numbers_in(path)) is not None
        }
    kept.mkdir(parents=True, exist_ok=True)
    file = kept / f"{revision or 'tree'}_{scan}.json"
    file.write_text(json.dumps(numbers, indent=1))
    return numbers


def _present_name(file: str) -> str:
    for before, now in RENAMED.items():
        file = file.replace(before, now)
    return file


def _check_out(revision: str | None, copy: Path) -> None:
    copy.mkdir()
    if revision:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x"], cwd=copy, input=archive.stdout, check=True)
    else:
        names = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(names, cwd=ROOT, capture_output=True, check=True).stdout
        words = ["xargs", "-0", "cp", "--parents", "--target-directory", str(copy)]
        there = b"\0".join(
            name for name in listed.split(b"\0") if name and (ROOT / os.fsdecode(name)).exists()
        )
        subprocess.run(words, cwd=ROOT, input=there, check=True)


def _run(copy: Path, scan: str, log: Path) -> None:
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["scan"] = scan
    for path, value in SMALL.items():
        *parents, name = path.split(".")
        section = params
        for parent in parents:
            section = section.get(parent, {})
        if name in section:
            section[name] = value
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    raw = ROOT / "data" / "raw" / scan
    if raw.is_dir():
        subprocess.run(["cp", "-rL", "--no-clobber", str(raw), str(copy / "data" / "raw")], check=True)
    paths = os.pathsep.join([str(copy), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": paths, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        for words in (["git", "init", "--quiet"], ["dvc", "repro", "--allow-missing", "report"]):
            subprocess.run(words, cwd=copy, env=environment, stdout=out, stderr=out, check=True)


def numbers_in(path: Path) -> Any:
    """Return the numbers of a file without their names; `None` for a kind that is not compared."""
    if path.suffix == ".json":
        counts = Counter(repr(value) for value in _leaves(json.loads(path.read_text())))
        return dict(sorted(counts.items()))
    if path.suffix == ".csv":
        return _columns(path)
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
        return [str(pixels.dtype), list(pixels.shape), hashlib.sha256(pixels.tobytes()).hexdigest()]
    if path.suffix == ".safetensors":
        tensors = load_file(path).values()
        return sorted(hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest() for one in tensors)
    if path.suffix in (".npy", ".npz"):
        arrays = np.load(path, allow_pickle=False)
        arrays = {"": arrays} if path.suffix == ".npy" else arrays
        return sorted(hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in arrays)
    if path.suffix == ".vti":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return None


def _leaves(value: Any) -> Iterator[float | bool]:
    if isinstance(value, dict):
        for key, part in value.items():
            if not any(word in key for word in OF_THE_MACHINE):
                yield from _leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, int | float):
        yield value


def _columns(path: Path) -> dict[str, int]:
    """Return how often each column occurs, by the SHA-256 of its numbers; columns of words are left out."""
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    counts: Counter[str] = Counter()
    for name, column in zip(header, zip(*rows, strict=True), strict=True):
        if not any(word in name for word in OF_THE_MACHINE) and all(_is_number(cell) for cell in column):
            counts[hashlib.sha256("\n".join(column).encode()).hexdigest()] += 1
    return dict(sorted(counts.items()))


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return cell in ("True", "False", "true", "false")
    return True


def _compare(scan: str, base: dict[str, Any], tree: dict[str, Any]) -> int:
    different = 0
    print(f"{scan}: {len(base)} files in the base, {len(tree)} in the working tree")
    for name in sorted(base.keys() | tree.keys()):
        if name not in base or name not in tree:
            print(f"  {name}: only in the {'base' if name in base else 'working tree'}")
        elif base[name] != tree[name]:
            print(f"  {name}: differs {_difference(base[name], tree[name])}")
        else:
            print(f"  {name}: equal")
            continue
        different += 1
    return different


def _difference(base: Any, tree: Any) -> str:
    if not isinstance(base, dict):
        return f"{base} {tree}"[:400]
    only_base, only_tree = Counter(base) - Counter(tree), Counter(tree) - Counter(base)
    return f"only base {list(only_base.elements())[:20]}, only tree {list(only_tree.elements())[:20]}"


if __name__ == "__main__":
    main()
