"""What all stages share: parameters and arguments, errors in one line, results that replace earlier ones."""

import gc
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from microgan.core.atomic import atomic_together, must_be_writable
from microgan.core.config import AnyConfig, Config
from microgan.core.domain import must_be_window_px
from microgan.core.errors import (
    DEBUG,
    UserError,
    defect_in_words,
    memory_is_full,
    one_line,
    shortened,
    shortened_name,
)
from microgan.core.notes import warnings_on_stderr
from microgan.core.signals import ENDING
from microgan.core.words import PLAIN_NAME, PLAIN_NAME_RULE
from stages import durations
from stages.declared import Declaration
from stages.heartbeat import Heartbeat
from stages.parent import ends_with_its_parent
from stages.project import project_root
from stages.tracking import Tracker
from stages.yaml_file import read_yaml

PARAMS = Path("params.yaml")
LONGEST_NAME = 100  # of a scan or model, as it becomes a folder's name
SECTIONS = (
    "scan",
    "window_px",
    "launch",
    "scans",
    "simulate",
    "calibrate",
    "train",
    "models",
    "generate",
    "evaluate",
    "properties",
    "image_metrics",
    "export",
)

BASELINE = "random_packing"  # validated and evaluated as the models are


@dataclass(frozen=True)
class Stage:
    """One execution of one stage."""

    params: Mapping[str, Any]
    tracker: Tracker
    arguments: list[str] = field(default_factory=list)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    until_end: ExitStack = field(default_factory=ExitStack)  # what is kept until all is written and tracked
    must_be_unchanged: Callable[[], None] = lambda: None  # raises if what it reads changed since its start

    @property
    def model(self) -> str:
        """The model that this stage is run for: the program's only argument."""
        return self._argument_among(sorted(section(self.params, "models")))

    @property
    def model_or_baseline(self) -> str:
        """The same, or the baseline: `BASELINE`."""
        return self._argument_among([*sorted(section(self.params, "models")), BASELINE])

    def _argument_among(self, known: list[str]) -> str:
        if len(self.arguments) != 1 or self.arguments[0] not in known:
            raise UserError(
                "model", " ".join(self.arguments) or "missing", f"must be one of {', '.join(known)}"
            )
        return self.arguments[0]

    @property
    def scan(self) -> str:
        """The name of the scan."""
        return scan_name(self.params)

    @property
    def window_px(self) -> int:
        """The side of a window."""
        return window_px(self.params)

    @property
    def writes(self) -> bool:
        """Whether this is the only process, or the first of those that `torchrun` started."""
        return _is_first()

    def say(self, text: str) -> None:
        """Print what this stage found, a line or two."""
        if self.writes:
            print(f"microgan: {text}", flush=True)

    @contextmanager
    def drafts(self, *paths: str | Path) -> Iterator[list[Path]]:
        """Yield temporary paths that replace ``paths`` together at the end; see `drafts`.

        Not so when the stage fails, or when what it reads changed while it ran.
        """
        with drafts(*paths) as draft_paths:
            yield draft_paths
            self.must_be_unchanged()

    def config(self, path: str, kind: type[AnyConfig]) -> AnyConfig:
        """Build the parameters of ``path`` (say ``models.dcgan``) and track them."""
        config = kind.from_mapping(section(self.params, path), where=path)
        self.tracker.params(flatten(config.model_dump(mode="json"), path))
        return config


