"""The signals that end a program: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def signals_noted() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the first signal received since, 0 without one; none ends the block.

    Signals that are ignored stay so, such as Ctrl-C in a job in the background. Outside of the main thread,
    the only one in which Python takes signals, nothing is changed.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as an error does, so that what is half-written is removed.

    Raises
    ------
    SystemExit
        With the status that a shell gives to a program that the signal ended: 143 and 129.
    """
    numbers = [
        number for number in ENDING if number != signal.SIGINT
    ]  # of which Python makes an error itself
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # a second one would end the tidying
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Let signals wait until the end of the block, where they do what they would have done at once."""
    with signals_noted() as received:
        yield
    if number := received():
        signal.raise_signal(number)
