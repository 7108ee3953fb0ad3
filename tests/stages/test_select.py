"""Before the pipeline: all parameters are checked, and the scan is selected."""

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from zc.lockfile import LockFile

from microgan.core.errors import UserError
from stages import raw_scans, select
from stages.stage import load_params
from tests.stages.helpers import ROOT, edit


def test_the_last_stage_s_parameters_are_checked_before_the_first_stage_runs(project: Path) -> None:
    select.check(load_params())
    edit(export__format="vti")
    with pytest.raises(UserError, match=r"export\.format: 'vti': unknown parameter"):
        select.check(load_params())


def test_no_model_may_have_the_name_of_the_baseline(project: Path) -> None:
    edit(models__random_packing=load_params()["models"]["dcgan"])
    with pytest.raises(UserError, match=r"models\.random_packing: a model: must have another name"):
        select.check(load_params())


def test_choosing_a_scan_changes_one_line_and_keeps_comments(project: Path) -> None:
    before = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(before.replace("scan: simulated\n", "scan: simulated   # mine\n"))
    select.choose("insegt_glass")
    assert Path("params.yaml").read_text() == before.replace(
        "scan: simulated\n", "scan: insegt_glass   # mine\n"
    )
    with pytest.raises(UserError, match="SCAN: moon: must be one of simulated, insegt_carbon, insegt_glass"):
        select.known("moon", load_params())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2026-11-27", "YAML reads it as date"),
        ("0103", "YAML reads it as int"),
        ("on", "YAML reads it as bool"),
        ("1.5", "YAML reads it as float"),
        ("null", "YAML reads it as NoneType"),
        ("'on'", "no word of YAML"),
        ("'0103'", "must begin with a letter"),
        ("my scan", "'my scan': must begin with a letter, go on with letters"),
        ("my.scan", "'my.scan': must begin"),
        ("../scan", "must begin"),
        ("grün", "must begin"),
    ],
)
def test_a_scan_has_a_name_that_yaml_folders_and_paths_read_as_it_is(
    project: Path, name: str, words: str
) -> None:
    before = Path("params.yaml").read_text()
    entry = f"scans:\n  {name}: {{path: ., radius_px: [4, 8]}}\n"
    Path("params.yaml").write_text(before.replace("scans:\n", entry, 1))
    with pytest.raises(UserError, match=words) as told:
        load_params()
    assert "params.yaml: scans" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"launch": "torchrum --nproc-per-node 4"},
            "params.yaml: launch: 'torchrum .*must begin with a program",
        ),
        ({"launch": None}, "params.yaml: launch: None: must begin with a program"),
        (
            {"image_metrics__measures__subset_size": 501},
            "measures.subset_size, 501, must be at most windows, 500",
        ),
    ],
)
def test_what_a_late_stage_would_refuse_is_refused_before_the_first(
    project: Path, changes: dict[str, Any], line: str
) -> None:
    edit(**changes)
    with pytest.raises(UserError, match=line):
        select.check(load_params())


def test_a_split_of_planes_that_are_not_there_is_refused_before_the_pipeline(project: Path) -> None:
    select.check_scan(load_params(), "simulated")
    edit(scans__simulated__split={"calibration": [1], "held_out": [3]})
    with pytest.raises(UserError, match=r"^scans\.simulated\.split\.held_out: 3: must name planes below 3"):
        select.check_scan(load_params(), "simulated")
    edit(
        scans__mine={"path": "scan.tif", "radius_px": [4, 8], "split": {"held_out": [2], "calibration": [1]}}
    )
    with pytest.raises(UserError, match=r"data/raw/mine/scan\.tif: missing"):
        select.check_scan(load_params(), "mine")
    Path("data/raw/mine").mkdir(parents=True)
    planes = np.random.default_rng(0).integers(1, 9, (3, 40, 30), np.uint8)
    tifffile.imwrite("data/raw/mine/scan.tif", planes, photometric="minisblack")
    with pytest.raises(UserError, match=r"window_px: 32: must be 1 to 30"):
        select.check_scan(load_params(), "mine")
    edit(window_px=24)
    select.check_scan(load_params(), "mine")


