"""The loop: steps per call, keys, signals."""

import contextlib
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae import checkpoints, loop, train_state, training
from flax_punkvae.config import Config
from flax_punkvae.errors import UserError


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


@contextlib.contextmanager
def run(directory: Path, config: Config, photos: np.ndarray, signals: list[int]):
    indices = np.arange(16)
    with contextlib.closing(checkpoints.open_manager(directory)) as manager:
        yield loop.Run(
            directory=directory,
            config=config.train,
            images=jax.device_put(photos),
            shown=photos[:2],
            palette=None,
            train_indices=indices,
            test_indices=np.arange(16, 20),
            keys=loop.make_keys(0),
            manager=manager,
            report=None,
            signals=signals,
        )


def test_a_signal_between_two_epochs_saves_and_stops(tmp_path: Path, small: Config, photos: np.ndarray):
    state = train_state.create_state(small, jax.random.key(0))
    with run(tmp_path, small, photos, [signal.SIGTERM]) as stopped:
        state = loop.train(stopped, state, {})
        assert int(state.step) == 0 and list(stopped.manager.all_steps()) == [0]
    with run(tmp_path, small, photos, []) as resumed:
        restored = checkpoints.restore(resumed.manager, state)
        assert restored is not None
        assert int(loop.train(resumed, restored.state, restored.meta["totals"]).step) == 4


@pytest.mark.parametrize("bad", ["loss", "parameters"])
def test_what_is_not_finite_is_not_saved(
    tmp_path: Path, small: Config, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch, bad: str
):
    """The third of four steps gives a loss, or the last leaves a parameter, that is not a number."""
    real = training.train_steps

    def poisoned(state, images, indices, key):
        state, metrics = real(state, images, indices, key)
        if bad == "loss" and int(state.step) == 3:
            metrics["kl"] = metrics["kl"] * float("nan")
        if bad == "parameters" and int(state.step) == 4:
            state = state.replace(
                params=jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(jax.numpy.inf), state.params)
            )
        return state, metrics

    state = train_state.create_state(small, jax.random.key(0))
    with run(tmp_path, small, photos, []) as good:
        monkeypatch.setattr(loop, "steps_per_call", lambda *_: 1)
        monkeypatch.setattr(training, "train_steps", poisoned)
        with pytest.raises(UserError) as caught:
            loop.train(good, state, {})
        message = str(caught.value)
        assert list(good.manager.all_steps()) == [2]
    if bad == "loss":
        assert "in epoch 2 at step 1 of 2; " in message and "kl nan) (last finite, the step before: loss " in message
    else:
        assert "in epoch 2 at step 2 of 2; what was saved at step 2 in all is untouched" in message
