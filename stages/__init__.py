"""The stages of the pipeline. Each stage of dvc.yaml is a program: ``python -m stages.train dcgan``.

Beside the stages:

`stage`                      what all stages share: parameters, arguments, errors in one line, drafts
`samples`, `project`         files that stages pass on; the user's project
`select`, `raw_scans`        before the pipeline: the scan, all parameters, missing public files
`running`                    whether DVC runs the pipeline at this moment
`tracking`, `executions`, `outbox`, `registry`, `ui`   MLflow
`durations`                  how long each stage took
`heartbeat`, `parent`        signs of life in a log; the end of a stage whose parent is gone
`declared`                   what dvc.yaml says of a stage
"""

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    # At once, without an exception: imports that are cut in the middle end in errors of their own.
    os.write(2, b"microgan: interrupted before it began; nothing was changed\n")
    os._exit(130)


STARTED_BY = os.getppid()  # read at once: dvc may be killed while torch is still being imported

if sys.argv[0] == "-m":  # run as a program
    # Threads that wait must sleep, which OpenMP reads when torch is imported: those that spin take the time
    # of other busy processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # A signal may come while torch is still being imported.
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell does for jobs in the background
            signal.signal(number, _leave)
