"""Output that cannot be written: nothing is raised, nothing escapes, what can be written is.

Oracles: the bytes that arrive at the other end; of whole processes, their status, files and standard error.
"""

import contextlib
import errno
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.training.reporting import Report

TEXT = "スプライト sprit\udce9s \x1b é"


class Failing(io.StringIO):
    """A stream whose writing or flushing fails."""

    def __init__(self, error: BaseException, on: str) -> None:
        super().__init__()
        self.error, self.on, self.tried = error, on, 0

    def write(self, text: str) -> int:
        self.tried += 1
        if self.on == "write":
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if self.on == "flush":
            raise self.error


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=["write", "flush"])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Failing:
    stream = Failing(OSError(errno.ENOSPC, "No space left on device"), request.param)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.fixture
def closed_pipe() -> Iterator[io.TextIOWrapper]:
    """A pipe that nobody reads any more; what its writer still holds is lost when it is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = open(writing, "w", encoding="utf-8")  # noqa: SIM115
    yield stream
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_a_stream_that_fails_is_dropped_for_good(failing: Failing):
    out = console.Unfailing(failing)
    assert [out.write("one"), out.write("two")] == [3, 3]
    assert failing.tried == 1 and not out.isatty()


def test_a_pipe_that_nobody_reads_costs_nothing(closed_pipe: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    monkeypatch.setattr(sys, "stderr", closed_pipe)
    console.say("a line")
    console.complain("a line")
    console.show(Table("a line"))


@pytest.mark.parametrize("stream", [None, "closed"])
def test_no_stream_at_all_costs_nothing(stream: str | None, monkeypatch: pytest.MonkeyPatch):
    closed = io.StringIO()
    closed.close()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if stream is None else closed)
    console.say("a line")
    console.complain("a line")
    console.show(Table("a line"))
    assert not console.terminal().is_terminal
    with pytest.raises(SystemExit) as stop:
        run_program(lambda _: print("a line", flush=True) or 0)
    assert stop.value.code == 0


def test_a_slow_reader_misses_what_it_could_not_take():
    stream = Failing(BlockingIOError(errno.EAGAIN, "slow"), "write")
    out = console.Unfailing(stream)
    out.write("one")
    stream.on = ""
    out.write("two")
    assert stream.getvalue() == "two"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "utf-16"])
def test_what_an_encoding_lacks_becomes_an_escape(encoding: str, monkeypatch: pytest.MonkeyPatch):
    """Oracle: Python's backslashreplace."""
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, newline="\n", write_through=True))
    console.say(TEXT)
    expected = (TEXT + "\n").encode(encoding, "backslashreplace")
    assert raw.getvalue() == expected
    console.complain(TEXT)
    console.show(Table(TEXT, title="[b]:smile:[/c]"))
    assert b"[b]:smile:[/c]".decode() in raw.getvalue()[len(expected) :].decode(encoding)


