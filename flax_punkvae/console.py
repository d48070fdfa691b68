"""Output for the user. Printing never raises: a closed pipe, a full disk or a narrow encoding loses text, never a
result. Only the programs and `reporting` print."""

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Width of tables in a file or a pipe.
_WIDTH = 120


def say(text: str) -> None:
    """Print a line on standard output."""
    _unfailing("stdout").write(text + "\n")


def complain(text: str) -> None:
    """Print a line on standard error."""
    _unfailing("stderr").write(text + "\n")


def show(table: "Table") -> None:
    """Print a table on standard output; the text in its cells is literal, brackets included."""
    terminal().print(table)


def terminal() -> "Console":
    """A rich console on standard output.

    It counts as a terminal only if a progress bar can be redrawn: not for a file or a pipe, even with FORCE_COLOR, and
    not if TERM is dumb or missing.
    """
    # Imported here, since it is slow and --help does not need it.
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
    """Make standard output and standard error never raise on writing, for this program and all libraries."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the shell (`>&-`): the next opened file would get this number, and stray output with it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = _unfailing("stdout"), _unfailing("stderr")


class Unfailing(io.TextIOBase):
    """A text stream that wraps another one, or None, and never raises on writing.

    Characters that its encoding lacks become backslash escapes. After a write has failed, nothing more is written.
    Every write is flushed, so that nothing can fail at exit.
    """

    def __init__(self, stream: Any) -> None:
        self._stream: Any = stream

    def write(self, text: str) -> int:
        """Write and flush as much as possible; return the length of the text."""
        if self._stream is not None:
            try:
                self._stream.write(self._encodable(text))
                self._stream.flush()
            except BlockingIOError:
                # The reader is slow, not gone: only this text is lost.
                pass
            except (OSError, ValueError):
                self._drop()
        return len(text)

    def flush(self) -> None:
        """Do nothing: `write` has already flushed."""

    def isatty(self) -> bool:
        """Whether the wrapped stream is an open terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """The file descriptor. Raises io.UnsupportedOperation if there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The encoding of the wrapped stream; UTF-8 if it has none."""
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
                # Python flushes it at exit, and other code may use it: send its buffer to the null device.
                with contextlib.suppress(OSError, ValueError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, standard.fileno())
                    os.close(nowhere)


def _unfailing(name: str) -> Unfailing:
    stream = getattr(sys, name)
    return stream if isinstance(stream, Unfailing) else Unfailing(stream)
