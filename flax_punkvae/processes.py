"""What the processes of one run agree on; with one process, each function is its own trivial case.

The first process writes and prints; a refusal in any process is one in all, so that none waits for one that is gone.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from flax_punkvae.errors import UserError

T = TypeVar("T")

_LONGEST_MESSAGE = 4096


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


class AgreedError(UserError):
    """Bad input in one process, of which all know."""


@contextlib.contextmanager
def joined(coordinator: str | None, count: int | None, index: int | None) -> Iterator[None]:
    """Join the other processes of the run, before jax's first computation, and leave them at the end.

    Given by a coordinator (HOST:PORT of the first process), their count and this one's index, or found in the
    environment of a SLURM step or of Open MPI's mpirun; without either there is one process, and nothing to join.
    Raises UserError where only some are given or they do not meet. Where one fails alone or is lost on the way, each
    says so and exits.
    """
    given = [value is not None for value in (coordinator, count, index)]
    if not any(given) and not any(int(os.environ.get(name) or 1) > 1 for name in _TASKS):
        yield
        return
    if not all(given) and any(given):
        raise UserError(
            "--coordinator, --processes, --process: expected all three or none, "
            f"got {sum(given)} of them: give all three, to each process its own --process"
        )
    if coordinator is not None and count is not None and index is not None:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UserError(f"--coordinator: expected HOST:PORT of the first process, got {coordinator}")
        if not 1 <= count <= 100_000:
            raise UserError(f"--processes: expected a whole number from 1 to 100000, got {count}")
        if not 0 <= index < count:
            raise UserError(f"--process: expected a whole number from 0 to {count - 1}, got {index}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (RuntimeError, ValueError) as error:
        where = coordinator or "the address in the environment"
        raise UserError(f"expected the processes of the run to meet at {where}, got: {_line(error)}") from error
    try:
        yield
    except AgreedError:
        # All are on their way out, and wait for each other.
        jax.distributed.shutdown()
        raise
    except BaseException as error:
        # This one alone: an ordinary end would wait for the others, who wait for it. Its end is what they notice.
        _die(error)
    jax.distributed.shutdown()


def _die(error: BaseException) -> NoReturn:
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    elif is_loss(error):
        print(
            f"error: process {jax.process_index()} of {jax.process_count()}: expected all to stay, lost one: "
            f"{_line(error)}: start them again with --resume; it may be another number of them",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if isinstance(error, UserError) else 1)


def is_loss(error: BaseException) -> bool:
    """Whether the error comes of another process that is gone."""
    # Gloo's, which joins CPUs, come as errors of several classes.
    return jax.process_count() > 1 and (isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


# How many tasks a SLURM step (not merely an allocation) and Open MPI's mpirun say they started.
_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def together(action: Callable[[], T]) -> T:
    """What the action gives here; where it raises UserError in any process, all raise that of the first that did."""
    if jax.process_count() == 1:
        return action()
    try:
        result = action()
    except UserError as error:
        _agree(str(error))
        raise
    _agree("")
    return result


def by_first(action: Callable[[], object]) -> None:
    """The first process acts, the others wait; where it raises UserError, all do."""
    together(action if is_first() else lambda: None)


def _agree(message: str) -> None:
    text = np.zeros(_LONGEST_MESSAGE, np.uint8)
    encoded = message.encode()[:_LONGEST_MESSAGE]
    text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    for told in np.asarray(multihost_utils.process_allgather(text)):
        if told.any():
            raise AgreedError(bytes(told).rstrip(b"\0").decode(errors="replace"))


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return flag if jax.process_count() == 1 else bool(np.any(_gathered(int(flag))))


def of_first(number: int) -> int:
    """The number that the first process has."""
    return number if jax.process_count() == 1 else int(_gathered(number)[0])


def _gathered(number: int) -> Any:
    return np.asarray(multihost_utils.process_allgather(np.array([number], np.int32))).reshape(-1)
