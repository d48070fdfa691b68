"""The loop: steps per call, keys, signals."""

import os
import signal

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae import loop


@given(st.floats(1e-6, 100), st.integers(1, 1000))
def test_calls_last_about_four_seconds_and_divide_an_epoch_evenly(seconds: float, steps_per_epoch: int):
    size = loop.steps_per_call(seconds, steps_per_epoch)
    assert 1 <= size <= steps_per_epoch
    assert size == 1 or size * seconds <= 4.0
    # Never asked more often than every second, where an epoch has the steps for it and an even share allows.
    calls = steps_per_epoch // size
    assert size == steps_per_epoch or calls * 2 * size >= steps_per_epoch
    # What is left over goes in single steps, fewer of them than there are calls... or one call does it all.
    assert steps_per_epoch - calls * size <= calls


@pytest.mark.parametrize(("seconds", "size"), [(10.0, 1), (2.5, 1), (0.6, 6), (0.01, 125), (1e-6, 125)])
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
