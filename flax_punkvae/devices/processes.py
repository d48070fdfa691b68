"""Coordinate the processes of one run; with a single process, every function is trivial.

Only the first process writes and prints. An error in one process is raised in all, so that none waits forever.
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from flax_punkvae import console
from flax_punkvae.errors import UserError, is_out_of_memory

T = TypeVar("T")

# Number of tasks that a SLURM step (not merely an allocation) or Open MPI's mpirun started.
_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
# Status codes of jax errors that this process's own request caused, not the loss of another process.
_OWN_FAULTS = ("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNIMPLEMENTED", "OUT_OF_RANGE")
# An error names at most this many facts that differ, and this many characters of each value.
_MOST_NAMED = 8
_LONGEST_VALUE = 100


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


class AgreedError(UserError):
    """A user's error in one process, raised in all."""


@contextlib.contextmanager
def joined(coordinator: str | None, count: int | None, index: int | None) -> Iterator[None]:
    """Join the other processes of the run before jax's first computation, and leave them at the end.

    The coordinator (HOST:PORT of the first process), the number of processes and this one's index come from the caller
    or from the environment of a SLURM step or Open MPI's mpirun; without either, there is only this process. A count
    of 1 alone makes each task of such a step a separate run, as in a sweep; otherwise `agree` refuses tasks with
    different configs or run directories, which may be a mistake. Raises UserError if only some of the three are given
    or the processes cannot connect. If one fails or is lost, the others report it and exit.
    """
    if count == 1 and coordinator is None and index in (None, 0):
        yield
        return
    given = [value is not None for value in (coordinator, count, index)]
    if not any(given) and not any(int(os.environ.get(name) or 1) > 1 for name in _TASKS):
        yield
        return
    if not all(given) and any(given):
        raise UserError(
            f"--coordinator, --processes, --process: {sum(given)} of the three given: give all three, with a different "
            "--process for each process, or only --processes 1"
        )
    if coordinator is not None and count is not None and index is not None:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UserError(f"--coordinator: {coordinator} is not an address: give HOST:PORT of the first process")
        if not 1 <= count <= 100_000:
            raise UserError(f"--processes: {count} is out of range: choose a whole number from 1 to 100000")
        if not 0 <= index < count:
            raise UserError(f"--process: {index} is out of range: choose a whole number from 0 to {count - 1}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (RuntimeError, ValueError) as error:
        where = coordinator or "the address in the environment"
        raise UserError(
            f"the processes of the run could not connect at {where} ({_line(error)}): check the address and that all "
            "of them were started"
        ) from error
    try:
        yield
    except AgreedError:
        # Raised in every process, so all of them shut down here together.
        jax.distributed.shutdown()
        raise
    except BaseException as error:
        # An ordinary exit would deadlock: the others wait for this process. They notice its death.
        _die(error)
    jax.distributed.shutdown()


def _die(error: BaseException) -> NoReturn:
    status = 1
    if isinstance(error, UserError):
        status = 2
        console.complain(f"error: {error}")
    elif isinstance(error, KeyboardInterrupt):
        status = 130
        console.complain("interrupted")
    elif is_loss(error):
        console.complain(
            f"error: process {jax.process_index()} of {jax.process_count()} lost another one ({_line(error)}): restart "
            "all with --resume; their number may change"
        )
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def is_loss(error: BaseException) -> bool:
    """Whether the error means that another process was lost."""
    if jax.process_count() == 1 or is_out_of_memory(error):
        return False
    # Gloo, which connects CPUs, raises several classes of errors.
    text = str(error)
    return "Gloo" in text or (isinstance(error, jax.errors.JaxRuntimeError) and not text.startswith(_OWN_FAULTS))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def on_all(action: Callable[[], T]) -> T:
    """Run the action in every process; if any raises UserError, all raise the error of the first that did."""
    if jax.process_count() == 1:
        return action()
    try:
        result = action()
    except UserError as error:
        _share_error(str(error))
        raise
    _share_error("")
    return result


def on_first(action: Callable[[], object]) -> None:
    """Run the action in the first process while the others wait; if it raises UserError, all do."""
    on_all(action if is_first() else lambda: None)


def _share_error(message: str) -> None:
    for found in _gathered_texts(message):
        if found:
            raise AgreedError(found)


def agree(facts: Mapping[str, Any], deciding: str | None = None, advice: str | None = None) -> None:
    """Check that all processes have the same facts; otherwise all raise AgreedError, which names the differences.

    Facts are named JSON values. If `deciding` names one of them, only that one must match; the others only help to
    explain a difference.
    """
    if jax.process_count() == 1:
        return
    by_process = [json.loads(text) for text in _gathered_texts(json.dumps(facts))]
    if message := disagreement(by_process, deciding):
        raise AgreedError(
            f"the processes of this run differ in {message}: "
            + (
                advice
                or "start all with the same values, or make each a separate run with --processes 1 (and without "
                "--coordinator and --process)"
            )
        )


def disagreement(by_process: Sequence[Mapping[str, Any]], deciding: str | None = None) -> str:
    """The facts that differ between processes, each with two of its values; empty if none differ."""
    first, *others = by_process
    if deciding is not None and all(other.get(deciding) == first.get(deciding) for other in others):
        return ""
    found = []
    for name in dict.fromkeys(name for facts in by_process for name in facts):
        for number, other in enumerate(others, 1):
            if (name in other, other.get(name)) != (name in first, first.get(name)):
                found.append(f"{name} ({_shown(first, name)} in process 0, {_shown(other, name)} in process {number})")
                break
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more


def _shown(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return "none" if value is None else (value if isinstance(value, str) else json.dumps(value))[:_LONGEST_VALUE]


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return flag if jax.process_count() == 1 else bool(np.any(_gathered(int(flag))))


def of_first(number: int) -> int:
    """The first process's number, in every process."""
    return number if jax.process_count() == 1 else int(_gathered(number)[0])


def _gathered(number: int) -> Any:
    return np.asarray(multihost_utils.process_allgather(np.array([number], np.int32))).reshape(-1)


def _gathered_texts(text: str) -> list[str]:
    """The text of each process, in order of process index."""
    encoded = np.frombuffer(text.encode(errors="backslashreplace"), np.uint8)
    sizes = _gathered(len(encoded))
    padded = np.zeros(sizes.max() + 1, np.uint8)
    padded[: len(encoded)] = encoded
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]
