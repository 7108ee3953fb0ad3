"""The stages of the pipeline. Each file is a program: ``python -m stages.train dcgan``."""

import sys
from types import TracebackType

from microgan.core.errors import one_line


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        error = RuntimeError("interrupted before it began; nothing was changed")
        print(f"microgan: {one_line(error)}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if sys.argv[0] == "-m":  # run as a program: Ctrl-C may come while torch is still being imported
    sys.excepthook = _in_one_line
