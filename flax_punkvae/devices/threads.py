"""Run a function on several values side by side, on threads."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")

# Each call in progress needs memory, on a GPU its memory.
_MOST = 4


def each(function: Callable[[Value], Result], values: Iterable[Value]) -> list[Result]:
    """[function(value) for value in values], one per core at a time, at most 4; the first exception is raised.

    For calls that spend their time in NumPy, XLA or other code that does not hold the interpreter lock.
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST)) as pool:
        return list(pool.map(function, values))


@contextlib.contextmanager
def background() -> Iterator[ThreadPoolExecutor]:
    """A thread that runs what is submitted, in order. What has not begun when an exception is raised never does."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def single_threaded_products() -> contextlib.AbstractContextManager[Any]:
    """While it is open, each of NumPy's matrix products uses one thread.

    Small products are faster so, and many times as fast if other work keeps the cores busy, since threads that wait for
    each other do so in a busy loop. Needs threadpoolctl, which comes with scikit-learn; does nothing without it.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    return threadpool_limits(1, user_api="blas")
