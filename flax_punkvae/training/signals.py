"""Record signals that ask a run to stop, for the loop, which saves before it stops."""

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
    """Collect the signals received: Ctrl-C (SIGINT), SIGTERM and SIGHUP; a second one of a kind acts as usual.

    Signals that the process was started to ignore (nohup, a shell's background job) stay ignored. Outside the main
    thread, no signal can be caught, and all act as usual.
    """
    received: list[int] = []
    usual: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        usual = {number: signal.getsignal(number) for number in _NUMBERS}
        # None means a handler not installed from Python, which could not be restored.
        usual = {number: handler for number, handler in usual.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, usual[number])

    with _acknowledged(usual) if usual else contextlib.nullcontext():
        for number in usual:
            signal.signal(number, note)
        try:
            yield received
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _acknowledged(numbers: dict[int, Any]) -> Iterator[None]:
    """Report an arriving signal on standard error at once.

    Uses a thread: a Python signal handler only runs when the main thread returns from a step or from compiling one.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def acknowledge() -> None:
        reported: set[int] = set()
        while number := int.from_bytes(os.read(reading, 1)):
            if number in numbers and number not in reported:
                reported.add(number)
                name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
                with contextlib.suppress(OSError):
                    os.write(_STDERR, f"{name}: saving, then stopping; {name} again stops without saving\n".encode())

    thread = threading.Thread(target=acknowledge, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.set_blocking(writing, True)
        os.write(writing, b"\0")
        thread.join()
        os.close(reading)
        os.close(writing)