def run(main: Callable[[Stage], None]) -> None:
    """Run the stage ``main`` as a program, tracked."""
    with errors_in_one_line(), warnings_on_stderr(), ends_with_its_parent():
        params = load_params()
        name = os.environ.get("DVC_STAGE", "").rpartition(":")[2]  # data/raw/dvc.yaml:simulate
        name = name or "@".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
        declared = Declaration.of(name, params)
        before = declared.state(params)
        if _is_first():
            must_be_writable(*declared.outs)  # rather now than after the work
        tracker = Tracker()
        if _is_first():
            tracker.start(name, flatten(selected(params)))

        def must_be_unchanged() -> None:
            declared.must_be(before, load_params())

        with ExitStack() as until_end:
            try:
                with Heartbeat(name, _is_first()) as heartbeat:
                    main(Stage(params, tracker, sys.argv[1:], heartbeat, until_end, must_be_unchanged))
                    must_be_unchanged()
            except BaseException as error:
                tracker.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
                raise
            tracker.end("FINISHED")
        if _is_first():
            durations.add(name)
    gc.freeze()  # what the libraries hold is not searched through at exit, which takes two seconds


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the program with one line: status 2 for what the user can mend, 130 after Ctrl-C or SIGTERM.

    Status 70 means a defect of microgan.
    """
    for number in ENDING:  # until here, see stages/__init__.py
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _leave(130, "interrupted: earlier results are intact, run the same command again to go on")
    except (UserError, OSError) as error:
        _leave(2, one_line(error) + _hint_in_a_copy(error))
    except Exception as error:  # noqa: BLE001  the unknown, too, is one line
        if os.environ.get(DEBUG):
            traceback.print_exception(error)
        full = memory_is_full(error)
        _leave(2 if full else 70, full or defect_in_words(error, f"the same run with {DEBUG}=1 shows"))


@contextmanager
def naming(path: str, kind: type[Config]) -> Iterator[None]:
    """Name arguments in errors as params.yaml does, where they stand below ``path``.

    The library knows the names of arguments alone, say ``region``.
    """
    try:
        yield
    except UserError as error:
        argument, value, rule = error.args
        if not isinstance(argument, str) or argument.partition(".")[0] not in kind.model_fields:
            raise
        raise UserError(f"{path}.{argument}", value, rule) from None


def load_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read all parameters.

    Raises
    ------
    UserError
        If the file is missing or broken, or has an unknown section.
    """
    try:
        params = read_yaml(path)
    except FileNotFoundError:
        raise UserError(path, "missing", "file must exist in the folder that stages run in") from None
    if not isinstance(params, dict):
        raise UserError(path, "no sections", f"must have the sections {', '.join(SECTIONS)}")
    for name in params:
        if name not in SECTIONS:
            raise UserError(
                f"{path}: {shortened_name(name)}", "unknown section", f"known are {', '.join(SECTIONS)}"
            )
    for group in ("scans", "models"):
        for name in section(params, group):
            _must_be_plain(name, f"{path}: {group}")
    return params


def _must_be_plain(name: object, where: str) -> None:
    """Refuse a name that is something else to YAML, or would be in a folder's name or a parameter's path."""
    if not isinstance(name, str):
        kind = type(name).__name__
        raise UserError(
            where,
            shortened(name),
            f"must be a name; YAML reads it as {kind}: begin it with a letter (scan_...)",
        )
    if len(name) > LONGEST_NAME or not re.fullmatch(PLAIN_NAME, name) or yaml.safe_load(name) != name:
        raise UserError(where, shortened(name), PLAIN_NAME_RULE)


def section(params: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the section at ``path``, say ``models.dcgan``."""
    values: Any = params
    for name in path.split("."):
        if not isinstance(values, dict) or name not in values:
            raise UserError(f"{PARAMS}: {path}", "missing", "section must exist")
        values = values[name]
    if not isinstance(values, dict):
        raise UserError(f"{PARAMS}: {path}", shortened(values), "must be a section of named values")
    return values


def scan_name(params: Mapping[str, Any]) -> str:
    """Return the name of the scan, which must be one of ``scans:``."""
    name, known = params.get("scan"), section(params, "scans")
    if not isinstance(name, str) or name not in known:
        shown = shortened_name(name) if isinstance(name, str) else name
        raise UserError(f"{PARAMS}: scan", shown, f"must be one of {', '.join(known)}")
    return str(name)


def window_px(params: Mapping[str, Any]) -> int:
    """Return the side of a window in pixels."""
    return must_be_window_px(f"{PARAMS}: window_px", params.get("window_px"))


def selected(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without those of the other scans."""
    name = scan_name(params)
    return {**params, "scans": {name: params["scans"][name]}}


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Name nested values by their path.

    Examples
    --------
    >>> flatten({"train": {"batch": 32}, "scan": "simulated"})
    {'train.batch': 32, 'scan': 'simulated'}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        full_name = f"{path}.{name}" if path else str(name)
        flat |= flatten(value, full_name) if isinstance(value, Mapping) else {full_name: value}
    return flat


@contextmanager
def drafts(*paths: str | Path) -> Iterator[list[Path]]:
    """Yield temporary paths that replace ``paths`` together at the end, or not at all when the stage fails.

    A path without a suffix is a folder, and is made.
    """
    with atomic_together(paths, durable=True) as draft_paths:
        for draft in draft_paths:
            if not draft.suffix:
                draft.mkdir()
        yield draft_paths


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _hint_in_a_copy(error: Exception) -> str:
    """Return what may be wrong where a queued experiment, which runs in a copy, does not find a file."""
    if project_root() == Path.cwd().resolve():
        return ""
    if not any(words in str(error) for words in ("missing", "could not be imported", "No such file")):
        return ""
    return "; this experiment runs in a copy of what git and DVC know: git add or dvc add what it lacks"


def _leave(status: int, text: str) -> None:
    print(f"microgan: {text}", file=sys.stderr)
    sys.exit(status)
