"""What a program tells a person. Printing never fails: a closed pipe, a full disk or a narrow encoding costs words,
never a result. Nothing below the programs and `reporting` prints."""

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Of tables in a file or a pipe.
_WIDTH = 120


def say(text: str) -> None:
    """Print a line on standard output."""
    _unfailing("stdout").write(text + "\n")


def complain(text: str) -> None:
    """Print a line on standard error."""
    _unfailing("stderr").write(text + "\n")


def show(table: "Table") -> None:
    """Print a table on standard output; the text in its cells is taken literally, brackets included."""
    terminal().print(table)


def terminal() -> "Console":
    """rich's console on standard output.

    It counts as a terminal only where a bar can be drawn and redrawn: not in a file or a pipe, whatever FORCE_COLOR
    says, and not where TERM is dumb or missing.
    """
    # Here, since it takes a while and --help needs none of it.
    from rich.console import Console

    out = _unfailing("stdout")
    capable = out.isatty() and (os.name == "nt" or os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown"))
    return Console(
        file=out,  # pyright: ignore[reportArgumentType]
        force_terminal=None if capable else False,
        width=None if out.isatty() else _WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def install() -> None:
    """Make standard output and error of this process unfailing for everything that prints, libraries included."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the shell (`>&-`): the next file opened would get its number, and with it all stray output.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = _unfailing("stdout"), _unfailing("stderr")


class Unfailing(io.TextIOBase):
    """A text stream over another one, or over none, that never raises on writing.

    Characters that the other's encoding lacks become backslash escapes. Once writing has failed, nothing more is
    written. Every write is flushed, so that none is left to fail at exit.
    """

    def __init__(self, stream: Any) -> None:
        self._stream: Any = stream

    def write(self, text: str) -> int:
        """Write and flush what can be written; returns the length of the text."""
        if self._stream is not None:
            try:
                self._stream.write(self._encodable(text))
                self._stream.flush()
            except BlockingIOError:
                # A reader that is slow, not one that is gone: this text is lost, the next may not be.
                pass
            except (OSError, ValueError):
                self._drop()
        return len(text)

    def flush(self) -> None:
        """Nothing: `write` has flushed."""

    def isatty(self) -> bool:
        """Whether it is a terminal that is still there."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """The descriptor. Raises io.UnsupportedOperation where there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the stream below; UTF-8 where it has none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _encodable(self, text: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def _drop(self) -> None:
        broken, self._stream = self._stream, None
        for standard in (sys.__stdout__, sys.__stderr__):
            if standard is not None and broken is standard:
                # Python flushes it at exit, and other code may hold it: what it still has goes nowhere.
                with contextlib.suppress(OSError, ValueError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, standard.fileno())
                    os.close(nowhere)


def _unfailing(name: str) -> Unfailing:
    stream = getattr(sys, name)
    return stream if isinstance(stream, Unfailing) else Unfailing(stream)
