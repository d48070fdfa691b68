"""Signals that ask a run to stop: noted for the loop, which saves before it stops."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
_STDERR = 2


@contextlib.contextmanager
def caught() -> Iterator[list[int]]:
    """The signals received so far: Ctrl-C (SIGINT), SIGTERM and SIGHUP; a second one of a kind acts as usual.

    A signal that the process was started to ignore (nohup, a shell's background job) stays ignored. Outside the main
    thread none can be caught, and all act as usual.
    """
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, usual[signal.Signals(number)])
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        # Not print, which may be in the middle of a line of its own.
        with contextlib.suppress(OSError):
            os.write(_STDERR, f"{name}: saving, then stopping; {name} again stops without saving\n".encode())

    usual: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        usual = {number: signal.getsignal(number) for number in _NUMBERS}
        # None is a handler that was not installed from Python, which could not be put back.
        usual = {number: handler for number, handler in usual.items() if handler not in (signal.SIG_IGN, None)}
        for number in usual:
            signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
