"""Side by side gives what one after the other gives."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from flax_punkvae.devices import threads


def test_each_keeps_the_order_and_raises():
    assert threads.each(lambda number: number**2, range(20)) == [number**2 for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        threads.each(lambda number: 1 / number, [1, 0, 2])


def test_products_are_single_threaded_for_a_while():
    """Oracle: what threadpoolctl reads from the library."""
    np.dot(np.zeros((2, 2)), np.zeros((2, 2)))

    def blas() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = blas()
    with threads.single_threaded_products():
        assert set(blas()) <= {1}
    assert blas() == before
