"""The one exception that a user can cause, and what programs do with it."""

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from flax_punkvae import console


class UserError(Exception):
    """Bad input: what was expected, what came, what to do, in one line."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host or a device had no more memory to give."""
    # jax raises this as several statuses of one class, which is a RuntimeError.
    words = r"RESOURCE_EXHAUSTED|out[ _]of[ _]memory|ALLOC_FAILED"
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and re.search(words, str(error), re.IGNORECASE) is not None
    )


@contextlib.contextmanager
def memory_told(advice: str) -> Iterator[None]:
    """Running out of memory in this context raises UserError, which ends with the advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"out of memory ({said or 'of this machine'}): {advice}") from error


def run_program(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a program's `main(arguments) -> exit status` and exit; a UserError becomes one line and status 2.

    Whatever is printed on the way, by whomever, does not fail.
    """
    console.install()
    try:
        with memory_told("ask for less at once, or free some memory"):
            status = main(sys.argv[1:])
    except UserError as error:
        console.complain(f"error: {error}")
        status = 2
    except KeyboardInterrupt:
        console.complain("interrupted")
        status = 130
    if threading.current_thread() is threading.main_thread():
        # All is said and done: a Ctrl-C now would only end the interpreter's own tidying with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)