def test_an_error_line_is_escaped_too(monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii", newline="\n"))

    def main(_: object) -> int:
        raise UserError(TEXT)

    with pytest.raises(SystemExit) as stop:
        run_program(main)
    assert stop.value.code == 2
    assert raw.getvalue() == f"error: {TEXT}\n".encode("ascii", "backslashreplace")


@pytest.mark.parametrize(("term", "bar"), [("xterm", True), ("dumb", False), ("unknown", False), ("", False)])
def test_a_bar_needs_a_terminal_that_can_redraw(term: str, bar: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Oracle: with a bar there are escapes, without one plain lines of progress."""
    stream = Tty()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("flax_punkvae.training.reporting._PLAIN_LINE_EVERY", 0.0)
    with Report(tmp_path, epochs=3, steps_per_epoch=4, batch_size=8, first_step=0) as output:
        output.steps(2, {"loss": 1.0, "mse": 1.0, "kl": 1.0}, 0.1)
    assert ("\x1b[" in stream.getvalue()) == bar
    assert ("epoch 1/3 step 2/4 80.0 images/s" in stream.getvalue().replace("\x1b[0m", "")) or bar


def test_in_a_file_there_are_no_escapes_whatever_is_forced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console.show(Table("a heading", title="a title"))
    with Report(tmp_path, epochs=3, steps_per_epoch=4, batch_size=8, first_step=0) as output:
        output.steps(2, {"loss": 1.0, "mse": 1.0, "kl": 1.0}, 0.1)
    assert "a heading" in stream.getvalue() and "step 2/4" in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_without_colours_there_are_none(monkeypatch: pytest.MonkeyPatch):
    stream = Tty()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console.show(Table("a heading", style="red"))
    assert "a heading" in stream.getvalue() and "\x1b[31m" not in stream.getvalue()


def test_an_epoch_is_recorded_though_nobody_reads(failing: Failing, tmp_path: Path):
    """Oracle: the files of the epoch."""
    with Report(tmp_path, epochs=3, steps_per_epoch=4, batch_size=8, first_step=0) as output:
        losses = {f"{part}/{name}": 1.0 for part in ("train", "test") for name in ("loss", "mse", "kl")}
        record = {"epoch": 1, "step": 4, "seconds": 1.0, **losses, "test/active_units": 3}
        output.epoch(record, np.zeros((2, 2, 3), np.uint8))
        output.say("a line")
    assert (tmp_path / "metrics.jsonl").stat().st_size and (tmp_path / "images" / "epoch-0001.png").exists()


# What a process prints by every way there is, with its end: what it leaves is flushed by the interpreter. The file
# that it opens would get the number of a closed stream, and what C code prints.
SCRIPT = """
import os, sys
from pathlib import Path
from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
def main(arguments):
    with open("result", "w") as file:
        for _ in range(2000):
            console.say("said " + arguments[0])
            print("printed " + arguments[0])
            print("printed " + arguments[0], file=sys.stderr)
        os.write(1, b"stray"), os.write(2, b"stray")
        file.write("whole")
    sys.__stdout__ and sys.__stdout__.write("late")
    raise UserError("refused " + arguments[0])
run_program(main)
"""
WAYS = {
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "all closed": "<&- >&- 2>&-",
    "nobody reads": "| sleep 0",
    "nobody reads either": "2>&1 | sleep 0",
}
if Path("/dev/full").exists():
    WAYS |= {"stdout full": ">/dev/full", "both full": ">/dev/full 2>&1"}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_process_ends_with_its_own_status(tmp_path: Path, way: str):
    """Once for each kind of stream that the operating system knows."""
    (tmp_path / "t.py").write_text(SCRIPT)
    command = f"trap '' PIPE; \"$0\" t.py é {way}; echo ${{PIPESTATUS[0]}} >status"
    done = subprocess.run(
        ["bash", "-c", command, sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert (tmp_path / "status").read_text() == "2\n"
    assert (tmp_path / "result").read_text() == "whole"
    lines = done.stderr.decode().splitlines()
    assert not [line for line in lines if not line.startswith(("printed \\xe9", "stray", "error: refused \\xe9"))]


INTERRUPTED = """
import concurrent.futures, sys, threading, time
from flax_punkvae.errors import run_program
pool = concurrent.futures.ThreadPoolExecutor()
def save():
    # As Orbax's threads: work that is handed on until the interpreter refuses it.
    while True:
        pool.submit(time.sleep, 0).result()
def main(arguments):
    print("begun")
    threading.Thread(target=save).start()
    raise KeyboardInterrupt
run_program(main)
"""


def test_an_interrupted_program_does_not_wait_for_threads_nor_show_their_tracebacks():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\n", "interrupted\n")


LOST = """
from flax_punkvae.errors import run_program
class Callback:
    def __del__(self):
        raise KeyboardInterrupt
def main(arguments):
    print("begun")
    Callback()
    print("went on")
run_program(main)
"""


def test_an_interrupt_that_python_would_drop_ends_the_program():
    """As Ctrl-C while jax's callback runs at garbage collection."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", LOST], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\n", "interrupted\n")
