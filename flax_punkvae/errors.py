"""The one exception that a user can cause, and what programs do with it."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn


class UserError(Exception):
    """Bad input: what was expected, what came, what to do, in one line."""


def run_program(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a program's `main(arguments) -> exit status` and exit; a UserError becomes one line and status 2."""
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
