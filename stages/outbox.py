"""What is to be sent to MLflow: in order, and again where MLflow was away for a moment."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeVar

from microgan.core.errors import one_line

RETRY_EVERY_S = 30.0  # a locked data base holds up each try by 20 seconds
PATIENCE_S = 90.0  # at the start and at the end of a stage
PASSING = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED")  # MLflow's error codes
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
LONGEST_REASON = 300

Result = TypeVar("Result")


class Outbox:
    """Sends in order. What MLflow cannot take now is kept, and tried again with what comes later."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Callable[[], object]]] = deque()
        self._lost: Counter[str] = Counter()
        self._reason = ""  # of the last failure
        self._is_away = False
        self._next_try = 0.0

    def send(self, what: str, action: Callable[[], object]) -> None:
        """Send by ``action``, now or later; ``what`` names it where it is lost."""
        self._waiting.append((what, action))
        if time.monotonic() >= self._next_try:
            self._send_all()

    def close(self, in_haste: bool = False) -> None:
        """Send all that is left, for at most `PATIENCE_S`, or at once ``in_haste``; say what was lost."""
        until = time.monotonic() + (0 if in_haste else PATIENCE_S)
        self._send_all()
        while self._waiting and time.monotonic() < until:
            time.sleep(min(RETRY_EVERY_S, 5.0))
            self._send_all()
        self._lost.update(what for what, _ in self._waiting)
        self._waiting.clear()
        if self._lost:
            lost = ", ".join(f"{count} x {what}" for what, count in self._lost.items())
            _say(f"warning: lost, as MLflow did not take it: {lost} ({self._reason})")

    def _send_all(self) -> None:
        while self._waiting:
            what, action = self._waiting[0]
            try:
                action()
            except Exception as error:  # noqa: BLE001  whatever fails in tracking, the results matter more
                self._reason = shortened(error)
                if may_pass(error):
                    self._be_away()
                    return
                self._lost[what] += 1
            self._waiting.popleft()
        if self._is_away:
            _say("MLflow is back: what was kept has been sent")
        self._is_away = False

    def _be_away(self) -> None:
        self._next_try = time.monotonic() + RETRY_EVERY_S
        if not self._is_away:
            kept = "what it cannot take now is kept, and sent later"
            _say(f"warning: MLflow is away: {kept} ({self._reason})")
        self._is_away = True


def patiently(action: Callable[[], Result]) -> Result:
    """Return the result of ``action``; where the data base is locked, wait for at most `PATIENCE_S`."""
    until, is_waiting = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            return action()
        except Exception as error:
            if "database is locked" not in str(error) or time.monotonic() > until:
                raise
        if not is_waiting:
            _say("MLflow's data base is locked by another program: waiting for it")
        is_waiting = True
        time.sleep(min(RETRY_EVERY_S, 5.0))


def may_pass(error: Exception) -> bool:
    """Whether a failure is one of the moment: a locked data base, a lost connection, a full disk."""
    code = getattr(error, "error_code", None)
    if code is not None:
        return code in PASSING or (code == "INTERNAL_ERROR" and "API request" in str(error))
    lost = isinstance(error, OSError) and not isinstance(error, LASTING)
    return lost or type(error).__name__ == "OperationalError"


def shortened(error: Exception) -> str:
    """Return the beginning of an error's first line."""
    return one_line(error)[:LONGEST_REASON]


def _say(text: str) -> None:
    print(f"microgan: {text}", file=sys.stderr)