def test_a_file_of_own_rules_that_git_does_not_know_is_named(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(calibrate__own={"mine": {"function": "my_rules.worst", "side": "both"}})
    Path("my_rules.py").write_text("def worst(evidence):\n    return 0.0\n")
    select.warn_of_unknown_files(load_params())
    assert caplog.text == ""  # no git, so nothing that it does not know

    def git(*words: str) -> None:
        name = ("-c", "user.name=me", "-c", "user.email=me@localhost")
        subprocess.run(["git", *name, *words], check=True, capture_output=True)

    git("init")
    git("add", "params.yaml")
    git("commit", "-m", "start")
    select.warn_of_unknown_files(load_params())
    assert "my_rules.py: git does not know this file" in caplog.text
    assert caplog.messages[0].endswith("git add my_rules.py")
    caplog.clear()
    git("add", "my_rules.py")
    select.warn_of_unknown_files(load_params())
    assert caplog.text == ""


def public_scan(project: Path, name: str, content: bytes | None) -> None:
    """Write the .dvc file of a public scan and, where it has ``content``, the file that it names."""
    folder = project / "data/raw" / name
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "a.png").write_bytes(content)
    out = {"md5": hashlib.md5(content or b"").hexdigest(), "hash": "md5", "path": "a.png"}
    dvc_file = {
        "wdir": f"../{name}",
        "frozen": True,
        "deps": [{"path": "http://127.0.0.1:9/a.png"}],
        "outs": [out],
    }
    (project / "data/raw/public").mkdir(exist_ok=True)
    (project / f"data/raw/public/{name}.png.dvc").write_text(yaml.safe_dump(dvc_file))


@pytest.mark.filterwarnings("ignore")
def test_dvc_is_content_without_the_other_scans_and_with_files_that_were_copied(project: Path) -> None:
    """Without simulation for a real scan, without a network for files that are there."""
    from dvc.repo import Repo

    public_scan(project, "mine", b"content")
    public_scan(project, "other", None)
    (project / "data/raw/dvc.yaml").write_bytes((ROOT / "data/raw/dvc.yaml").read_bytes())
    ingest = {"cmd": "true", "deps": ["data/raw/${scan}"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"ingest": ingest}}))
    edit(scan="mine")
    with Repo.init(no_scm=True) as repo:
        for name in ("mine", "other"):
            imported = repo.stage.load_one(f"data/raw/public/{name}.png.dvc")
            imported.md5 = imported.compute_md5()
            imported.dump()
    raw_scans.fetch("mine")
    raw_scans.hide_other_scans("mine")
    with Repo() as repo:
        assert [stage.addressing for stage in repo.reproduce()] == ["ingest"]
        assert repo.status() == {}
    raw_scans.hide_other_scans("simulated")
    with Repo() as repo:
        assert repo.status()["data/raw/dvc.yaml:simulate"]


def test_the_scan_is_not_changed_under_a_pipeline_that_runs(project: Path) -> None:
    """DVC writes down which processes run stages; between stages it holds a lock."""
    tmp = project / ".dvc/tmp"
    tmp.mkdir(parents=True)
    Path("data/raw").mkdir(parents=True)
    before = Path("params.yaml").read_text()
    with subprocess.Popen([sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE) as dvc:
        used = {"data/planes": [{"pid": dvc.pid, "cmd": "dvc repro"}]}
        (tmp / "rwlock").write_text(json.dumps({"read": used}))
        with pytest.raises(UserError, match=r"scan: dvc repro \(process \d+\): cannot be changed while it"):
            select.select("insegt_glass", is_another=True)
        select.select("simulated", is_another=False)
        assert Path("params.yaml").read_text() == before
        assert dvc.stdin
        dvc.stdin.close()
    lock = LockFile(str(tmp / "lock"))  # as DVC does
    with pytest.raises(UserError, match="scan: the pipeline runs: cannot be changed"):
        select.select("insegt_glass", is_another=True)
    lock.close()
    select.select("insegt_glass", is_another=True)  # the process in rwlock is gone
    assert Path("params.yaml").read_text() != before
    LockFile(str(tmp / "lock")).close()


def test_a_scan_that_cannot_be_selected_leaves_the_one_of_before(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "params.yaml")

    Path("data/raw").mkdir(parents=True)
    select.select("simulated", is_another=True)
    before = {path: path.read_bytes() for path in (Path("params.yaml"), select.IGNORE)}
    monkeypatch.setattr(select, "choose", full)
    with pytest.raises(OSError, match="No space"):
        select.select("insegt_glass", is_another=True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.filterwarnings("ignore")  # DVC's own
def test_dvc_knows_each_public_scan_by_its_checksum() -> None:
    """Without it, or with another one, `dvc repro` asks the address although the file is there."""
    from dvc.repo import Repo

    files = sorted((ROOT / "data/raw").glob("*/*.dvc"))
    assert len(files) >= 4
    with Repo(ROOT) as repo:
        for file in files:
            stage = repo.stage.load_one(str(file))
            assert stage.md5 == stage.compute_md5(), file.name
