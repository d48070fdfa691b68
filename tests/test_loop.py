"""The loop: steps per call, keys, signals."""

import os
import signal

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae import loop


@given(st.floats(1e-6, 100), st.integers(1, 1000))
def test_calls_last_at_most_four_seconds_and_are_the_fewest(seconds: float, steps_per_epoch: int):
    size = loop.steps_per_call(seconds, steps_per_epoch)
    assert 1 <= size <= steps_per_epoch
    assert size == 1 or size * seconds <= 4.0
    calls = steps_per_epoch // size + steps_per_epoch % size
    others = [n for n in range(1, steps_per_epoch + 1) if n * seconds <= 4.0]
    assert all(calls <= steps_per_epoch // n + steps_per_epoch % n for n in others)


@pytest.mark.parametrize(("seconds", "size"), [(10.0, 1), (2.5, 1), (0.6, 5), (0.01, 125), (1e-6, 125)])
def test_steps_per_call_of_the_reference(seconds: float, size: int):
    assert loop.steps_per_call(seconds, 125) == size


def test_keys_differ_by_name_and_seed():
    keys = [tuple(jax.random.key_data(key).tolist()) for seed in (0, 1) for key in loop.make_keys(seed).values()]
    assert len(set(keys)) == len(keys) == 10


def test_a_signal_is_noted_and_the_second_acts():
    with loop.signals_caught() as received:
        assert received == []
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
