"""The exception for errors that a user can cause, and how programs report it."""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from flax_punkvae import console


class UserError(Exception):
    """Bad input: one line that says what is wrong and what to do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the host or a device ran out of memory."""
    # jax raises this with several status codes in one subclass of RuntimeError.
    words = r"RESOURCE_EXHAUSTED|out[ _]of[ _]memory|ALLOC_FAILED"
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and re.search(words, str(error), re.IGNORECASE) is not None
    )


@contextlib.contextmanager
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn an out-of-memory error in this context into a UserError that ends with the advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        details = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"out of memory ({details or 'on this machine'}): {advice}") from error


def run_program(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a program's `main(arguments) -> exit status` and exit; a UserError becomes one line and status 2.

    Printing never raises, including that of libraries.
    """
    console.install()
    sys.unraisablehook = _heed_interrupt
    try:
        with explain_out_of_memory("ask for less at once, or free some memory"):
            status = main(sys.argv[1:])
    except UserError as error:
        console.complain(f"error: {error}")
        status = 2
    except KeyboardInterrupt:
        _end_interrupted()
    if threading.current_thread() is threading.main_thread():
        # All work is done: a Ctrl-C now would only interrupt the interpreter's cleanup with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _end_interrupted() -> NoReturn:
    console.complain("interrupted")
    # At once, since the threads of an interrupted save would print tracebacks during an ordinary exit.
    os._exit(130)


def _heed_interrupt(unraisable: "sys.UnraisableHookArgs") -> None:
    # Python drops exceptions in callbacks and destructors, such as jax's at garbage collection, and goes on.
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _end_interrupted()
    sys.__unraisablehook__(unraisable)
