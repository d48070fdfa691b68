"""Signals: noted, acknowledged, and left alone where they are ignored."""

import os
import signal
import threading

import pytest

from flax_punkvae.training import signals


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]
)
def test_a_signal_is_noted_and_said_and_the_second_acts(
    number: signal.Signals, name: str, capfd: pytest.CaptureFixture[str]
):
    acted: list[int] = []
    usual = signal.signal(number, lambda number, _: acted.append(number))
    try:
        with signals.caught() as received:
            os.kill(os.getpid(), number)
            assert (received, acted) == ([number], [])
            assert capfd.readouterr().err == f"{name}: saving, then stopping; {name} again stops without saving\n"
            os.kill(os.getpid(), number)
            assert (received, acted) == ([number], [number])
        os.kill(os.getpid(), number)
        assert acted == [number, number]
    finally:
        signal.signal(number, usual)


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
