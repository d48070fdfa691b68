"""A thread that does one job at a time, with a bounded number of jobs that wait for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Busy(Exception):
    """Too many jobs are waiting."""


class Worker:
    """For one event loop. `most` is the number of jobs that may run or wait."""

    def __init__(self, name: str, most: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most, self._jobs = most, 0

    async def run(self, job: Callable[[], T]) -> T:
        """Wait for the job's result. Raises Busy if too many are waiting, and what the job raises.

        If the caller is cancelled while its job waits, the job is not begun.
        """
        if self._jobs >= self._most:
            raise Busy
        self._jobs += 1
        try:
            return await asyncio.wrap_future(self._pool.submit(job))
        finally:
            self._jobs -= 1
