"""The worker: one job at a time, few that wait."""

import asyncio
import threading

import pytest

from flax_punkvae.page.worker import Busy, Worker


def test_jobs_run_one_after_another_and_errors_come_back():
    worker, running, most = Worker("test", 10), [], []

    def job(number: int) -> int:
        running.append(number)
        most.append(len(running))
        running.remove(number)
        if number == 3:
            raise ValueError("three")
        return number

    async def main() -> list[object]:
        return await asyncio.gather(*(worker.run(lambda i=i: job(i)) for i in range(5)), return_exceptions=True)

    found = asyncio.run(main())
    assert found[:3] == [0, 1, 2] and found[4] == 4 and isinstance(found[3], ValueError)
    assert set(most) == {1}


def test_too_many_are_refused_and_a_cancelled_one_is_not_begun():
    worker, go, begun = Worker("test", 2), threading.Event(), []

    async def main() -> None:
        first = asyncio.ensure_future(worker.run(go.wait))
        second = asyncio.ensure_future(worker.run(lambda: begun.append(2)))
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await worker.run(lambda: begun.append(3))
        second.cancel()
        await asyncio.sleep(0.01)
        # The cancelled one has made room.
        third = asyncio.ensure_future(worker.run(lambda: begun.append(4)))
        await asyncio.sleep(0.01)
        go.set()
        assert await first
        await third

    asyncio.run(main())
    assert begun == [4]
