"""Signals: noted, acknowledged, and left alone where they are ignored."""

import contextlib
import hashlib
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from flax_punkvae.training import signals

NUMBERS = [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]


@contextlib.contextmanager
def piped_stderr() -> Iterator[int]:
    """The reading end of a pipe in the place of standard error; no fixture, since pytest takes it back between two."""
    reading, writing = os.pipe()
    kept = os.dup(2)
    os.dup2(writing, 2)
    try:
        yield reading
    finally:
        os.dup2(kept, 2)
        for number in (reading, writing, kept):
            os.close(number)


@pytest.mark.parametrize(("number", "name"), NUMBERS)
def test_a_signal_is_noted_and_said_and_the_second_acts(number: signal.Signals, name: str) -> None:
    acted: list[int] = []
    usual = signal.signal(number, lambda number, _: acted.append(number))
    try:
        with piped_stderr() as stderr, signals.caught() as received:
            os.kill(os.getpid(), number)
            assert (received, acted) == ([number], [])
            assert (
                os.read(stderr, 200).decode() == f"{name}: saving, then stopping; {name} again stops without saving\n"
            )
            os.kill(os.getpid(), number)
            assert (received, acted) == ([number], [number])
        os.kill(os.getpid(), number)
        assert acted == [number, number]
    finally:
        signal.signal(number, usual)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_is_said_while_the_main_thread_is_busy() -> None:
    """As in a compiled step: a call into C, from which no handler runs until it is done."""
    said: list[tuple[bytes, int]] = []
    with piped_stderr() as stderr, signals.caught() as received:

        def send() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            said.append((os.read(stderr, 200), len(received)))

        sender = threading.Timer(0.05, send)
        sender.start()
        # About a second.
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)
        sender.join()
    # Said before the handler, which waited for the call to end, could note it.
    assert said == [(b"SIGTERM: saving, then stopping; SIGTERM again stops without saving\n", 0)]
    assert received == [signal.SIGTERM]


def test_an_ignored_signal_stays_ignored():
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.caught() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == [] and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_outside_the_main_thread_nothing_is_caught():
    seen = []

    def work() -> None:
        with signals.caught() as received:
            seen.append(received)

    thread = threading.Thread(target=work)
    before = signal.getsignal(signal.SIGINT)
    thread.start()
    thread.join()
    assert seen == [[]] and signal.getsignal(signal.SIGINT) == before
