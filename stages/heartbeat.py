"""Signs of life for a log: without a terminal there are no progress bars, but a line now and then."""

import sys
import time
from threading import Event, Thread
from types import TracebackType
from typing import Self

BEAT_EVERY_S = 30.0


class Heartbeat:
    """Prints name, minutes and progress of a stage every `BEAT_EVERY_S`, where there is no terminal."""

    def __init__(self, name: str = "", enabled: bool = False) -> None:
        self.progress = ""  # how far the stage is, in words
        self._name, self._enabled = name, enabled
        self._ended = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        if self._enabled and not sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(BEAT_EVERY_S):
            minutes = f"{(time.monotonic() - started) / 60:.1f} min"
            line = ", ".join(filter(None, (minutes, self.progress)))
            print(f"microgan: {self._name}: {line}", file=sys.stderr, flush=True)
