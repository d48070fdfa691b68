"""The one exception that a user can cause, and what programs do with it."""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from flax_punkvae import console


class UserError(Exception):
    """Bad input: what was expected, what came, what to do, in one line."""


def run_program(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a program's `main(arguments) -> exit status` and exit; a UserError becomes one line and status 2.

    Whatever is printed on the way, by whomever, does not fail.
    """
    console.install()
    try:
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
